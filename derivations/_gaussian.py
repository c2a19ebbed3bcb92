"""Gaussian kernels of an entrywise optimizer's first step, from their integrals.

Everything that a first step does to an output is a sum of `u phi(v)` over neurons, where `u`
is what the updated weight is multiplied by, `v` its gradient, and `phi` the optimizer's
entrywise map. `u` and `v` are jointly Gaussian, so three integrals decide everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import sympy as sp

from ._cache import cache
from ._derivation import Derivation, Step
from ._flow_symbols import smoothing
from ._simplified import simplified
from ._symbols import alignment as c
from ._symbols import width as d

Optimizer = Literal["sgd", "sign", "adam"]
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "sign", "adam")

_x = sp.Symbol("x", real=True)
_slope = sp.Symbol("k", positive=True)
input_std = sp.Symbol("sigma_u", positive=True)
gradient_std = sp.Symbol("sigma_v", positive=True)


def normal_expectation(function: sp.Expr) -> sp.Expr:
    """E[function(x)] for a standard normal x, integrated by sympy.

    Two kinds of integral are known, and sympy takes seconds to find the same:

    - of powers of |x|, times a Gaussian or not, Euler's: E[|x|^k exp(-a x^2)] =
      2^(k/2) Gamma((k + 1)/2) / sqrt(pi) (1 + 2 a)^(-(k + 1)/2), a >= 0;
    - of x times a function with such a derivative, by parts: E[x g(x)] = E[g'(x)] (Stein).

    Raises `ValueError` when sympy finds no closed form.
    """
    for known in (function, sp.diff(function / _x, _x)):
        if (value := _eulers_expectation(known)) is not None:
            return value
    density = sp.exp(-(_x**2) / 2) / sp.sqrt(2 * sp.pi)
    value = simplified(sp.integrate(function * density, (_x, -sp.oo, sp.oo)))
    if value.has(sp.Integral):
        raise ValueError(f"no closed form for the Gaussian mean of {function}")
    return value


def _eulers_expectation(function: sp.Expr) -> sp.Expr | None:
    """The mean of a polynomial in x and |x| times exp(-a x^2), a >= 0; None for others."""
    gaussian = sp.Mul(*(one for one in sp.Mul.make_args(function) if isinstance(one, sp.exp)))
    a = sp.Integer(0) if gaussian == 1 else sp.expand(-gaussian.args[0] / _x**2)
    if a.has(_x) or not a.is_nonnegative:
        return None
    size = sp.Symbol("|x|", positive=True)
    polynomial = function / gaussian
    even = sp.expand((polynomial.subs(_x, size) + polynomial.subs(_x, -size)) / 2)
    if not even.is_polynomial(size):
        return None
    squeezed = sp.sqrt(1 + 2 * a)
    moments = (
        coefficient
        * 2 ** sp.Rational(power, 2)
        * sp.gamma(sp.Rational(power + 1, 2))
        / squeezed ** (power + 1)
        for (power,), coefficient in sp.Poly(even, size).terms()
    )
    return simplified(sp.Add(*moments) / sp.sqrt(sp.pi))


def shifted_sign_expectations(shift: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """E[x sign(x + a)] and E[sign(x + a)] for a standard normal x.

    Of a density with the primitive F: F(oo) - 2 F(-a) + F(-oo).
    """
    density = sp.exp(-(_x**2) / 2) / sp.sqrt(2 * sp.pi)
    found = []
    for weight, primitive in ((_x, -density), (sp.Integer(1), sp.erf(_x / sp.sqrt(2)) / 2)):
        assert sp.diff(primitive, _x) - weight * density == 0
        low, turn, high = (primitive.subs(_x, at) for at in (-sp.oo, -shift, sp.oo))
        found.append(high - 2 * turn + low)
    return found[0], found[1]


class hyperu(sp.Function):
    """Tricomi's U(a, b, x) = int_0^oo e^(-x y) y^(a - 1) (1 + y)^(b - a - 1) dy / Gamma(a)."""

    nargs = 3

    def fdiff(self, argindex: int = 3) -> sp.Expr:
        if argindex != 3:
            raise sp.function.ArgumentIndexError(self, argindex)
        a, b, x = self.args
        return -a * hyperu(a + 1, b + 1, x)

    def _eval_rewrite_as_meijerg(self, a: sp.Expr, b: sp.Expr, x: sp.Expr, **_: Any) -> sp.Expr:
        return sp.meijerg([[1 - a], []], [[0, 1 - b], []], x) / sp.gamma(a) / sp.gamma(a - b + 1)

    def _eval_evalf(self, prec: int) -> sp.Expr:
        return self.rewrite(sp.meijerg)._eval_evalf(prec)

    def _latex(self, printer: Any) -> str:
        return rf"U\left({', '.join(map(printer.doprint, self.args))}\right)"


@dataclass(frozen=True)
class Kernel:
    """First and second moment of `u phi(v)` for one jointly Gaussian pair.

    `mean` = E[u phi(v)] and `second_moment` = E[(u phi(v))^2], in the standard deviations
    `sigma_u`, `sigma_v` and the correlation `c`; `steps` lead to them.
    """

    optimizer: Optimizer | Literal["smoothed-sign"]
    mean: sp.Expr
    second_moment: sp.Expr
    steps: tuple[Step, ...]
    assumptions: tuple[str, ...]


@cache
def kernel(optimizer: Optimizer) -> Kernel:
    """Moments of `u phi(v)`, phi = identity (sgd), sign (sign) or Adam's first step (adam).

    With u = sigma_u (c x + sqrt(1 - c^2) y), v = sigma_v x and x, y independent standard
    normals, E[u phi] = sigma_u c E[x phi] and
    E[u^2 phi^2] = sigma_u^2 (c^2 E[x^2 phi^2] + (1 - c^2) E[phi^2]).
    Source: docs/theory/first_step.md#sign-kernel.
    """
    assumptions = (ADAM_ASSUMPTION,) if optimizer == "adam" else ()
    steps = (_split(), *first_map_steps(optimizer))
    phi = gradient_std * _x if optimizer == "sgd" else sp.sign(_x)
    phi_square = gradient_std**2 * _x**2 if optimizer == "sgd" else sp.Integer(1)
    signal = normal_expectation(sp.Abs(_x) if optimizer != "sgd" else _x * phi)
    fourth = normal_expectation(_x**2 * phi_square)
    power = normal_expectation(phi_square)
    mean = simplified(input_std * c * signal)
    second = sp.factor(sp.expand(input_std**2 * (c**2 * fourth + (1 - c**2) * power)))
    word = "v" if optimizer == "sgd" else "sign(v)"
    latex_word = "v" if optimizer == "sgd" else r"\operatorname{sign}v"
    steps += (
        Step(
            f"Of the two parts of u only the one with x has a mean with {word}; it is an integral "
            "over x.",
            f"E[u {word}]",
            rf"\mathbb{{E}}[u\,{latex_word}]",
            mean,
        ),
        Step(
            "In the square the product of the two parts vanishes, since y has mean zero.",
            f"E[(u {word})^2]",
            rf"\mathbb{{E}}[(u\,{latex_word})^2]",
            second,
        ),
    )
    return Kernel(optimizer, mean, second, steps, assumptions)


ADAM_ASSUMPTION = (
    "Adam's epsilon is small against the gradient entries (the relative error of the signal is "
    "at most sqrt(pi/2) epsilon / (gradient standard deviation))"
)


def _split() -> Step:
    """What u, v and c are, and u by two independent numbers."""
    rest = sp.Symbol("y", real=True)
    return Step(
        "u is what a weight is multiplied by and v its gradient. They are jointly Gaussian with "
        "mean zero, standard deviations sigma_u and sigma_v and correlation c. With independent "
        "standard normals x and y, v = sigma_v x and",
        "u",
        "u",
        input_std * (c * _x + sp.sqrt(1 - c**2) * rest),
    )


def first_map_steps(optimizer: Optimizer) -> tuple[Step, ...]:
    """Why an optimizer's first step is that of its `phi`; empty where nothing is to be said."""
    return _adam_is_sign() if optimizer == "adam" else ()


def _adam_is_sign() -> tuple[Step, ...]:
    """Adam's first update from its recursion: bias correction makes it g / (|g| + epsilon)."""
    gradient = sp.Symbol("g", real=True)
    beta1, beta2 = sp.symbols("beta_1 beta_2", positive=True)
    epsilon = sp.Symbol("epsilon", positive=True)
    first = (beta1 * 0 + (1 - beta1) * gradient) / (1 - beta1)
    second = (beta2 * 0 + (1 - beta2) * gradient**2) / (1 - beta2)
    update = simplified(first) / (sp.sqrt(simplified(second)) + epsilon)
    limit = sp.limit(update.subs(gradient, sp.Symbol("g", positive=True)), epsilon, 0)
    assert limit == 1, "Adam's first step must tend to the sign of the gradient"
    ratio = sp.Symbol("a", positive=True)
    # x - a <= x^2/(x + a) <= x for x, a > 0 bounds the signal E[|x| |x|/(|x| + a)] from below.
    bound = normal_expectation(sp.Abs(_x)) - ratio
    return (
        Step(
            "Adam at step one: both moment estimates start at zero, and the bias correction "
            "cancels the factors 1 - beta.",
            "m_hat / (sqrt(v_hat) + epsilon)",
            r"\hat m/(\sqrt{\hat v}+\epsilon)",
            update,
        ),
        Step(
            "As epsilon / |g| goes to zero this is sign(g). For g = v and a finite a = "
            "epsilon / sigma_v, x - a <= x^2 / (x + a) <= x for x > 0. So the mean that takes the "
            "place of E|x| = sqrt(2/pi) below is smaller than it, and at least",
            "lower bound of E[|x| |x| / (|x| + a)]",
            r"\inf\,\mathbb{E}\left[|x|\,\frac{|x|}{|x|+a}\right]",
            bound,
        ),
    )


_smoothing_ratio = sp.Symbol("k", positive=True)  # epsilon / sigma_v


def _tricomi_moment(power: int, order: sp.Expr) -> sp.Expr:
    """E[x^power (x^2 + k^2)^-order] of a standard normal x as Tricomi's U with b < 1.

    Put x^2 = k^2 y in twice the integral over x > 0, and use Kummer's transformation
    U(a, b, z) = z^(1 - b) U(a - b + 1, 2 - b, z), after which U is finite at z = 0.
    """
    k, y = _smoothing_ratio, sp.Symbol("y", positive=True)
    density = sp.exp(-(_x**2) / 2) / sp.sqrt(2 * sp.pi)
    root, rate = k * sp.sqrt(y), k**2 / 2
    folded = (2 * _x**power * (_x**2 + k**2) ** -order * density).subs(_x, root)
    first = sp.Rational(power + 1, 2)
    second = first + 1 - order
    kernel_of_u = y ** (first - 1) * (1 + y) ** (second - first - 1) * sp.exp(-rate * y)
    prefactor = simplified(folded * sp.diff(root, y) / kernel_of_u)
    assert not prefactor.has(y), "the integrand must be Tricomi's"
    kummer = rate ** (1 - second) * hyperu(first - second + 1, 2 - second, rate)
    return simplified(prefactor * sp.gamma(first) * kummer)


@cache
def smoothed_sign_kernel() -> Kernel:
    """Moments of `u phi(v)`, phi(v) = v / sqrt(v^2 + epsilon^2), in k = epsilon / sigma_v.

    E[x phi] = U(1/2, 0, k^2/2) / sqrt 2, E[phi^2] = U(1, 1/2, k^2/2) / 2 =
    1 - sqrt(pi/2) k exp(k^2/2) erfc(k / sqrt 2) and E[x^2 phi^2] = (3/2) U(1, -1/2, k^2/2).
    k -> 0 is the sign's kernel, k -> oo that of SGD over epsilon.
    """
    half = sp.Rational(1, 2)
    signal = _tricomi_moment(2, half)
    power, fourth = _tricomi_moment(2, sp.Integer(1)), _tricomi_moment(4, sp.Integer(1))
    ratio = {_smoothing_ratio: smoothing / gradient_std}
    mean = input_std * c * signal.subs(ratio)
    second = input_std**2 * (c**2 * fourth + (1 - c**2) * power).subs(ratio)
    steps = (
        _split(),
        Step(
            "phi(v) = v / sqrt(v^2 + epsilon^2) is x / sqrt(x^2 + k^2) with k = epsilon / sigma_v. "
            "The substitution x = k sqrt(z) turns its mean with x into Tricomi's integral U.",
            "E[x phi(x)]",
            r"\mathbb{E}[x\,\Phi(x)]",
            signal,
        ),
        Step("The same for phi^2,", "E[phi(x)^2]", r"\mathbb{E}[\Phi(x)^2]", power),
        Step("and for x^2 phi^2.", "E[x^2 phi(x)^2]", r"\mathbb{E}[x^2\Phi(x)^2]", fourth),
        Step("With the two parts of u:", "E[u phi(v)]", r"\mathbb{E}[u\,\Phi(v)]", mean),
        Step("and in the square:", "E[(u phi(v))^2]", r"\mathbb{E}[(u\,\Phi(v))^2]", second),
    )
    return Kernel("smoothed-sign", mean, second, steps, ())


@cache
def summed_kernel(optimizer: Optimizer) -> Kernel:
    """Moments of `sum_l u_l phi(v_l)` over d independent pairs.

    E[sum] = d E[u phi], E[sum^2] = d E[(u phi)^2] + d (d - 1) E[u phi]^2.
    """
    single = kernel(optimizer)
    mean = d * single.mean
    second = d * single.second_moment + d * (d - 1) * single.mean**2
    prefactor = d * single.second_moment.subs(c, 0)  # what is left without alignment
    growth = sp.factor(sp.expand(second / prefactor - 1).coeff(c, 2))
    second = prefactor * (1 + growth * c**2)
    steps = (
        *single.steps,
        Step(
            "The d neurons are independent and identically distributed, so the mean adds up,",
            "E[sum_l u_l phi(v_l)]",
            r"\mathbb{E}\sum_l u_l\phi(v_l)",
            mean,
        ),
        Step(
            "and the square has d equal diagonal terms and d (d - 1) products of two means.",
            "E[(sum_l u_l phi(v_l))^2]",
            r"\mathbb{E}\Bigl(\sum_l u_l\phi(v_l)\Bigr)^2",
            second,
        ),
    )
    return Kernel(optimizer, mean, second, steps, single.assumptions)


@cache
def arcsine_law() -> Derivation:
    """E[sign u sign v] = (2/pi) asin(c) for a jointly Gaussian pair with correlation c.

    Conditioned on v = x the mean of sign u is erf(k x / sqrt 2), k = c / sqrt(1 - c^2); the
    k-derivative of the remaining integral is rational. Source: Sheppard 1899;
    docs/theory/first_step.md#sign-kernel.
    """
    sign_size = sp.erf(_slope * sp.Abs(_x) / sp.sqrt(2))
    slope = normal_expectation(sp.diff(sign_size, _slope))
    primitive = simplified(sp.integrate(slope, (_slope, 0, _slope)))
    correlation = sp.Symbol("c", positive=True)
    at_correlation = primitive.subs(_slope, correlation / sp.sqrt(1 - correlation**2))
    law = 2 * sp.asin(correlation) / sp.pi
    # atan(c / sqrt(1 - c^2)) = asin(c): equal at c = 0 and with equal derivative.
    gap = simplified(sp.diff(at_correlation - law, correlation))
    assert gap == 0
    assert at_correlation.subs(correlation, 0) == 0
    left, latex_left = (
        "E[sign(u) sign(v)]",
        r"\mathbb{E}[\operatorname{sign}u\,\operatorname{sign}v]",
    )
    return Derivation(
        name="Arcsine law",
        left=left,
        latex_left=latex_left,
        expression=law.subs(correlation, c),
        assumptions=("u and v are centred and jointly Gaussian with correlation c",),
        steps=(
            Step(
                "Given v = sigma_v x the mean of sign(u) is erf(k x / sqrt 2) with "
                "k = c / sqrt(1 - c^2); differentiate E[sign(x) erf(k x / sqrt 2)] by k.",
                "d/dk E[sign(u) sign(v)]",
                r"\partial_k\mathbb{E}[\operatorname{sign}u\,\operatorname{sign}v]",
                slope,
            ),
            Step(
                "Integrate from k = 0, where u and v are independent.", left, latex_left, primitive
            ),
            Step(
                "Put k = c / sqrt(1 - c^2) and use atan(c / sqrt(1 - c^2)) = asin(c).",
                left,
                latex_left,
                law.subs(correlation, c),
            ),
        ),
        source="Sheppard 1899; docs/theory/first_step.md#sign-kernel",
    )
