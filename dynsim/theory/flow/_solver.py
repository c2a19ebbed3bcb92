"""The flows' right-hand sides and their solver.

The right-hand sides are `derivations.gram_flow` and `derivations.weight_gradient`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import derivations
from derivations import flow_symbols as x
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._losses import loss_and_residual
from dynsim._outcome import OK, Outcome
from dynsim._programs import program

from ._failure import failure, fastest_rates
from ._kernels import Impulse, KernelTask, moved_by_layer, moved_output
from ._state import Grams, HiddenTask, Numbers, Task, Weights

ABSOLUTE_SHARE = 1e-3  # absolute over relative tolerance: outputs are of order one


class Plan(NamedTuple):
    """What is compiled in."""

    loss: str
    smoothed: bool
    solver: str
    max_steps: int


class Solution(NamedTuple):
    result: Any  # diffrax.RESULTS
    steps: Array
    rejected: Array
    last_time: Array  # (1,)
    last_state: Any  # leaves with a leading axis of one


@dataclass(frozen=True, eq=False)
class Run:
    """One integrated flow, in the words of `Flow`."""

    loss: Float[np.ndarray, " T"]
    projection_update_rms: Float[np.ndarray, " T"]
    embedding_update_rms: Float[np.ndarray, " T"]
    hidden_update_rms: Float[np.ndarray, "T depth"] | None
    steps: int
    rejected: int
    fastest_rate: tuple[float, ...]
    reached: float
    outcome: Outcome


def integrate(
    plan: Plan,
    task: Task | KernelTask,
    state: Grams | Weights | Impulse,
    times: Float[np.ndarray, " T"],
    tolerance: float,
    valid_until: float = math.inf,
) -> Run:
    """Solves the flow; a solver that stops early is a result with an outcome that explains it.

    So is a start that stands for a limit up to the time `valid_until` alone.
    """
    import diffrax  # half a second, which only a flow costs

    solution, record = solve(plan, task, state, times, np.float64(tolerance))
    loss, by_projection, by_embedding, *by_hidden = np.asarray(record).T
    reached, steps = float(solution.last_time[0]), int(solution.steps)
    last = jax.tree.map(lambda part: np.asarray(part)[0], solution.last_state)
    rates = fastest_rates(task, last, smoothed=plan.smoothed)
    outcome, reason = OK, ""
    if solution.result != diffrax.RESULTS.successful:
        reason = diffrax.RESULTS[solution.result].partition(" Try increasing")[0]
    elif valid_until < times[-1]:
        reason = "The search for directions took its maximum number of steps."
        reached = valid_until
        record = jnp.where(times[:, None] <= reached, record, jnp.nan)
        loss, by_projection, by_embedding, *by_hidden = np.asarray(record).T
    if reason:
        outcome = failure(
            reason,
            rates,
            steps,
            reached,
            float(times[-1]),
            solver=plan.solver,
            smoothed=plan.smoothed,
            deep=(len(rates) > 2),
        )
    rejected = int(solution.rejected)
    hidden = np.stack(by_hidden, axis=1) if by_hidden else None
    return Run(loss, by_projection, by_embedding, hidden, steps, rejected, rates, reached, outcome)


@partial(program, static_argnames="plan")
def solve(
    plan: Plan,
    task: Task | KernelTask,
    state: Grams | Weights | Impulse,
    times: Numbers,
    tolerance: Numbers,
) -> tuple[Solution, Float[Array, "T quantities"]]:
    """The solution, and at `times` the loss and the update RMS of projection, embedding and every
    hidden layer."""
    import diffrax

    solver = diffrax.Dopri8() if plan.solver == "explicit" else diffrax.Kvaerno5()
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda _, now, __: _velocity(plan, task, now)),
        solver,
        t0=0.0,
        t1=times[-1],
        dt0=None,
        y0=state,
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(ts=times, fn=lambda _, now, __: _record(plan, task, now)),
                diffrax.SubSaveAt(t1=True),
            ]
        ),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=ABSOLUTE_SHARE * tolerance),
        max_steps=plan.max_steps,
        throw=False,
    )
    (_, last_time), (record, last) = cast(Any, solution.ts), cast(Any, solution.ys)
    record = jnp.where(jnp.isfinite(record), record, jnp.nan)
    stats = solution.stats
    result = Solution(
        solution.result,
        stats["num_accepted_steps"] + stats["num_rejected_steps"],
        stats["num_rejected_steps"],
        last_time,
        last,
    )
    return result, record


def _outputs(task: Task, state: Grams | Weights) -> tuple[Float[Array, "M n"], Float[Array, "M n"]]:
    """F = E W^T and H = E W_0^T of a network without hidden layers."""
    if isinstance(state, Grams):
        return state.output, state.first_output
    embedding = task.neurons_each * state.embedding
    return embedding @ state.projection.T, embedding @ task.initial_projection.T


def _record(
    plan: Plan, task: Task | KernelTask, state: Grams | Weights | Impulse
) -> Float[Array, " quantities"]:
    if isinstance(task, KernelTask):
        assert isinstance(state, Impulse)
        return _linearised_record(plan, task, state)
    assert not isinstance(state, Impulse)
    if task.hidden is not None:
        assert isinstance(state, Weights)
        return _deep_record(plan, task, task.hidden, state)
    output, first_output = _outputs(task, state)
    losses, _ = loss_and_residual(plan.loss, output, task.targets)
    updates = (output - first_output, first_output - task.initial_output)
    rms = [jnp.sqrt(task.frequencies @ jnp.mean(update**2, axis=-1)) for update in updates]
    return jnp.stack([task.frequencies @ losses, *rms])


def _linearised_record(plan: Plan, task: KernelTask, state: Impulse) -> Float[Array, " quantities"]:
    output = task.initial_output + moved_output(task, state.received)
    losses, _ = loss_and_residual(plan.loss, output, task.targets)
    updates, hidden_squares = moved_by_layer(task, state.received)
    rms = [jnp.sqrt(task.frequencies @ jnp.mean(update**2, axis=-1)) for update in updates]
    return jnp.stack([task.frequencies @ losses, *rms, *jnp.sqrt(hidden_squares)])


def _deep_record(
    plan: Plan, task: Task, hidden: HiddenTask, state: Weights
) -> Float[Array, " quantities"]:
    """The same of a network with hidden layers; a mean over neurons is one over the width."""
    features, below = _through(hidden, state.hidden, state.embedding, upwards=True)
    losses, _ = loss_and_residual(plan.loss, features @ state.projection.T, task.targets)
    updates = [
        features @ (state.projection - task.initial_projection).T,
        (state.embedding - hidden.initial_embedding) @ hidden.initial_readout.T,
    ]
    rms = [jnp.sqrt(task.frequencies @ jnp.mean(update**2, axis=-1)) for update in updates]
    moved = jax.vmap(lambda rows, now, start: rows @ (now - start).T)(
        below, state.hidden, hidden.initial
    )
    squares = jnp.sum(moved**2, axis=-1) @ task.frequencies / hidden.width
    return jnp.stack([task.frequencies @ losses, *rms, *jnp.sqrt(squares)])


def _through(
    hidden: HiddenTask,
    matrices: Float[Array, "depth D D"],
    rows: Float[Array, "k D"],
    *,
    upwards: bool,
) -> tuple[Float[Array, "k D"], Float[Array, "depth k D"]]:
    """Features or residuals at the last level, or readouts at level 0; and what each layer read."""
    passage = derivations.level_up() if upwards else derivations.level_down()
    symbol = x.carried_residual if upwards else x.level_readout

    def layer(rows, matrix):
        values = {symbol: rows, x.hidden_matrix: matrix, x.skip: hidden.skip}
        return evaluate(passage, values), rows

    return jax.lax.scan(layer, rows, matrices, reverse=not upwards)


def _velocity(
    plan: Plan, task: Task | KernelTask, state: Grams | Weights | Impulse
) -> Grams | Weights | Impulse:
    """The derived right-hand side."""
    if isinstance(task, KernelTask):
        assert isinstance(state, Impulse)
        output = task.initial_output + moved_output(task, state.received)
        _, residual = loss_and_residual(plan.loss, output, task.targets)
        return Impulse(task.frequencies[:, None] * residual)
    assert not isinstance(state, Impulse)
    if isinstance(state, Grams):
        output, readout, above = state.output, None, None
    else:
        readout, above = state.projection, None
        if task.hidden is not None:
            readout, above = _through(task.hidden, state.hidden, readout, upwards=False)
        output = task.neurons_each * state.embedding @ readout.T
    _, residual = loss_and_residual(plan.loss, output, task.targets)
    values: dict[Any, Any] = {x.weighted_residual: task.frequencies[:, None] * residual}
    if isinstance(state, Grams):
        values |= {s.embedding_lr: task.embedding_lr, s.projection_lr: task.projection_lr}
        values |= {getattr(x, name): part for name, part in state._asdict().items()}
        return Grams(
            *(evaluate(derivations.gram_flow(cast(Any, n)), values) for n in Grams._fields)
        )
    values |= {x.embedding: state.embedding, x.projection: readout}
    rates = (task.embedding_lr, task.projection_lr)
    moves = []
    carried, hidden = None, None
    for layer, rate in zip(("embedding", "projection"), rates, strict=True):
        direction = evaluate(derivations.weight_gradient(layer), values)
        if layer == "projection" and task.hidden is not None:  # these residuals enter the layers
            direction, carried = _through(task.hidden, state.hidden, direction, upwards=True)
        if plan.smoothed:
            direction = evaluate(
                derivations.smoothed_sign(), {x.gradient: direction, x.smoothing: task.smoothing}
            )
        moves.append(-rate * direction)
    if task.hidden is not None:
        hidden = jax.vmap(_hidden_move)(task.hidden.lrs, cast(Array, above), cast(Array, carried))
    by_embedding, by_projection = moves
    return Weights(by_embedding, by_projection, hidden)


def _hidden_move(
    rate: Float[Array, ""], readout: Float[Array, "n D"], carried: Float[Array, "n D"]
) -> Float[Array, "D D"]:
    values: dict[Any, Any] = {x.level_readout: readout, x.carried_residual: carried}
    return -rate * evaluate(derivations.hidden_gradient(), values)
