"""How far Muon moves the row of each token of an embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaln, xlogy

import derivations
from derivations import muon_symbols as derived
from derivations import symbols
from dynsim._compiled import evaluate
from dynsim._errors import InputError, check_choice, check_integer
from dynsim._summary import summary

Floats = NDArray[np.float64]
_LEAST_LEVEL = 60.0  # e^-60 of the smallest weight: every row is whole
HALF = 0.5
_POISSON_LIMIT = 64.0
"""expected visits of a batch up to which they are summed over and not taken as they are expected"""


def muon_row_squares(
    weights: Float[np.ndarray, " m"], rank: int, counts: Float[np.ndarray, " m"] | None = None
) -> Float[np.ndarray, " m"]:
    """Squared lengths h_i = w_i/(w_i + ell) of the rows of an orthogonalised matrix, sum_i h_i = r.

    The matrix has the rows sqrt(w_i) R_i with independent Gaussian R_i of r = `rank` dimensions.
    All h_i of rows that are not zero are 1 where these are at most r. With `counts` each weight
    stands for so many rows. Source: docs/theory/muon_rows.md#muon-rows.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.theory import muon_row_squares
    >>> muon_row_squares(np.array([1.0, 1.0, 1.0, 1.0]), rank=2)
    array([0.5, 0.5, 0.5, 0.5])
    """
    check_integer("rank", rank, 1)
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 1 or not np.isfinite(w).all() or (w < 0).any() or not w.any():
        raise InputError("weights", w, "must be numbers from 0 on, of which one is positive")
    number = np.ones_like(w) if counts is None else np.asarray(counts, dtype=np.float64)
    present = w > 0
    squares = np.zeros_like(w)
    squares[present] = row_square(w[present], row_level(w[present], number[present], rank))
    return squares


def row_level(weights: Floats, number: Floats, rank: float) -> float:
    """The level ell at which the squared lengths sum to the rank; 0 where every row is whole."""
    if number.sum() <= rank:
        return 0.0

    def missing(log_level: float) -> float:
        return float(number @ row_square(weights, np.exp(log_level))) - rank

    low = np.log(weights.min()) - _LEAST_LEVEL
    high = np.log(weights.max() * number.sum() / rank) + 1
    log_level: Any = brentq(missing, low, high, xtol=1e-13)
    return float(np.exp(log_level))


def row_square(weights: Floats, level: float | Floats) -> Floats:
    values = {derived.row_weight_square: weights, derived.row_level: level}
    return np.asarray(evaluate(derivations.muon_row_square(), values), dtype=np.float64)


def muon_row_norms(
    frequencies: Float[np.ndarray, " m"],
    rank: int,
    batch_size: int | None = None,
    shared_residual: float = 1.0,
) -> Float[np.ndarray, " m"]:
    """Lengths of the rows of an embedding's update under Muon, per unit of spectral norm.

    Row i is token i. A row of length L moves the token's d entries by an RMS of L/sqrt(d).

    - `frequencies`: of all tokens, such as `token_law("zipf:1", 50257).frequencies`.
    - `rank`: of the gradient's rows behind the readout: the width, or the number of outputs if
      that is smaller.
    - `batch_size`: tokens of a batch; None for the whole distribution at once. Then the root of
      the mean square over batches, those without the token counted as 0.
    - `shared_residual`: in a batch, the correlation of the residuals at two occurrences of a
      token: 1 where the target is a function of the token, 0 where occurrences are independent.

    Raises `InputError`. Source: docs/theory/muon_rows.md#muon-rows.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import muon_row_norms
    >>> norms = muon_row_norms(token_law("zipf:1", 1000).frequencies, rank=64)
    >>> norms[[0, 99, 999]].round(2)  # of the ranks 1, 100 and 1000
    array([1.  , 0.39, 0.04])
    """
    p = np.asarray(frequencies, dtype=np.float64)
    if p.ndim != 1 or not np.isfinite(p).all() or (p < 0).any() or not p.any():
        raise InputError("frequencies", p, "must be numbers from 0 on, of which one is positive")
    if not 0 <= shared_residual <= 1:
        raise InputError("shared_residual", shared_residual, "must be from 0 to 1")
    if batch_size is None:
        return np.sqrt(muon_row_squares(np.square(p / p.sum()), rank))
    check_integer("batch_size", batch_size, 1)
    return np.sqrt(_of_batches(p / p.sum(), rank, batch_size, shared_residual))


def muon_count_norms(
    counts: Int[np.ndarray, " m"], rank: int, shared_residual: float = 1.0
) -> Float[np.ndarray, " m"]:
    """The same in one batch, in which token i occurs `counts[i]` times.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.theory import muon_count_norms
    >>> muon_count_norms(np.array([4, 1, 0]), rank=1).round(2)  # their squares add up to the rank
    array([0.89, 0.45, 0.  ])
    """
    number = np.asarray(counts, dtype=np.float64)
    return np.sqrt(muon_row_squares(_weight(number, shared_residual), rank))


def _weight(number: Floats, shared: float) -> Floats:
    values = {derived.count: number, derived.shared_residual: shared}
    return np.asarray(evaluate(derivations.muon_row_weight(), values), dtype=np.float64)


def _of_batches(p: Floats, rank: int, batch_size: int, shared: float) -> Floats:
    """Mean squares over Poisson counts, at the one level that keeps their sum at the rank."""
    kinds, where = np.unique(p, return_inverse=True)
    tokens = np.bincount(where).astype(np.float64)
    expected = batch_size * kinds
    few = expected <= _POISSON_LIMIT
    number = np.arange(1, int(4 * _POISSON_LIMIT)).astype(np.float64)
    mean = expected[few][:, None]
    chance = np.exp(xlogy(number, mean) - mean - gammaln(number + 1))
    weights = np.concatenate([_weight(number, shared), _weight(expected[~few], shared)])
    many = np.concatenate([tokens[few] @ chance, tokens[~few]])
    by_weight = muon_row_squares(weights, rank, many)
    squares = np.empty_like(kinds)
    squares[few] = chance @ by_weight[: len(number)]
    squares[~few] = by_weight[len(number) :]
    return squares[where]


@dataclass(frozen=True, eq=False, repr=False)
class MuonRows:
    """What Muon's full-batch update of an embedding does to its rows, the first the most frequent.

    - `width`, `rank`: of the embedding, and of its gradient.
    - `frequencies`: of the tokens.
    - `norms`: lengths of the rows of the update, per unit of spectral norm.
    - `rank_powers`: local power of the rank (of the width, where it is the rank) in each norm.
    - `half_rank`: number of tokens whose squared length is at least half of the largest, 1.
    - `starved_tokens`, `starved_mass`: all others: their number and their share of the text.
    """

    width: int
    rank: int
    frequencies: Floats
    norms: Floats
    rank_powers: Floats

    @property
    def entry_rms(self) -> Floats:
        """RMS of each row's entries, per unit of spectral norm."""
        return self.norms / np.sqrt(self.width)

    @property
    def half_rank(self) -> int:
        return int((np.square(self.norms) >= HALF).sum())

    @property
    def starved_tokens(self) -> int:
        return len(self.norms) - self.half_rank

    @property
    def starved_mass(self) -> float:
        return float(self.frequencies[np.square(self.norms) < HALF].sum())

    def __repr__(self) -> str:
        return summary(
            f"Muon on the embedding of {len(self.norms):,} tokens",
            width=self.width,
            rank=self.rank,
            norms=self.norms,
            half_rank=self.half_rank,
            starved=f"{self.starved_tokens:,} tokens, {self.starved_mass:.1%} of the text",
        )


