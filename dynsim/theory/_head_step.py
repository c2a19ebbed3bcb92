"""The first step of a head at numbers: the derived moments over the pairs of real bigrams.

A mean over pairs (i, k) is taken with the weights p_i P(k | i) for the targets, p_i / n for all
logits, and p_i (1 - P(k | i)) / (n - 1) for the others: the target and a logit drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

import derivations
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._errors import InputError, check_choice, check_integer
from dynsim._precision import require_x64
from dynsim._results import Declared, Result
from dynsim._summary import summary
from dynsim.tokens._bigrams import Bigrams, batch_bigrams, summed
from dynsim.tokens._laws import TokenLaw

from ._checks import check_law, check_numbers
from ._muon_logits import muon_logits

LOGITS = ("target", "other", "all")
HEAD_OPTIMIZERS = (*derivations.OPTIMIZERS, "muon")
MOST_SINGULAR, MOST_PAIRS = 4096, 2**26
"""Tokens, or outputs if fewer, up to which Muon's targets are computed, in time with their cube;
and pairs of both, which are a table of at most 512 MiB."""
FIRST_BATCHES, MOST_BATCHES = 64, 4096  # that are drawn, in steps of the first
BATCH_ERROR = 0.01  # of a mean square over batches: its standard error
SLOPE_STEP = 1e-3  # of the logarithm of the width, for Muon's local exponent

Floats = NDArray[np.float64]
Averages = dict[Any, float]


@dataclass(frozen=True, eq=False)
class HeadStep(Result):
    """What the first update of a head, of the embedding below it or of both does to the logits.

    At LR = 1 and small initial logits. Arrays over `LOGITS`: the targets, weighted by how often
    each follows; all other logits; all together.

    - `layer`, `optimizer`, `width`, `law`, `bigrams`, `rank`, `batch_size`, `init`: the
      arguments.
    - `rms`: root mean square of the change, shape (3, widths); NaN where it is not derived.
    - `mean`: mean of the change, of the same shape; positive where logits rise.
    - `local_exponent`: d ln rms / d ln width at fixed bigrams and batch, of the same shape.
    - `alignment_square`: C of the three, the mean squared alignment of their pairs, shape (3,);
      NaN under Muon, which has singular values in their place.
    """

    arrays: ClassVar[Declared] = {
        "rms": "logits width",
        "mean_change": ("logits width", "mean"),
        "local_exponent": "logits width",
        "alignment_square": "logits",
        "width": "width",
        "logits": ("logits", lambda step: list(LOGITS)),
    }

    layer: derivations.HeadLayer
    optimizer: str
    width: Floats
    law: TokenLaw
    bigrams: Bigrams
    rank: int | None
    batch_size: int
    init: derivations.Init
    rms: Floats
    mean: Floats
    local_exponent: Floats
    alignment_square: Floats

    @property
    def effective_contexts(self) -> Floats:
        """N = 1/C of the targets, the other logits and all, shape (3,).

        Of the head: how many equally frequent contexts would align as much with the row of the
        logit. Of the embedding: how many next tokens. Of one tied matrix: of the two, the share of
        the alignments' mean in the row's gradient.
        """
        with np.errstate(divide="ignore"):
            return 1 / self.alignment_square

    @property
    def crossover_width(self) -> Floats:
        """Width at which coherent part and noise are equal, shape (3,): N = (2/pi) (d - 1), tied
        N = (4/pi) (d - 1).

        Above it the change grows by half a power of the width faster than below. NaN under SGD and
        Muon.
        """
        if self.optimizer not in ("sign", "adam"):
            return np.full(3, np.nan)
        per_width = float(evaluate(derivations.head_crossover(self.layer), {s.width: 2.0}))
        return 1 + self.effective_contexts / per_width

    def described_by(self) -> dict[str, Any]:
        """The arguments of `head_step` that are names or numbers."""
        asked = ("layer", "optimizer", "rank", "batch_size", "init")
        sizes = {"vocab_size": self.law.vocab_size, "outputs": self.bigrams.outputs}
        return {
            **{name: getattr(self, name) for name in asked},
            "tokens": self.law.name,
            **sizes,
        }

    def __repr__(self) -> str:
        return summary(
            f"First step of the {self.layer} by {self.optimizer}, softmax over "
            f"{self.bigrams.outputs} outputs, at LR = 1",
            width=self.width,
            law=f"{self.law.name}, {self.law.vocab_size} token types",
            rank=self.rank,
            batch_size=self.batch_size or "all tokens",
            init=self.init,
            rms_of_targets=self.rms[0],
            rms_of_others=self.rms[1],
            exponent_of_targets=self.local_exponent[0],
            exponent_of_others=self.local_exponent[1],
            effective_contexts=self.effective_contexts,
        )


def head_step(
    layer: derivations.HeadLayer,
    optimizer: str,
    width: ArrayLike,
    law: TokenLaw,
    bigrams: Bigrams,
    *,
    rank: int | None = None,
    batch_size: int = 0,
    init: derivations.Init = "mup",
    progress: Callable[[float], object] | None = None,
) -> HeadStep:
    """First-step moments of the logits of a softmax head, from the bigrams of a text or a law.

    Residuals of small initial logits are r_ik = 1/n - P(k | i). Head, sign:
    rms^2 = d [1 + (2/pi) (d - 1) C] with C the mean of c_ik^2 = p_i^2 r_ik^2 / S_k over the pairs;
    embedding: the same with b_ik^2 = r_ik^2 / |r_i|^2 and sigma_W; tied: both on one matrix, whose
    logits are (sigma_W / sigma_E) e_i . e_k.

    **Arguments:**

    - `bigrams`: P(next | token), as `dynsim.tokens.corpus_bigrams` counts it. Its contexts must be
      the tokens of `law`.
    - `batch_size`: pairs (token, next token) in a batch, drawn independently; 0 is the full batch.
      Squared alignments are ratios of averages over batches in which the target occurs; of tied
      matrices and under SGD averages over drawn batches, with a standard error of 1 % of the mean
      square.
    - `rank`: the context of this rank (1 the most frequent) in place of the average over contexts.
    - `optimizer`: sgd, sign, adam or muon. Under Muon every singular value s of V_ik = p_i r_ik
      (tied: + p_k r_ki) is replaced by -h(s) in the logits' mean change. Where these are too many
      (`muon_moves_targets`), the head has the RMS over all logits alone.
    - `progress`: called with the fraction of work finished since the last call, under Muon.

    Source: docs/theory/first_step.md#head-step, docs/theory/first_step.md#tied-step,
    docs/theory/first_step.md#head-batch, docs/theory/first_step.md#head-muon.

    Raises `InputError` for an unknown name, a width below 1, bigrams that are not of the law, tied
    matrices with fewer outputs than tokens, Muon in mini-batch, which is not derived, and Muon with
    too many singular values but for the head; `RuntimeError` without 64-bit types.

    Shapes: `width` (widths,) or a number; the arrays of the result are (3, widths).

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import LOGITS, head_step
    >>> from dynsim.tokens import random_bigrams
    >>> law = token_law("zipf:1", 64)
    >>> pairs = random_bigrams(law, outputs=64, followers=4)
    >>> step = head_step("head", "sign", [64, 256], law, pairs)
    >>> dict(zip(LOGITS, step.local_exponent[:, 1].round(2).tolist()))
    {'target': 0.99, 'other': 0.98, 'all': 0.98}
    """
    require_x64()
    check_head(layer, optimizer, law.vocab_size, bigrams.outputs, batch_size)
    check_choice("init", init, derivations.INITIALISATIONS)
    check_law(law)
    bigrams.check_law(law)
    widths = np.atleast_1d(check_numbers("width", width, 1))
    seen = law.frequencies
    if rank is not None:
        check_integer("rank", rank, 1, law.vocab_size)
        if batch_size:
            raise InputError("rank", rank, "must be left out in a mini-batch (`batch_size`)")
        seen = (np.arange(law.vocab_size) == rank - 1).astype(np.float64)
        if not bigrams.next_tokens[rank - 1]:
            raise InputError("rank", rank, "is a token that never occurs")
    asked = (layer, optimizer, widths, law, bigrams, rank, batch_size, init)
    if optimizer == "muon":
        report = progress or (lambda part: None)
        return HeadStep(*asked, *_muon(layer, widths, law, bigrams, seen, init, report))
    averages = _averages(layer, optimizer, law.frequencies, bigrams, seen, batch_size)
    mean, rms = derivations.head_step(layer, _kernel(optimizer), init=init)
    slope = derivations.local_exponent(rms.expression)
    values = [_values(one, widths, optimizer) for one in averages]
    moments = [
        np.stack([np.broadcast_to(_evaluated(formula, one), widths.shape) for one in values])
        for formula in (rms, mean, slope)
    ]
    if batch_size:
        moments[1] = np.full_like(moments[1], np.nan)  # the mean of a ratio's root is not derived
    squares = np.array([float(one[s.alignment_square]) for one in values])
    return HeadStep(*asked, moments[0], moments[1], moments[2], squares)


def check_head(
    layer: str, optimizer: str, vocab_size: int, outputs: int, batch_size: int = 0
) -> None:
    """Raises `InputError` for what `head_step` does not have.

    **Example:**

    >>> from dynsim.theory import check_head
    >>> check_head("head", "sign", vocab_size=64, outputs=64)  # returns: the step is derived
    """
    check_choice("layer", layer, derivations.HEAD_LAYERS)
    check_choice("optimizer", optimizer, HEAD_OPTIMIZERS)
    check_integer("batch_size", batch_size, 0)
    if layer == "tied" and outputs != vocab_size:
        allowed = f"must be `vocab_size`, {vocab_size}, where one matrix is embedding and head"
        raise InputError("outputs", outputs, allowed)
    if optimizer == "muon" and layer != "head" and not muon_moves_targets(vocab_size, outputs):
        allowed = f"must be at most {MOST_SINGULAR} with `optimizer` muon and `layer` {layer}"
        if layer == "embedding":
            allowed += f", or `outputs` at most that and both together at most {MOST_PAIRS} pairs"
        allowed += ": all singular values are computed"
        raise InputError("vocab_size", vocab_size, allowed)
    if batch_size and optimizer == "muon":
        raise InputError("batch_size", batch_size, "must be 0 with `optimizer` muon: not derived")


def muon_moves_targets(vocab_size: int, outputs: int) -> bool:
    """Whether `head_step` has Muon's targets, for which it needs all singular values.

    These are at most 4096, and tokens times outputs at most 2^26.

    **Example:**

    >>> from dynsim.theory import muon_moves_targets
    >>> muon_moves_targets(50_000, outputs=512), muon_moves_targets(50_000, outputs=50_000)
    (True, False)
    """
    few = min(vocab_size, outputs) <= MOST_SINGULAR
    return few and vocab_size * outputs <= MOST_PAIRS


def _kernel(optimizer: str) -> derivations.Optimizer:
    check_choice("optimizer", optimizer, derivations.OPTIMIZERS)
    return optimizer  # pyright: ignore[reportReturnType]


def _evaluated(formula: Any, values: Mapping[Any, Any]) -> Floats:
    """A formula at the values of the symbols that it has."""
    expression = getattr(formula, "expression", formula)
    return np.asarray(
        evaluate(formula, {symbol: values[symbol] for symbol in expression.free_symbols})
    )


def _averages(
    layer: derivations.HeadLayer,
    optimizer: str,
    frequencies: Floats,
    bigrams: Bigrams,
    seen: Floats,
    batch_size: int,
) -> tuple[Averages, Averages, Averages]:
    """Averages over the pairs of targets, of the other logits and of all, by symbol."""
    if batch_size and _is_drawn(layer, optimizer):
        target, every = _over_batches(layer, optimizer, frequencies, bigrams, batch_size)
    elif batch_size:
        target, every = _BATCH[layer](frequencies, bigrams, batch_size)
    else:
        target, every = _LAYER[layer](frequencies, bigrams, seen, linear=optimizer == "sgd")
    n = bigrams.outputs
    other = {symbol: (n * every[symbol] - target[symbol]) / (n - 1) for symbol in every}
    return target, other, every


def _is_drawn(layer: str, optimizer: str) -> bool:
    """Whether averages in mini-batch are those over drawn batches, for want of a closed form."""
    return layer == "tied" or optimizer == "sgd"


def _over_batches(
    layer: derivations.HeadLayer,
    optimizer: str,
    frequencies: Floats,
    bigrams: Bigrams,
    batch_size: int,
) -> tuple[Averages, Averages]:
    """Means over drawn batches of what each has as a full batch; mean squares are linear in it.

    They are the same at every call of the same size.
    """
    random, parts = np.random.default_rng(batch_size), []
    while len(parts) < MOST_BATCHES:
        for _ in range(FIRST_BATCHES):
            one = batch_bigrams(bigrams, frequencies, batch_size, random)
            shares = np.asarray(one.frequencies)
            parts.append(_LAYER[layer](shares, one, shares, linear=optimizer == "sgd"))
        squares = np.array([[of[s.alignment_square] for of in part] for part in parts])
        error = squares.std(axis=0, ddof=1) / len(parts) ** 0.5
        if np.all(error <= BATCH_ERROR * squares.mean(axis=0)):
            break
    target, every = (
        {symbol: float(np.mean([part[which][symbol] for part in parts])) for symbol in first}
        for which, first in enumerate(parts[0])
    )
    return target, every


def _values(averages: Averages, widths: Floats, optimizer: str) -> dict[Any, Any]:
    """What the formula needs: under SGD with S its C is <S c^2> / <S> and its c over the root."""
    values: dict[Any, Any] = {**averages, s.width: widths}
    if optimizer == "sgd" and s.field_square_sum in averages:
        size = averages[s.field_square_sum]
        values[s.alignment_square] = averages[s.alignment_square] / size
        values[s.alignment] = averages[s.alignment] / size**0.5
    return values


def _head_averages(
    frequencies: Floats, bigrams: Bigrams, seen: Floats, *, linear: bool
) -> tuple[Averages, Averages]:
    """c_ik = p_i r_ik / sqrt(S_k); `linear`: of p_i r_ik, and S_k itself."""
    p, n = frequencies[bigrams.context], bigrams.outputs
    field = bigrams.field_square_sums(frequencies)
    scale = np.ones(n) if linear else field**-0.5
    of_pair = seen[bigrams.context]
    weight, entry = of_pair * bigrams.probability, p * bigrams.residual
    of_target = scale[bigrams.target]
    first, second = np.sum(seen * frequencies), np.sum(seen * frequencies**2)
    by_target = np.bincount(
        bigrams.target, weights=of_pair * (entry**2 - (p / n) ** 2), minlength=n
    )
    squares = np.maximum(by_target + second / n**2, 0)
    drift = np.bincount(bigrams.target, weights=weight * p, minlength=n)
    target: Averages = {
        s.alignment_square: float(weight @ (entry * of_target) ** 2),
        s.alignment: float(weight @ (entry * of_target)),
    }
    every: Averages = {
        s.alignment_square: float(np.mean(squares * scale**2)),
        s.alignment: float(np.mean((first / n - drift) * scale)),
    }
    if linear:
        target[s.field_square_sum] = float(weight @ field[bigrams.target])
        every[s.field_square_sum] = float(np.mean(field))
    return target, every


def _embedding_averages(
    frequencies: Floats, bigrams: Bigrams, seen: Floats, *, linear: bool
) -> tuple[Averages, Averages]:
    """b_ik = r_ik / |r_i|; `linear`: of p_i r_ik, and the size p_i^2 |r_i|^2 of the gradient."""
    n = bigrams.outputs
    norm = bigrams.residual_norm_squares
    occurs = frequencies > 0
    scale = np.zeros_like(norm)
    scale[occurs] = frequencies[occurs] if linear else _inverse_root(norm[occurs])
    weight = seen[bigrams.context] * bigrams.probability
    entry = bigrams.residual * scale[bigrams.context]
    target: Averages = {
        s.alignment_square: float(weight @ entry**2),
        s.alignment: float(weight @ entry),
    }
    every: Averages = {
        s.alignment_square: float(seen @ (scale**2 * norm)) / n,
        s.alignment: 0.0,  # the residuals of a token sum to zero
    }
    if linear:
        size = frequencies**2 * norm
        target[s.field_square_sum] = float(weight @ size[bigrams.context])
        every[s.field_square_sum] = float(seen @ size)
    return target, every


def _tied_averages(
    frequencies: Floats, bigrams: Bigrams, seen: Floats, *, linear: bool
) -> tuple[Averages, Averages]:
    """A_ik = p_i r_ik + p_k r_ki = (p_i + p_k)/n - B_ik with B_ik = p_i P(k|i) + p_k P(i|k).

    B is sparse. Sums over all pairs are those of (p_i + p_k)/n, which separate, and what the pairs
    of B change.
    """
    p, n = frequencies, bigrams.outputs
    row, column, flow, norm = _tied_rows(bigrams, p)
    plain = (p[row] + p[column]) / n
    change = (plain - flow) ** 2 - plain**2
    diagonal = 2 * p / n
    on_diagonal = row == column
    diagonal[row[on_diagonal]] -= flow[on_diagonal]
    scale, ones = np.ones(n) if linear else norm**-0.5, np.ones(n)

    def over_all(of_row: Floats, of_column: Floats) -> float:
        """Sum of w_i A_ik^2 x_i y_k over all pairs, w the weight of a context."""
        separate = (
            np.sum(seen * p**2 * of_row) * np.sum(of_column)
            + 2 * np.sum(seen * p * of_row) * np.sum(p * of_column)
            + np.sum(seen * of_row) * np.sum(p**2 * of_column)
        )
        return float(separate / n**2 + np.sum(seen[row] * of_row[row] * of_column[column] * change))

    def entries(of_row: Floats, of_column: Floats) -> float:
        """Sum of w_i A_ik x_i y_k over all pairs."""
        separate = np.sum(seen * p * of_row) * np.sum(of_column)
        separate += np.sum(seen * of_row) * np.sum(p * of_column)
        return float(separate / n - np.sum(seen[row] * of_row[row] * of_column[column] * flow))

    i, k = bigrams.context, bigrams.target
    weight, same = seen[i] * bigrams.probability, i == k
    entry = (p[i] + p[k]) / n - flow[np.searchsorted(row * n + column, i * n + k)]
    aligned = entry * (scale[i] + scale[k]) / 2
    product = entry**2 + diagonal[i] * diagonal[k]
    own = diagonal * scale
    squares = over_all(scale**2, ones) + 2 * over_all(scale, scale) + over_all(ones, scale**2)
    # On pairs k = i the two terms of a logit are one, and under sign D leaves them out.
    repeated = 0.0 if linear else 2 * np.sum(seen * own**2)
    products = over_all(scale, scale) + np.sum(seen * own) * np.sum(own) - repeated
    target: Averages = {
        s.alignment_square: float(weight @ aligned**2),
        s.alignment: float(weight @ aligned),
        derivations.own_product: float(
            weight @ (product if linear else scale[i] * scale[k] * product * ~same)
        ),
        derivations.repeat_share: float(weight @ same),
    }
    every: Averages = {
        s.alignment_square: squares / 4 / n,
        s.alignment: (entries(scale, ones) + entries(ones, scale)) / 2 / n,
        derivations.own_product: float(products) / n,
        derivations.repeat_share: 1 / n,
    }
    if linear:
        target[derivations.tied_norms] = float(weight @ (norm[i] + norm[k]))
        target[derivations.repeat_norm] = float(weight @ (norm[i] * same))
        every[derivations.tied_norms] = float(seen @ norm + np.mean(norm))
        every[derivations.repeat_norm] = float(seen @ norm) / n
    return target, every


def _tied_rows(
    bigrams: Bigrams, frequencies: Floats
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]:
    """Rows, columns and values of B = Q + Q^T, Q_ik = p_i P(k | i), and |A_i|^2 of all rows.

    Sorted by row and column.
    """
    n, p = bigrams.outputs, frequencies
    flow = p[bigrams.context] * bigrams.probability
    forward = bigrams.context * n + bigrams.target
    backward = bigrams.target * n + bigrams.context
    pairs, place = np.unique(np.concatenate([forward, backward]), return_inverse=True)
    total = summed(place, np.concatenate([flow, flow]), len(pairs))
    row, column = np.divmod(pairs, n)
    plain = (p[row] + p[column]) / n
    change = summed(row, (plain - total) ** 2 - plain**2, n)
    norm = (n * p**2 + 2 * p + np.sum(p**2)) / n**2 + change
    return row, column, total, np.maximum(norm, np.finfo(np.float64).tiny)


def pair_alignment(layer: derivations.HeadLayer, law: TokenLaw, bigrams: Bigrams) -> Floats:
    """Alignment of every pair of `bigrams`, shape (pairs,), in full batch; negative on targets.

    Head: c_ik = p_i r_ik / sqrt(S_k). Embedding: b_ik = r_ik / |r_i|. Tied: the mean of
    A_ik / |A_i| and A_ik / |A_k|, A_ik = p_i r_ik + p_k r_ki. A pair that never occurs has the
    residual 1/n in place of r_ik.

    Raises `InputError` for bigrams that are not of the law and for tied matrices with fewer outputs
    than tokens.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import pair_alignment
    >>> from dynsim.tokens import onehot_bigrams
    >>> pairs = onehot_bigrams(vocab_size=8, outputs=4)
    >>> pair_alignment("embedding", token_law("uniform", 8), pairs).round(3)[:2]
    array([-0.866, -0.866])
    """
    check_head(layer, "sign", law.vocab_size, bigrams.outputs)
    bigrams.check_law(law)
    p, i, k, n = law.frequencies, bigrams.context, bigrams.target, bigrams.outputs
    if layer == "head":
        return p[i] * bigrams.residual / bigrams.field_square_sums(p)[k] ** 0.5
    if layer == "embedding":
        return bigrams.residual / bigrams.residual_norm_squares[i] ** 0.5
    row, column, flow, norm = _tied_rows(bigrams, p)
    entry = (p[i] + p[k]) / n - flow[np.searchsorted(row * n + column, i * n + k)]
    return entry * (norm[i] ** -0.5 + norm[k] ** -0.5) / 2


def _head_batch_averages(
    frequencies: Floats, bigrams: Bigrams, batch_size: int
) -> tuple[Averages, Averages]:
    """Targets that the batch holds, one by one; other logits by whether their target occurs.

    Where a target does not occur all its residuals are equal: c_ik^2 = p_hat_i^2 / sum p_hat^2.
    """
    n, b = bigrams.outputs, float(batch_size)
    p = frequencies[bigrams.context]
    q = np.minimum(bigrams.target_frequencies(frequencies), 1.0)
    field = bigrams.field_square_sums(frequencies)
    of_pairs = {
        s.outputs: float(n),
        s.batch_size: b,
        s.frequency: p,
        derivations.target_probability: bigrams.probability,
        derivations.target_frequency: q[bigrams.target],
        s.field_square_sum: field[bigrams.target],
    }
    aligned = _evaluated(derivations.batch_pair_alignment("head"), of_pairs)
    target = float((p * bigrams.probability) @ aligned)
    law = derivations.alignment(of_one_token=False, mini_batch=True)
    sums = {
        s.frequency_square_sum: np.sum(frequencies**2),
        s.frequency_cube_sum: np.sum(frequencies**3),
        s.batch_size: b,
    }
    square = float(_evaluated(law.field_square_sum, sums)) / n**2
    ratio = float(_evaluated(derivations.batch_alignment(), sums))
    absent = (1 - q) ** b
    mean_field = _evaluated(
        derivations.batch_field(),
        {
            s.outputs: float(n),
            s.batch_size: b,
            s.field_square_sum: field,
            derivations.target_frequency: q,
        },
    )
    # Of E[X / Y] over batches with the target, X is averaged over these and so is Y.
    occurring = np.maximum(mean_field - absent * square, 0)
    none = {**of_pairs, derivations.target_probability: 0.0}
    everywhere = _evaluated(derivations.batch_rest_moment(), {**none, s.frequency: frequencies})
    change = _evaluated(derivations.batch_rest_moment(), of_pairs)
    change = change - _evaluated(derivations.batch_rest_moment(), none)
    rest = np.bincount(bigrams.target, weights=change, minlength=n) + np.sum(everywhere)
    rest = np.maximum(rest - absent * ratio * square, 0)
    follows = q > 0
    every = target + ratio * np.sum(absent)
    every += np.sum(rest[follows] * (1 - absent[follows]) / occurring[follows])
    return (
        {s.alignment_square: target, s.alignment: 0.0},
        {s.alignment_square: float(every) / n, s.alignment: 0.0},
    )


def _embedding_batch_averages(
    frequencies: Floats, bigrams: Bigrams, batch_size: int
) -> tuple[Averages, Averages]:
    """Targets that the batch holds, one by one; over all logits the alignment is 1/n."""
    p, n = frequencies[bigrams.context], bigrams.outputs
    values = {
        s.outputs: float(n),
        s.batch_size: float(batch_size),
        s.frequency: p,
        derivations.target_probability: bigrams.probability,
        s.residual_norm: bigrams.residual_norm_squares[bigrams.context] ** 0.5,
    }
    aligned = _evaluated(derivations.batch_pair_alignment("embedding"), values)
    target = float((p * bigrams.probability) @ aligned)
    return (
        {s.alignment_square: target, s.alignment: 0.0},
        {s.alignment_square: 1 / n, s.alignment: 0.0},
    )


def _inverse_root(values: Floats) -> Floats:
    """values^-1/2, and 0 where a residual is zero."""
    with np.errstate(divide="ignore"):
        return np.where(values > 0, values**-0.5, 0.0)


def _muon(
    layer: derivations.HeadLayer,
    widths: Floats,
    law: TokenLaw,
    bigrams: Bigrams,
    seen: Floats,
    init: derivations.Init,
    progress: Callable[[float], object],
) -> tuple[Floats, ...]:
    """RMS, mean, local exponent and alignments, of which Muon has none."""
    if not muon_moves_targets(law.vocab_size, bigrams.outputs):
        rms, mean, exponent = _muon_of_all(widths, law, bigrams)
    else:
        around = (np.exp(np.array([[0], [SLOPE_STEP]])) * widths).ravel()
        moments = muon_logits(layer, around, law.frequencies, bigrams, seen, progress)
        std = derivations.initial_std(init)[
            s.embedding_std if layer == "head" else s.projection_std
        ]
        size = np.asarray(evaluate(std, {s.width: around} if std.free_symbols else {}))
        n, shape = bigrams.outputs, (3, 2, len(widths))
        squares, means = (
            np.stack([of_target, (n * of_all - of_target) / (n - 1), of_all]).reshape(shape)
            for of_target, of_all in (
                (moments.target_square * size**2, moments.every_square * size**2),
                (moments.target * size, moments.every * size),
            )
        )
        rms, mean = np.sqrt(squares[:, 0]), means[:, 0]
        with np.errstate(invalid="ignore"):  # no residual, no step
            exponent = np.log(squares[:, 1] / squares[:, 0]) / (2 * SLOPE_STEP)
    return rms, mean, exponent, np.full(3, np.nan)


def _muon_of_all(widths: Floats, law: TokenLaw, bigrams: Bigrams) -> tuple[Floats, Floats, Floats]:
    """The RMS over all logits, which needs no singular value; NaN for targets and others."""
    most = min(law.vocab_size, bigrams.outputs)
    if widths.max() > most:
        allowed = f"must be at most `vocab_size` and `outputs`, here {most}, with `optimizer` muon"
        raise InputError("width", float(widths.max()), allowed)
    formula = derivations.muon_head_rms()
    values = {s.width: widths, s.outputs: float(bigrams.outputs), s.embedding_std: 1.0}
    unknown = np.full_like(widths, np.nan)
    rms = np.stack([unknown, unknown, _evaluated(formula, values)])
    slope = _evaluated(derivations.local_exponent(formula.expression), values)
    exponent = np.stack([unknown, unknown, np.broadcast_to(slope, widths.shape)])
    return rms, np.full_like(rms, np.nan), exponent


_LAYER = {"head": _head_averages, "embedding": _embedding_averages, "tied": _tied_averages}
_BATCH = {"head": _head_batch_averages, "embedding": _embedding_batch_averages}
