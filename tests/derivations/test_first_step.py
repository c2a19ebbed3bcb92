"""Symbolic first-step moments against an independent numpy network, in Monte-Carlo errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp
from helpers import assert_mean, assert_rejected
from numpy_networks import (
    draw_shares,
    hidden_first_step,
    linear_first_step,
    train_linear,
    zipf,
)

import derivations
from derivations import symbols as s

D, M, N = 9, 6, 3
LAWS = {"uniform": zipf(M, 0), "zipf": zipf(M, 0.8)}
OPTIMIZERS = derivations.OPTIMIZERS


def number(derived: derivations.Derivation, values: dict) -> float:
    return float(derived.expression.subs(values))


def laws_values(p: np.ndarray, **extra: float) -> dict:
    return {
        s.frequency_square_sum: float((p**2).sum()),
        s.frequency_cube_sum: float((p**3).sum()),
    } | {getattr(s, name): value for name, value in extra.items()}


@pytest.fixture(scope="module")
def residuals():
    """Fixed targets of unequal size: the residual of a centred network is their negative."""
    return -np.random.default_rng(3).normal(0, 1.3, (M, N)) - 0.3


def projection_values(p, residual, token, output) -> dict:
    field = float((p**2 * residual[:, output] ** 2).sum())
    return {
        s.width: D,
        s.projection_lr: 1,
        s.embedding_std: 1.4,
        s.field_square_sum: field,
        s.alignment: p[token] * residual[token, output] / math.sqrt(field),
    }


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_projection_moments(optimizer, law, residuals, random):
    """Every token's mean and second moment, residuals of any size, three outputs."""
    p = LAWS[law]
    updates = linear_first_step(
        random,
        width=D,
        targets=-residuals,
        frequencies=p,
        seeds=25_000,
        optimizer=optimizer,
        embedding_std=1.4,
    ).projection
    mean = derivations.update_mean("projection", optimizer)
    second = derivations.update_second_moment("projection", optimizer)
    for token, output in [(0, 0), (1, 2), (M - 1, 1)]:
        values = projection_values(p, residuals, token, output)
        sample = updates[:, token, output]
        assert_mean(sample**2, number(second, values))
        assert_rejected(sample**2, 1.1 * number(second, values))
        if abs(values[s.alignment]) > 0.3:
            assert_mean(sample, number(mean, values))
            assert_rejected(sample, 1.1 * number(mean, values))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_embedding_moments(optimizer, law, residuals, random):
    """p_i cancels under sign and stays under SGD; the alignment is r_ik / |r_i|."""
    p = LAWS[law]
    updates = linear_first_step(
        random,
        width=D,
        targets=-residuals,
        frequencies=p,
        seeds=25_000,
        optimizer=optimizer,
        projection_std=0.7,
    ).embedding
    for token, output in [(0, 0), (M - 1, 1)]:
        values = {
            s.width: D,
            s.embedding_lr: 1,
            s.projection_std: 0.7,
            s.frequency: p[token],
            s.residual: residuals[token, output],
            s.residual_norm: float(np.linalg.norm(residuals[token])),
        }
        second = number(derivations.update_second_moment("embedding", optimizer), values)
        assert_mean(updates[:, token, output] ** 2, second)
        assert_rejected(updates[:, token, output] ** 2, 1.1 * second)
        mean = number(derivations.update_mean("embedding", optimizer), values)
        if abs(values[s.residual]) > 0.5 * values[s.residual_norm]:
            assert_mean(updates[:, token, output], mean)
            assert_rejected(updates[:, token, output], 1.1 * mean)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_hidden_moments(optimizer, law, random):
    """One coordinate of (Delta U) e_i, and what the readout makes of it, by backpropagation."""
    p, readout_std = LAWS[law], 0.8
    targets = np.random.default_rng(5).normal(0, 1, (M, 1)) + 0.5
    residual = -targets[:, 0]
    coordinate, output = hidden_first_step(
        random,
        width=D,
        targets=targets,
        frequencies=p,
        seeds=40_000,
        optimizer=optimizer,
        readout_std=readout_std,
    )
    field = float((p**2 * residual**2).sum())
    for token in (0, M - 1):
        values = {
            s.width: D,
            s.projection_lr: 1,
            s.embedding_std: 1,
            s.alignment: p[token] * residual[token] / math.sqrt(field),
        }
        # The coordinate's own field is that of delta_j = V_k r_j; SGD averages V_k^2.
        inner = values | {s.field_square_sum: readout_std**2 * field}
        second = number(derivations.update_second_moment("hidden", optimizer), inner)
        options = {"resolution": 0.025} if optimizer == "sgd" else {}
        assert_mean(coordinate[:, token] ** 2, second, **options)
        outer = values | {s.field_square_sum: field, sp.Symbol("sigma_V", positive=True): 0.8}
        second = number(derivations.hidden_output_second_moment(optimizer), outer)
        assert_mean(output[:, token] ** 2, second, **options)
        if optimizer != "sgd":
            assert_rejected(coordinate[:, token] ** 2, 1.1 * inner_moment(optimizer, inner))
            assert_rejected(output[:, token] ** 2, 1.1 * second)
        else:
            assert_rejected(output[:, token] ** 2, 1.2 * second, **options)