def muon_rows(
    frequencies: Float[np.ndarray, " m"], width: int, rank: int | None = None
) -> MuonRows:
    """Lengths of all rows of an embedding's update under Muon, which are starved, and powers.

    `rank` is that of the gradient behind the readout, the width by default (and at most it).
    Source: docs/theory/muon_rows.md#muon-rows.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import muon_rows
    >>> rows = muon_rows(token_law("zipf:1", 1000).frequencies, width=64)
    >>> rows.rank, rows.starved_tokens
    (64, 958)
    """
    check_integer("width", width, 1)
    if rank is not None:
        check_integer("rank", rank, 1, width)
    kept = rank or width
    norms = muon_row_norms(frequencies, kept)
    p = np.asarray(frequencies, dtype=np.float64) / np.sum(frequencies)
    squares = np.square(norms)
    present = p > 0
    powers = np.zeros_like(p)
    total = float((squares * (1 - squares)).sum())
    level = row_level(np.square(p[present]), np.ones(int(present.sum())), kept)
    if level > 0:
        values = {
            derived.row_weight_square: np.square(p[present]),
            derived.row_level: level,
            derived.concentration: total,
            symbols.gradient_rank: float(kept),
        }
        powers[present] = np.asarray(evaluate(derivations.muon_row_rank_power(), values)) / 2
    return MuonRows(width, kept, p, norms, powers)


