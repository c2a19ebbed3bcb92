"""Evidence about the duration of the LV regime: when learned embeddings restore alignment.

theta = eta_E t / sigma_E is an embedding's displacement after t steps in units of its initial
entries, tau = theta sqrt(m/n) the age; theta_c and t_c belong to the end of the LV regime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
import xarray as xr
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim import (
    Estimate,
    Setup,
    aged_update,
    bootstrap,
    fit_exponent,
    restoration_displacement,
    targets,
    token_law,
)
from dynsim.claims import Evidence
from dynsim.statistics import exponent_of, log_slope
from dynsim.theory import late_effective_outputs, smoothed_speed, visit_chance
from experiments.results import study_config

from .study import variant_setup

Floats = NDArray[np.float64]


def displacements(data: xr.Dataset, outputs: int) -> Floats:
    """theta = eta_E t at every step of a cell of the age study."""
    return study_config(data)["move"] * outputs**0.5 * np.arange(data.sizes["step"])


def age_cells(data: xr.Dataset, outputs: int) -> list[tuple[int, int]]:
    """(width, vocab_size) of the cells measured with this many outputs."""
    present = data.mean_square.isel(seed=0, step=0).sel(outputs=outputs).notnull()
    return [
        (int(d), int(m))
        for d in data.width.values
        for m in data.vocab_size.values
        if bool(present.sel(width=d, vocab_size=m))
    ]


def restoration_steps(mean_square: Floats, width: float, moves: Floats) -> float:
    """The step, interpolated, at which coherent and incoherent power are equal.

    mean_square = d (1 + theta^2 + ratio) at every step; NaN where the ratio does not pass 1.
    """
    ratio = mean_square / width - 1 - moves**2
    above = np.flatnonzero(ratio >= 1)
    if len(above) == 0 or above[0] == 0:
        return float("nan")
    last = int(above[0])
    return last - 1 + float((1 - ratio[last - 1]) / (ratio[last] - ratio[last - 1]))


def _restored(samples: Floats, width: float, moves: Floats, axis: int = -1) -> float:
    """`restoration_steps` of the seeds' mean; seeds on the last axis."""
    return restoration_steps(np.mean(samples, axis=axis), width, moves)


def _seeds(data: xr.DataArray) -> Floats:
    return data.dropna("step", how="all").transpose("step", "seed").to_numpy()


def _age_samples(data: xr.Dataset, cells: Sequence[tuple[int, int, int]]) -> list[Floats]:
    return [_seeds(data.mean_square.sel(width=d, vocab_size=m, outputs=n)) for d, m, n in cells]


def _derived_squares(data: xr.Dataset, width: int, vocab_size: int, outputs: int) -> Floats:
    law = token_law("uniform", vocab_size)
    moves = displacements(data, outputs)
    return np.asarray(aged_update(width, law, moves, effective_outputs=outputs).rms) ** 2


def _deviation(samples: Sequence[Floats], reference: Sequence[Floats]) -> Estimate:
    """RMS over cells and steps of ln(measured RMS / reference RMS), bootstrapped over seeds."""

    def spread(*cells: Floats, axis: int = -1) -> Any:
        gaps = [
            0.5 * np.log(np.mean(cell, axis=axis) / wanted)
            for cell, wanted in zip(cells, reference, strict=True)
        ]
        return np.sqrt(np.mean(np.concatenate(gaps) ** 2))

    return bootstrap(spread, samples)


def age_update(data: xr.Dataset, *, ageing: bool = True) -> Evidence:
    """Deviation of every cell's curve from the derived one.

    Without `ageing`, as a control, from the first step's value at all steps.
    """
    cells = [(d, m, 1) for d, m in age_cells(data, 1)]
    derived = [_derived_squares(data, *cell) for cell in cells]
    if not ageing:
        derived = [np.full_like(curve, curve[0]) for curve in derived]
    theory = [data.mean_field.sel(width=d, vocab_size=m, outputs=n).to_numpy() for d, m, n in cells]
    solved = [k for k, curve in enumerate(theory) if np.all(np.isfinite(curve))]
    curves = [theory[k][:, None] for k in solved]
    simulated = _deviation(curves, [derived[k] for k in solved]).value if solved else None
    return Evidence(
        predicted=0.0, simulated=simulated, measured=_deviation(_age_samples(data, cells), derived)
    )


