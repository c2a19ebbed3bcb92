"""A linear model of one-hot tokens under gradient descent and sign descent: closed forms.

With the identity for an embedding every token has its own row of weights and the mean squared
error decouples into its entries, so that both optimizers are solved entry by entry.
"""

from __future__ import annotations

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step

PAPER = "Kunstner & Bach 2025, arXiv 2505.19227"
SOURCE = f"{PAPER}; docs/theory/gradient_flow.md#one-hot-bigrams"
ONE_HOT = (
    "the embedding is the identity: f_i is row i of the weights, which alone is trained",
    "loss sum_i p_i |f_i - y_i|^2 / 2, full batch",
)
EQUAL = "initial residuals of equal size over tokens, as from zero weights"


@cache
def one_hot_gradient_share() -> Derivation:
    """Part of the relative loss that token i has left after t steps of gradient descent."""
    factor = 1 - s.step_size * s.frequency
    share = s.frequency * (factor**2) ** s.steps
    return Derivation(
        name="one-hot token under gradient descent",
        left="L_i(t)/L(0)",
        latex_left="L_i(t)/L(0)",
        expression=share,
        assumptions=(*ONE_HOT, EQUAL),
        steps=(
            Step(
                "The gradient of a residual's entry is p_i times the entry: a step multiplies it.",
                "r(t + 1)/r(t)",
                "r(t+1)/r(t)",
                factor,
            ),
            Step("Its square counts with p_i.", "L_i(t)/L(0)", "L_i(t)/L(0)", share),
        ),
        source=SOURCE,
    )


@cache
def one_hot_flow_share() -> Derivation:
    """The same under gradient flow: the limit of many small steps."""
    share = s.frequency * sp.exp(-2 * s.step_size * s.frequency * s.steps)
    given = one_hot_gradient_share()
    return Derivation(
        name="one-hot token under gradient flow",
        left=given.left,
        latex_left=given.latex_left,
        expression=share,
        assumptions=(*given.assumptions, "steps so small that eta p_i << 1"),
        steps=(
            *given.steps,
            Step("ln(1 - x) = -x for small x.", given.left, given.latex_left, share),
        ),
        source=SOURCE,
    )


@cache
def zipf_gradient_loss() -> Derivation:
    """Relative loss under Zipf's law (alpha = 1) after t steps of the largest stable rate."""
    x = 2 * s.steps / s.vocab_size
    loss = sp.expint(1, x) / (sp.log(s.vocab_size) + sp.EulerGamma)
    rank = s.rank
    integral = sp.Integral(sp.exp(-2 * s.steps / rank) / rank, (rank, 1, s.vocab_size))
    harmonic = sp.log(s.vocab_size) + sp.EulerGamma
    return Derivation(
        name="loss under gradient descent and Zipf's law",
        left="L(t)/L(0)",
        latex_left="L(t)/L(0)",
        expression=loss,
        assumptions=(
            *one_hot_gradient_share().assumptions,
            "p_i = 1/(i H_m), learning rate 1/p_1",
            "m and t much larger than 1",
        ),
        steps=(
            Step(
                "The sum over ranks is an integral, and (1 - 1/i)^(2 t) is e^(-2 t/i) where it "
                "counts.",
                "L(t)/L(0)",
                "L(t)/L(0)",
                integral / harmonic,
            ),
            Step(
                "In u = 2 t/i it is the exponential integral from 2 t/m to 2 t, whose upper end "
                "is negligible.",
                "L(t)/L(0)",
                "L(t)/L(0)",
                loss,
            ),
        ),
        source=SOURCE,
    )


@cache
def zipf_gradient_exponent() -> Derivation:
    """Power of the vocabulary in the steps to a relative loss, under Zipf's law (alpha = 1)."""
    x = 2 * s.steps / s.vocab_size
    exponent = 1 - s.relative_loss * sp.exp(x)
    slope = -sp.exp(-x)
    return Derivation(
        name="vocabulary exponent of gradient descent",
        left="d ln t/d ln m",
        latex_left=r"\partial\ln t/\partial\ln m",
        expression=exponent,
        assumptions=(*zipf_gradient_loss().assumptions, "relative loss epsilon kept"),
        steps=(
            Step(
                "The loss is epsilon where E_1(x) = epsilon (ln m + gamma) with x = 2 t/m, E_1 the "
                "exponential integral and gamma Euler's constant. dE_1/d ln x = -e^(-x).",
                "dE_1/d ln x",
                r"\partial E_1/\partial\ln x",
                slope,
            ),
            Step(
                "So d ln x/d ln m = -epsilon e^x, and t = m x/2. As m grows x goes to 0: "
                "the limit is 1 - epsilon.",
                "d ln t/d ln m",
                r"\partial\ln t/\partial\ln m",
                exponent,
            ),
        ),
        source=SOURCE,
    )


