"""Mean-field dynamics at any ratio of vocabulary to width: the equations.

Model and notation are those of the first step, at every step t: z_il are the entries of the
initial embedding, b_i^t = p_hat_i^t r_i^t is a token's weighted residual, w^t one neuron's entry of
the projection, h^t its gradient and Phi the optimizer's entrywise map. The equations are written
for one output; for n outputs b_i, w, chi and zeta are n-vectors, products of b and w inner
products, covariances and responses n x n blocks. `dynsim.predict` solves them.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._first_step import GAUSSIAN_WEIGHTS

Side = Literal["token", "neuron"]
SIDES: tuple[Side, ...] = get_args(Side)

step, past, token, neuron = sp.symbols("t s i l", integer=True, nonnegative=True)
_between = sp.Symbol("k", integer=True, nonnegative=True)
weight_decay = sp.Symbol("lambda", nonnegative=True)


def series(name: str) -> Any:
    """An indexed quantity; `Any` because sympy declares it as a plain `Basic`."""
    return sp.IndexedBase(name)


initial_embedding = series("z")  # z[i, l]
token_field = series("u")  # u[i, t] = sum_l w[l, t] z[i, l]
neuron_field = series("v")  # v[l, t] = sum_i b[i, t] z[i, l]
token_noise = series("chi")  # chi[i, t], Gaussian
neuron_noise = series("zeta")  # zeta[l, t], Gaussian
weighted_residual = series("b")  # b[i, t] = p_hat_i^t r_i^t
projection = series("w")  # w[l, t]
gradient = series("h")  # h[l, t] = dL/dw[l, t]
embedding_lrs = series("eta_E")
projection_lrs = series("eta_W")
projection_response = series("R_w")  # R_w[t, s]
residual_response = series("R_r")  # R_r[t, s]
optimizer_map = sp.Function("Phi")
neuron_mean = sp.Function("E")  # mean over the neuron process

ENTRYWISE = "Phi is an entrywise function of the gradients up to its step, written by the last one"
ENTRYWISE_ASSUMPTIONS = (
    ENTRYWISE,
    "weight decay is decoupled: every step shrinks a weight by 1 - eta lambda (lambda = 0: none)",
    "one output (n outputs: vectors and n x n blocks)",
)
LIMIT_ASSUMPTIONS = (
    *ENTRYWISE_ASSUMPTIONS,
    GAUSSIAN_WEIGHTS,
    "width and vocabulary are large at any ratio, or the width is large at fixed vocabulary",
    "a token that carries much of the law does not self-average: it is kept as itself",
)
SOURCE = "docs/theory/mean_field.md#mean-field-equations"


def decay(rates: Any, end: sp.Expr, start: sp.Expr) -> sp.Expr:
    """What weight decay leaves at step `end` of a weight of step `start`: prod (1 - eta lambda)."""
    return sp.Product(1 - rates[_between] * weight_decay, (_between, start, end - 1))


def pushes(rates: Any, contribution: sp.Expr) -> sp.Expr:
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

    a_t = prod_{k<t} (1 - eta_E,k lambda).
    """
    own = decay(embedding_lrs, step, sp.S.Zero)
    value = own * initial_embedding[token, neuron] - pushes(embedding_lrs, _embedding_push)
    left, latex = "e_il(t)", "e_{il}(t)"
    return Derivation(
        name="Embedding entry under an entrywise optimizer with weight decay",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=ENTRYWISE_ASSUMPTIONS,
        steps=(
            Step(
                "The gradient of an embedding entry is the token's weighted residual b_i = p_i r_i "
                "times the neuron's projection entry w_l, and Phi what the optimizer makes of it. "
                "So the push is",
                "Phi_s",
                r"\Phi_s",
                _embedding_push,
            ),
            Step(f"{_UNROLLING} z_il is the initial entry.", left, latex, value),
        ),
        source=SOURCE,
    )


@cache
def projection_entry() -> Derivation:
    """w_l(t) = a_t w_l(0) - sum_{s<t} (a_t / a_{s+1}) eta_W,s Phi(h_l^s), any width."""
    own = decay(projection_lrs, step, sp.S.Zero)
    push = optimizer_map(gradient[neuron, past])
    value = own * projection[neuron, 0] - pushes(projection_lrs, push)
    left, latex = "w_l(t)", "w_l(t)"
    return Derivation(
        name="Projection entry under an entrywise optimizer with weight decay",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=ENTRYWISE_ASSUMPTIONS,
        steps=(
            Step(
                "h_l is the gradient of the projection's entry w_l, and Phi what the optimizer "
                "makes of it.",
                "Phi_s",
                r"\Phi_s",
                push,
            ),
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
    exact = own * token_field[token, step] - pushes(
        embedding_lrs, sp.Sum(meeting, (neuron, 1, s.width))
    )
    field = conditioned_field("token")
    value = own * field.expression - pushes(embedding_lrs, s.width * neuron_mean(meeting))
    left, latex = "f_i(t)", "f_i^t"
    return Derivation(
        name="Token process",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=LIMIT_ASSUMPTIONS,
        steps=(
            *embedding_entry().steps,
            Step(
                "The output is the sum over neurons of w_l e_il, exact at any width; the initial "
                "embedding Z enters through the field u_i = sum_l w_l z_il alone.",
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
    exact = own * neuron_field[neuron, step] - pushes(embedding_lrs, learned)
    field = conditioned_field("neuron")
    value = own * field.expression - pushes(embedding_lrs, learned)
    left, latex = "h_l(t)", "h_l^t"
    return Derivation(
        name="Neuron process",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=LIMIT_ASSUMPTIONS,
        steps=(
            *embedding_entry().steps,
            Step(
                "The gradient of the projection is sum_i b_i e_il, exact at any width; the initial "
                "embedding Z enters through the field v_l = sum_i b_i z_il alone.",
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
        assumptions=LIMIT_ASSUMPTIONS,
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
        assumptions=LIMIT_ASSUMPTIONS,
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
        assumptions=LIMIT_ASSUMPTIONS,
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
        assumptions=(
            *LIMIT_ASSUMPTIONS,
            "shown for two past steps; the algebra is the same for any number",
        ),
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
        source="docs/theory/mean_field.md#conditioning; Bolthausen 2014, arXiv 1201.2891",
    )
