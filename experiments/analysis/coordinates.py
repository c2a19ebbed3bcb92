"""Coordinate checks: measured powers of the width in every term, and their verdicts.

The rule, and what of it changed after pilot runs: docs/guides/coordinate_check.md. Slopes of log
size on log width are compared with the powers that the named parametrization prescribes
(`dynsim.laboratory.slope_bands` of its own exponents), whatever exponents were written.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import Estimate, InputError, check_integer, fit_exponent
from dynsim.laboratory import (
    FACTORS,
    QUANTITIES,
    TERMS,
    NetworkFamily,
    NetworkSetup,
    SlopeBand,
    Term,
    check_recorded_steps,
    network_coordinates,
    reference_setup,
    slope_bands,
    vocabulary_alignment_exponent,
)
from dynsim.statistics import Resamples
from experiments.cells.complete import CellJob, complete_cells
from experiments.cells.executors import Executor, LocalExecutor
from experiments.cells.store import Arrays, Store
from experiments.results import fingerprint, provenance, study_config
from experiments.sweeps.plan import naming_grid_options
from experiments.sweeps.work import tokens_digest

TermVerdict = Literal["holds", "blows up", "too small", "undecided", "diverged", "frozen", "zero"]
FAILURES: tuple[TermVerdict, ...] = ("blows up", "too small", "diverged", "frozen")
LARGE_VOCABULARY = 0.8  # alignment exponents below this are worth a word


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


@naming_grid_options()
def measure_coordinates(
    setup: NetworkFamily,
    widths: Sequence[int],
    vocab_sizes: Sequence[int],
    record: Sequence[int],
    seeds: int,
    *,
    advance: Callable[[], object] = lambda: None,
    store: Store | None = None,
    where: Executor | None = None,
) -> xr.Dataset:
    """mean_square(width, vocab_size, seed, step, matrix, quantity) of networks of every size.

    `advance` is called after each size. With a `store`, each finished size is kept there, and one
    that would come out the same is taken from there.

    Raises `InputError`, before anything is trained, for sizes or steps that cannot be.
    """
    axes = {"widths": sorted(set(widths)), "vocab_sizes": sorted(set(vocab_sizes))}
    for option, given, least in (("widths", widths, 2), ("vocab_sizes", vocab_sizes, 1)):
        if len(axes[option]) < max(least, len(given)):
            allowed = f"must be {least} or more different sizes"
            raise InputError(option, str(tuple(given)), allowed)
    check_integer("seeds", seeds, 2, 2**16)
    at = {
        (width, vocab_size): setup.at(width, vocab_size)
        for width in axes["widths"]
        for vocab_size in axes["vocab_sizes"]
    }
    first = next(iter(at.values()))
    steps = check_recorded_steps(first, record)
    slope_bands(first, axes["widths"], "embedding")  # refuses optimizers of unknown step size
    jobs = [
        CellJob(
            f"width-{width}-vocab-size-{vocab_size}",
            fingerprint(
                dataclasses.asdict(sized)
                | {"record": steps, "seeds": seeds, "read": tokens_digest(sized)}
            ),
            (sized, steps, seeds),
        )
        for (width, vocab_size), sized in at.items()
    ]
    measured = complete_cells(jobs, _measured, where or LocalExecutor(), store, advance)
    pieces = []
    for (width, vocab_size), found in zip(at, measured, strict=True):
        piece = xr.Dataset(
            {"mean_square": (("seed", "step", "matrix", "quantity"), found["mean_square"])},
            {
                "seed": np.arange(seeds),
                "step": steps,
                "matrix": found["matrices"].tolist(),
                "quantity": list(QUANTITIES),
            },
        )
        cell = {"width": width, "vocab_size": vocab_size}
        pieces.append(piece.assign_coords(cell).expand_dims(list(cell)))
    dataset = xr.combine_by_coords(pieces)
    assert isinstance(dataset, xr.Dataset)
    # Combining sorts names; the network's own order is the reader's.
    dataset = dataset.sel(matrix=pieces[0].matrix, quantity=pieces[0].quantity)
    config = dataclasses.asdict(first) | {
        "widths": axes["widths"],
        "vocab_sizes": axes["vocab_sizes"],
        "record": steps,
        "seeds": seeds,
    }
    return dataset.assign_attrs(provenance(config))


def _measured(job: tuple[NetworkSetup, tuple[int, ...], int], progress: object = None) -> Arrays:
    """Sizes of the terms in networks of one size."""
    found = network_coordinates(*job)
    return {"mean_square": found.mean_square, "matrices": np.array(found.matrices)}


def setup_of(dataset: xr.Dataset, vocab_size: int) -> NetworkSetup:
    """The setup of a measurement at its smallest width and this vocabulary."""
    config = study_config(dataset)
    names = {field.name for field in dataclasses.fields(NetworkSetup)}
    kept = {name: value for name, value in config.items() if name in names}
    return NetworkSetup(**{**kept, "vocab_size": vocab_size})


def findings(dataset: xr.Dataset, tolerance: float) -> list[Finding]:
    """Every slope and its verdict, in width at each vocabulary and in vocabulary at each width."""
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
    nothing = Estimate(math.nan, math.nan, math.nan)
    if not np.all(np.isfinite(squares)):
        return nothing, "diverged"
    if np.any(np.mean(squares, axis=-1) == 0):
        return nothing, "zero"
    slope = fit_exponent(sizes, list(squares), power=0.5, resamples=Resamples.QUICK)
    slope = _widened(slope, squares.shape[-1], len(sizes))
    low, high = band.low - tolerance, band.high + tolerance
    if slope.low > high:
        return slope, "blows up"
    if below and slope.high < low:
        return slope, "too small"
    inside = slope.value <= high and (slope.value >= low or not below)
    return slope, "holds" if inside else "undecided"


ENOUGH_SEEDS = 4  # from which on the seeds say by themselves how much they scatter


def widening(seeds: int, sizes: int) -> float:
    """By what Student's interval of so few seeds is widened: to the degrees of freedom of one size.

    A check judges dozens of slopes, and squares of two or three seeds are far from normal.
    """
    if seeds >= ENOUGH_SEEDS:
        return 1.0
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, 0.975) / stdtrit(sizes * (seeds - 1), 0.975))


def _widened(slope: Estimate, seeds: int, sizes: int) -> Estimate:
    factor = widening(seeds, sizes)
    ends = (slope.value + factor * (end - slope.value) for end in (slope.low, slope.high))
    return Estimate(slope.value, *ends)


def _has_gradient(matrix: str, setup: NetworkSetup) -> bool:
    """Scores of a single token are a softmax of one: query and key have no gradient."""
    scores = matrix.rpartition(".")[2] in ("query", "key")
    return not (scores and setup.sequence_length == 1)


def alignments(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """Exponents A, U, Omega of every matrix but the embedding, at the first and last step.

    The power of the width in (size of a term) / (RMS entry of its weight)(RMS of its input), with
    the range that theory leaves: A from what the vocabulary leaves at the first step up to 1.
    """
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
                        fit = fit_exponent(
                            widths, list(ratio), power=0.5, resamples=Resamples.QUICK
                        )
                        estimate = {"value": fit.value, "low": fit.low, "high": fit.high}
                    low = least if letter == "A" and step == 1 else 0.5
                    high = 1.0 if letter != "Omega" or matrix == "readout" else 0.5
                    row[letter] = {"measured": estimate, "predicted": [low, high]}
                rows.append(row)
    return rows


def coordinate_document(dataset: xr.Dataset, tolerance: float) -> dict[str, Any]:
    """Verdict per layer, every slope, alignment exponents, notes, provenance."""
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
    if verdicts & set(FAILURES):
        return "fails"
    return "undecided" if "undecided" in verdicts else "as predicted"


def _plain(finding: Finding) -> dict[str, Any]:
    return dataclasses.asdict(finding)


def notes(dataset: xr.Dataset, found: Sequence[Finding]) -> list[str]:
    """What may look like a mistake and is none, or is one of the parametrization itself."""
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
            f"m={m}: a matrix that reads the embedding, or features without a mean over tokens, "
            f"adds up first updates like width^{exponent:.2f}, not width^1 (large-vocabulary "
            "regime; features with a mean, as behind relu or gelu, keep width^1). Its dW z0 may "
            "fall like "
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
    seeds = dataset.sizes["seed"]
    if seeds < ENOUGH_SEEDS and any(f.verdict == "undecided" for f in found):
        texts.append(
            f"{seeds} seeds cannot decide: their intervals have the degrees of freedom of a single "
            "size; take 8."
        )
    return texts
