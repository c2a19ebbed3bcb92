"""Gradient flow of the linear model: Gram equations, conservation law, closed forms.

Flow time is measured in steps: dE/dt = -eta_E dL/dE and dW/dt = -eta_W dL/dW, so that one step
of gradient descent advances t by 1 to first order in the learning rates.
"""

from __future__ import annotations

from typing import Literal

import sympy as sp

from . import _flow_symbols as x
from ._cache import cache
from ._derivation import Derivation, Step
from ._symbols import embedding_lr, frequency, projection_lr

FlowLayer = Literal["embedding", "projection"]
FlowState = Literal[
    "output", "embedding_gram", "projection_gram", "first_output", "projection_overlap"
]
FLOW_STATE: tuple[FlowState, ...] = (
    "output",
    "embedding_gram",
    "projection_gram",
    "first_output",
    "projection_overlap",
)

_E, _W, _W0, _R = x.embedding, x.projection, x.initial_projection, x.weighted_residual
_PRODUCTS = {  # A B^T of the weights, by the name of the state
    "output": (x.output, _E, _W),
    "embedding_gram": (x.embedding_gram, _E, _E),
    "projection_gram": (x.projection_gram, _W, _W),
    "first_output": (x.first_output, _E, _W0),
    "projection_overlap": (x.projection_overlap, _W, _W0),
}
_LINEAR = "linear model f_i = W e_i, mean squared error, full batch"
_SOURCE = "docs/theory/gradient_flow.md#flow-equations"
_MODE_SOURCE = "docs/theory/gradient_flow.md#aligned-modes"


@cache
def weight_gradient(layer: FlowLayer) -> Derivation:
    """dL/dE = R W or dL/dW = R^T E with R = P (F - Y), by matrix calculus.

    The second form, with R = P dl/df, holds for every loss of the outputs.
    """
    error = _E * _W.T - x.targets
    loss = sp.Trace(error.T * x.frequencies * error) / 2
    weight = _E if layer == "embedding" else _W
    gradient = sp.expand(loss.diff(weight)).xreplace({x.frequencies.T: x.frequencies}).doit()
    weighted = x.frequencies * error
    in_residual = _R * _W if layer == "embedding" else _R.T * _E
    chained = weighted * _W if layer == "embedding" else error.T * x.frequencies * _E
    assert sp.expand(gradient - chained).doit() == sp.ZeroMatrix(*weight.shape)
    name = weight.name
    return Derivation(
        name=f"Gradient of the {layer}",
        left=f"dL/d{name}",
        latex_left=rf"\frac{{\partial L}}{{\partial {name}}}",
        expression=in_residual,
        assumptions=(_LINEAR,),
        steps=(
            Step(
                "Write the loss as a trace, with P the diagonal matrix of the frequencies.",
                "L",
                "L",
                loss,
            ),
            Step(
                "Differentiate; P is symmetric.",
                f"dL/d{name}",
                rf"\frac{{\partial L}}{{\partial {name}}}",
                gradient,
            ),
            Step(
                "Collect the weighted residual R = P (E W^T - Y).",
                f"dL/d{name}",
                rf"\frac{{\partial L}}{{\partial {name}}}",
                in_residual,
            ),
        ),
        source=_SOURCE,
    )


