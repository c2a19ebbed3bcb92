"""Powers of width and vocabulary in optimal learning rates, from one `LossSurface` a size.

An exponent is the slope of the log optimum over log size. Its interval resamples the seeds of every
surface and repeats mean, optimum and slope.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from dynsim._outcome import Status
from dynsim._summary import summary

from ._exponents import ExponentFit, compatible_slopes, fit_exponent, log_slope, median_slope
from ._intervals import Estimate, Resamples, interval_text
from ._loss_surface import (
    LossSurface,
    TunedRate,
    is_determined,
    log_optimum,
    rate_limits,
    surface_optimum,
)
from ._optimum import EXCESS, Optimum
from ._parabola import WEIGHT_SCALE


@dataclass(frozen=True, repr=False)
class RateExponent(ExponentFit):
    """Exponent x of an optimal *base* learning rate (or ratio) ~ size^x.

    - `value`, [`low`, `high`], `drift`, `last`: as `ExponentFit`; with one seed the interval is NaN
      and `last` None.
    - `status`: `ok`; `flat`: at least one optimum in the fit is flat; `edge`: fewer than two
      optima are determined within their grids, no fit; `undetermined`: fewer than two sizes.
    - `theil_sen`: median of all pairs' slopes; equal to `value` up to noise unless single sizes
      carry the fit.
    - `narrow_fit_drift`: the exponent with the quadratic form fitted to half the excess loss, minus
      `value`: how much the asymmetry of the losses matters, which the interval over seeds does not
      hold.
    - `without_smallest`: the exponent without the 1, 2, ... smallest sizes, while two are left.
    - `compatible_low`, `compatible_high`: every slope between is that of a line through all
      near-optimal intervals, and no other slope is; NaN if there is no such line.
    - `rule`: exponent of the parametrization's own factor; the actual learning rate has x + rule.
    - `used`, `flat`, `excluded`: optima in the fit, the flat ones among them, and those left out.
    """

    status: Status = Status.OK
    theil_sen: float = math.nan
    narrow_fit_drift: float = math.nan
    without_smallest: tuple[float, ...] = ()
    compatible_low: float = math.nan
    compatible_high: float = math.nan
    rule: float = 0.0
    used: int = 0
    flat: int = 0
    excluded: int = 0

    def __repr__(self) -> str:
        return summary(
            "RateExponent",
            exponent=interval_text(self),
            actual=interval_text(self.actual),
            compatible=f"[{self.compatible_low:.3g}, {self.compatible_high:.3g}]",
            theil_sen=self.theil_sen,
            drift=self.drift,
            last_slope="none" if self.last is None else interval_text(self.last),
            narrow_fit_drift=self.narrow_fit_drift,
            optima=f"{self.used} used ({self.flat} flat), {self.excluded} left out",
            status=self.status,
        )

    @property
    def actual(self) -> ExponentFit:
        """Exponent of the actual learning rate, base LR times the parametrization's factor.

        The factor is a power of the size, which shifts every slope by the same.
        """
        base, last = self._actual(self), self.last and self._actual(self.last)
        return ExponentFit(base.value, base.low, base.high, self.drift, last)

    def _actual(self, base: Estimate) -> Estimate:
        return Estimate(base.value + self.rule, base.low + self.rule, base.high + self.rule)


def rate_exponent(
    sizes: ArrayLike,
    surfaces: Sequence[LossSurface],
    rate: TunedRate,
    *,
    factors: ArrayLike = 1.0,
    excess: float = EXCESS,
    resamples: int = Resamples.PRECISE,
    by_jackknife: bool = False,
) -> RateExponent:
    """Exponent x of an optimal base learning rate ~ size^x, from one surface each size.

    **Arguments:**

    - `sizes`: widths or vocabulary sizes, increasing, shape (K,); `surfaces`: K of them, on one
      grid.
    - `rate`: as in `surface_optimum`. Only optima within their grid enter the fit.
    - `factors`: what the parametrization multiplies the base rate with at each size.
    - `by_jackknife`: intervals are those of `jackknife`, not of `bootstrap`.

    Raises `ValueError` for other sizes, and what `surface_optimum` raises.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import LossSurface, rate_exponent
    >>> rates = np.geomspace(1e-3, 1, 13)
    >>> def surface(width):  # the best hidden learning rate is 1.28 / width
    ...     x, y = np.meshgrid(np.log(rates / 0.1), np.log(rates * width / 1.28), indexing="ij")
    ...     loss = np.repeat((1 + 0.1 * (x**2 + y**2))[..., None], 2, axis=-1)
    ...     return LossSurface(rates, rates, loss, initial_loss=np.full(2, 5.0))
    ...
    >>> widths = [16, 32, 64]
    >>> found = rate_exponent(widths, [surface(width) for width in widths], "hidden")
    >>> round(found.value, 2)
    -1.0
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    if len(sizes) != len(surfaces) or np.any(np.diff(sizes) <= 0):
        raise ValueError("sizes must increase, one for each surface")
    log_factors = np.log(np.broadcast_to(np.asarray(factors, dtype=np.float64), sizes.shape))
    optima = [surface_optimum(surface, rate, excess=excess) for surface in surfaces]
    kept = [k for k, optimum in enumerate(optima) if is_determined(optimum)]
    flat = sum(optima[k].status is Status.FLAT for k in kept)
    counted = RateExponent(
        math.nan, math.nan, math.nan, used=len(kept), flat=flat, excluded=len(sizes) - len(kept)
    )
    if len(kept) < 2:
        return replace(counted, status=Status.UNDETERMINED if len(sizes) < 2 else Status.EDGE)
    log_size = np.log(sizes[kept])
    log_value = log_optimum(surfaces[kept[0]], rate)
    samples = [surfaces[k].change for k in kept]
    fit = fit_exponent(
        sizes[kept],
        samples,
        log_value=log_value,
        resamples=resamples,
        by_jackknife=by_jackknife,
    )
    values = np.log([optima[k].value for k in kept])
    log_narrow = log_optimum(surfaces[kept[0]], rate, WEIGHT_SCALE / 2)
    narrower = np.array([log_narrow(sample) for sample in samples])
    compatible = compatible_slopes(
        log_size, *np.transpose([_known_ends(surfaces[k], rate, optima[k]) for k in kept])
    )
    one_seed = min(sample.shape[-1] for sample in samples) < 2
    return replace(
        counted,
        value=fit.value,
        low=math.nan if one_seed else fit.low,
        high=math.nan if one_seed else fit.high,
        drift=fit.drift,
        last=None if one_seed else fit.last,
        status=Status.FLAT if flat else Status.OK,
        theil_sen=median_slope(log_size, values),
        narrow_fit_drift=float(log_slope(log_size, narrower) - fit.value),
        without_smallest=tuple(
            float(log_slope(log_size[k:], values[k:])) for k in range(1, len(kept) - 1)
        ),
        compatible_low=compatible[0],
        compatible_high=compatible[1],
        rule=float(log_slope(log_size, log_factors[kept])),
    )


def _known_ends(surface: LossSurface, rate: TunedRate, optimum: Optimum) -> tuple[float, float]:
    """ln of the near-optimal interval; an end at the grid's end is not known, and infinite."""
    least, most = rate_limits(surface, rate)
    low = math.log(optimum.low) if optimum.low > least * (1 + 1e-9) else -math.inf
    return low, math.log(optimum.high) if optimum.high < most * (1 - 1e-9) else math.inf
