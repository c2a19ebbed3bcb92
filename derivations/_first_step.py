"""First-step moments: what one update of each layer does to the output, at finite d and m.

Model: f_i = W e_i with e_i of d entries N(0, sigma_E^2) and W of n x d entries N(0, sigma_W^2),
loss L = sum_i p_i l(f_i, y_i), residual r_ik = dl/df_ik. The gradients are
dL/dW_kl = sum_j p_j r_jk e_jl and dL/de_il = p_i sum_q r_iq W_ql.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._gaussian import (
    Optimizer,
    arcsine_law,
    gradient_std,
    input_std,
    normal_expectation,
    summed_kernel,
)
from ._simplified import simplified

Layer = Literal["embedding", "projection", "hidden"]
LAYERS: tuple[Layer, ...] = ("embedding", "projection", "hidden")

_x = sp.Symbol("x", real=True)


_LAYER_SOURCE: dict[Layer, str] = {
    "embedding": "docs/theory/first_step.md#embedding-step",
    "projection": "docs/theory/first_step.md#projection-step",
    "hidden": "docs/theory/first_step.md#hidden-step",
}
_OPTIMIZER_SOURCE: dict[Optimizer, str] = {
    "sgd": "docs/theory/first_step.md#sgd-step",
    "sign": "docs/theory/first_step.md#sign-kernel",
    "adam": "docs/theory/first_step.md#adam-first-step",
}


@dataclass(frozen=True)
class _Role:
    """How a layer's contribution reads as `-lr sum_l u_l phi(v_l)`: its u, v and alignment."""

    contribution: str
    latex: str
    learning_rate: sp.Symbol
    input_std: sp.Expr
    gradient_std: sp.Expr
    alignment: sp.Expr
    identification: str
    assumptions: tuple[str, ...]


def _role(layer: Layer) -> _Role:
    r, c = s.residual, s.alignment
    projection = _Role(
        contribution="(Delta W e_i)_k",
        latex=r"(\Delta W\,e_i)_k",
        learning_rate=s.projection_lr,
        input_std=s.embedding_std,
        gradient_std=s.embedding_std * sp.sqrt(s.field_square_sum),
        alignment=c,
        identification=(
            "An update changes W_kl by -eta_W phi(v_l), phi what the optimizer makes of the "
            "gradient's entry v_l = sum_j p_j r_jk e_jl. Output k of token i changes by the sum "
            "over neurons l of -eta_W u_l phi(v_l), u_l = e_il. With S = sum_j p_j^2 r_jk^2 and "
            "r = r_ik, Var v = sigma_E^2 S and Cov(u, v) = sigma_E^2 p_i r, so that u and v have "
            "the correlation"
        ),
        assumptions=(
            "the residuals do not depend on the embeddings (zero or small initial output)",
        ),
    )
    match layer:
        case "projection":
            return projection
        case "hidden":
            return _Role(
                **{
                    **projection.__dict__,
                    "identification": "delta_jk is the residual of token j, backpropagated to "
                    "neuron k of the layer, which the next layer reads. "
                    + projection.identification.replace("r_jk", "delta_jk")
                    .replace("r_ik", "delta_ik")
                    .replace("Output k", "Neuron k"),
                    "assumptions": (
                        "the backpropagated residuals do not depend on the embeddings "
                        "(zero or small initial output)",
                        "RMS of one coordinate of the hidden layer's output",
                    ),
                }
            )
        case "embedding":
            return _Role(
                contribution="(W Delta e_i)_k",
                latex=r"(W\,\Delta e_i)_k",
                learning_rate=s.embedding_lr,
                input_std=s.projection_std,
                gradient_std=s.frequency * s.projection_std * s.residual_norm,
                alignment=r / s.residual_norm,
                identification=(
                    "An update changes e_il by -eta_E phi(v_l), phi what the optimizer makes of "
                    "the gradient's entry v_l = p_i sum_q r_iq W_ql. Output k changes by the sum "
                    "over neurons l of -eta_E u_l phi(v_l), u_l = W_kl. With R^2 = sum_q r_iq^2 "
                    "and r = r_ik, Var v = p_i^2 sigma_W^2 R^2 and Cov(u, v) = p_i sigma_W^2 r, so "
                    "that p_i cancels from the correlation of u and v:"
                ),
                assumptions=(
                    "the residuals do not depend on the projection (exact for n = 1 under sign; "
                    "otherwise a relative error of order n/d)",
                ),
            )


