"""The plane of vocabulary and Zipf exponents: where the large-vocabulary regime begins.

Source: docs/theory/parametrizations.md#vocabulary-alignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._parametrizations import HALF, TrainingOptimizer, as_exponent, check_training_optimizer
from ._token_laws import EQUAL_RESIDUALS, zipf_orders
from ._vocabulary_alignment import AveragedOver, UpdateAlignment, alignment_exponent


@cache
def _decay_rates() -> tuple[sp.Expr, sp.Expr]:
    """k_2, k_3 with P_k ~ m^-k_k: the exponents of the power sums per unit of mu."""
    orders, mu = zipf_orders(), s.vocab_exponent
    second = sp.simplify(-orders[s.frequency_square_sum] / mu)
    third = sp.simplify(-orders[s.frequency_cube_sum] / mu)
    return second, third


@cache
def large_vocabulary_boundary(
    averaged_over: AveragedOver = "law", *, mini_batch: bool = False
) -> Derivation:
    """mu*(alpha, beta): the vocabulary exponent from which A = 1/2 (the LV regime).

    With P_k ~ m^-k_k and chi = k_3 - k_2: 1/chi in full batch or once beta >= k_2/chi. In smaller
    batches max((1 + beta)/k_3, 1/k_2); but the batch's own tokens have no LV regime at all for
    beta < 1. Infinite for alpha >= 1.

    Raises `ValueError` for `averaged_over="token"`, whose boundary is `crossover_rank`.
    """
    if averaged_over not in ("law", "batch"):
        raise ValueError("the boundary in mu is that of law or batch; a token has crossover_rank")
    second, third = _decay_rates()
    chi = sp.simplify(third - second)
    beta = s.batch_exponent
    full = 1 / chi
    value: sp.Expr = full
    if mini_batch:
        # For beta >= 1 the first is the larger one, since k_3 <= 2 k_2 (P_3 >= P_2^2).
        small = sp.Max((1 + beta) / third, 1 / second)
        pieces = [(sp.oo, sp.Ge(s.zipf_exponent, 1))]
        if averaged_over == "batch":
            pieces.append((sp.oo, beta < 1))
        pieces += [(full, sp.Ge(beta * chi, second)), (small, True)]
        value = sp.Piecewise(*pieces)
    else:
        value = sp.Piecewise((sp.oo, sp.Ge(s.zipf_exponent, 1)), (full, True))
    return Derivation(
        name="Boundary of the large-vocabulary regime",
        left="mu*",
        latex_left=r"\mu_*",
        expression=value,
        assumptions=(EQUAL_RESIDUALS, "Zipf token law, up to logarithms", "m = d^mu, B = d^beta"),
        steps=(
            Step("P_2 falls as m to the power", "-k_2", "-k_2", -second),
            Step("and P_3 as m to the power", "-k_3", "-k_3", -third),
            Step("so C = P_3/P_2 in full batch as m to the power", "-chi", r"-\chi", -chi),
            Step(
                "In batches of B < 1/P_2 tokens the field is 1/B. Solve order(C) = -1 for mu.",
                "mu*",
                r"\mu_*",
                value,
            ),
        ),
        source="docs/theory/parametrizations.md#vocabulary-alignment",
    )


@dataclass(frozen=True)
class PhaseDiagram:
    """Exponents of the largest stable hidden LR (multiplier one) over the (mu, alpha) plane.

    **Fields:**

    - `vocab_exponents` (columns), `zipf_exponents` (rows): the exact grid.
    - `hidden_lr_exponents`: rows of exact exponents, -max(A, U - r_1) at r_1 = 0.
    - `boundary`: mu*(alpha) at this batch, from where on A = 1/2.
    """

    vocab_exponents: tuple[Fraction, ...]
    zipf_exponents: tuple[Fraction, ...]
    batch_exponent: Fraction | None
    hidden_lr_exponents: tuple[tuple[Fraction, ...], ...]
    boundary: Derivation


def phase_diagram(
    vocab_exponents: Sequence[str | int | Fraction],
    zipf_exponents: Sequence[str | int | Fraction],
    batch_exponent: str | int | Fraction | None = None,
    *,
    optimizer: TrainingOptimizer = "adam",
    averaged_over: AveragedOver = "law",
    update_alignment: UpdateAlignment = "none",
) -> PhaseDiagram:
    """The hidden LR's exponent over (mu, alpha) at one batch exponent, exactly.

    With Muon it is 0 everywhere. In the old network (`update_alignment="full"`) it is -1
    everywhere unless the embedding is slowed (`embedding_hidden_trade`). For SGD and momentum the
    gradient's own exponent is not included (use `vocabulary_alignment` and `solve_stability`).

    Raises `ValueError` for exponents that are not rational or negative, and for unknown names.
    """
    columns = tuple(as_exponent(value) for value in vocab_exponents)
    rows = tuple(as_exponent(value) for value in zipf_exponents)
    beta = None if batch_exponent is None else as_exponent(batch_exponent)
    if min((*columns, *rows, beta or Fraction(0))) < 0:
        raise ValueError("vocabulary, Zipf and batch exponents must not be negative")
    if averaged_over == "token":
        raise ValueError("the phase diagram is that of law or batch")
    mini_batch = beta is not None
    boundary = large_vocabulary_boundary(averaged_over, mini_batch=mini_batch)
    check_training_optimizer(optimizer)
    if optimizer == "muon":
        exponents = tuple((Fraction(0),) * len(columns) for _ in rows)
        return PhaseDiagram(columns, rows, beta, exponents, boundary)
    # Twice A has integer coefficients, so Python's Max and Min keep Fractions exact.
    doubled = sp.expand(
        2 * alignment_exponent(optimizer, averaged_over, mini_batch=mini_batch).expression
    )
    arguments = (s.vocab_exponent, s.zipf_exponent, s.batch_exponent)
    twice = sp.lambdify(arguments, doubled, modules=[{"Max": max, "Min": min}])
    learned = HALF if update_alignment == "none" else Fraction(1)
    exponents = tuple(
        tuple(-max(twice(mu, alpha, beta or Fraction(0)) * HALF, learned) for mu in columns)
        for alpha in rows
    )
    return PhaseDiagram(columns, rows, beta, exponents, boundary)
