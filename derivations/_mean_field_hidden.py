"""Mean-field dynamics of linear hidden layers: the equations of every level.

Level 0 is the embedding, level L the last hidden layer: h_l = s h_{l-1} + A_l h_{l-1} with s = 1
for skip connections and s = 0 without, f = W h_L. B^l is the readout pulled down to level l, M^l
the residuals sum_i b_i h_{l,i} carried up to it, one number a neuron for one output. Everything
else is as in `_mean_field_equations`, whose equations are those of depth 0.
"""

from __future__ import annotations

from typing import Literal

import sympy as sp

from . import _mean_field_equations as of_two_layers
from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._gaussian import gradient_std, input_std, kernel
from ._mean_field_equations import (
    LIMIT_ASSUMPTIONS,
    decay,
    neuron_mean,
    optimizer_map,
    past,
    projection,
    series,
    step,
    token,
    weighted_residual,
)

Passage = Literal["down", "up"]

upper = sp.Symbol("alpha", integer=True, nonnegative=True)
hidden_level = sp.Symbol("l", positive=True)  # the l-th hidden matrix, from the embedding
lower = sp.Symbol("beta", integer=True, nonnegative=True)
skip = sp.Symbol("s_0", nonnegative=True)  # 1 with skip connections, 0 without
hidden_std = sp.Symbol("sigma_A", positive=True)
initial_hidden = series("g")  # g[alpha, beta], of the matrix looked at
readout_above = series("B")  # B[alpha, t], at level l
readout_below = series("B'")  # B'[beta, t], at level l - 1
residuals_below = series("M")  # M[beta, t], at level l - 1
residuals_above = series("M'")  # M'[alpha, t], at level l
hidden_lrs = series("eta_A")
features = series("h")  # h[i, beta], at level l - 1
noise_down = series("xi")  # xi[beta, t], Gaussian
noise_up = series("omega")  # omega[alpha, t], Gaussian
response_down = series("R_B")  # R_B[t, s]
response_up = series("R_M")  # R_M[t, s]
readout_of_embedding = series("B_0")  # B_0[l, t], at level 0
residuals_of_embedding = series("M_0")  # M_0[l, t], at level 0

LINEAR = "hidden layers are linear: no activation function and no normalisation"
ASSUMPTIONS = (
    *LIMIT_ASSUMPTIONS,
    LINEAR,
    "initial hidden matrices have independent Gaussian entries",
)
SOURCE = "docs/theory/mean_field.md#hidden-layers"
CONDITIONING = f"{SOURCE}; Bolthausen 2014, arXiv 1201.2891"


