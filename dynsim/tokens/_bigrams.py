"""Which token follows which: sparse tables P(next | token) of corpora and of laws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError, check_integer
from dynsim._summary import summary

from ._corpus import corpus_tokens
from ._laws import MAX_VOCAB_SIZE, TokenLaw

MAX_PAIRS = 2**27  # 3 GiB of pairs
MOST_MOVED = 1e-3  # of the tokens, by which a law may differ from the counts of its bigrams
ROW_SUM_ERROR = 1e-6

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Bigrams:
    """P(target | context) of every pair that occurs; all other pairs have probability 0.

    The residual of a softmax head with small initial logits is r_ik = 1/n - P(k | i). It is 1/n
    on all pairs that are not listed, so that sums over it need the listed pairs alone.

    **Fields:**

    - `context`, `target`, `probability`: one entry a pair, shape (pairs,), sorted by context and
      within it by target. The probabilities of a context sum to 1. A context without a pair never
      occurs.
    - `vocab_size`: number of contexts m. `outputs`: number of targets n.
    - `frequencies`: of the contexts in the text that was counted, shape (vocab_size,); None for
      the bigrams of a law.
    """

    context: Integers
    target: Integers
    probability: Floats
    vocab_size: int
    outputs: int
    frequencies: Floats | None = None

    def __post_init__(self) -> None:
        _check_pairs(self)

    def __repr__(self) -> str:
        return summary(
            "Bigrams",
            vocab_size=self.vocab_size,
            outputs=self.outputs,
            pairs=len(self.context),
            probability=self.probability,
        )

    @property
    def residual(self) -> Floats:
        """r_ik = 1/n - P(k | i) of the listed pairs, shape (pairs,)."""
        return 1 / self.outputs - self.probability

    @cached_property
    def next_tokens(self) -> Integers:
        """How many different targets follow each context, shape (vocab_size,)."""
        return np.bincount(self.context, minlength=self.vocab_size)

    def target_frequencies(self, frequencies: Floats) -> Floats:
        """q_k = sum_i p_i P(k | i), shape (outputs,)."""
        return self._by_target(frequencies[self.context] * self.probability)

    def field_square_sums(self, frequencies: Floats) -> Floats:
        """S_k = sum_j p_j^2 r_jk^2, shape (outputs,): what row k of a head sums over contexts."""
        square = frequencies[self.context] ** 2
        others = np.sum(frequencies**2) - self._by_target(square)
        return self._by_target(square * self.residual**2) + np.maximum(others, 0) / self.outputs**2

    @cached_property
    def residual_norm_squares(self) -> Floats:
        """|r_i|^2 = sum_k r_ik^2, shape (vocab_size,): what the embedding of token i sums."""
        others = (self.outputs - self.next_tokens) / self.outputs**2
        return self._by_context(self.residual**2) + others

    def effective_contexts(self, frequencies: Floats) -> Floats:
        """1 / sum_i P(i | k) c_ik^2 with c_ik = p_i r_ik / sqrt(S_k), shape (outputs,).

        As many equally frequent contexts of output k would align as these do; infinite for an
        output that never follows. P(i | k) = p_i P(k | i) / q_k is the context given the target.
        """
        weight = frequencies[self.context] * self.probability
        square = (frequencies[self.context] * self.residual) ** 2
        aligned = self._by_target(weight * square) / self.field_square_sums(frequencies)
        return _ratio(self._by_target(weight), aligned)

    def effective_next_tokens(self) -> Floats:
        """1 / sum_k P(k | i) b_ik^2 with b_ik = r_ik / |r_i|, shape (vocab_size,).

        As many equally probable targets of token i would align as these do; infinite for a token
        that never occurs.
        """
        aligned = self._by_context(self.probability * self.residual**2)
        return _ratio(self.residual_norm_squares * (self.next_tokens > 0), aligned)

    def check_law(self, law: TokenLaw) -> None:
        """Raises `InputError` unless these bigrams are those of `law`.

        Its vocabulary is theirs, each token that occurs is followed by something, and its
        frequencies are those of the counts that the bigrams come from.
        """
        if law.vocab_size != self.vocab_size:
            allowed = f"must be {self.vocab_size}, the number of contexts of the bigrams"
            raise InputError("vocab_size", law.vocab_size, allowed)
        alone = (self.next_tokens == 0) & (law.frequencies > 0)
        if np.any(alone):
            allowed = (
                f"gives token {int(np.argmax(alone))} a frequency, which no bigram begins with"
            )
            raise InputError("tokens", law.name, allowed)
        if self.frequencies is not None:
            moved = float(np.sum(np.abs(law.frequencies - self.frequencies))) / 2
            if moved > MOST_MOVED:
                allowed = (
                    "must be the law of the text whose bigrams are counted; it moves "
                    f"{moved:.1%} of the tokens elsewhere"
                )
                raise InputError("tokens", law.name, allowed)

    def _by_target(self, values: Floats) -> Floats:
        return summed(self.target, values, self.outputs)

    def _by_context(self, values: Floats) -> Floats:
        return summed(self.context, values, self.vocab_size)


def summed(place: NDArray[np.integer], values: Floats, size: int) -> Floats:
    """Sums of `values` by place, shape (size,)."""
    return np.bincount(place, weights=values, minlength=size).astype(np.float64)


def _check_pairs(bigrams: Bigrams) -> None:
    """Raises `InputError` for pairs that are no table of conditional probabilities."""
    context, target, probability = bigrams.context, bigrams.target, bigrams.probability
    if not (context.shape == target.shape == probability.shape and context.ndim == 1):
        allowed = f"must have the shape of `context`, {context.shape}"
        raise InputError("probability", f"of shape {probability.shape}", allowed)
    check_integer("outputs", bigrams.outputs, 2, bigrams.vocab_size)
    if not len(context):
        raise InputError("context", "without pairs", "must hold at least one pair")
    for field, ids, size in (
        ("context", context, bigrams.vocab_size),
        ("target", target, bigrams.outputs),
    ):
        if ids.min() < 0 or ids.max() >= size:
            wrong = int(ids.min() if ids.min() < 0 else ids.max())
            raise InputError(field, wrong, f"must be from 0 to {size - 1}")
    if not (np.all(np.isfinite(probability)) and probability.min() > 0):
        wrong = probability[np.argmin(np.isfinite(probability) & (probability > 0))]
        raise InputError("probability", float(wrong), "must be finite and more than 0")
    if np.any(np.diff(context * bigrams.outputs + target) <= 0):
        raise InputError("context", "unsorted", "must be sorted with `target`, each pair once")
    total = np.bincount(context, weights=probability)
    wrong = np.abs(total - 1) * (total > 0)
    if wrong.max() > ROW_SUM_ERROR:
        allowed = f"must sum to 1 over the targets of context {int(np.argmax(wrong))}"
        raise InputError("probability", float(total[np.argmax(wrong)]), allowed)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """numerator / denominator; infinite where nothing occurs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(numerator > 0, numerator / denominator, np.inf)


