"""Token particles: a vocabulary of any size as a bounded number of weighted tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError
from dynsim._runs import SMALL, free_memory
from dynsim._setup import Experiment
from dynsim._targets import targets
from dynsim.tokens._laws import power_law_exponent
from dynsim.tokens._pieces import law_in_pieces, piece_count

TARGET_ROWS = 2**18  # actual target rows read; the tail beyond them repeats rows of the tail
BYTES_A_TYPE = 100  # of a piece of the token law while it is cut into particles
BYTES_READ = 24  # of a type while a law is read from a file
CELLS_PER_GROUP = 32  # neighbours in rank among which cells are cut by target

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TokenParticles:
    """Tokens that stand for a whole law: P particles, the last of them empty if not needed.

    **Fields:**

    - `frequencies`: p of each particle, shape (P,).
    - `multiplicities`: nu, how many tokens it stands for, shape (P,); 1 for an actual token, 0
      for an empty particle. A sum over tokens of g is sum_k nu_k g_k.
    - `targets`: shape (P, n).
    - `head`: how many of the leading particles are actual tokens with their actual targets.
    - `padding`: how many empty particles were put behind all others.
    """

    frequencies: Floats
    multiplicities: Floats
    targets: Floats
    head: int
    padding: int = 0


def token_particles(setup: Experiment, count: int) -> TokenParticles:
    """At most `count` weighted tokens in place of the setup's vocabulary.

    All tokens are actual ones if they fit. Else token i gets min(1, c w_i) particles with
    w_i = (p_i + p_i^2 / P_2) / 2: those that reach 1 are the head; the tail is cut into cells of
    equal sum of w_i, near in rank and, among neighbours in rank, near in target. In full batch a
    cell has p = sum p_i^2 / sum p_i and nu = (sum p_i)^2 / sum p_i^2, so that the sums over
    tokens of p and of p^2 are those of the law.

    A vocabulary of more than 2^22 types is cut into pieces of neighbours in rank first
    (`law_in_pieces`), so that any takes the same memory.

    In mini-batch half of the tail's particles are tokens that some of the batches contain,
    weighted by the probability 1 - e^(-B T p_i) of that, and half are tokens that none contains.
    """
    _check_memory(setup)
    law, types = law_in_pieces(setup.law_name, setup.vocab_size)
    known = targets(setup, tokens=min(TARGET_ROWS, len(law)))
    if len(law) <= count:
        return _padded(count, len(law), law, np.ones(len(law)), known)
    share = _shares(law, types)
    head = _head_size(share, types, count)
    tail, tail_types, places = law[head:], types[head:], count - head
    row = _rows_of_known(head, len(tail), len(known))
    key = known[:, 0] if known.shape[1] == 1 else np.argmax(known, axis=1).astype(np.int16)
    if setup.batch_size == 0:
        strata = [(np.ones(len(tail)), share[head:], places)]
    else:
        absent = np.exp(-setup.batch_size * setup.steps * tail)
        strata = [
            (1 - absent, 1 - absent, places // 2),
            (absent, absent * tail, places - places // 2),
        ]
    parts = []
    for presence, weight, cells in strata:
        presence = tail_types * presence  # summed over a piece's types
        order, cell = _cells(tail_types * weight, key[row], cells)
        q, p = presence[order], tail[order]
        number, first, second = (
            np.bincount(cell, value, minlength=cells) for value in (q, q * p, q * p**2)
        )
        if setup.batch_size == 0:
            nu = first**2 / np.maximum(second, 1e-300)
            frequency = second / np.maximum(first, 1e-300)
        else:
            nu, frequency = number, first / np.maximum(number, 1e-300)
        middle = np.searchsorted(cell, np.arange(cells), side="left")
        middle = (middle + np.searchsorted(cell, np.arange(cells), side="right")) // 2
        chosen = row[order[np.minimum(middle, len(order) - 1)]]
        target = known[chosen]
        if setup.targets == "gaussian":
            target = _moments_of(target, nu * frequency, known[row], presence * tail)
        parts.append((frequency, nu, target))
    frequency, nu, target = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _padded(
        count,
        head,
        np.concatenate([law[:head], frequency]),
        np.concatenate([np.ones(head), nu]),
        np.concatenate([known[:head], target]),
    )


def _check_memory(setup: Experiment) -> None:
    """Raises `InputError` for a vocabulary that does not fit the memory while it is cut."""
    needed = piece_count(setup.vocab_size) * (BYTES_A_TYPE + 16 * setup.output_count)
    if power_law_exponent(setup.law_name) is None:
        needed += BYTES_READ * setup.vocab_size
    if needed > SMALL and needed > (free := free_memory()):
        raise InputError(
            "vocab_size",
            setup.vocab_size,
            f"needs {needed / 2**30:.3g} GiB while it is cut into particles, must fit the "
            f"{free / 2**30:.3g} GiB that are free",
        )


def batch_shares(
    setup: Experiment, particles: TokenParticles, random: np.random.Generator
) -> Floats:
    """p_hat of every particle at every step, shape (steps, P); the frequencies in full batch.

    Head tokens and the tail as a whole are multinomial, as in a batch of actual tokens; the tail
    particles that occur at all are Poisson, conditioned on that.
    """
    p, nu, head = particles.frequencies, particles.multiplicities, particles.head
    steps, batch = setup.steps, setup.batch_size
    if batch == 0:
        return np.broadcast_to(p, (steps, len(p)))
    chances = np.append(p[:head], max(0.0, 1 - p[:head].sum()))
    counts = random.multinomial(batch, chances / chances.sum(), size=steps)
    shares = np.zeros((steps, len(p)))
    shares[:, :head] = counts[:, :head] / batch
    places = len(p) - head - particles.padding
    present = slice(head, head + places // 2)
    if places < 2 or not np.any(nu[present]):
        return shares
    rate = batch * np.maximum(p[present], 1e-300)
    total = steps * rate
    order = (random.permutation(len(rate)) + random.random()) / len(rate)
    arrival = -np.log1p(-order * -np.expm1(-total)) / rate  # in steps, within [0, steps)
    after = np.clip(np.arange(1, steps + 1)[:, None] - arrival, 0, 1)  # part of a step yet to come
    tail = random.poisson(after * rate).astype(float)
    first = np.minimum(arrival.astype(int), steps - 1)
    tail[first, np.arange(len(rate))] += 1
    drawn = tail @ nu[present]
    scale = np.divide(counts[:, -1], drawn, out=np.zeros(steps), where=drawn > 0)
    shares[:, present] = tail * scale[:, None] / batch
    return shares


def padded(particles: TokenParticles, count: int) -> TokenParticles:
    """The same tokens as `count` particles."""
    p, nu, rows = particles.frequencies, particles.multiplicities, particles.targets
    more = count - len(p)
    return TokenParticles(
        np.pad(p, (0, more)),
        np.pad(nu, (0, more)),
        np.pad(rows, ((0, more), (0, 0))),
        particles.head,
        particles.padding + more,
    )


def _padded(count: int, head: int, p: Floats, nu: Floats, rows: Floats) -> TokenParticles:
    missing = count - len(p)
    return TokenParticles(
        np.pad(p, (0, missing)),
        np.pad(nu, (0, missing)),
        np.pad(rows, ((0, missing), (0, 0))),
        head,
    )


def _head_size(share: Floats, types: Floats, count: int) -> int:
    """How many tokens reach c w_i >= 1, where sum_i min(1, c w_i) = count (w non-increasing)."""
    rest = np.append(np.cumsum((types * share)[::-1])[::-1], 0.0)[:count]  # sum of w from i on
    full = share[:count] * (count - np.arange(count)) >= rest
    return int(np.argmin(full)) if not full.all() else count - 1


def _rows_of_known(head: int, tail: int, known: int) -> NDArray[np.int32]:
    """Which known row of targets each token of the tail has; beyond them they are repeated."""
    rank = np.arange(head, head + tail, dtype=np.int32)
    return np.where(rank < known, rank, head + rank % (known - head)).astype(np.int32)


def _cells(weight: Floats, key: NDArray[Any], cells: int) -> tuple[Integers, NDArray[np.int32]]:
    """An order of the tokens and the cell of each, non-decreasing: near in rank, then in `key`."""
    group = _portion(weight, max(1, cells // CELLS_PER_GROUP)).astype(np.int16)
    order = np.argsort(key, kind="stable")  # lexsort((key, group)), but by radix sort in groups
    order = order[np.argsort(group[order], kind="stable")]
    return order, _portion(weight[order], cells)


def _shares(law: Floats, types: Floats) -> Floats:
    """w_i of each type, in few arrays of the vocabulary's length."""
    square = law**2
    square /= np.sum(types * square)
    share = law / np.sum(types * law)
    share += square
    share *= 0.5
    return share