@cache
def hidden_matrix_gradient() -> Derivation:
    """dL/dA_ab = B_a M_b at any width: rank one for each output."""
    backpropagated = weighted_residual[token, step] * readout_above[upper, step]
    whole = sp.Sum(backpropagated * features[token, lower], (token, 1, s.vocab_size))
    value = readout_above[upper, step] * residuals_below[lower, step]
    left, latex = "dL/dA_(alpha,beta)", r"\partial L/\partial A_{\alpha\beta}"
    return Derivation(
        name="Gradient of a linear hidden matrix",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(LINEAR, "one output (n outputs: the sum of n such products, of rank n)"),
        steps=(
            Step(
                "Neuron alpha of the layer's output h receives from token i its weighted residual "
                "b_i = p_i r_i times the readout pulled down to that level, B_alpha, for all "
                "tokens the same:",
                "dL/dh_alpha of token i",
                r"\partial L/\partial h_{i\alpha}",
                backpropagated,
            ),
            Step(
                "The gradient of an entry sums this over tokens, times its input, neuron beta of "
                "the level below.",
                left,
                latex,
                whole,
            ),
            Step(
                "The readout stands before the sum, which is M_beta = sum_i b_i h_(i,beta): the "
                "residuals carried up.",
                left,
                latex,
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def hidden_entry() -> Derivation:
    """A_ab(t) = a_t g_ab - sum_{s<t} (a_t / a_{s+1}) eta_A,s Phi(B_a^s M_b^s), any width."""
    push = optimizer_map(hidden_matrix_gradient().expression.subs(step, past))
    own = decay(hidden_lrs, step, sp.S.Zero)
    value = own * initial_hidden[upper, lower] - _pushes(push)
    left, latex = "A_(alpha,beta)(t)", r"A_{\alpha\beta}(t)"
    return Derivation(
        name="Entry of a hidden matrix under an entrywise optimizer with weight decay",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(*of_two_layers.ENTRYWISE_ASSUMPTIONS, LINEAR),
        steps=(
            Step(
                "The gradient of the entry is B_alpha M_beta: the readout pulled down to neuron "
                "alpha of the layer's output, times the residuals carried up to neuron beta of its "
                "input. So the push is",
                "Phi_s",
                r"\Phi_s",
                push,
            ),
            Step(f"{of_two_layers._UNROLLING} g is the initial entry.", left, latex, value),
        ),
        source=SOURCE,
    )


@cache
def hidden_response(passage: Passage) -> Derivation:
    """R_B^ts = sigma_A^2 d E[dB^t/domega^s] and R_M^ts = sigma_A^2 d E[dM^t/dxi^s].

    R_B needs s < t, R_M s <= t: the residuals answer to the readout at once.
    """
    down = passage == "down"
    other = (
        sp.Derivative(readout_above[upper, step], noise_up[upper, past])
        if down
        else sp.Derivative(residuals_below[lower, step], noise_down[lower, past])
    )
    value = hidden_std**2 * s.width * neuron_mean(other)
    name = "R_B" if down else "R_M"
    here, there, added = ("lower", "upper", "M_beta") if down else ("upper", "lower", "B_alpha")
    return Derivation(
        name=f"Response of a hidden layer on the way {passage}",
        left=f"{name}(t, s)",
        latex_left=f"{name}^{{ts}}",
        expression=value,
        assumptions=ASSUMPTIONS,
        steps=(
            Step(
                f"Cavity argument: a neuron of the {here} level has added {added} times the "
                f"initial entry g to the field of every neuron of the {there} level at step s. Its "
                "own field at step t sums their answers times g, and g^2 has the mean sigma_A^2.",
                f"{name}(t, s)",
                f"{name}^{{ts}}",
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def hidden_passage(passage: Passage) -> Derivation:
    """The readout one level down, or the residuals one level up.

    B'_b^t = s_0 B_b^t + a_t (xi_b^t + sum_{s<t} R_B^ts M_b^s) - d E[B^t (what training moved)] and
    M'_a^t = s_0 M_a^t + a_t (omega_a^t + sum_{s<=t} R_M^ts B_a^s) - d E[M^t (the same)].
    """
    down = passage == "down"
    push = optimizer_map(readout_above[upper, past] * residuals_below[lower, past])
    own = decay(hidden_lrs, step, sp.S.Zero)
    if down:
        source, index, end = readout_above, upper, lower
        noise, response, partner, last = noise_down, response_down, residuals_below, step - 1
        left, latex, matrix = "B'_beta(t)", r"B'_\beta(t)", "A^T B"
        field_name = "xi"
    else:
        source, index, end = residuals_below, lower, upper
        noise, response, partner, last = noise_up, response_up, readout_above, step
        left, latex, matrix = "M'_alpha(t)", r"M'_\alpha(t)", "A M"
        field_name = "omega"
    direct = skip * source[end, step]
    meeting = source[index, step] * push
    initial = sp.Sum(source[index, step] * initial_hidden[upper, lower], (index, 1, s.width))
    exact = direct + own * initial - _pushes(sp.Sum(meeting, (index, 1, s.width)))
    covariance = hidden_std**2 * s.width * neuron_mean(source[index, step] * source[index, past])
    conditioned = noise[end, step] + sp.Sum(
        response[step, past] * partner[end, past], (past, 0, last)
    )
    value = direct + own * conditioned - _pushes(s.width * neuron_mean(meeting))
    return Derivation(
        name=f"A hidden layer on the way {passage}",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=ASSUMPTIONS,
        steps=(
            *hidden_entry().steps,
            Step(
                f"One level {passage} is the skip connection and {matrix}, exact at any width; the "
                "initial matrix enters through one sum alone.",
                left,
                latex,
                exact,
            ),
            Step(
                f"What the matrix has not been seen to do is fresh: {field_name} is Gaussian with "
                "the covariance",
                f"E[{field_name}^t {field_name}^s]",
                rf"\mathbb{{E}}[\{field_name}^t\{field_name}^s]",
                covariance,
            ),
            *hidden_response(passage).steps,
            Step(
                "Given the past fields the initial matrix is Gaussian: its mean gives the "
                "responses, the rest a fresh Gaussian. The sum over neurons, which are alike, is d "
                "times a mean.",
                left,
                latex,
                value,
            ),
        ),
        source=CONDITIONING,
    )


def deep_token_output(depth: int) -> Derivation:
    """The token process with `depth` hidden layers: that of two layers, B_0 in place of w.

    At depth 0 the readout at level 0 is the projection, and this is `token_output` itself.
    """
    base = of_two_layers.token_output()
    if depth == 0:
        return base
    return _at_level_zero(
        base,
        "Token process below hidden layers",
        "The readout at level 0 takes the projection's place: f_i = B_0 . e_i.",
        (base.left, base.latex_left),
    )


def deep_neuron_gradient(depth: int) -> Derivation:
    """The residuals at level 0 with `depth` hidden layers; at depth 0 they are the gradient.

    With hidden layers the projection's gradient is these residuals, carried up to the last level.
    """
    base = of_two_layers.neuron_gradient()
    if depth == 0:
        return base
    return _at_level_zero(
        base,
        "Residuals that enter the hidden layers",
        "Below hidden layers this is M_0; what Z meets is the readout at level 0, B_0.",
        ("M_0,l(t)", "M_{0,l}(t)"),
    )


def deep_projection_gradient(depth: int) -> Derivation:
    """h_l^t of the projection: the residuals at the last level, M_L; at depth 0 at level 0."""
    below = deep_neuron_gradient(depth)
    if depth == 0:
        return below
    passed = hidden_passage("up")
    return Derivation(
        name="Gradient of the projection above hidden layers",
        left="h_alpha(t)",
        latex_left=r"h_\alpha(t)",
        expression=passed.expression,
        assumptions=ASSUMPTIONS,
        steps=(
            *below.steps,
            *passed.steps,
            Step(
                f"After {depth} such passages, each with the matrix of its level, the last one "
                "gives the gradient of the projection.",
                "h_alpha(t)",
                r"h_\alpha(t)",
                passed.expression,
            ),
        ),
        source=SOURCE,
    )


@cache
def low_rank_orthogonalisation() -> Derivation:
    """polar(Q C P^T) = Q polar(C) P^T: Muon of a hidden matrix needs the small matrix C alone.

    Q and P are the orthonormal bases of the B^s and of the M^s seen so far, and C the coefficients
    of the gradient, or of its moving average, in them. The same holds for every odd polynomial of
    a matrix, such as that of Newton and Schulz, and for the Frobenius norm.
    """
    size = sp.Symbol("K", integer=True, positive=True)
    d = sp.Symbol("d", integer=True, positive=True)
    rows, columns = sp.MatrixSymbol("Q", d, size), sp.MatrixSymbol("P", d, size)
    small = sp.MatrixSymbol("C", size, size)
    whole = rows * small * columns.T
    cube = rows * small * small.T * small * columns.T
    left, latex = "X X^T X", r"XX^\top X"
    return Derivation(
        name="Muon acts on the coefficients of a gradient of low rank",
        left=left,
        latex_left=latex,
        expression=cube,
        assumptions=("Q^T Q = 1 and P^T P = 1", LINEAR),
        steps=(
            Step(
                "The gradients so far are sums of B^s M^s, so that in the bases of these, X =",
                "X",
                "X",
                whole,
            ),
            Step("The product of three is", left, latex, whole * whole.T * whole),
            Step(
                "With Q^T Q = P^T P = 1 the bases stay outside, and so they do in every odd "
                "polynomial of X and in its polar factor.",
                left,
                latex,
                cube,
            ),
        ),
        source=SOURCE,
    )


@cache
def hidden_first_mean_field_update() -> Derivation:
    """E[(Delta A_l h_{l-1,i})^2] at the first step under sign, no skip connections.

    eta^2 sigma_E^2 d [1 + (2/pi)(d C + l - 1)], of the l-th of hidden layers with sigma_A^2 = 1/d:
    the first reads the embedding, and every random matrix in between adds chance alignment.
    """
    d, of_sign = s.width, kernel("sign")
    cosine = s.alignment_square + (hidden_level - 1) / d
    mean, second = (
        moment.subs({input_std: s.embedding_std, gradient_std: 1})
        for moment in (of_sign.mean, of_sign.second_moment)
    )
    square = d * second + d**2 * mean**2
    value = s.projection_lr**2 * square.subs(s.alignment, sp.sqrt(cosine))
    left, latex = "E[(Delta A h_i)^2]", r"\mathbb{E}[(\Delta A\,h_i)^2]"
    return Derivation(
        name="Mean-field first step of hidden layers under sign: second moment",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(
            *ASSUMPTIONS,
            "no skip connections; sigma_A = 1/sqrt(d)",
            "one output; the first residuals do not depend on the weights",
            "leading order in the width",
        ),
        steps=(
            *hidden_matrix_gradient().steps,
            *of_sign.steps,
            Step(
                "sign(B_alpha M_beta) = sign(B_alpha) sign(M_beta): up to a sign all neurons move "
                "alike, by the sum over beta of sign(M_beta) h_(i,beta). h_i and M are Gaussian "
                "over neurons; with c their cosine the sign kernel gives",
                "E[(sum_beta sign(M_beta) h_(i,beta))^2]",
                r"\mathbb{E}[(\textstyle\sum_\beta\operatorname{sign}(M_\beta)h_{i\beta})^2]",
                square,
            ),
            Step(
                "At level 0, h_i = e_i and M = sum_j b_j e_j, whose cosine squared is "
                "C = b_i^2 / sum_j b_j^2 up to 1/d, which the 1 in the bracket counts already. A "
                "random matrix turns both vectors alike and adds 1/d to their cosine squared. "
                "The l-th matrix has l - 1 of them below:",
                "c^2",
                "c^2",
                cosine,
            ),
            Step("Put this in; |h_i|^2 = sigma_E^2 d at every level.", left, latex, value),
        ),
        source=SOURCE,
    )


def _pushes(contribution: sp.Expr) -> sp.Expr:
    """sum_{s<t} (a_t / a_{s+1}) eta_A,s contribution, with the rates of the hidden matrix."""
    return of_two_layers.pushes(hidden_lrs, contribution)


def _at_level_zero(base: Derivation, name: str, reason: str, lefts: tuple[str, str]) -> Derivation:
    """`base` with the readout at level 0 wherever it has the projection."""
    value = base.expression.replace(
        lambda part: isinstance(part, sp.Indexed) and part.base == projection,
        lambda part: readout_of_embedding[part.indices],
    )
    return Derivation(
        name=name,
        left=lefts[0],
        latex_left=lefts[1],
        expression=value,
        assumptions=ASSUMPTIONS,
        steps=(*base.steps, Step(reason, *lefts, value)),
        source=SOURCE,
    )
