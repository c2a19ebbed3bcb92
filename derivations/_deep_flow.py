"""Gradient flow of linear hidden layers: gradients, conservation laws, aligned layers, the limit.

Level 0 is the embedding: H_0 = E, H_l = H_{l-1} B_l^T with B_l = s_0 + A_l, f = W h_L. W_l is the
readout pulled down to level l, W_{l-1} = W_l B_l, and M_l the residuals carried up, M_0 = R^T E,
M_l = M_{l-1} B_l^T. Without hidden layers everything is as in `_gradient_flow`.
"""

from __future__ import annotations

from typing import Literal

import sympy as sp

from . import _flow_symbols as x
from ._cache import cache
from ._derivation import Derivation, Step
from ._gradient_flow import gram_flow, weight_gradient
from ._symbols import (
    embedding_lr,
    embedding_std,
    frequency,
    outputs,
    projection_lr,
    projection_std,
    vocab_size,
    width,
)

Neighbours = Literal["hidden", "embedding", "projection"]
NEIGHBOURS: tuple[Neighbours, ...] = ("hidden", "embedding", "projection")

_LINEAR = "hidden layers h_l = s_0 h_{l-1} + A_l h_{l-1} without activation function, f = W h_L"
_FLOW = "gradient flow in full batch, every layer with a learning rate of its own"
_SOURCE = "docs/theory/gradient_flow.md#deep-flow"
_LIMIT_SOURCE = "docs/theory/gradient_flow.md#deep-flow-limits"
_ALIGNED_SOURCE = (
    "docs/theory/gradient_flow.md#aligned-layers; Saxe, McClelland & Ganguli 2014, arXiv 1312.6120"
)
_KERNEL_SOURCE = "docs/theory/linearized.md#deep-tangent-kernel"


@cache
def level_down() -> Derivation:
    """W_{l-1} = s_0 W_l + W_l A_l: the readout one level further down."""
    value = x.skip * x.level_readout + x.level_readout * x.hidden_matrix
    return Derivation(
        name="The readout one level down",
        left="W_{l-1}",
        latex_left="W_{l-1}",
        expression=value,
        assumptions=(_LINEAR,),
        steps=(
            Step(
                "The output W_l h_l of a token is W_l (s_0 + A_l) h_{l-1}.",
                "W_{l-1}",
                "W_{l-1}",
                value,
            ),
        ),
        source=_SOURCE,
    )


@cache
def level_up() -> Derivation:
    """M_l = s_0 M_{l-1} + M_{l-1} A_l^T, and the same of the features H_l."""
    value = x.skip * x.carried_residual + x.carried_residual * x.hidden_matrix.T
    return Derivation(
        name="Residuals one level up",
        left="M_l",
        latex_left="M_l",
        expression=value,
        assumptions=(_LINEAR,),
        steps=(
            Step(
                "Rows of H_l are s_0 h_{l-1} + A_l h_{l-1}, and M_l = R^T H_l.", "M_l", "M_l", value
            ),
        ),
        source=_SOURCE,
    )


@cache
def hidden_gradient() -> Derivation:
    """dL/dA_l = W_l^T M_{l-1}, of rank n, by matrix calculus; any loss with R = P dl/df."""
    features, readout, matrix = x.features, x.level_readout, x.hidden_matrix
    error = x.skip * features * readout.T + features * matrix.T * readout.T - x.targets
    loss = sp.Trace(error.T * x.frequencies * error) / 2
    gradient = sp.expand(loss.diff(matrix)).xreplace({x.frequencies.T: x.frequencies}).doit()
    chained = readout.T * error.T * x.frequencies * features
    assert sp.expand(gradient - sp.expand(chained).doit()).doit() == sp.ZeroMatrix(width, width)
    value = readout.T * x.carried_residual
    left, latex = "dL/dA_l", r"\frac{\partial L}{\partial A_l}"
    return Derivation(
        name="Gradient of a linear hidden matrix",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(_LINEAR, "mean squared error (another loss: R = P dl/df)"),
        steps=(
            Step(
                "The loss as a function of A = A_l alone. A row of H = H_{l-1} is what A_l reads "
                "of a token, W_l the readout pulled down to its output, Y has the targets, and "
                "P is diagonal with the tokens' frequencies.",
                "L",
                "L",
                loss,
            ),
            Step("Differentiate; P is symmetric.", left, latex, gradient),
            Step(
                "Collect the weighted residual R = P (F - Y), F the outputs.",
                left,
                latex,
                readout.T * x.weighted_residual.T * features,
            ),
            Step("M = M_{l-1} = R^T H_{l-1}: the residuals carried up.", left, latex, value),
        ),
        source=_SOURCE,
    )


