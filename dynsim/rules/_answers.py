"""What a recommendation holds: three rules' answers, and where the model stands between regimes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

import derivations
from dynsim._layers import LayerValues
from dynsim._results import Declared, Result
from dynsim._summary import summary

if TYPE_CHECKING:
    import xarray as xr

Anchor = Literal["hidden", "embedding"]
MuonScale = Literal["spectral", "rms"]

CURVE_POINTS = 33
FARTHEST_CROSSING = 64  # times the widths, up to which a figure reaches to rho = 1
REGIMES = {"mup": "muP", "lv": "LV"}


@dataclass(frozen=True)
class RuleAnswer:
    """What one rule says.

    **Fields:**

    - `rule`: `mup`, `lv` or `interpolated`.
    - `learning_rates`: at the new width, in the parametrization's own gauge.
    - `factors`: the same over the learning rates at the base width.
    - `ratio`: embedding LR / hidden LR at the new width; `ratio_growth` its factor from base.
    - `presumes`: what must hold for the rule to; `known`, `not_known`: what was derived or
      measured about it, and what was not.
    """

    rule: str
    learning_rates: LayerValues
    factors: LayerValues
    ratio: float
    ratio_growth: float
    presumes: str
    known: str = ""
    not_known: str = ""

    def __repr__(self) -> str:
        return summary(
            f"Rule {self.rule}",
            learning_rates=asdict(self.learning_rates),
            factors=asdict(self.factors),
            ratio=f"{self.ratio:.4g}, x{self.ratio_growth:.4g} from the base width",
            presumes=self.presumes,
        )

    def weight_decays(self, base: float) -> LayerValues:
        """Decoupled weight decays that keep (LR)(decay) at the base model's, layer by layer."""
        shrunk = {field.name: base / self.factors.of(field.name) for field in fields(LayerValues)}
        return LayerValues(**shrunk)


@dataclass(frozen=True)
class Regime:
    """Where a width and a token law stand between muP and LV (equal residuals, full batch).

    **Fields:**

    - `coherence_ratio`: rho = (2/pi) (d - 1) sum_i p_i c_i^2; above 1 muP, below 1 LV.
    - `effective_vocab_size`: P_2/P_3, the uniform vocabulary that aligns as this law does.
    - `mup_mass`: share of token mass with (2/pi) (d - 1) c_i^2 > 1; `lv_mass`: the rest.
    - `mup_tokens`: how many token types that is.
    - `name`: `mup` (rho at least 1) or `lv`.
    """

    coherence_ratio: float
    effective_vocab_size: float
    mup_mass: float
    lv_mass: float
    mup_tokens: int
    name: str

    def __repr__(self) -> str:
        return summary(f"Regime {REGIMES[self.name]}", **asdict(self))


def _curve_widths(answer: Recommendation) -> list[float]:
    """Widths around the base and the new one, over which the rules are drawn.

    They reach to where the token law's coherence ratio is 1, if that is not too far away.
    """
    low, high = sorted((answer.base_width, answer.width))
    least, most = max(1.0, low / 2), 4.0 * high
    crossing = answer.crossing_width
    if low / FARTHEST_CROSSING < crossing < FARTHEST_CROSSING * high:
        least, most = max(1.0, min(least, crossing / 2)), max(most, 2 * crossing)
    return np.geomspace(least, most, CURVE_POINTS).tolist()


def _curves(answer: Recommendation) -> list[list[float]]:
    """Growth of the ratio from the base width on, a row a rule and a column a width."""
    widths = np.array(_curve_widths(answer))
    mup, lv = ((widths / answer.base_width) ** power for power in answer.ratio_powers)
    alignment = 1 / answer.regime.effective_vocab_size
    lost = [
        derivations.hidden_update_growth(
            max(1, round(width)), answer.base_width, alignment, answer.optimizer
        )
        for width in widths
    ]
    return [mup.tolist(), lv.tolist(), (mup * lost).tolist()]


def _by_layer(answer: Recommendation, values: str) -> list[list[float]]:
    """Learning rates or factors, a row a rule and a column a layer."""
    rows = [getattr(one, values) for one in answer.answers]
    return [[getattr(row, field.name) for field in fields(LayerValues)] for row in rows]