def _measured_steps(
    data: xr.Dataset, cells: Sequence[tuple[int, int, int]]
) -> tuple[list[Floats], Callable[..., Floats]]:
    """Seeds of the cells, and the statistic t_c of each, as a displacement."""
    moves = {n: displacements(data, n) for _, _, n in cells}

    def ends(*samples: Floats, axis: int = -1) -> Floats:
        return np.array(
            [
                _restored(sample, d, moves[n], axis) * moves[n][1]
                for sample, (d, _, n) in zip(samples, cells, strict=True)
            ]
        )

    return _age_samples(data, cells), ends


def _large(data: xr.Dataset, outputs: int, factor: float = 16) -> list[tuple[int, int, int]]:
    """Cells far in the LV regime at the first step whose restoration lies within the run."""
    last = displacements(data, outputs)[-1]
    return [
        (d, m, outputs)
        for d, m in age_cells(data, outputs)
        if m >= factor * d
        and 1.2 * restoration_displacement(d, m, effective_outputs=outputs) < last
    ]


def _end_order(size: sp.Symbol) -> float:
    """The derived power of one size in theta_c for m >> d."""
    end = derivations.restoration_displacement("many").expression
    return float(sp.simplify(size * sp.diff(sp.log(end), size)))


def _lifetime_exponent(
    data: xr.Dataset, cells: Sequence[tuple[int, int, int]], axis: int, predicted: float
) -> Evidence:
    """Exponent of theta_c along the cells; `axis` of the cell's triple is the size."""
    samples, ends = _measured_steps(data, cells)
    sizes = [float(cell[axis]) for cell in cells]

    def log_ends(*chosen: Floats, axis: int = -1) -> Floats:
        return np.log(ends(*chosen, axis=axis))

    measured = exponent_of(sizes, samples, log_ends)
    curves = [_derived_squares(data, *cell)[:, None] for cell in cells]
    simulated = float(log_slope(np.log(sizes), log_ends(*curves)))
    return Evidence.of_fit(measured, predicted=predicted, simulated=simulated)


def lifetime_width(data: xr.Dataset) -> Evidence:
    largest = int(data.vocab_size.max())
    cells = [cell for cell in _large(data, 1) if cell[1] == largest]
    return _lifetime_exponent(data, cells, 0, _end_order(s.width))


def lifetime_vocab(data: xr.Dataset) -> Evidence:
    """At the width that has the most vocabularies."""
    widths = [d for d, _, _ in _large(data, 1, factor=8)]
    width = max(set(widths), key=lambda d: (widths.count(d), d))
    cells = [cell for cell in _large(data, 1, factor=8) if cell[0] == width]
    return _lifetime_exponent(data, cells, 1, _end_order(s.vocab_size))


def lifetime_outputs(data: xr.Dataset) -> Evidence:
    """At the widest network; the theory has the constant of each number of outputs."""
    many = [int(n) for n in data.outputs.values if n > 1]
    by_outputs = {n: {cell[:2] for cell in _large(data, n)} for n in many}
    common = max(set.intersection(*by_outputs.values()))
    cells = [(*common, n) for n in many]
    found = _lifetime_exponent(data, cells, 2, _end_order(s.effective_outputs))
    constant = derivations.isotropic_restoration_constant().expression
    numbers = [float(constant.subs(s.outputs, n).evalf()) for n in many]
    growth = float(log_slope(np.log(many), np.log(numbers)))
    return replace(found, simulated=found.predicted + growth)


