"""What toy networks learn: tables of targets, or the next token of a text.

A task is a tree of arrays. `batch` is what one step sees; it is `at` what is `drawn` with a key,
since to draw for many steps at once takes hardly longer than for one. Equal tokens of a table may
be `merged` in between, which changes no loss. `evaluation` is what losses are reported on.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from dynsim._draws import uniform
from dynsim._errors import InputError
from dynsim._network_setup import NetworkSetup
from dynsim._runs import drawn_tokens, running_sum
from dynsim._targets import has_sparse_targets, sparse_targets, targets
from dynsim.tokens._corpus import CorpusTokens, corpus_tokens

from ._head import Pairs, bigram_pairs
from ._networks import network_shape

EVALUATION_TOKENS = 4096
EVALUATION_PIECE = 256  # tokens of the evaluation that are held at once, or a batch's if more
VALIDATION_SHARE = 10  # every tenth block of a text
BLOCK_TOKENS = 1024
DEVIATIONS = 4  # above the mean number of types, for which a batch has room at least
ROOM_STEPS = 16  # in a batch: seeds and laws that differ little share a compiled program
MERGED_SHARE = 0.75  # of a batch's tokens: with hardly fewer types than tokens, they stay apart


class Batch(NamedTuple):
    """Tokens (S, C), the target of each, (S, C, n) or class (S, C), and weights (S, C) of sum 1.

    Of a head with many outputs the whole law's targets are sparse pairs.
    """

    tokens: Array
    targets: Array | Pairs
    weights: Array

    def without_sequences(self) -> Batch:
        """The same as S x C single tokens.

        For networks that see no sequence: XLA's loops over (S, 1, n) take longer than over (S, n),
        a fifth of a narrow network's step.
        """
        targets = self.targets
        if not isinstance(targets, Pairs):
            targets = targets.reshape(-1, *targets.shape[self.tokens.ndim :])
        return Batch(self.tokens.ravel(), targets, self.weights.ravel())

    def in_pieces(self, tokens: int) -> Batch:
        """The same cut into K equal pieces of at most `tokens` tokens (or of one sequence), with
        a leading axis K; the last is filled up at weight 0."""
        rows, length = self.tokens.shape
        count = math.ceil(rows / max(1, tokens // length))
        size = math.ceil(rows / count)

        def cut(x: Array) -> Array:
            filled = jnp.pad(x, [(0, count * size - rows)] + [(0, 0)] * (x.ndim - 1))
            return filled.reshape(count, size, *x.shape[1:])

        assert not isinstance(self.targets, Pairs)
        return Batch(cut(self.tokens), cut(self.targets), cut(self.weights))


def merged(tokens: Array, room: int) -> tuple[Array, Array]:
    """The types of a batch in increasing order (U, 1), and how often each occurs (U, 1).

    `room` is U, at least the number of distinct types; places that are left over count nothing.
    Takes a quarter of the time of `jnp.unique_counts` on a CPU, which sorts indices too.
    """
    ordered, new = _ordered(tokens)
    place = jnp.cumsum(new)
    types = jnp.full(room, ordered[0]).at[place].set(ordered, mode="drop")
    counts = jnp.zeros(room, tokens.dtype).at[place].add(1, mode="drop")
    return types[:, None], counts[:, None]


def distinct(tokens: Array) -> Array:
    """The number of types of a batch."""
    return 1 + jnp.count_nonzero(_ordered(tokens)[1])


def _ordered(tokens: Array) -> tuple[Array, Array]:
    """In increasing order, and where the type is another than the one before."""
    ordered = jnp.sort(tokens, axis=None)
    return ordered, jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]])


class TableTask(eqx.Module):
    """Each token type has a target; tokens are independent draws from the token law.

    Without a batch size a batch is every token type once, weighted by its frequency.
    """

    frequencies: Array
    cumulative: Array
    table: Array | Pairs
    batch_size: int = eqx.field(static=True)
    sequence: int = eqx.field(static=True)

    def drawn(self, key: Array) -> Array:
        """The independent tokens of a batch (S, C); nothing in full batch."""
        return self._tokens(key, self.batch_size)

    def at(self, drawn: Array, counts: Array | None = None) -> Batch:
        """The batch of these tokens, each as often as it `counts`; or the whole law."""
        return self._law() if self.batch_size == 0 else self._batch_of(drawn, counts)

    def batch(self, key: Array) -> Batch:
        """A batch of independent tokens, or the whole law."""
        return self.at(self.drawn(key))

    def evaluation(self) -> Batch:
        """The whole law; for sequences a fixed draw of 4096 tokens or one sequence."""
        if self.sequence == 1:
            return self._law()
        count = max(1, EVALUATION_TOKENS // self.sequence) * self.sequence
        return self._batch_of(self._tokens(jax.random.key(0x5EED), count))

    def _law(self) -> Batch:
        tokens = jnp.arange(len(self.frequencies))[:, None]
        table = self.table if isinstance(self.table, Pairs) else self.table[:, None]
        return Batch(tokens, table, self.frequencies[:, None])

    def _tokens(self, key: Array, count: int) -> Array:
        return drawn_tokens(key, self.cumulative, (count // self.sequence, self.sequence))

    def _batch_of(self, tokens: Array, counts: Array | None = None) -> Batch:
        assert not isinstance(self.table, Pairs)
        dtype = self.frequencies.dtype
        if counts is None:
            weights = jnp.full(tokens.shape, 1 / tokens.size, dtype)
        else:
            weights = counts.astype(dtype) / self.batch_size
        return Batch(tokens, self.table[tokens], weights)


class TextTask(eqx.Module):
    """The next token of a text; class n - 1 is every token from rank n - 1 on.

    `training` (R, length) are stretches of the text, `validation` (V, sequence + 1) windows from
    the tenth of the text that is never trained on.
    """

    training: Array
    validation: Array
    batch_size: int = eqx.field(static=True)
    sequence: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    dtype: str = eqx.field(static=True)

    def drawn(self, key: Array) -> Array:
        """Uniform numbers (2, S), which say where windows lie."""
        return uniform(key, (2, self.batch_size // self.sequence))

    def at(self, drawn: Array) -> Batch:
        """The windows of the training text at these places."""
        rows, length = self.training.shape
        row = jnp.minimum((drawn[0] * rows).astype(int), rows - 1)
        starts = length - self.sequence
        start = jnp.minimum((drawn[1] * starts).astype(int), starts - 1)
        places = start[:, None] + jnp.arange(self.sequence + 1)[None, :]
        return self._windows(self.training[row[:, None], places])

    def batch(self, key: Array) -> Batch:
        """Windows at random places of the training text."""
        return self.at(self.drawn(key))

    def evaluation(self) -> Batch:
        """The validation windows."""
        return self._windows(self.validation)

    def _windows(self, windows: Array) -> Batch:
        tokens, following = windows[:, :-1], windows[:, 1:]
        weights = jnp.full(tokens.shape, 1 / tokens.size, self.dtype)
        return Batch(tokens, jnp.minimum(following, self.outputs - 1), weights)


Task = TableTask | TextTask


def task(setup: NetworkSetup) -> Task:
    """The setup's task. Raises `InputError` for a text that is too short for it.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import task
    >>> type(task(NetworkSetup(network="mlp", vocab_size=32))).__name__
    'TableTask'
    """
    if setup.targets == "next-token":
        return _text_task(setup)
    dtype = network_shape(setup).dtype
    frequencies = setup.law().frequencies
    sparse = sparse_table(setup)
    return TableTask(
        jnp.asarray(frequencies, dtype),
        running_sum(frequencies),
        bigram_pairs(sparse_targets(setup), dtype)
        if sparse
        else jnp.asarray(targets(setup), dtype),
        setup.batch_size,
        setup.sequence_length,
    )


def room_for_types(setup: NetworkSetup, most: int = 0) -> int:
    """Types of a batch that are evaluated, once each; 0 where that saves too little, and for
    sequences and texts, whose tokens stay apart.

    As many as batches hardly ever exceed, or `most` if that is more. Of S independent tokens type i
    is missing with probability u_i = (1 - p_i)^S, so that the number D of types has

        E D = sum_i (1 - u_i),    Var D = sum_i u_i (1 - u_i) - S (sum_i p_i u_i)^2

    to the leading order in p, since one type's tokens are none of another's.
    """
    size = setup.batch_size
    if size == 0 or setup.sequence_length > 1 or setup.targets == "next-token":
        return 0
    frequencies = setup.law().frequencies
    with np.errstate(divide="ignore"):
        missing = np.exp(size * np.log1p(-np.minimum(frequencies, 1)))
    variance = missing @ (1 - missing) - size * (frequencies @ missing) ** 2
    expected = (1 - missing).sum() + DEVIATIONS * math.sqrt(max(variance, 0.0))
    step = math.ceil(size / ROOM_STEPS)
    room = min(step * math.ceil(max(expected, most) / step), len(frequencies))
    return room if room <= MERGED_SHARE * size else 0


def sparse_table(setup: NetworkSetup) -> bool:
    """Whether the targets of all tokens are kept as sparse pairs: in full batch, where every token
    has its fixed place."""
    full_batch = setup.batch_size == 0 and setup.precision != "bfloat16"
    return full_batch and has_sparse_targets(setup)


def text_split(corpus: CorpusTokens, sequence: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Training stretches (R, 9 blocks) and validation windows (V, sequence + 1).

    The text is cut into blocks, of at least 1024 tokens if it is long enough; every tenth is for
    validation. Blocks alternate along the text, so that both parts have its composition.
    """
    stream = corpus.stream.astype(np.int32)
    rows = max(1, len(stream) // (VALIDATION_SHARE * max(BLOCK_TOKENS, sequence + 1)))
    block = len(stream) // (VALIDATION_SHARE * rows)
    block = max(block, min(sequence + 1, len(stream) // 2))  # a short text: one window to validate
    kept = stream[: rows * min(VALIDATION_SHARE * block, len(stream) // rows)].reshape(rows, -1)
    training, validation = kept[:, :-block], kept[:, -block:]
    windows = block // (sequence + 1)
    validation = validation[:, : windows * (sequence + 1)].reshape(-1, sequence + 1)
    wanted = max(1, EVALUATION_TOKENS // sequence)
    chosen = np.linspace(0, len(validation) - 1, min(wanted, len(validation))).astype(int)
    return training, validation[np.unique(chosen)]


def _text_task(setup: NetworkSetup) -> TextTask:
    sequence = setup.sequence_length
    _, _, path = setup.law_name.partition(":")
    corpus = corpus_tokens(path or None, setup.vocab_size)
    if len(corpus.stream) < 2 * (sequence + 2):
        raise InputError(
            "tokens",
            setup.law_name,
            f"must hold at least {2 * (sequence + 2)} tokens for sequences of {sequence}, not "
            f"{len(corpus.stream)} (at {setup.vocab_size} types)",
        )
    training, validation = text_split(corpus, sequence)
    if setup.batch_size > training.size:
        raise InputError(
            "batch_size",
            setup.batch_size,
            f"must be at most {training.size}, the training tokens of this corpus at "
            f"{setup.vocab_size} types",
        )
    return TextTask(
        jnp.asarray(training),
        jnp.asarray(validation),
        setup.batch_size,
        sequence,
        setup.output_count,
        network_shape(setup).dtype,
    )


def tokens_at_once(setup: NetworkSetup) -> int:
    """Tokens that a step, or a piece of the evaluation, goes through together."""
    if setup.batch_size == 0:
        return setup.vocab_size
    whole_law = setup.targets != "next-token" and setup.sequence_length == 1
    evaluated = setup.vocab_size if whole_law else EVALUATION_TOKENS
    return max(setup.batch_size, setup.sequence_length, min(evaluated, EVALUATION_PIECE))
