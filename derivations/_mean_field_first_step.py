"""The mean-field equations at their first step: self term, updates and loss."""

from __future__ import annotations

from typing import Literal

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._gaussian import Optimizer, arcsine_law, gradient_std, input_std, kernel
from ._mean_field_equations import LIMIT_ASSUMPTIONS, field_covariance, field_response
from ._simplified import simplified
from ._token_laws import EQUAL_RESIDUALS
from ._total_update import residual_sign_slope, weighted_residual

SOURCE = "docs/theory/mean_field.md#mean-field-limits"
UpdatedLayer = Literal["embedding", "projection"]
LEADING_ORDER = "relative corrections of order 1/d are dropped"


def _averages(optimizer: Optimizer, correlation: sp.Expr, std: sp.Expr) -> dict[str, sp.Expr]:
    """E[Phi^2], E[Phi'] and E[w Phi] of Phi(h), h of standard deviation `std`, from the kernels."""
    moments = kernel(optimizer)
    itself = {input_std: std, gradient_std: std, s.alignment: 1}
    apart = {input_std: 1, gradient_std: std, s.alignment: 0}
    with_weight = {input_std: s.projection_std, gradient_std: std, s.alignment: correlation}
    return {
        "power": moments.second_moment.subs(apart, simultaneous=True),
        "slope": moments.mean.subs(itself, simultaneous=True) / std**2,  # Stein's lemma
        "with weight": moments.mean.subs(with_weight, simultaneous=True),
    }


@cache
def first_residual_response() -> Derivation:
    """kappa from the mean field: std of R_r^00 w over that of zeta^0, R_r^00 = sigma_E^2 J."""
    response = s.embedding_std**2 * s.residual_slope
    noise = s.embedding_std * sp.sqrt(s.field_square_sum)
    value = simplified(response * s.projection_std / noise)
    return Derivation(
        name="Self term as the response of step 0",
        left="kappa",
        latex_left=r"\kappa",
        expression=value,
        assumptions=LIMIT_ASSUMPTIONS,
        steps=(
            *field_response("neuron").steps,
            Step(
                "At t = s = 0, b_i = p_i r_i(chi_i) and J = sum_i p_i E[dr_i/df_i]:",
                "R_r(0, 0)",
                "R_r^{00}",
                response,
            ),
            *field_covariance("neuron").steps,
            Step(
                "At t = s = 0 its root, with S = sum_i b_i^2:",
                "std of zeta",
                r"\sigma_\zeta",
                noise,
            ),
            Step("Standard deviation of R_r w over that of zeta.", "kappa", r"\kappa", value),
        ),
        source=SOURCE,
    )


@cache
def mean_field_first_update(layer: UpdatedLayer, optimizer: Optimizer) -> Derivation:
    """Second moment of a layer's first update from the mean-field equations at t = 0 and 1.

    Projection: u^1 - u^0, in the alignment C = c_i^2, p_i and the self term kappa; kappa = 0 is the
    result without it. Sign: eta_W^2 sigma_E^2 d [1 + (2/pi) d (C + 2 p_i kappa^2) / (1 + kappa^2)].
    Embedding: the token's own push met by w^0, sign: (2/pi) d^2 eta_E^2 sigma_W^2.
    """
    if layer == "embedding":
        return _first_embedding_update(optimizer)
    d, p, kappa = s.width, s.frequency, s.self_term_ratio
    noise = s.embedding_std * sp.sqrt(s.field_square_sum)
    correlation = kappa / sp.sqrt(1 + kappa**2)
    averages = _averages(optimizer, correlation, noise * sp.sqrt(1 + kappa**2))
    scale = s.embedding_std**2 * d
    response = -s.projection_lr * scale * averages["slope"]
    fresh = s.projection_lr**2 * scale * averages["power"]
    common = -s.projection_lr * scale * averages["with weight"]
    slope = kappa * s.residual_slope / first_residual_response().expression  # kappa ~ J
    residual_square = s.alignment_square * s.field_square_sum / p**2
    second = fresh + (response * p) ** 2 * residual_square + 2 * response * p * slope * common
    bracket = sp.factor(second / fresh - 1)
    value = simplified(fresh) * (1 + bracket)
    left, latex = "E[(Delta W e_i)^2]", r"\mathbb{E}[(\Delta W\,e_i)^2]"
    return Derivation(
        name=f"Mean-field first step of the projection under {optimizer}: second moment",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(*LIMIT_ASSUMPTIONS, *kernel(optimizer).assumptions, LEADING_ORDER),
        steps=(
            *first_residual_response().steps,
            *kernel(optimizer).steps,
            Step(
                "The step is u(1) - u(0) = chi(1) - chi(0) + R_w(1, 0) b(0). E[Phi'(h)] = "
                "E[h Phi(h)] / E[h^2] makes the response",
                "R_w(1, 0)",
                "R_w^{10}",
                response,
            ),
            Step(
                "Variance of chi(1) - chi(0):",
                "E[(chi(1) - chi(0))^2]",
                r"\mathbb{E}(\chi^1-\chi^0)^2",
                fresh,
            ),
            Step(
                "Its covariance with chi(0), the initial output:",
                "E[(chi(1) - chi(0)) chi(0)]",
                r"\mathbb{E}[(\chi^1-\chi^0)\chi^0]",
                common,
            ),
            Step(
                "Add the squares and twice the product; E[r (chi(1) - chi(0))] is J times that "
                "covariance (Stein's lemma), J = kappa sqrt(S) / (sigma_E sigma_W) and "
                "p_i^2 r_i^2 = C S.",
                left,
                latex,
                value,
            ),
        ),
        source=SOURCE,
    )