@lru_cache(maxsize=4)
def corpus_bigrams(path: str | None, vocab_size: int, outputs: int) -> Bigrams:
    """Bigrams of the text at `path` (None: the standard library of the running Python).

    Contexts are the tokens of `dynsim.tokens.corpus_tokens`. The targets are its types if
    `outputs` is `vocab_size`; else class k < outputs - 1 is the k-th most frequent type and the
    last class is every other. A type that only ends the text gets the frequencies of all targets.

    Raises `InputError` as `corpus_tokens` does, and for `outputs` outside 2 to `vocab_size`.

    **Example:**

    >>> from pathlib import Path
    >>> from dynsim.tokens import corpus_bigrams
    >>> _ = Path("text.txt").write_text("one two three two one " * 200, encoding="utf-8")
    >>> pairs = corpus_bigrams("text.txt", 260, outputs=260)
    >>> pairs.vocab_size, pairs.outputs
    (260, 260)
    """
    _check_sizes(vocab_size, outputs)
    tokens = corpus_tokens(path, vocab_size)
    context = tokens.stream[:-1].astype(np.int64)
    target = np.minimum(tokens.stream[1:], outputs - 1).astype(np.int64)
    last = int(tokens.stream[-1])
    pairs, counts = np.unique(context * outputs + target, return_counts=True)
    counted = counts.astype(np.float64)
    if not np.any(context == last):
        share = np.bincount(target, minlength=outputs) / len(target)
        followers = np.flatnonzero(share)
        pairs = np.concatenate([pairs, last * outputs + followers])
        counted = np.concatenate([counted, share[followers]])
    frequencies = tokens.counts / len(tokens.stream)
    return _of_pairs(pairs, counted, vocab_size, outputs, frequencies)