@cache
def sign_descent_residual() -> Derivation:
    """Size of one residual entry after t steps of sign descent, exactly."""
    arrival = sp.floor(s.initial_residual / s.step_size)
    rest = s.initial_residual - s.step_size * arrival
    size = sp.Piecewise(
        (s.initial_residual - s.step_size * s.steps, s.steps <= arrival),
        (rest, sp.Eq(sp.Mod(s.steps - arrival, 2), 0)),
        (s.step_size - rest, True),
    )
    return Derivation(
        name="residual under sign descent",
        left="|r(t)|",
        latex_left="|r(t)|",
        expression=size,
        assumptions=(*ONE_HOT, "t a whole number of steps, of size eta in every entry"),
        steps=(
            Step(
                "The sign of an entry's gradient is the sign of its residual: its size falls by "
                "eta a step until less than eta is left, after so many steps:",
                "t_0",
                "t_0",
                arrival,
            ),
            Step("What is left then:", "c", "c", rest),
            Step(
                "From there on each step takes it past zero and the next one back: it is c and "
                "eta - c in turn.",
                "|r(t)|",
                "|r(t)|",
                size,
            ),
        ),
        source=SOURCE,
    )


@cache
def sign_oscillation() -> Derivation:
    """Mean square of an entry that oscillates, over what was left of it on arrival."""
    rest = sp.Dummy("c", positive=True)
    mean = sp.integrate(rest**2 / s.step_size, (rest, 0, s.step_size))
    return Derivation(
        name="mean square of oscillating residuals",
        left="<r^2>",
        latex_left=r"\langle r^2\rangle",
        expression=mean,
        assumptions=(
            *sign_descent_residual().assumptions,
            "what is left on arrival is spread evenly over [0, eta], as from random weights of "
            "that size",
        ),
        steps=(
            Step(
                "c and eta - c are spread alike, so every step has the same mean.",
                "<r^2>",
                r"\langle r^2\rangle",
                mean,
            ),
        ),
        source=SOURCE,
    )


@cache
def zipf_sign_loss() -> Derivation:
    """Relative loss of sign descent where targets fall like 1/k and m is large."""
    kept, phase = s.moving_entries, s.arrival_rank
    moving = sp.harmonic(kept, 2) - 2 * sp.harmonic(kept) / phase + kept / phase**2
    oscillating = sign_oscillation().expression.subs(s.step_size, 1 / (s.steps * phase))
    loss = (moving + s.vocab_size * oscillating) / sp.zeta(2)
    return Derivation(
        name="loss under sign descent and Zipf's law",
        left="L(t)/L(0)",
        latex_left="L(t)/L(0)",
        expression=loss,
        assumptions=(
            *sign_oscillation().assumptions,
            "targets of every token fall like 1/k over the outputs, in any order",
            "eta t is the target of rank phi; K = floor(phi) entries have not arrived",
            "m much larger than t",
        ),
        steps=(
            Step(
                "In units of the largest target that of rank k is 1/k, and eta t is 1/phi. Those "
                "of rank up to K still move:",
                "sum_k (1/k - 1/phi)^2",
                r"\sum_{k\le K}(1/k - 1/\varphi)^2",
                moving,
            ),
            Step(
                "The others oscillate, with eta = 1/(phi t).",
                "m eta^2/3",
                r"m\eta^2/3",
                s.vocab_size * oscillating,
            ),
            Step("The initial loss is zeta(2).", "L(t)/L(0)", "L(t)/L(0)", loss),
        ),
        source=SOURCE,
    )


@cache
def zipf_sign_steps() -> Derivation:
    """Steps of sign descent to a relative loss: the root of the vocabulary, at every phi."""
    left = s.relative_loss * sp.zeta(2) - (
        sp.harmonic(s.moving_entries, 2)
        - 2 * sp.harmonic(s.moving_entries) / s.arrival_rank
        + s.moving_entries / s.arrival_rank**2
    )
    steps = sp.sqrt(s.vocab_size / (3 * left)) / s.arrival_rank
    return Derivation(
        name="steps of sign descent under Zipf's law",
        left="t",
        latex_left="t",
        expression=steps,
        assumptions=(
            *zipf_sign_loss().assumptions,
            "phi so large that the moving entries alone are below epsilon",
        ),
        steps=(
            Step(
                "Solve L(t)/L(0) = epsilon for t. The best step size is the phi of the smallest "
                "t; it does not depend on m.",
                "t",
                "t",
                steps,
            ),
        ),
        source=SOURCE,
    )
