"""The vocabulary at which the muP regime ends, at one width and for one token law."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np

import derivations
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._errors import check_choice, check_integer
from dynsim.tokens._laws import TokenLaw

from ._laws import CountedLaws, Laws, PowerLaws


def crossover_vocab_size(
    width: int,
    law: TokenLaw,
    *,
    optimizer: derivations.Optimizer = "sign",
    batch_size: int = 0,
) -> int | None:
    """The largest vocabulary at which the projection's first update is coherent, rho >= 1.

    rho is the average over tokens by frequency. Uniform and Zipf laws are continued to every
    vocabulary up to 2^27; of counts and corpora a smaller vocabulary is the most frequent types.
    None where no vocabulary parts the regimes: the law stays in the muP regime up to its largest
    size (`mup_regime_reaches`), or the width is too small for one token. For uniform tokens this
    is the integer part of (2/pi) (d - 1).

    Raises `InputError` for a width below 1, a negative batch size or an unknown optimizer.
    Source: docs/theory/regimes.md#interpolation.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.maps import crossover_vocab_size
    >>> crossover_vocab_size(1024, token_law("uniform", 100))  # the integer part of (2/pi) 1023
    651
    """
    family, ratio = _coherence(width, law, optimizer, batch_size)
    low, high = 1, family.largest
    if not ratio(low) >= 1 or ratio(high) >= 1:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ratio(middle) >= 1 else (low, middle)
    return low


def mup_regime_reaches(
    width: int,
    law: TokenLaw,
    *,
    optimizer: derivations.Optimizer = "sign",
    batch_size: int = 0,
) -> int | None:
    """The law's largest vocabulary, if the projection's first update is coherent even there.

    This is the case in which `crossover_vocab_size` finds no end of the muP regime. Uniform and
    Zipf laws are looked at up to 2^27 types; with a Zipf exponent of 1 or less the regime ends
    somewhere beyond, unless a mini-batch keeps updates coherent. None where the regime ends.

    Raises `InputError` for a width below 1, a negative batch size or an unknown optimizer.
    Source: docs/theory/regimes.md#interpolation.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.maps import mup_regime_reaches
    >>> mup_regime_reaches(1024, token_law("zipf:1", 100))
    134217728
    """
    family, ratio = _coherence(width, law, optimizer, batch_size)
    return family.largest if ratio(family.largest) >= 1 else None


def average_coherence(
    width: int,
    law: TokenLaw,
    *,
    optimizer: derivations.Optimizer = "sign",
    batch_size: int = 0,
) -> float:
    """rho of the projection's first update, averaged over tokens by frequency.

    Coherent over incoherent power. At 1 or more the update is in the muP regime, below 1 in the LV
    regime; at 1 the local exponent is 3/4, but for a factor d/(d - 1).

    Raises `InputError` for a width below 1, a negative batch size or an unknown optimizer.
    Source: docs/theory/regimes.md#interpolation.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.maps import average_coherence
    >>> round(average_coherence(1024, token_law("uniform", 651)), 4)  # 2 (d - 1)/(pi m)
    1.0004
    """
    _, ratio = _coherence(width, law, optimizer, batch_size)
    return ratio(law.vocab_size)


def _coherence(
    width: int, law: TokenLaw, optimizer: derivations.Optimizer, batch_size: int
) -> tuple[Laws, Callable[[int], float]]:
    """The law at all vocabulary sizes, and rho at one of them."""
    check_integer("width", width, 1)
    check_integer("batch_size", batch_size, 0)
    check_choice("optimizer", optimizer, get_args(derivations.Optimizer))
    family = _family(law)
    ratio = derivations.average_coherence_ratio(optimizer, mini_batch=batch_size > 0)

    def at(vocab_size: int) -> float:
        values = {
            s.width: float(width),
            s.frequency_square_sum: family.power_sum(2, vocab_size),
            s.frequency_cube_sum: family.power_sum(3, vocab_size),
        }
        if batch_size:
            values[s.batch_size] = float(batch_size)
        return float(evaluate(ratio, values))

    return family, at


def _family(law: TokenLaw) -> Laws:
    """The law at all vocabulary sizes."""
    kind, _, exponent = law.name.partition(":")
    if kind in ("uniform", "zipf"):
        return PowerLaws(np.asarray(float(exponent or 0)), law.name)
    return CountedLaws(law.frequencies)