def inner_moment(optimizer, values) -> float:
    return number(derivations.update_second_moment("hidden", optimizer), values)


def test_the_networks_gradients_are_gradients(random):
    """The written-out backpropagation of the reference against finite differences of its loss."""
    embedding, projection = random.normal(size=(4, 5)), random.normal(size=(2, 5))
    targets, p = np.eye(2)[[0, 1, 1, 0]], zipf(4, 1)

    def after(loss, e, w):
        return train_linear(
            e, w, targets, p, loss=loss, optimizer="sgd", embedding_lr=1, projection_lr=1, steps=2
        )

    for loss in ("mse", "ce"):
        run = after(loss, embedding, projection)
        for index in (0, 1):
            before, then = (run.embedding, run.projection)[index][:2]
            step = np.zeros_like(before)
            step[1, 3] = 1e-6
            high, low = (
                after(loss, embedding + sign * step, projection).loss[0]
                if index == 0
                else after(loss, embedding, projection + sign * step).loss[0]
                for sign in (1, -1)
            )
            assert (before - then)[1, 3] == pytest.approx((high - low) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("batch_size", [0, 12])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("layer", ["projection", "embedding"])
def test_averaged_first_step(layer, optimizer, alpha, batch_size, random):
    """`first_step` of a whole law: the frequency-weighted mean and mean square at LR = 1.

    Under sign a mini-batch's alignment is a ratio of averages (an assumption of the derivation),
    exact only for a large field: 2 % are allowed for it, none elsewhere.
    """
    width, vocab_size, seeds = 16, 24, 6000
    p = zipf(vocab_size, alpha)
    signs = random.choice([-1.0, 1.0], (seeds, vocab_size, 1))
    updates = linear_first_step(
        random,
        width=width,
        targets=-signs,
        frequencies=p,
        seeds=seeds,
        optimizer=optimizer,
        projection_std=1 / width,
        batch_size=batch_size,
    )
    change = getattr(updates, layer)[..., 0]
    mean, rms = derivations.first_step(layer, optimizer, mini_batch=bool(batch_size))
    values = laws_values(p, width=width)
    if batch_size:
        values[s.batch_size] = batch_size
        values[s.presence] = float(p @ (1 - (1 - p) ** batch_size))
    bias = 0.02 if batch_size and optimizer != "sgd" and layer == "projection" else 0.0
    square = number(rms, values) ** 2
    assert_mean(change**2 @ p, square, bias=bias)
    assert_rejected(change**2 @ p, 1.1 * square, bias=bias)
    signal = number(mean, values)
    assert_mean((change * signs[..., 0]) @ p, signal, bias=bias)
    assert_rejected((change * signs[..., 0]) @ p, 1.1 * signal, bias=bias)


@pytest.mark.parametrize("rank", [1, 10])
@pytest.mark.parametrize("batch_size", [0, 40])
@pytest.mark.parametrize("layer", ["projection", "embedding"])
def test_first_step_of_one_token(layer, batch_size, rank, random):
    width, vocab_size, seeds = 16, 24, 25_000
    p = zipf(vocab_size, 0.7)
    signs = np.ones((vocab_size, 1))
    change = getattr(
        linear_first_step(
            random,
            width=width,
            targets=-signs,
            frequencies=p,
            seeds=seeds,
            projection_std=width**-0.5,
            batch_size=batch_size,
        ),
        layer,
    )[:, rank - 1, 0]
    _, rms = derivations.first_step(
        layer, "sign", of_one_token=True, mini_batch=bool(batch_size), init="sp"
    )
    values = laws_values(p, width=width, frequency=float(p[rank - 1]))
    if batch_size:
        values[s.batch_size] = batch_size
        values[s.presence] = 1 - (1 - float(p[rank - 1])) ** batch_size
    square = number(rms, values) ** 2
    bias = 0.02 if batch_size and layer == "projection" else 0.0
    assert_mean(change**2, square, bias=bias)
    assert_rejected(change**2, 1.1 * square, bias=bias)


def test_given_batch_is_exact_and_absent_tokens_hear_only_noise(random):
    """With the batch fixed the formula holds with its shares; absent tokens have RMS sqrt(d)."""
    shares = np.array([0.4, 0.3, 0.2, 0.1, 0.0, 0.0])
    seeds = 25_000
    change = linear_first_step(
        random,
        width=D,
        targets=-np.ones((M, 1)),
        frequencies=LAWS["uniform"],
        seeds=seeds,
        shares=np.broadcast_to(shares, (seeds, M)),
    ).projection[..., 0]
    second = derivations.update_second_moment("projection", "sign")
    for token in (0, 3, 4, 5):
        values = projection_values(shares, np.ones((M, 1)), token, 0) | {s.embedding_std: 1}
        assert_mean(change[:, token] ** 2, number(second, values))
        assert_rejected(change[:, token] ** 2, 1.1 * number(second, values))
    absent = projection_values(shares, np.ones((M, 1)), 4, 0) | {s.embedding_std: 1}
    assert number(second, absent) == pytest.approx(D)


def test_batch_moments_are_multinomial(random):
    """E p_hat^k by sampling, and the effective vocabulary that a batch sees."""
    p, batch_size = zipf(50, 0.6), 30
    shares = draw_shares(random, p, 40_000, batch_size)
    for order in (1, 2, 3):
        moment = derivations.multinomial_moment(order)
        values = {s.frequency: p[0], s.batch_size: batch_size}
        assert_mean(shares[:, 0] ** order, float(moment.subs(values)))
    ratio = float(derivations.batch_alignment().subs(laws_values(p) | {s.batch_size: batch_size}))
    sampled = (shares**3).sum(axis=1).mean() / (shares**2).sum(axis=1).mean()
    assert sampled == pytest.approx(ratio, rel=0.01)
    assert ratio != pytest.approx((p**3).sum() / (p**2).sum(), rel=0.5)  # not the law's own


def test_cross_term_without_self_term(random):
    """Independent gradients: exactly d under sign, and the product of variances under SGD."""
    p, signs = LAWS["zipf"], np.ones((M, 1))
    for optimizer in ("sign", "sgd"):
        cross = linear_first_step(
            random,
            width=D,
            targets=-signs,
            frequencies=p,
            seeds=60_000,
            optimizer=optimizer,
            projection_std=0.5,
        ).cross[:, 0, 0]
        values = {
            s.width: D,
            s.projection_lr: 1,
            s.embedding_lr: 1,
            s.embedding_std: 1,
            s.projection_std: 0.5,
            s.field_square_sum: float((p**2).sum()),
            s.frequency: p[0],
            s.residual_norm: 1,
            s.self_term_ratio: 0,
        }
        square = number(derivations.cross_term_second_moment(optimizer), values)
        if optimizer == "sign":
            assert square == pytest.approx(D)
        assert_mean(cross**2, square)
        assert_rejected(cross**2, 1.1 * square)


@pytest.fixture(scope="module")
def with_self_term():
    """SP networks with their initial output kept, m = 1, 2, 4 d: mean squares, seed by seed."""
    width, chunks, seeds = 128, 40, 40
    random = np.random.default_rng(11)
    results = {}
    for ratio in (1, 2, 4):
        m = ratio * width
        p = zipf(m, 0)
        rows = []
        for _ in range(chunks):
            targets = random.standard_normal((seeds, m, 1))
            updates = linear_first_step(
                random,
                width=width,
                targets=targets,
                frequencies=p,
                seeds=seeds,
                projection_std=width**-0.5,
                centred=False,
            )
            rows.append([(u[..., 0] ** 2) @ p for u in (updates.projection, updates.cross)])
        results[ratio] = np.concatenate(rows, axis=1)  # (2, chunks * seeds)
    return width, results


def self_term_values(width: int, vocab_size: int) -> dict:
    """Targets of unit variance, SP: sigma_f^2 = 1, so S = 2 P_2 and J = 1."""
    values = {
        s.width: width,
        s.embedding_std: 1,
        s.projection_std: width**-0.5,
        s.field_square_sum: 2 / vocab_size,
        s.residual_slope: 1,
        s.embedding_lr: 1,
        s.projection_lr: 1,
        s.frequency: 1 / vocab_size,
        s.alignment_square: 1 / vocab_size,
    }
    kappa = number(derivations.self_term_ratio(), values)
    assert kappa == pytest.approx(math.sqrt(vocab_size / (2 * width)))
    return values | {s.self_term_ratio: kappa}


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_self_term_of_the_projection(with_self_term, ratio):
    """Corrections of order 1/d are allowed for; leaving the self term out is not."""
    width, results = with_self_term
    values = self_term_values(width, ratio * width)
    square = number(derivations.self_term_second_moment(), values)
    options = {"bias": 2 / width}
    assert_mean(results[ratio][0], square, **options)
    assert_rejected(results[ratio][0], 1.1 * square, **options)
    without = number(
        derivations.update_second_moment("projection", "sign"),
        values | {s.alignment: (ratio * width) ** -0.5},
    )
    assert_rejected(results[ratio][0], without, **options)


@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_cross_term_with_self_term(with_self_term, ratio):
    """The signs of the two gradients meet through the self term, by the arcsine law."""
    width, results = with_self_term
    values = self_term_values(width, ratio * width)
    square = number(derivations.cross_term_second_moment("sign"), values)
    options = {"bias": 4 / width}
    assert_mean(results[ratio][1], square, **options)
    assert_rejected(results[ratio][1], 1.1 * square, **options)
    assert_rejected(results[ratio][1], width, resolution=1)  # as if the gradients did not meet


def test_self_term_vanishes_with_kappa():
    without = derivations.update_second_moment("projection", "sign").expression
    limit = derivations.self_term_second_moment().expression.subs(s.self_term_ratio, 0)
    gap = sp.simplify(limit - without.subs(s.alignment, sp.sqrt(s.alignment_square)))
    assert sp.limit(gap / limit, s.width, sp.oo) == 0  # d against d - 1
    cross = derivations.cross_term_second_moment("sign").expression
    assert sp.limit(cross, s.self_term_ratio, 0) == s.projection_lr**2 * s.embedding_lr**2 * s.width


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("layer", derivations.LAYERS)
def test_parts_of_an_update_add_up_and_none_exceeds_full_alignment(layer, optimizer):
    incoherent, coherent, aligned = (
        derivations.update_part(layer, optimizer, part).expression
        for part in ("incoherent", "coherent", "aligned")
    )
    whole = derivations.update_second_moment(layer, optimizer).expression
    assert sp.simplify(incoherent + coherent - whole) == 0
    unaligned = {s.alignment: 0, s.residual: 0}
    assert sp.simplify(coherent.subs(unaligned)) == 0
    assert sp.simplify((whole / aligned).subs(unaligned) - 1 / s.width) == 0


def test_the_mean_size_of_a_residual_has_its_limits():
    """A folded normal: the target where the output is small, else E|f|; D is its curvature."""
    y, sigma = derivations.target_size, derivations.output_std
    size, slope = (
        derived().expression
        for derived in (derivations.mean_residual_size, derivations.residual_sign_response)
    )
    assert sp.simplify(size.subs(y, 0) - sigma * sp.sqrt(2 / sp.pi)) == 0
    assert sp.limit(size.subs(y, 2), sigma, 0) == 2
    assert sp.simplify(sp.diff(size, y, 2) - slope) == 0


@pytest.mark.parametrize("ratio", [1, 4])
def test_total_update_with_self_term(with_self_term, ratio):
    """The cross term lowers the mean square of the total update to first order in eta_E."""
    width, _ = with_self_term
    values = self_term_values(width, ratio * width)
    values |= {s.outputs: 1, s.presence: 1}
    addition = derivations.cross_term_addition().expression
    assert addition.subs(s.embedding_lr, 0) == 0
    slope = sp.diff(addition, s.embedding_lr).subs(s.embedding_lr, 0)
    sizes = {derivations.weighted_residual: 0.8 / width, derivations.residual_sign_slope: 0.8}
    assert float(slope.subs(values | sizes)) < 0
    square = derivations.cross_term_second_moment("sign").expression
    second = sp.diff(addition, s.embedding_lr, 2) / 2 * s.embedding_lr**2
    assert np.isclose(float(second.subs(values)), float(square.subs(values)))
