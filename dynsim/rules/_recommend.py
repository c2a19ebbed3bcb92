"""Which learning rates to use when a model is made wider, given its vocabulary and token law.

The exponents come from the stability program, the finite-size interpolation from the first-step
moments; both are derived in `derivations` and evaluated here as numbers. No jax is needed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal, get_args

import derivations
from derivations import symbols as s
from dynsim._errors import InputError, check_choice, check_integer
from dynsim._layers import LABELS, LayerValues
from dynsim.tokens._laws import TokenLaw, token_law

Anchor = Literal["hidden", "embedding"]
MAX_WIDTH = 2**31 - 1

YOUNG = (
    "a young network, whose embeddings are still close to their initial values: the first steps, "
    "or embeddings that learn slowly or not at all"
)
ANY_AGE = (
    "nothing about the age: it is stable in young and old networks, and the theory notes (section "
    "3) report that jointly tuned long runs followed it"
)


@dataclass(frozen=True)
class RuleAnswer:
    """What one rule says.

    **Fields:**

    - `rule`: `mup`, `lv` or `interpolated`.
    - `learning_rates`: at the new width, in the parametrization's own gauge.
    - `factors`: the same over the learning rates at the base width.
    - `ratio`: embedding LR / hidden LR at the new width; `ratio_growth` its factor from base.
    - `presumes`: the regime in which the rule holds.
    """

    rule: str
    learning_rates: LayerValues
    factors: LayerValues
    ratio: float
    ratio_growth: float
    presumes: str

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
    - `name`: `mup` (rho above 10), `lv` (below 1/10) or `between`.
    """

    coherence_ratio: float
    effective_vocab_size: float
    mup_mass: float
    lv_mass: float
    mup_tokens: int
    name: str


