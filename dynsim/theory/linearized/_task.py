"""What is trained on what, and results made of accumulated residuals or of outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from . import _dynamics as dynamics
from ._functions import Floats, output_shape
from ._matrix import dense_kernel, products_for_the_matrix
from ._products import largest_mode, linearisation, weighted_product
from ._result import LinearizedTraining


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained on what, checked; `weights` has the shape of the outputs."""

    f: Callable[..., Any]
    params: Any
    rates: Any
    x: Any
    x_test: Any
    y: NDArray[Any]
    weights: Floats
    loss: str | Callable[[Any, Any], Any]

    @property
    def start(self) -> Array:
        return linearisation(self.f, self.params, self.x).start

    @property
    def share(self) -> Floats:
        """Square root of p, flat."""
        return np.sqrt(self.weights).ravel()

    def kernel(self) -> Array:
        return dense_kernel(self.f, self.params, self.rates, self.x, self.x)

    def products_for_the_matrix(self) -> float:
        """How many kernel products cost as much as the kernel and its eigenvectors."""
        return products_for_the_matrix(self.f, self.params, self.x)

    def product(self) -> Callable[[Floats], Floats]:
        """v -> P^(1/2) Theta P^(1/2) v."""
        return weighted_product(self.f, self.params, self.rates, self.x, self.share)

    def sharpness(self) -> tuple[float, str]:
        """lambda_max of P^(1/2) Theta P^(1/2), and in words which learning rate it comes from."""
        largest, mode = largest_mode(self.product(), self.weights.size)
        pull = linearisation(self.f, self.params, self.x).pull
        gradient = pull(jnp.asarray((self.share * mode).reshape(self.weights.shape)))
        parts = jax.tree.map(lambda rate, g: float(rate * jnp.sum(g**2)), self.rates, gradient)
        path, part = max(jax.tree_util.tree_leaves_with_path(parts), key=lambda leaf: leaf[1])
        share = part / largest if largest > 0 else 0.0
        return largest, (
            f"largest kernel eigenvalue {largest:.3g}, "
            f"{share:.0%} of it from the learning rate of params{jax.tree_util.keystr(path)}"
        )

    def at_weighted_residuals(self, q: Array, x_read: Any) -> Floats:
        """Outputs at `x_read` for accumulated weighted residuals q."""
        return np.asarray(dynamics.outputs_of(self.f, self.params, self.rates, self.x, x_read, q))

    def result(
        self, times: Floats, outputs: Floats, test: Floats | None, moved: Any, method: str
    ) -> LinearizedTraining:
        """The result for outputs at x and at x_test, and how far the parameters have moved."""
        losses = jax.vmap(lambda now: dynamics.residuals(self.loss, now, jnp.asarray(self.y))[0])
        p = self.weights.reshape(len(self.weights), -1)[:, 0]
        return LinearizedTraining(
            times=times,
            outputs=outputs,
            test_outputs=test,
            loss=np.asarray(losses(jnp.asarray(outputs))) @ p,
            params=jax.tree.map(jnp.add, self.params, moved),
            method=method,
        )

    def from_impulses(
        self, times: Floats, q: Array, outputs: Floats | None, method: str
    ) -> LinearizedTraining:
        """The result for accumulated weighted residuals q, shape (T, ...) of the outputs."""
        outputs = self.at_weighted_residuals(q, self.x) if outputs is None else outputs
        test = None if self.x_test is None else self.at_weighted_residuals(q, self.x_test)
        moved = dynamics.displacement_of(self.f, self.params, self.rates, self.x, q[-1])
        return self.result(times, outputs, test, moved, method)

    def from_values(
        self, times: Floats, values: Array, moved: Any, method: str
    ) -> LinearizedTraining:
        """The result for outputs at x and, behind them, at x_test, shape (T, all outputs)."""
        train, test = np.split(np.asarray(values), [self.weights.size], axis=1)
        if self.x_test is not None:
            shape = output_shape(self.f, self.params, self.x_test)
            test = test.reshape(len(times), *shape)
        return self.result(
            times,
            train.reshape(len(times), *self.weights.shape),
            None if self.x_test is None else test,
            moved,
            method,
        )
