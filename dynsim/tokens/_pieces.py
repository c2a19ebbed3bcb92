"""Token laws of any size in bounded memory: types one by one, or pieces of neighbours in rank.

All types of a vocabulary of up to 2^22 are pieces of one. Of a larger one that is so for the most
frequent 2^18 types. The others are cut into 2^18 pieces, of equal ratio of their last rank to their
first. The types of a piece differ in frequency by less than one in 10^4 (times the Zipf exponent)
up to 10^9 types, and have the mean frequency of them all.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._laws import MAX_ZIPF_EXPONENT, power_law_exponent, token_law

MOST_WHOLE = 2**22  # types of a law that is not cut into pieces
SINGLE, PIECES = 2**18, 2**18  # types that are pieces of their own, and pieces of all others

Floats = NDArray[np.float64]


class Pieces(NamedTuple):
    """Types that occur: `counts` of them with each of `frequencies`, most frequent first."""

    frequencies: Floats
    counts: Floats


def piece_count(vocab_size: int) -> int:
    """How many pieces a law has at the most."""
    return vocab_size if vocab_size <= MOST_WHOLE else SINGLE + PIECES


def law_in_pieces(name: str, vocab_size: int) -> Pieces:
    """The law called `name`, see `token_law`. Raises as that does.

    `uniform` and `zipf` never have more memory than their pieces; of a law from a file all
    frequencies are read first.
    """
    if vocab_size > MOST_WHOLE:
        exponent = power_law_exponent(name)
        if exponent is not None:
            return power_law_in_pieces(exponent, vocab_size, SINGLE, PIECES)
    law = token_law(name, vocab_size).frequencies
    law = law[: np.count_nonzero(law)]
    if len(law) <= MOST_WHOLE:
        return Pieces(law, np.ones(len(law)))
    edges = _edges(len(law), SINGLE, PIECES)
    counts = np.diff(edges).astype(np.float64)
    sums = np.add.reduceat(law, edges[:-1])[SINGLE:]
    return Pieces(np.append(law[:SINGLE], sums / counts[SINGLE:]), counts)


@lru_cache(maxsize=4)
def power_law_in_pieces(exponent: float, vocab_size: int, single: int, pieces: int) -> Pieces:
    """p_i ~ i^-exponent, the first `single` types by themselves.

    The sum over a piece of ranks a + 1 to b is the integral of x^-exponent from a + 1/2 to b + 1/2,
    which is right up to a share of exponent (exponent + 1) / (24 a^2).
    """
    assert 0 <= exponent <= MAX_ZIPF_EXPONENT
    edges = _edges(vocab_size, single, pieces)
    counts = np.diff(edges).astype(np.float64)
    first = np.arange(1, single + 1, dtype=np.float64) ** -exponent
    begin, rest = edges[single:-1] + 0.5, counts[single:]
    log_ratio = np.log1p(rest / begin)
    power = 1 - exponent
    grown = log_ratio if power == 0 else np.expm1(power * log_ratio) / power
    with np.errstate(under="ignore"):
        sums = begin**power * grown
    weights = np.append(first, sums / rest)
    occurring = np.count_nonzero(weights)
    weights, counts = weights[:occurring], counts[:occurring]
    return Pieces(weights / np.sum(counts * weights), counts)


def _edges(vocab_size: int, single: int, pieces: int) -> NDArray[np.int64]:
    """Ranks before which pieces begin, counted from 0, and the size of the vocabulary."""
    rest = np.geomspace(single, vocab_size, pieces + 1).round().astype(np.int64)
    return np.unique(np.concatenate([np.arange(single, dtype=np.int64), rest]))
