"""First updates of finite networks with a full softmax head, in numpy and without a formula."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynsim.tokens import Bigrams

Array = NDArray[np.float32]
LAYERS = ("head", "embedding", "tied")
ENTRIES = 2**25  # of logits that are held at once


@dataclass(frozen=True)
class HeadNetwork:
    """A linear bigram model: logits f_ik = e_i . w_k; tied: e_i . e_k / width.

    Embedding entries are N(0, 1), those of the head N(0, 1/width^2).
    """

    bigrams: Bigrams
    frequencies: NDArray[np.float64]
    embedding: Array
    head: Array

    @staticmethod
    def drawn(
        bigrams: Bigrams, frequencies: NDArray[np.float64], width: int, seed: int
    ) -> HeadNetwork:
        random = np.random.default_rng([seed, bigrams.outputs, width])
        embedding = random.standard_normal((bigrams.vocab_size, width), dtype=np.float32)
        head = random.standard_normal((bigrams.outputs, width), dtype=np.float32) / np.float32(
            width
        )
        return HeadNetwork(bigrams, frequencies, embedding, head)

    def mean_squares(self, direction: Callable[[Array], Array] = np.sign) -> NDArray[np.float64]:
        """Mean square change of logits by one step at LR 1, shape (layers, target and other).

        A step is minus the `direction` of the gradient. Targets count by p_i P(k | i), other logits
        by p_i (1 - P(k | i)) / (n - 1).
        """
        e, w = self.embedding, self.head
        moved_head, moved_embedding = (-direction(one) for one in self._gradients(e, w))
        forward, backward = self._gradients(e, e / e.shape[1])
        moved_both = -direction(forward / e.shape[1] + backward)
        return np.array(
            [
                self._averages([(e, moved_head)]),
                self._averages([(moved_embedding, w)]),
                self._averages([(e, moved_both), (moved_both, e)]) / e.shape[1] ** 2,
            ]
        )

    def _gradients(self, e: Array, w: Array) -> tuple[Array, Array]:
        """Gradients of the cross entropy by `w` and by `e`, of logits e w^T."""
        of_w, of_e = np.zeros_like(w), np.zeros_like(e)
        for rows, residual in self._residuals(e, w):
            weighted = self.frequencies[rows, None].astype(np.float32) * residual
            of_w += weighted.T @ e[rows]
            of_e[rows] = weighted @ w
        return of_w, of_e

    def _residuals(self, e: Array, w: Array) -> Iterator[tuple[slice, Array]]:
        """softmax(e w^T) - P(. | context), some contexts at a time."""
        m, n = len(e), len(w)
        at_once = max(1, ENTRIES // n)
        for start in range(0, m, at_once):
            rows = slice(start, min(start + at_once, m))
            residual = np.exp(e[rows] @ w.T)
            residual /= residual.sum(axis=1, keepdims=True)
            first, last = np.searchsorted(self.bigrams.context, (rows.start, rows.stop))
            pairs = slice(first, last)
            place = (self.bigrams.context[pairs] - start, self.bigrams.target[pairs])
            residual[place] -= self.bigrams.probability[pairs].astype(np.float32)
            yield rows, residual

    def _averages(self, products: list[tuple[Array, Array]]) -> NDArray[np.float64]:
        """Mean squares of the logits' change, the sum of left_i . right_k over `products`."""
        p, n = self.frequencies, self.bigrams.outputs
        i, k = self.bigrams.context, self.bigrams.target
        squares = np.empty(len(i))
        at_once = max(1, ENTRIES // self.embedding.shape[1])
        for start in range(0, len(i), at_once):
            some = slice(start, start + at_once)
            change = sum(
                np.einsum("pd,pd->p", left[i[some]], right[k[some]]) for left, right in products
            )
            squares[some] = np.square(change, dtype=np.float64)
        target = (p[i] * self.bigrams.probability) @ squares
        # sum_k (x_i . y_k) (u_i . v_k) = x_i^T (Y^T V) u_i needs no table of all logits.
        total = 0.0
        for left, right in products:
            for other_left, other_right in products:
                gram = right.T.astype(np.float64) @ other_right.astype(np.float64)
                total += p @ np.einsum("id,id->i", left @ gram, other_left.astype(np.float64))
        return np.array([target, (total - target) / (n - 1)])


def mean_over_all(squares: NDArray[np.float64], outputs: int) -> NDArray[np.float64]:
    """Mean square over all logits of those of target and other, shape (..., 2)."""
    return (squares[..., 0] + (outputs - 1) * squares[..., 1]) / outputs
