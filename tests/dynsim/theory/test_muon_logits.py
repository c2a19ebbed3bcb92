"""Muon's step in the logits of a softmax head: against closed forms and orthogonalised matrices."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.integrate import quad

import derivations
from derivations import symbols
from dynsim import token_law
from dynsim._compiled import evaluate
from dynsim.theory import LOGITS, _muon_logits, head_step, muon_moves_targets
from dynsim.theory._muon_logits import _directions, _filter
from dynsim.tokens import Bigrams, bigrams_of, onehot_bigrams, random_bigrams
from tests.helpers import assert_refused

LAYERS = ("head", "embedding", "tied")
AS_MANY = {symbols.width: 1.0, symbols.vocab_size: 1.0}  # tokens as neurons
QUARTER_CIRCLE = float(evaluate(derivations.muon_coherent_fraction(), AS_MANY))


def mean_singular_value(count: int, width: float) -> float:
    """Of a Gaussian matrix of `count` x `width`, by the Marchenko-Pastur density."""
    from derivations._flow_symbols import aspect_ratio, eigenvalue

    ratio = count / width
    low, high = ((1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2)
    density = derivations.marchenko_pastur_density()

    def weighted(angle: float) -> float:
        x = low + (high - low) * np.sin(angle) ** 2
        values = {aspect_ratio: ratio, eigenvalue: x}
        change = (high - low) * np.sin(2 * angle)
        return float(evaluate(density, values)) * x**0.5 * change

    total = quad(weighted, 1e-9, np.pi / 2 - 1e-9)[0]
    return total * width**0.5 / ratio  # per row of the density's eigenvalues


@pytest.mark.parametrize("width", [16.0, 64.0, 200.0])
def test_equal_values_are_moved_by_the_mean_singular_value(width):
    """h = E[tr (Z Z^T)^(1/2)] / r for r equal values, Z of r x d: Marchenko and Pastur's law."""
    r = 96
    squares = np.full(r, 0.04)
    expected = mean_singular_value(r, width)
    assert 0.2 * _filter(squares, width).mean[0] == pytest.approx(expected, rel=1e-5)


def test_as_many_equal_values_as_neurons_have_the_quarter_circle():
    """8/(3 pi) sqrt(d), the coherent fraction of Muon at full rank."""
    found = _filter(np.ones(64), 64.0).mean[0]
    assert found == pytest.approx(QUARTER_CIRCLE * 8, rel=1e-5)


def test_small_values_are_moved_in_proportion_and_large_ones_alike():
    squares = np.concatenate([np.full(8, 1.0), np.full(2000, 1e-6)])
    found = np.sqrt(squares) * _filter(squares, 128.0).mean
    assert found[0] == pytest.approx(128**0.5, rel=0.05)
    tail = np.array([1e-7, 4e-7])
    both = np.sqrt(tail) * _filter(np.concatenate([tail, squares]), 128.0).mean[:2]
    assert both[1] / both[0] == pytest.approx(2, rel=0.1)


def simulated(layer, law, bigrams, width, networks, seed):
    """Mean over targets and mean squares over targets and all, with the error of each."""
    p, n = law.frequencies, bigrams.outputs
    table = np.zeros((len(p), n))
    table[bigrams.context, bigrams.target] = bigrams.probability
    weighted = p[:, None] * (1 / n - table)
    follows = p[:, None] * table
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(networks):
        e, w = (random.standard_normal((size, width)) for size in (len(p), n))
        if layer == "head":
            change = -e @ orthogonal(weighted.T @ e).T
        elif layer == "embedding":
            change = -orthogonal(weighted @ w) @ w.T
        else:
            moved = orthogonal((weighted + weighted.T) @ e)
            change = -(moved @ e.T + e @ moved.T)
        square = change**2
        rows.append(
            [np.sum(follows * change), np.sum(follows * square), np.sum(p[:, None] * square) / n]
        )
    return np.mean(rows, axis=0), np.std(rows, axis=0) / networks**0.5


def orthogonal(gradient):
    left, values, right = np.linalg.svd(gradient, full_matrices=False)
    kept = values > 1e-11 * values[0]
    return left[:, kept] @ right[kept]


