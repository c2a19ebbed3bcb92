"""How far a first-step formula is off at finite sizes: what its assumptions leave out, estimated.

The formulas of the projection's first update are of residuals of equal size that the initial output
does not change. Both effects are estimated here in the sums of the token law.
"""

from __future__ import annotations

from typing import Literal

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._first_step import self_term_ratio, update_mean
from ._gaussian import Optimizer
from ._law_first_step import Init, initial_std
from ._mean_field_first_step import mean_field_first_update
from ._regimes import coherence_ratio
from ._token_laws import multinomial_moment

ErrorTargets = Literal["sign", "gaussian"]


def weighted_share_sum(power: int, of: int, *, mini_batch: bool) -> sp.Expr:
    """sum_i p_i^power w_i^of in the sums P_k; w_i = p_i^2 or, in a mini-batch, E[p_hat_i^2]."""
    share = multinomial_moment(2) if mini_batch else s.frequency**2
    polynomial = sp.Poly(sp.expand(share**of * s.frequency**power), s.frequency)
    return sp.Add(*(factor * s.POWER_SUMS[order] for (order,), factor in polynomial.terms()))


@cache
def initial_output_variance(init: Init) -> sp.Expr:
    """sigma_f^2 = d sigma_E^2 sigma_W^2 of an initialisation, in d."""
    return (s.width * s.embedding_std**2 * s.projection_std**2).subs(initial_std(init))


@cache
def unequal_residuals_error(
    optimizer: Optimizer,
    targets: ErrorTargets,
    init: Init = "mup",
    *,
    mini_batch: bool = False,
    of_slope: bool = False,
) -> sp.Expr:
    """Relative error of the RMS (or, `of_slope`, error of its local exponent), because squared
    residuals r^2 differ from token to token.

    Under sign the alignment is C = sum_i p_i w_i r_i^2 / sum_i w_i r_i^2: its bias to second order
    and, for targets that are drawn once, its standard deviation. Under SGD both sums by themselves.
    Squared error; targets +1 or -1 (`sign`) or N(0, 1) (`gaussian`).
    """

    def sums(power: int, of: int) -> sp.Expr:
        return weighted_share_sum(power, of, mini_batch=mini_batch)

    variance = initial_output_variance(init)
    drawn = sp.Integer(0) if targets == "sign" else 2 / (1 + variance) ** 2
    spread = (4 * variance + 2 * variance**2) / (1 + variance) ** 2
    if targets == "gaussian":
        spread = sp.Integer(2)
    strength, aligned = sums(0, 1), sums(1, 1)
    own = sums(0, 2) / strength**2
    both = sums(1, 2) / (strength * aligned)
    other = sums(2, 2) / aligned**2
    if optimizer == "sgd":
        return sp.sqrt(drawn / s.outputs * sp.Max(own, other)) / 2
    bias = spread * sp.Abs(own - both)
    deviation = sp.sqrt(drawn / s.outputs * sp.Max(own - 2 * both + other, 0))
    ratio = coherence_ratio().expression.subs(s.vocab_size, strength / aligned)
    share = 1 - 1 / (1 + ratio)  # of coherent power
    return (bias + deviation) / 2 * share * (1 - share if of_slope else 1)


@cache
def initial_output_error(
    optimizer: Optimizer, init: Init = "mup", *, mini_batch: bool = False
) -> sp.Expr:
    """Relative change of the RMS by the initial output, to leading order in d and m.

    Squared error and targets of unit variance, so that S = (1 + sigma_f^2) sum_i w_i and J = 1.
    """
    strength = weighted_share_sum(0, 1, mini_batch=mini_batch)
    values = {
        s.projection_lr: sp.Integer(1),
        s.residual_slope: sp.Integer(1),
        s.field_square_sum: (1 + initial_output_variance(init)) * strength,
        s.alignment_square: weighted_share_sum(1, 1, mini_batch=mini_batch) / strength,
        s.frequency: s.frequency_square_sum,
        **initial_std(init),
    }
    kappa = self_term_ratio().expression.subs(values)
    second = mean_field_first_update("projection", optimizer).expression
    without = second.subs(s.self_term_ratio, 0)
    growth = sp.factor(second - without) / without  # without the difference of two near numbers
    change = growth.subs(values).subs(s.self_term_ratio, kappa)
    return change / (sp.sqrt(1 + change) + 1)


@cache
def residual_change(init: Init) -> sp.Expr:
    """What the embedding's moves have changed of a residual, over its initial size.

    The signal of `update_mean` at the displacement theta, over sqrt(1 + sigma_f^2). From 1 on the
    residual has changed its sign.
    """
    unit = {s.residual: 1, s.residual_norm: 1, s.embedding_lr: s.displacement, **initial_std(init)}
    moved = -update_mean("embedding", "sign").expression.subs(unit)
    return sp.simplify(moved / sp.sqrt(1 + initial_output_variance(init)))