def _kernel_at(layer: Layer, optimizer: Optimizer) -> tuple[_Role, dict[sp.Expr, sp.Expr]]:
    role = _role(layer)
    return role, {
        input_std: role.input_std,
        gradient_std: role.gradient_std,
        s.alignment: role.alignment,
    }


def _words(expression: sp.Expr) -> str:
    return str(expression).replace("*", " ")


def role_step(layer: Layer) -> Step:
    """What u, v and their correlation are at a layer."""
    role = _role(layer)
    alignment = role.alignment
    if alignment == s.alignment:  # written out for the reader, kept as c in the result
        alignment = s.frequency * s.residual / sp.sqrt(s.field_square_sum)
    return Step(role.identification, "c", "c", alignment)


def role_values(layer: Layer, optimizer: Optimizer) -> tuple[sp.Symbol, dict[sp.Expr, sp.Expr]]:
    """A layer's learning rate, and what it puts into the kernel's deviations and correlation."""
    role, values = _kernel_at(layer, optimizer)
    return role.learning_rate, values


GAUSSIAN_WEIGHTS = "all weights are independent Gaussians at initialisation"


@cache
def update_mean(layer: Layer, optimizer: Optimizer) -> Derivation:
    """Mean of a layer's first contribution to its output, given the residuals.

    Sign: -eta_W sigma_E d sqrt(2/pi) c for projection and hidden, and the same with
    eta_E, sigma_W and r_ik/R for the embedding.
    """
    role, values = _kernel_at(layer, optimizer)
    moments = summed_kernel(optimizer)
    mean = simplified(-role.learning_rate * moments.mean.subs(values, simultaneous=True))
    return _derivation(role, optimizer, layer, "mean", f"E[{role.contribution}]", mean)


@cache
def update_second_moment(layer: Layer, optimizer: Optimizer) -> Derivation:
    """Second moment of a layer's first contribution to its output, given the residuals.

    Sign: eta^2 sigma^2 d [1 + (2/pi) (d - 1) c^2]; SGD: eta^2 sigma_E^4 S d [1 + (d + 1) c^2]
    (Wishart).
    """
    role, values = _kernel_at(layer, optimizer)
    moments = summed_kernel(optimizer)
    second = role.learning_rate**2 * moments.second_moment.subs(values, simultaneous=True)
    return _derivation(role, optimizer, layer, "second moment", f"E[{role.contribution}^2]", second)


def _derivation(
    role: _Role, optimizer: Optimizer, layer: Layer, what: str, left: str, value: sp.Expr
) -> Derivation:
    moments = summed_kernel(optimizer)
    latex_left = (
        rf"\mathbb{{E}}[{role.latex}]" if what == "mean" else rf"\mathbb{{E}}[{role.latex}^2]"
    )
    factor = f"-{role.learning_rate}" if what == "mean" else f"{role.learning_rate}^2"
    final = Step(
        f"Put in sigma_u = {_words(role.input_std)} and sigma_v = {_words(role.gradient_std)}, and "
        f"multiply by {factor}.",
        left,
        latex_left,
        value,
    )
    return Derivation(
        name=f"First step of the {layer} layer under {optimizer}: {what}",
        left=left,
        latex_left=latex_left,
        expression=value,
        assumptions=(GAUSSIAN_WEIGHTS, *role.assumptions, *moments.assumptions),
        steps=(role_step(layer), *moments.steps, final),
        source="; ".join((_LAYER_SOURCE[layer], _OPTIMIZER_SOURCE[optimizer])),
    )


