"""Training of linearised networks, predicted: f_lin(theta) = f(theta_0) + J (theta - theta_0).

The lazy limit of any JAX function: exact for models linear in their parameters, the limit of wide
networks in the NTK parametrization, and the reference from which feature learning departs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from dynsim._errors import InputError, check_choice
from dynsim._losses import diverged
from dynsim._optimizers import direction
from dynsim._outcome import Outcome, Status
from dynsim._setup import Loss

from . import _dynamics as dynamics
from ._functions import (
    Floats,
    check_finite_outputs,
    checked_function,
    checked_weights,
    output_shape,
    outputs,
)
from ._inputs import (
    Kernel,
    LinearizedOptimizer,
    checked_loss,
    checked_rule,
    checked_targets,
    checked_times,
    targets_of_function,
)
from ._low_precision import low_precision, with_precision
from ._result import LinearizedTraining
from ._task import Task

DENSE_LIMIT = 2048  # outputs times points up to which `auto` builds the kernel
MOST_PRODUCTS = 1000  # of a flow in a small system, which build the kernel if they cost more


def predict_linearized(
    f: Callable[..., Any],
    params: Any,
    x: Any,
    y: ArrayLike,
    times: ArrayLike,
    *,
    loss: Loss | Callable[[Any, Any], Any] = "mse",
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
    phi = (1 - exp(-lambda t)) / lambda or (1 - (1 - lambda)^t) / lambda. With another loss the
    flow is solved adaptively (relative error 1e-9 a step, 1e-7 where stiff). All else is stepped in
    the parameters with J held at `params`, at the cost of a network's own training step and one
    copy of the parameters.

    **Arguments:**

    - `f(params, x)`: outputs of shape (N,) or (N, n); with `x` None it is `f(params)`.
    - `y`: targets in the shape of the outputs; class probabilities over the last axis for `ce`.
    - `loss`: `mse`, `ce`, or a function l(outputs, target) of one point, in JAX, that gives one
      number and has a derivative. Its targets may have any shape, such as one class number a point.
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
      for mse). `auto` builds it for at most 2048 outputs times points, and then for mse at finite
      times only if products that cost as much were not enough, for other losses if it costs less
      than 1000.

    A solver that stops early, a Krylov space that is too small, a loss that diverges, and an f that
    computes in a type shorter than float64 are reported in `outcome`. Raises `InputError` for input
    that means nothing, and `RuntimeError` without 64-bit types.
    Source: docs/theory/linearized.md#linearised-model.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from dynsim import predict_linearized
    >>> x = jnp.array([[1.0], [2.0]])
    >>> training = predict_linearized(
    ...     lambda weight, x: x @ weight, jnp.zeros(1), x, [2.0, 4.0], [0.0, 1.0, jnp.inf]
    ... )
    >>> training.loss.round(4)  # e^(-5 t): the kernel's eigenvalue is (1 + 4)/2
    array([5.    , 0.0337, 0.    ])
    """
    rule, rates = checked_rule(optimizer, learning_rates, epsilon)
    f, params, rates = checked_function(f, params, rates)
    shape = output_shape(f, params, x)
    check_finite_outputs(f, params, x)
    loss = checked_loss(loss)  # type: ignore[assignment]
    if isinstance(loss, str):
        target: Any = checked_targets(y, shape, loss)
    else:
        target = targets_of_function(y, outputs(f, params, x), loss)
    p = checked_weights(weights, shape)
    flow = isinstance(rule, str) and rule.endswith("-flow")
    closed_form = loss == "mse" and rule in ("gradient-flow", "sgd")
    moments = checked_times(times, flow, closed_form)
    check_choice("kernel", kernel, get_args(Kernel))
    if x_test is not None:
        if x is None:
            raise InputError("x_test", "given", "needs f(params, x) with x")
        output_shape(f, params, x_test)
    task = Task(f, params, rates, x, x_test, target, p.reshape(shape), loss)
    if closed_form:
        result = _closed_form(task, moments, kernel, discrete=not flow)
    elif rule == "gradient-flow":
        small = kernel == "auto" and p.size <= DENSE_LIMIT
        dense = kernel == "dense" or (small and task.products_for_the_matrix() < MOST_PRODUCTS)
        result = _gradient_flow(task, moments, dense)
    elif flow:
        result = _smoothed_sign_flow(task, moments, epsilon)
    else:
        result = _steps(task, moments, rule, epsilon)
    return with_precision(result, low_precision(f, params, x))