def batch_bigrams(
    bigrams: Bigrams, frequencies: Floats, batch_size: int, random: np.random.Generator
) -> Bigrams:
    """What a batch of `batch_size` independent pairs (token, next token) holds.

    `frequencies`: of all contexts, shape (vocab_size,). Those of the result are the contexts'
    shares of the batch; contexts that it lacks have no pair.

    **Example:**

    >>> import numpy as np
    >>> from dynsim import token_law
    >>> from dynsim.tokens import batch_bigrams, bigrams_of
    >>> law = token_law("zipf:1", 16)
    >>> pairs = bigrams_of("random:4", law, outputs=16)
    >>> batch = batch_bigrams(pairs, law.frequencies, 8, np.random.default_rng(0))
    >>> float(batch.frequencies.sum()), len(batch.context) <= 8
    (1.0, True)
    """
    chance = frequencies[bigrams.context] * bigrams.probability
    counts = random.multinomial(batch_size, chance / chance.sum())
    held = counts > 0
    sizes = bigrams.vocab_size, bigrams.outputs
    pairs = bigrams.context[held], bigrams.target[held], counts[held].astype(np.float64)
    return counted_bigrams(*pairs, *sizes)


def bigrams_of(targets: str, law: TokenLaw, outputs: int, seed: int = 0) -> Bigrams:
    """What follows each token of a law, by name.

    - `bigram`: the pairs of the text that the law comes from; the law is corpus or corpus:PATH.
    - `onehot`: one class, drawn uniformly. `random:COUNT`: so many draws from the law itself.

    Raises `InputError` for another name and for `bigram` with a law that is of no text.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.tokens import bigrams_of
    >>> law = token_law("zipf:1", 16)
    >>> pairs = bigrams_of("onehot", law, outputs=4)
    >>> len(pairs.context), float(pairs.probability.sum())
    (16, 16.0)
    """
    check_bigram_targets("targets", targets)
    kind, _, detail = targets.partition(":")
    if kind == "onehot":
        return onehot_bigrams(law.vocab_size, outputs, seed)
    if kind == "random":
        if int(detail) > MAX_PAIRS // law.vocab_size:
            allowed = f"must draw at most {MAX_PAIRS // law.vocab_size} tokens a token, for memory"
            raise InputError("targets", targets, allowed)
        return random_bigrams(law, outputs, int(detail), seed)
    family, _, path = law.name.partition(":")
    if family != "corpus":
        allowed = "must be corpus or corpus:PATH with `targets` bigram, whose pairs are counted"
        raise InputError("tokens", law.name, allowed)
    return corpus_bigrams(path or None, law.vocab_size, outputs)


def check_bigram_targets(field: str, name: str) -> None:
    """Raises `InputError` unless `name` is one of `bigrams_of`.

    **Example:**

    >>> from dynsim.tokens import check_bigram_targets
    >>> check_bigram_targets("targets", "random:4")  # returns: the name is known
    """
    kind, colon, detail = name.partition(":")
    plain = kind in ("bigram", "onehot") and not colon
    drawn = kind == "random" and detail.isascii() and detail.isdigit() and 0 < int(detail) < 2**27
    if not (plain or drawn):
        raise InputError(field, name, "must be bigram, onehot or random:COUNT, COUNT from 1")


