"""`dynsim coordinate-check`: do a network's terms grow with width and vocabulary as they should?

The rule, and what of it changed after pilot runs: docs/coordinate_check.md. Slopes of log size on
log width are compared with the powers that the named parametrization prescribes
(`dynsim.laboratory.slope_bands` of its own exponents), whatever exponents were written.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import InputError, check_integer
from dynsim.laboratory import NetworkSetup

from .output import number, print_json, print_table, progress_bar, writable_folder
from .precision import enable_x64
from .sweeps.plan import naming_grid_options

if TYPE_CHECKING:
    from dynsim import Estimate
    from dynsim.laboratory import SlopeBand, Term

    from .cli import CoordinateCheck

TermVerdict = Literal["holds", "blows up", "too small", "undecided", "diverged", "frozen", "zero"]
FAILS: tuple[TermVerdict, ...] = ("blows up", "too small", "diverged", "frozen")
RESAMPLES = 500
MIN_TOLERANCE = 0.01
LARGE_VOCABULARY = 0.8  # alignment exponents below this are worth a word
SYMBOLS = {
    "initial": "W0 z0",
    "update_on_initial": "dW z0",
    "initial_on_learned": "W0 dz",
    "update_on_learned": "dW dz",
}
EMBEDDING_SYMBOLS = {"initial": "e0", "update_on_initial": "de"}


@dataclass(frozen=True)
class Finding:
    """One slope: of a matrix's term at a step, over `along`, with the other size `at` fixed.

    `allowed` is the band that the parametrization prescribes, `given` the one that follows from the
    exponents that were used; `judged_below` is whether a slope below the band is a mistake too.
    """

    matrix: str
    term: Term
    along: Literal["width", "vocab_size"]
    at: int
    step: int
    slope: Estimate
    allowed: SlopeBand
    given: SlopeBand
    judged_below: bool
    verdict: TermVerdict


def run_coordinate_check(options: CoordinateCheck) -> int:
    """Measures, judges and prints; 1 if a layer fails, else 0."""
    enable_x64()
    from .results import save

    if not MIN_TOLERANCE <= options.tolerance <= 1:
        allowed = f"must be a number from {MIN_TOLERANCE} to 1"
        raise InputError("--tolerance", options.tolerance, allowed)
    folder = None if options.out is None else writable_folder("--out", options.out)
    with progress_bar(len(options.widths) * len(options.vocab_sizes), "coordinates") as bar:
        dataset = measure_coordinates(
            options.setup,
            options.widths,
            options.vocab_sizes,
            options.record,
            options.seeds,
            advance=bar.update,
        )
    document = coordinate_document(dataset, options.tolerance)
    if folder is not None:
        from .figures import write
        from .figures.coordinates import coordinate_figure

        save(dataset, folder / "coordinates.nc")
        stem = folder / "coordinates"
        document["figures"] = write(coordinate_figure, (dataset,), stem)
    if options.json:
        print_json(document)
    else:
        _print(document)
    return int(document["verdict"] == "fails")


@naming_grid_options()
def measure_coordinates(
    setup: NetworkSetup,
    widths: Sequence[int],
    vocab_sizes: Sequence[int],
    record: Sequence[int],
    seeds: int,
    *,
    advance: Callable[[], object] = lambda: None,
) -> xr.Dataset:
    """mean_square(width, vocab_size, seed, step, matrix, quantity) of networks of every size.

    `advance` is called after each size.

    Raises `InputError`, before anything is trained, for sizes or steps that cannot be.
    """
    from dynsim.laboratory import QUANTITIES, network_coordinates, slope_bands
    from dynsim.laboratory import check_recorded_steps as check_steps

    from .results import provenance

    axes = {"--widths": sorted(set(widths)), "--vocab-sizes": sorted(set(vocab_sizes))}
    for option, given, least in (("--widths", widths, 2), ("--vocab-sizes", vocab_sizes, 1)):
        if len(axes[option]) < max(least, len(given)):
            allowed = f"must be {least} or more different sizes"
            raise InputError(option, str(tuple(given)), allowed)
    check_integer("--seeds", seeds, 2, 2**16)
    at = {
        (width, vocab_size): setup.at(width, vocab_size)
        for width in axes["--widths"]
        for vocab_size in axes["--vocab-sizes"]
    }
    first = next(iter(at.values()))
    steps = check_steps(first, record)
    slope_bands(first, axes["--widths"], "embedding")  # refuses optimizers of unknown step size
    pieces = []
    for (width, vocab_size), sized in at.items():
        found = network_coordinates(sized, steps, seeds)
        piece = xr.Dataset(
            {"mean_square": (("seed", "step", "matrix", "quantity"), found.mean_square)},
            {
                "seed": np.arange(seeds),
                "step": steps,
                "matrix": list(found.matrices),
                "quantity": list(QUANTITIES),
            },
        )
        cell = {"width": width, "vocab_size": vocab_size}
        pieces.append(piece.assign_coords(cell).expand_dims(list(cell)))
        advance()
    dataset = xr.combine_by_coords(pieces)
    assert isinstance(dataset, xr.Dataset)
    # Combining sorts names; the network's own order is the reader's.
    dataset = dataset.sel(matrix=pieces[0].matrix, quantity=pieces[0].quantity)
    config = dataclasses.asdict(first) | {
        "widths": axes["--widths"],
        "vocab_sizes": axes["--vocab-sizes"],
        "record": steps,
        "seeds": seeds,
    }
    return dataset.assign_attrs(provenance(config))


def setup_of(dataset: xr.Dataset, vocab_size: int) -> NetworkSetup:
    """The setup of a measurement at its smallest width and this vocabulary."""
    from .results import study_config

    config = study_config(dataset)
    names = {field.name for field in dataclasses.fields(NetworkSetup)}
    kept = {name: value for name, value in config.items() if name in names}
    return NetworkSetup(**{**kept, "vocab_size": vocab_size})


def findings(dataset: xr.Dataset, tolerance: float) -> list[Finding]:
    """Every slope and its verdict, in width at each vocabulary and in vocabulary at each width."""
    from dynsim.laboratory import TERMS, SlopeBand, reference_setup, slope_bands

    widths = [int(d) for d in dataset.width.values]
    vocab_sizes = [int(m) for m in dataset.vocab_size.values]
    steps = [int(t) for t in dataset.step.values if t > 0]
    matrices = [str(name) for name in dataset.matrix.values]
    squares = dataset.mean_square.transpose(
        "matrix", "quantity", "step", "vocab_size", "width", ...
    )
    found: list[Finding] = []

    @cache
    def bands(matrix: str, m: int) -> tuple[dict[Term, SlopeBand], dict[Term, SlopeBand]]:
        setup = setup_of(dataset, m)
        allowed = slope_bands(reference_setup(setup), widths, matrix)
        return allowed, slope_bands(setup, widths, matrix, stable=False)

    def samples(matrix: str, term: str, step: int, **cell: int) -> NDArray[np.float64]:
        return squares.sel(matrix=matrix, quantity=term, step=step, **cell).to_numpy()

    for matrix in matrices:
        terms: list[Term] = [term for term in TERMS if term in bands(matrix, vocab_sizes[0])[0]]
        for m, term in itertools.product(vocab_sizes, terms):
            allowed, given = (band[term] for band in bands(matrix, m))
            for step in steps[:1] if term == "initial" else steps:
                below = step == steps[0] and term != "update_on_learned"
                cells = samples(matrix, term, step, vocab_size=m)
                slope, verdict = _judged(widths, cells, allowed, tolerance, below)
                if verdict == "zero" and below and term == "update_on_initial":
                    verdict = "frozen" if _has_gradient(matrix, setup_of(dataset, m)) else verdict
                at = (matrix, term, "width", m, step)
                found.append(Finding(*at, slope, allowed, given, below, verdict))
        bounded = SlopeBand(-math.inf, 0.0)
        for d, term in itertools.product(widths if len(vocab_sizes) > 1 else [], terms):
            cells = samples(matrix, term, steps[0], width=d)
            slope, verdict = _judged(vocab_sizes, cells, bounded, tolerance, False)
            at = (matrix, term, "vocab_size", d, steps[0])
            found.append(Finding(*at, slope, bounded, bounded, False, verdict))
    return found


def _judged(
    sizes: Sequence[int],
    squares: NDArray[np.float64],
    band: SlopeBand,
    tolerance: float,
    below: bool,
) -> tuple[Estimate, TermVerdict]:
    """Slope of log RMS on log size with its interval, and the verdict of the rule.

    `zero`, without a slope, if all seeds of a size have none of the term.
    """
    from dynsim import Estimate, fit_exponent

    nothing = Estimate(math.nan, math.nan, math.nan)
    if not np.all(np.isfinite(squares)):
        return nothing, "diverged"
    if np.any(np.mean(squares, axis=-1) == 0):
        return nothing, "zero"
    slope = fit_exponent(sizes, list(squares), power=0.5, resamples=RESAMPLES)
    low, high = band.low - tolerance, band.high + tolerance
    if slope.low > high:
        return slope, "blows up"
    if below and slope.high < low:
        return slope, "too small"
    inside = slope.value <= high and (slope.value >= low or not below)
    return slope, "holds" if inside else "undecided"


def _has_gradient(matrix: str, setup: NetworkSetup) -> bool:
    """Scores of a single token are a softmax of one: query and key have no gradient."""
    scores = matrix.rpartition(".")[2] in ("query", "key")
    return not (scores and setup.sequence_length == 1)


def alignments(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """Exponents A, U, Omega of every matrix but the embedding, at the first and last step.

    The power of the width in (size of a term) / (RMS entry of its weight)(RMS of its input), with
    the range that theory leaves: A from what the vocabulary leaves at the first step up to 1.
    """
    from dynsim import fit_exponent
    from dynsim.laboratory import FACTORS, vocabulary_alignment_exponent

    names: dict[str, Term] = {
        "A": "update_on_initial",
        "U": "update_on_learned",
        "Omega": "initial_on_learned",
    }
    widths = [int(d) for d in dataset.width.values]
    steps = [int(t) for t in dataset.step.values if t > 0]
    rows = []
    for matrix in (str(name) for name in dataset.matrix.values if name != "embedding"):
        for m in (int(m) for m in dataset.vocab_size.values):
            least = vocabulary_alignment_exponent(setup_of(dataset, m), widths)
            sizes = dataset.mean_square.sel(matrix=matrix, vocab_size=m)
            for step in dict.fromkeys((steps[0], steps[-1])):
                row: dict[str, Any] = {"matrix": matrix, "vocab_size": m, "step": step}
                for letter, term in names.items():
                    weight, read = FACTORS[term]
                    at = sizes.sel(step=step).transpose("quantity", "width", "seed")
                    # z0, not z_t, is what the updates on initial inputs act on.
                    inputs = sizes.sel(step=0 if read == "input" else step, quantity=read)
                    scale = at.sel(quantity=weight) * inputs.transpose("width", "seed")
                    ratio = (at.sel(quantity=term) / scale.where(scale > 0)).to_numpy()
                    estimate = None
                    if np.all(np.isfinite(ratio)) and np.all(ratio.mean(axis=-1) > 0):
                        fit = fit_exponent(widths, list(ratio), power=0.5, resamples=RESAMPLES)
                        estimate = {"value": fit.value, "low": fit.low, "high": fit.high}
                    low = least if letter == "A" and step == 1 else 0.5
                    high = 1.0 if letter != "Omega" or matrix == "readout" else 0.5
                    row[letter] = {"measured": estimate, "predicted": [low, high]}
                rows.append(row)
    return rows


def coordinate_document(dataset: xr.Dataset, tolerance: float) -> dict[str, Any]:
    """Verdict per layer, every slope, alignment exponents, notes, provenance."""
    from .results import study_config

    found = findings(dataset, tolerance)
    layers = [
        {"matrix": str(matrix), "verdict": layer_verdict([f for f in found if f.matrix == matrix])}
        for matrix in dataset.matrix.values
    ]
    verdicts = [layer["verdict"] for layer in layers]
    whole = next((v for v in ("fails", "undecided") if v in verdicts), "as predicted")
    config = study_config(dataset)
    return {
        "config": config,
        "tolerance": tolerance,
        "verdict": whole,
        "layers": layers,
        "slopes": [_plain(finding) for finding in found],
        "alignment": alignments(dataset),
        "notes": notes(dataset, found),
        "provenance": dict(dataset.attrs),
    }


def layer_verdict(found: Sequence[Finding]) -> Literal["as predicted", "undecided", "fails"]:
    """fails if one of its slopes does; undecided if one is."""
    verdicts = {finding.verdict for finding in found}
    if verdicts & set(FAILS):
        return "fails"
    return "undecided" if "undecided" in verdicts else "as predicted"


def _plain(finding: Finding) -> dict[str, Any]:
    return dataclasses.asdict(finding)


def notes(dataset: xr.Dataset, found: Sequence[Finding]) -> list[str]:
    """What may look like a mistake and is none, or is one of the parametrization itself."""
    from dynsim.laboratory import reference_setup, slope_bands, vocabulary_alignment_exponent

    widths = [int(d) for d in dataset.width.values]
    texts = []
    large = {
        m: exponent
        for m in (int(m) for m in dataset.vocab_size.values)
        if (exponent := vocabulary_alignment_exponent(setup_of(dataset, m), widths))
        < LARGE_VOCABULARY
    }
    for m, exponent in large.items():
        texts.append(
            f"m={m}: a matrix that hears all tokens adds up first updates like width^{exponent:.2f}"
            f", not width^1 (large-vocabulary regime). Its dW z0 may fall like "
            f"width^{exponent - 1:.2f} until learned embeddings restore alignment."
        )
    setup = setup_of(dataset, int(dataset.vocab_size.values[-1]))
    bands = {
        matrix: slope_bands(reference_setup(setup), widths, matrix)
        for matrix in ("embedding", "readout")
    }
    name = setup.parametrization
    if (power := bands["readout"]["initial"].high) < 0:
        texts.append(f"{name} starts with outputs of size width^{power:g}, by design.")
    if (power := bands["embedding"]["update_on_initial"].high) < 0:
        texts.append(f"{name} slows the embedding, by design: updates like width^{power:g}.")
    learned = [f for f in found if (f.matrix, f.term) == ("readout", "initial_on_learned")]
    if bands["readout"]["initial"].low == 0 and any(f.verdict == "blows up" for f in learned):
        texts.append(
            f"{name} is stable only if the readout's initial weights and what the layers below "
            "learn are not aligned (Omega = 1/2). They are, as gradients pass through these "
            "weights (Omega = 1): the output moves like width^1/2."
        )
    return texts


HEAD = ("layer", "m", "W0 z0", "dW z0", "W0 dz", "dW dz", "A", "verdict")


def _print(document: dict[str, Any]) -> None:
    config = document["config"]
    steps = [step for step in config["record"] if step > 0]
    slopes = [row for row in document["slopes"] if row["along"] == "width"]
    rows, below = [], []
    for layer in document["layers"]:
        matrix = layer["matrix"]
        for m in config["vocab_sizes"]:
            at = [row for row in slopes if row["matrix"] == matrix and row["at"] == m]
            cells = [_cell([row for row in at if row["term"] == term]) for term in SYMBOLS]
            aligned = _alignment(document["alignment"], matrix, m, steps[0])
            first = m == config["vocab_sizes"][0]
            name, verdict = (matrix, layer["verdict"]) if first else ("", "")
            rows.append([name, str(m), *cells, aligned, verdict])
            below.append(None)
    print(
        f"Powers of the width {config['widths'][0]} to {config['widths'][-1]} in the size of each "
        f"term, after {steps[0]} -> {steps[-1]} steps, {config['seeds']} seeds.\n"
    )
    print_table(HEAD, rows, below)
    failing = [row for row in document["slopes"] if row["verdict"] in FAILS]
    if failing:
        print()
    for row in _worst(failing):
        print(_complaint(row))
    print()
    for note in document["notes"]:
        print(f"Note: {note}")
    print(
        f"{document['verdict']}: {config['network']} in {config['parametrization']}, slopes within "
        f"{document['tolerance']:g} of what it prescribes (docs: coordinate_check)."
    )
    for path in document.get("figures", []):
        if Path(path).suffix == ".png":
            print(f"figure: {path}")


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    """Slope after the first and the last recorded step, marked where it fails."""
    if not rows:
        return ""
    ends = rows[:1] if len(rows) == 1 else (rows[0], rows[-1])
    text = " -> ".join(_slope(row) for row in ends)
    return text + (" !" if any(row["verdict"] in FAILS for row in rows) else "")


def _slope(row: Mapping[str, Any]) -> str:
    value = row["slope"]["value"]
    return row["verdict"] if math.isnan(value) else f"{value:.2f}"


def _alignment(rows: Sequence[Mapping[str, Any]], matrix: str, m: int, step: int) -> str:
    for row in rows:
        if (row["matrix"], row["vocab_size"], row["step"]) == (matrix, m, step):
            measured, (low, high) = row["A"]["measured"], row["A"]["predicted"]
            if measured is not None:
                return f"{measured['value']:.2f} ({low:.2f} to {high:g})"
    return ""


def _worst(failing: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each layer, term and direction, the slope furthest from its band."""

    def excess(row: dict[str, Any]) -> float:
        value, band = row["slope"]["value"], row["allowed"]
        if math.isnan(value):
            return math.inf
        return max(value - band["high"], band["low"] - value)

    worst: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in failing:
        key = row["matrix"], row["term"], row["along"]
        if key not in worst or excess(row) > excess(worst[key]):
            worst[key] = row
    return list(worst.values())