def lifetime_prefactor(data: xr.Dataset, *, field_age: bool = False) -> Evidence:
    """Geometric mean over cells of measured over derived theta_c, one output.

    As a control, over the displacement at which the field age is 1.
    """
    cells = _large(data, 1)
    samples, ends = _measured_steps(data, cells)
    derived = np.array(
        [_aligned_gradient(m) if field_age else restoration_displacement(d, m) for d, m, _ in cells]
    )

    def ratio(*chosen: Floats, axis: int = -1) -> Any:
        return np.exp(np.mean(np.log(ends(*chosen, axis=axis) / derived)))

    curves = [_derived_squares(data, *cell)[:, None] for cell in cells]
    return Evidence(
        predicted=1.0, simulated=float(ratio(*curves)), measured=bootstrap(ratio, samples)
    )


def _aligned_gradient(vocab_size: int) -> float:
    """The displacement theta at which the field age of one output is 1, for uniform tokens."""
    uniform = derivations.field_age().specialise(derivations.UNIFORM_LAW, "uniform tokens")
    per_step = uniform.expression.subs({s.effective_outputs: 1, s.vocab_size: vocab_size})
    (displacement,) = per_step.free_symbols
    (solution,) = sp.solve(per_step - 1, displacement)
    return float(solution)


def lifetime_prefactor_many(data: xr.Dataset) -> Evidence:
    """The same for the fewest outputs beyond one, against K(n) sqrt(n/d), for d >= 32 n.

    There K(n) is furthest from the constant pi/2 of many outputs.
    """
    constant = derivations.isotropic_restoration_constant().expression
    few = min(int(n) for n in data.outputs.values if n > 1)
    cells = [cell for cell in _large(data, few, factor=16) if cell[0] >= 32 * few]
    samples, ends = _measured_steps(data, cells)
    prefactor = float(constant.subs(s.outputs, few).evalf())
    asymptotic = np.array([prefactor * (few / d) ** 0.5 for d, _, _ in cells])

    def ratio(*chosen: Floats, axis: int = -1) -> Any:
        return np.exp(np.mean(np.log(ends(*chosen, axis=axis) / asymptotic)))

    return Evidence(predicted=1.0, simulated=None, measured=bootstrap(ratio, samples))


def local_exponents(data: xr.Dataset, outputs: int) -> list[tuple[float, int, Floats, Floats]]:
    """(width, vocab_size, theta, exponent) between neighbouring widths of the same vocabulary."""
    found = []
    cells = age_cells(data, outputs)
    for vocab_size in sorted({m for _, m in cells}):
        widths = sorted(d for d, m in cells if m == vocab_size)
        curves = [
            0.5 * np.log(np.mean(sample, axis=-1))
            for sample in _age_samples(data, [(d, vocab_size, outputs) for d in widths])
        ]
        for k in range(len(widths) - 1):
            below, above = widths[k], widths[k + 1]
            slope = (curves[k + 1] - curves[k]) / np.log(above / below)
            found.append(((below * above) ** 0.5, vocab_size, displacements(data, outputs), slope))
    return found


def age_collapse(data: xr.Dataset) -> Evidence:
    """RMS distance of the measured local exponents from the function of (m/d, tau)."""
    cells = age_cells(data, 1)
    pairs = [
        (d, e, m)
        for m in sorted({m for _, m in cells})
        for d, e in zip(*[widths_with(cells, m)[k:] for k in (0, 1)], strict=False)
    ]
    samples = _age_samples(data, [(w, m, 1) for d, e, m in pairs for w in (d, e)])
    moves = displacements(data, 1)
    derived = np.array(
        [
            np.asarray(aged_update((d * e) ** 0.5, token_law("uniform", m), moves).local_exponent)
            for d, e, m in pairs
        ]
    )

    def distance(slopes: Floats) -> Floats:
        return np.sqrt(np.mean((slopes - derived) ** 2))

    def spread(*cells: Floats, axis: int = -1) -> Any:
        logs = 0.5 * np.log(np.array([np.mean(cell, axis=axis) for cell in cells]))
        ratio = np.log([[e / d] for d, e, _ in pairs])
        return distance((logs[1::2] - logs[::2]) / ratio)

    exact = [_derived_squares(data, w, m, 1)[:, None] for d, e, m in pairs for w in (d, e)]
    return Evidence(
        predicted=0.0, simulated=float(spread(*exact)), measured=bootstrap(spread, samples)
    )