@cache
def deep_output_flow(depth: int) -> Derivation:
    """dF/dt = -sum over layers of eta K R G, with K the features' and G the readout's Gram matrix.

    K_l = H_l H_l^T at the input of a layer, G_l = W_l W_l^T at its output; at depth 0 it is
    `gram_flow("output")`. The right-hand side is minus the tangent kernel of all layers, on R.
    """
    terms = [-embedding_lr * x.weighted_residual * readout_gram(0)]
    for level in range(1, depth + 1):
        rate = layer_rate(level)
        terms.append(-rate * feature_gram(level - 1) * x.weighted_residual * readout_gram(level))
    terms.append(-projection_lr * feature_gram(depth) * x.weighted_residual)
    value = sp.MatAdd(*terms)
    named = {feature_gram(0): x.embedding_gram, readout_gram(0): x.projection_gram}
    if depth == 0:
        value = value.xreplace(named)
        assert sp.expand(value - gram_flow("output").expression).doit() == sp.ZeroMatrix(
            vocab_size, outputs
        )
    left, latex = "dF/dt", r"\frac{\mathrm{d}F}{\mathrm{d}t}"
    by_embedding = -embedding_lr * weight_gradient("embedding").expression
    return Derivation(
        name=f"Gradient flow of the output with {depth} hidden layers",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(_LINEAR, _FLOW),
        steps=(
            Step(
                "What the embedding adds to F, with W_0 in the projection's place.",
                "(dE/dt) W_0^T",
                r"\dot EW_0^\top",
                (by_embedding * x.projection.T).doit(),
            ),
            *hidden_gradient().steps[-1:],
            Step(
                "What a hidden layer adds: H_{l-1} (dA_l/dt)^T W_l^T, with M_{l-1} = R^T H_{l-1}.",
                "H_{l-1} (dA_l/dt)^T W_l^T",
                r"H_{l-1}\dot A_l^\top W_l^\top",
                -x.hidden_lr
                * x.features
                * x.features.T
                * x.weighted_residual
                * x.level_readout
                * x.level_readout.T,
            ),
            Step(
                "Sum over layers, K_l = H_l H_l^T and G_l = W_l W_l^T.",
                left,
                latex,
                value,
            ),
        ),
        source=_SOURCE,
    )


def feature_gram(level: int) -> sp.MatrixSymbol:
    """K_l = H_l H_l^T."""
    return sp.MatrixSymbol(f"K_{level}", vocab_size, vocab_size)


def readout_gram(level: int) -> sp.MatrixSymbol:
    """G_l = W_l W_l^T."""
    return sp.MatrixSymbol(f"G_{level}", outputs, outputs)


def layer_rate(level: int) -> sp.Symbol:
    """Learning rate of the hidden layer below level l."""
    return sp.Symbol(f"eta_A{level}", positive=True)


@cache
def open_gram() -> Derivation:
    """d(H_1 H_1^T)/dt with one hidden layer: it holds W B B^T H_1^T, which is none of the Grams."""
    e, b, w = x.embedding, x.layer_map, x.projection
    moved_embedding = -embedding_lr * x.weighted_residual * w * b
    moved_matrix = -x.hidden_lr * w.T * x.weighted_residual.T * e
    half = (moved_embedding * b.T * b * e.T + e * moved_matrix.T * b * e.T).doit()
    value = sp.MatAdd(half, half.T).doit()
    assert value.has(w * b * b.T) or "B*B.T" in str(value)
    left, latex = "dK_1/dt", r"\frac{\mathrm{d}K_1}{\mathrm{d}t}"
    return Derivation(
        name="The Gram matrices of hidden layers do not close",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(_LINEAR, _FLOW, "one hidden layer, B = s_0 + A"),
        steps=(
            Step(
                "The embedding moves along W_0 = W B.",
                "dE/dt",
                r"\dot E",
                moved_embedding,
            ),
            Step("The hidden layer:", "dB/dt", r"\dot B", moved_matrix),
            Step(
                "Product rule for K_1 = E B^T B E^T, H_1 = E B^T. The term W B B^T (B E^T) is the "
                "readout through B B^T, and its own velocity holds (B B^T)^2: there is no end.",
                left,
                latex,
                value,
            ),
        ),
        source=_SOURCE,
    )