def _complaint(row: Mapping[str, Any]) -> str:
    matrix, slope = row["matrix"], row["slope"]
    symbols = EMBEDDING_SYMBOLS if matrix == "embedding" else SYMBOLS
    by, fixed = ("width", "m") if row["along"] == "width" else ("vocab_size", "width")
    where = f"at {fixed}={row['at']}, step {row['step']}"
    if row["verdict"] == "diverged":
        return f"{matrix}: {symbols[row['term']]} diverged {where}."
    if row["verdict"] == "frozen":
        return f"{matrix}: {symbols[row['term']]} is zero {where}: this layer does not learn."
    interval = f"[{number(slope['low'])}, {number(slope['high'])}]"
    text = (
        f"{matrix}: {symbols[row['term']]} {row['verdict']}: {by}^{slope['value']:.2f} "
        f"{interval} {where}; allowed {_range(row['allowed'])}"
    )
    if row["along"] == "width" and row["given"] != row["allowed"]:
        text += f"; the exponents given imply {_range(row['given'])}"
    return text + "."


def _range(band: Mapping[str, float]) -> str:
    low, high = (f"{band[end]:.2f}" for end in ("low", "high"))
    if math.isinf(band["low"]):
        return f"up to {high}"
    return low if low == high else f"{low} to {high}"
