"""The first step of a matrix that reads features z_i = phi(h_i) in place of embeddings.

Row k of the update is -eta sign(v_l) with v_l = sum_j p_j delta_jk z_jl, and moves neuron k by
-eta sum_l z_il sign(v_l). Features with a mean over tokens push all entries of a row in a common
direction.
"""

from __future__ import annotations

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._features import FEATURE_SOURCE, feature_overlap_symbol
from ._first_step import update_mean
from ._gaussian import Optimizer, arcsine_law, first_map_steps, kernel
from ._law_first_step import in_alignment_square
from ._token_laws import alignment, leading_order, zipf_orders

# Of a neuron l, over tokens, in units of the features' mean square over all neurons: mean, mean
# square and mean cube; those with a prime are of a second neuron.
neuron_mean, other_mean = sp.symbols("M M'", real=True)
neuron_square, other_square = sp.symbols("Q Q'", positive=True)
neuron_cube, other_cube = sp.symbols("T T'", real=True)

common_agreement = sp.Symbol("a", nonnegative=True)
own_agreement = sp.Symbol("b", positive=True)
chance_agreement = sp.Symbol("chi", nonnegative=True)
feature_fourth_moment = sp.Symbol("kappa_4", positive=True)
feature_std = sp.Symbol("zeta", positive=True)  # root mean square of the features
third_moment = sp.Symbol("gamma_3", nonnegative=True)  # E[z] E[z^3] / E[z^2]^2
signal_factor = sp.Symbol("q_1", positive=True)  # mean of sqrt(Q) over neurons

MANY_TOKENS = (
    "many tokens contribute: beyond the first order in c_i^2 the formula is exact for Gaussian "
    "features without a mean alone"
)
INDEPENDENT_SIGNS = (
    "backpropagated residuals have independent random signs over tokens (targets of mean zero, "
    "small initial output) and do not depend on the features of a single neuron"
)
CHANCE_DROPPED = (
    "features with a mean: the chance agreement of random matrices below is left out, of relative "
    "order 1/d unless residuals are centred, where the update is larger than said"
)
FEATURE_ASSUMPTIONS = (
    "a network without skip connections, pre-activations of unit variance in every layer",
    INDEPENDENT_SIGNS,
)
_z, _other = sp.symbols("z z'", real=True)

# How far the mean residual exceeds what independent residuals have by chance: E[R^2] = S (1 + xi)
# for R = sum_j p_j delta_jk. 0 by chance, -1 for centred residuals.
mean_excess = sp.Symbol("xi", real=True)
mean_residual = sp.Symbol("r_mean", nonnegative=True)  # |sum_j p_j r_j| over the root mean square
slope_coherence = sp.Symbol("phi_1", nonnegative=True)


def _moments(polynomial: sp.Expr) -> sp.Expr:
    """Mean over the tokens of a polynomial in the features of two neurons."""
    own = {0: sp.Integer(1), 1: neuron_mean, 2: neuron_square, 3: neuron_cube}
    other = {0: sp.Integer(1), 1: other_mean, 2: other_square, 3: other_cube}
    terms = sp.Poly(sp.expand(polynomial), _z, _other).terms()
    return sp.Add(*(factor * own[k] * other[q] for (k, q), factor in terms))


@cache
def pair_agreement() -> Derivation:
    """E[z z' sign(v) sign(v')] of two neurons at c_i = 0: M M' times the arcsine law."""
    share = sp.Symbol("w", nonnegative=True)
    correlation = _pair_correlation(share).subs(share, 0)
    law = arcsine_law()
    value = neuron_mean * other_mean * law.expression.subs(s.alignment, correlation)
    left, latex = (
        "E[z z' sign(v) sign(v')]",
        r"\mathbb{E}[z z'\operatorname{sign}v\operatorname{sign}v']",
    )
    return Derivation(
        name="Agreement of two neurons of a matrix that reads features",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(*FEATURE_ASSUMPTIONS, "the token has no share of its own in the gradient"),
        steps=(
            *law.steps,
            Step(
                "z is a neuron's feature, delta_j the residual sent back of token j. Given the "
                "features, v = sum_j p_j delta_j z_j and v' of another neuron are Gaussian over "
                "the signs of delta. Their correlation is a mean over tokens of z z' over the root "
                "of those of z^2 and z'^2: M M' over the root of Q Q', M the mean and Q the mean "
                "square over tokens. A mean residual R = sum_j p_j delta_j with E[R^2] = "
                "S (1 + xi), S = sum_j p_j^2 delta_j^2, adds xi times the products of the means.",
                "K",
                "K",
                correlation,
            ),
            Step("The arcsine law times the two features.", left, latex, value),
        ),
        source=FEATURE_SOURCE,
    )


