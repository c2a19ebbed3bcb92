"""Which learning rates to use when a model is made wider, given its vocabulary and token law.

The exponents come from the stability program, the finite-size interpolation from the first-step
moments; both are derived in `derivations` and evaluated here as numbers. No jax is needed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import get_args

import derivations
from derivations import symbols as s
from dynsim._errors import InputError, check_choice, check_integer
from dynsim._layers import LABELS, LayerValues
from dynsim.tokens._laws import TokenLaw, token_law

from ._answers import Anchor, MuonScale, Recommendation, Regime, RuleAnswer
from ._words import KNOWN, NOT_KNOWN, PRESUMES, explanation, initial_readout_words, tied_words

MAX_WIDTH = 2**31 - 1
UNALIGNED_HIDDEN = derivations.NetworkAlignment(derivations.UNALIGNED, derivations.ALIGNED)


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
    muon_scale: MuonScale = "spectral",
    tied: bool = False,
) -> Recommendation:
    """Learning rates at `width` from those tuned at `base_width`, by three rules.

    - **mup**: the stability program at full alignment, embedding/hidden ratio x (d/d_0) under
      Adam with multipliers one. It presumes aligned updates: m much smaller than d, or learned
      embeddings, which have moved so far that updates are aligned at any vocabulary.
    - **lv**: the same with the hidden matrix unaligned (A = U = 1/2), ratio x sqrt(d/d_0). It
      presumes m much larger than d, and embeddings close to their initial values. `explanation`
      says how long these last: for the linear model with uniform tokens and m >> d until
      eta_E t = K sigma_E sqrt(n_eff/d), under a Zipf law until a later time, and for hidden layers
      this is open.
    - **interpolated**: each layer changes the output by the same at the first step,
      ratio x RMS(d)/RMS(d_0) with RMS(d) = sqrt(d + (2/pi) d (d - 1) C), C = sum_i p_i c_i^2 =
      P_3/P_2 of this token law. It too presumes embeddings close to their initial values.

    lv and interpolated are about hidden matrices that read the embedding itself. A second or later
    matrix that reads features with a mean over tokens (ReLU, GELU) is updated coherently at every
    vocabulary, so that mup's learning rate is its own (docs/theory/first_step.md#feature-step).

    Under Muon the three agree, since the size of its update does not depend on alignment while the
    gradient has full rank (docs/theory/first_step.md#muon-step). The readout follows full alignment
    in all three: a head with one output per token is aligned at any vocabulary.

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
      slows the embedding, as Hayou and Liu (2025, arXiv 2506.15025) and u-muP (Blake et al. 2024,
      arXiv 2407.17465) do, and is stable throughout training; `embedding` speeds the hidden layers
      up, which is a maximal update only while embeddings are close to their initial values.
    - `muon_scale`: by what an implementation of Muon multiplies the orthogonalised update of a
      square matrix. `spectral` (default): 1, or sqrt(max(1, rows/columns)), as the original,
      `optax.contrib.muon` and torch's `adjust_lr_fn="original"` do. `rms`: 0.2 sqrt(width), so that
      entries have Adam's size, as torch's `"match_rms_adamw"` does; the hidden factor is then
      (d/d_0)^(-1/2) times that of `spectral`.
    - `tied`: the readout is the embedding, one matrix with one learning rate. It is the embedding's
      and presumes that the model multiplies its logits by `readout_multiplier`, beside what the
      parametrization multiplies them by. This takes the place of a readout that starts and learns
      as d/d_0 to the power -1 (Yang et al. 2022, arXiv 2203.03466, appendix B.1).

    Raises `InputError` for a value out of range or an unknown name.
    Source: docs/theory/parametrizations.md#stability-program,
    docs/theory/learning_rates.md#maximal-update-ratio, docs/theory/lv_lifetime.md#end-of-lv,
    docs/theory/lv_lifetime.md#ageing-under-zipf.

    **Example:**

    >>> from dynsim import recommend
    >>> advice = recommend(4096, 256, 50257, optimizer="adamw")
    >>> {answer.rule: round(answer.factors.embedding, 3) for answer in advice.answers}
    {'mup': 1.0, 'lv': 0.25, 'interpolated': 0.96}
    """
    check_integer("width", width, 1, MAX_WIDTH)
    check_integer("base_width", base_width, 1, MAX_WIDTH)
    check_integer("vocab_size", vocab_size, 1, MAX_WIDTH)
    check_choice("parametrization", parametrization, tuple(derivations.PARAMETRIZATIONS))
    check_choice("optimizer", optimizer, derivations.TRAINING_OPTIMIZERS)
    check_choice("anchor", anchor, get_args(Anchor))
    check_choice("muon_scale", muon_scale, get_args(MuonScale))
    if tied and base_readout_lr is not None:
        raise InputError("base_readout_lr", base_readout_lr, "must be left out with `tied`")
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
    own_multipliers = {name: one.multiplier for name, one in multipliers.layers.items()}
    if tied:
        multipliers = _tied(multipliers)
    readout_multiplier = growth ** float(
        multipliers.readout.multiplier - own_multipliers["readout"]
    )
    excess = readout_excess(multipliers)
    mup_factors = _factors(multipliers, optimizer, derivations.FULL_ALIGNMENT, growth)
    lv_factors = _factors(multipliers, optimizer, UNALIGNED_HIDDEN, growth)
    if optimizer == "muon" and muon_scale == "rms":  # its updates grow with the root of the width
        mup_factors, lv_factors = (
            replace(one, hidden=one.hidden / growth**0.5) for one in (mup_factors, lv_factors)
        )
    # Coherence lost by the hidden layer's first update: 1 under muP, (d_0/d)^(1/2) under LV.
    incoherence = {
        "mup": 1.0,
        "lv": mup_factors.hidden / lv_factors.hidden,
        "interpolated": derivations.hidden_update_growth(
            width, base_width, law.mean_alignment_square, _known(optimizer)
        ),
    }
    mup_power, lv_power = 0.0, 0.0
    if growth != 1:
        mup_power = math.log(mup_factors.embedding / mup_factors.hidden) / math.log(growth)
        lv_power = mup_power + math.log(incoherence["lv"]) / math.log(growth)
    mup, lv, interpolated = (
        _answer(rule, mup_factors, incoherence[rule], base, anchor, tied)
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
        optimizer=_known(optimizer),
        anchor=anchor,
        muon_scale=muon_scale,
        mup=mup,
        lv=lv,
        interpolated=interpolated,
        regime=regime,
        base_regime=base_regime,
        spread=spread,
        coherence_ratio=regime.coherence_ratio,
        ratio_powers=(mup_power, lv_power),
        multiplier_exponents=(
            own_multipliers["embedding"],
            own_multipliers["hidden"],
            own_multipliers["readout"],
        ),
        tied=tied,
        readout_multiplier=readout_multiplier,
        explanation=explanation(
            width, base_width, optimizer, (mup, lv, interpolated), regime, law, muon_scale
        )
        + (f" {tied_words(readout_multiplier)}" if tied else initial_readout_words(excess, growth)),
    )


def _positive(field: str, value: float) -> float:
    if not (math.isfinite(value) and 0 < value <= 1e30):
        raise InputError(field, value, "must be a finite number above 0 and at most 1e30")
    return float(value)


def _known(optimizer: str) -> derivations.TrainingOptimizer:
    return next(name for name in derivations.TRAINING_OPTIMIZERS if name == optimizer)


def readout_excess(multipliers: derivations.Parametrization) -> float:
    """Power of the width by which the readout starts larger than muP's 1/d.

    Above 0, what the layers below learn moves the output by that power of the width.
    """
    return float(multipliers.readout.multiplier + multipliers.readout.init_std) + 1


def layer_exponents(
    multipliers: derivations.Parametrization,
    optimizer: derivations.TrainingOptimizer,
    alignment: derivations.NetworkAlignment,
) -> dict[str, Fraction]:
    """Powers of the width in the LRs by layer, in the own gauge; vectors have no multiplier."""
    free = replace(
        multipliers,
        **{name: replace(layer, lr=None) for name, layer in multipliers.layers.items()},
    )
    solved = derivations.solve_stability(free, optimizer, alignment).parametrization
    unit = solved.with_multipliers(optimizer)
    rates = {
        "embedding": solved.embedding.lr,
        "hidden": solved.hidden.lr,
        "readout": solved.readout.lr,
        "vector": unit.embedding.lr,
    }
    return {name: rate or Fraction(0) for name, rate in rates.items()}


def _factors(
    multipliers: derivations.Parametrization,
    optimizer: str,
    alignment: derivations.NetworkAlignment,
    growth: float,
) -> LayerValues:
    """growth^(LR exponent) by layer."""
    exponents = layer_exponents(multipliers, _known(optimizer), alignment)
    return LayerValues(**{name: growth ** float(power) for name, power in exponents.items()})


def _answer(
    rule: str,
    mup: LayerValues,
    incoherence: float,
    base: LayerValues,
    anchor: Anchor,
    tied: bool,
) -> RuleAnswer:
    """muP's factors with the embedding/hidden ratio multiplied by `incoherence`.

    A tied readout has the embedding's learning rate.
    """
    if anchor == "hidden":
        factors = replace(mup, embedding=mup.embedding * incoherence)
    else:
        factors = replace(mup, hidden=mup.hidden / incoherence)
    rates = LayerValues(**{name: base.of(name) * factors.of(name) for name in LABELS})
    if tied:
        factors = replace(factors, readout=factors.embedding)
        rates = replace(rates, readout=rates.embedding)
    return RuleAnswer(
        rule=rule,
        learning_rates=rates,
        factors=factors,
        ratio=rates.embedding / rates.hidden,
        ratio_growth=factors.embedding / factors.hidden,
        presumes=PRESUMES[rule],
        known=KNOWN[rule],
        not_known=NOT_KNOWN[rule],
    )


def _tied(multipliers: derivations.Parametrization) -> derivations.Parametrization:
    """The same with the embedding as readout, and the multiplier that it then needs.

    At full alignment entries times multiplier move as d^0 in the embedding and as d^-1 in the
    readout. One matrix moves as one, so the two multipliers must differ by d^-1.
    """
    embedding, readout = multipliers.embedding, multipliers.readout
    return replace(
        multipliers,
        readout=replace(
            readout, multiplier=embedding.multiplier - 1, init_std=embedding.init_std, lr=None
        ),
    )


def _regime(law: TokenLaw, width: int) -> Regime:
    rho = derivations.coherence_ratio().expression  # at m = 1: what c_i^2 is multiplied by
    kernel = float(rho.subs({s.width: width, s.vocab_size: 1}))
    coherent = kernel > law.effective_vocab_size  # (2/pi) (d - 1) c_i^2 > 1, shape (m,)
    mass = min(1.0, float(law.frequencies[coherent].sum()))
    ratio = kernel * law.mean_alignment_square
    return Regime(
        coherence_ratio=ratio,
        effective_vocab_size=1 / law.mean_alignment_square,
        mup_mass=mass,
        lv_mass=1 - mass,
        mup_tokens=int(coherent.sum()),
        name="mup" if ratio >= 1 else "lv",
    )
