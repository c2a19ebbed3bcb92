"""`dynsim map`: a quantity of theory over two axes, with boundaries and trained networks."""

from __future__ import annotations

import dataclasses
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import tyro

from dynsim import Setup
from dynsim.scaling._family import PATH_FIELDS
from experiments.output import (
    again,
    estimate,
    flag,
    named,
    number,
    print_json,
    print_next,
    print_table,
    print_wrapped,
    progress_bar,
)

from ._files import print_files, with_files, write_files
from ._options import NO_FILES, Json, WrittenFiles
from ._path_options import documented

if TYPE_CHECKING:
    from dynsim.maps import MapNetworks, RegimeMap
    from experiments.cells.store import Arrays, Store

NAME = "map"
STEPS = "updates T after which the colour is read (default: 1; with the axis age 17)"


def _fields() -> list[tuple[str, Any, Any]]:
    """Name, annotated type and default of every option; what is left out is None."""
    hints = get_type_hints(Setup)
    meanings = documented(Setup)
    found = []
    for field in dataclasses.fields(Setup):
        default = "sign for one output" if field.name == "targets" else field.default
        words = meanings[field.name] + ("" if default is None else f"; {default} if left out")
        kind = str | None if field.name in PATH_FIELDS else hints[field.name] | None
        words = STEPS if field.name == "steps" else words
        found.append((field.name, Annotated[kind, tyro.conf.arg(help=words)], None))
    return found


if TYPE_CHECKING:

    @dataclass(frozen=True)
    class MapOptions:
        """Every option of the linear model; sizes and rates are texts."""

else:
    MapOptions = dataclasses.make_dataclass("MapOptions", _fields(), frozen=True)
    MapOptions.__module__ = __name__
    MapOptions.__doc__ = (
        "Sizes and rates are numbers or paths such as d^0.7 (docs/guides/exponents.md#paths)."
    )


LEFT_OUT = MapOptions()


