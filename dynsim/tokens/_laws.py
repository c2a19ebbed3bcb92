"""Token laws: how often each token occurs, and how much of a gradient it owns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError, check_integer
from dynsim._results import Declared, Result
from dynsim._summary import summary

from ._counts import read_counts

KNOWN_LAWS = "must be uniform, zipf:ALPHA, counts:FILE, tokenizer:FILE, corpus or corpus:PATH"
MOST_PADDING = 0.01  # of the types, that a vocabulary may have rows more
MAX_ZIPF_EXPONENT = 20.0
MOST_KEPT = 2**20  # types of laws that are kept for the next call
MAX_VOCAB_SIZE = 2**27  # a law keeps one float64 a type: 1 GiB
MAX_TYPES = 2**30  # of a vocabulary in theory that needs no law type by type


@dataclass(frozen=True)
class ZipfFit:
    """Zipf exponent fitted to frequencies, with its 95 % interval [low, high]."""

    value: float
    low: float
    high: float

    def __repr__(self) -> str:
        return summary(
            "Zipf exponent", value=self.value, interval=f"[{self.low:.4g}, {self.high:.4g}], 95 %"
        )


@dataclass(frozen=True, eq=False)
class TokenLaw(Result):
    """Frequencies of the tokens, most frequent first: token i has rank i + 1.

    **Fields:**

    - `name`: as the user writes it (`zipf:1.0`).
    - `frequencies`: float64 of shape (vocab_size,), non-increasing, sum 1; a type that never
      occurs has frequency 0.
    - `notes`: what of a file did not count, and why.
    """

    arrays: ClassVar[Declared] = {
        "frequency": ("rank", "frequencies"),
        "effective_vocab_size": "rank",
        "rank": ("rank", lambda law: np.arange(1, law.vocab_size + 1)),
    }

    name: str
    frequencies: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def described_by(self) -> dict[str, Any]:
        """The arguments of `token_law`, by name."""
        return {"tokens": self.name, "vocab_size": self.vocab_size}

    def __repr__(self) -> str:
        return summary(
            "Token law",
            name=self.name,
            vocab_size=self.vocab_size,
            frequencies=self.frequencies,
            notes="; ".join(self.notes) or None,
        )

    @property
    def vocab_size(self) -> int:
        return len(self.frequencies)

    def power_sum(self, power: int) -> float:
        """P_power = sum_j p_j^power."""
        return float(np.sum(self.frequencies**power))

    @cached_property
    def effective_vocab_size(self) -> NDArray[np.float64]:
        """m_eff of every token, 1/c_i^2 = sum_j p_j^2 / p_i^2 (shape (vocab_size,)).

        The vocabulary size at which a uniform law would align as this token does when all
        residuals are equal; infinite for a token that never occurs. See
        docs/theory/regimes.md#zipf-tokens.
        """
        with np.errstate(divide="ignore"):
            return self.power_sum(2) / self.frequencies**2

    @property
    def mean_alignment_square(self) -> float:
        """sum_i p_i c_i^2 = P_3 / P_2, what the frequency-weighted update sees."""
        return self.power_sum(3) / self.power_sum(2)

    @cached_property
    def zipf_exponent(self) -> ZipfFit:
        """Exponent alpha of p_i ~ i^-alpha with a 95 % interval.

        Theil-Sen slope of log frequency against log rank on 64 log-spaced ranks of the tokens
        that occur; the interval is that of the median slope (Sen 1968) and so reports how far
        the law is from a power law, not the sampling error of the counts.
        """
        from scipy.stats import theilslopes

        occurring = int(np.count_nonzero(self.frequencies))
        if occurring < 3:
            return ZipfFit(math.nan, math.nan, math.nan)
        ranks = np.unique(np.geomspace(1, occurring, 64).round().astype(int))
        fit = theilslopes(np.log(self.frequencies[ranks - 1]), np.log(ranks), alpha=0.95)
        exponent, _, high, low = (0.0 - np.asarray(fit, dtype=np.float64)).tolist()
        return ZipfFit(exponent, low, high)


def check_law_name(option: str, name: str) -> None:
    """Raises `InputError` unless `name` is written like a token law (files are not opened).

    **Example:**

    >>> from dynsim.tokens import check_law_name
    >>> check_law_name("tokens", "zipf:1.2")  # returns: written like a law
    """
    kind, colon, detail = name.partition(":")
    known = kind in ("uniform", "zipf", "counts", "tokenizer", "corpus")
    needs_detail = kind in ("zipf", "counts", "tokenizer")
    if not known or (kind == "uniform" and colon) or (needs_detail and not detail):
        raise InputError(option, name, KNOWN_LAWS)
    if kind == "corpus" and colon and not detail:
        raise InputError(option, name, KNOWN_LAWS)
    if kind == "zipf":
        try:
            exponent = float(detail)
        except ValueError:
            exponent = math.nan
        if not 0 <= exponent <= MAX_ZIPF_EXPONENT:
            raise InputError(
                option, name, f"the Zipf exponent must be a number from 0 to {MAX_ZIPF_EXPONENT:g}"
            )


def token_law(name: str, vocab_size: int | None = None) -> TokenLaw:
    """The law called `name` with `vocab_size` types.

    - `uniform`: p_i = 1/m. `zipf:ALPHA`: p_i ~ i^-ALPHA.
    - `counts:FILE`: counts of a file (`read_counts` says which). The `vocab_size` largest are kept;
      by default all.
    - `tokenizer:FILE`: the types of a tokenizer.json. Of a unigram model its scores are the log
      frequencies; `tokenizer:FILE,corpus:PATH` counts the tokens of texts.
    - `corpus`: the byte-pair tokens of the standard library of the running Python, `corpus:PATH`
      those of a text file or of all text files in a folder.

    A vocabulary may have up to 1 % more rows than a file has types, as padded ones do; such rows
    never occur. `TokenLaw.notes` says what of a file did not count.

    Raises `InputError` for an unknown law, an unreadable file or a vocabulary that the file or
    corpus cannot fill.

    **Example:**

    >>> from dynsim import token_law
    >>> law = token_law("zipf:1", 4)
    >>> law.frequencies.round(2), round(float(law.effective_vocab_size[0]), 2)
    (array([0.48, 0.24, 0.16, 0.12]), 1.42)
    """
    check_law_name("tokens", name)
    if vocab_size is not None:
        check_integer("vocab_size", vocab_size, 1, MAX_VOCAB_SIZE)
    kind, _, detail = name.partition(":")
    if kind == "counts":
        return _counted(name, read_counts(Path(detail)), vocab_size)
    if kind == "tokenizer":
        from ._tokenizer import tokenizer_counts

        counts, notes = tokenizer_counts(detail)
        return _counted(name, counts, vocab_size, notes)
    if vocab_size is None:
        raise InputError("vocab_size", None, f"must be given for the token law {name}")
    if kind in ("uniform", "zipf"):
        return _power_law(name, float(detail or 0), vocab_size)
    from ._corpus import corpus_tokens

    tokens = corpus_tokens(detail or None, vocab_size)
    return TokenLaw(name, _normalised(tokens.counts), tokens.notes)


def power_law_exponent(name: str) -> float | None:
    """Of `uniform` and `zipf:ALPHA`; None of other laws."""
    kind, _, detail = name.partition(":")
    return float(detail or 0) if kind in ("uniform", "zipf") else None


def _power_law(name: str, exponent: float, vocab_size: int) -> TokenLaw:
    kept = _kept_power_law if vocab_size <= MOST_KEPT else _kept_power_law.__wrapped__
    return kept(name, exponent, vocab_size)


@lru_cache(maxsize=32)
def _kept_power_law(name: str, exponent: float, vocab_size: int) -> TokenLaw:
    weights = np.arange(1, vocab_size + 1, dtype=np.float64)
    weights **= -exponent  # in place: a law may have 1 GiB
    weights /= weights.sum()
    return TokenLaw(name, weights)


def _counted(
    name: str,
    counts: NDArray[np.float64],
    vocab_size: int | None,
    notes: tuple[str, ...] = (),
) -> TokenLaw:
    """The law of counts, largest first; a smaller vocabulary has the most frequent types."""
    types = len(counts)
    size = types if vocab_size is None else vocab_size
    if size > types * (1 + MOST_PADDING):
        allowed = f"must be at most {types}, the types in {name} (or 1 % more, as rows of padding)"
        raise InputError("vocab_size", size, allowed)
    if size > types:
        notes = (*notes, f"{size - types} of {size} rows are padding: {types} types are counted")
        counts = np.concatenate([counts, np.zeros(size - types)])
    if size < types:
        share = float(counts[size:].sum() / counts.sum())
        notes = (*notes, f"{types - size} of {types} types left out, {share:.2%} of the tokens")
    return TokenLaw(name, _normalised(counts[:size]), notes)


def _normalised(counts: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
    return np.asarray(counts, dtype=np.float64) / np.sum(counts, dtype=np.float64)
