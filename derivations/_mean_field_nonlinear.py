"""Mean-field dynamics of hidden layers with an activation or a norm.

h_{l,i} = s_0 h_{l-1,i} + A_l z_{l-1,i}, z_{l,i} = phi(norm(h_{l,i})), f_i = W z_{L,i}. Two regimes
have a theory: few tokens, where every token is a direction of its own, and tokens in proportion to
the width, where what single neurons see is independent but for a common part (Gaussian
equivalence).
"""

from __future__ import annotations

import sympy as sp

from . import _mean_field_equations as of_two_layers
from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._features import FeatureActivation, activation_slope
from ._gaussian import arcsine_law, gradient_std, input_std, kernel, normal_expectation
from ._mean_field_equations import (
    ENTRYWISE_ASSUMPTIONS,
    decay,
    neuron_mean,
    optimizer_map,
    past,
    series,
    step,
    token,
    weighted_residual,
)
from ._mean_field_hidden import (
    Passage,
    hidden_lrs,
    hidden_std,
    initial_hidden,
    lower,
    noise_down,
    noise_up,
    skip,
    upper,
)

other_token = sp.Symbol("j", integer=True, nonnegative=True)
stream_below = series("h'")  # h'[i, beta, t], at level l - 1
features_below = series("z")  # z[i, beta, t], at level l - 1
backpropagated = series("delta")  # delta[i, alpha, t] = dL/dh, at level l
pulled_features = series("g")  # g[i, beta, t] = dL/dz, at level l - 1
response_of_features = series("R_z")  # R_z[i, j, t, s]
response_of_gradients = series("R_delta")  # R_delta[i, j, t, s]
readout_entry = series("V")  # V[alpha]
common_slope = sp.Symbol("phi_1", positive=True)
gradient_share = sp.Symbol("C_psi", nonnegative=True)  # mean of delta_ia^2 / sum_j delta_ja^2
slope = series("psi")  # psi[i, alpha] = phi'(h_{i alpha})

SOURCE = "docs/theory/mean_field.md#nonlinear-layers"
EQUIVALENCE_SOURCE = "docs/theory/mean_field.md#gaussian-equivalence"
FEW_TOKENS = (
    *ENTRYWISE_ASSUMPTIONS,
    "initial hidden matrices have independent Gaussian entries",
    "the number of tokens stays as it is while the width goes to infinity",
)
EQUIVALENCE = (
    "one plain hidden layer without norm; the width and the number of tokens are large in "
    "proportion",
    "pre-activations of different pairs of token and neuron are Gaussian and, but for what their "
    "token or their neuron has in common with all, independent (Gaussian equivalence: not proved)",
)