@dataclass(frozen=True)
class Map:
    """Draw a map of the regimes: theory over any two axes, its boundaries, trained networks.

    An axis is NAME=LOW:HIGH:N, with :lin or :log for its spacing. Names are width, vocab_size,
    batch_size, zipf (the exponent of the token law), outputs, age (the displacement of the
    embedding), steps, embedding_lr and projection_lr.
    """

    colour: Annotated[
        Literal[
            "local_exponent",
            "rms",
            "alignment",
            "optimal_rate_ratio",
            "loss",
            "restoration",
            "mup_share",
        ],
        tyro.conf.arg(aliases=["--color"]),
    ] = "local_exponent"
    """local_exponent: power of the width in the projection's update; rms: its size; alignment: its
    size over the largest possible; optimal_rate_ratio: one-step optimal embedding LR / projection
    LR; loss: after T updates, by mean-field theory; restoration: displacement of the embedding at
    the end of the LV regime; mup_share: share of tokens in the muP regime"""
    x: str | None = None
    """horizontal axis (default: width=16:65536:200; mean field: width=64:16384:8)"""
    y: str | None = None
    """vertical axis (default: vocab_size=16:1e6:200; mean field: vocab_size=64:16384:8)"""
    options: Annotated[MapOptions, tyro.conf.arg(name="")] = LEFT_OUT
    theory: Literal["closed", "mean_field"] | None = None
    """closed: formulas; mean_field: the solver, cell by cell (default: closed where there is a
    formula)"""
    averaged_over: Literal["law", "batch"] = "law"
    """squares are averaged over tokens by their frequency, or by their share of a batch"""
    networks: str | None = None
    """points at which networks are trained, such as 5x4 (default: none)"""
    seeds: int | None = None
    """networks at each point (default: 8)"""
    particles: int | None = None
    """token particles of the mean-field solver (default: 512, or what outputs and steps need)"""
    replicas: int | None = None
    """independent mean-field solutions that are averaged (default: 8)"""
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Computes the map, prints what is on it, and writes the files that are asked for."""
        from dynsim.maps._axes import axis

        self.files.check()
        for field, given in {"x": self.x, "y": self.y}.items():
            if given is not None:
                axis(field, given)  # checked before what takes a second to import
        from dynsim import regime_map
        from experiments.cells.store import REPEATABLE, open_store
        from experiments.precision import enable_x64
        from experiments.results import provenance

        enable_x64()
        given = dataclasses.asdict(self.options)
        work = self.networks is not None or "mean_field" in (self.theory, _theory(self.colour))
        with ExitStack() as stack:
            store = None
            if self.files.out is not None and work:
                file = self.files.out / f"{NAME}.nc"
                folder = stack.enter_context(open_store(file, resume=True, advice=REPEATABLE))
                stack.callback(folder.remove_if_empty)
                store = _Finished(folder)
            bar = stack.enter_context(progress_bar(1.0, NAME))
            result = regime_map(
                self.colour,
                self.x,
                self.y,
                theory=self.theory,
                averaged_over=self.averaged_over,
                networks=self.networks,
                seeds=self.seeds,
                particles=self.particles,
                replicas=self.replicas,
                store=store,
                progress=bar.update,
                **given,
            )
            config = _config(self, result)
            written = write_files(self.files, NAME, result.to_xarray, config)
            if self.files.out is not None:
                written += _tables(self.files.out, result, config)
            if store is not None:
                store.folder.remove()
        if self.json:
            document = result.document() | {"config": config, "provenance": provenance(config)}
            print_json(with_files(document, written))
            return 0
        _print(result)
        print_files(written)
        if self.files.wanted:
            print_next(f"{_first_update(result)} with its formula", _middle(result))
        else:
            print_next("the picture", again("--plot", "map.png"))
        return 0


@dataclass(frozen=True)
class _Finished:
    """Finished solutions and networks, of this code and these libraries alone."""

    folder: Store

    def read(self, name: str, identity: str) -> Arrays | None:
        from experiments.results import fingerprint

        return self.folder.read(name, fingerprint({"cell": identity}))

    def write(self, name: str, identity: str, arrays: Arrays) -> None:
        from experiments.results import fingerprint

        self.folder.write(name, fingerprint({"cell": identity}), arrays)


def _theory(colour: str) -> str:
    from dynsim.maps import COLOURS

    return "closed" if COLOURS[colour].formula is not None else "mean_field"


def _config(command: Map, result: RegimeMap) -> dict[str, Any]:
    """What makes the map again."""
    own = ("averaged_over", "networks", "particles", "replicas")
    trained = result.networks
    return {
        "colour": result.colour,
        "theory": result.theory,
        "x": result.x.described(),
        "y": result.y.described(),
        **{name: getattr(command, name) for name in own},
        "seeds": None if trained is None else len(trained.seeds),
        **result.options,
    }


def _tables(folder: Path, result: RegimeMap, config: dict[str, Any]) -> list[Path]:
    """A row for each cell with the reason where it has no value, one for each trained point, and
    the configuration."""
    from experiments.results import write_file

    texts = {
        f"{NAME}.csv": result.to_dataframe().to_csv(index=False),
        f"{NAME}.json": json.dumps(config, indent=2, default=str) + "\n",
    }
    if result.networks is not None:
        texts[f"{NAME}_networks.csv"] = result.networks_dataframe().to_csv(index=False)
    for name, text in texts.items():
        write_file(folder / name, text.encode())
    return [folder / name for name in texts if name != f"{NAME}.csv"]


def _print(result: RegimeMap) -> None:
    import numpy as np

    axes = " over ".join(one.described() for one in (result.y, result.x))
    known = result.values[np.isfinite(result.values)]
    if known.size:
        span = f"goes from {number(float(known.min()))} to {number(float(known.max()))}"
    else:
        span = "has no value"
    print_wrapped(f"{result.colour.replace('_', ' ')} {span} over this map{_consequence(result)}.")
    print()
    print_wrapped(f"{result.colour}: {result.of.meaning}", "  ")
    by = {"closed": "by closed formulas", "mean_field": "by mean-field theory"}
    print(f"{axes}, {by[result.theory]}")
    for line in result.boundaries:
        print_wrapped(f"line {line.name}: {line.meaning}; {line.formula}", "  ")
    for reason, count in result.missing_counts.items():
        told = f"no value in {count} of {result.values.size} cells: {named(reason, flag)}"
        print_wrapped(told, "  ")
    for note in result.notes:
        print_wrapped(f"note: {named(note, flag)}", "  ")
    if result.networks is not None:
        _print_networks(result, result.networks)


REGIME = {  # above this value updates are aligned, as in the muP regime
    "local_exponent": 0.75,
    "mup_share": 0.5,
}


def _consequence(result: RegimeMap) -> str:
    """How many cells are in the muP regime, where the colour says so."""
    import numpy as np

    known = result.values[np.isfinite(result.values)]
    if result.colour not in REGIME or not known.size:
        return ""
    inside = int(np.count_nonzero(known > REGIME[result.colour]))
    share = f"{inside} ({inside / known.size:.0%})"
    since = " by then" if _aged(result) else " from the first step"
    return (
        f". Of the {known.size} cells with a value {share} are in the muP regime (above "
        f"{REGIME[result.colour]:g}), where muP's learning rates hold{since}"
    )


def _aged(result: RegimeMap) -> bool:
    """Whether the map is of later updates than the first."""
    later = {"age", "steps"} & {result.x.name, result.y.name}
    return bool(later) or str(result.options.get("steps", 1)) != "1"


def _first_update(result: RegimeMap) -> str:
    return "the first update at one point of it" if _aged(result) else "one point of it"


def _middle(result: RegimeMap) -> list[object]:
    """The command that derives the first update at the middle of the map, with the map's tokens."""
    from dynsim.scaling._family import paths_and_options
    from dynsim.scaling._resolution import Resolution

    middle = {axis.name: float(axis.values[len(axis.values) // 2]) for axis in (result.x, result.y)}
    paths, options = paths_and_options(result.options, middle)
    sizes = Resolution(middle, paths, options).sizes()
    tokens = f"zipf:{middle['zipf']:.4g}" if "zipf" in middle else options.get("tokens", "uniform")
    optimizer = options.get("optimizer")
    given: dict[str, object] = {
        "width": round(sizes["d"]),
        "vocab_size": round(sizes["m"]),
        "tokens": None if tokens == "uniform" else tokens,
        "batch_size": round(sizes["B"]) or None,
        "optimizer": "sgd" if optimizer in ("sgd", "momentum") else None,
        "init": "sp" if options.get("init") == "sp" else None,
        # derive has no formula of Gaussian residuals in a mini-batch
        "residuals": "gaussian" if round(sizes["n"]) > 1 and not round(sizes["B"]) else None,
    }
    words = [word for name, one in given.items() if one is not None for word in (flag(name), one)]
    return ["derive", "--layer", "projection", *words]


def _print_networks(result: RegimeMap, found: MapNetworks) -> None:
    rows = [
        [
            number(float(row[0])),
            number(float(row[1])),
            number(float(row[2])),
            estimate(float(row[3]), float(row[4]), float(row[5])),
            "outside" if row[6] else "",
        ]
        for row in zip(
            *(found.x, found.y, found.theory, found.value, found.low, found.high),
            found.misses,
            strict=True,
        )
    ]
    print_table(
        (
            flag(result.x.name),
            flag(result.y.name),
            "theory",
            "networks, 95 % interval",
            "theory is",
        ),
        rows,
    )
    for reason, count in found.left_out.items():
        points = "point" if count == 1 else "points"
        print_wrapped(f"{count} {points} without networks: {named(reason, flag)}", "  ")
