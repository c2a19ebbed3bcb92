"""Losses of deep linear networks over learning rates: by mean-field theory and by training.

A plain network f_i = w . A_L ... A_1 e_i under muP initialisation (entries of E, A and w with
standard deviations 1, 1/sqrt(d) and 1/d), one output, squared error, full batch, uniform tokens.
Its learning rates have no factors of the width. Some layers are trained and the others frozen:

| layers | trained | learning rates |
|---|---|---|
| `embedding` | E | the grid's |
| `hidden` | all A, with one rate | the grid's |
| `readout` | w | the grid's |
| `hidden+readout` | all A and w | the grid's, w by `READOUT` as fast |
| `embedding+hidden` | E and all A | the grid's for A, 0.3 for E |
| `all` | all | as above |

Grids are powers of two around `centre`, which only places them. Losses are in units of the initial
one and above it cut off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim import NetworkSetup, predict
from dynsim._programs import compiled_sooner
from experiments.topics._seeds import run_seed
from experiments.topics._study import Cell, Study
from experiments.topics._study import grid as grid_of

from .networks import network_losses

Floats = NDArray[np.float64]

PATHS = {
    "fixed": lambda width: 16,
    "proportional": lambda width: 4 * width,
    "superlinear": lambda width: round(width**1.5),
}
LAYERS = ("embedding", "hidden", "readout", "hidden+readout", "embedding+hidden", "all")
EMBEDDING_LR = 0.3  # beside trained hidden layers; alone it is best at 1 to 0.2, by age
OCTAVES = np.arange(-11, 5) / 2
JOINT_OCTAVES = OCTAVES + 2.0
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "residual": {"residual": "yes"},
    "two outputs": {"outputs": 2},
}
JOINT_SHIFT = {"residual": -2.0}  # octaves; its outputs grow faster with the rates
RESOLUTION = 2**13
WIDEST_OF_MORE = 256  # where more networks are affordable
FINER = "finer theory"  # with twice the particles
FIRST_OF_MORE = 100  # number of the first seed where claims are measured with other seeds


def network_setup(
    optimizer: str, path: str, depth: int, width: int, steps: int, seed: int, **fields: Any
) -> NetworkSetup:
    """A linear network, by default plain and with one output, whose learning rates are those of its
    weights at every width."""
    return NetworkSetup(
        network="mlp",
        activation="identity",
        normalisation="none",
        depth=depth,
        width=width,
        vocab_size=PATHS[path](width),
        optimizer=optimizer,  # type: ignore[arg-type]
        epsilon=1e-15,
        steps=steps,
        base_width=1,
        parametrization="sp",
        init_exponents="0,-1/2,-1",
        lr_exponents="0,0,0",
        seed=seed,
        **({"residual": "no", "outputs": 1} | fields),
    )


def readout_factor(optimizer: str, width: int) -> float:
    """The readout's rate over the hidden one: both are of order 1/d under Adam and muP, while
    Muon's hidden rate is of order one."""
    return 1 / width if optimizer == "muon" else 1.0


def trained_matrices(layers: str, depth: int) -> int:
    """How many matrices above the embedding are trained together."""
    return {"embedding": 0, "readout": 1}.get(layers, depth + ("readout" in layers))


def centre(optimizer: str, layers: str, depth: int, width: int, vocab_size: int) -> float:
    """The rate around which a grid lies.

    One matrix alone has its first step's optimum near s/d, s = d/(sqrt(m) (1 + 2d/(pi m))). K
    matrices that are trained together move the outputs by about (1 + d eta)^K - 1 where one moves
    them by d eta. With the embedding trained, and for Muon's normalised updates, the rate is of
    order 1/d and d times that.
    """
    if layers == "embedding":
        return 1.0
    unit = 1.0 if optimizer == "muon" and layers != "readout" else 1 / width
    if layers in ("embedding+hidden", "all"):
        return unit
    own = width / (vocab_size**0.5 * (1 + 2 / np.pi * width / vocab_size))
    return unit * ((1 + own) ** (1 / trained_matrices(layers, depth)) - 1)


