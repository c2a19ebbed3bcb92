"""Initial Gaussian matrices of infinite size, known where they have acted and nowhere else.

A flow of hidden layers has no closed set of Gram matrices: the velocity of W_l holds W_l A_l A_l^T,
that one's velocity a higher power, and so on. At infinite width every such product of a vector
never seen before is a new direction, whatever the matrix has done so far: of A_0 x, with q the part
of x orthogonal to all that A_0 was applied to, the part orthogonal to all that A_0^T was applied to
has the length sigma_A sqrt(d) |q| and no direction that anything else has. So each level needs
coordinates only for the directions that were met. A trial solution meets them, as many as it needs
to a tolerance; in these coordinates the initial matrices are fixed, and the flow of the limit is
that of a small network. Source: docs/theory/gradient_flow.md#deep-flow-limits.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Rows = Float[np.ndarray, "k C"]
FIRST_CAPACITY = 32


class OutOfRoomError(Exception):
    """More directions are met than there is room for."""


class Space:
    """Orthonormal directions that neurons of a level, or tokens, have been found to need."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.used = 0

    def fresh(self, count: int = 1) -> int:
        """The first of `count` new directions."""
        if self.used + count > self.capacity:
            raise OutOfRoomError
        self.used += count
        return self.used - count


class GaussianMatrix:
    """A matrix from one space to another with independent Gaussian entries, as far as it is known.

    **Arguments:**

    - `lower`, `upper`: the spaces; the matrix takes vectors of `lower` to `upper`.
    - `lengths`: of the image of a new unit vector in `upper`, and of what the transpose does to one
      of `upper`: entries' standard deviation times the square root of the number of rows, columns.
    - `tolerance`: of the length of a new part of a vector, relative to the longest vector so far.
    - `room`: for that many directions of either side.

    `met` holds orthonormal directions of `lower` and of `upper` that it was applied to, shape
    (room, capacity) each, zero where none are yet.
    """

    def __init__(
        self,
        lower: Space,
        upper: Space,
        lengths: tuple[float, float],
        tolerance: float,
        room: int,
    ) -> None:
        self.known = np.zeros((upper.capacity, lower.capacity))
        self.met = np.zeros((room, lower.capacity)), np.zeros((room, upper.capacity))
        self._spaces = lower, upper
        self._lengths = lengths
        self._counts = [0, 0]
        self._longest = [0.0, 0.0]
        self._tolerance = tolerance

    def forward(self, vectors: Rows) -> Rows:
        """The images of rows of `lower`."""
        self._meet(vectors, 0)
        return vectors @ self.known.T

    def backward(self, vectors: Rows) -> Rows:
        """What the transpose does to rows of `upper`."""
        self._meet(vectors, 1)
        return vectors @ self.known

    def _meet(self, vectors: Rows, side: int) -> None:
        length, count = self._lengths[side], self._counts[side]
        if not length:
            return
        longest = float(np.max(np.linalg.norm(vectors, axis=1), initial=self._longest[side]))
        self._longest[side] = longest
        met, left = self.met[side][:count], vectors
        for _ in range(2):  # the second time removes what rounding left
            left = left - (left @ met.T) @ met
        if not np.any(np.linalg.norm(left, axis=1) > self._tolerance * longest):
            return
        _, sizes, axes = np.linalg.svd(left, full_matrices=False)
        new = axes[sizes > self._tolerance * longest]
        end = count + len(new)
        if end > len(self.met[side]):
            raise OutOfRoomError
        self.met[side][count:end] = new
        self._counts[side] = end
        first = self._spaces[1 - side].fresh(len(new))
        known = self.known if side == 0 else self.known.T
        known[first : first + len(new)] += length * new
