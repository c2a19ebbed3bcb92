"""Training of linearised networks, predicted: f_lin(theta) = f(theta_0) + J (theta - theta_0).

The lazy limit of any JAX function: exact for models linear in their parameters, the limit of wide
networks in the NTK parametrization, and the reference from which feature learning departs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import ArrayLike

from dynsim._errors import InputError, check_choice
from dynsim._losses import diverged
from dynsim._optimizers import direction
from dynsim._setup import Loss

from . import _dynamics as dynamics
from ._inputs import Kernel, LinearizedOptimizer, checked_rule, checked_targets, checked_times
from ._kernel import (
    Floats,
    check_finite_outputs,
    checked_function,
    checked_weights,
    dense_kernel,
    largest_mode,
    linearisation,
    output_shape,
    weighted_product,
)

# outputs times points up to which `auto` builds the kernel; on mse at finite times a Krylov space
# needs far fewer products than the kernel has columns
DENSE_LIMIT, DENSE_LIMIT_FINITE_MSE = 2048, 256


@dataclass(frozen=True, eq=False)
class LinearizedTraining:
    """What training a linearised network gives at the T times asked for.

    **Fields:**

    - `times`: shape (T,); time of a flow, number of steps taken otherwise.
    - `outputs`: on the training points, shape (T, N) or (T, N, n); `test_outputs`: on the test
      points, or None.
    - `loss`: sum_i p_i l(f_i, y_i), shape (T,).
    - `params`: the parameters at the last time, a pytree like the one given. To go on from
      there, predict `linearize(f, params_0)` from these parameters.
    - `method`: `dense` (kernel matrix), `matrix-free` (kernel products) or `steps` (parameters).
    - `status`: `ok`, or what went wrong and what to change; times not reached are NaN.

    Source: theory notes, section 7.
    """

    times: Floats
    outputs: Floats
    test_outputs: Floats | None
    loss: Floats
    params: Any
    method: str
    status: str


def predict_linearized(
    f: Callable[..., Any],
    params: Any,
    x: Any,
    y: ArrayLike,
    times: ArrayLike,
    *,
    loss: Loss = "mse",
    optimizer: LinearizedOptimizer | optax.GradientTransformation = "gradient-flow",
    learning_rates: Any = None,
    weights: ArrayLike | None = None,
    x_test: Any = None,
    epsilon: float | None = None,
    kernel: Kernel = "auto",
) -> LinearizedTraining:
    """Trains f linearised about `params` on L = sum_i p_i l(f_i, y_i), in full batch.

    Gradient flow is dtheta/dt = -H dL/dtheta with H the learning rates, so that
    df/dt = -Theta P r with Theta = J H J^T. With mse, r = f - y, flow and `sgd` are in closed form:
    f(t) = f(0) - Theta P^(1/2) phi(A) P^(1/2) (f(0) - y), A = P^(1/2) Theta P^(1/2),
    phi = (1 - exp(-lambda t)) / lambda or (1 - (1 - lambda)^t) / lambda. With ce the flow is
    solved adaptively (relative error 1e-9 a step, 1e-7 where stiff). All else is stepped in the
    parameters with J held at `params`, at the cost of a network's own training step and one copy
    of the parameters.

    **Arguments:**

    - `f(params, x)`: outputs of shape (N,) or (N, n); with `x` None it is `f(params)`.
    - `y`: targets in the shape of the outputs; class probabilities over the last axis for `ce`.
    - `times`: not negative, in order; numbers of steps (integers) unless the optimizer is a flow;
      `inf` is allowed for gradient flow on mse.
    - `optimizer`: a name, or any optax transformation, whose updates are then applied as they are
      (it holds its own learning rate). Momentum has beta = 0.9,
      Adam beta = (0.9, 0.999) and epsilon = 1e-8.
    - `learning_rates`: one rate (default 1) or a pytree of rates that is a prefix of `params`.
    - `weights`: p, shape (N,), positive, by default 1/N; token frequencies for tokens.
    - `x_test`: points whose outputs are followed without being trained on.
    - `epsilon`: of the smoothed sign g / sqrt(g^2 + epsilon^2), in units of the gradient.
    - `kernel`: `dense` builds the kernel, `matrix-free` needs kernel products alone (Krylov space
      for mse); `auto` builds it for up to 2048 outputs times points, 256 for mse at finite times.

    A solver that stops early, a Krylov space that is too small and a loss that diverges are
    reported in `status`. Raises `InputError` for input that means nothing, and `RuntimeError`
    without 64-bit types. Source: theory notes, section 7.
    """
    rule, rates = checked_rule(optimizer, learning_rates, epsilon)
    f, params, rates = checked_function(f, params, rates)
    shape = output_shape(f, params, x)
    check_finite_outputs(f, params, x)
    target = checked_targets(y, shape, loss)
    p = checked_weights(weights, shape)
    flow = isinstance(rule, str) and rule.endswith("-flow")
    closed_form = loss == "mse" and rule in ("gradient-flow", "sgd")
    moments = checked_times(times, flow, closed_form)
    check_choice("kernel", kernel, get_args(Kernel))
    if x_test is not None:
        if x is None:
            raise InputError("x_test", "given", "needs f(params, x) with x")
        output_shape(f, params, x_test)
    task = _Task(f, params, rates, x, x_test, target, p.reshape(shape), loss)
    limit = DENSE_LIMIT_FINITE_MSE if closed_form and np.isfinite(moments[-1]) else DENSE_LIMIT
    dense = kernel == "dense" or (kernel == "auto" and p.size <= limit)
    if closed_form:
        return _closed_form(task, moments, dense, discrete=not flow)
    if rule == "gradient-flow":
        return _gradient_flow(task, moments, dense)
    if flow:
        return _smoothed_sign_flow(task, moments, epsilon)
    return _steps(task, moments, rule, epsilon)


@dataclass(frozen=True, eq=False)
class _Task:
    """What is trained on what, checked; `weights` has the shape of the outputs."""

    f: Callable[..., Any]
    params: Any
    rates: Any
    x: Any
    x_test: Any
    y: Floats
    weights: Floats
    loss: str

    @property
    def start(self) -> Array:
        return linearisation(self.f, self.params, self.x).start

    @property
    def share(self) -> Floats:
        """Square root of p, flat."""
        return np.sqrt(self.weights).ravel()

    def kernel(self) -> Array:
        return dense_kernel(self.f, self.params, self.rates, self.x, self.x)

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
        return np.asarray(dynamics.outputs_of(self.f, self.params, self.rates, self.x, x_read, q))

    def result(
        self, times: Floats, outputs: Floats, test: Floats | None, moved: Any, method: str
    ) -> LinearizedTraining:
        losses = jax.vmap(lambda now: dynamics.residuals(self.loss, now, jnp.asarray(self.y))[0])
        p = self.weights.reshape(len(self.weights), -1)[:, 0]
        return LinearizedTraining(
            times=times,
            outputs=outputs,
            test_outputs=test,
            loss=np.asarray(losses(jnp.asarray(outputs))) @ p,
            params=jax.tree.map(jnp.add, self.params, moved),
            method=method,
            status="ok",
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
        train, test = np.split(np.asarray(values), [self.y.size], axis=1)
        if self.x_test is not None:
            shape = output_shape(self.f, self.params, self.x_test)
            test = test.reshape(len(times), *shape)
        return self.result(
            times,
            train.reshape(len(times), *self.y.shape),
            None if self.x_test is None else test,
            moved,
            method,
        )


def _closed_form(task: _Task, times: Floats, dense: bool, discrete: bool) -> LinearizedTraining:
    start, share = np.asarray(task.start), task.share
    residual = (start - task.y).ravel()
    if dense:
        modes = dynamics.dense_modes(task.kernel(), share, residual)
    else:
        modes = dynamics.krylov_modes(task.product(), share, residual, times, discrete)
    fraction, weight = dynamics.learning(modes.eigenvalues, start.size, times, discrete)
    shape = (len(times), *start.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is a result
        learned = ((fraction * modes.amplitudes) @ modes.vectors.T / share).reshape(shape)
        impulses = ((weight * modes.amplitudes) @ modes.vectors.T * share).reshape(shape)
    method = "dense" if dense else "matrix-free"
    result = task.from_impulses(times, jnp.asarray(impulses), start - learned, method)
    if modes.error > dynamics.KRYLOV_TOLERANCE:
        status = (
            f"the Krylov space of {len(modes.eigenvalues)} directions leaves "
            f"{modes.error:.1g} of the residual unexplained (its smallest eigenvalue is "
            f"{modes.eigenvalues.min():.2g}, its largest {modes.eigenvalues.max():.2g}): "
            "ask for earlier times, or for kernel='dense' on fewer points"
        )
        return _with_status(result, status)
    return _with_divergence(task, result) if discrete else result


def _gradient_flow(task: _Task, times: Floats, dense: bool) -> LinearizedTraining:
    largest, stiffness = task.sharpness()
    kernel = task.kernel() if dense else None
    implicit = dense and largest * times[-1] > dynamics.STIFF
    flow = dynamics.gradient_flow(
        task.f,
        task.loss,
        task.params,
        task.rates,
        task.x,
        task.y,
        task.weights,
        times,
        kernel,
        max(largest, np.finfo(np.float64).tiny),
        implicit,
        dynamics.SOLVER_STEPS,
    )
    method = "dense" if dense else "matrix-free"
    result = task.from_impulses(times, task.weights * flow.values, None, method)
    advice = "ask for earlier times or lower that rate"
    if not dense:
        advice += ", or take kernel='dense', which is solved implicitly"
    return _with_failure(result, flow, f"{stiffness}; {advice}")


def _smoothed_sign_flow(task: _Task, times: Floats, epsilon: float | None) -> LinearizedTraining:
    flow = dynamics.smoothed_sign_flow(
        task.f,
        task.loss,
        task.params,
        task.rates,
        task.x,
        task.x_test,
        task.y,
        task.weights,
        times,
        epsilon,
        dynamics.SOLVER_STEPS,
    )
    result = task.from_values(times, flow.values, flow.last, "steps")
    return _with_failure(
        result,
        flow,
        "gradients have fallen to epsilon, where the smoothed sign is stiff "
        f"({task.sharpness()[1]}, over epsilon); raise epsilon or ask for earlier times",
    )


def _steps(task: _Task, times: Floats, rule: Any, epsilon: float | None) -> LinearizedTraining:
    values, moved = dynamics.steps(
        task.f,
        task.loss,
        _direction_of(rule, epsilon),
        task.params,
        task.rates,
        task.x,
        task.x_test,
        task.y,
        task.weights,
        times.astype(np.int64),
    )
    return _with_divergence(task, task.from_values(times, values, moved, "steps"))


@lru_cache
def _direction_of(
    rule: str | optax.GradientTransformation, epsilon: float | None
) -> optax.GradientTransformation:
    """The map from gradients to what is taken off; one object a rule, so that it compiles once."""
    if not isinstance(rule, str):
        return optax.chain(rule, optax.scale(-1.0))  # optax adds its updates
    return direction(rule, dynamics.named_constants(epsilon))


def _with_status(result: LinearizedTraining, status: str) -> LinearizedTraining:
    return replace(result, status=status)


def _with_failure(
    result: LinearizedTraining, flow: dynamics.SolvedFlow, reason: str
) -> LinearizedTraining:
    reached = float(flow.reached)
    if np.isfinite(result.loss).all():
        return result
    return _with_status(
        result,
        f"stopped after {int(flow.steps)} solver steps, last output at t = {reached:.3g}: {reason}",
    )


def _with_divergence(task: _Task, result: LinearizedTraining) -> LinearizedTraining:
    start, _ = dynamics.residuals(task.loss, task.start, jnp.asarray(task.y))
    initial = float(np.asarray(start) @ task.weights.reshape(len(start), -1)[:, 0])
    if not diverged(np.concatenate([[initial], result.loss])):
        return result
    largest, stiffness = task.sharpness()
    status = f"diverges: {stiffness}; lower that rate"
    if result.method != "steps":
        status += f", or multiply all rates by less than {2 / largest:.3g}"
    return _with_status(result, status)