def _pair_correlation(share: sp.Symbol) -> sp.Expr:
    """K of two neurons, of which a token with features z, z' has a share in the gradient."""
    cross = (1 - share + mean_excess) * neuron_mean * other_mean + share * _z * _other
    squares = [
        (1 - share) * square + share * feature**2 + mean_excess * mean**2
        for mean, square, feature in (
            (neuron_mean, neuron_square, _z),
            (other_mean, other_square, _other),
        )
    ]
    return cross / sp.sqrt(squares[0] * squares[1])


@cache
def residual_excess() -> Derivation:
    """xi = phi_1 (r^2 / P_2 - 1) from the size r of the mean residual over the residuals' own.

    phi_1 is the share of the backpropagated residuals' square that all tokens have in common: 1
    for linear layers above, 1/2 behind the gates of a ReLU with independent tokens.
    """
    value = slope_coherence * (mean_residual**2 / s.frequency_square_sum - 1)
    return Derivation(
        name="Mean residual beyond chance",
        left="xi",
        latex_left=r"\xi",
        expression=value,
        assumptions=("residuals are independent over tokens but for their mean",),
        steps=(
            Step(
                "r_mean is the mean residual sum_j p_j r_j over the residuals' root mean square. "
                "Independent residuals have by chance E[(sum_j p_j r_j)^2] = P_2 E[r^2]. A slope "
                "of the activation above keeps, in its mean over tokens, phi_1 = "
                "E[phi'_i phi'_j] / E[phi'^2] of what is common.",
                "xi",
                r"\xi",
                value,
            ),
        ),
        source=FEATURE_SOURCE,
    )


@cache
def neuron_signal() -> Derivation:
    """q_1 of one neuron: the sign kernel's mean for a residual of one, over sqrt(2/pi) c."""
    value = neuron_square / sp.sqrt(neuron_square + mean_excess * neuron_mean**2)
    return Derivation(
        name="A token's own signal in one neuron",
        left="q_1",
        latex_left="q_1",
        expression=value,
        assumptions=(*FEATURE_ASSUMPTIONS, MANY_TOKENS),
        steps=(
            Step(
                "The token's part of v is c z sqrt(S) against a Gaussian of variance "
                "S (Q + xi M^2), so that E[z sign(v)] = sqrt(2/pi) c E[z^2] / sqrt(Q + xi M^2).",
                "q_1",
                "q_1",
                value,
            ),
        ),
        source=FEATURE_SOURCE,
    )


@cache
def pair_agreement_slope() -> Derivation:
    """What a token's own share c_i^2 of the gradient adds to `pair_agreement`, per c_i^2."""
    share = sp.Symbol("w", nonnegative=True)
    correlation = _pair_correlation(share)
    change = sp.simplify(sp.diff(correlation, share).subs(share, 0))
    law = arcsine_law().expression
    slope = sp.diff(law, s.alignment).subs(s.alignment, correlation.subs(share, 0))
    value = slope * sp.factor(_moments(sp.expand(_z * _other * change)))
    left, latex = "b", "b"
    return Derivation(
        name="Agreement of two neurons by a token's own share of the gradient",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(*FEATURE_ASSUMPTIONS, MANY_TOKENS),
        steps=(
            *pair_agreement().steps,
            Step(
                "A token with the share c_i^2 of the gradient's square changes K, per c_i^2 and to "
                "first order, by",
                "dK/dc_i^2",
                r"\partial K/\partial c_i^2",
                change,
            ),
            Step(
                "Times the slope of the arcsine law and times z z', and the mean over tokens:",
                left,
                latex,
                value,
            ),
        ),
        source=FEATURE_SOURCE,
    )


def same_for_all_neurons() -> dict[sp.Symbol, sp.Expr]:
    """M, Q and T of features that have the same mean in every neuron, by rho and gamma_3."""
    root = sp.sqrt(feature_overlap_symbol)
    of_one = {
        neuron_mean: root,
        neuron_square: sp.Integer(1),
        neuron_cube: third_moment / root,
    }
    return of_one | {
        other_mean: root,
        other_square: sp.Integer(1),
        other_cube: third_moment / root,
    }


