"""What one Muon step of a head, of the embedding below it or of both tied does to the logits.

The gradient is V^T E with V_ik = p_i r_ik for the head, and V W for the embedding. Orthogonalised
they change the logits by -Q V and -V Q, with a random matrix Q of mean f(V V^T) or f(V^T V): each
singular value s of V is replaced by -s f(s^2), which is in proportion to s where that is small and
levels off at the root of the width. One tied matrix has the symmetric V + V^T in place of V.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import derivations
from derivations import muon_symbols as derived
from dynsim._compiled import evaluate
from dynsim.tokens._bigrams import Bigrams

from ._muon_rows import row_level, row_square

Floats = NDArray[np.float64]
_REACH = 28.0  # e-folds of levels beyond the squares, where e^-14 of the integral is left
_LEVEL_STEP = 1.0  # of a level's logarithm: the trapezoidal rule's error is about e^(-2 pi^2)
_NODES = 64  # squares at which the covariance is factorised
_LEAST_PART = 1e-9  # of the largest part of the covariance
_SHARES = 0.5, 0.1, 0.4  # of the time: directions, filters, pairs
_ROUNDING = 1e-10  # of a sum of entries over all outputs
_AT_ONCE = 2**23  # products of two entries that are held at a time


class LogitMoments(NamedTuple):
    """Mean and mean square of target logits and of all, each of shape (widths,)."""

    target: Floats
    every: Floats
    target_square: Floats
    every_square: Floats


class _Directions(NamedTuple):
    """Singular directions of V without those of the value 0; tied: of V + V^T, signed values."""

    contexts: Floats  # (m, r)
    values: Floats  # (r,)
    targets: Floats  # (n, r)


class _Filter(NamedTuple):
    """Q at one width: mean f_a of its diagonal, and g with sum_j g_aj g_bj the variance of Q_ab.

    `null` is the variance of Q_ab between a and any direction b of the value 0.
    """

    mean: Floats  # (r,)
    parts: Floats  # (r, j)
    null: Floats  # (r,)


class _Change(NamedTuple):
    """Moments of a logit's change as sums over directions, one more for all with the value 0.

    With x, y the directions' entries at context and target the mean is sum_a mean_a x_a y_a. The
    variance is a sum over j, and over the pairs (u, v) and (p, q), of
    (sum_a u_aj x_a^2) (sum_b v_bj y_b^2) + (sum_a p_aj x_a y_a) (sum_b q_bj x_b y_b).
    """

    mean: Floats
    squares: list[tuple[Floats, Floats]]
    products: list[tuple[Floats, Floats]]


def muon_logits(
    layer: derivations.HeadLayer,
    widths: Floats,
    frequencies: Floats,
    bigrams: Bigrams,
    seen: Floats,
    progress: Callable[[float], object],
) -> LogitMoments:
    """Moments of the logits' change at LR = 1, for initial entries of unit size.

    `seen`: weights of the contexts. `progress` is called with the fraction of work finished since
    the last call. Source: docs/theory/first_step.md#head-muon.
    """
    found = _directions(layer, frequencies, bigrams)
    progress(_SHARES[0])
    if not len(found.values):  # every token is as likely as any other to follow
        return LogitMoments(*np.zeros((4, len(widths))))
    changes = []
    for width in widths:
        changes.append(_change(layer, found, _filter(found.values**2, float(width))))
        progress(_SHARES[1] / len(widths))
    mean, square = _of_targets(
        found, changes, bigrams, seen, lambda part: progress(_SHARES[2] * part)
    )
    of_all, square_of_all = _of_all(found, changes, seen)
    return LogitMoments(mean, of_all, square, square_of_all)


def _directions(layer: derivations.HeadLayer, frequencies: Floats, bigrams: Bigrams) -> _Directions:
    m, n = len(frequencies), bigrams.outputs
    matrix = np.repeat(frequencies[:, None] / n, n, axis=1)
    flow = frequencies[bigrams.context] * bigrams.probability
    np.subtract.at(matrix, (bigrams.context, bigrams.target), flow)
    if layer == "tied":
        values, left = np.linalg.eigh(matrix + matrix.T)
        right = left
    else:
        left, values, transposed = np.linalg.svd(matrix, full_matrices=False)
        right = transposed.T
    sizes = np.abs(values)
    kept = sizes > sizes.max() * max(m, n) * np.finfo(np.float64).eps
    contexts, targets = (np.ascontiguousarray(one[:, kept]) for one in (left, right))
    return _Directions(contexts, values[kept], targets)


def _filter(squares: Floats, width: float) -> _Filter:
    """Squared singular values to mean and variance of Q, by quadrature over levels."""
    least = row_level(squares, np.ones_like(squares), width)
    edge = least or squares.min()
    low, high = np.log(edge) - _REACH, np.log(squares.max()) + _REACH
    beyond = np.exp(np.arange(low, high, _LEVEL_STEP))  # of the least level
    levels = least + beyond
    share = row_square(squares[:, None], levels)
    if least:  # sum_a of the shares is the width at the least level
        free = beyond * ((share / squares[:, None]).T @ row_square(squares, least))
    else:
        free = width - len(squares) + np.sum(levels / (squares[:, None] + levels), axis=0)
    free_pair = width - share.T @ share
    density = _evaluated(
        derivations.muon_filter_density(),
        {
            derived.row_level: levels,
            derived.free_dimensions: free,
            derived.free_pair_dimensions: np.diag(free_pair),
        },
    )
    weights = _LEVEL_STEP * beyond * density
    covariance = _evaluated(
        derivations.muon_level_covariance(),
        {
            derived.row_level: levels[:, None],
            derived.other_level: levels,
            derived.free_pair_dimensions: free_pair,
        },
    )
    core = weights[:, None] * weights * covariance
    resolvent = _resolvent(squares, levels)
    # of the value 0 the resolvent is 1/level
    with_null = resolvent / levels
    null = np.sum(with_null @ core * with_null, axis=1)
    return _Filter(resolvent @ weights, _parts(squares, edge, levels, core), null)


def _parts(squares: Floats, edge: float, levels: Floats, core: Floats) -> Floats:
    """Variances of Q_ab as products of few functions of a and of b, shape (r, functions).

    They are smooth in the logarithms of the squares, so that those with a few nodes give all
    (Nystroem's method). Meanwhile they are scaled to one size, by the root of lambda + edge of
    both.
    """
    nodes = np.geomspace(squares.min(), squares.max(), _NODES)

    def pairs(of: Floats) -> Floats:
        """Products of the resolvents at two levels, shape (squares, pairs of levels)."""
        found = (of[:, None] + edge) ** 0.25 * _resolvent(of, levels)
        return (found[:, :, None] * found[:, None, :]).reshape(len(of), -1)

    of_nodes = core.reshape(-1, 1) * pairs(nodes).T
    among = pairs(nodes) @ of_nodes
    weights, functions = np.linalg.eigh((among + among.T) / 2)
    kept = weights > _LEAST_PART * weights[-1]
    to_parts = functions[:, kept] / np.sqrt(weights[kept])
    at_once = max(1, _AT_ONCE // core.size)
    with_nodes = [
        pairs(squares[first : first + at_once]) @ of_nodes
        for first in range(0, len(squares), at_once)
    ]
    return np.concatenate(with_nodes) @ to_parts / (squares[:, None] + edge) ** 0.5


def _resolvent(squares: Floats, levels: Floats) -> Floats:
    values = {derived.singular_square: squares[:, None], derived.row_level: levels}
    return _evaluated(derivations.muon_resolvent(), values)


def _evaluated(formula: derivations.Derivation, values: dict[Any, Any]) -> Floats:
    return np.asarray(evaluate(formula, values), dtype=np.float64)


def _change(layer: derivations.HeadLayer, found: _Directions, q: _Filter) -> _Change:
    """-Q V of the head, -V Q below it, and -(V Q + Q V) of one tied matrix."""
    plain = np.vstack([q.parts, np.zeros(q.parts.shape[1])])
    value = np.append(found.values, 0.0)[:, None]
    once, twice = value * plain, value**2 * plain
    # all directions of the value 0 are one more function
    null, with_null = np.zeros_like(value), np.append(found.values**2 * q.null, 0.0)[:, None]
    null[-1] = 1.0
    first, second = np.hstack([plain, null]), np.hstack([twice, with_null])
    mean = -found.values * q.mean
    if layer == "tied":
        squares = [(first, second), (second, first), (2 * once, once)]
        return _Change(2 * mean, squares, [(2 * first, second), (2 * once, once)])
    outer = (first, second) if layer == "head" else (second, first)
    return _Change(mean, [outer], [(once, once)])


def _of_all(found: _Directions, changes: list[_Change], seen: Floats) -> tuple[Floats, Floats]:
    """Mean and mean square over all logits of the contexts that are seen, by width."""
    r, n = len(found.values), len(found.targets)
    context = seen @ found.contexts**2
    context = np.append(context, max(seen.sum() - context.sum(), 0))
    target = np.append(np.ones(r), n - r)
    along = found.targets.sum(axis=0)  # 0 but for rounding where residuals sum to zero
    along[np.abs(along) < _ROUNDING * np.sqrt(n)] = 0
    drift = (seen @ found.contexts) * along
    squares = [
        context[:-1] @ change.mean**2
        + sum(np.sum((context @ u) * (target @ v)) for u, v in change.squares)
        + sum(context @ np.sum(p * q, axis=1) for p, q in change.products)
        for change in changes
    ]
    return np.array([drift @ change.mean for change in changes]) / n, np.array(squares) / n


def _of_targets(
    found: _Directions,
    changes: list[_Change],
    bigrams: Bigrams,
    seen: Floats,
    progress: Callable[[float], object],
) -> tuple[Floats, Floats]:
    """The same over what follows, weighted by how often it does."""
    weights = seen[bigrams.context] * bigrams.probability
    first, second = np.zeros(len(changes)), np.zeros(len(changes))
    of_contexts, of_targets = _with_rest(found.contexts), _with_rest(found.targets)
    apart = [[(of_contexts @ u, of_targets @ v) for u, v in one.squares] for one in changes]
    columns = [np.column_stack([np.append(one.mean, 0), *_factors(one)]) for one in changes]
    ends = np.cumsum([one.shape[1] for one in columns])[:-1]
    every = np.concatenate(columns, axis=1)
    contexts, targets = found.contexts, found.targets
    bounds = np.searchsorted(bigrams.context, np.arange(len(found.contexts) + 1))
    for i, (begin, end) in enumerate(pairwise(bounds)):
        if begin == end:
            continue
        k, weight = bigrams.target[begin:end], weights[begin:end]
        entries = targets[k]
        rest = (i == k) - entries @ contexts[i]
        sums = entries @ (contexts[i][:, None] * every[:-1]) + np.outer(rest, every[-1])
        by_width = np.split(sums, ends, axis=1)
        for place, (change, of_width) in enumerate(zip(changes, by_width, strict=True)):
            factors = _factors(change)
            mean, *found_sums = np.split(of_width, 1 + _parts_before(factors), axis=1)
            of_factor = dict(zip(map(id, factors), found_sums, strict=True))
            square = np.square(mean[:, 0])
            for u, v in apart[place]:
                square += np.sum(u[i] * v[k], axis=1)
            for p, q in change.products:
                square += np.sum(of_factor[id(p)] * of_factor[id(q)], axis=1)
            first[place] += weight @ mean[:, 0]
            second[place] += weight @ square
        progress((end - begin) / len(weights))
    return first, second


def _factors(change: _Change) -> list[Floats]:
    """The factors of all products, each once."""
    return list({id(one): one for pair in change.products for one in pair}.values())


def _parts_before(factors: list[Floats]) -> NDArray[np.int64]:
    return np.cumsum([0, *(one.shape[1] for one in factors[:-1])])


def _with_rest(entries: Floats) -> Floats:
    """Squared entries, and what they leave of 1."""
    squares = np.square(entries)
    return np.column_stack([squares, np.maximum(1 - squares.sum(axis=1), 0)])