LEAST_RANK = 8  # of what is asymptotic in the rank, to about 1/rank
NEIGHBOUR = 1.05  # ratio of the widths between which a slope is taken


@dataclass(frozen=True, eq=False, repr=False)
class MuonEmbeddingStep:
    """What the first Muon step of an embedding does to its rows and to the outputs.

    - `lengths`: of all rows, per unit of spectral norm; in mini-batch the root of the mean square.
    - `rms`: root mean square of the outputs' change at LR 1, over tokens by frequency or of one.
    - `local_exponent`: d ln rms / d ln width, by a difference between neighbouring widths.
    - `gradient_rank`: the smaller of width and outputs.
    """

    lengths: Floats
    rms: float
    local_exponent: float
    gradient_rank: int

    def __repr__(self) -> str:
        return summary(
            f"First Muon step of the embedding of {len(self.lengths):,} tokens",
            gradient_rank=self.gradient_rank,
            lengths=self.lengths,
            rms=self.rms,
            local_exponent=self.local_exponent,
        )


def muon_embedding_step(
    width: int,
    frequencies: Float[np.ndarray, " m"],
    *,
    outputs: int | None = None,
    rank: int | None = None,
    batch_size: int = 0,
    init: derivations.Init = "mup",
) -> MuonEmbeddingStep:
    """The first step of f_i = W e_i at LR 1, in exact orthogonalisation without a shape factor.

    The change of the outputs is derived for far fewer outputs than neurons, far more, or uniform
    tokens. With as many, frequent tokens change them by up to a factor sqrt(2) more.

    - `outputs`: by default many more than the width.
    - `rank`: of one token, 1 the most frequent; without, the average by frequency.
    - `batch_size`: 0 for the whole distribution at once. Targets are functions of the token.

    Raises `InputError`. Source: docs/theory/muon_rows.md#muon-rows-outputs.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import muon_embedding_step
    >>> step = muon_embedding_step(64, token_law("zipf:1", 2048).frequencies)
    >>> round(step.rms, 4), step.gradient_rank, step.lengths[[0, -1]].round(2)
    (0.0113, 64, array([1.  , 0.02]))
    """
    check_integer("width", width, LEAST_RANK)
    check_integer("batch_size", batch_size, 0)
    check_choice("init", init, derivations.INITIALISATIONS)
    if outputs is not None and outputs < LEAST_RANK:
        allowed = f"must be at least {LEAST_RANK}: rows under Muon are derived for a large rank"
        raise InputError("outputs", outputs, allowed)
    p = np.asarray(frequencies, dtype=np.float64)
    if rank is not None:
        check_integer("rank", rank, 1, len(p))
    seen = p / p.sum() if rank is None else (np.arange(len(p)) == rank - 1).astype(np.float64)

    def at(one: int) -> tuple[Floats, float, int]:
        kept = one if outputs is None else min(one, outputs)
        lengths = muon_row_norms(p, kept, batch_size or None)
        values = {
            symbols.width: float(one),
            symbols.gradient_rank: float(kept),
            derived.row_square_mean: float(seen @ lengths**2),
        }
        return lengths, float(evaluate(derivations.muon_embedding_rms(init), values)), kept

    lengths, rms, kept = at(width)
    narrow = max(LEAST_RANK, round(width / NEIGHBOUR))
    wide = max(width + 1, round(width * NEIGHBOUR))
    slope = np.log(at(wide)[1] / at(narrow)[1]) / np.log(wide / narrow)
    return MuonEmbeddingStep(lengths, rms, float(slope), kept)


def muon_scale(convention: derivations.MuonConvention, outputs: int, inputs: int) -> float:
    """The factor s before the orthogonalised update of a matrix with these sizes.

    `plain` (1), `original` (sqrt(max(1, outputs/inputs))), `match-rms`
    (0.2 sqrt(max(outputs, inputs))) or `spectral` (sqrt(outputs/inputs)). A learning rate is taken
    from one convention to another by the quotient of their factors.
    Source: docs/theory/muon_rows.md#muon-scales.

    **Example:**

    >>> from dynsim.theory import muon_scale
    >>> [muon_scale(name, outputs=400, inputs=100) for name in ("plain", "spectral", "match-rms")]
    [1.0, 2.0, 4.0]
    """
    check_choice("convention", convention, derivations.MUON_CONVENTIONS)
    check_integer("outputs", outputs, 1)
    check_integer("inputs", inputs, 1)
    values = {derived.rows: float(outputs), derived.columns: float(inputs)}
    return float(evaluate(derivations.muon_scale(convention), values))
