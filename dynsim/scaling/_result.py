"""What an exponent along a path comes down to: the columns side by side, and the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynsim.claims import Evidence, Verdict, judged
from dynsim.statistics import Estimate, ExponentFit

from ._columns import Curve, slope, slope_with_error
from ._family import Family
from ._fitted import Fitted
from ._quantity import Asymptotic, Floats, Quantity, Value


@dataclass(frozen=True)
class Band:
    """A predicted power and its tolerance."""

    predicted: float
    tolerance: float


@dataclass(frozen=True, eq=False, repr=False)
class ScalingExponent:
    """The power of a growing size in a quantity, by every route there is; None where one is
    missing, and `why` says the reason.

    **Fields:**

    - `quantity`: what was asked for; `family`: the setups; `seeds`: labels of the networks.
    - `asymptotic`: the derived power, with its derivation.
    - `curve`: the theory's values at the measured sizes; `wide`: at sizes up to a million.
    - `networks`: values, intervals, diverged networks and local slopes of trained networks.
    - `why`: the reason for each of asymptotic, derived, mean_field, measured, wide and verdict
      that is missing.
    - `band`: what was predicted, None without a prediction.
    """

    quantity: Quantity
    family: Family
    seeds: NDArray[np.int64]
    asymptotic: Asymptotic | None
    curve: Curve
    wide: Curve
    networks: Fitted | None
    why: dict[str, str]
    band: Band | None = None

    @property
    def derived(self) -> float | None:
        """The slope of the derived formula, least squares over the measured sizes."""
        return slope(self.curve.sizes, self.curve.derived)

    @property
    def mean_field(self) -> Value | None:
        """The slope of the mean-field solution over the same sizes, and its error."""
        return slope_with_error(
            self.curve.sizes, self.curve.mean_field, self.curve.mean_field_error
        )

    @property
    def measured(self) -> ExponentFit | None:
        """The slope of trained networks with its 95 % interval."""
        return None if self.networks is None else self.networks.fit

    @property
    def drift(self) -> float | None:
        """The measured slope without the smallest size minus that with all; None below three."""
        fit = self.measured
        return None if fit is None or math.isnan(fit.drift) else fit.drift

    @property
    def last(self) -> Estimate | None:
        """The measured slope between the two largest sizes, with its interval."""
        if self.measured is None or self.networks is None:
            return None
        return self.measured.last or self.networks.local[-1]

    @property
    def verdict(self) -> Verdict | None:
        """By the rule of the claims; None without a prediction or a measurement."""
        if self.band is None or self.measured is None or self.networks is None:
            return None
        if not self.networks.used.all():
            return "undecided"
        simulated = self.derived
        if simulated is None and self.mean_field is not None:
            simulated = self.mean_field.value
        evidence = Evidence.of_fit(
            self.measured, predicted=self.band.predicted, simulated=simulated
        )
        return judged(evidence, self.band.tolerance)

    @property
    def rounded(self) -> tuple[str, ...]:
        """One sentence for each size along the path that was rounded to an integer."""
        return self.family.rounded

    @property
    def diverged(self) -> NDArray[np.int64]:
        """Networks that are not finite at each size, shape (K,)."""
        if self.networks is None:
            return np.zeros(len(self.curve.sizes), dtype=np.int64)
        return self.networks.diverged

    @property
    def values(self) -> dict[str, Floats]:
        """The quantity at the measured sizes, by column, shape (K,) each; NaN where missing."""
        missing = np.full(len(self.curve.sizes), np.nan)
        found = self.networks
        return {
            "derived": self.curve.derived,
            "mean_field": self.curve.mean_field,
            "mean_field_error": self.curve.mean_field_error,
            "measured": missing if found is None else found.values,
            "measured_low": missing if found is None else found.low,
            "measured_high": missing if found is None else found.high,
        }
