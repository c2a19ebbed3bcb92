"""The first step of a matrix that reads features z_i = phi(h_i) in place of embeddings.

Row k of the update is -eta sign(v_l) with v_l = sum_j p_j delta_jk z_jl, and moves neuron k by
-eta sum_l z_il sign(v_l). Features with a mean over tokens push all entries of a row in a common
direction.
"""

from __future__ import annotations

from functools import cache

import sympy as sp

from . import _symbols as s
from ._derivation import Derivation, Step
from ._features import FEATURE_SOURCE, feature_overlap_symbol
from ._first_step import update_mean
from ._gaussian import Optimizer, arcsine_law, kernel
from ._law_first_step import in_alignment_square

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
FEATURE_ASSUMPTIONS = (
    "a network without skip connections, pre-activations of unit variance in every layer",
    INDEPENDENT_SIGNS,
)
_z, _other = sp.symbols("z z'", real=True)


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
                "Given the features, v = sum_j p_j delta_j z_j and v' of another neuron are "
                "Gaussian over the signs of delta. Their correlation is a mean over tokens of z z' "
                "over the root of those of z^2 and z'^2.",
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
    cross = (1 - share) * neuron_mean * other_mean + share * _z * _other
    square = (1 - share) * neuron_square + share * _z**2
    primed = (1 - share) * other_square + share * _other**2
    return cross / sp.sqrt(square * primed)


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
    features with a mean bring, (2/pi) rho asin(rho) behind one hidden layer; b is the token's own,
    2/pi for Gaussian features without a mean; chi is the chance agreement of random matrices below.
    SGD: eta^2 zeta^4 S d [1 - c^2 + c^2 (kappa_4 + d - 1) + (1 - c^2) (d - 1) (rho^2 + chi/d)].
    """
    d, c, rho = s.width, s.alignment, feature_overlap_symbol
    left, latex = "E[(Delta W z_i)_k^2]", r"\mathbb{E}[(\Delta W\,z_i)_k^2]"
    if optimizer == "sgd":
        others = 1 + (d - 1) * (rho**2 + chance_agreement / d)
        own = feature_fourth_moment + d - 1
        value = s.projection_lr**2 * feature_std**4 * s.field_square_sum * d
        value *= (1 - c**2) * others + c**2 * own
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
            Step("The shares of S = sum_j p_j^2 delta_j^2 are c^2 and 1 - c^2.", left, latex, value),
        )
        assumptions = FEATURE_ASSUMPTIONS
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
            *of_sign.steps[:-2],
            *pair_agreement_slope().steps,
            Step(
                "Behind one hidden layer every neuron has the same mean, M^2 = rho, so that a is",
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
        assumptions = (*FEATURE_ASSUMPTIONS, MANY_TOKENS, *of_sign.assumptions)
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
    """a = (2/pi) rho asin(rho): behind one hidden layer every neuron has the same mean."""
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
            Step("The mean is that of every neuron: M^2 = rho, Q = 1.", "a", "a", value),
        ),
        source=FEATURE_SOURCE,
    )


@cache
def own_share_agreement() -> Derivation:
    """b = (2/pi) (1 - rho gamma_3) / sqrt(1 - rho^2) behind one hidden layer."""
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
            Step("With M^2 = rho, Q = 1 and M T = gamma_3:", "b", "b", value),
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
