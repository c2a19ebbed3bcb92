"""A trial solution of the flow of hidden layers, which finds the directions that it needs.

The initial matrices are `GaussianMatrix`, and grow while the flow is followed. What they are at the
end is a small network whose flow is that of the limit (`small_network`).
Source: docs/theory/gradient_flow.md#deep-flow-limits.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.integrate import RK45

from ._network import FlowNetwork
from ._revealed import FIRST_CAPACITY, GaussianMatrix, OutOfRoomError, Space
from ._starts import CheckSize

Flat = Float[np.ndarray, " N"]

TRIAL_TOLERANCE = 1e-4  # of a step: nearby solutions need the same directions
ROUND = 16  # sizes are multiples of it, so that similar flows share a program
FIRST_SHARE = 1e-3  # of a block's size, by which the first step changes it at most
TINY = 1e-300  # in place of zero below a fraction


class Tokens(NamedTuple):
    """What tokens are in the limit.

    M of them are known at the start, with `frequencies` (M,) and `targets` (M, n). `number` is 0 if
    these are all that matter (fixed vocabulary), else how many tokens there are: all others have a
    target of 0 and the last one's frequency.
    """

    frequencies: Float[np.ndarray, " M"]
    targets: Float[np.ndarray, "M n"]
    number: int


class SmallNetwork(NamedTuple):
    """A finite network, fixed weights, whose flow is that of the limit; tokens as in `Tokens`.

    `reached` is the time up to which this is so.
    """

    frequencies: Float[np.ndarray, " M"]
    targets: Float[np.ndarray, "M n"]
    embedding: Float[np.ndarray, "M D"]
    hidden: Float[np.ndarray, "depth D D"]
    projection: Float[np.ndarray, "n D"]
    reached: float


def small_network(
    network: FlowNetwork,
    width: int,
    tokens: Tokens,
    end: float,
    tolerance: float,
    max_steps: int,
    check_size: CheckSize,
    at_least: tuple[int, int] = (0, 0),
) -> SmallNetwork:
    """The small network for times up to `end`, of no fewer than `at_least` tokens and neurons.

    Raises what `check_size` raises of its size.
    """
    capacity = FIRST_CAPACITY
    while True:
        try:
            trial = _Trial(network, width, tokens, tolerance, capacity)
            return trial.found(trial.follow(end, max_steps), at_least)
        except OutOfRoomError:
            check_size(len(tokens.targets), capacity)
            capacity *= 2


class _Trial:
    """The state is what training has moved, flat: embedding, hidden layers, readout.

    What a hidden layer has moved is an outer product of readouts above and residuals below, whose
    directions its initial matrix has met. So its coefficients in these directions are enough, and
    so are those of the embedding of many tokens.
    """

    def __init__(
        self, network: FlowNetwork, width: int, tokens: Tokens, tolerance: float, capacity: int
    ) -> None:
        self.network, self.tokens = network, tokens
        known, n = tokens.targets.shape
        level = [Space(capacity)] * (network.depth + 1)
        if not network.residual:
            level = [Space(capacity) for _ in level]
        rows = Space(max(capacity, known))
        rows.fresh(known)
        self.levels, self.rows = level, rows
        root, room = math.sqrt(width), capacity // 2
        embedding_std, hidden_std, projection_std = network.stds
        many = embedding_std * root, embedding_std * math.sqrt(tokens.number)
        lengths = many if tokens.number else (0.0, 0.0)
        self.embedding = GaussianMatrix(rows, level[0], lengths, tolerance, room)
        if not tokens.number:
            first = level[0].fresh(known)
            self.embedding.known[first : first + known, :known] = many[0] * np.eye(known)
        both = hidden_std * root, hidden_std * root
        self.hidden = [
            GaussianMatrix(below, above, both, tolerance, room)
            for below, above in itertools.pairwise(level)
        ]
        first = level[-1].fresh(n)
        self.projection = np.zeros((n, capacity))
        self.projection[:, first : first + n] = projection_std * root * np.eye(n)
        self.targets = np.zeros((n, rows.capacity))
        self.targets[:, :known] = tokens.targets.T
        self.frequencies = np.full(rows.capacity, tokens.frequencies[-1])
        self.frequencies[:known] = tokens.frequencies
        self.shapes = [
            (room, room) if tokens.number else (rows.capacity, capacity),
            *[(room, room)] * network.depth,
            (n, capacity),
        ]
        self.ends = np.cumsum([a * b for a, b in self.shapes])

    def split(self, state: Flat) -> list[Float[np.ndarray, "a b"]]:
        parts = np.split(state, self.ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def velocity(self, state: Flat) -> Flat:
        """The derived right-hand side; every direction that it needs is met on the way."""
        rates, skip = self.network.rates, float(self.network.residual)
        moved_embedding, *moved, moved_projection = self.split(state)
        readout = self.projection + moved_projection
        above = []
        for matrix, change in zip(self.hidden[::-1], moved[::-1], strict=True):
            initial = matrix.backward(readout)
            coefficients = readout @ matrix.met[1].T
            above.insert(0, coefficients)
            readout = skip * readout + initial + (coefficients @ change) @ matrix.met[0]
        tokens, level = self.embedding.met
        features = self.embedding.known.T  # of few tokens, level by level
        output = self.embedding.backward(readout)  # (n, tokens), and then what was learned
        if self.tokens.number:
            output = output + (readout @ level.T) @ moved_embedding.T @ tokens
        else:
            output = output + readout @ moved_embedding.T
        residual = self.frequencies * (output - self.targets)
        carried = self.embedding.forward(residual)
        if self.tokens.number:
            by_token = residual @ tokens.T
            carried = carried + (by_token @ moved_embedding) @ level
            velocity = [-rates.embedding * by_token.T @ (readout @ level.T)]
        else:
            carried = carried + residual @ moved_embedding
            velocity = [-rates.embedding * residual.T @ readout]
            features = (features + moved_embedding)[: len(self.tokens.targets)]
        for place, (matrix, change) in enumerate(zip(self.hidden, moved, strict=True)):
            if self.tokens.number:
                self._pull_down(place, carried)
            else:
                learned = (features @ matrix.met[0].T) @ change.T @ matrix.met[1]
                features = skip * features + matrix.forward(features) + learned
            initial = matrix.forward(carried)
            coefficients = carried @ matrix.met[0].T
            velocity.append(-rates.hidden[place] * above[place].T @ coefficients)
            carried = skip * carried + initial + (coefficients @ change.T) @ matrix.met[1]
        velocity.append(-rates.projection * carried)
        return np.concatenate([part.ravel() for part in velocity])

    def _pull_down(self, place: int, carried: Float[np.ndarray, "n C"]) -> None:
        """Directions that only the sizes of updates need: what A_l has learned of all tokens.

        It reads residuals carried up. Few tokens are carried up themselves; of many these residuals
        are pulled down to them.
        """
        for matrix in self.hidden[:place][::-1]:
            carried = float(self.network.residual) * carried + matrix.backward(carried)
        self.embedding.backward(carried)

    def follow(self, end: float, max_steps: int) -> float:
        """Runs the trial; the time that it has reached.

        An entry's error is measured by the root mean square of its block at the start. That of a
        block that starts at zero, or nearly so, is measured by a share of the largest one's.
        """
        first = self.velocity(np.zeros(self.ends[-1]))
        initial = [self.embedding.known, *(one.known for one in self.hidden), self.projection]
        sizes = np.array([np.linalg.norm(part) for part in initial])
        speeds = np.array([np.linalg.norm(part) for part in self.split(first)])
        sizes = np.maximum(sizes, max(FIRST_SHARE * sizes.max(), TINY))
        counts = np.array([rows * columns for rows, columns in self.shapes])
        solver = RK45(
            lambda _, state: self.velocity(state),
            0.0,
            np.zeros(self.ends[-1]),
            end,
            first_step=min(end, FIRST_SHARE / max(np.max(speeds / sizes), TINY)),
            rtol=TRIAL_TOLERANCE,
            atol=np.repeat(  # pyright: ignore[reportArgumentType] (an array is documented)
                TRIAL_TOLERANCE * sizes / np.sqrt(counts), counts
            ),
        )
        for _ in range(max_steps):
            if solver.status != "running":
                break
            solver.step()
        return float(solver.t)

    def found(self, reached: float, at_least: tuple[int, int]) -> SmallNetwork:
        """The matrices as they are known, of a size that is a multiple of `ROUND`."""
        rows = self.rows.used
        if self.tokens.number:
            rows = ROUND * math.ceil(rows / ROUND)
        size = ROUND * math.ceil(max(level.used for level in self.levels) / ROUND)
        rows, size = max(rows, at_least[0]), max(size, at_least[1])
        return SmallNetwork(
            _fitted(self.frequencies, (rows,)),
            _fitted(self.targets.T, (rows, len(self.targets))),
            _fitted(self.embedding.known.T, (rows, size)),
            np.stack([_fitted(one.known, (size, size)) for one in self.hidden]),
            _fitted(self.projection, (len(self.targets), size)),
            reached,
        )


def _fitted(values: Float[np.ndarray, ...], shape: tuple[int, ...]) -> Float[np.ndarray, ...]:
    """`values` cut or filled up with zeros to `shape`."""
    cut = values[tuple(slice(0, size) for size in shape)]
    return np.pad(cut, [(0, size - own) for size, own in zip(shape, cut.shape, strict=True)])
