"""The two rules for the ratio of embedding to projection learning rate, derived.

One output, sign (or Adam's first step), mean squared error, |r| = 1 at initialisation.
"""

from __future__ import annotations

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._first_step import (
    GAUSSIAN_WEIGHTS,
    self_term_ratio,
    self_term_second_moment,
    update_mean,
    update_second_moment,
)
from ._gaussian import normal_expectation, shifted_sign_expectations
from ._law_first_step import UNIFORM_LAW, Init, initial_std
from ._token_laws import EQUAL_RESIDUALS

ASSUMPTIONS = (
    GAUSSIAN_WEIGHTS,
    EQUAL_RESIDUALS,
    "one output, sign or Adam's first step, full batch",
    "the residuals do not depend on the weights (small initial output)",
)


def _moments(layer: str) -> tuple[sp.Expr, sp.Expr]:
    """Mean (per unit residual sign) and second moment of a layer's update at |r| = 1, LR = 1."""
    name = "embedding" if layer == "embedding" else "projection"
    unit = {s.embedding_lr: 1, s.projection_lr: 1, s.residual: 1, s.residual_norm: 1}
    mean = update_mean(name, "sign").expression.subs(unit)
    return mean, update_second_moment(name, "sign").expression.subs(unit)


def _averaged(expression: sp.Expr) -> sp.Expr:
    """Frequency-weighted average over tokens: c -> P_2/sqrt(P_2), c^2 -> P_3/P_2."""
    c, p2, p3 = s.alignment, s.frequency_square_sum, s.frequency_cube_sum
    polynomial = sp.Poly(expression, c)
    value = {0: sp.Integer(1), 1: sp.sqrt(p2), 2: p3 / p2}
    return sp.Add(*(factor * value[power] for (power,), factor in polynomial.terms()))


@cache
def maximal_update_ratio() -> Derivation:
    """eta_E/eta_W at which both layers change the output equally.

    RMS of the projection's update against the embedding's signal:
    sqrt(pi/2) sqrt(d + (2/pi) d (d - 1) sum_i p_i c_i^2) sigma_E / (d sigma_W).
    """
    _, projection = _moments("projection")
    signal, _ = _moments("embedding")
    ratio = sp.simplify(sp.sqrt(_averaged(projection)) / -signal)
    left, latex = "eta_E/eta_W", r"\eta_E/\eta_W"
    return Derivation(
        name="Maximal-update learning-rate ratio",
        left=left,
        latex_left=latex,
        expression=ratio,
        assumptions=(*ASSUMPTIONS, "the embedding's update is its signal (relative error 1/d)"),
        steps=(
            Step(
                "Frequency-weighted second moment of the projection's update at LR = 1.",
                "E[(Delta W e)^2]",
                r"\mathbb{E}[(\Delta W e)^2]",
                _averaged(projection),
            ),
            Step(
                "Signal of the embedding's update at LR = 1.",
                "E[W Delta e]",
                r"\mathbb{E}[W\Delta e]",
                -signal,
            ),
            Step(
                "Set eta_W times the root of the first equal to eta_E times the second.",
                left,
                latex,
                ratio,
            ),
        ),
        source="docs/theory/learning_rates.md#maximal-update-ratio",
    )


@cache
def optimal_learning_rate(layer: str) -> Derivation:
    """The layer's one-step loss-minimising LR with the other layer frozen.

    L(eta) = L(0) + eta sum_i p_i r_i E[u_i] + (eta^2/2) sum_i p_i E[u_i^2] for a mean squared
    error and an update eta u_i of the output; its minimum is a ratio of first-step moments.
    Projection: sqrt(2/pi) sqrt(P_2) / (sigma_E (1 + (2/pi) (d-1) P_3/P_2)); embedding:
    sqrt(2/pi) / (sigma_W (1 + (2/pi) (d-1))).
    """
    mean, second = _moments(layer)
    rate = s.embedding_lr if layer == "embedding" else s.projection_lr
    slope, curvature = _averaged(mean), _averaged(second)
    loss = slope * rate + curvature * rate**2 / 2
    (best,) = sp.solve(sp.diff(loss, rate), rate)
    best = sp.simplify(best)
    left, latex = f"{rate}*", f"{sp.latex(rate)}^*"
    return Derivation(
        name=f"One-step optimal learning rate of the {layer}",
        left=left,
        latex_left=latex,
        expression=best,
        assumptions=(*ASSUMPTIONS, "mean squared error; the other layer is frozen"),
        steps=(
            Step(
                "The loss after the step is quadratic in the learning rate. Less the loss before "
                "it is this, the slope from the mean of the update and the curvature from its mean "
                "square:",
                "L - L_0",
                "L-L_0",
                loss,
            ),
            Step("Its minimum:", left, latex, best),
        ),
        source="docs/theory/learning_rates.md#greedy-ratio",
    )


