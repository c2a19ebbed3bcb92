"""Published rules side by side at one size: factors, and who agrees with whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from ._parametrizations import NETWORK_LAYERS, NetworkLayer, parametrization
from ._published_rules import MUP_TIED, PublishedRule, RuleFamily, TiedRule, published_rules
from ._stability import solve_stability
from ._stability_constraints import FULL_ALIGNMENT


@dataclass(frozen=True)
class RuleComparison:
    """Published rules side by side at one size.

    **Fields:**

    - `width`, `base_width`, `vocab_size`: the size; factors are for going from base to width.
    - `family`: what trains hidden matrices, Adam or Muon; `tied`: whether the readout is the
      embedding.
    - `rules`: as `published_rules` gives them; with `tied` those that speak of one matrix.
    - `silent`: names of the others, which do not.
    - `exponents`: by rule name and layer, powers of the width in the common gauge; of a tied model
      embedding and readout are one matrix with one learning rate.
    - `factors`: by rule name and layer, (width/base_width)^exponent.
    - `ratio_factors`: by rule name, the same of embedding LR / hidden LR.
    - `groups`: by layer, the rule names that agree, keyed by their common exponent.
    - `derived`: by layer, the largest stable exponent at full alignment (`solve_stability`).
    - `logit_multipliers`: by rule name, the power of the width in what tied logits are multiplied
      by; `derived_logit_multiplier` that at full alignment. Empty and 0 without `tied`.
    - `vocabulary_ratio`: m/d, beyond 2/pi of which a uniform law is in the LV regime.
    """

    width: int
    base_width: int
    vocab_size: int
    family: RuleFamily
    tied: bool
    rules: tuple[PublishedRule, ...]
    silent: tuple[str, ...]
    exponents: Mapping[str, Mapping[NetworkLayer, Fraction]]
    factors: Mapping[str, Mapping[NetworkLayer, float]]
    ratio_factors: Mapping[str, float]
    groups: Mapping[NetworkLayer, Mapping[Fraction, tuple[str, ...]]]
    derived: Mapping[NetworkLayer, Fraction]
    logit_multipliers: Mapping[str, Fraction]
    derived_logit_multiplier: Fraction
    vocabulary_ratio: float

    @property
    def agreed_layers(self) -> tuple[NetworkLayer, ...]:
        """The layers on which all rules agree."""
        return tuple(name for name in NETWORK_LAYERS if len(self.groups[name]) == 1)

    def spread(self, layer: NetworkLayer) -> float:
        """Largest over smallest factor of a layer between the rules."""
        values = [factors[layer] for factors in self.factors.values()]
        return max(values) / min(values)

    def agreeing(self, layer: NetworkLayer) -> tuple[str, ...]:
        """The rules whose exponent of a layer is the derived one."""
        return self.groups[layer].get(self.derived[layer], ())


def compare_published_rules(
    width: int,
    vocab_size: int,
    base_width: int = 1,
    *,
    family: RuleFamily = "adam",
    tied: bool = False,
) -> RuleComparison:
    """What each published rule says when going from `base_width` to `width`, and who agrees.

    None of them depends on the vocabulary, which enters only through which of them applies
    (`vocabulary_ratio`, and for a token law `dynsim.recommend`).

    Raises `ValueError` for a size below one.
    """
    for name, value in (("width", width), ("vocab_size", vocab_size), ("base_width", base_width)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, not {value!r:.60}")
    known = published_rules(family)
    rules = tuple(rule for rule in known if not tied or rule.tied is not None)
    growth = width / base_width
    exponents = {rule.name: _exponents(rule, tied) for rule in rules}
    groups: dict[NetworkLayer, dict[Fraction, tuple[str, ...]]] = {}
    for layer in NETWORK_LAYERS:
        values = sorted({powers[layer] for powers in exponents.values()}, reverse=True)
        groups[layer] = {
            x: tuple(name for name, powers in exponents.items() if powers[layer] == x)
            for x in values
        }
    solved = solve_stability(parametrization("sp"), family, FULL_ALIGNMENT).parametrization
    derived = {name: layer.lr or Fraction(0) for name, layer in solved.layers.items()}
    return RuleComparison(
        width=width,
        base_width=base_width,
        vocab_size=vocab_size,
        family=family,
        tied=tied,
        rules=rules,
        silent=tuple(rule.name for rule in known if rule not in rules),
        exponents=exponents,
        factors={
            name: {layer: growth ** float(x) for layer, x in powers.items()}
            for name, powers in exponents.items()
        },
        ratio_factors={
            name: growth ** float(powers["embedding"] - powers["hidden"])
            for name, powers in exponents.items()
        },
        groups=groups,
        derived={**derived, "readout": derived["embedding"]} if tied else derived,
        logit_multipliers={
            rule.name: rule.tied.logit_multiplier for rule in rules if tied and rule.tied
        },
        derived_logit_multiplier=MUP_TIED.logit_multiplier if tied else Fraction(0),
        vocabulary_ratio=vocab_size / width,
    )


def _exponents(rule: PublishedRule, tied: bool) -> dict[NetworkLayer, Fraction]:
    """Powers by layer; of a tied model the one matrix stands for embedding and readout."""
    one: TiedRule | None = rule.tied
    if not tied or one is None:
        return rule.lr_exponents
    return {**rule.lr_exponents, "embedding": one.lr, "readout": one.lr}