@dataclass(frozen=True)
class Recommendation(Result):
    """Learning rates for a wider model by three rules, where it stands, and how far they differ.

    **Fields:**

    - `mup`, `lv`, `interpolated`: the three answers.
    - `regime`, `base_regime`: at the new and at the base width.
    - `spread`: largest over smallest embedding/hidden ratio among the rules, at least 1.
    - `coherence_ratio`: that of `regime`.
    - `ratio_powers`: powers of the width in the muP and the LV ratio; 0 where the width stays.
    - `multiplier_exponents`: powers of the width that the model must multiply its weights by
      (embedding, hidden, readout) for these learning rates to be meant; (0, 0, 0) for a model
      without multipliers.
    - `tied`: whether the readout is the embedding, one matrix with one learning rate.
    - `readout_multiplier`: what its model must multiply the logits by beside that; 1 if not tied.
    - `explanation`: the answer in words, one line.
    """

    arrays: ClassVar[Declared] = {
        "learning_rate": ("rule layer", lambda answer: _by_layer(answer, "learning_rates")),
        "factor": ("rule layer", lambda answer: _by_layer(answer, "factors")),
        "ratio": ("rule", lambda answer: [one.ratio for one in answer.answers]),
        "ratio_growth": ("rule", lambda answer: [one.ratio_growth for one in answer.answers]),
        "rule": ("rule", lambda answer: [one.rule for one in answer.answers]),
        "growth_curve": ("rule curve_width", lambda answer: _curves(answer)),
        "curve_width": ("curve_width", lambda answer: _curve_widths(answer)),
        "layer": ("layer", lambda _: [field.name for field in fields(LayerValues)]),
    }

    width: int
    base_width: int
    vocab_size: int
    tokens: str
    parametrization: str
    optimizer: derivations.TrainingOptimizer
    anchor: Anchor
    muon_scale: MuonScale
    mup: RuleAnswer
    lv: RuleAnswer
    interpolated: RuleAnswer
    regime: Regime
    base_regime: Regime
    spread: float
    coherence_ratio: float
    ratio_powers: tuple[float, float]
    multiplier_exponents: tuple[Fraction, Fraction, Fraction]
    tied: bool
    readout_multiplier: float
    explanation: str

    def described_by(self) -> dict[str, Any]:
        """The arguments of `recommend`, by name."""
        asked = ("width", "base_width", "vocab_size", "tokens", "parametrization", "optimizer")
        return {name: getattr(self, name) for name in (*asked, "anchor", "muon_scale", "tied")}

    def to_xarray(self) -> xr.Dataset:
        """As of every result, with `crossing_width` as an attribute."""
        return super().to_xarray().assign_attrs(crossing_width=self.crossing_width)

    def __repr__(self) -> str:
        return summary(
            f"Learning rates from width {self.base_width} to {self.width}",
            vocab_size=self.vocab_size,
            tokens=self.tokens,
            parametrization=self.parametrization,
            optimizer=self.optimizer,
            anchor=self.anchor,
            tied=self.tied,
            readout_multiplier=self.readout_multiplier,
            regime=f"{REGIMES[self.regime.name]}, rho = {self.regime.coherence_ratio:.3g}",
            **{answer.rule: asdict(answer.learning_rates) for answer in self.answers},
            ratio_growth={answer.rule: answer.ratio_growth for answer in self.answers},
            explanation=self.explanation,
        )

    @property
    def crossing_width(self) -> float:
        """The width at which this token law's coherence ratio is 1: rho grows like d - 1.

        At width 1 every ratio is 0, and so there is no such width: infinite.
        """
        ratio = self.coherence_ratio
        return 1 + (self.width - 1) / ratio if ratio > 0 else math.inf

    @property
    def answers(self) -> tuple[RuleAnswer, RuleAnswer, RuleAnswer]:
        """The three answers: muP, LV, interpolated."""
        return self.mup, self.lv, self.interpolated

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON, exponents as text such as `-1/2`."""
        data = asdict(self)
        data["multiplier_exponents"] = [str(value) for value in self.multiplier_exponents]
        return data
