"""What published rules prescribe for the learning rates under Adam, reduced to one gauge.

The gauge is that of multipliers one (table 3 of Tensor Programs V): the exponent is that of the
learning rate of the weight itself, whatever constant the rule's own model multiplies it by. Rules
that train alike have equal exponents there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Literal

from ._parametrizations import (
    NETWORK_LAYERS,
    NetworkLayer,
    Parametrization,
    custom_parametrization,
    parametrization,
)
from ._stability import solve_stability
from ._stability_constraints import FULL_ALIGNMENT, NO_ALIGNMENT, NetworkAlignment

Scope = Literal["absolute", "ratio"]


@dataclass(frozen=True)
class PublishedRule:
    """One published prescription for Adam.

    **Fields:**

    - `name`, `source`: who says so and where.
    - `own`: the parametrization with learning rates in the gauge of the source.
    - `reduced`: the same with all multipliers one.
    - `scope`: `absolute`, or `ratio` where the source fixes the embedding's LR only relative to
      the hidden one (which is then put at its largest stable value).
    - `presumes`: the alignment or the regime that the rule rests on.
    - `evidence`: what the code or paper states, and what is assumed beside it.
    """

    name: str
    source: str
    own: Parametrization
    scope: Scope
    presumes: str
    evidence: str

    @property
    def reduced(self) -> Parametrization:
        return self.own.with_multipliers("adam")

    @property
    def lr_exponents(self) -> dict[NetworkLayer, Fraction]:
        """LR exponents by layer in the common gauge."""
        return {name: layer.lr or Fraction(0) for name, layer in self.reduced.layers.items()}

    @property
    def ratio_exponent(self) -> Fraction:
        """Power of d in embedding LR / hidden LR, in the common gauge."""
        rates = self.lr_exponents
        return rates["embedding"] - rates["hidden"]


def _solved(name: str, alignment: NetworkAlignment) -> Parametrization:
    return solve_stability(parametrization(name), "adam", alignment).parametrization


@cache
def published_rules() -> tuple[PublishedRule, ...]:
    """The rules of microsoft/mup, u-muP, Everett et al., Kalra & Barkeshli and Hayou & Liu."""
    everett = "Everett et al. 2024, arXiv 2407.05872"
    rules = [
        PublishedRule(
            "microsoft/mup",
            "github.com/microsoft/mup, mup/optim.py and mup/layer.py; Yang et al. 2022, table 8",
            custom_parametrization((0, 0, -1), (0, "-1/2", 0), (0, -1, 0), name="microsoft/mup"),
            "absolute",
            "fixed vocabulary, full alignment",
            "code read: MuAdam divides the LR of weights with two infinite dimensions by "
            "width/base width and leaves all others alone; MuReadout divides its input by it",
        ),
        PublishedRule(
            "u-muP",
            "Blake et al. 2024, arXiv 2407.17465, table 2; unit_scaling/optim.py of Graphcore",
            parametrization("umup"),
            "absolute",
            "full alignment; the embedding's 1/sqrt(d) was found empirically",
            "code read: LR times fan_in^-1/2 for weights, the embedding's fan_in taken as its "
            "width, and one for the output",
        ),
    ]
    for letters, words in (("sp", "SP"), ("ntk", "NTK"), ("mfp", "MFP")):
        for alignment, assumed in ((FULL_ALIGNMENT, "full"), (NO_ALIGNMENT, "no")):
            rules.append(
                PublishedRule(
                    f"Everett {words}, {assumed} alignment",
                    everett,
                    _solved(letters, alignment),
                    "absolute",
                    f"{assumed} alignment of updates with activations",
                    "solved from the stability program, which reproduces their table",
                )
            )
    shared = _solved("sp", FULL_ALIGNMENT)
    rules += [
        PublishedRule(
            "Kalra & Barkeshli",
            "Kalra & Barkeshli 2026, arXiv 2605.21486",
            shared,
            "ratio",
            "SP with AdamW; measured on GPT-like models",
            "abstract read: SP with the embedding LR times the width; the shared LR is tuned at "
            "every width and is put here at the largest stable exponent",
        ),
        PublishedRule(
            "Hayou & Liu",
            "Hayou & Liu 2025, arXiv 2506.15025",
            parametrization("lv"),
            "ratio",
            "large vocabulary (m much larger than d), young network",
            "abstract read: embedding LR / hidden LR grows as sqrt(d); hidden and readout are "
            "put at muP's exponents",
        ),
    ]
    return tuple(rules)


@dataclass(frozen=True)
class RuleComparison:
    """Published rules side by side at one size.

    **Fields:**

    - `width`, `base_width`, `vocab_size`: the size; factors are for going from base to width.
    - `rules`: as `published_rules` gives them.
    - `factors`: by rule name and layer, (width/base_width)^exponent, in the common gauge.
    - `ratio_factors`: by rule name, the same of embedding LR / hidden LR.
    - `groups`: by layer, the rule names that agree, keyed by their common exponent.
    - `vocabulary_ratio`: m/d, beyond 2/pi of which a uniform law is in the LV regime.
    """

    width: int
    base_width: int
    vocab_size: int
    rules: tuple[PublishedRule, ...]
    factors: Mapping[str, Mapping[NetworkLayer, float]]
    ratio_factors: Mapping[str, float]
    groups: Mapping[NetworkLayer, Mapping[Fraction, tuple[str, ...]]]
    vocabulary_ratio: float

    @property
    def agreed_layers(self) -> tuple[NetworkLayer, ...]:
        """The layers on which all rules agree."""
        return tuple(name for name in NETWORK_LAYERS if len(self.groups[name]) == 1)

    def spread(self, layer: NetworkLayer) -> float:
        """Largest over smallest factor of a layer between the rules."""
        values = [factors[layer] for factors in self.factors.values()]
        return max(values) / min(values)


def compare_published_rules(width: int, vocab_size: int, base_width: int = 1) -> RuleComparison:
    """What each published rule says when going from `base_width` to `width`, and who agrees.

    None of them depends on the vocabulary, which enters only through which of them applies
    (`vocabulary_ratio`, and for a token law `dynsim.recommend`).

    Raises `ValueError` for a size below one.
    """
    for name, value in (("width", width), ("vocab_size", vocab_size), ("base_width", base_width)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, not {value!r:.60}")
    rules = published_rules()
    growth = width / base_width
    factors: dict[str, dict[NetworkLayer, float]] = {
        rule.name: {name: growth ** float(x) for name, x in rule.lr_exponents.items()}
        for rule in rules
    }
    groups: dict[NetworkLayer, dict[Fraction, tuple[str, ...]]] = {}
    for layer in NETWORK_LAYERS:
        exponents = sorted({rule.lr_exponents[layer] for rule in rules}, reverse=True)
        groups[layer] = {
            x: tuple(rule.name for rule in rules if rule.lr_exponents[layer] == x)
            for x in exponents
        }
    ratios = {rule.name: growth ** float(rule.ratio_exponent) for rule in rules}
    return RuleComparison(
        width, base_width, vocab_size, rules, factors, ratios, groups, vocab_size / width
    )
