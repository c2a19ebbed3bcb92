"""Learning rates of matrices that are trained together, against limits and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import derivations
from derivations import symbols as s

TOGETHER = derivations.rate_together().expression
POWER = derivations.ratio_power_together().expression


def test_one_matrix_together_with_none_has_its_own_rate():
    alone = TOGETHER.subs(derivations.trained_matrices, 1)
    assert sp.simplify(alone - derivations.single_rate) == 0


@pytest.mark.parametrize("mu", [sp.Rational(1, 2), 1, sp.Rational(3, 2)])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_power_is_that_of_the_rate_in_the_limit(mu, count):
    """The numerical slope of ln rate at widths far beyond any crossover."""
    own = derivations.optimal_learning_rate("projection").specialise(
        derivations.UNIFORM_LAW, "uniform tokens"
    )
    values = {s.embedding_std: 1, s.vocab_size: s.width**mu}
    rate = TOGETHER.subs(derivations.trained_matrices, count)
    rate = rate.subs(derivations.single_rate, own.expression.subs(values))
    logs = [float(sp.log(rate.subs(s.width, sp.Integer(10) ** power))) for power in (60, 64)]
    slope = (logs[1] - logs[0]) / np.log(1e4)
    power = POWER.subs({derivations.trained_matrices: count, s.vocab_exponent: mu})
    assert -slope == pytest.approx(float(power), abs=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_second_step_moves_the_product_by_the_rate_to_the_number_of_matrices(count):
    """Sign descent of the top matrices with fixed residuals, at rates far above 1/d."""
    d, generator = 256, np.random.default_rng(count)
    start = [generator.normal(size=(d, d)) / d**0.5 for _ in range(count)]
    readout, field = generator.normal(size=d) / d, generator.normal(size=d)

    def change(rate: float) -> float:
        matrices = [matrix.copy() for matrix in start]
        for _ in range(2):
            up, down = [field], [readout]
            for matrix in matrices:
                up.append(matrix @ up[-1])
            for matrix in reversed(matrices):
                down.append(matrix.T @ down[-1])
            steps = [
                np.outer(np.sign(above), np.sign(below))
                for above, below in zip(down[-2::-1], up[:-1], strict=True)
            ]
            matrices = [m - rate * step for m, step in zip(matrices, steps, strict=True)]
        moved, initial = readout, readout
        for matrix, first in zip(matrices[::-1], start[::-1], strict=True):
            moved, initial = matrix.T @ moved, first.T @ initial
        return -float((moved - initial) @ np.sign(field)) / d

    slope = np.log(change(1.0) / change(0.25)) / np.log(4)
    assert slope == pytest.approx(count, abs=0.1)
    assert change(0.25) > 0