@cache
def gram_flow(state: FlowState) -> Derivation:
    """Time derivative of F = E W^T, G_E = E E^T, G_W = W W^T, H = E W_0^T or C = W W_0^T.

    A closed system: the width enters only through the initial values. H and C follow the initial
    projection, which the two update RMS need.
    """
    symbol, left, right = _PRODUCTS[state]
    velocity = {
        _E: -embedding_lr * weight_gradient("embedding").expression,
        _W: -projection_lr * weight_gradient("projection").expression,
        _W0: None,
    }
    terms = []
    if velocity[left] is not None:
        terms.append(velocity[left] * right.T)
    if velocity[right] is not None:
        terms.append(left * velocity[right].T)
    rate = sp.MatAdd(*terms).doit()
    closed = _in_grams(rate)
    name = symbol.name
    return Derivation(
        name=f"Gradient flow of {name} = {left.name} {right.name}^T",
        left=f"d{name}/dt",
        latex_left=rf"\frac{{\mathrm{{d}}{name}}}{{\mathrm{{d}}t}}",
        expression=closed,
        assumptions=(
            _LINEAR,
            "gradient flow: dE/dt = -eta_E dL/dE, dW/dt = -eta_W dL/dW (one step of small "
            "gradient descent advances t by 1)",
        ),
        steps=(
            *(
                Step(
                    f"Gradient of the {layer}, with R = P (F - Y).",
                    weight_gradient(layer).left,
                    weight_gradient(layer).latex_left,
                    weight_gradient(layer).expression,
                )
                for layer in ("embedding", "projection")
            ),
            Step(
                "Product rule.",
                f"d({left.name} {right.name}^T)/dt",
                rf"\frac{{\mathrm{{d}}({left.name}{right.name}^T)}}{{\mathrm{{d}}t}}",
                rate,
            ),
            Step(
                "Every product of two weight matrices is one of F, G_E, G_W, H = E W_0^T and "
                "C = W W_0^T, so that the system is closed.",
                f"d{name}/dt",
                rf"\frac{{\mathrm{{d}}{name}}}{{\mathrm{{d}}t}}",
                closed,
            ),
        ),
        source=_SOURCE,
    )


def _in_grams(expression: sp.MatrixExpr) -> sp.MatrixExpr:
    """Every product A B^T of two weight matrices written as the state that it is."""
    pairs = {(left, right.T): symbol for symbol, left, right in _PRODUCTS.values()}
    pairs |= {(right, left.T): symbol.T for symbol, left, right in _PRODUCTS.values()}
    pairs |= {(left, left.T): symbol for symbol, left, right in _PRODUCTS.values() if left == right}

    def closed(product: sp.MatrixExpr) -> sp.MatrixExpr:
        number, matrices = product.as_coeff_matrices()
        kept: list[sp.MatrixExpr] = []
        for matrix in matrices:
            if kept and (kept[-1], matrix) in pairs:
                kept[-1] = pairs[kept[-1], matrix]
            else:
                kept.append(matrix)
        return sp.MatMul(number, *kept)

    result = sp.MatAdd(*(closed(term) for term in sp.Add.make_args(expression)))
    assert not result.has(_E, _W, _W0), "the flow must close in the Gram matrices"
    return result


@cache
def flow_invariant() -> Derivation:
    """W^T W / eta_W - E^T E / eta_E, which gradient flow conserves for every loss."""
    velocity_e = -embedding_lr * weight_gradient("embedding").expression
    velocity_w = -projection_lr * weight_gradient("projection").expression
    half = _W.T * velocity_w / projection_lr - _E.T * velocity_e / embedding_lr
    rate = (half + half.T).doit()
    assert rate == sp.ZeroMatrix(*rate.shape), "the invariant must be conserved"
    invariant = _W.T * _W / projection_lr - _E.T * _E / embedding_lr
    left = "K"
    return Derivation(
        name="Conservation law of gradient flow",
        left=left,
        latex_left=left,
        expression=invariant,
        assumptions=("linear model f_i = W e_i, full batch, gradient flow, any loss",),
        steps=(
            Step(
                "W^T dW/dt / eta_W, with dW/dt = -eta_W R^T E.",
                "W^T dW/dt / eta_W",
                r"W^T\dot W/\eta_W",
                (_W.T * velocity_w / projection_lr).doit(),
            ),
            Step(
                "E^T dE/dt / eta_E, with dE/dt = -eta_E R W: its transpose is the same matrix.",
                "E^T dE/dt / eta_E",
                r"E^T\dot E/\eta_E",
                (_E.T * velocity_e / embedding_lr).doit(),
            ),
            Step(
                "So the difference of the two symmetric parts is constant.", left, left, invariant
            ),
        ),
        source=f"{_SOURCE}; Saxe, McClelland & Ganguli 2014, arXiv 1312.6120",
    )


