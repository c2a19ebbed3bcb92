"""Quantities of trained networks, one cell of seeds for each setup of a family."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import InputError
from dynsim._runs import SEED_LABELS, seed_labels

from ._quantity import AnySetup, Measurement, Progress, Quantity, Sampled, Unavailable

Arrays = Mapping[str, NDArray[Any]]
Measure = Callable[[Measurement, AnySetup, NDArray[np.int64]], Arrays]
"""What gives a cell's arrays: by training, or from where they are kept. Called from threads."""

# Compilation dominates small cells and leaves a core idle; two at a time share the cores.
SIDE_BY_SIDE = 2


def measured_cells(
    quantity: Quantity,
    setups: Sequence[AnySetup],
    seeds: int | ArrayLike,
    *,
    measure: Measure | None = None,
    progress: Progress = lambda part: None,
) -> list[Sampled]:
    """The quantity's samples at every setup: `seeds` networks each (a count or their labels).

    Setups of equal sizes, which differ in batches, steps or rates, have networks of their own: see
    `own_labels`.

    - `measure`: gives a cell's arrays in place of training it here: from a store, say. It is
      called as `measure(measurement, setup, labels)`, from two threads.
    - `progress`: called with the fraction of work finished since the last call.

    Raises `Unavailable` for a quantity that is not measured, and as training does.

    **Example:**

    >>> from dynsim.scaling import QUANTITIES, family, measured_cells
    >>> setups = family("width", [8, 16], vocab_size=4, optimizer="sign").setups()
    >>> cells = measured_cells(QUANTITIES["projection_step_rms"], setups, seeds=2)
    >>> [cell.samples.shape for cell in cells]
    [(2,), (2,)]
    """
    with started(quantity, setups, seeds, measure=measure, progress=progress) as cells:
        return [cell.result() for cell in cells]


@contextmanager
def started(
    quantity: Quantity,
    setups: Sequence[AnySetup],
    seeds: int | ArrayLike,
    *,
    measure: Measure | None = None,
    progress: Progress = lambda part: None,
) -> Iterator[list[Future[Sampled]]]:
    """The cells of `measured_cells`, in the making: largest first, two at a time.

    After an interruption or a failure inside the block it does not wait for those that run.
    """
    measurement = quantity.measurement
    if measurement is None:
        raise Unavailable("it is not measured")
    labels = own_labels(setups, seed_labels(seeds))
    work = np.array([cost(setup) for setup in setups])
    shares = work / max(work.sum(), 1.0)
    lock = threading.Lock()

    def report(part: float) -> None:
        with lock:
            progress(part)

    def cell(number: int) -> Sampled:
        setup, share = setups[number], shares[number]
        if measure is None:
            arrays = measurement.run(setup, labels[number], lambda part: report(part * share))
        else:
            arrays = measure(measurement, setup, labels[number])
            report(share)
        return quantity.sampled(setup, arrays)

    pool = ThreadPoolExecutor(max_workers=SIDE_BY_SIDE)
    try:
        largest_first = sorted(range(len(setups)), key=lambda number: -work[number])
        futures = {number: pool.submit(cell, number) for number in largest_first}
        yield [futures[number] for number in range(len(setups))]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def own_labels(setups: Sequence[AnySetup], labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Labels of the networks at every setup, so that no two setups share initial weights.

    Initial weights depend on seed, width, vocabulary, outputs and label. The first setup of such
    sizes has the labels themselves, the next one those that follow them, and so on. (An interval
    that resamples the seeds of every setup by itself takes them as independent.)

    Raises `InputError` for labels that leave the allowed range in this way.
    """
    before: Counter[tuple[int, ...]] = Counter()
    found = []
    for setup in setups:
        sizes = (setup.seed, setup.width, setup.vocab_size, setup.output_count)
        found.append(labels + before[sizes] * (int(labels.max()) + 1))
        before[sizes] += 1
    if max(int(one.max()) for one in found) >= SEED_LABELS:
        allowed = f"must be below 2^32/{max(before.values())}, for setups of equal sizes"
        raise InputError("seeds", int(labels.max()), allowed)
    return found


def cost(setup: AnySetup) -> float:
    """Multiplications of one network's training, up to a factor."""
    tokens = setup.vocab_size + setup.batch_size
    depth = getattr(setup, "depth", 0) * setup.width
    return float(setup.steps) * tokens * setup.width * (setup.output_count + depth)
