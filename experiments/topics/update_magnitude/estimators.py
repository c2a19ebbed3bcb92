"""Evidence about the update magnitude in linear networks, residual MLPs and transformers.

For uniform tokens the squared alignments of a neuron's gradient with all tokens sum to one,
whatever residuals reach the matrix and whichever of the tokens a batch holds. Averaged over tokens
they are 1/m, so the linear model's first-step formula holds for any network above.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

import derivations
from derivations import symbols as s
from dynsim import bootstrap, fit_exponent
from dynsim.claims import Evidence
from dynsim.statistics import collapse_spread, log_slope
from dynsim.theory._first_step import first_step_at

NETWORKS = ("linear", "mlp", "transformer")
NAMES = {"linear": "linear network", "mlp": "MLP", "transformer": "transformer"}

Floats = NDArray[np.float64]
Size = tuple[int, int]


def magnitude_cells(data: xr.Dataset, network: str, optimizer: str = "sign") -> list[Size]:
    """(width, vocab_size) of every cell that was measured."""
    rows = data.mean_square.sel(network=network, optimizer=optimizer).isel(seed=0)
    present = rows.notnull().any(["embedding_lr", "quantity", "step"])
    return [
        (int(d), int(m))
        for d in data.width.values
        for m in data.vocab_size.values
        if bool(present.sel(width=d, vocab_size=m))
    ]


def magnitudes(
    data: xr.Dataset,
    network: str,
    size: Size,
    *,
    optimizer: str = "sign",
    step: int = 1,
    frozen: bool = True,
) -> Floats:
    """Mean square of (W_t - W_0) z_t over that of an entry of W_t - W_0, seed by seed.

    At step 1 the entries are the learning rate, and
    with `frozen` the embedding stays, so that z_t = z_0.
    """
    rate = float(data.embedding_lr.min() if frozen else data.embedding_lr.max())
    cell = data.mean_square.sel(
        network=network,
        optimizer=optimizer,
        width=size[0],
        vocab_size=size[1],
        step=step,
        embedding_lr=rate,
    )
    return (cell.sel(quantity="update") / cell.sel(quantity="weight_update")).to_numpy()


def derived_rms(width: ArrayLike, vocab_size: ArrayLike) -> Floats:
    """The first step's RMS at LR = 1 under uniform tokens, from the compiled moments."""
    sizes, types = (np.asarray(size, dtype=np.float64) for size in (width, vocab_size))
    sums = {s.frequency_square_sum: 1 / types, s.frequency_cube_sum: 1 / types**2}
    return np.asarray(first_step_at({s.width: sizes, **sums}, "hidden", "sign")[1])


def _asymptotic(vocab_exponent: float) -> float:
    exponent = derivations.exponent("hidden", "sign")
    return float(exponent.subs({s.zipf_exponent: 0, s.vocab_exponent: vocab_exponent}))


def _small(data: xr.Dataset, network: str) -> list[Size]:
    smallest = int(data.vocab_size.min())
    return [(d, m) for d, m in magnitude_cells(data, network) if m == smallest and d >= 8 * m]


def large_cells(data: xr.Dataset, network: str) -> list[Size]:
    """Cells deep in the LV regime, at the largest vocabulary."""
    largest = int(data.vocab_size.max())
    return [(d, m) for d, m in magnitude_cells(data, network) if m == largest and m >= 16 * d]


def _exponent(
    data: xr.Dataset,
    network: str,
    cells: Sequence[Size],
    predicted: float,
    *,
    step: int = 1,
    frozen: bool = True,
) -> Evidence:
    sizes = np.array([d for d, _ in cells], float)
    samples = [magnitudes(data, network, cell, step=step, frozen=frozen) for cell in cells]
    measured = fit_exponent(sizes, samples, power=0.5)
    simulated = None
    if step == 1:
        simulated = float(log_slope(np.log(sizes), np.log(derived_rms(*np.transpose(cells)))))
    return Evidence.of_fit(measured, predicted=predicted, simulated=simulated)


def small_vocabulary(data: xr.Dataset, network: str) -> Evidence:
    return _exponent(data, network, _small(data, network), _asymptotic(0))


def large_vocabulary(data: xr.Dataset, network: str) -> Evidence:
    return _exponent(data, network, large_cells(data, network), _asymptotic(2))


def restored(
    data: xr.Dataset, network: str, *, frozen: bool = False, halfway: bool = False
) -> Evidence:
    """Exponent at the last step at m >> d; as a control, with a frozen embedding.

    `halfway`: predicted is the middle of what is more than half of the way to a small vocabulary's.
    """
    last = int(data.step.max())
    cells = large_cells(data, network)
    small, large = _asymptotic(0), _asymptotic(2)
    predicted = (3 * small + large) / 4 if halfway else small
    return _exponent(data, network, cells, predicted, step=last, frozen=frozen)


def formula(
    data: xr.Dataset, network: str, *, optimizer: str = "sign", coherent: bool = True
) -> Evidence:
    """Measured over derived RMS of the first step, geometric mean over cells.

    As a control, without `coherent` over the RMS of a random sum, sqrt(d).
    """
    cells = magnitude_cells(data, network, optimizer)
    samples = [magnitudes(data, network, cell, optimizer=optimizer) for cell in cells]
    widths, vocab_sizes = np.transpose(cells)
    reference = derived_rms(widths, vocab_sizes) if coherent else widths**0.5

    def log_ratios(*values: Floats, axis: int = -1) -> Floats:
        rms = np.sqrt([np.mean(value, axis=axis) for value in values])
        return np.log(rms / reference)

    return Evidence.of_ratio(log_ratios, samples, [width for width, _ in cells])


def collapse(data: xr.Dataset, *, by_product: bool = False) -> Evidence:
    """Spread of RMS / sqrt(d) of all networks around one curve of d/m (as a control: of d m)."""
    cells = [(network, cell) for network in NETWORKS for cell in magnitude_cells(data, network)]
    d, m = np.array([cell for _, cell in cells], float).T
    scaled = d * m if by_product else d / m
    samples = [magnitudes(data, network, cell) for network, cell in cells]

    def spread(*values: Floats, axis: int = -1) -> Floats:
        rms = np.sqrt([np.mean(value, axis=axis) for value in values])
        return np.asarray(collapse_spread(scaled, rms / np.sqrt(d), degree=5))

    theory = derived_rms(*np.transpose([cell for _, cell in cells]))
    simulated = collapse_spread(scaled, theory / np.sqrt(d), degree=5)
    return Evidence(predicted=0.0, simulated=simulated, measured=bootstrap(spread, samples))