@dataclass(frozen=True)
class Recommendation:
    """Learning rates for a wider model by three rules, where it stands, and how far they differ.

    **Fields:**

    - `mup`, `lv`, `interpolated`: the three answers.
    - `regime`, `base_regime`: at the new and at the base width.
    - `spread`: largest over smallest embedding/hidden ratio among the rules, at least 1.
    - `multiplier_exponents`: powers of the width that the model must multiply its weights by
      (embedding, hidden, readout) for these learning rates to be meant; (0, 0, 0) for a model
      without multipliers.
    - `explanation`: one sentence for people.
    """

    width: int
    base_width: int
    vocab_size: int
    tokens: str
    parametrization: str
    optimizer: str
    anchor: Anchor
    mup: RuleAnswer
    lv: RuleAnswer
    interpolated: RuleAnswer
    regime: Regime
    base_regime: Regime
    spread: float
    multiplier_exponents: tuple[Fraction, Fraction, Fraction]
    explanation: str

    @property
    def answers(self) -> tuple[RuleAnswer, RuleAnswer, RuleAnswer]:
        """The three answers: muP, LV, interpolated."""
        return self.mup, self.lv, self.interpolated

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON, exponents as text such as `-1/2`."""
        data = asdict(self)
        data["multiplier_exponents"] = [str(value) for value in self.multiplier_exponents]
        return data


def recommend(
    width: int,
    base_width: int,
    vocab_size: int,
    tokens: str | TokenLaw = "zipf:1",
    parametrization: str = "sp",
    optimizer: str = "adamw",
    base_embedding_lr: float = 1.0,
    base_hidden_lr: float = 1.0,
    *,
    base_readout_lr: float | None = None,
    base_vector_lr: float | None = None,
    anchor: Anchor = "hidden",
) -> Recommendation:
    """Learning rates at `width` from those tuned at `base_width`, by three rules.

    - **mup**: the stability program at full alignment, embedding/hidden ratio x (d/d_0) under
      Adam with multipliers one. It presumes nothing about age: updates that act on learned
      embeddings are aligned whatever the vocabulary (theory notes, section 3).
    - **lv**: the same with the hidden matrix unaligned (A = U = 1/2), ratio x sqrt(d/d_0); it
      presumes m much larger than d *and* a young network. The LV regime is mortal: it ends after
      about t_c = (sigma_E/eta_E) sqrt(n_eff/m) steps, and jointly tuned long runs followed d.
    - **interpolated**: each layer changes the output by the same at the first step,
      ratio x RMS(d)/RMS(d_0) with RMS(d) = sqrt(d + (2/pi) d (d - 1) C), C = sum_i p_i c_i^2 =
      P_3/P_2 of this token law. It is a first-step (young) answer too, with finite sizes in it.

    Under Muon the three agree, since its update's size knows no alignment. The readout follows
    full alignment in all three: a head with one output per token is aligned at any vocabulary.

    **Arguments:**

    - `tokens`: a token law as for `token_law`, or a `TokenLaw` of `vocab_size` types.
    - `parametrization`: sp, ntk, mup, mfp, umup or lv: names the gauge (multipliers) and the
      initialisation of the model; learning rates that umup and lv prescribe are not used here.
      A model without multipliers is `sp` (its Adam exponents are muP's).
    - `optimizer`: sgd, momentum, sign, adam, adamw, adafactor or muon (hidden matrices; the
      other layers by Adam).
    - `base_embedding_lr`, `base_hidden_lr`: learning rates at the base width; 1 gives factors.
    - `base_readout_lr` (default the hidden one), `base_vector_lr` (default the embedding's).
    - `anchor`: which layer keeps muP's learning rate while the ratio changes. `hidden` (default)
      slows the embedding, as Hayou & Liu and u-muP do, and is stable at any age; `embedding`
      speeds the hidden layers up, which is the maximal update of a young network alone.

    Raises `InputError` for a value out of range or an unknown name.
    """
    check_integer("width", width, 1, MAX_WIDTH)
    check_integer("base_width", base_width, 1, MAX_WIDTH)
    check_integer("vocab_size", vocab_size, 1, MAX_WIDTH)
    check_choice("parametrization", parametrization, tuple(derivations.PARAMETRIZATIONS))
    check_choice("optimizer", optimizer, derivations.TRAINING_OPTIMIZERS)
    check_choice("anchor", anchor, get_args(Anchor))
    base = LayerValues(
        embedding=_positive("base_embedding_lr", base_embedding_lr),
        hidden=_positive("base_hidden_lr", base_hidden_lr),
        readout=_positive(
            "base_readout_lr", base_hidden_lr if base_readout_lr is None else base_readout_lr
        ),
        vector=_positive(
            "base_vector_lr", base_embedding_lr if base_vector_lr is None else base_vector_lr
        ),
    )
    law = tokens if isinstance(tokens, TokenLaw) else token_law(tokens, vocab_size)
    if law.vocab_size != vocab_size:
        raise InputError("vocab_size", vocab_size, f"must be {law.vocab_size}, that of the tokens")

    growth = width / base_width
    multipliers = derivations.parametrization(parametrization)
    mup_factors = _factors(multipliers, optimizer, derivations.FULL_ALIGNMENT, growth)
    lv_factors = _factors(
        multipliers,
        optimizer,
        derivations.NetworkAlignment(derivations.UNALIGNED, derivations.ALIGNED),
        growth,
    )
    # Coherence lost by the hidden layer's first update: 1 under muP, (d_0/d)^(1/2) under LV.
    incoherence = {
        "mup": 1.0,
        "lv": mup_factors.hidden / lv_factors.hidden,
        "interpolated": derivations.hidden_update_growth(
            width, base_width, law.mean_alignment_square, _known(optimizer)
        ),
    }
    presumes = {
        "mup": ANY_AGE,
        "lv": f"a vocabulary much larger than the width, and {YOUNG}",
        "interpolated": YOUNG,
    }
    mup, lv, interpolated = (
        _answer(rule, mup_factors, incoherence[rule], base, anchor, presumes[rule])
        for rule in ("mup", "lv", "interpolated")
    )
    regime, base_regime = _regime(law, width), _regime(law, base_width)
    ratios = [answer.ratio for answer in (mup, lv, interpolated)]
    spread = max(ratios) / min(ratios)
    return Recommendation(
        width=width,
        base_width=base_width,
        vocab_size=vocab_size,
        tokens=law.name,
        parametrization=parametrization,
        optimizer=optimizer,
        anchor=anchor,
        mup=mup,
        lv=lv,
        interpolated=interpolated,
        regime=regime,
        base_regime=base_regime,
        spread=spread,
        multiplier_exponents=(
            multipliers.embedding.multiplier,
            multipliers.hidden.multiplier,
            multipliers.readout.multiplier,
        ),
        explanation=_explanation(width, base_width, optimizer, (mup, lv, interpolated), regime),
    )


def _positive(option: str, value: float) -> float:
    if not (math.isfinite(value) and 0 < value <= 1e30):
        raise InputError(option, value, "must be a finite number above 0 and at most 1e30")
    return float(value)


def _known(optimizer: str) -> derivations.TrainingOptimizer:
    return next(name for name in derivations.TRAINING_OPTIMIZERS if name == optimizer)


def _factors(
    multipliers: derivations.Parametrization,
    optimizer: str,
    alignment: derivations.NetworkAlignment,
    growth: float,
) -> LayerValues:
    """growth^(LR exponent) by layer, in the own gauge; vectors have no multiplier."""
    known = _known(optimizer)
    free = replace(
        multipliers,
        **{name: replace(layer, lr=None) for name, layer in multipliers.layers.items()},
    )
    solved = derivations.solve_stability(free, known, alignment).parametrization
    unit = solved.with_multipliers(known)

    def factor(exponent: Fraction | None) -> float:
        return growth ** float(exponent or 0)

    return LayerValues(
        embedding=factor(solved.embedding.lr),
        hidden=factor(solved.hidden.lr),
        readout=factor(solved.readout.lr),
        vector=factor(unit.embedding.lr),
    )


def _answer(
    rule: str,
    mup: LayerValues,
    incoherence: float,
    base: LayerValues,
    anchor: Anchor,
    presumes: str,
) -> RuleAnswer:
    """muP's factors with the embedding/hidden ratio multiplied by `incoherence`."""
    if anchor == "hidden":
        factors = replace(mup, embedding=mup.embedding * incoherence)
    else:
        factors = replace(mup, hidden=mup.hidden / incoherence)
    rates = LayerValues(**{name: base.of(name) * factors.of(name) for name in LABELS})
    return RuleAnswer(
        rule=rule,
        learning_rates=rates,
        factors=factors,
        ratio=rates.embedding / rates.hidden,
        ratio_growth=factors.embedding / factors.hidden,
        presumes=presumes,
    )


def _regime(law: TokenLaw, width: int) -> Regime:
    rho = derivations.coherence_ratio().expression  # at m = 1: what c_i^2 is multiplied by
    kernel = float(rho.subs({s.width: width, s.vocab_size: 1}))
    coherent = kernel > law.effective_vocab_size  # (2/pi) (d - 1) c_i^2 > 1, shape (m,)
    mass = min(1.0, float(law.frequencies[coherent].sum()))
    ratio = kernel * law.mean_alignment_square
    name = "mup" if ratio > 10 else "lv" if ratio < 0.1 else "between"
    return Regime(
        coherence_ratio=ratio,
        effective_vocab_size=1 / law.mean_alignment_square,
        mup_mass=mass,
        lv_mass=1 - mass,
        mup_tokens=int(coherent.sum()),
        name=name,
    )


def _explanation(
    width: int,
    base_width: int,
    optimizer: str,
    answers: tuple[RuleAnswer, RuleAnswer, RuleAnswer],
    regime: Regime,
) -> str:
    mup, lv, interpolated = answers
    if optimizer == "muon":
        return (
            "Under Muon the size of the hidden update knows no alignment, so all rules agree: from "
            f"width {base_width} to {width} the embedding/hidden ratio changes by "
            f"x{mup.ratio_growth:.3g}; the vocabulary only dilutes the update's coherent part."
        )
    where = {"mup": "in the muP regime", "lv": "in the LV regime"}
    return (
        f"At width {width} this token law acts like {regime.effective_vocab_size:.3g} equally "
        f"frequent tokens (rho = {regime.coherence_ratio:.3g}, "
        f"{where.get(regime.name, 'between the regimes')}; {regime.mup_mass:.0%} of the token mass "
        f"is muP-like), so from width {base_width} the first step asks for an embedding/hidden "
        f"ratio of x{interpolated.ratio_growth:.3g}, between muP's x{mup.ratio_growth:.3g} and the "
        f"LV rule's x{lv.ratio_growth:.3g}; long training is expected to age the network out of "
        "the LV regime, towards muP's (theory notes, section 3)."
    )