@cache
def hidden_output_second_moment(optimizer: Optimizer) -> Derivation:
    """Second moment of V Delta W e_i, the hidden layer's first contribution to a single output.

    With n = 1 the backpropagated residual is delta_jk = V_k r_j, so Delta W has rank one under
    sign: V Delta W e_i = -eta_W (sum_k V_k phi(V_k)) (sum_l e_il phi(v_l)), and the two factors
    are independent. The first is the sum of the kernel at full alignment.
    """
    inner = update_second_moment("hidden", optimizer)
    readout_std = sp.Symbol("sigma_V", positive=True)
    outer = summed_kernel(optimizer).second_moment.subs(
        {input_std: readout_std, gradient_std: readout_std, s.alignment: 1}, simultaneous=True
    )
    left, latex_left = "E[(V Delta W e_i)^2]", r"\mathbb{E}[(V\,\Delta W\,e_i)^2]"
    return Derivation(
        name=f"First step of the hidden layer under {optimizer}: second moment of the output",
        left=left,
        latex_left=latex_left,
        expression=outer * inner.expression,
        assumptions=(*inner.assumptions, "one output, read by V with entries N(0, sigma_V^2)"),
        steps=(
            *inner.steps,
            Step(
                "With one output delta_jk = V_k r_j, so the readout sees the sum over k of "
                "V_k phi(V_k) times the same coordinate; that sum is the kernel at c = 1.",
                "E[(sum_k V_k phi(V_k))^2]",
                r"\mathbb{E}\Bigl(\sum_k V_k\phi(V_k)\Bigr)^2",
                outer,
            ),
            Step("The two factors are independent.", left, latex_left, outer * inner.expression),
        ),
        source="docs/theory/first_step.md#hidden-step",
    )


@cache
def self_term_ratio() -> Derivation:
    """kappa = |J| sigma_E sigma_W / sqrt(S): self term over noise in the projection's gradient.

    Conditioned on W and on the outputs f = E W^T (n = 1), e_il = f_i w_l / |w|^2 + an independent
    Gaussian rest, so h_l = sum_j p_j r_j e_jl has mean T w_l / |w|^2, T = sum_j p_j r_j f_j, and
    noise sigma_E^2 S. By Stein's lemma T = J sigma_f^2 with J = sum_j p_j dr_j/df_j and
    sigma_f^2 = d sigma_E^2 sigma_W^2.
    """
    output_variance = s.width * s.embedding_std**2 * s.projection_std**2
    overlap = s.residual_slope * output_variance
    row_norm_square = s.width * s.projection_std**2
    mean_std = overlap / row_norm_square * s.projection_std
    kappa = simplified(mean_std / (s.embedding_std * sp.sqrt(s.field_square_sum)))
    return Derivation(
        name="Self term of the projection's first gradient",
        left="kappa",
        latex_left=r"\kappa",
        expression=kappa,
        assumptions=(
            GAUSSIAN_WEIGHTS,
            "one output; sums over tokens self-average (width and vocabulary large at any ratio)",
        ),
        steps=(
            Step(
                "Let w be the projection's row and f_j = w . e_j the output of token j. Given all "
                "f_j, an embedding e_j is f_j w / |w|^2 and an independent Gaussian rest. So the "
                "gradient's entry v_l = sum_j p_j r_j e_jl has the mean T w_l / |w|^2 with T = "
                "sum_j p_j r_j f_j. With J = sum_j p_j dr_j/df_j, Stein's lemma says T = J Var f:",
                "T",
                "T",
                overlap,
            ),
            Step(
                "Over the neurons l this mean of v_l has the standard deviation T sigma_W / |w|^2 "
                "with |w|^2 = d sigma_W^2:",
                "std of the mean",
                r"\operatorname{std}",
                simplified(mean_std),
            ),
            Step(
                "The rest of v_l has the standard deviation sigma_E sqrt(S), S = sum_j p_j^2 "
                "r_j^2. kappa is the one over the other:",
                "kappa",
                r"\kappa",
                kappa,
            ),
        ),
        source="docs/theory/first_step.md#self-term",
    )


