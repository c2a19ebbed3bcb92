"""Alignment exponents from the vocabulary: what the stability program is fed for a token law.

All tokens contribute to the gradient of the first matrix that reads the embedding, so its alignment
is decided by the token law (`_token_laws`), the batch and the age of the network. Every other layer
keeps the alignment of the fixed-vocabulary theory. Source:
docs/theory/parametrizations.md#vocabulary-alignment.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, get_args

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._first_step import update_second_moment
from ._gaussian import Optimizer
from ._parametrizations import (
    HALF,
    TrainingOptimizer,
    as_exponent,
    check_training_optimizer,
)
from ._stability_constraints import ALIGNED, UNALIGNED, LayerAlignment, NetworkAlignment
from ._token_laws import (
    BATCH_AVERAGE,
    EQUAL_RESIDUALS,
    alignment,
    batch_alignment,
    leading_order,
    multinomial_moment,
    zipf_orders,
)

AveragedOver = Literal["law", "batch", "token"]
AVERAGED_OVER: tuple[AveragedOver, ...] = get_args(AveragedOver)
UpdateAlignment = Literal["none", "full"]
age_exponent = sp.Symbol("y", real=True)  # of tau = d^y
age = sp.Symbol("tau", positive=True)
embedding_residual = sp.Symbol("r_1", nonnegative=True)
initial_alignment, learned_alignment = sp.symbols("A U", positive=True)
# Which of the three optimizers of `_gaussian` an optimizer's first update is.
_ENGINE: dict[TrainingOptimizer, Optimizer] = {
    "sgd": "sgd",
    "momentum": "sgd",
    "sign": "sign",
    "adam": "adam",
    "adamw": "adam",
    "adafactor": "adam",
}


@cache
def batch_alignment_square() -> Derivation:
    """Squared alignment of the batch's own tokens: E sum_i p_hat_i c_i^2, weighted by the batch.

    (1/B^2 + 3 (1 - 1/B) P_2 / B + (1 - 1/B) (1 - 2/B) P_3) / (1/B + (1 - 1/B) P_2), from the
    multinomial moments. For uniform tokens of order 1/min(m, B): a batch of fewer tokens than
    types is a small vocabulary.
    """
    value = batch_alignment()
    left, latex = "sum_i p_hat_i c_i^2", r"\sum_i\hat p_ic_i^2"
    return Derivation(
        name="Squared alignment averaged over the tokens of the batch",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(EQUAL_RESIDUALS, BATCH_AVERAGE),
        steps=(
            Step(
                "The third moment of a binomial share of the batch:",
                "E[p_hat_i^3]",
                r"\mathbb{E}[\hat p_i^3]",
                multinomial_moment(3),
            ),
            Step(
                "Weigh c_i^2 = p_hat_i^2 / sum_j p_hat_j^2 by the batch's own shares: sum that "
                "moment over tokens and divide by the sum of the second moments.",
                left,
                latex,
                value,
            ),
        ),
        source="docs/theory/regimes.md#batch-vocabulary",
    )


def _alignment_square(
    averaged_over: AveragedOver, mini_batch: bool
) -> tuple[sp.Expr, tuple[str, ...]]:
    if averaged_over == "batch" and mini_batch:
        derived = batch_alignment_square()
        return derived.expression, derived.assumptions
    laws = alignment(of_one_token=averaged_over == "token", mini_batch=mini_batch)
    return laws.alignment_square, laws.assumptions


def alignment_exponent(
    optimizer: TrainingOptimizer = "adam",
    averaged_over: AveragedOver = "law",
    *,
    mini_batch: bool = False,
) -> Derivation:
    """A of the first matrix that reads the embedding, as a function of mu, alpha, beta and iota.

    The first-step RMS of Delta W e over the size of Delta W's entries is
    sqrt(d [1 + (2/pi) (d - 1) C]) under sign and sqrt(d [1 + (d + 1) C]) under SGD, so
    A = max(1/2, 1 + order(C)/2) with C the squared alignment of the token law along m = d^mu,
    B = d^beta and i = d^iota. Uniform tokens in full batch: max(1 - mu/2, 1/2).

    **Arguments:**

    - `averaged_over`: the tokens over which the squared alignment is averaged, those that must
      stay stable: `law`, all, weighted by frequency; `batch`, those of the batch that made the
      update; `token`, the one of rank d^iota (in mini-batch averaged over batches, those without
      the token included).
    - `mini_batch`: with B = d^beta tokens a step instead of the full batch.

    Raises `ValueError` for Muon, the size of whose update no alignment enters (`muon_update_rms`).
    """
    check_training_optimizer(optimizer)
    if optimizer == "muon":
        raise ValueError("Muon's update has no alignment exponent: its spectral norm is bounded")
    if averaged_over not in AVERAGED_OVER:
        raise ValueError(
            f"unknown {averaged_over!r:.60}: must be one of {', '.join(AVERAGED_OVER)}"
        )
    return _alignment_exponent(_ENGINE[optimizer], averaged_over, mini_batch)


@cache
def _alignment_exponent(
    optimizer: Optimizer, averaged_over: AveragedOver, mini_batch: bool
) -> Derivation:
    moment = update_second_moment("hidden", optimizer)
    square, assumptions = _alignment_square(averaged_over, mini_batch)
    per_entry = moment.expression.subs(s.alignment, sp.sqrt(s.alignment_square))
    prefactor = per_entry.subs({s.alignment_square: 0, s.width: 1})  # an entry of the update
    growth = sp.simplify(per_entry / prefactor)
    orders = zipf_orders()
    order_of_square = leading_order(sp.numer(square), orders) - leading_order(
        sp.denom(square), orders
    )
    # Evaluate the bracket with C as a symbol of known order: d and C are all that is left in it.
    value = leading_order(growth, {s.width: sp.Integer(1), s.alignment_square: order_of_square}) / 2
    return Derivation(
        name=f"Alignment exponent of the first hidden matrix under {optimizer}",
        left="A",
        latex_left="A",
        expression=value,
        assumptions=(
            *moment.assumptions,
            *assumptions,
            "Zipf token law, up to logarithms",
            "optimizer's first step (Adafactor and Adam normalise entry by entry)",
        ),
        steps=(
            *moment.steps,
            Step(
                "Relative to one entry of the update, with C the squared alignment:",
                "E[(Delta W e)^2] / E[Delta W^2]",
                r"\mathbb{E}[(\Delta W e)^2]/\mathbb{E}[\Delta W^2]",
                growth,
            ),
            Step("The token law gives C.", "C", "C", square),
            Step(
                "Its exponent of d along m = d^mu.",
                "order C",
                r"\operatorname{order}C",
                order_of_square,
            ),
            Step("Half the exponent of the bracket is A.", "A", "A", value),
        ),
        source="docs/theory/parametrizations.md#vocabulary-alignment",
    )


@cache
def learned_alignment_exponent() -> Derivation:
    """U as a function of the age: max(1/2, 1 + min(0, y)) at age tau = d^y.

    What the embeddings have learned after age tau = eta_E t sqrt(m / n_eff) / sigma_E adds a
    coherent term of relative size tau to the projection's gradient, whose correlation with the
    learned part is tau / sqrt(1 + tau^2); the sign kernel then gives
    RMS^2 ~ d [1 + (2/pi) (d - 1) tau^2 / (1 + tau^2)]. Young (tau ~ 1/sqrt(d) or less): 1/2;
    old (tau ~ 1 or more): 1. The prefactor of tau is not derived here.
    """
    correlation = age / sp.sqrt(1 + age**2)
    kernel = update_second_moment("projection", "sign")
    units: dict[sp.Expr, sp.Expr | int] = {
        s.projection_lr: 1,
        s.embedding_std: 1,
        s.alignment: correlation,
    }
    square = kernel.expression.subs(list(units.items()))
    # tau^2 / (1 + tau^2) has the order of tau^2 while tau is small and of one afterwards.
    saturating = sp.Min(0, 2 * age_exponent)
    bracket = kernel.expression.subs({s.projection_lr: 1, s.embedding_std: 1}).subs(
        s.alignment, sp.sqrt(s.alignment_square)
    )
    orders = {s.width: sp.Integer(1), s.alignment_square: saturating}
    value = leading_order(bracket, orders) / 2
    return Derivation(
        name="Alignment exponent of the update on learned embeddings",
        left="U",
        latex_left="U",
        expression=value,
        assumptions=(
            *kernel.assumptions,
            "the learned part of the embeddings is shared by all tokens up to its sign",
            "age tau = eta_E t sqrt(m/n_eff)/sigma_E = d^y, prefactors of tau dropped",
        ),
        steps=(
            Step(
                "The learned part correlates with the gradient's argument by tau/sqrt(1 + tau^2).",
                "c",
                "c",
                correlation,
            ),
            Step(
                "Put it into the sign kernel.",
                "E[(Delta W Delta e)^2]",
                r"\mathbb{E}[(\Delta W\Delta e)^2]",
                square,
            ),
            Step("With tau = d^y:", "U", "U", value),
        ),
        source="docs/theory/parametrizations.md#vocabulary-alignment",
    )


@cache
def embedding_hidden_trade() -> Derivation:
    """c >= max(A, U - r_1): what a slower embedding buys for the hidden layer (multiplier one).

    Everything r_1 above U - A is wasted. At r_1 = 0 the hidden LR is d^-max(A, U); at
    r_1 = max(0, U - A) it is d^-A. `maximal_learning_rates` has the same two corners.
    """
    first = initial_alignment
    second = learned_alignment - embedding_residual
    value = sp.Max(first, second)
    return Derivation(
        name="Trade between a slower embedding and a faster hidden layer",
        left="c",
        latex_left="c",
        expression=value,
        assumptions=("multiplier one; Adam or another optimizer with entrywise normalisation",),
        steps=(
            Step(
                "The learning rate of the hidden layer goes like d^-c, that of the embedding is "
                "slowed by d^-r_1. A step of the hidden layer moves its output by d^(A - c) by "
                "the initial embeddings: c - A >= 0.",
                "c",
                "c",
                first,
            ),
            Step(
                "and by d^(U - c - r_1) through what they have learned: c + r_1 - U >= 0.",
                "c",
                "c",
                second,
            ),
            Step(
                "Slowing the embedding buys nothing beyond the corner where the two are equal:",
                "r_1",
                "r_1",
                sp.Max(0, learned_alignment - initial_alignment),
            ),
            Step("Both must hold.", "c", "c", value),
        ),
        source="docs/theory/parametrizations.md#vocabulary-alignment",
    )


def _value(expression: sp.Expr, values: dict[sp.Symbol, Fraction]) -> Fraction:
    exact: dict[sp.Expr, sp.Expr] = {
        symbol: sp.Rational(v.numerator, v.denominator) for symbol, v in values.items()
    }
    value = expression.subs(list(exact.items()))
    assert isinstance(value, sp.Rational)
    return as_exponent(value)


@cache
def vocabulary_alignment(
    optimizer: TrainingOptimizer = "adam",
    *,
    vocab_exponent: str | int | Fraction,
    zipf_exponent: str | int | Fraction = 0,
    batch_exponent: str | int | Fraction | None = None,
    rank_exponent: str | int | Fraction | None = None,
    averaged_over: AveragedOver = "law",
    update_alignment: UpdateAlignment = "none",
    learned_age_exponent: str | int | Fraction | None = None,
    other_layers: UpdateAlignment | None = None,
) -> NetworkAlignment:
    """Alignment exponents of a network whose vocabulary grows as m = d^mu, for `solve_stability`.

    The hidden matrix gets A from the token law and U = 1/2 in the young network
    (`update_alignment="none"`), 1 in the old one (`"full"`), or U of a given age. The readout
    keeps A = U of the fixed-vocabulary theory, `other_layers` full or none, by default as
    `update_alignment` says. Omega is 1/2. For SGD and momentum the gradient's own dependence on
    the vocabulary is included (`gradient`); for Muon A and U are carried but not used.

    **Arguments:** exponents are exact (`"1/2"`); `batch_exponent` None is the full batch;
    `rank_exponent` gives A of the token of that rank and needs `averaged_over="token"`.

    Raises `ValueError` for negative exponents, a rank beyond the vocabulary, or unknown names.
    """
    if update_alignment not in get_args(UpdateAlignment):
        raise ValueError(f"unknown update alignment {update_alignment!r:.60}: must be none or full")
    if (rank_exponent is not None) != (averaged_over == "token"):
        raise ValueError("a rank exponent belongs to averaged_over='token', and only to that")
    values = {
        s.vocab_exponent: as_exponent(vocab_exponent),
        s.zipf_exponent: as_exponent(zipf_exponent),
        s.batch_exponent: as_exponent(0 if batch_exponent is None else batch_exponent),
        s.rank_exponent: as_exponent(0 if rank_exponent is None else rank_exponent),
    }
    for symbol, value in values.items():
        if value < 0:
            raise ValueError(f"the {s.MEANING[symbol]} must not be negative, not {value}")
    if values[s.rank_exponent] > values[s.vocab_exponent]:
        raise ValueError("the rank exponent must not exceed the vocabulary exponent")
    mini_batch = batch_exponent is not None
    learned = HALF if update_alignment == "none" else Fraction(1)
    if learned_age_exponent is not None:
        age_value = {age_exponent: as_exponent(learned_age_exponent)}
        learned = _value(learned_alignment_exponent().expression, age_value)
    initial = Fraction(1)
    if optimizer != "muon":
        derived = alignment_exponent(optimizer, averaged_over, mini_batch=mini_batch)
        initial = _value(derived.expression, values)
    readout = ALIGNED if (other_layers or update_alignment) == "full" else UNALIGNED
    gradient = (Fraction(0), Fraction(0), Fraction(0))
    if optimizer in ("sgd", "momentum"):
        gradient = _gradient_exponents(values, averaged_over, mini_batch)
    return NetworkAlignment(LayerAlignment(initial, learned, HALF), readout, gradient)


def _gradient_exponents(
    values: dict[sp.Symbol, Fraction], averaged_over: AveragedOver, mini_batch: bool
) -> tuple[Fraction, Fraction, Fraction]:
    """Powers of d in the gradients of embedding, hidden and readout that the token law puts there.

    Hidden and readout have sqrt(S); the embedding of a token has its own share, in the mean
    square over the tokens looked at. Full batch: sqrt(P_3), or p_i for one token.
    """
    orders = zipf_orders()
    field = alignment(of_one_token=False, mini_batch=mini_batch).field_square_sum
    square_at_token = _alignment_square(averaged_over, mini_batch)[0]
    numerator = sp.numer(sp.together(square_at_token * field))
    denominator = sp.denom(sp.together(square_at_token * field))
    share = (leading_order(sp.expand(numerator), orders) - leading_order(denominator, orders)) / 2
    noise = leading_order(sp.expand(field), orders) / 2
    both = _value(noise, values)
    return _value(share, values), both, both


@cache
def hidden_update_growth_formula(optimizer: TrainingOptimizer) -> sp.Expr:
    """RMS(d)/RMS(d_0) (d_0/d) of the first hidden matrix's update, in d, `base_width` and C.

    From the first-step moments at equal entries of Delta W: sqrt(d [1 + (2/pi) (d - 1) C]) under
    sign and Adam, sqrt(d [1 + (d + 1) C]) under SGD; 1 under Muon while the gradient has full rank.
    """
    check_training_optimizer(optimizer)
    if optimizer == "muon":
        return sp.Integer(1)
    moment = update_second_moment("hidden", _ENGINE[optimizer]).expression
    square = moment.subs(s.alignment, sp.sqrt(s.alignment_square))
    ratio = square / square.subs(s.width, s.base_width)
    return sp.sqrt(ratio) * s.base_width / s.width


def hidden_update_growth(
    width: int, base_width: int, alignment_square: float, optimizer: TrainingOptimizer
) -> float:
    """`hidden_update_growth_formula` at numbers: the finite-size growth between two widths, over
    d/d_0. It is 1 in the muP regime, sqrt(d_0/d) in the LV regime, and 1 under Muon.
    """
    values = {
        s.width: width,
        s.base_width: base_width,
        s.alignment_square: sp.Float(alignment_square, 30),
    }
    return float(hidden_update_growth_formula(optimizer).evalf(20, subs=values))
