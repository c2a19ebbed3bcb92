"""The flows' right-hand sides, their solver, and what a failure of it means.

State: the Gram matrices (gradient flow of the mean squared error) or the weights (any loss, and the
smoothed sign). The right-hand sides are `derivations.gram_flow` and `derivations.weight_gradient`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

import derivations
from derivations import flow_symbols as x
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._losses import loss_and_residual
from dynsim._setup import Setup

from ._starts import FlowStart

ABSOLUTE = 1e-3  # absolute over relative tolerance: outputs are of order one
STABILITY = 3.3  # rate times step at which an explicit step turns unstable
HOPELESS = 1e9  # steps that no flow is given
STIFF_SHARE = 0.3  # of the steps so far that stability asked for, from which a flow is stiff

Floats = NDArray[np.float64]
Numbers = Any  # numpy's outside of a compiled function, a JAX array inside


class Plan(NamedTuple):
    """What is compiled in."""

    loss: str
    smoothed: bool
    solver: str
    max_steps: int


class Task(NamedTuple):
    frequencies: Numbers  # (M,)
    targets: Numbers  # (M, n)
    initial_output: Numbers  # (M, n)
    initial_projection: Numbers  # (n, D); (n, 0) for Grams
    neurons_each: Numbers
    embedding_lr: Numbers
    projection_lr: Numbers
    smoothing: Numbers


class Grams(NamedTuple):
    """The closed state of gradient flow; fields as in `derivations.FlowState`."""

    output: Numbers  # (M, n), F = E W^T
    embedding_gram: Numbers  # (M, M)
    projection_gram: Numbers  # (n, n)
    first_output: Numbers  # (M, n), H = E W_0^T
    projection_overlap: Numbers  # (n, n), C = W W_0^T


class Weights(NamedTuple):
    embedding: Numbers  # (M, D)
    projection: Numbers  # (n, D)


def state_size(tokens: int, outputs: int, columns: int | None, *, weights: bool) -> int:
    """How many numbers flow: the Grams', or those of `columns` neurons where asked for or fewer."""
    grams = tokens**2 + 2 * outputs * (tokens + outputs)
    if columns is None:
        return grams
    held = (tokens + outputs) * columns
    return held if weights else min(grams, held)


def task_and_state(
    setup: Setup, start: FlowStart, *, weights: bool
) -> tuple[Task, Grams | Weights]:
    """What stays and what flows; Grams where they are smaller than the weights.

    Nothing of a Gram flow has the width's shape, so that all widths share one program.
    """
    tokens, n = start.targets.shape
    common = start.frequencies, start.targets
    numbers = map(
        np.float64, (start.neurons_each, setup.embedding_lr, setup.projection_lr, setup.epsilon)
    )
    if start.embedding is None or start.projection is None:
        grams = start.embedding_square * np.eye(tokens), start.projection_square * np.eye(n)
        output = np.zeros((tokens, n))
    else:
        e, w = start.embedding, start.projection
        output = start.neurons_each * e @ w.T
        if weights or state_size(tokens, n, None, weights=False) > e.size + w.size:
            return Task(*common, output, w, *numbers), Weights(e, w)
        grams = e @ e.T, w @ w.T
    task = Task(*common, output, np.zeros((n, 0)), *numbers)
    return task, Grams(output, *grams, output, grams[1])


class Solution(NamedTuple):
    result: Any  # diffrax.RESULTS
    steps: Array
    rejected: Array
    last_time: Array  # (1,)
    last_state: Any  # leaves with a leading axis of one


@dataclass(frozen=True, eq=False)
class Run:
    """One integrated flow, in the words of `Flow`."""

    loss: Floats
    projection_update_rms: Floats
    embedding_update_rms: Floats
    steps: int
    rejected: int
    fastest_rate: tuple[float, float]
    reached: float
    status: str


def integrate(
    plan: Plan, task: Task, state: Grams | Weights, times: Floats, tolerance: float
) -> Run:
    """Solves the flow; a solver that stops early is a result with a status that explains it."""
    solution, record = solve(plan, task, state, times, np.float64(tolerance))
    loss, by_projection, by_embedding = np.asarray(record).T
    reached, steps = float(solution.last_time[0]), int(solution.steps)
    last = jax.tree.map(lambda part: np.asarray(part)[0], solution.last_state)
    rates = fastest_rates(plan, task, last)
    status = "ok"
    if solution.result != diffrax.RESULTS.successful:
        message = diffrax.RESULTS[solution.result].partition(" Try increasing")[0]
        status = failure_status(plan, message, rates, steps, reached, float(times[-1]))
    rejected = int(solution.rejected)
    return Run(loss, by_projection, by_embedding, steps, rejected, rates, reached, status)


@partial(jax.jit, static_argnames="plan")
def solve(
    plan: Plan, task: Task, state: Grams | Weights, times: Numbers, tolerance: Numbers
) -> tuple[Solution, Array]:
    """The solution and (loss, projection update RMS, embedding update RMS) at `times`: (T, 3)."""
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
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=ABSOLUTE * tolerance),
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


