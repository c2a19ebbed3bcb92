"""All routes to one setup's dynamics, side by side, and where they part."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from dynsim._errors import InputError, check_integer
from dynsim._network_setup import NetworkSetup
from dynsim._outcome import Status
from dynsim._precision import require_x64
from dynsim._runs import seed_labels
from dynsim._setup import Setup, check_covered

from . import _routes
from ._result import NETWORKS, ROUTES, Comparison, Curves, Floats, Parting, quantities_of

RESOLUTION = 1e-6  # of the largest value on the way: less is rounding, and the solver's tolerance


def compare(
    setup: Setup | NetworkSetup,
    seeds: int | ArrayLike = 8,
    *,
    particles: int | None = None,
    replicas: int | None = None,
    progress: Callable[[float], object] | None = None,
) -> Comparison:
    """Follows one setup by every route that covers it, and says where two routes part.

    A setup is the linear model or an mlp with a readout of its own. Networks are trained (in
    float64), the mean-field equations solved, the flow and the dynamics linearised about the
    initial weights followed from each of the same networks. A flow is compared at time t = step: in
    units of steps dE/dt = -eta_E dL/dE, so that it is what descent becomes for small learning rates
    (docs/theory/gradient_flow.md#flow-equations). It exists for sgd and smoothed-sign alone, with
    hidden layers for sgd and linear ones, and one that is too stiff is not followed; what a route
    does not cover is in `missing`.

    Two routes part at the first step at which they differ by more than the networks' 95 % band
    (half its width) plus both numerical errors. The band holds at each step by itself: of T steps
    one in twenty can lie outside by chance. `Parting.steps` tells chance from a parting.

    **Arguments:**

    - `seeds`: a count of at least 2, or labels, as in `train`.
    - `particles`, `replicas`: of the mean-field solver, as in `predict`.
    - `progress`: called with the fraction of work finished since the last call.

    Raises `InputError` for other networks, fewer than two steps or seeds, and
    what `train` raises or `predict` for its `particles`; `RuntimeError` if JAX's 64-bit types are
    off.

    **Example:**

    >>> from dynsim import Setup, compare
    >>> setup = Setup(width=16, vocab_size=32, batch_size=8, optimizer="sign", steps=2)
    >>> found = compare(setup, seeds=2, particles=64, replicas=2)
    >>> sorted(found.curves), sorted(found.missing)  # a batch has no flow
    (['mean field', 'networks'], ['flow', 'linearised'])
    """
    require_x64()
    check_compared(setup)
    check_integer("steps", setup.steps, 2)
    labels = seed_labels(seeds)
    if len(labels) < 2:
        raise InputError("seeds", len(labels), "must be at least 2: the band is over seeds")
    curves: dict[str, Curves] = {}
    missing: dict[str, str] = {}

    reported: list[float] = []

    def report(share: float) -> None:
        reported.append(share)
        if progress is not None:
            progress(share / len(ROUTES))

    follow = (
        _routes.networks,
        partial(_routes.mean_field, particles=particles, replicas=replicas),
        _routes.flow,
        _routes.linearised,
    )
    for name, route in zip(ROUTES, follow, strict=True):
        before = len(reported)
        try:
            curves[name] = route(setup, labels, report)
        except (InputError, _routes.NoCurve) as error:
            numbers = getattr(error, "field", None) in ("particles", "replicas")
            if name == NETWORKS or numbers:
                raise
            missing[name] = _routes.why_not(error)
            report(1.0 - sum(reported[before:]))
    partings = tuple(
        _parting(curves, row, quantity, first, second)
        for row, quantity in enumerate(quantities_of(setup))
        for first, second in itertools.combinations(curves, 2)
    )
    return Comparison(setup, labels, curves, missing, partings)


def check_compared(setup: object) -> None:
    """Raises `InputError` unless the setup's networks can be compared."""
    if isinstance(setup, NetworkSetup) and setup.network != "linear":
        if setup.network != "mlp":
            allowed = "must be linear or mlp in a comparison"
            raise InputError("network", setup.network, allowed)
        if setup.tied:
            raise InputError("tied", setup.tied, "must be false in a comparison")
        return
    check_covered(setup, "the comparison")


def _parting(
    curves: dict[str, Curves], row: int, quantity: str, first: str, second: str
) -> Parting:
    one, other, band = (curves[name] for name in (first, second, NETWORKS))
    left, right = one.value[row], other.value[row]
    allowed = _half_width(band, row)
    for name in {first, second} - {NETWORKS}:
        allowed = allowed + _half_width(curves[name], row)
    both = np.isfinite(left) & np.isfinite(right)
    with np.errstate(all="ignore"):
        rounding = RESOLUTION * max(_largest(left), _largest(right))
        apart = both & (np.abs(right - left) > np.nan_to_num(allowed) + rounding)
    # Where one has diverged and the other has not, they are as far apart as can be; a solver that
    # stopped early says nothing about later steps.
    for here, there in ((one, other), (other, one)):
        if here.outcome.status is Status.DIVERGED:
            apart |= ~np.isfinite(here.value[row]) & np.isfinite(there.value[row])
    last = int(np.flatnonzero(both)[-1]) if both.any() else 0
    difference = float(right[last] - left[last])
    relative = difference / float(left[last]) if left[last] else math.nan
    first_step = int(np.argmax(apart)) if apart.any() else None
    count = int(apart.sum())
    return Parting(quantity, first, second, first_step, count, len(left), difference, relative)


def _largest(values: Floats) -> float:
    return float(np.max(np.abs(values[np.isfinite(values)]), initial=0.0))


def _half_width(curves: Curves, row: int) -> Floats:
    with np.errstate(invalid="ignore"):
        return (curves.high[row] - curves.low[row]) / 2
