"""Evidence about the duration of the LV regime: when learned embeddings restore alignment.

theta = eta_E t / sigma_E is an embedding's displacement after t steps in units of its initial
entries, tau = theta sqrt(m/n) the age; theta_c and t_c belong to the end of the LV regime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import (
    Estimate,
    aged_update,
    bootstrap,
    fit_exponent,
    token_law,
)
from dynsim.claims import Evidence
from dynsim.statistics import first_passage, log_slope
from experiments.results import study_config

from .study import zipf_setup

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


def restoration_steps(mean_square: Floats, width: float, moves: Floats) -> Floats:
    """The step, interpolated, at which coherent and incoherent power are equal.

    mean_square = d (1 + theta^2 + ratio) at every step, shape (steps, ...), theta the `moves`,
    shape (steps,). NaN where the ratio does not pass 1, and where it starts above.
    """
    noise = 1 + moves**2
    return first_passage((mean_square.T / width - noise).T, 1.0)


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


def zipf_age(data: xr.Dataset, *, ageing: bool = True) -> Evidence:
    """Deviation of Zipf tokens' curve from the derived one.

    Without `ageing`, as a control, from the first step's value at all steps.
    """
    (width,) = (int(one) for one in data.width.values)
    setup = zipf_setup(width)
    moves = setup.embedding_lr * np.arange(setup.steps, dtype=np.float64)
    derived = np.asarray(aged_update(width, setup.law(), moves).rms) ** 2
    if not ageing:
        derived = np.full_like(derived, derived[0])
    solved = data.mean_field.sel(width=width).to_numpy()[:, None]
    samples = _seeds(data.mean_square.sel(width=width))
    return Evidence(
        predicted=0.0,
        simulated=_deviation([solved], [derived]).value,
        measured=_deviation([samples], [derived]),
    )


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

    Mean squares are measured; the incoherent part, which the study does not record, is put at
    d (1 + theta^2) with the displacement theta = eta_E t at that step. Under sign it is the mean
    of |e_i|^2: with a frozen embedding (theta = 0) that is d up to the draw of the embedding, and
    with a trained one no entry has moved by more than theta. The value for a trained embedding is
    thus about the least that the coherent share can be. The LV regime is where the share is below
    1/2: predicted is the middle of 0 and 1/2.
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