@cache
def optimal_ratio() -> Derivation:
    """eta_E*/eta_W*, exact at finite d, for any token law and any initial scales."""
    embedding, projection = optimal_learning_rate("embedding"), optimal_learning_rate("projection")
    ratio = sp.simplify(embedding.expression / projection.expression)
    left, latex = "eta_E*/eta_W*", r"\eta_E^*/\eta_W^*"
    return Derivation(
        name="Greedy-optimal learning-rate ratio",
        left=left,
        latex_left=latex,
        expression=ratio,
        assumptions=projection.assumptions,
        steps=(
            *embedding.steps,
            *projection.steps,
            Step("Divide the two optima.", left, latex, ratio),
        ),
        source="docs/theory/learning_rates.md#greedy-ratio",
    )


@cache
def optimal_ratio_mup_uniform() -> Derivation:
    """eta_E*/eta_W* = (pi/2) sqrt(m) + (d - 1)/sqrt(m): muP init, uniform tokens, large d.

    Slope 1 in d at fixed m << d, slope 1/2 along m proportional to d, slope 0 for d << m.
    """
    general = optimal_ratio()
    values = {**UNIFORM_LAW, s.embedding_std: sp.Integer(1), s.projection_std: 1 / s.width}
    finite = sp.simplify(general.expression.subs(values))
    # The embedding's noise adds 1 to (2/pi) (d - 1); drop it (relative error of order 1/d).
    coherent = sp.Rational(2) / sp.pi * s.width
    exact_bracket = sp.simplify(1 + sp.Rational(2) / sp.pi * (s.width - 1))
    limit = sp.expand(sp.simplify(finite * exact_bracket / coherent))
    assert sp.limit(exact_bracket / coherent, s.width, sp.oo) == 1
    left, latex = "eta_E*/eta_W*", r"\eta_E^*/\eta_W^*"
    return Derivation(
        name="Greedy-optimal learning-rate ratio under muP init and uniform tokens",
        left=left,
        latex_left=latex,
        expression=limit,
        assumptions=(
            *general.assumptions,
            "uniform tokens, muP initialisation",
            "relative corrections of order 1/d in the embedding's optimum are dropped",
        ),
        steps=(
            *general.steps,
            Step("Uniform tokens and muP initialisation, exact at finite d:", left, latex, finite),
            Step(
                "For large d the embedding's contribution is its signal: replace "
                "1 + (2/pi) (d - 1) by (2/pi) d.",
                left,
                latex,
                limit,
            ),
        ),
        source="docs/theory/learning_rates.md#greedy-ratio",
    )


TARGETS = ("sign", "gaussian")


@cache
def optimal_embedding_lr_with_output(targets: str = "sign") -> Derivation:
    """eta_E* when the initial output is not negligible: targets +1 or -1, or N(0, 1), any init.

    The slope of the loss is that of |r| = 1 times E|r| with r = f - y and f ~ N(0, sigma_f^2),
    the curvature does not depend on the residual: eta_E* grows by
    E|r| = sqrt(2/pi) sigma_f exp(-1/(2 sigma_f^2)) + erf(1/(sqrt(2) sigma_f)) for targets +1 or
    -1, which is 1 for a small output and 1.17 under SP, and by E|r| = sqrt(2 (1 + sigma_f^2)/pi)
    for Gaussian ones.
    """
    if targets not in TARGETS:
        raise ValueError(f"targets must be one of {', '.join(TARGETS)}")
    plain = optimal_learning_rate("embedding")
    std = sp.Symbol("sigma_f", positive=True)
    if targets == "sign":
        # E|f + 1| with f = sigma_f x is E[(sigma_f x + 1) sign(x + 1/sigma_f)].
        along, sign = shifted_sign_expectations(1 / std)
        size = sp.simplify(std * along + sign)
        assumed, mean_size = (
            "targets +1 or -1",
            "has this mean size when y = -1 (and, by symmetry, +1):",
        )
    else:
        spread = sp.sqrt(1 + std**2)
        size = spread * normal_expectation(sp.Abs(sp.Symbol("x", real=True)))
        assumed, mean_size = (
            "targets N(0, 1)",
            "is Gaussian of variance 1 + sigma_f^2 and has the mean size",
        )
    output_std = sp.sqrt(s.width) * s.embedding_std * s.projection_std
    value = plain.expression * size.subs(std, output_std)
    left, latex = "eta_E*", r"\eta_E^*"
    return Derivation(
        name="One-step optimal learning rate of the embedding, initial output included",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(
            GAUSSIAN_WEIGHTS,
            "one output, sign or Adam's first step, full batch, mean squared error",
            f"{assumed}; the projection is frozen",
            "the output's variance self-averages (relative corrections of order 1/d are dropped)",
        ),
        steps=(
            *plain.steps,
            Step(
                "The initial output f is Gaussian of variance sigma_f^2 = d sigma_E^2 sigma_W^2. "
                f"The residual r = f - y {mean_size}",
                "E|r|",
                r"\mathbb{E}|r|",
                size,
            ),
            Step(
                "It multiplies the slope of the loss and leaves the curvature.",
                left,
                latex,
                value,
            ),
        ),
        source="docs/theory/learning_rates.md#ratio-and-initialisation",
    )


