"""Weights at the equilibrium of decay and Adam's updates, against simulated Adam."""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_refused
from scipy.integrate import quad

import derivations
from derivations import decay_symbols
from dynsim import evaluate, theory

ENTRIES = 2000


def long_walk(chance, beta1, beta2, steps=1500, seed=0):
    """Variance per step of a sum of optax's Adam updates of visited entries, after a start."""
    adam = optax.scale_by_adam(beta1, beta2, eps=1e-30, eps_root=0.0)
    start = int(4 / (1 - beta2) + 4 / chance)

    def step(carry, number):
        state, total = carry
        visited, drawn = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
        gradient = jax.random.normal(drawn, (ENTRIES,)) * jax.random.bernoulli(
            visited, chance, (ENTRIES,)
        )
        update, state = adam.update(gradient, state)
        return (state, total + jnp.where(number < start, 0.0, update)), None

    first = (adam.init(jnp.zeros(ENTRIES)), jnp.zeros(ENTRIES))
    (_, total), _ = jax.lax.scan(step, first, jnp.arange(start + steps))
    return float(jnp.mean(total**2)) / steps


@pytest.mark.parametrize("ratio", [0.02, 1.0, 30.0])
def test_worth_of_visits_is_that_of_its_integral(ratio):
    """Over y of the derivation's third step, by adaptive quadrature."""
    whole = quad(lambda y: y**-2 * ((1 + y) / 2) ** (-2 * ratio), 1, np.inf, epsabs=0)[0]
    assert float(theory.visit_worth(ratio * 0.01, 0.99)) == pytest.approx(ratio * whole, rel=1e-8)


def test_worth_of_visits_has_its_limits():
    assert float(theory.visit_worth(1e-7, 0.999)) == pytest.approx(1e-4, rel=1e-3)
    assert float(theory.visit_worth(1.0, 0.9999)) == pytest.approx(1, rel=1e-3)
    rare = float(theory.rare_visit_worth(1e-7, 0.0, 0.999))
    assert rare == pytest.approx(float(theory.visit_worth(1e-7, 0.999)), rel=1e-3)


@pytest.mark.parametrize(("chance", "beta1"), [(0.004, 0.0), (0.02, 0.0), (0.02, 0.5), (1.0, 0.9)])
def test_worth_of_visits_is_that_of_simulated_adam(chance, beta1):
    derived = float(theory.visit_worth(chance, 0.98))
    assert long_walk(chance, beta1, 0.98) == pytest.approx(derived, rel=0.1)


def test_rare_visits_at_any_momentum():
    derived = float(theory.rare_visit_worth(0.002, 0.9, 0.95))
    assert long_walk(0.002, 0.9, 0.95, 4000) == pytest.approx(derived, rel=0.1)
    assert derived > 1.5 * float(theory.visit_worth(0.002, 0.95))


@pytest.mark.parametrize("convention", derivations.DECAY_CONVENTIONS)
def test_size_is_what_repeated_steps_come_to(convention):
    """The recursion of the mean square, without the derivation's closed form."""
    lr, decay = 0.05, 0.2 if convention == "coupled" else 0.01
    taken = lr * decay if convention == "coupled" else decay
    worth = float(theory.visit_worth(0.1))
    square, found = 4.0, {}
    for number in range(1, 3001):
        square = (1 - taken) ** 2 * square + lr**2 * worth
        found[number] = square**0.5
    options = {"visit_chance": 0.1, "convention": convention}
    early = theory.equilibrium_rms(lr, decay, steps=40, initial_std=2.0, **options)
    assert float(early) == pytest.approx(found[40], rel=1e-9)
    assert float(theory.equilibrium_rms(lr, decay, **options)) == pytest.approx(found[3000])
    assert float(early) > 1.5 * found[3000]


def test_a_step_turns_by_the_share_that_kosson_gives():
    values = {decay_symbols.step_decay: 1e-4, decay_symbols.beta1: 0.9}
    angle = np.sqrt(float(evaluate(derivations.step_rotation_square(), values)))
    assert angle == pytest.approx(np.sqrt(2e-4 * 0.1 / 1.9), rel=1e-4)
    many = {decay_symbols.step_decay: 1e-4, decay_symbols.visit_chance: 1.0}
    visit = float(evaluate(derivations.visit_rotation_square(), many))
    # A cosine of 1 - angle^2/2 a step is what is kept of the direction.
    cosine = float(theory.kept_direction(1e-3, 0.1, 1.0, beta1=0.0))
    assert 1 - visit / 2 == pytest.approx(cosine, abs=1e-8)


@pytest.mark.parametrize("beta1", [0.0, 0.8])
def test_direction_is_lost_as_in_a_sum_of_momenta(beta1):
    """By the covariances of a linear filter of white noise, without the geometric sums."""
    taken, lag = 1e-3, 100
    age = np.arange(20_000)
    momentum = (1 - beta1) * beta1 ** age[:400]
    response = np.convolve(momentum, (1 - taken) ** age)[: len(age)]
    cosine = response[:-lag] @ response[lag:] / (response @ response)
    derived = float(theory.kept_direction(0.01, 0.1, lag, beta1=beta1))
    assert np.log(derived) == pytest.approx(np.log(cosine), rel=0.005)


def test_published_powers():
    """Fan et al. 2025 for their measured gain; constant eta lambda for the turn."""
    power = derivations.weight_decay_power
    assert power("gain", -1, "coupled", Fraction(3, 4)) == Fraction(1, 2)
    assert power("rotation", -1, "coupled") == 1
    assert power("rotation", -1, "independent") == 0
    assert power("gain", -1, "coupled") == 0
    assert power("relative-update", -1, "coupled") == 0
    assert power("relative-update", -1, "coupled", 1, 1) == power("rotation", -1, "coupled")


@pytest.mark.parametrize("lr_power", [0, Fraction(-1, 2), -1])
@pytest.mark.parametrize("gain", [Fraction(1, 2), 1])
def test_powers_keep_what_they_are_for(lr_power, gain):
    """Sizes from the numeric law at two widths."""
    for convention in derivations.DECAY_CONVENTIONS:
        power = derivations.weight_decay_power("gain", lr_power, convention, gain)
        decay = 1e-4 * np.array([1.0, 16.0]) ** float(power)
        rate = 1e-3 * np.array([1.0, 16.0]) ** float(lr_power)
        sizes = theory.equilibrium_rms(rate, decay, convention=convention)
        gains = sizes * np.array([1.0, 16.0]) ** float(gain)
        assert gains[1] == pytest.approx(gains[0], rel=0.02)


def test_bad_input():
    assert_refused("visit_chance", lambda: theory.visit_worth(0.0))
    assert_refused("beta2", lambda: theory.visit_worth(0.1, 1.0))
    assert_refused("beta1", lambda: theory.rare_visit_worth(0.1, 0.98, 0.95))
    assert_refused("weight_decay", lambda: theory.equilibrium_rms(0.1, 0.0))
    assert_refused("weight_decay", lambda: theory.equilibrium_rms(0.1, 20.0))
    assert_refused("convention", lambda: theory.equilibrium_rms(0.1, 0.1, convention="l2"))
