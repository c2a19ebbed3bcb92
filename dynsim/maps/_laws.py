"""Token laws of many vocabulary sizes and Zipf exponents at once.

A law of counts or of a corpus with another vocabulary size is the same law cut off: its most
frequent types. A corpus is tokenised once, at the largest size.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._files import write_file
from dynsim.tokens._corpus import BYTE_ALPHABET, cache_folder, corpus_tokens
from dynsim.tokens._counts import read_counts
from dynsim.tokens._laws import MAX_VOCAB_SIZE
from dynsim.tokens._power_sums import zipf_sum
from dynsim.tokens._unfilled import Unfilled

Floats = NDArray[np.float64]


class Laws(Protocol):
    """Token laws by vocabulary size m (and Zipf exponent), as arrays that broadcast.

    - `largest`: the most token types that there are.
    - `note`: what a reader of the map must know, or empty.
    """

    @property
    def largest(self) -> int: ...
    @property
    def note(self) -> str: ...

    def power_sum(self, power: int, vocab_size: ArrayLike) -> Floats:
        """P_power = sum_i p_i^power; between integers m it is continuous."""
        ...

    def mass_above(self, frequency: ArrayLike, vocab_size: ArrayLike) -> Floats:
        """Sum of all p_i that are above a frequency."""
        ...

    def largest_share(self, vocab_size: ArrayLike) -> Floats:
        """The frequency of the most frequent type."""
        ...

    def name_at(self, vocab_size: int) -> str:
        """The law of one size, as `token_law` takes it."""
        ...


@dataclass(frozen=True, eq=False)
class PowerLaws:
    """p_i ~ i^-alpha, with one exponent or one for each point."""

    exponent: Floats
    name: str | None = None
    largest: int = MAX_VOCAB_SIZE
    note: str = ""

    def power_sum(self, power: int, vocab_size: ArrayLike) -> Floats:
        total = zipf_sum(self.exponent, vocab_size)
        return zipf_sum(power * self.exponent, vocab_size) / total**power

    def largest_share(self, vocab_size: ArrayLike) -> Floats:
        return 1 / zipf_sum(self.exponent, vocab_size)

    def mass_above(self, frequency: ArrayLike, vocab_size: ArrayLike) -> Floats:
        alpha = self.exponent
        total = zipf_sum(alpha, vocab_size)
        with np.errstate(divide="ignore", over="ignore"):
            # i^-alpha > frequency H for all ranks i below this.
            edge = (np.asarray(frequency) * total) ** (-1 / np.where(alpha > 0, alpha, np.nan))
        everyone = np.where(1 / total > frequency, np.inf, 0.0)
        above = np.where(alpha > 0, np.ceil(edge) - 1, everyone)
        count = np.clip(above, 0, vocab_size)
        return np.where(count > 0, zipf_sum(alpha, np.maximum(count, 1)) / total, 0.0)

    def name_at(self, vocab_size: int) -> str:
        return self.name or f"zipf:{float(self.exponent)!r}"


@dataclass(frozen=True, eq=False)
class CountedLaws:
    """The most frequent types of a law of counts, largest first.

    `exact`: the name of the law where there is one size alone, so that nothing is cut off.
    """

    counts: Floats
    exact: str | None = None
    note: str = ""

    @property
    def largest(self) -> int:
        return len(self.counts)

    @cached_property
    def _sums(self) -> dict[int, Floats]:
        scaled = self.counts / self.counts[0]
        return {power: np.concatenate([[0.0], np.cumsum(scaled**power)]) for power in range(1, 7)}

    def _sum(self, power: int, vocab_size: ArrayLike) -> Floats:
        table = self._sums[power]
        sizes = np.asarray(vocab_size, dtype=np.float64)
        return np.asarray(np.interp(sizes, np.arange(len(table)), table))

    def power_sum(self, power: int, vocab_size: ArrayLike) -> Floats:
        return self._sum(power, vocab_size) / self._sum(1, vocab_size) ** power

    def largest_share(self, vocab_size: ArrayLike) -> Floats:
        return 1 / self._sum(1, vocab_size)  # in units of the most frequent one

    def mass_above(self, frequency: ArrayLike, vocab_size: ArrayLike) -> Floats:
        total = self._sum(1, vocab_size)
        threshold = np.asarray(frequency) * total * self.counts[0]
        above = np.searchsorted(-self.counts, -threshold, side="left")
        return self._sum(1, np.minimum(above, vocab_size)) / total

    def name_at(self, vocab_size: int) -> str:
        if self.exact is not None:
            return self.exact
        return f"counts:{self._file}"

    @cached_property
    def _file(self) -> Path:
        """The counts as a file, which the laws of all sizes read."""
        text = "".join(f"{count:.17g}\n" for count in self.counts)
        path = cache_folder() / f"counts-{hashlib.sha256(text.encode()).hexdigest()[:32]}.txt"
        if not path.exists() or path.read_bytes() != text.encode():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, text.encode())
        return path


def laws(name: str, largest: int, several: bool) -> Laws:
    """The laws called `name` up to a largest vocabulary; `several`: of more sizes than one.

    Raises `InputError` as `token_law` does.
    """
    kind, _, detail = name.partition(":")
    if kind in ("uniform", "zipf"):
        return PowerLaws(np.asarray(float(detail or 0)), name)
    if kind == "counts":
        return CountedLaws(read_counts(Path(detail)), exact=name)
    if kind == "tokenizer":
        from dynsim.tokens._tokenizer import tokenizer_counts

        return CountedLaws(tokenizer_counts(detail)[0], exact=name)
    if not several:
        exact = corpus_tokens(detail or None, largest).counts
        return CountedLaws(np.asarray(exact, dtype=np.float64), exact=name)
    size = max(min(largest, MAX_VOCAB_SIZE), BYTE_ALPHABET)
    try:
        tokens = corpus_tokens(detail or None, size)
    except Unfilled as error:
        tokens = corpus_tokens(detail or None, error.largest)
    note = (
        f"{name} is tokenised once, into {tokens.vocab_size} types; smaller vocabularies are its "
        "most frequent types"
    )
    return CountedLaws(np.asarray(tokens.counts, dtype=np.float64), note=note)