@cache
def nonlinear_matrix_gradient() -> Derivation:
    """dL/dA_ab = sum_i delta_ia z_ib at any width: rank m, one for each token."""
    value = sp.Sum(
        backpropagated[token, upper, step] * features_below[token, lower, step],
        (token, 1, s.vocab_size),
    )
    left, latex = "dL/dA_(alpha,beta)", r"\partial L/\partial A_{\alpha\beta}"
    return Derivation(
        name="Gradient of a hidden matrix that reads features",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=("any activation and norm",),
        steps=(
            Step(
                "What comes back to neuron alpha depends on the slope of its own activation, so it "
                "differs from token to token; its weighted residual b_i = p_i r_i stands before.",
                "delta_(i,alpha)",
                r"\delta_{i\alpha}",
                backpropagated[token, upper, step],
            ),
            Step(
                "The entry of the matrix multiplies the feature z_(i,beta) of every token. No sum "
                "can be drawn out as with linear layers: the rank is the number of tokens.",
                left,
                latex,
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def nonlinear_passage(passage: Passage) -> Derivation:
    """Features one level up, or gradients one level down, with the tokens as directions.

    h_ia^t = s_0 h'_ia^t + a_t (omega_ia^t + sum_{s<t} sum_j R_z,ij^ts delta_ja^s) - d E[z_i^t
    (what training moved)], and g_ib^t = a_t (xi_ib^t + sum_{s<=t} sum_j R_delta,ij^ts z_jb^s) - d
    E[delta_i^t (the same)].
    """
    up = passage == "up"
    push = optimizer_map(
        sp.Sum(
            backpropagated[other_token, upper, past] * features_below[other_token, lower, past],
            (other_token, 1, s.vocab_size),
        )
    )
    own = decay(hidden_lrs, step, sp.S.Zero)
    if up:
        source, index, end = features_below[token, lower, step], lower, upper
        earlier = features_below[other_token, lower, past]
        noise, response, partner = noise_up, response_of_features, backpropagated
        field_name, last = "omega", step - 1
        direct = skip * stream_below[token, upper, step]
        left, latex, matrix = "h_(i,alpha)(t)", r"h_{i\alpha}(t)", "A z_i"
    else:
        source, index, end = backpropagated[token, upper, step], upper, lower
        earlier = backpropagated[other_token, upper, past]
        noise, response, partner = noise_down, response_of_gradients, features_below
        field_name, last = "xi", step
        direct = sp.S.Zero
        left, latex, matrix = "g_(i,beta)(t)", r"g_{i\beta}(t)", "A^T delta_i"
    meeting = source * push
    initial = sp.Sum(source * initial_hidden[upper, lower], (index, 1, s.width))
    exact = (
        direct
        + own * initial
        - of_two_layers.pushes(hidden_lrs, sp.Sum(meeting, (index, 1, s.width)))
    )
    covariance = hidden_std**2 * s.width * neuron_mean(source * earlier)
    conditioned = noise[token, end, step] + sp.Sum(
        response[token, other_token, step, past] * partner[other_token, end, past],
        (other_token, 1, s.vocab_size),
        (past, 0, last),
    )
    value = (
        direct
        + own * conditioned
        - of_two_layers.pushes(hidden_lrs, s.width * neuron_mean(meeting))
    )
    return Derivation(
        name=f"A layer of features on the way {passage}",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=FEW_TOKENS,
        steps=(
            Step(
                f"One level {passage} is {matrix}, and the skip connection on the way up: exact at "
                "any width. The initial matrix enters through one sum for each token.",
                left,
                latex,
                exact,
            ),
            Step(
                f"{field_name} is Gaussian over neurons. Between tokens i and j it has the "
                "covariance",
                f"E[{field_name}_i^t {field_name}_j^s]",
                rf"\mathbb{{E}}[\{field_name}_i^t\{field_name}_j^s]",
                covariance,
            ),
            Step(
                "The matrix has been met before by the vectors of all tokens from the other side. "
                "Each gives a response; the sum over neurons is d times a mean.",
                left,
                latex,
                value,
            ),
        ),
        source=f"{SOURCE}; Bordelon & Pehlevan 2022, arXiv 2205.09653",
    )


@cache
def shared_and_own_gradient() -> Derivation:
    """delta_ia = V_a b_i E_a[phi'(h_ia)] + V_a b_i (phi'(h_ia) - E_a[phi'(h_ia)])."""
    mean = neuron_mean(slope[token, upper])
    shared = readout_entry[upper] * weighted_residual[token, step] * mean
    own = readout_entry[upper] * weighted_residual[token, step] * (slope[token, upper] - mean)
    left, latex = "delta_(i,alpha)", r"\delta_{i\alpha}"
    return Derivation(
        name="What neurons have in common of a gradient, and what is their own",
        left=left,
        latex_left=latex,
        expression=shared + own,
        assumptions=(*EQUIVALENCE, "one output (n outputs: V and b are vectors, n shared parts)"),
        steps=(
            Step(
                "A readout V_alpha times the weighted residual b_i = p_i r_i comes back to neuron "
                "alpha, times psi = phi'(h), the slope at the pre-activation of token and neuron.",
                left,
                latex,
                readout_entry[upper] * weighted_residual[token, step] * slope[token, upper],
            ),
            Step(
                "Over tokens the first part is one direction for all neurons, up to the factor "
                "V_alpha. The initial embedding meets it once, with one image.",
                "shared part of delta_(i,alpha)",
                r"\bar\delta_{i\alpha}",
                shared,
            ),
            Step(
                "The second has mean zero over neurons. Two neurons' parts are orthogonal up to "
                "order 1/sqrt(m), so that a neuron's image of its own part is as if drawn from a "
                "Gaussian matrix of its own, given what it has seen before.",
                left,
                latex,
                shared + own,
            ),
        ),
        source=EQUIVALENCE_SOURCE,
    )


def common_slope_share(activation: FeatureActivation) -> Derivation:
    """phi_1 = E[phi']^2 / E[phi'^2]: 1 for identity, 1/2 for ReLU.

    The share of the backpropagated square that neurons have in common at the start. Raises
    `ValueError` for tanh and gelu, whose means are left to quadrature.
    """
    if activation not in ("identity", "relu"):
        raise ValueError(f"the share of the common slope of {activation} is found by quadrature")
    psi = activation_slope(activation)
    if activation == "relu":
        psi = (1 + sp.sign(sp.Symbol("x", real=True))) / 2
    mean, square = normal_expectation(psi), normal_expectation(sp.expand(psi**2))
    value = sp.simplify(mean**2 / square)
    return Derivation(
        name=f"Common share of the slope of {activation}",
        left="phi_1",
        latex_left=r"\varphi_1",
        expression=value,
        assumptions=("pre-activations are standard normal and independent between neurons",),
        steps=(
            Step(
                "The mean slope of the activation phi over neurons.",
                "E[phi']",
                r"\mathbb{E}[\phi']",
                mean,
            ),
            Step("Its mean square.", "E[phi'^2]", r"\mathbb{E}[\phi'^2]", square),
            Step("The shared part's square over the whole.", "phi_1", r"\varphi_1", value),
        ),
        source=EQUIVALENCE_SOURCE,
    )


@cache
def agreement_of_neurons() -> Derivation:
    """E[sign A_ab sign A_a'b] = (2/pi) asin(phi_1) of two neurons whose readouts have one sign.

    The first update under sign descent. Without the neurons' own noise all agree: 1.
    """
    law = arcsine_law()
    value = law.expression.subs(s.alignment, common_slope)
    left, latex = (
        "E[sign G_(alpha,beta) sign G_(gamma,beta)]",
        r"\mathbb{E}[\operatorname{sign}G_{\alpha\beta}\operatorname{sign}G_{\gamma\beta}]",
    )
    return Derivation(
        name="Agreement of two neurons' first updates",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(*EQUIVALENCE, "both neurons have a readout of the same sign"),
        steps=(
            *law.steps,
            Step(
                "The gradient's entry G_(alpha,beta) = V_alpha sum_i b_i psi_(i,alpha) e_(i,beta) "
                "is Gaussian over the embeddings, psi the slope of the activation. Neurons alpha "
                "and gamma share the mean slope, so that their entries correlate by phi_1 = "
                "E[psi]^2 / E[psi^2].",
                "correlation",
                r"\rho",
                common_slope,
            ),
            Step("The arcsine law.", left, latex, value),
        ),
        source=EQUIVALENCE_SOURCE,
    )


@cache
def gated_first_update() -> Derivation:
    """E[(Delta A e_i)^2] of the first matrix under sign: that of linear layers, one neuron's share.

    eta^2 sigma_E^2 d [1 + (2/pi) d C], C the mean over neurons of delta_ia^2 / sum_j delta_ja^2.
    """
    d, of_sign = s.width, kernel("sign")
    share, cosine = gradient_share, sp.sqrt(gradient_share)
    mean, second = (
        moment.subs({input_std: s.embedding_std, gradient_std: 1})
        for moment in (of_sign.mean, of_sign.second_moment)
    )
    value = s.projection_lr**2 * sp.expand((d * second + d**2 * mean**2).subs(s.alignment, cosine))
    left, latex = "E[(Delta A e_i)^2]", r"\mathbb{E}[(\Delta A\,e_i)^2]"
    return Derivation(
        name="Mean-field first step of a matrix below an activation, under sign",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=("the matrix reads Gaussian embeddings", "leading order in the width"),
        steps=(
            *nonlinear_matrix_gradient().steps,
            Step(
                "Given the slopes a row of the gradient is Gaussian over the embeddings. Its "
                "cosine with e_i has the square C_psi, the token's share of the sum over j of "
                "delta_(j,alpha)^2.",
                "c^2",
                "c^2",
                share,
            ),
            *of_sign.steps,
            Step("The sign kernel, with this cosine.", left, latex, value),
        ),
        source=f"{EQUIVALENCE_SOURCE}; docs/theory/first_step.md#hidden-step",
    )