def _closed_form(task: Task, times: Floats, kernel: Kernel, discrete: bool) -> LinearizedTraining:
    start, share = np.asarray(task.start), task.share
    residual = (start - task.y).ravel()
    small = kernel == "auto" and residual.size <= DENSE_LIMIT
    dense = kernel == "dense" or (small and not np.isfinite(times[-1]))
    modes = None
    if not dense:
        limit = int(task.products_for_the_matrix()) if small else dynamics.KRYLOV_LIMIT
        if limit > 0:
            args = task.product(), share, residual, times, discrete, limit
            modes = dynamics.krylov_modes(*args)
        dense = small and (modes is None or not modes.error <= dynamics.KRYLOV_TOLERANCE)
    if dense or modes is None:
        modes = dynamics.dense_modes(task.kernel(), share, residual)
    fraction, weight = dynamics.learning(modes.eigenvalues, start.size, times, discrete)
    shape = (len(times), *start.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is a result
        learned = ((fraction * modes.amplitudes) @ modes.vectors.T / share).reshape(shape)
        impulses = ((weight * modes.amplitudes) @ modes.vectors.T * share).reshape(shape)
    method = "dense" if dense else "matrix-free"
    result = task.from_impulses(times, jnp.asarray(impulses), start - learned, method)
    if modes.error > dynamics.KRYLOV_TOLERANCE:
        message = (
            f"the Krylov space of {len(modes.eigenvalues)} directions leaves "
            f"{modes.error:.1g} of the residual unexplained (its smallest eigenvalue is "
            f"{modes.eigenvalues.min():.2g}, its largest {modes.eigenvalues.max():.2g}); "
            "ask for earlier `times`, or for `kernel` dense on a smaller number of points"
        )
        return replace(result, outcome=Outcome(Status.INACCURATE, message))
    return _with_divergence(task, result) if discrete else result


def _gradient_flow(task: Task, times: Floats, dense: bool) -> LinearizedTraining:
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
    result = task.from_impulses(times, task.weights[None] * flow.values, None, method)
    advice = "ask for earlier `times` or lower that rate"
    if not dense:
        advice += ", or take `kernel` dense, which is solved implicitly"
    return _with_failure(result, flow, f"{stiffness}; {advice}")


def _smoothed_sign_flow(task: Task, times: Floats, epsilon: float | None) -> LinearizedTraining:
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
        "gradients have fallen to `epsilon`, where the smoothed sign is stiff "
        f"({task.sharpness()[1]}, over `epsilon`); raise `epsilon` or ask for earlier `times`",
    )


def _steps(task: Task, times: Floats, rule: Any, epsilon: float | None) -> LinearizedTraining:
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


def _with_failure(
    result: LinearizedTraining, flow: dynamics.SolvedFlow, reason: str
) -> LinearizedTraining:
    if np.isfinite(result.loss).all():
        return result
    where = f"after {int(flow.steps)} solver steps, last output at t = {float(flow.reached):.3g}"
    return replace(result, outcome=Outcome(Status.STOPPED, f"{where}: {reason}"))


def _with_divergence(task: Task, result: LinearizedTraining) -> LinearizedTraining:
    start, _ = dynamics.residuals(task.loss, task.start, jnp.asarray(task.y))
    initial = float(np.asarray(start) @ task.weights.reshape(len(start), -1)[:, 0])
    if not diverged(np.concatenate([[initial], result.loss])):
        return result
    largest, stiffness = task.sharpness()
    message = f"{stiffness}; lower that rate"
    if result.method != "steps":
        message += f", or multiply all rates by less than {2 / largest:.3g}"
    return replace(result, outcome=Outcome(Status.DIVERGED, message))
