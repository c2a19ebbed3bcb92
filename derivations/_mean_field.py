"""Mean-field dynamics at any ratio of vocabulary to width: the equations and their first step.

Model and notation are those of the first step, at every step t: z_il are the entries of the
initial embedding, b_i^t = p_hat_i^t r_i^t is a token's weighted residual, w^t one neuron's entry of
the projection, h^t its gradient and Phi the optimizer's entrywise map. The equations are written
for one output; for n outputs b_i, w, chi and zeta are n-vectors, products of b and w inner
products, covariances and responses n x n blocks. `dynsim.predict` solves them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, get_args

import sympy as sp

from . import _symbols as s
from ._derivation import Derivation, Step
from ._first_step import GAUSSIAN_WEIGHTS, self_term_ratio
from ._gaussian import Optimizer, arcsine_law, gradient_std, input_std, kernel
from ._law_first_step import UNIFORM_LAW, Init, initial_std
from ._token_laws import EQUAL_RESIDUALS

Side = Literal["token", "neuron"]
SIDES: tuple[Side, ...] = get_args(Side)
UpdatedLayer = Literal["embedding", "projection"]

step, past, token, neuron = sp.symbols("t s i l", integer=True, nonnegative=True)
_between = sp.Symbol("k", integer=True, nonnegative=True)
weight_decay = sp.Symbol("lambda", nonnegative=True)


def _series(name: str) -> Any:
    """An indexed quantity; `Any` because sympy declares it as a plain `Basic`."""
    return sp.IndexedBase(name)


initial_embedding = _series("z")  # z[i, l]
token_field = _series("u")  # u[i, t] = sum_l w[l, t] z[i, l]
neuron_field = _series("v")  # v[l, t] = sum_i b[i, t] z[i, l]
token_noise = _series("chi")  # chi[i, t], Gaussian
neuron_noise = _series("zeta")  # zeta[l, t], Gaussian
weighted_residual = _series("b")  # b[i, t] = p_hat_i^t r_i^t
projection = _series("w")  # w[l, t]
gradient = _series("h")  # h[l, t] = dL/dw[l, t]
embedding_lrs = _series("eta_E")
projection_lrs = _series("eta_W")
projection_response = _series("R_w")  # R_w[t, s]
residual_response = _series("R_r")  # R_r[t, s]
optimizer_map = sp.Function("Phi")
neuron_mean = sp.Function("E")  # mean over the neuron process

ENTRYWISE = "Phi is an entrywise function of the gradients up to its step, written by the last one"
FINITE = (
    ENTRYWISE,
    "weight decay is decoupled: every step shrinks a weight by 1 - eta lambda (lambda = 0: none)",
    "one output (n outputs: vectors and n x n blocks)",
)
LARGE = (
    *FINITE,
    GAUSSIAN_WEIGHTS,
    "width and vocabulary are large at any ratio, or the width is large at fixed vocabulary",
    "a token that carries much of the law does not self-average: it is kept as itself",
)
SOURCE = "theory notes, section 8"
LEADING = "relative corrections of order 1/d are dropped"


def decay(rates: Any, end: sp.Expr, start: sp.Expr) -> sp.Expr:
    """What weight decay leaves at step `end` of a weight of step `start`: prod (1 - eta lambda)."""
    return sp.Product(1 - rates[_between] * weight_decay, (_between, start, end - 1))


def _pushes(rates: Any, contribution: sp.Expr) -> sp.Expr:
    """sum_{s<t} (a_t / a_{s+1}) eta_s contribution: what the steps before t have added."""
    kept = decay(rates, step, past + 1)
    return sp.Sum(kept * rates[past] * contribution, (past, 0, step - 1))


_UNROLLING = (
    "Unroll w(t + 1) = (1 - eta_t lambda) w(t) - eta_t Phi_t: what was pushed at step s has since "
    "decayed at the steps s + 1 to t - 1."
)
_embedding_push = optimizer_map(weighted_residual[token, past] * projection[neuron, past])


@cache
def embedding_entry() -> Derivation:
    """e_il(t) = a_t z_il - sum_{s<t} (a_t / a_{s+1}) eta_E,s Phi(b_i^s w_l^s), any width.

    a_t = prod_{k<t} (1 - eta_E,k lambda). Theory notes, section 8, has lambda = 0.
    """
    own = decay(embedding_lrs, step, sp.S.Zero)
    value = own * initial_embedding[token, neuron] - _pushes(embedding_lrs, _embedding_push)
    left, latex = "e_il(t)", "e_{il}(t)"
    return Derivation(
        name="Embedding entry under an entrywise optimizer with weight decay",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=FINITE,
        steps=(
            Step(
                "The gradient of an embedding entry is the token's weighted residual times the "
                "neuron's projection, so the push is",
                "Phi_s",
                r"\Phi_s",
                _embedding_push,
            ),
            Step(_UNROLLING, left, latex, value),
        ),
        source=SOURCE,
    )


@cache
def projection_entry() -> Derivation:
    """w_l(t) = a_t w_l(0) - sum_{s<t} (a_t / a_{s+1}) eta_W,s Phi(h_l^s), any width."""
    own = decay(projection_lrs, step, sp.S.Zero)
    push = optimizer_map(gradient[neuron, past])
    value = own * projection[neuron, 0] - _pushes(projection_lrs, push)
    left, latex = "w_l(t)", "w_l(t)"
    return Derivation(
        name="Projection entry under an entrywise optimizer with weight decay",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=FINITE,
        steps=(
            Step("The push is that of the neuron's gradient.", "Phi_s", r"\Phi_s", push),
            Step(_UNROLLING, left, latex, value),
        ),
        source=SOURCE,
    )


@cache
def token_output() -> Derivation:
    """Token process: the output f_i^t from its Gaussian chi_i, the responses and its own pushes.

    f_i^t = a_t (chi_i^t + sum_{s<t} R_w^ts b_i^s) - T_i^t with what the token's own pushes give,
    T_i^t = sum_{s<t} (a_t / a_{s+1}) eta_E,s d E[w^t Phi_s(b_i^s w^s)].
    """
    own = decay(embedding_lrs, step, sp.S.Zero)
    meeting = projection[neuron, step] * _embedding_push
    exact = own * token_field[token, step] - _pushes(
        embedding_lrs, sp.Sum(meeting, (neuron, 1, s.width))
    )
    field = conditioned_field("token")
    value = own * field.expression - _pushes(embedding_lrs, s.width * neuron_mean(meeting))
    left, latex = "f_i(t)", "f_i^t"
    return Derivation(
        name="Token process",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=LARGE,
        steps=(
            *embedding_entry().steps,
            Step(
                "The output is the sum over neurons of w_l e_il, exact at any width; Z enters "
                "through the field u_i = sum_l w_l z_il alone.",
                left,
                latex,
                exact,
            ),
            *field.steps,
            Step(
                "Put this in; the sum over neurons, which are alike, is d times a mean.",
                left,
                latex,
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def neuron_gradient() -> Derivation:
    """Neuron process: the gradient h^t from its Gaussian zeta, the responses and the S-term.

    h^t = a_t (zeta^t + sum_{s<=t} R_r^ts w^s) - S^t with the S-term, what the embeddings have
    learned, S^t = sum_{s<t} (a_t / a_{s+1}) eta_E,s sum_i b_i^t Phi_s(b_i^s w^s); a_t is the decay
    of the embedding.
    """
    own = decay(embedding_lrs, step, sp.S.Zero)
    learned = sp.Sum(weighted_residual[token, step] * _embedding_push, (token, 1, s.vocab_size))
    exact = own * neuron_field[neuron, step] - _pushes(embedding_lrs, learned)
    field = conditioned_field("neuron")
    value = own * field.expression - _pushes(embedding_lrs, learned)
    left, latex = "h_l(t)", "h_l^t"
    return Derivation(
        name="Neuron process",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=LARGE,
        steps=(
            *embedding_entry().steps,
            Step(
                "The gradient of the projection is sum_i b_i e_il, exact at any width; Z enters "
                "through the field v_l = sum_i b_i z_il alone.",
                left,
                latex,
                exact,
            ),
            *field.steps,
            Step("Put this in.", left, latex, value),
        ),
        source=SOURCE,
    )


@cache
def field_covariance(side: Side) -> Derivation:
    """C_w^ts = sigma_E^2 d E[w^t w^s] of chi, C_r^ts = sigma_E^2 sum_i b_i^t b_i^s of zeta."""
    if side == "token":
        product = projection[neuron, step] * projection[neuron, past]
        value, name = s.width * neuron_mean(product), "C_w"
    else:
        product = weighted_residual[token, step] * weighted_residual[token, past]
        value, name = sp.Sum(product, (token, 1, s.vocab_size)), "C_r"
    value *= s.embedding_std**2
    field = "chi" if side == "token" else "zeta"
    return Derivation(
        name=f"Covariance of the {side}s' Gaussian field",
        left=f"{name}(t, s)",
        latex_left=f"{name}^{{ts}}",
        expression=value,
        assumptions=LARGE,
        steps=(
            Step(
                f"Part of Z never seen before is fresh: {field} is a sum of independent Gaussians "
                "of variance sigma_E^2 with these weights at the two steps.",
                f"E[{field}^t {field}^s]",
                rf"\mathbb{{E}}[\{field}^t\{field}^s]",
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def field_response(side: Side) -> Derivation:
    """R_w^ts = sigma_E^2 d E[dw^t/dzeta^s] and R_r^ts = sigma_E^2 sum_i E[db_i^t/dchi_i^s].

    R_w needs s < t, R_r s <= t: the residual answers to its field at once, the projection after
    its update.
    """
    if side == "token":
        change = sp.Derivative(projection[neuron, step], neuron_noise[neuron, past])
        value, name = s.width * neuron_mean(change), "R_w"
    else:
        change = sp.Derivative(weighted_residual[token, step], token_noise[token, past])
        value, name = sp.Sum(neuron_mean(change), (token, 1, s.vocab_size)), "R_r"
    value *= s.embedding_std**2
    other, own, answer = (
        ("neuron", "b_i z_il", "(dw_l/dzeta_l) b_i z_il")
        if side == "token"
        else ("token", "w_l z_il", "(db_i/dchi_i) w_l z_il")
    )
    return Derivation(
        name=f"Response in the {side}s' field",
        left=f"{name}(t, s)",
        latex_left=f"{name}^{{ts}}",
        expression=value,
        assumptions=LARGE,
        steps=(
            Step(
                f"Cavity argument: a {side} adds {own} to the field of every {other} at step s, a "
                f"small part of it. The {other} answers by {answer} at step t. The {side}'s own "
                "field sums these answers times z_il again, and z_il^2 has the mean sigma_E^2.",
                f"{name}(t, s)",
                f"{name}^{{ts}}",
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def conditioned_field(side: Side) -> Derivation:
    """u_i^t = chi_i^t + sum_{s<t} R_w^ts b_i^s and v_l^t = zeta_l^t + sum_{s<=t} R_r^ts w_l^s."""
    of_token = side == "token"
    site, field, noise, response, other = (
        (token, "u_i", token_noise, projection_response, weighted_residual)
        if of_token
        else (neuron, "v_l", neuron_noise, residual_response, projection)
    )
    last = step - 1 if of_token else step
    value = noise[site, step] + sp.Sum(response[step, past] * other[site, past], (past, 0, last))
    definition = (
        sp.Sum(projection[neuron, step] * initial_embedding[token, neuron], (neuron, 1, s.width))
        if of_token
        else sp.Sum(
            weighted_residual[token, step] * initial_embedding[token, neuron],
            (token, 1, s.vocab_size),
        )
    )
    left, latex = f"{field}(t)", f"{field}^t"
    return Derivation(
        name=f"Field of a {side}",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=LARGE,
        steps=(
            Step("Z is seen only through", left, latex, definition),
            *field_covariance(side).steps,
            *field_response(side).steps,
            Step(
                "Given the past fields, Z is Gaussian: its mean gives the responses (Stein's "
                "lemma), the rest a fresh Gaussian.",
                left,
                latex,
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def conditioning_response() -> Derivation:
    """The coefficient of b^s in u^t from conditioning Z on two past fields: it is R_w^ts.

    Given U = Z W and V = Z^T B (columns: past w, past b) and w^t = W alpha + w_perp with
    W^T w_perp = 0, Z w^t = U alpha + B (B^T B)^-1 V^T w_perp + fresh noise. V = zeta + W R_r^T,
    and Stein's lemma turns zeta^T w into C_r R_w / sigma_E^2. `dynsim.predict` solves the
    conditioned form, which needs no response; this says that it is the same theory.
    """
    alpha = sp.Matrix(sp.symbols("alpha_0 alpha_1", real=True))
    overlap, now = sp.symbols("g_01 g_11", real=True), sp.symbols("R_20 R_21", real=True)
    gram = sp.Matrix([[sp.Symbol("g_00", positive=True), overlap[0]], [overlap[0], overlap[1]]])
    earlier = sp.Symbol("R_10", real=True)
    past_responses = sp.Matrix([[0, 0], [earlier, 0]])  # row t: R_w^t0, R_w^t1
    answers = sp.Matrix(now)
    through_past = past_responses.T * alpha  # u^0 = chi^0 and u^1 = chi^1 + R_10 b^0 in U alpha
    meeting = gram * (answers - past_responses.T * alpha)  # zeta^T w_perp, by Stein's lemma
    through_new = gram.inv() * meeting  # (B^T B)^-1 V^T w_perp
    coefficients = (through_past + through_new).applyfunc(sp.simplify)
    latex = r"\partial u^2/\partial b"
    return Derivation(
        name="Conditioning on two past fields gives the responses",
        left="coefficients of b(0), b(1) in u(2)",
        latex_left=latex,
        expression=sp.Tuple(*coefficients),
        assumptions=(*LARGE, "shown for two past steps; the algebra is the same for any number"),
        steps=(
            Step(
                "Split w(2) = alpha_0 w(0) + alpha_1 w(1) + w_perp. The old part repeats old "
                "fields, in which b has the coefficients",
                "of U alpha",
                r"U\alpha",
                sp.Tuple(*through_past),
            ),
            Step(
                "The new part meets Z through V = Z^T B. W^T w_perp = 0 removes the responses in "
                "V, and Stein's lemma gives sum_l zeta_l(s) w_l(t) = sum_q g_sq R_w(t, q) with "
                "g = B^T B:",
                "V^T w_perp",
                r"V^\top w_\perp",
                sp.Tuple(*meeting),
            ),
            Step(
                "Multiply by (B^T B)^-1 and add both parts.",
                "coefficients of b(0), b(1) in u(2)",
                latex,
                sp.Tuple(*coefficients),
            ),
        ),
        source="theory notes, section 8; Bolthausen's conditioning (approximate message passing)",
    )


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
    value = sp.simplify(response * s.projection_std / noise)
    return Derivation(
        name="Self term as the response of step 0",
        left="kappa",
        latex_left=r"\kappa",
        expression=value,
        assumptions=LARGE,
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
    slope = sp.solve(first_residual_response().expression - kappa, s.residual_slope)[0]
    residual_square = s.alignment_square * s.field_square_sum / p**2
    second = fresh + (response * p) ** 2 * residual_square + 2 * response * p * slope * common
    bracket = sp.factor(sp.simplify(second / fresh - 1))
    value = sp.simplify(fresh) * (1 + bracket)
    left, latex = "E[(Delta W e_i)^2]", r"\mathbb{E}[(\Delta W\,e_i)^2]"
    return Derivation(
        name=f"Mean-field first step of the projection under {optimizer}: second moment",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(*LARGE, *kernel(optimizer).assumptions, LEADING),
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
        assumptions=(*LARGE, *kernel(optimizer).assumptions, LEADING),
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
residual_sign_slope = sp.Symbol("D", positive=True)  # dE[sign r]/df = E[f sign r] / Var f

GAUSSIAN_TARGETS: dict[sp.Expr, sp.Expr] = {
    mean_absolute_residual: sp.sqrt(2 * s.field_square_sum / (sp.pi * s.frequency_square_sum)),
    residual_sign_slope: sp.sqrt(2 * s.frequency_square_sum / (sp.pi * s.field_square_sum)),
}


@cache
def mean_field_first_loss() -> Derivation:
    """L^1 - L^0 under sign, both layers trained, mean squared error, self term included.

    In E|r| and D = E[f sign r] / Var f, which `GAUSSIAN_TARGETS` gives for Gaussian targets
    (r normal of variance S / P_2).
    """
    d, kappa, field = s.width, s.self_term_ratio, s.field_square_sum
    p2, p3 = s.frequency_square_sum, s.frequency_cube_sum
    size, turn = mean_absolute_residual, residual_sign_slope
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
        + response**2 * p3 / p2 * field
        + push**2
        + 2 * response * p2 * common
        - 2 * push * common * turn
        - 2 * push * response * p2 * size
    )
    value = slope + curvature / 2
    left, latex = "L(1) - L(0)", "L^1-L^0"
    return Derivation(
        name="Mean-field loss after one step under sign",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(
            *LARGE,
            LEADING,
            "mean squared error, full batch, no weight decay",
            EQUAL_RESIDUALS + " in mean square, S = E[r^2] P_2",
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


@cache
def fixed_vocabulary_limit(init: Init) -> Derivation:
    """Width to infinity at fixed vocabulary: RMS^2 / d^2 of the projection's first sign update.

    Every neuron sees the m Gaussians z_i, and u_i = sum_l w_l z_il becomes d E[w z_i], which by
    Stein's lemma is R_w b_i: no noise is left beside the response.
    """
    second = mean_field_first_update("projection", "sign")
    exact = _kernel_response()
    value = sp.limit(
        _uniform(second.expression, init).subs(s.projection_lr, 1) / s.width**2, s.width, sp.oo
    )
    left, latex = (
        "lim E[(Delta W e_i)^2] / (d eta_W)^2",
        (r"\lim_{d\to\infty}\mathbb{E}[(\Delta W\,e_i)^2]/(d\,\eta_W)^2"),
    )
    return Derivation(
        name=f"Width to infinity at fixed vocabulary ({init} initialisation)",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(*second.assumptions, *_LIMIT_ASSUMPTIONS),
        steps=(
            Step(
                "At fixed m the sum over neurons is d times its mean, in which h = sum_i b_i z_i: "
                "the kernel gives d E[z_i w(1)] with c = p_i r_i / sqrt(S). It is R_w(1, 0) b_i, "
                "as Stein's lemma says.",
                "d E[z_i w(1)]",
                r"d\,\mathbb{E}[z_iw^1]",
                exact,
            ),
            *second.steps,
            Step(
                f"Uniform tokens; {init} initialisation: kappa goes to zero with the width, "
                "and so does the noise beside the response.",
                left,
                latex,
                value,
            ),
        ),
        source=SOURCE,
    )


_LIMIT_ASSUMPTIONS = (
    EQUAL_RESIDUALS,
    "uniform tokens",
    "mean squared error, targets of unit variance independent of each other",
)


def _kernel_response() -> sp.Expr:
    """d E[z_i w^1] at fixed vocabulary without self term, from the kernel of z_i and h."""
    aligned = s.frequency * s.residual / sp.sqrt(s.field_square_sum)
    at = {input_std: s.embedding_std, gradient_std: 1, s.alignment: aligned}
    return -s.projection_lr * s.width * kernel("sign").mean.subs(at, simultaneous=True)


def _uniform(second: sp.Expr, init: Init) -> sp.Expr:
    """A second moment in d and m alone: uniform tokens, |r| equal, targets of unit variance."""
    std = initial_std(init)
    output_variance = (s.width * s.embedding_std**2 * s.projection_std**2).subs(std)
    field = (1 + output_variance) * UNIFORM_LAW[s.frequency_square_sum]
    kappa = self_term_ratio().expression.subs(
        {s.residual_slope: 1, s.field_square_sum: field}, simultaneous=True
    )
    return second.subs(
        {
            s.alignment_square: 1 / s.vocab_size,
            s.frequency: UNIFORM_LAW[s.frequency],
            s.self_term_ratio: kappa,
        },
        simultaneous=True,
    ).subs(std)


width_over_vocab = sp.Symbol("gamma", positive=True)


@cache
def proportional_limit(init: Init) -> Derivation:
    """Width and vocabulary to infinity at d/m = gamma: RMS^2 / d of the first sign update.

    muP: 1 + (2/pi) gamma, the data collapse; SP keeps its self term kappa^2 = 1/(2 gamma).
    """
    second = mean_field_first_update("projection", "sign")
    along = _uniform(second.expression, init).subs(
        {s.projection_lr: 1, s.vocab_size: s.width / width_over_vocab}
    )
    value = sp.simplify(sp.limit(sp.simplify(along / s.width), s.width, sp.oo))
    left, latex = (
        "lim E[(Delta W e_i)^2] / (d eta_W^2)",
        (r"\lim_{d\to\infty}\mathbb{E}[(\Delta W\,e_i)^2]/(d\,\eta_W^2)"),
    )
    return Derivation(
        name=f"Width and vocabulary to infinity in proportion ({init} initialisation)",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(*second.assumptions, *_LIMIT_ASSUMPTIONS),
        steps=(
            *second.steps,
            Step(
                f"Uniform tokens and {init} initialisation; put m = d/gamma and let d grow: noise "
                "and response stay of the same order.",
                left,
                latex,
                value,
            ),
        ),
        source=SOURCE,
    )