@cache
def optimal_projection_lr_with_self_term() -> Derivation:
    """eta_W* when the initial output is not negligible: mean squared error, any init, any m/d.

    sqrt(2/pi) sqrt(S (1 + kappa^2)) / (sigma_E [1 + (2/pi) d (P_3/P_2 + 2 P_2 kappa^2)
    / (1 + kappa^2)]).
    The self term lets the projection shrink its own output, which is worth a larger step:
    for kappa -> 0 this is the optimum without self term, and for kappa >> 1 (m >> d^2 under muP)
    eta_W* no longer falls with m.
    """
    kappa, field, d = s.self_term_ratio, s.field_square_sum, s.width
    second = self_term_second_moment()
    # sum_i p_i r_i (d p_i r_i + J f_i) = d S + J^2 sigma_f^2 = d S (1 + kappa^2)
    overlap = d * field * (1 + kappa**2)
    signal = sp.sqrt(2 / sp.pi) * s.embedding_std / sp.sqrt(field * (1 + kappa**2))
    slope = -sp.simplify(signal * overlap)
    curvature = second.expression.subs(
        {
            s.projection_lr: 1,
            s.alignment_square: s.frequency_cube_sum / s.frequency_square_sum,
            s.frequency: s.frequency_square_sum,
        }
    )
    rate = s.projection_lr
    (best,) = sp.solve(sp.diff(slope * rate + curvature * rate**2 / 2, rate), rate)
    best = sp.simplify(best)
    left, latex = "eta_W*", r"\eta_W^*"
    return Derivation(
        name="One-step optimal learning rate of the projection, self term included",
        left=left,
        latex_left=latex,
        expression=best,
        assumptions=(
            *second.assumptions,
            EQUAL_RESIDUALS + " in mean square, S = E[r^2] P_2",
            "mean squared error (J = 1); the embedding is frozen",
        ),
        steps=(
            *self_term_ratio().steps,
            Step(
                "The update's overlap with the residual is the token's own part plus what the self "
                "term takes off the output: sum_i p_i r_i (d p_i r_i + J f_i), with "
                "E[f r] = J Var f = d S kappa^2 / J.",
                "overlap",
                r"\text{overlap}",
                overlap,
            ),
            Step("Slope of the loss in the learning rate.", "dL/deta_W", r"L'", slope),
            Step("Curvature: the second moment, averaged over tokens.", "L''", "L''", curvature),
            Step("Divide.", left, latex, best),
        ),
        source="docs/theory/learning_rates.md#ratio-with-self-term",
    )


@cache
def field_with_output() -> sp.Expr:
    """S = E[r^2] P_2 of targets of unit variance: E[r^2] = 1 + sigma_f^2 with the output's."""
    variance = s.width * s.embedding_std**2 * s.projection_std**2
    return (1 + variance) * s.frequency_square_sum


@cache
def optimal_rate_ratio_with_output(init: Init, targets: str = "sign") -> Derivation:
    """eta_E*/eta_W* of an initialisation, initial output included: in d, P_2 and P_3 alone."""
    embedding = optimal_embedding_lr_with_output(targets)
    projection = optimal_projection_lr_with_self_term()
    std = initial_std(init)
    kappa = self_term_ratio().expression.subs(s.residual_slope, 1)
    below = projection.expression.subs(s.self_term_ratio, kappa)
    below = below.subs(s.field_square_sum, field_with_output()).subs(std)
    ratio = embedding.expression.subs(std) / below
    left, latex = "eta_E*/eta_W*", r"\eta_E^*/\eta_W^*"
    return Derivation(
        name="One-step optimal learning-rate ratio, initial output included",
        left=left,
        latex_left=latex,
        expression=ratio,
        assumptions=tuple(dict.fromkeys((*embedding.assumptions, *projection.assumptions))),
        steps=(
            *embedding.steps,
            *projection.steps,
            Step(
                "Targets have unit variance, so that S = (1 + sigma_f^2) P_2; squared error has "
                "J = 1. Divide the two optima.",
                left,
                latex,
                ratio,
            ),
        ),
        source="docs/theory/learning_rates.md#ratio-with-self-term",
    )