def _rates(setup: NetworkSetup, layers: str, octaves: Floats) -> Mapping[str, Floats]:
    """Rates of embedding, hidden layers and readout on the grid of one choice of trained layers."""
    grid = (
        centre(setup.optimizer, layers, setup.depth, setup.width, setup.vocab_size) * 2.0**octaves
    )
    frozen = np.zeros_like(grid)
    readout = readout_factor(setup.optimizer, setup.width) * grid
    match layers:
        case "embedding":
            return {"embedding": grid, "hidden": frozen, "readout": frozen}
        case "readout":
            return {"embedding": frozen, "hidden": frozen, "readout": grid}
    embedding = np.full_like(grid, EMBEDDING_LR) if layers[0] != "h" else frozen
    both = layers in ("hidden+readout", "all")
    return {"embedding": embedding, "hidden": grid, "readout": readout if both else frozen}


def _grid(layers: str, variant: str) -> Floats:
    if layers not in ("embedding+hidden", "all"):
        return OCTAVES
    return JOINT_OCTAVES + JOINT_SHIFT.get(variant, 0.0)


def _cell(
    source: str,
    optimizer: str,
    path: str,
    depth: int,
    width: int,
    horizons: list[int],
    tasks: int,
    networks: int,
    particles: int,
    more_networks: int,
    seed: int = 0,
    variant: str = "",
    choices: Sequence[str] = LAYERS,
    first: int = 0,
) -> Any:
    """Losses (layers, seed, octave, horizon), and those of the embedding alone at its fixed rate.

    A seed is a task, with its own targets and, of networks, weights; the first one is number
    `first` of the run. `choices` of layers are trained.
    """
    steps = max(horizons) + 1
    fields = VARIANTS.get(variant, {})
    setup = network_setup(optimizer, path, depth, width, steps, 0, **fields)
    grids = [_rates(setup, layers, _grid(layers, variant)) for layers in choices]
    if source == FINER:
        particles *= 2
    few = setup.vocab_size <= 64  # all of them are particles, and their targets matter
    alone = {"embedding": np.array([EMBEDDING_LR]), "hidden": np.zeros(1), "readout": np.zeros(1)}
    losses, base = [], []
    trained = source == "networks"
    cheap = trained and optimizer == "adam" and (few or width <= WIDEST_OF_MORE)
    count = more_networks if cheap else networks if few or trained else tasks
    for number in range(count):
        task = replace(setup, seed=run_seed(seed, first + number))
        if trained:
            found = [network_losses(task, task.seed, **rates) for rates in (*grids, alone)]
        else:
            columns = {
                name: np.concatenate([rates[name] for rates in (*grids, alone)]) for name in alone
            }
            solved = predict(
                task,
                particles=particles,
                replicas=4 if few else 2,
                error_estimate=False,
                finite_width=False,
                embedding_lrs=columns["embedding"],
                hidden_lrs=columns["hidden"],
                projection_lrs=columns["readout"],
            ).loss
            found = np.split(solved, np.cumsum([len(OCTAVES)] * len(choices)))
        start = found[0][0, 0]
        losses.append([_kept(rows[:, horizons] / start) for rows in found[:-1]])
        base.append(_kept(found[-1][0, horizons] / start))
    rates = [
        one[name if name in ("embedding", "readout") else "hidden"]
        for name, one in zip(choices, grids, strict=True)
    ]
    return {
        "loss": (
            ("layers", "seed", "octave", "horizon"),
            np.moveaxis(_filled(np.array(losses), more_networks), 0, 1),
        ),
        "loss_alone": (("seed", "horizon"), _filled(np.array(base), more_networks)),
        "rate": (("layers", "octave"), np.array(rates)),
        "vocab_size": ((), float(setup.vocab_size)),
    }