def widths_with(cells: Sequence[tuple[int, int]], vocab_size: int) -> list[int]:
    """Widths measured with this vocabulary, smallest first."""
    return sorted(d for d, m in cells if m == vocab_size)


# Variants: optimizers, batches, token laws and target structure at one size


def _moves(setup: Setup, steps: int) -> Floats:
    """theta = eta_E t at every step (nominal: of sign in full batch)."""
    return np.asarray(setup.embedding_lr * np.arange(steps), dtype=np.float64)


def _variant_end(data: xr.Dataset, variant: str) -> tuple[Floats, Callable[..., float]]:
    """Seeds of a variant and the statistic theta_c (nominal displacement eta_E t_c)."""
    setup = variant_setup(variant)
    moves = _moves(setup, setup.steps)

    def end(sample: Floats, axis: int = -1) -> float:
        return _restored(sample, setup.width, moves, axis) * setup.embedding_lr

    return _seeds(data.mean_square.sel(variant=variant)), end


def _solved(data: xr.Dataset, variant: str) -> Floats:
    """A variant's mean-field curve as one seed, shape (steps, 1); empty where there is none."""
    return data.mean_field.sel(variant=variant).dropna("step").to_numpy()[:, None]


def variant_ratio(data: xr.Dataset, variant: str, other: str, predicted: float) -> Evidence:
    """theta_c of a variant over that of another, over the predicted ratio."""
    (samples, end), (reference, other_end) = (_variant_end(data, name) for name in (variant, other))

    def ratio(*sides: Floats, axis: int = -1) -> Any:
        chosen, base = sides
        return np.float64(end(chosen, axis) / other_end(base, axis) / predicted)

    solved = [_solved(data, name) for name in (variant, other)]
    simulated = float(ratio(*solved)) if all(map(len, solved)) else None
    return Evidence(
        predicted=1.0, simulated=simulated, measured=bootstrap(ratio, (samples, reference))
    )


def lifetime_structured(data: xr.Dataset) -> Evidence:
    """Low-rank targets against as many unstructured outputs, each with its own directions."""
    spread = []
    for variant in ("rank 4 of 32", "4 outputs"):
        setup = variant_setup(variant, study_config(data).get("seed", 0))
        spread.append(late_effective_outputs(targets(setup), setup.law().frequencies))
    return variant_ratio(data, "rank 4 of 32", "4 outputs", (spread[0] / spread[1]) ** 0.5)


def lifetime_smoothed(data: xr.Dataset) -> Evidence:
    """The smoothed sign moves the embedding at a fraction of the speed."""
    setup = variant_setup("smoothed")
    gradient = setup.projection_std / setup.vocab_size  # p |r| sigma_W
    speed = float(smoothed_speed(setup.epsilon, gradient))
    return variant_ratio(data, "smoothed", "sign", 1 / speed)


def _derived_batch_end(setup: Setup) -> float:
    """eta_E t_c of sign in mini-batch, by the same reading of the derived curve."""
    moves = _moves(setup, 8 * setup.steps)
    aged = aged_update(
        setup.width,
        setup.law(),
        moves,
        batch_size=setup.batch_size,
        embedding_lr=setup.embedding_lr,
    )
    at = restoration_steps(np.asarray(aged.rms) ** 2, setup.width, moves)
    return at * setup.embedding_lr