@cache
def self_term_second_moment() -> Derivation:
    """Second moment of the projection's first sign update with the self term kept.

    eta_W^2 sigma_E^2 d [1 + (2/pi) d (C + 2 p_i kappa^2) / (1 + kappa^2)] at leading order in d
    and m at any ratio; kappa = 0 is the result without self term.
    """
    kappa, slope = s.self_term_ratio, sp.Symbol("a", positive=True)
    damping = normal_expectation(sp.exp(-(kappa**2) * _x**2 / 2))
    drift = normal_expectation(_x * sp.erf(slope * _x / sp.sqrt(2))).subs(slope, kappa)
    d, c_square, p = s.width, s.alignment_square, s.frequency
    signal = sp.sqrt(2 / sp.pi) * damping
    own = d**2 * signal**2 * c_square
    output = d * drift**2
    product = 2 * d**2 * signal * drift * kappa * p
    noise = d * (1 - drift**2)
    bracket = sp.factor((own + output + product + noise) / d - 1)
    value = s.projection_lr**2 * s.embedding_std**2 * d * (1 + bracket)
    left, latex_left = "E[(Delta W e_i)_k^2]", r"\mathbb{E}[(\Delta W\,e_i)_k^2]"
    return Derivation(
        name="First step of the projection layer under sign, self term included: second moment",
        left=left,
        latex_left=latex_left,
        expression=value,
        assumptions=(
            *self_term_ratio().assumptions,
            "relative corrections of order 1/d are dropped",
        ),
        steps=(
            *self_term_ratio().steps,
            Step(
                "In units of its noise v_l is kappa x and a rest, x = w_l / sigma_W a standard "
                "normal. This spreads v_l and damps the token's own signal by the mean of "
                "exp(-kappa^2 x^2 / 2):",
                "damping",
                r"\mathbb{E}\,e^{-\kappa^2x^2/2}",
                damping,
            ),
            Step(
                "It also correlates sign(v_l) with the projection's row, so that the token's "
                "output f_i re-enters with the weight",
                "E[x sign(v)]",
                r"\mathbb{E}[x\operatorname{sign}v]",
                drift,
            ),
            Step(
                "What is left of sign(v) over the d neurons is noise of variance "
                "d (1 - E[x sign(v)]^2):",
                "noise",
                r"\text{noise}",
                sp.factor(noise),
            ),
            Step(
                "Add the squares of signal, output and noise, and twice the product of signal and "
                "output, in which E[r_i f_i] = J Var f. C = c^2, c the signal's correlation with "
                "the noise of v_l without self term:",
                left,
                latex_left,
                value,
            ),
        ),
        source="docs/theory/first_step.md#self-term",
    )


@cache
def cross_term_second_moment(optimizer: Optimizer) -> Derivation:
    """Second moment of (Delta W Delta e_i)_k for one output.

    Sign: eta_W^2 eta_E^2 d [1 + (d - 1) ((2/pi) asin(kappa / sqrt(1 + kappa^2)))^2]: the signs of
    the two gradients meet through the self term alone, by the arcsine law. SGD without self term:
    the two gradients are independent.
    """
    d = s.width
    rates = s.projection_lr**2 * s.embedding_lr**2
    left, latex_left = "E[(Delta W Delta e_i)^2]", r"\mathbb{E}[(\Delta W\,\Delta e_i)^2]"
    steps: tuple[Step, ...]
    if optimizer == "sgd":
        power = s.embedding_std**2 * s.field_square_sum
        power *= s.frequency**2 * s.projection_std**2 * s.residual_norm**2
        value = rates * d * power
        assumptions = (GAUSSIAN_WEIGHTS, "residuals that do not depend on the weights")
        steps = (
            Step(
                "The two gradients are independent and centred, so only the d equal terms remain.",
                left,
                latex_left,
                value,
            ),
        )
    else:
        kappa = s.self_term_ratio
        correlation = kappa / sp.sqrt(1 + kappa**2)
        agreement = arcsine_law().expression.subs(s.alignment, correlation)
        value = rates * d * (1 + (d - 1) * agreement**2)
        assumptions = (
            *self_term_ratio().assumptions,
            "without self term (kappa = 0) the second moment is exactly eta_W^2 eta_E^2 d",
        )
        steps = (
            *arcsine_law().steps,
            Step(
                "The projection's gradient correlates with w_l, whose sign is the embedding's "
                "update, by kappa / sqrt(1 + kappa^2).",
                "c",
                "c",
                correlation,
            ),
            Step(
                "d diagonal terms and d (d - 1) products of two mean agreements.",
                left,
                latex_left,
                value,
            ),
        )
    return Derivation(
        name=f"Cross term of the first step under {optimizer}: second moment",
        left=left,
        latex_left=latex_left,
        expression=value,
        assumptions=assumptions,
        steps=steps,
        source="docs/theory/first_step.md#cross-term",
    )