@cache
def layer_invariant(pair: Neighbours) -> Derivation:
    """What gradient flow conserves between two neighbouring layers, for every loss.

    B_up^T B_up / eta_up - B B^T / eta of two hidden layers, with B = A without skip connections and
    1 + A with them. Below the first layer stands E^T E / eta_E, above the last W^T W / eta_W.
    """
    below, above, next_above = x.layer_map, x.next_layer_map, x.level_readout
    carried = x.carried_residual
    # Left and right of the level between the two layers, each with its gradient.
    if pair == "hidden":
        upper = above.T * (next_above.T * carried * below.T)
        lower = (above.T * next_above.T) * carried * below.T
        value = above.T * above / x.next_hidden_lr - below * below.T / x.hidden_lr
        names = (
            ("B_up^T dB_up/dt / eta_up", r"B_{up}^\top\dot B_{up}/\eta_{up}"),
            (
                "dB/dt B^T / eta_A",
                r"\dot BB^\top/\eta_A",
            ),
        )
        level = "M the residuals below, W_l the readout above"
    elif pair == "embedding":
        upper = below.T * next_above.T * (x.weighted_residual.T * x.embedding)
        lower = x.embedding.T * x.weighted_residual * (next_above * below)
        lower = lower.T.doit()
        value = below.T * below / x.hidden_lr - x.embedding.T * x.embedding / embedding_lr
        names = (
            ("B^T dB/dt / eta_A", r"B^\top\dot B/\eta_A"),
            (
                "(E^T dE/dt)^T / eta_E",
                r"(E^\top\dot E)^\top/\eta_E",
            ),
        )
        level = "M_0 = R^T E below, W_1 the readout above"
    else:
        upper = x.projection.T * (carried * below.T)
        lower = (x.projection.T * carried) * below.T
        value = x.projection.T * x.projection / projection_lr - below * below.T / x.hidden_lr
        names = (
            ("W^T dW/dt / eta_W", r"W^\top\dot W/\eta_W"),
            (
                "dB/dt B^T / eta_A",
                r"\dot BB^\top/\eta_A",
            ),
        )
        level = "M the residuals below the last layer"
    upper, lower = (-upper).doit(), (-lower).doit()
    assert sp.expand(upper - lower).doit() == sp.ZeroMatrix(width, width), pair
    left = "D"
    return Derivation(
        name=f"Conservation law of neighbouring layers ({pair})",
        left=left,
        latex_left=left,
        expression=value,
        assumptions=(
            _LINEAR,
            _FLOW,
            "B = A without skip connections, B = 1 + A with them; any loss",
        ),
        steps=(
            Step(
                f"The upper layer times its velocity, with {level}; dB/dt = dA/dt.",
                *names[0],
                upper,
            ),
            Step("The lower layer: the same matrix.", *names[1], lower),
            Step(
                "So the difference of the two symmetric parts is constant. Of A itself with skip "
                "connections nothing of the kind is: A^T dA/dt differs by the skipped term.",
                left,
                left,
                value,
            ),
        ),
        source=f"{_SOURCE}; Saxe, McClelland & Ganguli 2014, arXiv 1312.6120",
    )


