"""What an exponent along a path comes down to: the columns side by side, and the verdict."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dynsim._names import attributes
from dynsim._results import Declared, Result
from dynsim._summary import NINETY_FIVE, summary
from dynsim.statistics import Estimate, ExponentFit
from dynsim.statistics._intervals import interval_text
from dynsim.statistics._verdict import Evidence, Verdict, doubts, judged, seeds_enough

from ._budget import Plan
from ._columns import Curve, Local, joined, local_slopes, slope, slope_with_error
from ._epsilon import large_against
from ._family import Family
from ._fitted import Fitted, no_interval
from ._limit import derivation_text
from ._paths import growth
from ._quantity import Asymptotic, Floats, Quantity, Value
from ._resolution import LETTERS

if TYPE_CHECKING:
    import xarray as xr


DEFAULT_TOLERANCE = 0.05
NEAR_LIMIT = 0.01  # difference of a local exponent from its limit that counts as none


@dataclass(frozen=True)
class Band:
    """A predicted power and its tolerance."""

    predicted: float
    tolerance: float


@dataclass(frozen=True, eq=False, repr=False)
class ScalingExponent(Result):
    """The power of a growing size in a quantity, by every route there is; None where one is
    missing, and `why` says the reason.

    **Fields:**

    - `quantity`: what was asked for; `family`: the setups.
    - `seeds`: labels of the networks. (Sizes that are equal but for batches or steps have networks
      of their own, whose labels follow these.)
    - `asymptotic`: the derived power, with its derivation.
    - `curve`: the theory's values at the measured sizes; `wide`: at sizes up to a million.
    - `networks`: values, intervals, diverged networks and local slopes of trained networks.
    - `why`: the reason for each of asymptotic, derived, mean_field, measured and verdict that is
      missing, and for `wide` (sizes), wide_derived and wide_mean_field that end early.
    - `band`: what was predicted, None without a prediction.
    - `plan`: what the budget allowed, None without a budget.
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
    plan: Plan | None = None

    arrays: ClassVar[Declared] = {
        "measured": ("size", lambda result: result.values["measured"]),
        "measured_low": ("size", lambda result: result.values["measured_low"]),
        "measured_high": ("size", lambda result: result.values["measured_high"]),
        "derived": ("size", lambda result: result.curve.derived),
        "mean_field": ("size", lambda result: result.curve.mean_field),
        "mean_field_error": ("size", lambda result: result.curve.mean_field_error),
        "diverged_networks": ("size", "diverged"),
        "size": ("size", lambda result: result.curve.sizes),
        "samples": ("size seed", "samples"),
        "seed": ("seed", "seeds"),
        "wide_derived": ("wide_size", lambda result: result.wide.derived),
        "wide_mean_field": ("wide_size", lambda result: result.wide.mean_field),
        "wide_mean_field_error": ("wide_size", lambda result: result.wide.mean_field_error),
        "wide_size": ("wide_size", lambda result: result.wide.sizes),
        "local_derived": ("local_size", lambda result: result.local.derived),
        "local_mean_field": ("local_size", lambda result: result.local.mean_field),
        "local_mean_field_error": ("local_size", lambda result: result.local.mean_field_error),
        "local_size": ("local_size", lambda result: result.local.sizes),
        "octave_measured": ("octave_size", lambda result: result.octaves[1]),
        "octave_measured_low": ("octave_size", lambda result: result.octaves[2]),
        "octave_measured_high": ("octave_size", lambda result: result.octaves[3]),
        "octave_size": ("octave_size", lambda result: result.octaves[0]),
    }

    @property
    def derived(self) -> float | None:
        """The slope of the derived formula, least squares over the measured sizes; None unless it
        has a value at each of them."""
        return slope(self.curve.sizes, self.curve.derived)

    @property
    def mean_field(self) -> Value | None:
        """The slope of the mean-field solution over the same sizes, and its standard error."""
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
        if not self.has_interval:
            return None
        if not self.networks.used.all():
            return "undecided"  # no power law along all sizes that were asked for
        return judged(self._evidence(self.band, self.measured), self.band.tolerance)

    def seeds_enough(self, predicted: float, tolerance: float) -> int | None:
        """Networks at each size whose interval would lie in this band, were the value to stay; None
        where the interval lies there already, and where more networks would not bring it there."""
        if self.measured is None or self.networks is None or not self.networks.used.all():
            return None
        evidence = self._evidence(Band(predicted, tolerance), self.measured)
        return seeds_enough(evidence, tolerance, len(self.seeds))

    def _evidence(self, band: Band, measured: ExponentFit) -> Evidence:
        theory = self.simulated
        simulated = None if theory is None else theory.value
        return Evidence.of_fit(measured, predicted=band.predicted, simulated=simulated)

    @property
    def derivation(self) -> str | None:
        """The derivation of the asymptotic power, with the path put in and the limit line by line;
        None where no power is derived."""
        if self.asymptotic is None:
            return None
        return derivation_text(self.asymptotic, self.family, self.quantity.name)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What leaves the prediction undecided, one clause each."""
        if self.verdict != "undecided" or self.networks is None:
            return ()
        assert self.band is not None
        assert self.measured is not None
        if not self.networks.used.all():
            return ("the networks have no finite value at some of the sizes",)
        return tuple(doubts(self._evidence(self.band, self.measured), self.band.tolerance))

    @property
    def no_power_law(self) -> str | None:
        """One line where the measured local slopes run away; None where they do not.

        They do if the slopes between the two smallest and the two largest sizes differ by more than
        the band is wide (0.1 without a prediction), and their 95 % intervals have no point in
        common; never where a prediction holds. Of theory alone it is the derived slopes at these
        sizes, or the mean-field ones.
        """
        if self.verdict == "holds":
            return None
        _, values, lows, highs = self.octaves
        if not len(values):
            local = next(
                (
                    slopes[: len(self.curve.sizes) - 1]
                    for slopes in (self.local.derived, self.local.mean_field)
                    if np.isfinite(slopes[: len(self.curve.sizes) - 1]).all()
                ),
                np.empty(0),
            )
            values = lows = highs = local
        if len(values) < 2:
            return None
        tolerance = DEFAULT_TOLERANCE if self.band is None else self.band.tolerance
        apart = lows[0] > highs[-1] or highs[0] < lows[-1]
        if not apart or abs(values[-1] - values[0]) <= 2 * tolerance:
            return None
        run = f"from {power(values[0])} to {power(values[-1])}"
        return f"no power law at these sizes: local slope runs {run}"

    @property
    def far_from_limit(self) -> str | None:
        """One sentence where theory at the largest size still has another power than in the limit;
        None where it does not, or where either is not known."""
        if self.asymptotic is None:
            return None
        limit, along = float(self.asymptotic.exponent), self.family.along
        sizes = joined(self.curve, self.wide).sizes
        for name, slopes, errors in (
            ("derived formula", self.local.derived, np.zeros(len(self.local.derived))),
            ("mean-field solution", self.local.mean_field, self.local.mean_field_error),
        ):
            known = np.flatnonzero(np.isfinite(slopes))
            if not len(known):
                continue
            place = known[-1]
            if abs(slopes[place] - limit) <= NEAR_LIMIT + NINETY_FIVE * errors[place]:
                return None
            exact = str(self.asymptotic.exponent)
            in_digits = "" if exact == f"{limit:.4g}" else f" = {limit:.4g}"
            return (
                f"the limit is not reached: between `{along}` {sizes[place]} and "
                f"{sizes[place + 1]} the {name} grows with the power {slopes[place]:.3f}, in the "
                f"limit with {exact}{in_digits}"
            )
        return None

    @property
    def theory_outside(self) -> str | None:
        """One sentence where the measured 95 % interval does not hold the slope of theory at the
        same sizes, its numerical error allowed for; None where it does, and without theory."""
        fit, theory, found = self.measured, self.simulated, self.networks
        if fit is None or theory is None or found is None or not found.used.all():
            return None
        error = NINETY_FIVE * theory.error
        if not self.has_interval or fit.low - error <= theory.value <= fit.high + error:
            return None
        name = self.against.replace("_", "-")
        return (
            f"the measured interval does not hold the {name} slope at these sizes, "
            f"{theory.value:.3f}; by chance this happens in one of twenty cases, and more often "
            "with few networks"
        )

    @cached_property
    def large_epsilon(self) -> str | None:
        """One sentence where Adam's epsilon is not small against a first gradient that matters here
        at sizes that were solved or measured; None where it is small at all of them."""
        curve, large = joined(self.curve, self.wide), dict[int, dict[str, float]]()
        measured = len(self.curve.sizes) if self.networks is not None else 0
        for place, (size, solved) in enumerate(zip(curve.sizes, curve.mean_field, strict=True)):
            if np.isfinite(solved) or place < measured:
                large[int(size)] = large_against(self.quantity, self.family.setup(int(size)))
        found = {size: layers for size, layers in large.items() if layers}
        if not found:
            return None
        last, sizes = max(found), ", ".join(map(str, found))
        if len(found) == len(large):
            sizes = f"{min(found)} to {last}"
        gradients = " and ".join(f"the {layer}'s {size:.2g}" for layer, size in found[last].items())
        return (
            f"adam is not close to sign at `{self.family.along}` {sizes}, where `epsilon` is more "
            f"than a hundredth of first gradients (at {last}: {self.family.setup(last).epsilon:g} "
            f"against {gradients}): mean field and networks have this `epsilon`, and nothing is "
            "derived for it"
        )

    @property
    def against(self) -> Literal["derived", "mean_field"]:
        """The theory at the measured sizes that the verdict looks at, as a claim names it."""
        missing = self.derived is None and self.mean_field is not None
        return "mean_field" if missing else "derived"

    @property
    def simulated(self) -> Value | None:
        """The slope at the measured sizes of the theory `against` which networks are judged."""
        if self.against == "mean_field":
            return self.mean_field
        return None if self.derived is None else Value(self.derived)

    @property
    def has_interval(self) -> bool:
        """Whether the measured slope has a 95 % interval: one seed leaves none, and neither does a
        quantity that is not positive in some resamples."""
        return self.measured is not None and self.measured.low < self.measured.high

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

    @property
    def samples(self) -> Floats | None:
        """What each network measured, shape (K, S); None for samples that are grids."""
        if self.networks is None or any(one.ndim != 1 for one in self.networks.samples):
            return None
        return np.stack(self.networks.samples)

    @property
    def local(self) -> Local:
        """Slopes of theory between neighbouring sizes, from the smallest measured to a million."""
        return local_slopes(joined(self.curve, self.wide))

    @property
    def octaves(self) -> Floats:
        """Slopes of trained networks between neighbouring sizes: where they stand (the geometric
        means), value, low and high end of the 95 % interval, shape (4, K - 1)."""
        found = self.networks
        if found is None or not found.local:
            return np.empty((4, 0))
        logs = np.log(found.sizes[found.used].astype(float))
        slopes = [(one.value, one.low, one.high) for one in found.local]
        return np.array([np.exp((logs[1:] + logs[:-1]) / 2), *zip(*slopes, strict=True)])

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers has to know: no power law, a limit that is far, theory
        outside of the measured interval, an epsilon that is not small, rounded sizes, diverged
        networks, no interval.

        Fields stand between backticks.
        """
        found_out = (
            self.no_power_law,
            self.far_from_limit,
            self.theory_outside,
            self.large_epsilon,
        )
        notes = [*(text for text in found_out if text), *self.family.rounded]
        along, found, seeds = self.family.along, self.networks, len(self.seeds)
        if found is not None:
            for size, count, used in zip(found.sizes, found.diverged, found.used, strict=True):
                if count:
                    notes.append(f"{count} of {seeds} networks diverged at `{along}` {size}")
                if not used:
                    notes.append(f"`{along}` {size} is left out: no finite value there")
        if self.measured is not None and (reason := no_interval(self.measured, seeds)):
            notes.append(reason)
        return tuple(notes)

    @property
    def path_parts(self) -> tuple[str, ...]:
        """The path in symbols, size by size: `m = d^0.7`, `B = 4096`."""
        return self.family.symbols

    @property
    def path(self) -> str:
        """The path in symbols: `m = d^0.7, B = 4096`."""
        return ", ".join(self.path_parts)

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        name, letter = self.quantity.name, LETTERS.get(self.family.along, "T")
        along = f" along {self.path}" if self.path else ""
        fit, derived = self.measured, self.asymptotic and self.asymptotic.exponent
        if fit is not None:
            interval = f" [{power(fit.low)}, {power(fit.high)}]" if self.has_interval else ""
            answer = f"{name} grows like {letter}^{power(fit.value)}{interval}{along}"
            return answer + (f"; derived asymptotically {derived}" if derived is not None else "")
        if derived is not None:
            return f"{name} {growth(letter, derived)}{along}, derived asymptotically"
        found = self.derived if self.mean_field is None else self.mean_field.value
        if found is not None:
            return f"{name} grows like {letter}^{power(found)}{along} by theory at these sizes"
        return f"no power of {name} is known{along}"

    def described_by(self) -> dict[str, Any]:
        band = {} if self.band is None else vars(self.band)
        return {"quantity": self.quantity.name, **self.family.described(), **band}

    def to_xarray(self) -> xr.Dataset:
        """All arrays, as every result gives them; the growing size is a coordinate of its name."""
        fit, mean_field = self.measured, self.mean_field
        asymptotic = self.asymptotic and self.asymptotic.exponent
        known = {
            "asymptotic": None if asymptotic is None else float(asymptotic),
            "asymptotic_text": None if asymptotic is None else str(asymptotic),
            "derived_slope": self.derived,
            "mean_field_slope": mean_field and mean_field.value,
            "mean_field_slope_error": mean_field and mean_field.error,
            "measured_slope": fit and fit.value,
            "measured_slope_low": fit and fit.low,
            "measured_slope_high": fit and fit.high,
            "drift": self.drift,
            "predicted": self.band and self.band.predicted,
            "tolerance": self.band and self.band.tolerance,
            "verdict": self.verdict,
        }
        along = self.family.along
        dataset = super().to_xarray().rename(size=along)
        dataset[along].attrs = attributes(f"growing_{along}", "mse")
        return dataset.assign_attrs(
            along=along,
            quantity=self.quantity.name,
            quantity_symbol=self.quantity.symbol,
            meaning=self.quantity.meaning,
            path="; ".join(self.path_parts),
            options=json.dumps(self.family.changed),
            why=json.dumps(self.why),
            **{name: one for name, one in known.items() if one is not None},
        )

    def __repr__(self) -> str:
        fit, last, field = self.measured, self.last, self.mean_field
        columns = {
            "asymptotic": self.asymptotic and str(self.asymptotic.exponent),
            "derived": None if self.derived is None else f"{self.derived:.4g}",
            "mean_field": field and f"{field.value:.4g} ± {NINETY_FIVE * field.error:.2g} (95 %)",
            "measured": fit and (interval_text(fit) if self.has_interval else f"{fit.value:.4g}"),
        }
        shown = {name: text or f"none: {self.why.get(name)}" for name, text in columns.items()}
        return summary(
            f"ScalingExponent: {self.sentence}",
            sizes=f"{self.family.along} {' '.join(map(str, self.family.sizes))}",
            seeds=None if self.networks is None else len(self.seeds),
            **shown,
            drift=self.drift,
            last_slope=last and interval_text(last),
            verdict=self.verdict,
            plan=self.plan and str(self.plan),
            notes="; ".join(self.notes) or None,
        )


def power(value: float) -> str:
    """A power in two decimals, or in one digit where that would be 0."""
    return f"{value:.2f}" if abs(value) >= 0.005 or value == 0 else f"{value:.1g}"