def counted_bigrams(
    context: Integers, target: Integers, count: Floats, vocab_size: int, outputs: int
) -> Bigrams:
    """Bigrams from how often each pair was counted; a pair may be listed more than once.

    Raises `InputError` for ids outside the vocabulary or the outputs, and for counts that are
    negative, not finite or all zero.

    Shapes: `context`, `target` and `count` (pairs,) each.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.tokens import counted_bigrams
    >>> context, target = np.array([0, 0, 1]), np.array([0, 1, 1])
    >>> pairs = counted_bigrams(context, target, np.array([3.0, 1.0, 2.0]), vocab_size=2, outputs=2)
    >>> pairs.probability  # of the target given its context
    array([0.75, 0.25, 1.  ])
    """
    _check_sizes(vocab_size, outputs)
    context, target = np.asarray(context, dtype=np.int64), np.asarray(target, dtype=np.int64)
    count = np.asarray(count, dtype=np.float64)
    if not (context.shape == target.shape == count.shape and context.ndim == 1):
        raise InputError("count", f"of shape {count.shape}", "must be one number a pair")
    for field, ids, size in (("context", context, vocab_size), ("target", target, outputs)):
        if len(ids) and (ids.min() < 0 or ids.max() >= size):
            wrong = int(ids.min() if ids.min() < 0 else ids.max())
            raise InputError(field, wrong, f"must be from 0 to {size - 1}")
    right = np.isfinite(count) & (count >= 0)
    if not np.all(right):
        wrong = float(count[np.argmin(right)])
        raise InputError("count", wrong, "must be finite and at least 0")
    if not np.sum(count) > 0:
        raise InputError("count", float(np.sum(count)), "must have a positive sum")
    occurs = count > 0
    pairs, place = np.unique(context[occurs] * outputs + target[occurs], return_inverse=True)
    total = summed(place, count[occurs], len(pairs))
    frequencies = np.bincount(context, weights=count, minlength=vocab_size) / count.sum()
    return _of_pairs(pairs, total, vocab_size, outputs, frequencies)


def onehot_bigrams(vocab_size: int, outputs: int, seed: int = 0) -> Bigrams:
    """Every token is followed by one class, drawn uniformly: that of the targets `onehot`.

    The classes are those of `dynsim.targets` for the same seed. Raises `InputError` for `outputs`
    outside 2 to `vocab_size`.

    **Example:**

    >>> from dynsim.tokens import onehot_bigrams
    >>> onehot_bigrams(vocab_size=8, outputs=4).target.shape
    (8,)
    """
    _check_sizes(vocab_size, outputs)
    random = np.random.default_rng([seed, 0x7A26])
    target = np.floor(random.random(vocab_size) * outputs).astype(np.int64)
    context = np.arange(vocab_size, dtype=np.int64)
    return Bigrams(context, target, np.ones(vocab_size), vocab_size, outputs)


def random_bigrams(law: TokenLaw, outputs: int, followers: int, seed: int = 0) -> Bigrams:
    """Every token is followed by `followers` draws from the law itself, with equal weights.

    Draws may coincide, so that a token has at most `followers` different targets. Targets are
    classes as in `corpus_bigrams`. Raises `InputError` for `outputs` outside 2 to the vocabulary's
    size and for fewer than one draw or more than 2^27 in all.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.tokens import random_bigrams
    >>> pairs = random_bigrams(token_law("zipf:1", 64), outputs=64, followers=4)
    >>> bool(pairs.probability.min() >= 0.25)
    True
    """
    _check_sizes(law.vocab_size, outputs)
    check_integer("followers", followers, 1, max(1, MAX_PAIRS // law.vocab_size))
    random = np.random.default_rng([seed, 0xB162])
    chance = np.append(law.frequencies[: outputs - 1], law.frequencies[outputs - 1 :].sum())
    edges = np.cumsum(chance)
    drawn = random.random(law.vocab_size * followers) * edges[-1]
    target = np.minimum(np.searchsorted(edges, drawn, side="right"), outputs - 1)
    context = np.repeat(np.arange(law.vocab_size, dtype=np.int64), followers)
    pairs, counts = np.unique(context * outputs + target, return_counts=True)
    return _of_pairs(pairs, counts.astype(np.float64), law.vocab_size, outputs)


def _check_sizes(vocab_size: int, outputs: int) -> None:
    check_integer("vocab_size", vocab_size, 2, MAX_VOCAB_SIZE)
    check_integer("outputs", outputs, 2, vocab_size)


def _of_pairs(
    pairs: Integers,
    counts: Floats,
    vocab_size: int,
    outputs: int,
    frequencies: Floats | None = None,
) -> Bigrams:
    """Bigrams of weights by pair, context * outputs + target."""
    order = np.argsort(pairs, kind="stable")
    context, target = np.divmod(pairs[order], outputs)
    total = np.bincount(context, weights=counts[order], minlength=vocab_size)
    probability = counts[order] / total[context]
    return Bigrams(context, target, probability, vocab_size, outputs, frequencies)