def lifetime_batch(data: xr.Dataset, variant: str) -> Evidence:
    """Measured over derived eta_E t_c in mini-batch, where a token ages at its visits only.

    With q the chance that a batch holds the token, Adam moves a visited token q^(-1/2) times as
    far as sign descent does.
    """
    setup = variant_setup(variant)
    samples, end = _variant_end(data, variant)
    move_per_visit = (
        visit_chance(setup.law(), setup.batch_size) ** -0.5 if "adam" in variant else 1.0
    )
    derived = _derived_batch_end(setup) / move_per_visit
    solved = _solved(data, variant)
    simulated = end(solved) / derived if len(solved) else None
    measured = bootstrap(lambda chosen, axis: np.asarray(end(chosen, axis) / derived), (samples,))
    return Evidence(predicted=1.0, simulated=simulated, measured=measured)


def zipf_age(data: xr.Dataset, *, ageing: bool = True) -> Evidence:
    """Deviation of Zipf tokens' curve from the derived one.

    Without `ageing`, as a control, from the first step's value at all steps.
    """
    names = ("zipf:0.7",)
    setups = [variant_setup(name) for name in names]
    derived = [
        np.asarray(aged_update(one.width, one.law(), _moves(one, one.steps)).rms) ** 2
        for one in setups
    ]
    if not ageing:
        derived = [np.full_like(curve, curve[0]) for curve in derived]
    theory = [_solved(data, name) for name in names]
    simulated = _deviation(theory, derived).value if all(map(len, theory)) else None
    samples = [_seeds(data.mean_square.sel(variant=name)) for name in names]
    return Evidence(predicted=0.0, simulated=simulated, measured=_deviation(samples, derived))


# Entering the LV regime while the head of a Zipf law is learned


def least_updates(data: xr.Dataset, embedding_lr: float) -> list[Floats]:
    """Seeds' mean squares at the step where their mean is least, width by width."""
    samples = []
    for width in data.width.values:
        cell = _seeds(data.mean_square.sel(embedding_lr=embedding_lr, width=width))
        samples.append(cell[int(np.argmin(cell.mean(axis=-1)))])
    return samples


def entry_exponent(data: xr.Dataset) -> Evidence:
    """Exponent in d of the least update that a width's steps have while the head is learned.

    Both layers are trained. Each width at its own step, since wider networks take more steps to
    learn the head.
    """
    rate = float(data.embedding_lr.max())
    widths = data.width.to_numpy()
    theory = data.mean_field.sel(embedding_lr=rate).min("step").to_numpy()
    solved = np.all(np.isfinite(theory))
    simulated = float(log_slope(np.log(widths), 0.5 * np.log(theory))) if solved else None
    measured = fit_exponent(widths, least_updates(data, rate), power=0.5)
    return Evidence.of_fit(measured, predicted=1.0, simulated=simulated)


def entry_share(data: xr.Dataset, *, frozen: bool) -> Evidence:
    """Coherent share of the mean square of the least update, the largest over widths.

    The incoherent part is d (1 + theta^2) with the displacement theta at that step. The LV regime
    is where the share is below 1/2: predicted is the middle of 0 and 1/2.
    """
    rate = float(data.embedding_lr.min() if frozen else data.embedding_lr.max())
    widths = data.width.to_numpy()

    def incoherent(curve: Floats, width: int) -> float:
        return width * (1 + (rate * int(np.argmin(curve))) ** 2)

    curves = [_seeds(data.mean_square.sel(embedding_lr=rate, width=d)) for d in widths]
    noise = [incoherent(c.mean(axis=-1), d) for c, d in zip(curves, widths, strict=True)]

    def share(*least: Floats, axis: int = -1) -> Any:
        return np.max([1 - n / np.mean(s, axis=axis) for n, s in zip(noise, least, strict=True)])

    theory = data.mean_field.sel(embedding_lr=rate)
    solved = [theory.sel(width=d).to_numpy() for d in widths]
    simulated = max(1 - incoherent(c, d) / c.min() for c, d in zip(solved, widths, strict=True))
    return Evidence(
        predicted=0.25,
        simulated=float(simulated),
        measured=bootstrap(share, least_updates(data, rate)),
    )
