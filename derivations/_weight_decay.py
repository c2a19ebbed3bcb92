"""Adam with decoupled weight decay: the size of weights at equilibrium, by how often they move."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, get_args

import sympy as sp

from ._cache import cache
from ._decay_symbols import (
    beta1,
    beta2,
    initial_square,
    learning_rate,
    quantile,
    row_square,
    step_decay,
    steps,
    visit_chance,
    visit_ratio,
    visit_worth,
    weight_decay,
)
from ._derivation import Derivation, Step

PAGE = "docs/theory/weight_decay.md"
DecayConvention = Literal["coupled", "independent"]
DECAY_CONVENTIONS: tuple[DecayConvention, ...] = get_args(DecayConvention)
DecayGoal = Literal["rotation", "gain", "relative-update"]
DECAY_GOALS: tuple[DecayGoal, ...] = get_args(DecayGoal)

_NOISE = (
    "gradients of different visits are independent with mean zero, and symmetric",
    "the row's gradient is 0 in steps that do not visit it, and Adam's moments decay there "
    "(dense Adam)",
    "the scale of gradients does not change within Adam's memory; epsilon plays no part",
)


@cache
def step_decay_of(convention: DecayConvention) -> Derivation:
    """delta, the share of a weight that a step takes away: eta lambda (coupled) or lambda.

    Coupled is `optax.adamw` and `torch.optim.AdamW`; independent is decay by lambda times the
    schedule's factor only, whatever the learning rate.
    """
    coupled = convention == "coupled"
    value = learning_rate * weight_decay if coupled else weight_decay
    return Derivation(
        name=f"decay of a step, {convention} convention",
        left="delta",
        latex_left=r"\delta",
        expression=value,
        assumptions=("decay is decoupled from the gradient (AdamW)",),
        steps=(Step("By definition of the convention.", "delta", r"\delta", value),),
        source=f"{PAGE}#decay-conventions",
    )


@cache
def visit_worth_density() -> Derivation:
    """What is integrated over z from 0 to 1 to V(a), the long-run variance of Adam's update.

    V = int_0^1 2a/(2a + 1) (2 - z^(1/(2a + 1)))^-2 dz with a = q/(1 - beta_2): V is a for a << 1
    and 1 for a >> 1. Per step and entry, a row's sum of updates grows by V in the mean square.
    """
    a, z = visit_ratio, quantile
    y = sp.Symbol("y", positive=True)
    t = sp.Symbol("t", positive=True)
    # The Laplace transform of the second moment before the visit, in units of 1 - beta_2
    x, u = sp.symbols("x u", positive=True)
    spent = sp.integrate(sp.simplify((1 - 1 / u) / (u**2 - 1) * 2 * u), (u, 1, x))
    assert sp.simplify(sp.diff(spent - 2 * sp.log((1 + x) / 2), x)) == 0
    by_root = a * y**-2 * ((1 + y) / 2) ** (-2 * a)
    by_share = sp.simplify(by_root.subs(y, 2 / t - 1) * 2 / t**2)
    assert sp.simplify(by_share - 2 * a * t ** (2 * a) / (2 - t) ** 2) == 0
    value = 2 * a / (2 * a + 1) * (2 - z ** (1 / (2 * a + 1))) ** -2
    slope = sp.diff(t ** (2 * a + 1), t)  # dz/dt
    assert sp.simplify(value.subs(z, t ** (2 * a + 1)) * slope - by_share) == 0
    left, latex = "dV/dz", r"\frac{dV}{dz}"
    return Derivation(
        name="worth of a visit in Adam's updates, as a density",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(
            *_NOISE,
            "gradients are Gaussian; visits have the chance q in every step",
            "1 - beta_2 is small, and so is (1 - beta_2)/(1 - beta_1)",
        ),
        steps=(
            Step(
                "A visit's gradient g moves the row by g/sqrt(v) in all, over the steps in which "
                "momentum hands it on. Signs of g are independent, so squares add up: "
                "V = q E[g^2/v].",
                "V",
                "V",
                visit_chance * sp.Function("E")(sp.Symbol("g") ** 2 / sp.Symbol("v")),
            ),
            Step(
                "v/(1 - beta_2) = g^2 + N, where N sums the squares of earlier visits, each "
                "decayed. 1/v is the integral of exp(-s v) over s. Visits come at the rate a in "
                "units of Adam's memory, so E[exp(-s N)] is exp(-a L) with L the integral of "
                "(1 - (1 + 2 s x)^(-1/2))/x over x from 0 to 1, which with y = sqrt(1 + 2 s) is:",
                "L",
                "L",
                2 * sp.log((1 + y) / 2),
            ),
            Step(
                "E[g^2 exp(-s g^2)] = y^-3 and ds = y dy. What is integrated over y from 1 on:",
                "dV/dy",
                r"\frac{dV}{dy}",
                by_root,
            ),
            Step("With t = 2/(1 + y), from 0 to 1:", "dV/dt", r"\frac{dV}{dt}", by_share),
            Step("With z = t^(2a + 1), which is smooth for every a:", left, latex, value),
        ),
        source=f"{PAGE}#visit-worth",
    )


@cache
def rare_visit_worth() -> Derivation:
    """V of a row that is visited less often than Adam remembers: q/(1 - beta_2) times a factor.

    The factor is ((1 - beta_1)/(1 - beta_1/sqrt(beta_2)))^2: 1 up to order
    (1 - beta_2)/(1 - beta_1), 1.01 at (0.9, 0.999) and 1.70 at (0.9, 0.95).
    """
    ratio = beta1 / sp.sqrt(beta2)
    moved = (1 - beta1) / (sp.sqrt(1 - beta2) * (1 - ratio))
    value = visit_chance * moved**2
    assert sp.simplify(value.subs(beta1, 0) - visit_chance / (1 - beta2)) == 0
    return Derivation(
        name="worth of the visits of a rare token in Adam's updates",
        left="V",
        latex_left="V",
        expression=value,
        assumptions=(
            *_NOISE,
            "q is much smaller than 1 - beta_2 and 1 - beta_1; beta_1 < sqrt(beta_2)",
        ),
        steps=(
            Step(
                "k steps after a visit with gradient g the first moment is (1 - beta_1) beta_1^k g "
                "and the root of the second sqrt(1 - beta_2) beta_2^(k/2) |g|. All that the visit "
                "moves is the sum of the quotients over k, times the sign of g:",
                "|moved|",
                r"|\Delta|",
                moved,
            ),
            Step("Visits come with the chance q, with independent signs.", "V", "V", value),
        ),
        source=f"{PAGE}#visit-worth",
    )


@cache
def decayed_square() -> Derivation:
    """Mean square of a weight after t steps from sigma_0, under decay and noisy updates."""
    kept = (1 - step_decay) ** (2 * steps)
    balance = equilibrium_square().expression
    n = sp.Symbol("n", integer=True, nonnegative=True)
    grown = kept * initial_square + (1 - kept) * balance
    again = (1 - step_decay) ** 2 * grown + learning_rate**2 * visit_worth
    ahead = grown.subs(steps, n + 1) - again.subs(steps, n)
    assert sp.simplify(sp.expand(sp.powsimp(sp.expand(ahead)))) == 0
    return Derivation(
        name="mean square of a weight under decay",
        left="sigma_t^2",
        latex_left=r"\sigma_t^2",
        expression=grown,
        assumptions=equilibrium_square().assumptions,
        steps=(
            *equilibrium_square().steps,
            Step(
                "The distance to the equilibrium shrinks by (1 - delta)^2 a step.",
                "sigma_t^2",
                r"\sigma_t^2",
                grown,
            ),
        ),
        source=f"{PAGE}#decay-equilibrium",
    )


@cache
def equilibrium_square() -> Derivation:
    """Mean square of a weight at equilibrium: eta^2 V/(delta (2 - delta)), about eta V/(2 lambda).

    The last for the coupled convention, delta = eta lambda << 1.
    """
    square = row_square
    value = learning_rate**2 * visit_worth / (step_decay * (2 - step_decay))
    balance = (1 - step_decay) ** 2 * square + learning_rate**2 * visit_worth - square
    assert sp.simplify(balance.subs(square, value)) == 0
    return Derivation(
        name="mean square of a weight at the equilibrium of decay and noise",
        left="sigma^2",
        latex_left=r"\sigma^2",
        expression=value,
        assumptions=(
            "the update is independent of the weight: by symmetry for noise, by orthogonality "
            "for a row or matrix whose size the function does not feel",
            "V is the long-run variance of Adam's update, the sum of its covariances over all "
            "lags: 1 for a gradient of noise in every step, whatever beta_1",
            "1/delta is long against Adam's memory of the first moment",
        ),
        steps=(
            Step(
                "A step keeps 1 - delta of the weight, and adds eta^2 V to its mean square:",
                "sigma^2",
                r"\sigma^2",
                (1 - step_decay) ** 2 * square + learning_rate**2 * visit_worth,
            ),
            Step("At equilibrium both sides are equal.", "sigma^2", r"\sigma^2", value),
        ),
        source=f"{PAGE}#decay-equilibrium",
    )


@cache
def kept_direction() -> Derivation:
    """Cosine between a weight vector and itself t steps later at equilibrium: (1 - delta)^(t - m).

    m = 2 beta_1/(1 - beta_1^2) steps are those in which momentum pushes on. Neither V nor the
    learning rate enters: tokens of every frequency turn at one rate.
    """
    short = (1 - beta1) / (1 + beta1)  # covariance at lag n: V short beta_1^n
    pushed = sp.simplify(short * beta1 / (1 - beta1) ** 2)  # the sum of n beta_1^n
    assert sp.simplify(pushed - beta1 / (1 - beta1**2)) == 0
    memory = sp.simplify(2 * pushed)
    assert (
        sp.limit(
            equilibrium_square().expression / (learning_rate**2 * visit_worth) * 2 * step_decay,
            step_decay,
            0,
        )
        == 1
    )
    value = (1 - step_decay) ** (steps - memory)
    return Derivation(
        name="cosine between a weight vector and itself t steps later",
        left="cos",
        latex_left=r"\cos",
        expression=value,
        assumptions=(
            *equilibrium_square().assumptions,
            "updates are noise: no direction is pulled back to",
            "many entries, so that lengths do not fluctuate; t is long against Adam's memory of "
            "the first moment",
        ),
        steps=(
            Step(
                "Decay takes (1 - delta)^t of the vector, and updates that are independent of it "
                "add nothing to the product:",
                "cos",
                r"\cos",
                (1 - step_decay) ** steps,
            ),
            Step(
                "Momentum spreads a gradient over steps on both sides of a time. Updates n steps "
                "apart have the covariance c_n = V (1 - beta_1)/(1 + beta_1) beta_1^n. Summed over "
                "all pairs before and after that is, in units of V:",
                "sum of n c_n/V",
                r"\textstyle\sum_nnc_n/V",
                pushed,
            ),
            Step(
                "Times eta^2 over sigma^2, which is 2 delta/V, it is as if so many steps had not "
                "been taken:",
                "m",
                "m",
                memory,
            ),
            Step("Together, to first order in delta m:", "cos", r"\cos", value),
        ),
        source=f"{PAGE}#decay-rotation",
    )


@cache
def visit_rotation_square() -> Derivation:
    """Squared angle by which one visit turns a row at equilibrium: delta (2 - delta)/q."""
    value = step_decay * (2 - step_decay) / visit_chance
    by_sizes = learning_rate**2 * visit_worth / visit_chance / equilibrium_square().expression
    assert sp.simplify(by_sizes - value) == 0
    return Derivation(
        name="squared angle of one visit at equilibrium",
        left="angle^2",
        latex_left=r"\vartheta^2",
        expression=value,
        assumptions=(*equilibrium_square().assumptions, "the angle is small"),
        steps=(
            *equilibrium_square().steps,
            Step(
                "A visit moves the row by eta^2 V/q in the mean square. Over sigma^2:",
                "angle^2",
                r"\vartheta^2",
                value,
            ),
        ),
        source=f"{PAGE}#decay-rotation",
    )


@cache
def step_rotation_square() -> Derivation:
    """Squared angle of a single step of a matrix with gradients in every step.

    delta (2 - delta) (1 - beta_1)/(1 + beta_1), the rotation of Kosson et al. 2023 (arXiv
    2305.17212): momentum spreads a gradient over steps, so that one step turns less than its
    share of a long walk.
    """
    short = (1 - beta1) / (1 + beta1)
    assert sp.simplify((1 - beta1) ** 2 / (1 - beta1**2) - short) == 0  # the geometric sum
    value = step_decay * (2 - step_decay) * short
    return Derivation(
        name="squared angle of one step at equilibrium",
        left="angle^2",
        latex_left=r"\vartheta^2",
        expression=value,
        assumptions=(
            *equilibrium_square().assumptions,
            "the gradient is noise of one scale in every step; the angle is small",
        ),
        steps=(
            *equilibrium_square().steps,
            Step(
                "The first moment is a sum of gradients with weights (1 - beta_1) beta_1^k. Its "
                "mean square, in units of that of the gradient:",
                "E[u^2]",
                r"\mathbb{E}[u^2]",
                short,
            ),
            Step("eta^2 times it, over sigma^2 at V = 1:", "angle^2", r"\vartheta^2", value),
        ),
        source=f"{PAGE}#decay-rotation",
    )


def weight_decay_power(
    goal: DecayGoal,
    lr_power: Fraction | int = Fraction(-1),
    convention: DecayConvention = "coupled",
    gain_power: Fraction | int = Fraction(1, 2),
    update_power: Fraction | int = Fraction(1),
) -> Fraction:
    """The power of the width in lambda that keeps a property of a matrix at equilibrium.

    With eta of the power `lr_power` and weights of size sqrt(eta/lambda) (coupled):

    - rotation: the turn of a step, delta = const.
    - gain: the size of what the matrix makes of its input, sigma d^s = const with s =
      `gain_power`: 1/2 for weights like noise, 1 for weights of one direction, 3/4 as measured by
      Fan et al. 2025 (arXiv 2510.15262) in the largest singular value.
    - relative-update: what a step adds to the output over the output, which is the turn times
      d^(u - s), u = `update_power` the same power of the update (1 for full alignment).

    Source: docs/theory/weight_decay.md#decay-and-width.
    """
    x, s, u = Fraction(lr_power), Fraction(gain_power), Fraction(update_power)
    decay = {  # the power of delta
        "rotation": Fraction(0),
        "gain": 2 * x + 2 * s,  # eta^2/delta d^(2 s) = const
        "relative-update": 2 * (s - u),  # delta d^(2 (u - s)) = const
    }[goal]
    return decay - x if convention == "coupled" else decay