@pytest.mark.parametrize("width", [12.0, 24.0, 60.0])
@pytest.mark.parametrize("layer", LAYERS)
def test_second_moments_are_the_sums_over_all_pairs_of_directions(layer, width):
    """mean^2 + sum_ab v_a^2 q_ab x_b^2 + sum_ab v_a x_a q_ab v_b x_b, with q in full."""
    law = token_law("zipf:1", 24)
    bigrams = random_bigrams(law, 24 if layer == "tied" else 18, followers=3)
    step = head_step(layer, "muon", width, law, bigrams)
    p, n = law.frequencies, bigrams.outputs
    table = np.zeros((24, n))
    table[bigrams.context, bigrams.target] = bigrams.probability
    weighted = p[:, None] * (1 / n - table)
    weighted = weighted + weighted.T if layer == "tied" else weighted
    left, values, right = np.linalg.svd(weighted)
    squares = np.zeros(24)
    squares[: len(values)] = values**2
    variance, diagonal = in_full(squares, width)
    if layer == "tied":
        signed, both = np.linalg.eigh(weighted)
        variance, diagonal = in_full(signed**2, width)
        sums = (signed[:, None] + signed) ** 2 * variance
        apart = np.einsum("ab,ia,kb->ik", sums, both**2, both**2)
        joint = np.einsum("ab,ia,ka,ib,kb->ik", sums, both, both, both, both, optimize=True)
        mean = 2 * (both * signed * diagonal) @ both.T
    else:
        here, there = (right.T, left) if layer == "head" else (left, right.T)
        kept = len(values)
        there_variance = variance[:kept, : there.shape[1]]
        apart = np.einsum(
            "a,ab,ia,kb->ik", values**2, there_variance, here[:, :kept] ** 2, there**2
        )
        product = np.einsum("a,ia,ka->ika", values, here[:, :kept], there[:, :kept])
        joint = np.einsum("ika,ab,ikb->ik", product, variance[:kept, :kept], product)
        mean = product @ diagonal[:kept]
        if layer == "head":
            apart, joint, mean = apart.T, joint.T, mean.T
    square = (mean**2 + apart + joint) * (1 if layer == "head" else width**-2)
    expected = [np.sum(p[:, None] * table * square), np.sum(p[:, None] * square) / n]
    np.testing.assert_allclose(step.rms[[0, 2], 0] ** 2, expected, rtol=1e-5)