@cache
def aligned_layers() -> Derivation:
    """df/dt = N eta p f^(2 - 2/N) (y - f) of one mode through N balanced aligned layers.

    f is the product of one number a layer, its singular value in this mode; eta is the geometric
    mean of the rates. N = 2 is the logistic equation of `balanced_mode`.
    """
    f, size = sp.Symbol("f", positive=True), sp.Symbol("c", positive=True)
    n, y, p, eta = x.layers, x.target, frequency, x.mean_rate
    one = sp.Symbol("a_l", positive=True)
    rate = sp.Symbol("eta_l", positive=True)
    of_layer = rate * p * (f / one) * (y - f)
    doubled = sp.simplify(2 * one * of_layer / rate)
    change = sp.simplify((f / one * of_layer).subs(one, sp.sqrt(rate * size)))
    assert sp.simplify(change - p * f**2 / size * (y - f)) == 0
    common = f ** (2 / n) / eta
    value = n * eta * p * f ** (2 - 2 / n) * (y - f)
    assert sp.simplify(sp.expand_power_base(n * change.subs(size, common) - value)) == 0
    logistic = 2 * eta * p * f * (y - f)
    assert sp.simplify(value.subs(n, 2) - logistic) == 0
    return Derivation(
        name="Aligned mode of N balanced layers",
        left="df/dt",
        latex_left=r"\dot f",
        expression=value,
        assumptions=(
            "one mode: f is the product of one number a_l for each of N = L + 2 layers, mean "
            "squared error with target y and frequency p_i, no skip connections",
            "balanced layers: a_l^2/eta_l is the same for all of them; f > 0",
        ),
        steps=(
            Step("The gradient of one layer.", "da_l/dt", r"\dot a_l", of_layer),
            Step(
                "d(a_l^2)/dt / eta_l is the same for all layers, so that balance lasts:",
                "d(a_l^2)/dt / eta_l",
                r"\frac{\mathrm{d}a_l^2}{\mathrm{d}t}/\eta_l",
                doubled,
            ),
            Step(
                "With c = a_l^2/eta_l, f^2 = eta^N c^N, eta the geometric mean of the rates.",
                "c",
                "c",
                common,
            ),
            Step("Every layer adds the same,", "(f/a_l) da_l/dt", r"(f/a_l)\dot a_l", change),
            Step("and there are N of them.", "df/dt", r"\dot f", value),
        ),
        source=_ALIGNED_SOURCE,
    )


@cache
def aligned_layers_time() -> Derivation:
    """The time at which a mode of N > 2 balanced aligned layers has come from f_0 to f < y."""
    f, f_0 = sp.Symbol("f", positive=True), x.initial_mode
    n, y, p, eta = x.layers, x.target, frequency, x.mean_rate
    power = 2 / n - 1
    antiderivative = f**power / (y * power) * sp.hyper((1, power), (power + 1,), f / y)
    # Term by term: f^(2/N - 2) / (y - f) = sum_k f^(2/N - 2 + k) / y^(k + 1).
    k = sp.Symbol("k", integer=True, nonnegative=True)
    term = f ** (k + power) / (y ** (k + 1) * (k + power))
    integrand = f ** (2 / n - 2) * (f / y) ** k / y
    assert sp.simplify(sp.diff(term, f) / integrand) == 1
    factor = sp.rf(1, k) * sp.rf(power, k) / (sp.rf(power + 1, k) * sp.factorial(k))
    of_hyper = f**power / (y * power) * factor * (f / y) ** k
    assert all(sp.simplify((of_hyper / term).subs(k, number)) == 1 for number in range(4))
    value = (antiderivative - antiderivative.subs(f, f_0)) / (n * eta * p)
    return Derivation(
        name="Time course of an aligned mode of N balanced layers",
        left="t(f)",
        latex_left="t(f)",
        expression=value,
        assumptions=(*aligned_layers().assumptions, "N > 2, 0 < f_0 <= f < y"),
        steps=(
            *aligned_layers().steps[-1:],
            Step(
                "Separate the variables and expand 1/(y - f) in powers of f/y; the k-th term "
                "integrates to",
                "int f^(2/N - 2 + k)/y^(k + 1) df",
                r"\int\frac{f^{2/N-2+k}}{y^{k+1}}\,\mathrm{d}f",
                term,
            ),
            Step(
                "The terms are those of Gauss's hypergeometric series.",
                "int f^(2/N - 2)/(y - f) df",
                r"\int\frac{f^{2/N-2}}{y-f}\,\mathrm{d}f",
                antiderivative,
            ),
            Step("Between f_0 and f, over N eta p_i:", "t(f)", "t(f)", value),
        ),
        source=_ALIGNED_SOURCE,
    )