@cache
def feature_update_second_moment(optimizer: Optimizer) -> Derivation:
    """E[(Delta W z_i)_k^2] of a matrix that reads features of mean square zeta^2.

    Sign: eta^2 zeta^2 d [1 + (d - 1) (a + b c^2 + (2/pi) chi / d)]. a is the agreement that
    features with a mean bring, (2/pi) rho asin(rho) behind one hidden layer at xi = 0; b is the
    token's own, 2/pi for Gaussian features without a mean; chi is the chance agreement of random
    matrices below.
    SGD: eta^2 zeta^4 S d [1 - c^2 + c^2 (kappa_4 + d - 1) + (1 - c^2) (d - 1) (rho^2 + chi/d)]
    at xi = 0.
    """
    d, c, rho = s.width, s.alignment, feature_overlap_symbol
    left, latex = "E[(Delta W z_i)_k^2]", r"\mathbb{E}[(\Delta W\,z_i)_k^2]"
    if optimizer == "sgd":
        others = 1 + (d - 1) * (rho**2 + chance_agreement / d)
        common = mean_excess * rho * (1 + (d - 1) * rho)
        own = feature_fourth_moment + d - 1
        value = s.projection_lr**2 * feature_std**4 * s.field_square_sum * d
        value *= (1 - c**2) * others + c**2 * own + common
        steps: tuple[Step, ...] = (
            Step(
                "The update is -eta sum_j p_j delta_j (z_j . z_i). With independent signs its "
                "square is a sum over j. For another token, over d and the squared mean square of "
                "the features, E[(z_j . z_i)^2] is",
                "other tokens",
                r"j\ne i",
                others,
            ),
            Step("and for the token itself", "the token itself", "j = i", own),
            Step(
                "A mean residual beyond chance multiplies the features' mean and adds",
                "mean residual",
                r"\xi",
                common,
            ),
            Step(
                "The shares of S = sum_j p_j^2 delta_j^2 are c^2 and 1 - c^2.", left, latex, value
            ),
        )
        assumptions = (*FEATURE_ASSUMPTIONS, CHANCE_DROPPED)
    else:
        of_sign = kernel(optimizer)
        slope = sp.diff(arcsine_law().expression, c).subs(c, 0)
        agreement = common_agreement + own_agreement * c**2 + slope * chance_agreement / d
        value = s.projection_lr**2 * feature_std**2 * d * (1 + (d - 1) * agreement)
        uniform = same_for_all_neurons()
        common, own = (
            sp.simplify(one.expression.subs(uniform, simultaneous=True))
            for one in (pair_agreement(), pair_agreement_slope())
        )
        steps = (
            *first_map_steps(optimizer),
            *pair_agreement_slope().steps,
            Step(
                "Behind one hidden layer every neuron has the same mean, M^2 = rho, the overlap of "
                "two tokens' features, so that a is",
                "a",
                "a",
                common,
            ),
            Step("and with gamma_3 = E[z] E[z^3] / E[z^2]^2, b is", "b", "b", own),
            Step(
                "The square of the sum over neurons has d squares and d (d - 1) pairs. Random "
                "matrices below turn features of different tokens towards each other by chance, "
                "chi/d in the squared cosine.",
                left,
                latex,
                value,
            ),
        )
        assumptions = (*FEATURE_ASSUMPTIONS, CHANCE_DROPPED, MANY_TOKENS, *of_sign.assumptions)
    return Derivation(
        name=f"First step of a matrix that reads features under {optimizer}: second moment",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=assumptions,
        steps=steps,
        source=FEATURE_SOURCE,
    )


@cache
def common_mean_agreement() -> Derivation:
    """a = (2/pi) rho asin(rho (1 + xi)/(1 + xi rho)): behind one hidden layer every neuron has the
    same mean. Without a mean residual (xi = -1) it vanishes, with a large one it is rho."""
    base = pair_agreement()
    value = sp.simplify(base.expression.subs(same_for_all_neurons(), simultaneous=True))
    return Derivation(
        name="Agreement that features with a common mean bring, at any vocabulary",
        left="a",
        latex_left="a",
        expression=value,
        assumptions=base.assumptions,
        steps=(
            *base.steps,
            Step(
                "The mean is that of every neuron: M^2 = rho, the overlap of two tokens' features, "
                "and Q = 1.",
                "a",
                "a",
                value,
            ),
        ),
        source=FEATURE_SOURCE,
    )


