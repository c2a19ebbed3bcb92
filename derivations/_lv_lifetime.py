"""The end of the large-vocabulary (LV) regime: when coherent and incoherent power are equal.

Source: docs/theory/lv_lifetime.md#end-of-lv, from the updates of later steps (`_lv_ageing`).
"""

from __future__ import annotations

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._gaussian import arcsine_law
from ._lv_ageing import (
    PROJECTION_HELD,
    UNCHANGED,
    Directions,
    aged_signal,
    coherent_field,
    field_age,
    rewritten_field,
)

SOURCE = "docs/theory/lv_lifetime.md#end-of-lv"
_tau, _theta, _n = s.field_age, s.displacement, s.effective_outputs


@cache
def restoration_constant(directions: Directions, *, rewritten: bool = False) -> Derivation:
    """K of theta_c = K sqrt(n_eff / d): the displacement at which alignment is restored, m >> d.

    rho(tau_c) = 1 puts the local exponent at 3/4. For m >> d this happens at tau_c >> 1, where
    A = tau/K, so eta_E t_c = K sigma_E sqrt(n_eff / d): the vocabulary size drops out.
    K = 1 (one direction), pi/2 (many). With `rewritten`, where the projection's moves are large
    against its initial entries, K = 1 and sqrt(pi/2).
    """
    field = rewritten_field(directions) if rewritten else coherent_field(directions)
    slope = sp.limit(field.expression / _tau, _tau, sp.oo)
    constant = sp.simplify(1 / slope)
    return Derivation(
        name="Restoration constant",
        left="K",
        latex_left="K",
        expression=constant,
        assumptions=(*field.assumptions, "m >> d >> 1"),
        steps=(
            *field.steps,
            Step("Old fields: A grows like tau times", "1/K", "1/K", slope),
            Step(
                "rho = (d/m) A^2 = 1 at tau_c = K sqrt(m/d), that is "
                "eta_E t_c / sigma_E = K sqrt(n_eff/d) with",
                "K",
                "K",
                constant,
            ),
        ),
        source=SOURCE,
    )


@cache
def isotropic_restoration_constant() -> Derivation:
    """K(n) of theta_c = K sqrt(n/d) for Gaussian residuals of n >= 2 outputs: 1.22, ..., to pi/2.

    1/K^2 = n E[((2/pi) asin x)^2], x a coordinate of a random direction in n dimensions; left as
    an integral over asin x.
    """
    angle = sp.Symbol("phi", real=True)
    weight = sp.cos(angle) ** (s.outputs - 2)  # density of asin x
    law = arcsine_law().expression.subs(s.alignment, sp.sin(angle))
    agreement = law.subs(sp.asin(sp.sin(angle)), angle)
    quarter = (angle, 0, sp.pi / 2)
    square = sp.Integral(agreement**2 * weight, quarter) / sp.Integral(weight, quarter)
    constant = 1 / sp.sqrt(s.outputs * square)
    return Derivation(
        name="Restoration constant of n isotropic outputs",
        left="K",
        latex_left="K",
        expression=constant,
        assumptions=(UNCHANGED, PROJECTION_HELD, "Gaussian residuals of n outputs", "m >> d >> n"),
        steps=(
            Step(
                "h_k is the gradient of a neuron's entry w_k in row k of the projection. At old "
                "fields sign(h_k) = -sign(w_k), so that the mean of sign(h_k) sign(r_i . w) over "
                "neurons is the arcsine law at the cosine x = r_ik/|r_i|; its mean square is",
                "E[((2/pi) asin x)^2]",
                r"\mathbb{E}\bigl(\tfrac2\pi\arcsin x\bigr)^2",
                square,
            ),
            Step(
                "Coherent and incoherent power are equal at theta_c = K sqrt(n/d).",
                "K",
                "K",
                constant,
            ),
        ),
        source="docs/theory/lv_lifetime.md#outputs-and-structure",
    )


@cache
def early_restoration_displacement(directions: Directions) -> Derivation:
    """theta_c of a token without own alignment where the field is still noise: P_2 >> 1/d.

    (n_eff^2 P_2 / (g^2 d))^(1/4), g the slope of the learned part at tau = 0: sqrt(2/pi) for one
    direction, (2/pi)^(3/2) for many. The tail of a steep Zipf law, and uniform tokens in batches
    of B << d (P_2 = 1/B).
    """
    learned = aged_signal(directions).on_learned
    slope = sp.diff(learned, _tau).subs(_tau, 0)
    ratio = s.width * (_theta / sp.sqrt(_n) * slope * field_age().expression) ** 2
    theta = sp.Symbol("theta", positive=True)
    (end,) = sp.solve(sp.Eq(ratio.subs(_theta, theta), 1), theta)
    return Derivation(
        name="Displacement at which the LV regime of a tail token ends",
        left="theta_c",
        latex_left=r"\theta_c",
        expression=end,
        assumptions=(
            *aged_signal(directions).assumptions,
            "c_i << theta/sqrt(n_eff): a tail token, or one outside the batch",
            "P_2 >> 1/d (theta_c is then below the displacement at which tau = 1)",
        ),
        steps=(
            *aged_signal(directions).steps,
            Step("For tau << 1 the learned part grows like tau times", "g", "g", slope),
            Step("so that coherent over incoherent power is", "rho", r"\rho", ratio),
            Step("which is 1 at", "theta_c", r"\theta_c", end),
        ),
        source="docs/theory/lv_lifetime.md#ageing-under-zipf",
    )


@cache
def restoration_displacement(directions: Directions, *, rewritten: bool = False) -> Derivation:
    """theta_c = eta_E t_c / sigma_E = K sqrt(n_eff / d), the end of the LV regime for m >> d."""
    constant = restoration_constant(directions, rewritten=rewritten)
    end = constant.expression * sp.sqrt(_n / s.width)
    return Derivation(
        name="Displacement at which the LV regime ends",
        left="theta_c",
        latex_left=r"\theta_c",
        expression=end,
        assumptions=constant.assumptions,
        steps=(*constant.steps, Step("Hence", "theta_c", r"\theta_c", end)),
        source=SOURCE,
    )