@cache
def aligned_mode() -> Derivation:
    """Output f(t) of one mode f = w . e under gradient flow, layers out of balance by k > 0.

    k^2 = (eta_E |w|^2 + eta_W |e|^2)^2 / (4 eta_E eta_W) - f^2 is conserved. Contains one token
    with one output at any width, and every singular mode of the targets at infinite width and
    uniform frequencies, where f_0 = 0 and k = (eta_E G_W + eta_W G_E) / sqrt(4 eta_E eta_W) at
    the start.
    """
    f, total = sp.Symbol("f", real=True), sp.Symbol("T", positive=True)
    k, y, f_0, rates = x.imbalance, x.target, x.initial_mode, embedding_lr * projection_lr
    pull = frequency * (y - f)
    # T = eta_E |w|^2 + eta_W |e|^2: df/dt = T p (y - f), dT/dt = 4 eta_E eta_W f p (y - f).
    constant = total**2 / (4 * rates) - f**2
    change = sp.diff(constant, total) * 4 * rates * f * pull + sp.diff(constant, f) * total * pull
    assert sp.expand(change) == 0
    strength = 2 * sp.sqrt(rates) * sp.sqrt(f**2 + k**2)
    # f = k (u - 1/u) / 2 makes the square root rational, and u obeys a Riccati equation.
    u = sp.Symbol("u", positive=True)
    f_of_u, root_of_u = k * (u - 1 / u) / 2, k * (u + 1 / u) / 2
    assert sp.expand(f_of_u**2 + k**2 - root_of_u**2) == 0
    u_rate = sp.cancel(
        2 * sp.sqrt(rates) * root_of_u * frequency * (y - f_of_u) / sp.diff(f_of_u, u)
    )
    riccati = -sp.sqrt(rates) * frequency * (k * u**2 - 2 * y * u - k)
    assert sp.simplify(u_rate - riccati) == 0
    far = sp.sqrt(y**2 + k**2)
    high, low = (y + far) / k, (y - far) / k
    u_0 = (f_0 + sp.sqrt(f_0**2 + k**2)) / k
    decay = sp.exp(-2 * sp.sqrt(rates) * frequency * far * x.time)
    ratio = (u_0 - high) / (u_0 - low) * decay
    solution = (high - low * ratio) / (1 - ratio)
    # (u - u_+)/(u - u_-) decays exponentially under the Riccati flow, u_+ and u_- its roots.
    fraction = (u - high) / (u - low)
    drift = sp.diff(fraction, u) * riccati / fraction
    assert sp.simplify(drift + 2 * sp.sqrt(rates) * frequency * far) == 0
    expression = f_of_u.subs(u, solution)
    left = "f(t)"
    return Derivation(
        name="Aligned mode of gradient flow",
        left=left,
        latex_left=left,
        expression=expression,
        assumptions=(
            "one mode f = w . e, mean squared error with target y and frequency p_i",
            "the layers are out of balance, k > 0",
        ),
        steps=(
            Step(
                "With T = eta_E |w|^2 + eta_W |e|^2 the flow is df/dt = p T (y - f), dT/dt = "
                "4 eta_E eta_W p f (y - f), so this is conserved:",
                "k^2",
                "k^2",
                constant,
            ),
            Step("Eliminate T.", "df/dt", r"\dot f", strength * pull),
            Step(
                "f = k (u - 1/u)/2 makes the square root rational.",
                "du/dt",
                r"\dot u",
                riccati,
            ),
            Step(
                "A Riccati equation with constant coefficients: (u - u_+)/(u - u_-) decays "
                "exponentially, u_+ and u_- the roots.",
                "u(t)",
                "u(t)",
                solution,
            ),
            Step("Back to f.", left, left, expression),
        ),
        source=f"{_MODE_SOURCE}; Saxe, McClelland & Ganguli 2014 (balanced), arXiv 1312.6120",
    )