@cache
def own_share_agreement() -> Derivation:
    """b behind one hidden layer; at xi = 0 it is (2/pi) (1 - rho gamma_3) / sqrt(1 - rho^2)."""
    base = pair_agreement_slope()
    value = sp.simplify(base.expression.subs(same_for_all_neurons(), simultaneous=True))
    return Derivation(
        name="Agreement by a token's own share, features with a common mean",
        left="b",
        latex_left="b",
        expression=value,
        assumptions=base.assumptions,
        steps=(
            *base.steps,
            Step(
                "With M^2 = rho, the overlap of two tokens' features, Q = 1 and M T = gamma_3, T "
                "the mean cube:",
                "b",
                "b",
                value,
            ),
        ),
        source=FEATURE_SOURCE,
    )


@cache
def feature_chance_agreement() -> Derivation:
    """chi of a matrix from that of the matrix below: slope_share^2 (1 + chi), features of mean 0.

    slope_share = E[phi']^2 / E[phi^2]. Linear layers: chi = l - 1 at the l-th matrix.
    """
    share, below = feature_slope_share, chance_agreement
    value = share**2 * (1 + below)
    return Derivation(
        name="Chance agreement of features without a mean, from one layer to the next",
        left="chi'",
        latex_left=r"\chi'",
        expression=value,
        assumptions=("features without a mean over tokens", "leading order in the width"),
        steps=(
            Step(
                "The squared cosine of two tokens' features is chi/d. A random matrix of d rows "
                "adds 1/d to it, and behind the activation a small cosine is multiplied by "
                "lambda_1 = E[phi']^2 / E[phi^2].",
                "chi'",
                r"\chi'",
                value,
            ),
        ),
        source=FEATURE_SOURCE,
    )


feature_slope_share = sp.Symbol("lambda_1", nonnegative=True)


@cache
def feature_first_step(optimizer: Optimizer) -> tuple[Derivation, Derivation]:
    """Mean and RMS of the first update at LR = 1, for features of mean square one.

    The mean is that of a token whose backpropagated residual is one; its alignment c and the
    average C of c^2 stay symbols, since the sizes of the other residuals decide them.
    """
    second, signal = feature_update_second_moment(optimizer), update_mean("hidden", optimizer)
    units = {s.projection_lr: 1, s.embedding_std: 1, feature_std: 1}
    rms = sp.sqrt(in_alignment_square(second.expression, s.alignment_square).subs(units))
    mean = signal.expression.subs(units)
    if optimizer != "sgd":
        mean = mean * signal_factor
    reason = "Features of mean square one, LR = 1; C is c^2 or its average over tokens."
    assumptions = (*second.assumptions, "learning rate 1", "features of mean square one")

    def ended(value: sp.Expr, left: str, latex: str, steps: tuple[Step, ...]) -> Derivation:
        return Derivation(
            name=f"First step of a matrix that reads features under {optimizer}: {left} at LR = 1",
            left=left,
            latex_left=latex,
            expression=value,
            assumptions=assumptions,
            steps=(*steps, Step(reason, left, latex, value)),
            source=FEATURE_SOURCE,
        )

    own = Step(
        "A residual of one moves its own token by the kernel's mean. The gradient's size in neuron "
        "l is sqrt(Q), whose mean over neurons is q_1 (1 behind one hidden layer).",
        signal.left,
        signal.latex_left,
        mean,
    )
    return (
        ended(mean, "mean", r"\mathrm{mean}", (*signal.steps, own)),
        ended(rms, "RMS", r"\mathrm{RMS}", second.steps),
    )


@cache
def feature_exponent(
    optimizer: Optimizer,
    *,
    of_one_token: bool = False,
    mini_batch: bool = False,
    common_mean: bool = False,
) -> sp.Expr:
    """Exponent of d in the RMS of `feature_first_step` along m = d^mu, i = d^iota, B = d^beta.

    With a `common_mean`, of features and of residuals, it is 1 under sign whatever the vocabulary.
    """
    _, rms = feature_first_step(optimizer)
    orders = dict(zipf_orders())
    law = alignment(of_one_token=of_one_token, mini_batch=mini_batch)
    size = {s.alignment_square: law.alignment_square, s.field_square_sum: law.field_square_sum}
    for symbol, value in size.items():
        orders[symbol] = leading_order(sp.expand(value), orders)
    for symbol in (own_agreement, chance_agreement, feature_fourth_moment):
        orders[symbol] = sp.Integer(0)
    values = {mean_excess: 0}
    if common_mean:
        orders |= {common_agreement: sp.Integer(0), feature_overlap_symbol: sp.Integer(0)}
    else:
        values |= {common_agreement: 0, feature_overlap_symbol: 0}
    return leading_order((rms.expression**2).subs(values), orders) / 2