def _outputs(task: Task, state: Grams | Weights) -> tuple[Array, Array]:
    """F = E W^T and H = E W_0^T, shapes (M, n)."""
    if isinstance(state, Grams):
        return state.output, state.first_output
    embedding = task.neurons_each * state.embedding
    return embedding @ state.projection.T, embedding @ task.initial_projection.T


def _record(plan: Plan, task: Task, state: Grams | Weights) -> Array:
    output, first_output = _outputs(task, state)
    losses, _ = loss_and_residual(plan.loss, output, task.targets)
    updates = (output - first_output, first_output - task.initial_output)
    rms = [jnp.sqrt(task.frequencies @ jnp.mean(update**2, axis=-1)) for update in updates]
    return jnp.stack([task.frequencies @ losses, *rms])


def _velocity(plan: Plan, task: Task, state: Grams | Weights) -> Grams | Weights:
    """The derived right-hand side."""
    if isinstance(state, Grams):
        output = state.output
    else:
        output = task.neurons_each * state.embedding @ state.projection.T
    _, residual = loss_and_residual(plan.loss, output, task.targets)
    values: dict[Any, Any] = {x.weighted_residual: task.frequencies[:, None] * residual}
    if isinstance(state, Grams):
        values |= {s.embedding_lr: task.embedding_lr, s.projection_lr: task.projection_lr}
        values |= {getattr(x, name): part for name, part in state._asdict().items()}
        return Grams(
            *(evaluate(derivations.gram_flow(cast(Any, n)), values) for n in Grams._fields)
        )
    values |= {x.embedding: state.embedding, x.projection: state.projection}
    rates = (task.embedding_lr, task.projection_lr)
    moves = []
    for layer, rate in zip(("embedding", "projection"), rates, strict=True):
        direction = evaluate(derivations.weight_gradient(layer), values)
        if plan.smoothed:
            direction = evaluate(
                derivations.smoothed_sign(), {x.gradient: direction, x.smoothing: task.smoothing}
            )
        moves.append(-rate * direction)
    return Weights(*moves)


def fastest_rates(plan: Plan, task: Task, state: Any) -> tuple[float, float]:
    """(projection's, embedding's) share of the bound on the flow's rates; NaN if not finite."""
    if not all(np.all(np.isfinite(part)) for part in state):
        return math.nan, math.nan
    p = np.asarray(task.frequencies)
    root = np.sqrt(p)[:, None]
    if isinstance(state, Grams):
        kernel = np.linalg.eigvalsh(root * state.embedding_gram * root.T)[-1]
        gram = state.projection_gram
    else:
        each = float(task.neurons_each)
        tall = root * state.embedding
        small = tall @ tall.T if len(p) < tall.shape[1] else tall.T @ tall
        kernel = each * np.linalg.eigvalsh(small)[-1]
        gram = each * state.projection @ state.projection.T
    sharpness = {
        x.embedding_sharpness: float(kernel),
        x.projection_sharpness: float(p.max() * np.linalg.eigvalsh(gram)[-1]),
    }
    steepest = float(1 / task.smoothing) if plan.smoothed else 1.0

    def share(embedding_lr: float, projection_lr: float) -> float:
        rates = {s.embedding_lr: embedding_lr, s.projection_lr: projection_lr}
        return steepest * float(evaluate(derivations.fastest_rate(), sharpness | rates))

    return share(0.0, float(task.projection_lr)), share(float(task.embedding_lr), 0.0)


def failure_status(
    plan: Plan, message: str, rates: tuple[float, float], steps: int, reached: float, end: float
) -> str:
    """What stopped the solver, which rate is stiff, and what to change."""
    text = f"stopped at t = {reached:.4g} of {end:.4g} after {steps} steps: {message.strip()}"
    total = sum(rates)
    if not math.isfinite(total):
        return f"{text} The state is not finite. What to change: lower the learning rates"
    larger = "projection" if rates[0] >= rates[1] else "embedding"
    text += (
        f" Fastest rate {total:.3g} per unit time ({max(rates) / max(total, 1e-300):.0%} from the "
        f"{larger}'s learning rate)"
    )
    needed = total * end / STABILITY
    if reached == 0 and needed > HOPELESS:
        remedies = ["raise `epsilon`"] if plan.smoothed else []
    elif plan.solver == "implicit":
        remedies = ["raise `max_steps`", "raise `tolerance`", "take `solver` explicit"]
    elif total * reached / STABILITY < STIFF_SHARE * steps:
        remedies = ["raise `max_steps`", "raise `tolerance`"]
    else:
        text += f", so the problem is stiff: an explicit solver needs about {needed:.2g} steps"
        remedies = ["raise `epsilon`" if plan.smoothed else "take `solver` implicit"]
        if needed <= HOPELESS:
            remedies.insert(0, f"raise `max_steps` to about {math.ceil(1.5 * needed):.3g}")
    remedies += ["shorten `time`", f"lower --{larger}-lr"]
    return f"{text}. What to change: {', '.join(remedies[:-1])} or {remedies[-1]}"
