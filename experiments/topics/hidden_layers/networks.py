"""Deep linear networks of one output under squared error, trained in the order that is cheap.

The readout is pulled down through the hidden matrices and the residuals are carried up, so that no
token passes through a layer: a step costs m d numbers, and the laboratory's cost m d^2. Under sign
descent every update is an outer product, and no more than the factors are kept of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynsim import NetworkSetup, targets
from dynsim._layers import LayerValues
from dynsim._optimizers import constants
from dynsim._scales import scales

Floats = NDArray[np.float64]
LABELS = ("embedding", "hidden", "readout")


class Weights(NamedTuple):
    """Matrices of the function, multipliers included."""

    embedding: Floats  # (m, d)
    hidden: tuple[Floats, ...]  # (d, d) each
    readout: Floats  # (d,)


def drawn(setup: NetworkSetup, random: np.random.Generator) -> Weights:
    """Initial weights."""
    prescribed, d = scales(setup), setup.width
    std = {k: prescribed.multiplier.of(k) * prescribed.init_factor.of(k) for k in LABELS}
    return Weights(
        std["embedding"] * random.standard_normal((setup.vocab_size, d)),
        tuple(std["hidden"] / d**0.5 * random.standard_normal((d, d)) for _ in range(setup.depth)),
        std["readout"] / d**0.5 * random.standard_normal(d),
    )


class Factors:
    """What sign descent has changed of a matrix: a sum of outer products."""

    def __init__(self, rows: int, columns: int):
        self.left, self.right = np.zeros((rows, 0)), np.zeros((0, columns))

    def add(self, left: Floats, right: Floats, rate: float) -> None:
        self.left = np.column_stack([self.left, -rate * np.sign(left)])
        self.right = np.vstack([self.right, np.sign(right)])

    def dot(self, vector: Floats) -> Floats:
        return self.left @ (self.right @ vector)

    @property
    def total(self) -> Floats:
        return self.left @ self.right

    def pulled(self, rows: Floats) -> Floats:
        """`rows` times the change."""
        return (rows @ self.left) @ self.right


class Moved:
    """What Adam has changed of a matrix of which every gradient is an outer product."""

    def __init__(self, setup: NetworkSetup, rows: int, columns: int, multiplier: float):
        self.total, self.numbers = np.zeros((rows, columns)), constants(setup)
        self._first, self._second = np.zeros((rows, columns)), np.zeros((rows, columns))
        self._multiplier, self._steps = multiplier, 0

    def add(self, left: Floats, right: Floats, rate: float) -> None:
        one, two, epsilon, _ = self.numbers
        gradient = self._multiplier * np.outer(left, right)
        self._steps += 1
        self._first += (1 - one) * (gradient - self._first)
        self._second += (1 - two) * (gradient**2 - self._second)
        size = np.sqrt(self._second / (1 - two**self._steps)) + epsilon
        self.total -= rate / (1 - one**self._steps) * self._first / size

    def dot(self, vector: Floats) -> Floats:
        return self.total @ vector

    def pulled(self, rows: Floats) -> Floats:
        return rows @ self.total


class Curves(NamedTuple):
    """Before every step: the loss (T,), and the mean squares of the updates (3 + depth, T), in the
    order of projection, embedding, projection's step, hidden layers."""

    loss: Floats
    mean_square: Floats


def trained(setup: NetworkSetup, start: Weights, random: np.random.Generator) -> Curves:
    """One network trained by sign descent or Adam."""
    assert setup.optimizer in ("sign", "adam")
    assert setup.loss_name == "mse"
    p, wanted = setup.law().frequencies, targets(setup)[:, 0]
    skip, depth = float(setup.residual == "yes"), setup.depth
    multiplier, rate = scales(setup).multiplier, _rates(setup)

    def change(shape: tuple[int, ...], label: str) -> Factors | Moved:
        rows, columns = shape
        if setup.optimizer == "sign":
            return Factors(rows, columns)
        return Moved(setup, rows, columns, multiplier.of(label))

    embedding = change(start.embedding.shape, "embedding")
    hidden = [change(matrix.shape, "hidden") for matrix in start.hidden]
    readout = change((1, len(start.readout)), "readout")
    matrices, top = list(start.hidden), start.readout
    initial_pulled = _down(start.readout, start.hidden, skip)
    losses, squares = np.zeros(setup.steps), np.zeros((3 + depth, setup.steps))

    def outputs(rows: Floats) -> Floats:
        """What readouts (q, d) at level 0 read of every token, (q, m)."""
        return rows @ start.embedding.T + embedding.dot(rows.T).T

    def mean_square(rows: Floats, level: int) -> float:
        """Mean over tokens of the squares of what rows at a level read, summed."""
        return float(np.sum(p * outputs(_down(rows, matrices[:level], skip)) ** 2))

    for step in range(setup.steps):
        above = [top]
        for matrix in matrices[::-1]:
            above.insert(0, skip * above[0] + above[0] @ matrix)
        residual = outputs(above[0][None])[0] - wanted
        losses[step] = 0.5 * p @ residual**2
        share = p
        if setup.batch_size:
            share = random.multinomial(setup.batch_size, p) / setup.batch_size
        weighted = share * residual
        below = [weighted @ start.embedding + embedding.pulled(weighted[None])[0]]
        for matrix in matrices:
            below.append(skip * below[-1] + matrix @ below[-1])
        squares[0, step] = mean_square(top[None] - start.readout, depth)
        squares[1, step] = np.sum(p * embedding.dot(initial_pulled) ** 2)
        squares[3:, step] = _hidden_squares(setup, hidden, matrices, start, embedding, outputs)
        readout.add(np.ones(1), below[-1], rate.readout)
        new_top = start.readout + readout.pulled(np.ones((1, 1)))[0]
        squares[2, step] = mean_square((new_top - top)[None], depth)
        embedding.add(weighted, above[0], rate.embedding)
        for level, moved in enumerate(hidden):
            moved.add(above[level + 1], below[level], rate.hidden)
            matrices[level] = start.hidden[level] + moved.total
        top = new_top
    return Curves(losses, squares)


def _down(rows: Floats, matrices: Sequence[Floats], skip: float) -> Floats:
    for matrix in matrices[::-1]:
        rows = skip * rows + rows @ matrix
    return rows


def _rates(setup: NetworkSetup) -> LayerValues:
    """Learning rates of the matrices of the function: an entrywise update is as large as before."""
    prescribed = scales(setup)
    base = {
        "embedding": setup.embedding_lr,
        "hidden": setup.hidden_lr,
        "readout": setup.readout_rate(setup.hidden_lr),
    }
    rates = {
        name: prescribed.multiplier.of(name) * prescribed.learning_rate.of(name) * rate
        for name, rate in base.items()
    }
    return LayerValues(vector=0.0, **rates)


def _hidden_squares(setup, hidden, matrices, start, embedding, outputs) -> list[float]:
    """Mean over tokens and neurons of what every hidden matrix's change does, squared."""
    p, skip = setup.law().frequencies, float(setup.residual == "yes")
    found, features = [], None
    for level, moved in enumerate(hidden):
        if isinstance(moved, Factors):
            by_factor = outputs(_down(moved.right, matrices[:level], skip))  # (t, m)
            gram = moved.left.T @ moved.left / setup.width
            found.append(float(np.sum(gram * ((p * by_factor) @ by_factor.T))))
        else:
            if features is None:
                now = start.embedding + embedding.total
                features = (p[:, None] * now).T @ now
            rows = _down(moved.total, matrices[:level], skip)
            found.append(float(np.sum((rows @ features) * rows)) / setup.width)
    return found