def in_full(squares, width):
    """Variances of Q_ab and means of Q_aa at all squares, those that are zero among them."""
    kept = {}

    def noted(positive, edge, levels, core):
        kept.update(levels=levels, core=core)
        return np.zeros((len(positive), 1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_muon_logits, "_parts", noted)
        found = _filter(squares[squares > 1e-24], width)
    resolvent = 1 / (squares[:, None] + kept["levels"])
    variance = np.einsum(
        "ak,al,kl,bk,bl->ab",
        resolvent,
        resolvent,
        kept["core"],
        resolvent,
        resolvent,
        optimize=True,
    )
    mean = np.zeros_like(squares)
    mean[squares > 1e-24] = found.mean
    return variance, mean


def test_a_table_that_lacks_rank_keeps_its_own_directions_alone():
    """Uniform tokens with one target each: as many values as different targets, but for one."""
    law = token_law("uniform", 64)
    bigrams = random_bigrams(law, 64, followers=1)
    rank = len(np.unique(bigrams.target))
    table = np.zeros((64, 64))
    table[bigrams.context, bigrams.target] = 1
    exact = np.linalg.matrix_rank(1 / 64 - table)
    for layer in ("head", "embedding"):
        assert len(_directions(layer, law.frequencies, bigrams).values) == exact <= rank
    found, error = simulated("embedding", law, bigrams, 64, 40, 5)
    step = head_step("embedding", "muon", 64, law, bigrams)
    other = (64 * step.rms[2, 0] ** 2 - step.rms[0, 0] ** 2) * 64**2
    measured = 64 * found[2] - found[1]
    assert abs(other - measured) < 4 * 64 * error[2] + measured / 64


def test_no_residual_is_no_step():
    context, target = (one.ravel() for one in np.indices((4, 4)))
    every = Bigrams(context, target, np.full(16, 0.25), 4, 4)
    for layer in LAYERS:
        step = head_step(layer, "muon", 4, token_law("uniform", 4), every)
        np.testing.assert_array_equal(step.rms, 0)


CASES = {
    "more tokens than neurons": ("zipf:1", 150, 150, 48),
    "more neurons than tokens": ("zipf:1", 60, 60, 96),
    "few classes": ("zipf:0.7", 150, 40, 24),
    "fewer classes than neurons": ("uniform", 100, 24, 64),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layer", LAYERS)
def test_moments_are_those_of_orthogonalised_gradients(layer, case):
    tokens, m, n, width = CASES[case]
    if layer == "tied" and n != m:
        return
    law = token_law(tokens, m)
    bigrams = random_bigrams(law, n, followers=4, seed=3)
    step = head_step(layer, "muon", width, law, bigrams)
    scale = 1 if layer == "head" else width  # entries of the head start at 1/width
    target, every = LOGITS.index("target"), LOGITS.index("all")
    squares = (scale * step.rms[[target, every], 0]) ** 2
    derived = np.array([scale * step.mean[target, 0], *squares])
    found, error = simulated(layer, law, bigrams, width, 40, 7)
    assert np.all(np.abs(derived - found) < 4 * error + 2 * found / width)


@pytest.mark.parametrize("width", [16, 64])
def test_all_logits_of_a_head_share_the_length_of_an_embedding(width):
    law = token_law("zipf:1", 256)
    step = head_step("head", "muon", width, law, random_bigrams(law, 256, followers=8))
    assert step.rms[2, 0] == pytest.approx((width / 256) ** 0.5, rel=0.2 / width)
    assert step.local_exponent[2, 0] == pytest.approx(0.5, abs=0.2 / width)


def test_the_local_exponent_is_the_slope_of_the_rms():
    law = token_law("zipf:1", 128)
    bigrams = bigrams_of("random:4", law, 128)
    for layer in LAYERS:
        step = head_step(layer, "muon", [30, 32, 34], law, bigrams)
        slope = np.log(step.rms[:, 2] / step.rms[:, 0]) / np.log(34 / 30)
        np.testing.assert_allclose(step.local_exponent[:, 1], slope, atol=1e-3)


def test_progress_adds_up_to_the_whole():
    law, parts = token_law("zipf:1", 40), []
    head_step("head", "muon", [8, 16], law, bigrams_of("random:4", law, 40), progress=parts.append)
    assert len(parts) >= 4
    assert sum(parts) == pytest.approx(1)


def test_one_context_is_part_of_the_average():
    law = token_law("zipf:1", 40)
    bigrams = bigrams_of("random:4", law, 40)
    whole = head_step("head", "muon", 16, law, bigrams)
    squares = [
        head_step("head", "muon", 16, law, bigrams, rank=rank).rms[:, 0] ** 2
        for rank in range(1, 41)
    ]
    np.testing.assert_allclose(law.frequencies @ squares, whole.rms[:, 0] ** 2)


def test_directions_are_singular_vectors_whichever_side_is_smaller():
    law = token_law("zipf:1", 30)
    for layer, n in (("head", 30), ("embedding", 30), ("head", 12), ("embedding", 12)):
        bigrams = random_bigrams(law, n, followers=3)
        table = np.zeros((30, n))
        table[bigrams.context, bigrams.target] = bigrams.probability
        weighted = law.frequencies[:, None] * (1 / n - table)
        found = _directions(layer, law.frequencies, bigrams)
        np.testing.assert_allclose(
            (found.contexts * found.values) @ found.targets.T, weighted, atol=1e-12
        )


def test_every_token_with_a_target_of_its_own_is_known_in_closed_form():
    """V = (1/n - I)/m has 31 equal values; the mean on targets is h (1 - 1/m) sigma_W."""
    m, one_each = 32, np.arange(32)
    step = head_step(
        "embedding",
        "muon",
        16,
        token_law("uniform", m),
        Bigrams(one_each, one_each, np.ones(m), m, m),
    )
    expected = mean_singular_value(m - 1, 16.0) * (1 - 1 / m) / 16
    assert step.mean[0, 0] == pytest.approx(expected, rel=1e-5)


def test_too_many_singular_values_leave_the_head_alone():
    assert muon_moves_targets(4096, 4096)
    assert not muon_moves_targets(2**15, 4096)
    law = token_law("uniform", 4097)
    step = partial(head_step, optimizer="muon", law=law, bigrams=onehot_bigrams(4097, 4097))
    found = step("head", width=64)
    assert np.isnan(found.rms[:2]).all()
    assert found.rms[2, 0] == pytest.approx((64 / 4097) ** 0.5)
    assert_refused("vocab_size", lambda: step("embedding", width=64), "at most 4096")
    assert_refused("vocab_size", lambda: step("tied", width=64), "at most 4096")
    assert_refused("width", lambda: step("head", width=4098), "at most")
