"""Powers along a path: exact ones, limits that two formulas share, and slopes at huge sizes."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

import derivations
from derivations import symbols as s


def orders(mu="1", alpha="0", beta="0", **others) -> derivations.PathOrders:
    """Along d, with m = d^mu, B = d^beta, Zipf(alpha) tokens and n = 1; other symbols by name."""
    given = {"vocab_size": mu, "batch_size": beta, "outputs": "0"} | others
    sizes = {getattr(s, name): Fraction(power) for name, power in given.items()}
    return derivations.path_orders({s.width: Fraction(1), **sizes}, Fraction(alpha), init="mup")


def test_powers_are_exact():
    """The square ~ d^2 P_3 / P_2, and P_k ~ m^(-k (1 - alpha)) for 1/2 < alpha < 1."""
    path = orders(mu="0.7", alpha="0.8")
    found = derivations.first_step_power("projection", "sign", path, mini_batch=False)
    assert found.power == 1 - Fraction(7, 10) * Fraction(1, 5) / 2 == Fraction(93, 100)
    assert isinstance(found.power, Fraction)


@pytest.mark.parametrize("mini_batch", [False, True])
@pytest.mark.parametrize("directions", ["one", "many"])
def test_an_embedding_that_has_hardly_moved_leaves_the_first_step(directions, mini_batch):
    path = orders(mu="2/3", beta="1/2", embedding_lr="-50", projection_lr="-1/4")
    later = derivations.later_step_power(directions, path, Fraction(1, 5), mini_batch=mini_batch)
    first = derivations.first_step_power("projection", "sign", path, mini_batch=mini_batch)
    assert later.power == first.power - Fraction(1, 4)


def test_several_outputs_at_a_fixed_number_are_as_one():
    for optimizer in derivations.OPTIMIZERS:
        one, several = (
            derivations.first_step_power(
                "embedding", optimizer, orders("3/2"), mini_batch=False, several_outputs=many
            )
            for many in (False, True)
        )
        assert one.power == several.power
        assert "one output" not in several.assumptions


@pytest.mark.parametrize("directions", ["one", "many"])
def test_the_two_ends_of_the_regime_meet_at_a_batch_of_the_width(directions):
    def end(beta, early):
        path = orders(mu="2", beta=beta, effective_outputs="1/4")
        return derivations.restoration_power(directions, path, early=early).power

    assert end("1", early=True) == end("1", early=False)
    assert end("1/2", early=True) > end("1/2", early=False)


def test_the_optimal_ratio_is_that_of_the_optimal_rates():
    path = orders("3/2")
    rates = {
        which: derivations.optimal_rate_power(which, path).power
        for which in ("embedding", "projection", "ratio")
    }
    assert rates["ratio"] == rates["embedding"] - rates["projection"] == Fraction(3, 4)


@pytest.mark.parametrize("moves", ["1/5", "2/3", "2"])
def test_visits_grow_like_the_moments_of_a_binomial(moves):
    path = orders(mu="3/2", beta="1/2")
    q, t = (lambda d: d**-1.0), (lambda d: d ** float(Fraction(moves)))

    def size(d):
        return math.sqrt(q(d) * (1 - q(d)) * t(d) + (q(d) * t(d)) ** 2) / math.sqrt(q(d))

    slope = math.log(size(1e31) / size(1e30)) / math.log(10)
    found = derivations.visits_power(path, Fraction(moves), mini_batch=True)
    assert float(found) == pytest.approx(slope, abs=1e-6)
    assert derivations.visits_power(path, Fraction(moves), mini_batch=False) == Fraction(moves)