def _portion(weight: Floats, parts: int) -> NDArray[np.int32]:
    """Which of `parts` equal portions of the summed weight the middle of each entry lies in."""
    middle = np.cumsum(weight)
    total = max(weight.sum(), 1e-300)
    middle -= 0.5 * weight
    middle *= parts / total
    np.minimum(middle, parts - 1, out=middle)
    return middle.astype(np.int32)


def _moments_of(rows: Floats, weight: Floats, wanted_rows: Floats, wanted_weight: Floats) -> Floats:
    """`rows` moved and stretched to the weighted mean and covariance of `wanted_rows`."""
    mean, root = _mean_and_root(rows, weight)
    wanted_mean, wanted_root = _mean_and_root(wanted_rows, wanted_weight)
    return wanted_mean + (rows - mean) @ np.linalg.solve(root.T, wanted_root.T)


def _mean_and_root(rows: Floats, weight: Floats) -> tuple[Floats, Floats]:
    share = weight / max(weight.sum(), 1e-300)
    mean = share @ rows
    centred = rows - mean
    covariance = centred.T @ (share[:, None] * centred)
    scale = np.trace(covariance) / len(covariance)
    return mean, np.linalg.cholesky(covariance + 1e-12 * max(scale, 1e-300) * np.eye(len(mean)))