def _filled(seeds: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The same with NaN rows up to `count` seeds, as networks have."""
    filled = np.full((count, *seeds.shape[1:]), np.nan, seeds.dtype)
    filled[: len(seeds)] = seeds
    return filled


def _kept(loss: Floats) -> NDArray[np.float32]:
    """At most one, in binary fractions, which are stored in a third of the space."""
    relative = np.minimum(np.nan_to_num(loss, nan=1.0, posinf=1.0), 1.0)
    return (np.round(relative * RESOLUTION) / RESOLUTION).astype(np.float32)


ALL_WIDTHS = (64, 256, 1024, 10_000, 100_000)
THEORY_WIDTHS = {
    ("adam", "proportional", 1): ALL_WIDTHS,
    ("adam", "proportional", 2): ALL_WIDTHS,
    ("adam", "fixed", 1): (64, 256, 10_000, 100_000),
    ("adam", "superlinear", 1): (64, 256, 10_000, 100_000),
    ("adam", "proportional", 4): (64, 256, 10_000, 100_000),
    ("muon", "proportional", 1): (64, 256, 10_000, 100_000),
    ("muon", "proportional", 2): (64, 256, 10_000, 100_000),
    ("muon", "fixed", 1): (64, 256, 100_000),
    ("muon", "superlinear", 1): (64, 256, 100_000),
}
NETWORK_WIDTHS = {
    ("adam", "proportional", 1): (64, 128, 256, 512),
    ("adam", "proportional", 2): (64, 128, 256, 512),
    ("adam", "fixed", 1): (64, 256, 1024),
    ("adam", "superlinear", 1): (64, 128, 256),
    ("adam", "proportional", 4): (64, 128, 256),
    ("muon", "proportional", 1): (64, 128, 256),
    ("muon", "proportional", 2): (64, 128, 256),
    ("muon", "fixed", 1): (64, 128, 256),
    ("muon", "superlinear", 1): (64, 128, 256),
}


def _cells(full: bool) -> list[Cell]:
    if not full:
        return []
    finer = {("adam", "proportional", 2): (10_000,)}
    return [
        {"source": source, "optimizer": optimizer, "path": path, "depth": depth, "width": width}
        for source, sizes in (
            ("theory", THEORY_WIDTHS),
            (FINER, finer),
            ("networks", NETWORK_WIDTHS),
        )
        for (optimizer, path, depth), widths in sizes.items()
        for width in widths
    ]


DEPTH_RATIO = Study(
    "depth_ratio",
    cells=_cells,
    measure=_cell,
    config=lambda full: {
        "horizons": [1, 2, 4, 12],
        "tasks": 2,
        "networks": 6,
        "more_networks": 18,
        "particles": 512,
    },
    labels={"layers": list(LAYERS)},
)


def _variant_cells(full: bool) -> list[Cell]:
    if not full:
        return []
    family = {"optimizer": "adam", "path": "proportional", "depth": 2}
    sizes = {"theory": (64, 256, 1024, 10_000, 100_000), "networks": (64, 128, 256, 512)}
    return [
        {"variant": variant, "source": source, **family, "width": width}
        for source, widths in sizes.items()
        for variant in VARIANTS
        for width in widths
    ]


VARIANT_RATIO = Study(
    "depth_ratio_variants",
    cells=_variant_cells,
    measure=_cell,
    config=lambda full: {
        "horizons": [2],
        "tasks": 2,
        "networks": 6,
        "more_networks": 6,
        "particles": 512,
    },
    labels={"layers": list(LAYERS)},
)

# Claims that were left undecided, or were so under all fresh seeds, with other and more networks.
MORE_SEEDS_LAYERS = ("embedding", "hidden", "all")
BESIDE = {"networks": (64, 128, 256), "theory": (64, 256, 1024)}


def _cells_of(
    families: Mapping[tuple[str, str, int], Mapping[str, Sequence[int]]], full: bool
) -> list[Cell]:
    """Of optimizer, path and depth: widths by source."""
    return [
        {"source": source, "optimizer": optimizer, "path": path, "depth": depth, "width": width}
        for (optimizer, path, depth), sizes in (families if full else {}).items()
        for source, widths in sizes.items()
        for width in widths
    ]


def _more_seeds_cell(choices: Sequence[str] = MORE_SEEDS_LAYERS, **options: Any) -> Any:
    with compiled_sooner():
        return _cell(choices=choices, first=FIRST_OF_MORE, **options)


MORE_SEEDS = Study(
    "depth_ratio_seeds",
    cells=lambda full: _cells_of({("adam", "proportional", 2): BESIDE}, full),
    measure=_more_seeds_cell,
    config=lambda full: {
        "horizons": [2],
        "tasks": 2,
        "networks": 24,
        "particles": 512,
        "more_networks": 48,
    },
    labels={"layers": list(MORE_SEEDS_LAYERS)},
)

UNDECIDED_FAMILIES = (  # on two steps; under Muon with as many networks as `networks` says
    ("adam", "proportional", 4),
    ("muon", "proportional", 1),
    ("muon", "proportional", 2),
)
AGAIN = Study(
    "depth_ratio_again",
    cells=lambda full: _cells_of(dict.fromkeys(UNDECIDED_FAMILIES, BESIDE), full),
    measure=_more_seeds_cell,
    config=MORE_SEEDS.config,
    labels={"layers": list(MORE_SEEDS_LAYERS)},
)

ALONE_LAYERS = ("embedding", "hidden")
ALONE_FAMILIES = {
    ("adam", "fixed", 1): {"networks": (64, 256, 1024), "theory": (64, 256, 1024)},
    ("adam", "superlinear", 1): BESIDE,
}


def _alone_cell(**options: Any) -> Any:
    return _more_seeds_cell(ALONE_LAYERS, **options)


ALONE = Study(
    "depth_ratio_alone",
    cells=lambda full: _cells_of(ALONE_FAMILIES, full),
    measure=_alone_cell,
    config=lambda full: {
        **MORE_SEEDS.config(full),
        "horizons": [12],
        "more_networks": 96,
    },
    labels={"layers": list(ALONE_LAYERS)},
)

# All three rates of one hidden matrix at once, in octaves: of the embedding from 0.3, of hidden
# matrix and readout from 1/d.
RATE_OCTAVES: Mapping[str, Floats] = {
    "embedding": np.arange(-2.0, 8.0),
    "hidden": np.arange(-6.0, 4.0),
    "readout": np.arange(-8.0, 4.0),
}


def rate_axes(width: int) -> Mapping[str, Floats]:
    """The rates of every kind of layer on the grid of three rates."""
    unit = {"embedding": EMBEDDING_LR, "hidden": 1 / width, "readout": 1 / width}
    return {name: unit[name] * 2.0**octaves for name, octaves in RATE_OCTAVES.items()}


def _three_rates_cell(width: int, steps: int, particles: int, replicas: int, seed: int = 0) -> Any:
    """The mean field's loss after `steps` updates over the initial one, on the whole grid."""
    setup = network_setup("adam", "proportional", 1, width, steps + 1, run_seed(seed))
    axes = rate_axes(width)
    grid = np.meshgrid(*axes.values(), indexing="ij")
    embedding, hidden, readout = (rates.ravel() for rates in grid)
    with compiled_sooner():
        loss = predict(
            setup,
            particles=particles,
            replicas=replicas,
            error_estimate=False,
            finite_width=False,
            embedding_lrs=embedding,
            hidden_lrs=hidden,
            projection_lrs=readout,
        ).loss
    return {"loss": (tuple(axes), _kept(loss[:, steps] / loss[:, 0]).reshape(grid[0].shape))}


THREE_RATES = Study(
    "depth_ratio_three_rates",
    cells=lambda full: grid_of(width=(1024, 32_768)) if full else [],
    measure=_three_rates_cell,
    config=lambda full: {"steps": 2, "particles": 512, "replicas": 2},
    labels={name: octaves.tolist() for name, octaves in RATE_OCTAVES.items()},
)

STUDIES = (DEPTH_RATIO, VARIANT_RATIO, MORE_SEEDS, AGAIN, ALONE, THREE_RATES)