@cache
def balanced_mode() -> Derivation:
    """The logistic limit k = 0 of `aligned_mode`: |w|^2/eta_W = |e|^2/eta_E, w parallel to e."""
    y, f_0, rates = x.target, x.initial_mode, embedding_lr * projection_lr
    rate = 2 * sp.sqrt(rates) * frequency * y
    expression = y / (1 + (y / f_0 - 1) * sp.exp(-rate * x.time))
    drift = sp.diff(expression, x.time) - 2 * sp.sqrt(rates) * frequency * expression * (
        y - expression
    )
    assert sp.simplify(drift) == 0
    assert sp.simplify(expression.subs(x.time, 0) - f_0) == 0
    f, left = sp.Symbol("f", real=True), "f(t)"
    return Derivation(
        name="Balanced aligned mode",
        left=left,
        latex_left=left,
        expression=expression,
        assumptions=(
            "one mode f = w . e, mean squared error with target y and frequency p_i",
            "balanced layers: w parallel to e and |w|^2/eta_W = |e|^2/eta_E; f_0 > 0",
        ),
        steps=(
            Step(
                "k = 0 and f > 0 in the aligned mode.",
                "df/dt",
                r"\dot f",
                2 * sp.sqrt(rates) * frequency * f * (y - f),
            ),
            Step("The logistic equation.", left, left, expression),
        ),
        source=f"{_MODE_SOURCE}; Saxe, McClelland & Ganguli 2014, arXiv 1312.6120",
    )


@cache
def smoothed_sign() -> Derivation:
    """g / sqrt(g^2 + epsilon^2): sign for |g| >> epsilon, g / epsilon for |g| << epsilon."""
    g, epsilon = x.gradient, x.smoothing
    expression = g / sp.sqrt(g**2 + epsilon**2)
    slope = sp.simplify(sp.diff(expression, g))
    positive = sp.Symbol("g", positive=True)
    assert sp.limit(expression.subs(g, positive), epsilon, 0) == 1
    steepest = slope.subs(g, 0)
    assert sp.simplify(steepest - 1 / epsilon) == 0
    return Derivation(
        name="Smoothed sign",
        left="Phi(g)",
        latex_left=r"\Phi(g)",
        expression=expression,
        assumptions=("the gradient's history does not matter (sign descent, not Adam)",),
        steps=(
            Step(
                "Its slope is largest at g = 0, where it is 1/epsilon: the flow is at most "
                "1/epsilon times as fast as gradient flow, and is it for g << epsilon.",
                "Phi'(g)",
                r"\Phi'(g)",
                slope,
            ),
            Step("For epsilon to 0 it tends to sign(g).", "Phi(g)", r"\Phi(g)", expression),
        ),
        source="docs/theory/gradient_flow.md#smoothed-flow",
    )


@cache
def fastest_rate() -> Derivation:
    """Bound on the rates of F under gradient flow: what limits an explicit solver's step."""
    expression = projection_lr * x.embedding_sharpness + embedding_lr * x.projection_sharpness
    residual = gram_flow("output").expression
    left = "largest rate"
    return Derivation(
        name="Fastest rate of gradient flow",
        left=left,
        latex_left=r"\lambda_{\max}",
        expression=expression,
        assumptions=(
            _LINEAR,
            "near a solution, where the residual's own change of the Gram matrices is negligible",
        ),
        steps=(
            Step(
                "The outputs F relax by the neural tangent kernel, with R = P (F - Y), P diagonal "
                "with the tokens' frequencies, Y the targets, G_E = E E^T and G_W = W W^T.",
                "dF/dt",
                r"\frac{\mathrm{d}F}{\mathrm{d}t}",
                residual,
            ),
            Step(
                "Both terms are positive in the inner product of P; with Lambda_E the largest "
                "eigenvalue of P^(1/2) G_E P^(1/2) and Lambda_W that of G_W times the largest "
                "frequency, no rate exceeds the sum (uniform p reaches it).",
                left,
                r"\lambda_{\max}",
                expression,
            ),
        ),
        source=_SOURCE,
    )
