"""What became of claims: numbers, verdicts, figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import named
from dynsim._results import Declared, Result
from dynsim._summary import summary
from dynsim.scaling._columns import closed_columns
from dynsim.scaling._exponent import named_quantity
from dynsim.scaling._fitted import fitted, interval_of
from dynsim.scaling._quantity import Sampled
from dynsim.scaling._result import Band, ScalingExponent
from dynsim.statistics._intervals import Estimate, interval_text

from ._claim import Claim
from ._verdict import Evidence, Verdict

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Theory:
    """The theory that a claim is held against, at all setups: the logarithms and, of mean-field
    values, the standard errors; `values` is None where there is none, and `notes` say why."""

    log_values: Floats | None
    errors: Floats | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Finding(Result):
    """What became of a claim.

    - `evidence`: the numbers; `verdict`: by the rule of `dynsim.claims`.
    - `notes`: sizes that were rounded, why a theory has no value or the measurement no interval,
      and what leaves a claim undecided.
    - `measured_as`: the claim as it was measured: in its larger version, say.
    - `cells`, `theory`: what the networks of every setup measured, and the theory there; setups
      are those of the claim's paths in turn, from the first size to the last.
    """

    claim: Claim
    evidence: Evidence
    verdict: Verdict
    notes: tuple[str, ...]
    measured_as: Claim
    cells: tuple[Sampled, ...]
    theory: Theory

    arrays: ClassVar[Declared] = {
        "measured_ratio": ("cell", lambda result: [one.value for one in result.ratios]),
        "measured_ratio_low": ("cell", lambda result: [one.low for one in result.ratios]),
        "measured_ratio_high": ("cell", lambda result: [one.high for one in result.ratios]),
        "measured": ("cell", lambda result: [one.value for one in result.values]),
        "measured_low": ("cell", lambda result: [one.low for one in result.values]),
        "measured_high": ("cell", lambda result: [one.high for one in result.values]),
        "theory": ("cell", lambda result: result.theory_values),
        "size": ("cell", "sizes"),
        "path": ("cell", "paths"),
    }

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the claim expects."""
        return self.verdict == self.claim.expected

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The growing size of every setup."""
        return np.tile(self.measured_as.sizes, len(self.measured_as.families))

    @property
    def paths(self) -> list[str]:
        """The path of every setup in symbols, such as `m = d^0.7`."""
        claim = self.measured_as
        return ["; ".join(path.symbols) for path in claim.families for _ in claim.sizes]

    @property
    def values(self) -> list[Estimate]:
        """The quantity at every setup, with its 95 % interval."""
        with np.errstate(all="ignore"):
            return [interval_of([cell], lambda logs: np.exp(logs[0])) for cell in self.cells]

    @property
    def theory_values(self) -> Floats:
        """The theory at every setup; NaN where there is none."""
        logs = self.theory.log_values
        return np.full(len(self.cells), np.nan) if logs is None else np.exp(logs)

    @property
    def ratios(self) -> list[Estimate]:
        """The quantity over theory at every setup, with its 95 % interval."""
        return [
            Estimate(one.value / below, one.low / below, one.high / below)
            for one, below in zip(self.values, self.theory_values, strict=True)
        ]

    @property
    def curve(self) -> ScalingExponent:
        """The quantity along the (first) path, with the derived exponent and the local ones."""
        claim, quantity = self.measured_as, named_quantity(self.claim.quantity)
        path, number = claim.families[0], len(claim.sizes)
        columns = closed_columns(quantity, path)
        curve, logs = columns.curve, self.theory.log_values
        if logs is not None and claim.formula is not None:
            curve = replace(curve, derived=np.exp(logs[:number]))
        if logs is not None and claim.against == "mean_field":
            errors = np.zeros(number) if self.theory.errors is None else self.theory.errors[:number]
            curve = replace(curve, mean_field=np.exp(logs[:number]), mean_field_error=errors)
        return ScalingExponent(
            quantity,
            path,
            np.arange(claim.seeds),
            columns.asymptotic,
            curve,
            columns.wide,
            fitted(claim.sizes, self.cells[:number]),
            columns.why,
            Band(self.evidence.predicted, claim.tolerance) if claim.form == "exponent" else None,
        )

    def described_by(self) -> dict[str, Any]:
        """The claim as in a claim file."""
        return self.measured_as.content

    def to_xarray(self) -> xr.Dataset:
        """Of an exponent the dataset of `curve`, of a ratio the ratio at every setup; in both the
        claim, the numbers of its verdict and the verdict are attributes."""
        claim, measured = self.measured_as, self.evidence.measured
        about = {
            "result": type(self).__name__,
            "claim": claim.name,
            "statement": claim.statement,
            "form": claim.form,
            "quantity": claim.quantity,
            "along": claim.along,
            "against": claim.against,
            "seeds": claim.seeds,
            "measured_value": measured.value,
            "measured_low": measured.low,
            "measured_high": measured.high,
            "predicted": self.evidence.predicted,
            "tolerance": claim.tolerance,
            "verdict": self.verdict,
            "expected": claim.expected,
            "digest": claim.digest,
        }
        if claim.form == "exponent":
            return self.curve.to_xarray().assign_attrs(about)
        first, *others = [path.changed for path in claim.families]
        shared = {k: v for k, v in first.items() if all(one.get(k) == v for one in others)}
        return super().to_xarray().assign_attrs(about, options=json.dumps(shared))

    def row(self) -> dict[str, Any]:
        """Everything as plain values."""
        last, measured = self.evidence.last, self.evidence.measured
        return {
            "name": self.claim.name,
            "statement": self.claim.statement,
            "quantity": self.claim.measured_number,
            "prediction": self.claim.predicted_number,
            "predicted": self.evidence.predicted,
            "tolerance": self.claim.tolerance,
            "simulated": self.evidence.simulated,
            "measured": measured.value,
            "low": measured.low,
            "high": measured.high,
            "drift": self.evidence.drift,
            "last": None if last is None else last.value,
            "last_low": None if last is None else last.low,
            "last_high": None if last is None else last.high,
            "verdict": self.verdict,
            "expected": self.claim.expected,
            "source": self.claim.source,
            "registered": None if self.claim.registered is None else str(self.claim.registered),
            "changed": self.claim.changed or None,
            "digest": self.claim.digest,
            "notes": [named(note, str) for note in self.notes],
        }

    def __repr__(self) -> str:
        last = self.evidence.last
        return summary(
            f"{self.claim.name}: {self.verdict}{'' if self.as_expected else ' (!)'}",
            statement=self.claim.statement,
            quantity=self.claim.measured_number,
            predicted=f"{self.evidence.predicted:.4g} ± {self.claim.tolerance:g}",
            simulated=self.evidence.simulated,
            measured=interval_text(self.evidence.measured),
            drift=self.evidence.drift,
            last_slope=last and interval_text(last),
            expected=self.claim.expected,
            digest=self.claim.digest,
            notes="; ".join(self.notes) or None,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Verdicts(Result, Sequence[Finding]):
    """The findings of several claims, in their order; by position or by the claim's name.

    - `findings`: one for each claim.
    - `files`: SHA-256 of every claim file, by its path.
    - `seed`: of the run.
    """

    findings: tuple[Finding, ...]
    files: Mapping[str, str]
    seed: int

    arrays: ClassVar[Declared] = {
        "measured": ("claim", lambda result: [one.evidence.measured.value for one in result]),
        "measured_low": ("claim", lambda result: [one.evidence.measured.low for one in result]),
        "measured_high": ("claim", lambda result: [one.evidence.measured.high for one in result]),
        "predicted": ("claim", lambda result: [one.evidence.predicted for one in result]),
        "tolerance": ("claim", lambda result: [one.claim.tolerance for one in result]),
        "simulated": (
            "claim",
            lambda result: [_or_nan(one.evidence.simulated) for one in result],
        ),
        "verdict": ("claim", lambda result: [one.verdict for one in result]),
        "expected": ("claim", lambda result: [one.claim.expected for one in result]),
        "claim": ("claim", lambda result: [one.claim.name for one in result]),
    }

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            for one in self.findings:
                if one.claim.name == index:
                    return one
            names = ", ".join(one.claim.name for one in self.findings)
            raise KeyError(f"{index} is none of these claims: {names}")
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __repr__(self) -> str:
        lines = {
            one.claim.name: f"{one.verdict}{'' if one.as_expected else ' (!)'}, predicted "
            f"{one.evidence.predicted:.4g} ± {one.claim.tolerance:g}, measured "
            f"{interval_text(one.evidence.measured)}"
            for one in self.findings
        }
        expected = sum(one.as_expected for one in self.findings)
        digests = {path: digest[:12] for path, digest in self.files.items()}
        title = f"{expected} of {len(self.findings)} verdicts as expected"
        return summary(title, **lines, seed=self.seed, files=digests or None)

    def described_by(self) -> dict[str, Any]:
        """The claim files with their digests, and the run's seed."""
        return {"files": dict(self.files), "seed": self.seed}

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each claim."""
        import pandas as pd

        return pd.DataFrame([one.row() for one in self.findings])


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
