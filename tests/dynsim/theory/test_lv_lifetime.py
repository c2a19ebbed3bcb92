"""How long the LV regime lasts: derived updates against networks that keep their residuals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp
from helpers import assert_refused
from numpy_networks import draw_shares

import derivations
from derivations import symbols as s
from dynsim import InputError, aged_update, first_step, restoration_displacement, token_law
from dynsim.theory import (
    effective_outputs,
    isotropic_restoration,
    late_effective_outputs,
    smoothed_speed,
    visit_chance,
)


def step_rms(
    random: np.random.Generator,
    *,
    width: int,
    targets: np.ndarray,
    frequencies: np.ndarray,
    embedding_lr: float,
    steps: int,
    projection_lr: float = 0.0,
    batch_size: int = 0,
    seeds: int = 4,
) -> np.ndarray:
    """RMS of sign(h) e_i at every step; residuals stay -targets, as in a linearised loss."""
    n = targets.shape[1]
    rms = np.zeros((seeds, steps))
    for seed in range(seeds):
        embedding = random.standard_normal((len(targets), width))
        projection = random.standard_normal((n, width)) / width
        for step in range(steps):
            shares = draw_shares(random, frequencies, 1, batch_size)[0]
            weighted = -shares[:, None] * targets
            direction = np.sign(weighted.T @ embedding)
            update = embedding @ direction.T
            rms[seed, step] = frequencies @ np.mean(update**2, axis=1)
            embedding = embedding - embedding_lr * np.sign(weighted @ projection)
            projection = projection - projection_lr * direction
    return np.sqrt(rms.mean(axis=0))


def residuals(random: np.random.Generator, tokens: int, outputs: int) -> np.ndarray:
    rows = random.standard_normal((tokens, outputs))
    return np.sign(rows) if outputs == 1 else rows


@pytest.mark.parametrize(
    ("law", "width", "vocab_size", "outputs", "embedding_lr", "tolerance"),
    [
        ("uniform", 128, 4096, 1, 0.02, 0.03),
        ("uniform", 128, 512, 1, 0.02, 0.03),
        ("uniform", 128, 2048, 24, 0.1, 0.05),
        ("zipf:0.7", 128, 4096, 1, 0.02, 0.06),
        ("zipf:1", 128, 4096, 1, 0.04, 0.06),
    ],
)
def test_aged_update_is_what_networks_do(law, width, vocab_size, outputs, embedding_lr, tolerance):
    random = np.random.default_rng(3)
    tokens = token_law(law, vocab_size)
    measured = step_rms(
        random,
        width=width,
        targets=residuals(random, vocab_size, outputs),
        frequencies=tokens.frequencies,
        embedding_lr=embedding_lr,
        steps=10,
        seeds=12,
    )
    derived = aged_update(width, tokens, embedding_lr * np.arange(10), effective_outputs=outputs)
    np.testing.assert_allclose(measured, derived.rms, rtol=tolerance)
    assert float(derived.rms[-1]) > 1.5 * float(derived.rms[0])  # the update grew
    at_first = np.full(10, float(derived.rms[0]))
    assert np.abs(measured / at_first - 1)[-1] > 5 * tolerance


def test_a_mini_batch_counts_visits():
    random = np.random.default_rng(5)
    law = token_law("uniform", 2048)
    run = {"width": 128, "frequencies": law.frequencies, "embedding_lr": 0.06, "steps": 24}
    measured = step_rms(random, targets=residuals(random, 2048, 1), batch_size=256, **run)
    derived, wrong = (
        aged_update(128, law, 0.06 * np.arange(24), batch_size=size, embedding_lr=0.06).rms
        for size in (256, 0)
    )
    np.testing.assert_allclose(measured, derived, rtol=0.08)
    assert float(wrong[-1]) > 2 * measured[-1]


@pytest.mark.parametrize("law", ["uniform", "zipf:0.5", "zipf:1.3"])
@pytest.mark.parametrize("outputs", [1, 30])
def test_at_no_displacement_it_is_the_first_step(law, outputs):
    tokens = token_law(law, 300)
    initial = aged_update([64, 256], tokens, 0.0, effective_outputs=outputs)
    first = first_step("projection", "sign", [64, 256], tokens)
    np.testing.assert_allclose(initial.rms, first.rms, rtol=1e-12)
    np.testing.assert_allclose(initial.local_exponent, first.local_exponent, rtol=1e-12)


def test_a_batch_of_everything_is_nearly_the_full_batch():
    law = token_law("uniform", 64)
    moves = 0.02 * np.arange(6)
    batch = aged_update(32, law, moves, batch_size=10**7, embedding_lr=0.02)
    np.testing.assert_allclose(batch.rms, aged_update(32, law, moves).rms, rtol=1e-4)


@pytest.mark.parametrize("directions", derivations.DIRECTIONS)
def test_coherent_field_is_a_mean_size(directions):
    """A(tau) = E|x + a|, with a = tau or a Gaussian of variance (2/pi) tau^2, by quadrature."""
    tau = 1.7
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    field = np.abs(nodes + tau)
    if directions == "many":
        field = np.abs(nodes) * math.sqrt(1 + 2 / math.pi * tau**2)
    derived = derivations.coherent_field(directions).expression.subs(s.field_age, tau)
    assert float(derived) == pytest.approx(weights @ field, abs=3e-3)
    initial = derivations.coherent_field(directions).expression.subs(s.field_age, 0)
    assert sp.simplify(initial - sp.sqrt(2 / sp.pi)) == 0


@pytest.mark.parametrize(
    ("directions", "rewritten", "constant"),
    [
        ("one", False, 1),
        ("many", False, sp.pi / 2),
        ("one", True, 1),
        ("many", True, sp.sqrt(sp.pi / 2)),
    ],
)
def test_restoration_constants(directions, rewritten, constant):
    derived = derivations.restoration_constant(directions, rewritten=rewritten)
    assert sp.simplify(derived.expression - constant) == 0


def test_the_constant_of_isotropic_outputs_lies_between_those_of_one_and_many():
    constant = derivations.isotropic_restoration_constant().expression
    values = {n: isotropic_restoration(n) for n in (2, 4, 400)}
    assert values[4] == pytest.approx(float(constant.subs(s.outputs, 4).evalf()), rel=1e-12)
    assert values[2] == pytest.approx(math.sqrt(1.5))
    random = np.random.default_rng(0).standard_normal((200_000, 4))
    cosine = random[:, 0] / np.linalg.norm(random, axis=1)
    square = 4 * np.mean((2 / math.pi * np.arcsin(cosine)) ** 2)
    assert values[4] == pytest.approx(square**-0.5, rel=0.01)
    assert values[400] == pytest.approx(math.pi / 2, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("outputs", [1, 20])
def test_a_rewritten_projection_feeds_its_own_field(outputs):
    """Projection steps far beyond its initial entries: A = sqrt(2/pi) + gain tau."""
    random = np.random.default_rng(7)
    width, vocab_size, moves = 128, 2048, 0.004 * np.arange(40) * math.sqrt(outputs)
    measured = step_rms(
        random,
        width=width,
        targets=residuals(random, vocab_size, outputs),
        frequencies=np.full(vocab_size, 1 / vocab_size),
        embedding_lr=moves[1],
        projection_lr=50.0,
        steps=len(moves),
    )
    directions = "one" if outputs == 1 else "many"
    field = derivations.rewritten_field(directions).expression
    # the first move of the embedding is against the initial projection and points nowhere
    age = np.maximum(moves - moves[1], 0) * math.sqrt(vocab_size / outputs)
    coherent = np.array([float(field.subs(s.field_age, value)) for value in age])
    derived = np.sqrt(width * (1 + moves**2 + (width - 1) / vocab_size * coherent**2))
    np.testing.assert_allclose(measured[2:], derived[2:], rtol=0.08)
    frozen = aged_update(
        width, token_law("uniform", vocab_size), moves, effective_outputs=outputs
    ).rms
    if outputs > 1:
        assert np.abs(measured / np.asarray(frozen) - 1)[-1] > 0.09


def test_local_exponent_is_the_slope():
    law = token_law("zipf:0.8", 2000)
    below, at, above = (
        aged_update(width, law, 0.1, effective_outputs=9) for width in (255.9, 256, 256.1)
    )
    slope = np.log(above.rms / below.rms) / math.log(256.1 / 255.9)
    assert float(at.local_exponent) == pytest.approx(float(slope), abs=1e-6)


@pytest.mark.parametrize("outputs", [1, 16])
def test_the_lv_regime_ends_at_exponent_three_quarters(outputs):
    width, vocab_size = 512, 8192
    end = restoration_displacement(width, vocab_size, effective_outputs=outputs)
    law = token_law("uniform", vocab_size)
    update = aged_update(width, law, end, effective_outputs=outputs)
    # the embedding's own growth theta^2 dilutes the exponent a little
    assert float(update.local_exponent) == pytest.approx(0.75, abs=0.02)
    constant = 1 if outputs == 1 else math.pi / 2
    assert end == pytest.approx(constant * math.sqrt(outputs / width), rel=0.1)


def test_the_end_does_not_depend_on_a_large_vocabulary_and_is_zero_for_a_small_one():
    ends = [restoration_displacement(256, 4.0**k * 1024) for k in range(1, 5)]
    assert max(ends) / min(ends) < 1.01
    assert ends[-1] * math.sqrt(256) == pytest.approx(1, rel=0.005)
    assert restoration_displacement(256, 256 * 2 / math.pi * 0.95) == 0
    assert restoration_displacement(256, 256 * 2 / math.pi * 1.05) > 0
    limit = derivations.restoration_displacement("one").expression
    assert float(limit.subs({s.width: 256, s.effective_outputs: 1})) == pytest.approx(1 / 16)


@pytest.mark.parametrize("batch_size", [64, 256, 2048])
def test_a_small_batch_restores_alignment_later(batch_size):
    """Many visits at a small rate: the root of rho is where the derived curve has rho = 1."""
    width, vocab_size, rate = 512, 4096, 1e-5
    end = restoration_displacement(width, vocab_size, batch_size=batch_size)
    law = token_law("uniform", vocab_size)
    steps = end / rate / visit_chance(law, batch_size)
    update = aged_update(width, law, rate * steps, batch_size=batch_size, embedding_lr=rate)
    assert float(update.rms) ** 2 / width - 1 - end**2 == pytest.approx(1, rel=0.01)
    assert float(update.local_exponent) == pytest.approx(0.75, abs=0.05)
    full = restoration_displacement(width, vocab_size)
    assert end > full
    early = derivations.early_restoration_displacement("one").expression
    limit = float(
        early.subs({s.width: width, s.frequency_square_sum: 1 / batch_size, s.effective_outputs: 1})
    )
    assert end < 1.2 * max(limit, full)
    if batch_size <= width / 8:
        assert end == pytest.approx(limit, rel=0.1)


def test_a_zipf_tail_is_restored_by_its_own_clock():
    """Tokens beyond rank 256: coherent power equal to the noise at (pi P_2 / 2d)^(1/4)."""
    random = np.random.default_rng(11)
    width, vocab_size, rate = 256, 4096, 0.01
    law = token_law("zipf:1", vocab_size)
    residual = -residuals(random, vocab_size, 1)
    embedding = random.standard_normal((vocab_size, width))
    projection = random.standard_normal((1, width))
    direction = np.sign(residual @ projection)
    weighted = law.frequencies[:, None] * residual
    ratios = []
    for step in range(25):
        moved = embedding - rate * step * direction
        update = moved[256:] @ np.sign(weighted.T @ moved).T
        ratios.append(np.mean(update**2) / width - 1 - (rate * step) ** 2)
    crossing = rate * float(np.interp(1, ratios, np.arange(25)))
    early = derivations.early_restoration_displacement("one").expression
    values = {s.width: width, s.frequency_square_sum: law.power_sum(2), s.effective_outputs: 1}
    assert crossing == pytest.approx(float(early.subs(values)), rel=0.15)
    assert crossing > 1.4 * restoration_displacement(width, vocab_size)


@pytest.mark.slow
def test_the_end_of_a_steep_spectrum_has_its_own_number_of_directions():
    random = np.random.default_rng(13)
    vocab_size, outputs, width = 4096, 8, 256
    targets = random.standard_normal((vocab_size, outputs)) / np.arange(1, outputs + 1) ** 1.5
    equal = np.full(vocab_size, 1 / vocab_size)
    early, late = (count(targets, equal) for count in (effective_outputs, late_effective_outputs))
    assert late > 2 * early
    flat = random.standard_normal((vocab_size, outputs))
    assert late_effective_outputs(flat, equal) == pytest.approx(8, rel=0.01)
    run = {"width": width, "frequencies": equal, "steps": 40, "seeds": 2}
    ends = {}
    for name, rows, rate in (("steep", targets, 0.012), ("flat", flat, 0.012)):
        square = step_rms(random, targets=rows, embedding_lr=rate, **run) ** 2
        ratio = square / width - 1 - (rate * np.arange(40)) ** 2
        ends[name] = rate * float(np.interp(1, ratio, np.arange(40)))
    assert ends["steep"] / ends["flat"] == pytest.approx((late / 8) ** 0.5, rel=0.12)
    assert ends["steep"] / ends["flat"] > 1.4 * (early / 8) ** 0.5


def test_effective_outputs():
    random = np.random.default_rng(0)
    equal = np.full(4000, 1 / 4000)
    assert effective_outputs(random.standard_normal((4000, 1)), equal) == pytest.approx(1)
    assert effective_outputs(random.standard_normal((4000, 8)), equal) == pytest.approx(8, rel=0.02)
    low_rank = random.standard_normal((4000, 2)) @ np.linalg.qr(random.standard_normal((8, 2)))[0].T
    assert effective_outputs(low_rank, equal) == pytest.approx(2, rel=0.01)
    onto_one = np.eye(4)[[0, 1, 2, 3]]
    assert effective_outputs(onto_one, np.array([0.97, 0.01, 0.01, 0.01])) < 1.1


@pytest.mark.parametrize("epsilon", [1e-9, 0.3, 1.0, 4.0, 200.0])
def test_smoothed_speed(epsilon):
    from scipy.integrate import quad

    def integrand(x):
        density = math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        return 2 * density * x / math.hypot(x, epsilon)

    assert float(smoothed_speed(epsilon * 7, 7)) == pytest.approx(
        quad(integrand, 0, 40)[0], rel=1e-7
    )


def test_bad_input():
    law = token_law("zipf:1", 64)
    with pytest.raises(InputError, match="effective_outputs"):
        aged_update(8, law, 0.1, effective_outputs=0.5)
    with pytest.raises(InputError, match="effective_outputs"):
        restoration_displacement(8, 64, effective_outputs=0.0)
    with pytest.raises(InputError, match="width 1: must be at least 2"):
        restoration_displacement(1, 64)
    with pytest.raises(InputError, match="effective_outputs"):
        aged_update(8, law, 0.1, effective_outputs=math.nan)
    with pytest.raises(InputError, match="must be uniform"):
        aged_update(8, law, 0.1, batch_size=4, embedding_lr=0.1)
    with pytest.raises(InputError, match="must be positive"):
        aged_update(8, token_law("uniform", 64), 0.1, batch_size=4)
    assert_refused("width", lambda: aged_update(0, law, 0.1))
    assert_refused("displacement", lambda: aged_update(8, law, [0.1, -0.1]))
    assert_refused("vocab_size", lambda: restoration_displacement(8, -3))


def test_an_aged_update_says_what_it_is_of():
    update = aged_update(8, token_law("zipf:1", 64), [0.1, 0.2], effective_outputs=2)
    assert update.law.name == "zipf:1"
    assert update.effective_outputs == 2
    np.testing.assert_array_equal(update.width, [8, 8])
    lines = set(repr(update).splitlines())
    assert {"  law: zipf:1, 64 token types", "  displacement: [0.1, 0.2]"} <= lines
