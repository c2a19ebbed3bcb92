"""The first step of a head at numbers: against dense sums, known cases and whole networks."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

import dynsim
from dynsim import TokenLaw, token_law
from dynsim.theory import first_step, head_step, pair_alignment, self_term_rms, self_term_step
from dynsim.tokens import Bigrams, bigrams_of, onehot_bigrams, random_bigrams
from experiments.topics._stored import stored_study
from experiments.topics.first_step.networks import LAYERS, HeadNetwork
from tests.helpers import assert_refused

PAIRS = Path(__file__).parents[2] / "data" / "library_pairs.npz"
LAW = token_law("zipf:0.7", 40)
BIGRAMS = random_bigrams(LAW, 40, followers=4, seed=1)
FEW = random_bigrams(LAW, 7, followers=4, seed=1)


def alignments(layer: str, bigrams) -> np.ndarray:
    """c of all pairs from the dense table."""
    p, n = LAW.frequencies, bigrams.outputs
    table = np.zeros((len(p), n))
    table[bigrams.context, bigrams.target] = bigrams.probability
    weighted = p[:, None] * (1 / n - table)
    if layer == "head":
        return weighted / np.linalg.norm(weighted, axis=0)
    if layer == "embedding":
        return weighted / np.linalg.norm(weighted, axis=1, keepdims=True)
    both = weighted + weighted.T
    rows = both / np.linalg.norm(both, axis=1, keepdims=True)
    return (rows + rows.T) / 2


@pytest.mark.parametrize(
    ("layer", "bigrams"),
    [*((layer, BIGRAMS) for layer in LAYERS), ("head", FEW), ("embedding", FEW)],
)
@pytest.mark.parametrize("rank", [None, 3])
def test_averages_are_those_of_the_dense_alignment(layer, bigrams, rank):
    """Mean squares over targets and over all other logits, of all contexts or one."""
    c = alignments(layer, bigrams)
    n = bigrams.outputs
    seen = LAW.frequencies if rank is None else np.eye(40)[rank - 1]
    table = np.zeros_like(c)
    table[bigrams.context, bigrams.target] = bigrams.probability
    weights = (
        seen[:, None] * table,
        seen[:, None] * (1 - table) / (n - 1),
        np.broadcast_to(seen[:, None] / n, c.shape),
    )
    step = head_step(layer, "sign", 16, LAW, bigrams, rank=rank)
    expected = [np.sum(weight * c**2) for weight in weights]
    np.testing.assert_allclose(step.alignment_square, expected)
    gain = {"head": 16, "embedding": 1, "tied": 2}[layer] * (2 / np.pi) ** 0.5
    np.testing.assert_allclose(
        step.mean[:, 0], [-gain * np.sum(weight * c) for weight in weights], atol=1e-12
    )
    listed = pair_alignment(layer, LAW, bigrams)
    np.testing.assert_allclose(listed, c[bigrams.context, bigrams.target])


def test_two_classes_are_one_output_with_equal_residuals():
    """r = +1/2 and -1/2: the formula of the projection, and of an embedding with two outputs."""
    bigrams = onehot_bigrams(40, 2)
    widths = [8.0, 64.0]
    head = head_step("head", "sign", widths, LAW, bigrams)
    projection = first_step("projection", "sign", widths, LAW)
    below = head_step("embedding", "sign", widths, LAW, bigrams)
    embedding = first_step("embedding", "sign", widths, LAW, outputs=2)
    for logits in range(3):
        np.testing.assert_allclose(head.rms[logits], projection.rms)
        np.testing.assert_allclose(head.local_exponent[logits], projection.local_exponent)
        np.testing.assert_allclose(below.rms[logits], embedding.rms)
    assert abs(float(first_step("embedding", "sign", 64, LAW).rms) / below.rms[0, 1] - 1) > 0.3


@pytest.mark.parametrize("layer", LAYERS)
def test_networks_with_a_softmax_change_as_derived(layer):
    """160 networks with real residuals, m = n = 40 and d = 32, within 2.5 %; others are off."""
    squares = np.mean(
        [
            HeadNetwork.drawn(BIGRAMS, LAW.frequencies, 32, seed).mean_squares()
            for seed in range(160)
        ],
        axis=0,
    )
    found = squares[LAYERS.index(layer)] ** 0.5
    step = head_step(layer, "sign", 32, LAW, BIGRAMS)
    np.testing.assert_allclose(found, step.rms[:2, 0], rtol=0.025)
    other = random_bigrams(LAW, 40, followers=1, seed=1)
    wrong = head_step(layer, "sign", 32, LAW, other)
    assert np.max(np.abs(found / wrong.rms[:2, 0] - 1)) > 0.03


@pytest.mark.parametrize("optimizer", ["sign", "sgd"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("batch_size", [1, 16, 400])
def test_a_mini_batch_of_pairs(layer, optimizer, batch_size, random):
    """Within 3 %: a ratio of averages, or averages over drawn batches.

    A batch of one pair aligns its own target fully.
    """
    p, n, d = LAW.frequencies, 40, 24
    flow = np.zeros((40, n))
    flow[BIGRAMS.context, BIGRAMS.target] = p[BIGRAMS.context] * BIGRAMS.probability
    found = np.zeros(2)
    draws = 600
    direction = np.sign if optimizer == "sign" else np.asarray
    for _ in range(draws):
        share = random.multinomial(batch_size, flow.ravel()).reshape(flow.shape) / batch_size
        gradient = share.sum(axis=1, keepdims=True) / n - share
        e, w = random.standard_normal((40, d)), random.standard_normal((n, d)) / d
        if layer == "tied":
            moved = direction((gradient + gradient.T) @ e)
            change = (moved @ e.T + e @ moved.T) / d
            change /= d if optimizer == "sgd" else 1  # the gradient too has logits over d
        elif layer == "head":
            change = e @ direction(gradient.T @ e).T
        else:
            change = direction(gradient @ w) @ w.T
        everywhere = share.sum(axis=1, keepdims=True) / n
        found += np.sum(share * change**2), np.sum(everywhere * change**2)
    step = head_step(layer, optimizer, d, LAW, BIGRAMS, batch_size=batch_size)
    within = 0.03 if optimizer == "sign" else 0.05  # squares of gradients scatter more
    np.testing.assert_allclose((found / draws) ** 0.5, step.rms[[0, 2], 0], rtol=within)
    full = head_step(layer, optimizer, d, LAW, BIGRAMS)
    assert step.rms[0, 0] > full.rms[0, 0]


def test_what_is_not_derived_is_refused():
    step = partial(head_step, width=8, law=LAW, bigrams=BIGRAMS)
    assert_refused("outputs", lambda: head_step("tied", "sign", 8, LAW, FEW), "40")
    assert_refused("batch_size", lambda: step("head", "muon", batch_size=4), "not derived")
    assert_refused("rank", lambda: step("head", "sign", rank=41))
    assert_refused("tokens", lambda: bigrams_of("bigram", LAW, 40), "corpus")
    assert_refused("targets", lambda: bigrams_of("random:0", LAW, 40))
    assert_refused("outputs", lambda: first_step("hidden", "sign", 8, LAW, outputs=2))


def test_the_self_term_is_refused_where_its_sums_scatter():
    """Zipf tokens and narrow networks; of uniform ones its exponent is that of the formula."""
    uniform = token_law("uniform", 4096)
    assert_refused("tokens", lambda: self_term_rms(128, token_law("zipf:1", 4096), init="sp"))
    assert_refused("width", lambda: self_term_rms(16, uniform, init="sp"))
    step = self_term_step(128, uniform, init="sp")
    assert step.kappa == pytest.approx((4096 / (2 * 128)) ** 0.5)
    widths = 128 * np.exp([-0.01, 0.01])
    narrow, wide = np.asarray(self_term_rms(widths, uniform, init="sp")[1])
    assert step.local_exponent == pytest.approx(np.log(wide / narrow) / 0.02, abs=1e-4)
    plain = dynsim.first_step("projection", "sign", 128, uniform, init="sp")
    assert step.rms > 1.005 * float(plain.rms)


def text_bigrams(vocab_size: int) -> tuple[TokenLaw, Bigrams]:
    """Pairs of tokens in the standard library of Python 3.11, counted once, since to cut it into
    byte pairs takes a minute: pairs m context + target as differences, and how often each occurs.
    """
    with np.load(PAIRS) as counted:
        pairs = np.cumsum(counted[f"gap{vocab_size}"].astype(np.int64))
        counts = counted[f"count{vocab_size}"].astype(np.float64)
    context, target = pairs // vocab_size, pairs % vocab_size
    of_context = np.bincount(context, counts, minlength=vocab_size)
    law = TokenLaw("counts", of_context / counts.sum())
    share = counts / of_context[context]
    return law, Bigrams(context, target, share, vocab_size, vocab_size, law.frequencies)


def test_bigrams_of_text_give_the_slopes_that_networks_have():
    """m = 8 d, d = 32 to 128: of targets and of all logits, over all sizes and the larger two. The
    powers 1 and 1/2 of a fixed number of contexts are far off where the vocabulary is bytes."""
    widths = np.array([32, 64, 128])
    derived = []
    for width in widths:
        law, bigrams = text_bigrams(8 * int(width))
        derived.append(head_step("head", "sign", width, law, bigrams).rms[[0, 2], 0])
    cell = stored_study("head_updates").sel(path="proportional", optimizer="adam", head="untied")
    sizes = cell["size"].sel(moment=0, width=widths, update=["head_target", "head_all"])
    measured = 0.5 * np.log(sizes.mean("seed").transpose("width", "update").to_numpy())
    for places in ([0, 1, 2], [1, 2]):
        theory, networks = (
            np.polyfit(np.log(widths[places]), logs[places], 1)[0]
            for logs in (np.log(derived), measured)
        )
        np.testing.assert_allclose(theory, networks, atol=0.04)
    np.testing.assert_allclose(theory, [1.01, 0.61], atol=0.03)
    whole = np.polyfit(np.log(widths), np.log(derived), 1)[0]
    assert np.all(np.abs(whole - [1, 0.5]) > 0.2)
