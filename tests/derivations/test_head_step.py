"""The first step of a softmax head against networks in numpy, in Monte-Carlo errors."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from helpers import assert_mean, assert_rejected, assert_same_expression
from numpy_networks import first_direction, zipf

import derivations
from derivations import symbols as s

D, M = 10, 6
P = zipf(M, 0.6)
TABLE = np.random.default_rng(5).dirichlet(np.full(M, 0.4), size=M)  # P(k | i)
R = 1 / M - TABLE
A = P[:, None] * R + (P[:, None] * R).T
SEEDS = 20_000
PAIRS = [(0, 1), (3, 2), (M - 1, 0), (2, 2)]


def changed(random: np.random.Generator, layer: str, optimizer: str) -> np.ndarray:
    """Change of all logits in the first step at LR 1, every seed, sigma_W = sigma_E / width."""
    e = random.standard_normal((SEEDS, M, D))
    w = random.standard_normal((SEEDS, M, D)) / D
    weighted = P[:, None] * R
    if layer == "head":
        return -e @ first_direction(optimizer, weighted.T @ e).swapaxes(1, 2)
    if layer == "embedding":
        return -first_direction(optimizer, weighted @ w) @ w.swapaxes(1, 2)
    half = -first_direction(optimizer, A @ e / D) @ e.swapaxes(1, 2) / D
    return half + half.swapaxes(1, 2)


def values(layer: str, optimizer: str, i: int, k: int) -> dict:
    """What the formula needs for a single pair."""
    linear = optimizer == "sgd"
    if layer == "head":
        size = float((P**2 * R[:, k] ** 2).sum())
        c = P[i] * R[i, k] / size**0.5
    elif layer == "embedding":
        size = float(P[i] ** 2 * (R[i] ** 2).sum())
        c = P[i] * R[i, k] / size**0.5
    else:
        norm = np.linalg.norm(A, axis=1)
        rows = A if linear else A / norm[:, None]
        c = (rows[i, k] + rows[k, i]) / 2
        product = rows[i, k] * rows[k, i] + rows[i, i] * rows[k, k]
        same = float(i == k)
        return {
            s.width: D,
            s.alignment: c,
            s.alignment_square: c**2,
            derivations.own_product: product if linear else product * (1 - same),
            derivations.repeat_share: same,
            derivations.tied_norms: norm[i] ** 2 + norm[k] ** 2,
            derivations.repeat_norm: norm[i] ** 2 * same,
        }
    return {s.width: D, s.alignment: c, s.alignment_square: c**2, s.field_square_sum: size}


@pytest.mark.parametrize("optimizer", derivations.OPTIMIZERS)
@pytest.mark.parametrize("layer", derivations.HEAD_LAYERS)
def test_moments_of_single_pairs(layer, optimizer, random):
    """Context and target apart and equal; the tied rows overlap, a relative order 1/d."""
    mean, rms = derivations.head_step(layer, optimizer)
    change = changed(random, layer, optimizer)
    inexact = 0.02 if layer == "tied" and optimizer != "sgd" else 0.0
    for i, k in PAIRS:
        numbers = values(layer, optimizer, i, k)
        sample = change[:, i, k]
        square = float(rms.expression.subs(numbers)) ** 2
        bias = np.mean(sample**2) / square - 1
        if inexact:
            assert abs(bias) < inexact + 4 * np.std(sample**2) / SEEDS**0.5 / square
        else:
            assert_mean(sample**2, square)
        assert_rejected(sample**2, 1.15 * square)
        signal = float(mean.expression.subs(numbers))
        assert abs(np.mean(sample) - signal) < 4 * np.std(sample) / SEEDS**0.5
        if abs(numbers[s.alignment]) > 0.4 and optimizer != "sgd":
            assert_rejected(sample, 1.1 * signal)


def test_the_crossover_is_where_the_two_powers_are_equal():
    for layer, factor in (("head", 2), ("embedding", 2), ("tied", 4)):
        crossing = derivations.head_crossover(layer).expression
        assert_same_expression(crossing, factor * (s.width - 1) / sp.pi)
    nu = derivations.context_exponent
    exponent = derivations.head_exponent("head")
    assert [exponent.subs(nu, one) for one in (0, sp.Rational(1, 2), 2)] == [
        1,
        sp.Rational(3, 4),
        sp.Rational(1, 2),
    ]


def test_moments_of_a_batch_of_pairs(random):
    """Fields and norms of multinomial pairs, and the alignment of pairs that are seen once."""
    batch, draws = 7, 40_000
    flow = P[:, None] * TABLE
    counts = random.multinomial(batch, flow.ravel(), size=draws).reshape(draws, M, M)
    gradient = (counts.sum(axis=2, keepdims=True) / M - counts) / batch
    i, k = 1, 2
    numbers = {
        s.batch_size: batch,
        s.outputs: M,
        s.frequency: P[i],
        derivations.target_probability: TABLE[i, k],
        derivations.target_frequency: flow[:, k].sum(),
        s.field_square_sum: float((P**2 * R[:, k] ** 2).sum()),
        s.residual_norm: float(np.linalg.norm(R[i])),
    }

    def number(expression: sp.Expr) -> float:
        return float(expression.subs(numbers))

    assert_mean((gradient[:, :, k] ** 2).sum(axis=1), number(derivations.batch_field().expression))
    assert_mean((gradient[:, i] ** 2).sum(axis=1), number(derivations.batch_row_norm().expression))
    rest = (counts[:, i].sum(axis=1) - counts[:, i, k]) / batch
    assert_mean(rest * gradient[:, i, k] ** 2, number(derivations.batch_rest_moment()))
    once = {**numbers, s.batch_size: 1}
    head, embedding = (derivations.batch_pair_alignment(one) for one in ("head", "embedding"))
    assert float(head.expression.subs(once)) == pytest.approx(1)
    assert float(embedding.expression.subs(once)) == pytest.approx(1 - 1 / M)


@pytest.mark.parametrize("layer", ["head", "embedding"])
def test_a_batch_of_all_pairs_is_the_full_batch(layer):
    i, k = 1, 2
    numbers = values(layer, "sign", i, k) | {
        s.outputs: M,
        s.frequency: P[i],
        derivations.target_probability: TABLE[i, k],
        derivations.target_frequency: float((P[:, None] * TABLE)[:, k].sum()),
        s.field_square_sum: float((P**2 * R[:, k] ** 2).sum()),
        s.residual_norm: float(np.linalg.norm(R[i])),
        s.batch_size: 10**9,
    }
    found = derivations.batch_pair_alignment(layer).expression.subs(numbers)
    assert float(found) == pytest.approx(numbers[s.alignment_square], rel=1e-6)


def test_many_outputs_share_the_embeddings_alignment(random):
    """c^2 = 1/n averaged over n outputs, whatever the residuals are."""
    n = 5
    w = random.standard_normal((SEEDS, n, D)) / D
    r = np.array([1.0, -2, 0.5, 3, 1])
    change = -first_direction("sign", r @ w)[:, None] @ w.swapaxes(1, 2)
    _, rms = derivations.first_step("embedding", "sign", many_outputs=True)
    square = float(rms.expression.subs({s.width: D, s.outputs: n})) ** 2
    assert_mean((change[:, 0] ** 2).mean(axis=1), square)
    _, one = derivations.first_step("embedding", "sign")
    assert_rejected((change[:, 0] ** 2).mean(axis=1), float(one.expression.subs({s.width: D})) ** 2)
    assert_same_expression(rms.expression.subs(s.outputs, 1), one.expression)


def test_muon_keeps_the_length_of_every_embedding(random):
    m, n, d = 24, 18, 8
    e = random.standard_normal((m, d))
    gradient = random.standard_normal((n, m)) @ e
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    change = e @ (left @ right).T
    numbers = {s.width: d, s.outputs: n, s.embedding_std: float(np.mean(e**2)) ** 0.5}
    expected = float(derivations.muon_head_rms().expression.subs(numbers))
    assert np.mean(change**2) ** 0.5 == pytest.approx(expected)