def _first_embedding_update(optimizer: Optimizer) -> Derivation:
    push_std = s.frequency * s.residual_norm * s.projection_std
    at = {input_std: s.projection_std, gradient_std: push_std, s.alignment: 1}
    mean = kernel(optimizer).mean.subs(at, simultaneous=True)
    shift = s.embedding_lr * s.width * mean
    left, latex = "E[(W Delta e_i)^2]", r"\mathbb{E}[(W\,\Delta e_i)^2]"
    return Derivation(
        name=f"Mean-field first step of the embedding under {optimizer}: second moment",
        left=left,
        latex_left=latex,
        expression=shift**2,
        assumptions=(*LIMIT_ASSUMPTIONS, *kernel(optimizer).assumptions, LEADING_ORDER),
        steps=(
            *kernel(optimizer).steps,
            Step(
                "The pushes of the token process at t = 1, met by w(0): fully aligned, c = 1.",
                "eta_E d E[w(0) Phi(b w(0))]",
                r"\eta_E d\,\mathbb{E}[w^0\Phi(bw^0)]",
                shift,
            ),
            Step("Given the residual it is a number.", left, latex, shift**2),
        ),
        source=SOURCE,
    )


mean_absolute_residual = sp.Symbol("r_1", positive=True)  # E|r|
GAUSSIAN_TARGETS: dict[sp.Expr, sp.Expr] = {
    mean_absolute_residual: sp.sqrt(2 * s.field_square_sum / (sp.pi * s.frequency_square_sum)),
    residual_sign_slope: sp.sqrt(2 * s.frequency_square_sum / (sp.pi * s.field_square_sum)),
}


@cache
def mean_field_first_loss(*, equal_residuals: bool = True) -> Derivation:
    """L^1 - L^0 under sign, both layers trained, mean squared error, self term included.

    In E|r| and D = E[f sign r] / Var f, which `GAUSSIAN_TARGETS` gives for Gaussian targets
    (r normal of variance S / P_2). Without `equal_residuals` in S = sum_j p_j^2 r_j^2, the
    alignment C = sum_i p_i^3 r_i^2 / S and `weighted_residual` = sum_i p_i^2 E|r_i|, for residuals
    of any sizes.
    """
    d, kappa, field = s.width, s.self_term_ratio, s.field_square_sum
    p2 = s.frequency_square_sum
    size, turn = mean_absolute_residual, residual_sign_slope
    weighted, alignment_square = weighted_residual, s.alignment_square
    if equal_residuals:
        weighted, alignment_square = p2 * size, s.frequency_cube_sum / p2
    noise = s.embedding_std * sp.sqrt(field)
    correlation = kappa / sp.sqrt(1 + kappa**2)
    averages = _averages("sign", correlation, noise * sp.sqrt(1 + kappa**2))
    scale = s.embedding_std**2 * d
    response = -s.projection_lr * scale * averages["slope"]
    fresh = s.projection_lr**2 * scale * averages["power"]
    # mean squared error: J = 1, so sigma_W = kappa sqrt(S) / sigma_E
    weight_std = sp.solve(
        first_residual_response().expression.subs(s.residual_slope, 1) - kappa, s.projection_std
    )[0]
    common = (-s.projection_lr * scale * averages["with weight"]).subs(s.projection_std, weight_std)
    unit = {input_std: weight_std, gradient_std: 1, s.alignment: 1}
    aligned = kernel("sign").mean.subs(unit, simultaneous=True)
    agreement = arcsine_law().expression.subs(s.alignment, correlation)
    push = s.embedding_lr * d * (aligned - s.projection_lr * agreement)
    slope = common + response * field - push * size
    curvature = (
        fresh
        + response**2 * alignment_square * field
        + push**2
        + 2 * response * p2 * common
        - 2 * push * common * turn
        - 2 * push * response * weighted
    )
    value = slope + curvature / 2
    left, latex = "L(1) - L(0)", "L^1-L^0"
    return Derivation(
        name="Mean-field loss after one step under sign",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(
            *LIMIT_ASSUMPTIONS,
            LEADING_ORDER,
            "mean squared error, full batch, no weight decay",
            *((EQUAL_RESIDUALS + " in mean square, S = E[r^2] P_2",) if equal_residuals else ()),
        ),
        steps=(
            *mean_field_first_update("projection", "sign").steps,
            *arcsine_law().steps,
            Step(
                "The embedding moves the output by -T sign(r), met by w(1) = w(0) - eta_W sign(h):",
                "T",
                "T",
                push,
            ),
            Step(
                "The output moves by Delta = chi(1) - chi(0) + R_w b - T sign(r). Its overlap with "
                "the residual, averaged over tokens, r_1 = E|r|:",
                "sum_i p_i E[r Delta]",
                r"\sum_ip_i\mathbb{E}[r\Delta]",
                slope,
            ),
            Step(
                "Its square, with D = E[f sign r] / Var f:",
                "sum_i p_i E[Delta^2]",
                r"\sum_ip_i\mathbb{E}[\Delta^2]",
                curvature,
            ),
            Step("The loss is quadratic in the output.", left, latex, value),
        ),
        source=SOURCE,
    )
