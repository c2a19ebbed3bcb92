"""Updates of later steps: how learned embeddings restore the alignment of the projection.

The first step of a matrix that reads m >> d tokens is noise. Later steps act on embeddings that
have moved, all by the same rule: e_i(t) = z_i - sigma_E theta sign(r_i . w). The gradient field
h_k = sum_i p_i r_ik e_i carries the sum of these moves, and its sign then points along them. Both
parts of the update, on z_i and on what was learned, follow from one Gaussian field with a mean.

Everything here holds while the residuals keep their initial size and direction. Source:
docs/theory/lv_lifetime.md#later-steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._gaussian import arcsine_law, hyperu, normal_expectation, shifted_sign_expectations
from ._law_first_step import UNIFORM_LAW
from ._simplified import simplified

Directions = Literal["one", "many"]
DIRECTIONS: tuple[Directions, ...] = ("one", "many")
SOURCE = "docs/theory/lv_lifetime.md#later-steps"
UNCHANGED = "the residuals have kept their initial size and direction"
PROJECTION_HELD = "the projection has moved little against its initial entries"
_RESIDUAL_DIRECTIONS: dict[Directions, str] = {
    "one": "one output, residuals of equal size",
    "many": "residuals are isotropic Gaussians over n_eff >> 1 directions (flat spectrum)",
}
_x = sp.Symbol("x", real=True)
_mean = sp.Symbol("a", positive=True)  # |mean| of the field in units of its noise
_threshold = sp.Symbol("k", positive=True)
age_step = sp.Symbol("epsilon", positive=True)  # eta_E / sigma_E
age_steps = sp.Symbol("t", nonnegative=True)
smoothing = sp.Symbol("k_E", positive=True)  # epsilon over the embedding gradient's std
_tau, _theta, _n = s.field_age, s.displacement, s.effective_outputs


@dataclass(frozen=True)
class AgedSignal:
    """The two parts of a neuron's mean update sign(h) e_i / sigma_E, along the residual of i.

    mean = c_i `on_initial` + (theta / sqrt(n_eff)) `on_learned`, in units of r_ik over its RMS;
    both are functions of the field age tau.
    """

    on_initial: sp.Expr
    on_learned: sp.Expr
    steps: tuple[Step, ...]
    assumptions: tuple[str, ...]


@cache
def field_age() -> Derivation:
    """tau = theta / sqrt(n_eff P_2): the learned part of the field over its noise.

    Uniform tokens: tau = (eta_E t / sigma_E) sqrt(m / n_eff).
    """
    signal = s.embedding_std * _theta / sp.sqrt(_n)
    noise = s.embedding_std * sp.sqrt(s.frequency_square_sum)
    age = simplified(signal / noise)
    return Derivation(
        name="Field age",
        left="tau",
        latex_left=r"\tau",
        expression=age,
        assumptions=(UNCHANGED, PROJECTION_HELD, "sign updates of the embedding, full batch"),
        steps=(
            Step(
                "Initial embeddings make the field h_k = sum_i p_i r_ik e_i a Gaussian of this "
                "standard deviation, in units of the residuals' RMS,",
                "noise",
                r"\mathrm{noise}",
                noise,
            ),
            Step(
                "and the moves -sigma_E theta sign(r_i . w) of all tokens add up to "
                "S_k = -sigma_E theta E_p[r_k sign(r . w)]: for one direction |r| sign(w), for "
                "Gaussian residuals of covariance V it is sqrt(2/pi) V w / sqrt(w V w), whose mean "
                "square over w and outputs is 2/pi of tr V^2 / (tr V)^2 in the same units. With "
                "n_eff = (tr V)^2 / tr V^2 (one direction: n_eff = 1) its size is, up to that "
                "2/pi,",
                "signal",
                r"\mathrm{signal}",
                signal,
            ),
            Step("Their ratio is the age.", "tau", r"\tau", age),
        ),
        source=SOURCE,
    )


@cache
def aged_signal(directions: Directions) -> AgedSignal:
    """E[sign(h) e_i] / sigma_E of a neuron, with h = noise + field that the moves have made.

    One direction: sqrt(2/pi) exp(-tau^2/2) and erf(tau / sqrt 2). Many: with
    g = 1 + (2/pi) tau^2, sqrt(2/pi) / sqrt(g) and (2/pi)^(3/2) tau / sqrt(g).
    """
    initial, learned = shifted_sign_expectations(_mean)
    steps = (
        Step(
            "Given the mean a of h (in units of its noise), the part of e_i that is correlated "
            "with the noise by c_i gives c_i times",
            "E[x sign(x + a)]",
            r"\mathbb{E}[x\operatorname{sign}(x+a)]",
            initial,
        ),
        Step(
            "and the mean of sign(h) itself is",
            "E[sign(x + a)]",
            r"\mathbb{E}\operatorname{sign}(x+a)",
            learned,
        ),
    )
    if directions == "one":
        on_initial, on_learned = (part.subs(_mean, _tau) for part in (initial, learned))
        reason = (
            "One direction: a = -tau sign(r_i w) for every neuron, so that the moves meet the sign "
            "that they have made."
        )
    else:
        spread = sp.sqrt(2 / sp.pi) * _tau  # standard deviation of a over neurons
        averaged = normal_expectation(initial.subs(_mean, _threshold * _x))
        on_initial = simplified(averaged.subs(_threshold, spread))
        # sign(h) against sign(r_i . w): a Gaussian pair whose correlation is that of a and r_i . w,
        # rho = r_ik / |r_i| << 1, diluted by the noise in h.
        rho = sp.Symbol("rho", positive=True)
        law = arcsine_law().expression.subs(s.alignment, rho * spread / sp.sqrt(1 + spread**2))
        on_learned = simplified(sp.diff(law, rho).subs(rho, 0))
        reason = (
            "Many directions: a is Gaussian over neurons with variance (2/pi) tau^2; average the "
            "first, and for the second use the arcsine law at the correlation "
            "r_ik / |r_i| ~ 1/sqrt(n_eff)."
        )
    steps += (
        Step(reason, "on z_i", r"\text{on }z_i", on_initial),
        Step("and on what was learned", "on moves", r"\text{on moves}", on_learned),
    )
    return AgedSignal(
        on_initial,
        on_learned,
        steps,
        (UNCHANGED, PROJECTION_HELD, _RESIDUAL_DIRECTIONS[directions]),
    )


@cache
def aged_update_second_moment(directions: Directions) -> Derivation:
    """Mean square of one later step's update (Delta W e_i)_k, averaged over tokens.

    eta_W^2 sigma_E^2 d [1 + Theta + (d - 1)(C u^2 + 2 c_1 u v theta/sqrt(n) + v^2 Theta/n)], with
    u, v of `aged_signal`, n = n_eff, C and c_1 the mean square and mean of the alignment c_i, theta
    and Theta the mean and mean square of the displacement. At theta = 0 it is the first step's.
    """
    parts = aged_signal(directions)
    u, v = parts.on_initial, parts.on_learned
    coherent = (
        s.alignment_square * u**2
        + 2 * s.mean_alignment * u * v * _theta / sp.sqrt(_n)
        + v**2 * s.displacement_square / _n
    )
    second = (
        s.projection_lr**2
        * s.embedding_std**2
        * s.width
        * (1 + s.displacement_square + (s.width - 1) * coherent)
    )
    return Derivation(
        name="Aged update: second moment of a later step's projection update",
        left="E[((W_(t+1) - W_t) e_i(t))_k^2]",
        latex_left=r"\mathbb{E}\left[((W_{t+1}-W_t)\,e_i(t))_k^2\right]",
        expression=second,
        assumptions=(
            *parts.assumptions,
            "sign, or Adam where its moves are signs",
        ),
        steps=(
            *parts.steps,
            Step(
                "Average the square of c_i u + theta_i v / sqrt(n_eff) over tokens.",
                "coherent part",
                r"\text{coherent part}",
                coherent,
            ),
            Step(
                "d neurons: d diagonal terms E[e_i^2] = sigma_E^2 (1 + theta_i^2) and d (d - 1) "
                "products of two means.",
                "E[((W_(t+1) - W_t) e_i(t))_k^2]",
                r"\mathbb{E}\left[((W_{t+1}-W_t)\,e_i(t))_k^2\right]",
                second,
            ),
        ),
        source=SOURCE,
    )


@cache
def aged_coherent_power(directions: Directions) -> sp.Expr:
    """rho of `aged_update_second_moment`: coherent power over the noise d of the first step."""
    second = aged_update_second_moment(directions).expression
    noise = s.projection_lr**2 * s.embedding_std**2 * s.width
    return sp.expand_mul(simplified(second / noise - 1 - s.displacement_square))


@cache
def aged_local_exponent(directions: Directions) -> sp.Expr:
    """d ln RMS / d ln d of `aged_update_second_moment` at fixed displacement and token law.

    Left as it is differentiated: simplified, its exponentials overflow at large ages.
    """
    second = aged_update_second_moment(directions).expression
    return s.width * sp.diff(second, s.width) / (2 * second)


@cache
def full_batch_age(*, gaussian: bool = False) -> dict[sp.Symbol, sp.Expr]:
    """tau, Theta, C and c_1 of a full batch, in theta and the sums of the token law.

    Every token moves at every step: Theta = theta^2. C = P_3/P_2 and c_1 = sqrt(P_2). `gaussian`:
    residuals of one direction that are Gaussian along it. All moves have the same size, so that
    they add up to E|r| sign(w), and c_1 is the mean of |r|: both have the factor sqrt(2/pi).
    """
    size = normal_expectation(sp.Abs(_x)) if gaussian else sp.Integer(1)
    return {
        _tau: size * field_age().expression,
        s.displacement_square: _theta**2,
        s.alignment_square: s.frequency_cube_sum / s.frequency_square_sum,
        s.mean_alignment: size * sp.sqrt(s.frequency_square_sum),
    }


@cache
def visited_age(*, mini_batch: bool) -> dict[sp.Symbol, sp.Expr]:
    """tau, Theta, C and c_1 of uniform tokens that have all moved by theta, after many visits."""
    if not mini_batch:
        return {symbol: value.subs(UNIFORM_LAW) for symbol, value in full_batch_age().items()}
    ages = mini_batch_age()
    return {
        _tau: _theta * (ages[_tau] / ages[_theta]),
        s.displacement_square: _theta**2,
        s.alignment_square: ages[s.alignment_square],
        s.mean_alignment: ages[s.mean_alignment],
    }


@cache
def mini_batch_age() -> dict[sp.Symbol, sp.Expr]:
    """theta, Theta, tau, C and c_1 of uniform tokens in batches of B, under sign.

    A token moves by epsilon = eta_E/sigma_E in the steps whose batch holds it, a binomial number of
    mean q t, q = 1 - (1 - 1/m)^B: age counts visits, not steps. The field is the batch's, whose
    squared shares sum to 1/B + (1 - 1/B)/m in the mean. Symbols: `age_step` (epsilon) and
    `age_steps` (t).
    """
    q, t, epsilon = s.presence, age_steps, age_step
    squares = 1 / s.batch_size + (1 - 1 / s.batch_size) / s.vocab_size
    theta = epsilon * q * t
    return {
        _tau: theta / sp.sqrt(_n * squares),
        _theta: theta,
        s.displacement_square: epsilon**2 * (q * (1 - q) * t + (q * t) ** 2),
        s.alignment_square: 1 / s.vocab_size,
        s.mean_alignment: 1 / (s.vocab_size * sp.sqrt(squares)),
    }


@cache
def coherent_field(directions: Directions) -> Derivation:
    """A(tau) = E|h| over the field's noise: the coherent part of an aged update, uniform tokens.

    One direction: E|x + tau| = sqrt(2/pi) exp(-tau^2/2) + tau erf(tau/sqrt 2). Many:
    sqrt(2/pi) sqrt(1 + (2/pi) tau^2). A(0) = sqrt(2/pi) is the first step.
    """
    parts = aged_signal(directions)
    field = simplified(parts.on_initial + _tau * parts.on_learned)
    return Derivation(
        name="Coherent part of an aged update",
        left="A(tau)",
        latex_left=r"A(\tau)",
        expression=field,
        assumptions=(*parts.assumptions, "uniform token law, full batch"),
        steps=(
            *parts.steps,
            Step(
                "Uniform tokens have c_i = 1/sqrt(m) and theta/sqrt(n_eff) = tau/sqrt(m), so the "
                "two parts join to A/sqrt(m). A is the mean of |h|, since "
                "sum_i p_i r_ik ((W_(t+1) - W_t) e_i)_k = -eta_W sum_l |h_kl| is an identity.",
                "A(tau)",
                r"A(\tau)",
                field,
            ),
        ),
        source=SOURCE,
    )


@cache
def aged_coherence_ratio(directions: Directions) -> Derivation:
    """rho(tau) = (d - 1) A(tau)^2 / m: coherent over incoherent power at age tau, uniform tokens.

    The local exponent is 1/2 + rho/(2 (1 + rho)) up to the embedding's growth theta^2.
    """
    field = coherent_field(directions)
    second = aged_update_second_moment(directions).expression
    bracket = second.subs(full_batch_age()).subs(UNIFORM_LAW)
    ratio = (s.width - 1) * field.expression**2 / s.vocab_size
    growth = s.projection_lr**2 * s.embedding_std**2 * s.width * (1 + _theta**2)
    at_age = field.expression.subs(_tau, field_age().expression).subs(UNIFORM_LAW)
    gap = bracket - growth - growth / (1 + _theta**2) * ratio.subs(field.expression, at_age)
    assert sp.simplify(gap) == 0, "the bracket must be 1 + theta^2 + rho"
    return Derivation(
        name="Coherence ratio at an age",
        left="rho(tau)",
        latex_left=r"\rho(\tau)",
        expression=ratio,
        assumptions=field.assumptions,
        steps=(
            *field.steps,
            Step(
                "Divide the coherent part d (d - 1) A^2/m by the noise d.",
                "rho(tau)",
                r"\rho(\tau)",
                ratio,
            ),
        ),
        source=SOURCE,
    )


@cache
def rewritten_field(directions: Directions) -> Derivation:
    """A(tau) where the projection is its own moves, w = -(eta_W t) sign(h): the field feeds itself.

    One direction: sqrt(2/pi) + tau. Many: sqrt(2/pi) (1 + tau).
    """
    noise = normal_expectation(sp.Abs(_x))
    # r . sign(h) is |r| or, for many directions, a Gaussian whose correlation with r_k is
    # 1/sqrt(n_eff): E[r_k sign(v)] = correlation E|v|.
    gain = sp.Integer(1) if directions == "one" else normal_expectation(sp.Abs(_x))
    field = sp.factor(noise + gain * _tau)
    return Derivation(
        name="Coherent part of an aged update, projection rewritten",
        left="A(tau)",
        latex_left=r"A(\tau)",
        expression=field,
        assumptions=(
            UNCHANGED,
            "the projection has moved far against its initial entries",
            _RESIDUAL_DIRECTIONS[directions],
            "uniform token law, full batch",
        ),
        steps=(
            Step("The first field is noise; its sign rewrites w, and", "E|x|", "E|x|", noise),
            Step(
                "each later move of the embedding, -sign(r_i . w) with w = -sign(h), adds to h "
                "along its own sign: h = x + gain tau sign(x), gain = E[r_k sign(r . sign h)] "
                "sqrt(n_eff) over the RMS of r_k.",
                "gain",
                r"\mathrm{gain}",
                gain,
            ),
            Step("So the mean of |h| is", "A(tau)", r"A(\tau)", field),
        ),
        source="docs/theory/lv_lifetime.md#rewritten-projection",
    )


@cache
def smoothed_speed() -> Derivation:
    """Mean size of a smoothed-sign move, E[|g|/sqrt(g^2 + eps^2)] = U(1/2, 1/2, k^2/2)/sqrt(pi).

    k = eps over the gradient's standard deviation, U Tricomi's function; the same as
    exp(k^2/2) erfc(k/sqrt 2), which overflows. An embedding under the smoothed sign moves as under
    sign with this learning-rate factor, so its LV regime lives 1/factor times longer.
    """
    # With u^2 = x^2 + k^2 the integral is that of exp(-u^2/2) beyond k: the chance of |u| > k.
    _, sign = shifted_sign_expectations(_threshold)
    product = sp.exp(_threshold**2 / 2) * (1 - sign).rewrite(sp.erfc)
    half = sp.Rational(1, 2)
    speed = hyperu(half, half, smoothing**2 / 2) / sp.sqrt(sp.pi)  # DLMF 13.6.8
    return Derivation(
        name="Speed of a smoothed sign",
        left="E[|g|/sqrt(g^2 + eps^2)]",
        latex_left=r"\mathbb{E}\,|g|/\sqrt{g^2+\epsilon^2}",
        expression=speed,
        assumptions=("the gradient's entries are Gaussian over neurons",),
        steps=(
            Step(
                "A smoothed sign with threshold epsilon moves by |x|/sqrt(x^2 + k_E^2), x the "
                "gradient and k_E the threshold over the gradient's standard deviation. Substitute "
                "u^2 = x^2 + k_E^2:",
                "E[|x|/sqrt(x^2 + k_E^2)]",
                r"\mathbb{E}\,|x|/\sqrt{x^2+k_E^2}",
                product.subs(_threshold, smoothing),
            ),
            Step(
                "As Tricomi's function, whose factors do not overflow:",
                "E[|x|/sqrt(x^2 + k^2)]",
                r"\mathbb{E}\,|x|/\sqrt{x^2+k^2}",
                speed,
            ),
        ),
        source="docs/theory/lv_lifetime.md#lifetime-of-other-optimizers",
    )
