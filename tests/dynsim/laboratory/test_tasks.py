"""Batches and evaluations: token laws, text windows, and what is never trained on."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_refused
from scipy.stats import chisquare

from dynsim import targets
from dynsim.laboratory import NetworkSetup, task
from dynsim.laboratory import _tasks as tasks
from dynsim.tokens._corpus import CorpusTokens, corpus_tokens

pytestmark = pytest.mark.usefixtures("quick_compilation")

TABLE = NetworkSetup(network="mlp", vocab_size=7, tokens="zipf:0.8", outputs=3)
SEQUENCES = dataclasses.replace(
    TABLE, network="transformer", width=16, context=5, batch_size=20, precision="float64"
)


def text_setup(folder, **fields) -> NetworkSetup:
    values = {
        "network": "transformer",
        "vocab_size": 300,
        "targets": "next-token",
        "tokens": f"corpus:{folder}",
        "context": 8,
        "batch_size": 24,
    }
    return NetworkSetup(**values | fields)


def counter(tokens: int, types: int = 300) -> CorpusTokens:
    """A text whose tokens are their own places: windows can be told apart."""
    return CorpusTokens(np.arange(tokens, dtype=np.uint32), types)


def batches(drawn, count: int) -> tasks.Batch:
    keys = jax.random.split(jax.random.key(3), count)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(drawn.batch))(keys))


def test_the_whole_law_is_one_batch():
    drawn = task(TABLE)
    for batch in (drawn.batch(jax.random.key(0)), drawn.evaluation()):
        assert batch.tokens[:, 0].tolist() == list(range(7))
        np.testing.assert_allclose(batch.weights[:, 0], TABLE.law().frequencies, 1e-6)
        np.testing.assert_allclose(batch.targets[:, 0], targets(TABLE), rtol=1e-6)
        assert batch.targets.dtype == batch.weights.dtype == "float32"


@pytest.mark.parametrize("setup", [dataclasses.replace(TABLE, batch_size=20), SEQUENCES])
def test_batches_are_independent_draws_from_the_law(setup):
    drawn = task(setup)
    batch = batches(drawn, 400)
    assert batch.tokens.shape == (400, 20 // setup.sequence_length, setup.sequence_length)
    law = setup.law().frequencies
    counts = np.bincount(batch.tokens.ravel(), minlength=7)
    assert chisquare(counts, counts.sum() * law).pvalue > 0.01
    assert chisquare(counts, np.full(7, counts.sum() / 7)).pvalue < 1e-6  # the law, not uniform
    pairs = np.bincount(batch.tokens.reshape(-1, 2) @ [7, 1], minlength=49)
    assert chisquare(pairs, pairs.sum() * np.outer(law, law).ravel()).pvalue > 0.01
    np.testing.assert_allclose(batch.weights.sum((1, 2)), 1, rtol=1e-5)
    assert len(np.unique(batch.weights)) == 1
    table = targets(setup)
    np.testing.assert_allclose(batch.targets, table[batch.tokens], rtol=1e-6)
    assert batch.targets.dtype == ("float64" if setup.precision == "float64" else "float32")


def test_a_type_that_never_occurs_is_never_drawn(tmp_path):
    counts = tmp_path / "counts.txt"
    counts.write_text("5\n3\n0\n0\n")
    setup = dataclasses.replace(
        TABLE, tokens=f"counts:{counts}", vocab_size=4, batch_size=32, seed=1
    )
    assert set(np.unique(batches(task(setup), 50).tokens)) == {0, 1}


def test_evaluations_of_sequences_are_one_fixed_draw():
    first, again = task(SEQUENCES).evaluation(), task(SEQUENCES).evaluation()
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left, right)
    assert first.tokens.shape == (4096 // 5, 5)
    assert float(first.weights.sum()) == pytest.approx(1)
    longer = dataclasses.replace(SEQUENCES, context=5000, batch_size=5000)
    assert task(longer).evaluation().tokens.shape == (1, 5000)


@pytest.mark.parametrize("tokens", [1, 7, 40, 1000])
def test_pieces_hold_the_whole_evaluation(tokens):
    random = np.random.default_rng(0)
    batch = tasks.Batch(
        *(jnp.asarray(random.normal(size=size)) for size in ((13, 5), (13, 5, 3), (13, 5)))
    )
    pieces = batch.in_pieces(tokens)
    count, size, length = pieces.tokens.shape
    assert length == 5
    assert size * length <= max(tokens, length)
    for whole, cut in zip(batch, pieces, strict=True):
        rows = np.asarray(cut).reshape(-1, *whole.shape[1:])
        np.testing.assert_array_equal(rows[:13], whole)
        assert not rows[13:].any()  # filled up at weight zero
    assert count * size < 13 + count


def test_windows_are_consecutive_tokens_of_the_training_text(text_folder):
    setup = text_setup(text_folder)
    drawn = task(setup)
    stream = corpus_tokens(str(text_folder), 300).stream.astype(np.int64)
    assert len(stream) > 100_000
    windows = np.lib.stride_tricks.sliding_window_view(stream, 9)
    known = {window.tobytes() for window in windows}
    batch = batches(drawn, 40)
    assert batch.tokens.shape == batch.targets.shape == (40, 3, 8)
    whole = np.concatenate([batch.tokens, batch.targets[..., -1:]], -1).astype(np.int64)
    np.testing.assert_array_equal(whole[..., 1:], batch.targets)
    assert all(window.tobytes() in known for window in whole.reshape(-1, 9))
    assert len({window.tobytes() for window in whole.reshape(-1, 9)}) > 100
    np.testing.assert_allclose(batch.weights, 1 / 24, rtol=1e-6)


@pytest.mark.parametrize(
    ("length", "sequence"),
    [
        *((length, 1) for length in (24, 60, 1_000, 20_000, 65_432)),
        *((length, 10) for length in (24, 60, 1_000, 20_000, 65_432)),
        *((length, 1500) for length in (3_004, 20_000, 65_432)),
    ],
)
def test_validation_is_never_trained_on(length, sequence):
    training, validation = tasks.text_split(counter(length), sequence)
    assert validation.shape[1] == sequence + 1
    assert len(np.intersect1d(training, validation)) == 0
    for part in (training, validation):
        assert np.all(np.diff(part, axis=1) == 1)  # stretches of the text
        assert len(np.unique(part)) == part.size
    assert training.shape[1] > sequence
    rows = training.shape[0]
    if length > 20 * (sequence + 1):  # long enough for nine tenths, up to rounding
        assert length * 9 / 10 - 9 * rows <= training.size <= length * 9 / 10
    assert 1 <= len(validation) <= max(1, 4096 // sequence)


def test_every_window_of_the_training_text_is_drawn_and_no_other():
    """A text of 60 tokens, sequences of 4: every start of the stretch, none beyond its end."""
    training, validation = tasks.text_split(counter(60), 4)
    drawn = tasks.TextTask(jnp.asarray(training), jnp.asarray(validation), 400, 4, 60, "float32")
    batch = batches(drawn, 20)
    assert set(np.unique(batch.tokens[..., 0])) == set(training[0, :-4].tolist())
    assert batch.targets.max() == training.max()
    assert not np.isin(batch.targets, validation).any()
    starts = np.bincount(batch.tokens[..., 0].ravel(), minlength=60)[: training.shape[1] - 4]
    assert chisquare(starts).pvalue > 0.01


def test_rare_tokens_are_one_class(text_folder):
    setup = text_setup(text_folder, outputs=10, network="mlp", batch_size=50, precision="float64")
    evaluation, batch = task(setup).evaluation(), batches(task(setup), 5)
    assert evaluation.tokens.shape == (4096, 1)
    assert evaluation.tokens.max() > 9  # rare tokens are still read
    assert batch.targets.max() == evaluation.targets.max() == 9
    assert evaluation.weights.dtype == "float64"
    stream = corpus_tokens(str(text_folder), 300).stream
    share = np.mean(stream >= 9)
    assert np.mean(np.asarray(evaluation.targets) == 9) == pytest.approx(share, abs=0.05)
    for left, right in zip(evaluation, task(setup).evaluation(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_texts_that_are_too_short(tmp_path):
    file = tmp_path / "short.txt"
    file.write_text("a b c d e f g h i j k l")
    short = text_setup(file, vocab_size=256)
    assert_refused("--tokens", lambda: task(dataclasses.replace(short, context=24)), "52 tokens")
    assert_refused("--batch-size", lambda: task(short), "at most", "training tokens")
    one = dataclasses.replace(short, network="mlp", batch_size=4)
    assert task(one).batch(jax.random.key(0)).tokens.shape == (4, 1)
    file.write_text("abc")
    assert_refused("--tokens", lambda: task(one), "6 tokens")
    assert_refused("--vocab-size", lambda: task(dataclasses.replace(one, vocab_size=300)))
    assert_refused("--tokens", lambda: task(text_setup(tmp_path / "nowhere")))


def test_bigram_targets_are_the_text_s(text_folder):
    setup = NetworkSetup(
        targets="bigram", tokens=f"corpus:{text_folder}", vocab_size=300, outputs=5, batch_size=9
    )
    batch = task(setup).batch(jax.random.key(1))
    stream = corpus_tokens(str(text_folder), 300).stream
    for token, target in zip(batch.tokens[:, 0], batch.targets[:, 0], strict=True):
        following = np.minimum(stream[1:][stream[:-1] == token], 4)
        np.testing.assert_allclose(
            target, np.bincount(following, minlength=5) / len(following), 1e-5
        )