@cache
def new_direction() -> Derivation:
    """Length of what an initial hidden matrix does to a direction that it has not met.

    sigma_A sqrt(d) |q|, q the part of a vector orthogonal to all that the matrix was applied to;
    the direction is new too.
    """
    q, k, d = x.new_length, x.directions, width
    square = x.hidden_std**2 * (d - k) * q**2
    value = x.hidden_std * sp.sqrt(d) * q
    assert sp.limit(square / value**2, d, sp.oo) == 1
    left, latex = "|(1 - P) A_0 q|", r"|(1-P)A_0q|"
    return Derivation(
        name="What a Gaussian matrix does to a direction it has not met",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(
            "initial hidden matrices have independent Gaussian entries",
            "width to infinity, at a finite number of directions met",
        ),
        steps=(
            Step(
                "Let P project on the k directions to which A_0^T was applied, and q be orthogonal "
                "to all to which A_0 was. P A_0 q is known from A_0^T. Given what is known, the "
                "entries of (1 - P) A_0 q are independent Gaussians: its square has the mean",
                "E|(1 - P) A_0 q|^2",
                r"\mathbb{E}|(1-P)A_0q|^2",
                square,
            ),
            Step(
                "At large d the length does not fluctuate, and the direction is orthogonal to all "
                "others.",
                left,
                latex,
                value,
            ),
        ),
        source=f"{_LIMIT_SOURCE}; Bolthausen 2014, arXiv 1201.2891",
    )


@cache
def initial_kernel_rate() -> Derivation:
    """The tangent kernel of all layers at infinite width and fixed vocabulary: a number times 1."""
    d, levels = width, x.depth
    growth = x.skip**2 + x.hidden_std**2 * d
    of_token, of_output = embedding_std**2 * d, projection_std**2 * d
    layer = of_token * of_output * growth ** (levels - 1)
    value = (
        growth**levels * (projection_lr * of_token + embedding_lr * of_output)
        + x.hidden_lr_sum * layer
    )
    left, latex = "theta", r"\theta"
    return Derivation(
        name="Tangent kernel of linear hidden layers at infinite width",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(
            _LINEAR,
            "initial entries independent Gaussian; width to infinity at fixed vocabulary",
        ),
        steps=(
            Step(
                "One level up, |(s_0 + A) h|^2 has the mean (s_0^2 + sigma_A^2 d) |h|^2, and inner "
                "products of different tokens stay 0. Features: K_l = kappa^l sigma_E^2 d 1 with",
                "kappa",
                r"\kappa",
                growth,
            ),
            Step(
                "Readouts one level down grow alike, G_l = kappa^(L - l) sigma_W^2 d 1. So a "
                "hidden layer of rate 1 gives K_{l-1} G_l, whichever it is:",
                "K_{l-1} G_l",
                r"K_{l-1}\otimes G_l",
                layer,
            ),
            Step(
                "With the ends, eta_W K_L and eta_E G_0; Sigma_A is the sum of the hidden rates.",
                left,
                latex,
                value,
            ),
        ),
        source=_KERNEL_SOURCE,
    )


@cache
def hidden_rate() -> Derivation:
    """A hidden layer's part of the bound on the rates of F: eta_A Lambda_E Lambda_l."""
    value = x.hidden_lr * x.embedding_sharpness * x.readout_sharpness
    left, latex = "hidden rate", r"\lambda_l"
    return Derivation(
        name="A hidden layer's part of the fastest rate of gradient flow",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(
            _LINEAR,
            _FLOW,
            "near a solution, where the residual's own change of the Gram matrices is negligible",
        ),
        steps=(
            Step(
                "The outputs F move by what the layer does. With R = P (F - Y) and the Gram "
                "matrices K_{l-1} = H_{l-1} H_{l-1}^T of what it reads and G_l = W_l W_l^T of the "
                "readout above it, its part of dF/dt is, here for l = 1,",
                "dF/dt",
                r"\dot F",
                -x.hidden_lr * feature_gram(0) * x.weighted_residual * readout_gram(1),
            ),
            Step(
                "With Lambda_E the largest eigenvalue of P^(1/2) K_{l-1} P^(1/2) and Lambda_l that "
                "of G_l, no rate of this part exceeds",
                left,
                latex,
                value,
            ),
        ),
        source=_SOURCE,
    )
