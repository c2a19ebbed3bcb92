"""Gradient flow of the linear model at any width and vocabulary, and its smoothed-sign relative.

Time is measured in steps: dE/dt = -eta_E Phi(dL/dE), dW/dt = -eta_W Phi(dL/dW), with Phi the
identity (sgd) or g / sqrt(g^2 + epsilon^2) (smoothed-sign). Gradient flow of the mean squared
error closes in F = E W^T, G_E = E E^T and G_W = W W^T, whatever the width. What the flow starts
from is in `_starts`, how a vocabulary of 10^5 becomes a few effective tokens in `_krylov`, how it
is integrated in `_solver`. Source: docs/theory/gradient_flow.md#flow-equations.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from dynsim._errors import InputError, check_choice, check_integer
from dynsim._initial import MAX_SEEDS
from dynsim._network_setup import NetworkSetup
from dynsim._precision import require_x64
from dynsim._setup import Setup

from ._deep_starts import drawn_start, limit_start, wide_start
from ._kernels import kernel_size, kernel_task
from ._network import flow_network
from ._result import Floats, Flow
from ._solver import Plan, Run, integrate
from ._starts import (
    FlowLimit,
    FlowStart,
    finite_start,
    infinite_start,
    particle_start,
    proportional_start,
)
from ._state import state_size, task_and_state

FlowSolver = Literal["explicit", "implicit"]

DEFAULT_NODES, MAX_NODES = 30, 4096
DEFAULT_PARTICLES, MAX_PARTICLES = 2048, 2**20
DEFAULT_MAX_STEPS = 100_000
MAX_STATE = {"explicit": 2**24, "implicit": 1024}  # numbers; an implicit solver factors a Jacobian
DIRECTIONS = 1e-6  # relative length of a new part of a vector that still is a direction
COARSER_DIRECTIONS = 1e-4
FIELDS_OF_A_FLOW = {  # of a setup; others must keep their defaults
    *("width", "vocab_size", "tokens", "outputs", "loss", "targets", "target_rank", "init"),
    *("optimizer", "epsilon", "embedding_lr", "projection_lr", "steps", "batch_size", "seed"),
}
FIELDS_OF_A_DEEP_FLOW = (FIELDS_OF_A_FLOW - {"init", "projection_lr", "epsilon"}) | {
    *("network", "depth", "residual", "activation", "normalisation", "hidden_lr"),
    *("readout_ratio", "readout_lr", "parametrization", "lr_exponents", "init_exponents"),
    *("base_width", "precision"),
}


def gradient_flow(
    setup: Setup | NetworkSetup,
    times: ArrayLike,
    *,
    limit: FlowLimit = "finite",
    hidden_lrs: ArrayLike | None = None,
    nodes: int = DEFAULT_NODES,
    particles: int = DEFAULT_PARTICLES,
    network: int = 0,
    linearised: bool = False,
    error_estimate: bool = True,
    solver: FlowSolver = "explicit",
    tolerance: float = 1e-8,
    max_steps: int = DEFAULT_MAX_STEPS,
) -> Flow:
    """Solves the flow of `setup` and records it at `times`; one step of descent is a time of 1.

    Covered are the linear model (`Setup`) and networks with up to eight linear hidden layers: a
    `dynsim.laboratory.NetworkSetup` with `network` mlp, `activation` identity and `normalisation`
    none, whose learning rates are those at its base width.

    **Arguments:**

    - `setup`: optimizer sgd (gradient flow) or, without hidden layers, smoothed-sign, full batch;
      mean squared error, or cross-entropy at finite width.
    - `times`: shape (T,), not negative, increasing.
    - `limit`: `finite`: the network that `train` draws in float64; `infinite`: width to infinity
      at fixed vocabulary, in which the width sets the scale of the Grams alone; `proportional`:
      both to infinity at the setup's ratio, uniform tokens, gradient flow.
    - `hidden_lrs`: shape (depth,), rates of the hidden layers one by one, at the base width;
      default the setup's one for all.
    - `nodes`: blocks of effective tokens where frequencies differ, or nodes of the
      Marchenko-Pastur law (without hidden layers).
    - `particles`: neuron particles of the smoothed sign at infinite width.
    - `network`: which of `train`'s networks (limit finite).
    - `linearised`: the flow of the network linearised about its start, whose tangent kernel stays
      what it is; with hidden layers at limit finite or infinite.
    - `error_estimate`: solve again with two thirds of the nodes or half of the particles, and with
      hidden layers in a limit with fewer directions, for `loss_error`.
    - `solver`: `explicit` (Dormand-Prince 8(7)) or `implicit` (Kvaerno 5(4)), for stiff flows of
      few effective tokens.
    - `tolerance`: relative; the absolute one is a thousandth of it.
    - `max_steps`: of the solver; running out of them is a result, not an error.

    Raises `InputError` for what has no flow (mini-batches, Adam, the sign itself), for rates of
    layers that do not exist and for states too large, and `RuntimeError` if JAX's 64-bit types are
    off. Source: docs/theory/gradient_flow.md#flow-limits; docs/theory/gradient_flow.md#deep-flow;
    docs/theory/linearized.md#deep-tangent-kernel.

    **Example:**

    >>> from dynsim import Setup, gradient_flow
    >>> setup = Setup(width=64, vocab_size=32, optimizer="sgd", embedding_lr=1, projection_lr=1)
    >>> flow = gradient_flow(setup, [0.0, 10.0], limit="infinite", error_estimate=False)
    >>> flow.loss.round(3), flow.outcome.ok
    (array([0.585, 0.   ]), True)
    """
    require_x64()
    described = flow_network(setup, hidden_lrs)
    at = _checked_times(times)
    _check_setup(setup, limit)
    if linearised:
        _check_linearised(setup, limit)
    check_choice("solver", solver, get_args(FlowSolver))
    check_integer("nodes", nodes, 2, MAX_NODES)
    check_integer("particles", particles, 2, MAX_PARTICLES)
    check_integer("network", network, 0, MAX_SEEDS)
    check_integer("max_steps", max_steps, 1)
    if not 1e-13 <= tolerance <= 1e-2:
        raise InputError("tolerance", tolerance, "must be from 1e-13 to 1e-2")
    smoothed = setup.optimizer == "smoothed-sign"
    plan = Plan(setup.loss_name, smoothed, solver, max_steps)
    whole = smoothed or setup.loss_name != "mse"  # not invariant under rotations: actual tokens

    def checked_size(tokens: int, columns: int | None) -> int:
        size = state_size(tokens, setup.output_count, columns, weights=whole, depth=described.depth)
        if linearised:
            size = kernel_size(tokens, setup.output_count, described.depth)
        if size > MAX_STATE[solver]:
            raise _too_large(setup, limit, solver, size, smoothed)
        return size

    def started(coarser: bool, finer: FlowStart | None) -> FlowStart:
        count = 2 * nodes // 3 if coarser else nodes
        if isinstance(setup, NetworkSetup):
            if linearised and limit == "infinite":
                return wide_start(setup, described, count)
            if limit == "finite":
                return drawn_start(setup, count, network, checked_size, reduce=not whole)
            directions = COARSER_DIRECTIONS if coarser else DIRECTIONS
            numbers = count, float(at[-1]), directions, max_steps
            return limit_start(
                setup,
                described,
                *numbers,
                checked_size,
                proportional=limit == "proportional",
                at_least=finer,
            )
        if limit == "finite":
            return finite_start(setup, count, network, checked_size, reduce=not whole)
        if limit == "proportional":
            return proportional_start(setup, count, checked_size)
        if smoothed:
            return particle_start(setup, particles, checked_size, halved=coarser)
        return infinite_start(setup, count)

    def integrated(finer: FlowStart | None = None) -> tuple[FlowStart, int, Run]:
        start = started(finer is not None, finer)
        columns = None if start.embedding is None else start.embedding.shape[1]
        size = checked_size(len(start.frequencies), columns)
        if linearised:
            task, state = kernel_task(setup, described, start)
        else:
            task, state = task_and_state(setup, described, start, weights=whole)
        return start, size, integrate(plan, task, state, at, tolerance, start.reached)

    start, size, run = integrated()
    error = np.full(len(at), np.nan)
    if start.exact:
        error = np.zeros(len(at))
    elif error_estimate:
        error = np.abs(run.loss - integrated(start)[2].loss)
    return Flow(
        setup=setup,
        limit=limit,
        times=at,
        loss=run.loss,
        loss_error=error,
        projection_update_rms=run.projection_update_rms,
        embedding_update_rms=run.embedding_update_rms,
        effective_tokens=len(start.frequencies),
        state_size=size,
        solver_steps=run.steps,
        rejected_steps=run.rejected,
        fastest_rate=run.fastest_rate,
        reached=run.reached,
        outcome=run.outcome,
        hidden_update_rms=run.hidden_update_rms,
        linearised=linearised,
    )


def _checked_times(times: ArrayLike) -> Floats:
    at = np.atleast_1d(np.asarray(times, dtype=np.float64))
    allowed = "must be increasing times, none negative, the last one positive"
    if at.ndim != 1 or at.size == 0:
        raise InputError("times", f"of shape {at.shape}", allowed)
    wrong = ~np.isfinite(at) | (at < 0) | (at <= np.append(-1.0, at[:-1]))
    if np.any(wrong) or at[-1] <= 0:
        raise InputError("times", float(at[np.argmax(wrong) if np.any(wrong) else -1]), allowed)
    return at


def _check_setup(setup: Setup | NetworkSetup, limit: str) -> None:
    check_choice("limit", limit, get_args(FlowLimit))
    deep = isinstance(setup, NetworkSetup)
    if deep and setup.optimizer != "sgd":
        raise InputError("optimizer", setup.optimizer, "must be sgd for the flow of hidden layers")
    if setup.optimizer == "sign":
        raise InputError(
            "optimizer",
            setup.optimizer,
            "the sign is discontinuous and has no flow that a solver could follow; must be "
            "smoothed-sign (with `epsilon`) or sgd",
        )
    if setup.optimizer not in ("sgd", "smoothed-sign"):
        raise InputError("optimizer", setup.optimizer, "must be sgd or smoothed-sign for a flow")
    if setup.batch_size:
        raise InputError("batch_size", setup.batch_size, "a flow needs the full batch (0)")
    if setup.loss_name != "mse" and limit != "finite":
        raise InputError("loss", setup.loss_name, f"must be mse with `limit` {limit}")
    if setup.optimizer == "smoothed-sign" and limit == "proportional":
        raise InputError(
            "optimizer",
            setup.optimizer,
            "must be sgd with `limit` proportional (the limit of sign descent is predict)",
        )
    known = FIELDS_OF_A_DEEP_FLOW if deep else FIELDS_OF_A_FLOW
    for field in dataclasses.fields(setup):
        value = getattr(setup, field.name)
        if field.name not in known and value != field.default:
            rule = "left out" if field.default is None else field.default
            allowed = f"has no meaning for a flow, must be {rule}"
            raise InputError(field.name, value, allowed)


def _check_linearised(setup: Setup | NetworkSetup, limit: str) -> None:
    if setup.optimizer != "sgd":
        raise InputError(
            "optimizer", setup.optimizer, "must be sgd for the flow of a tangent kernel"
        )
    if isinstance(setup, NetworkSetup) and limit == "proportional":
        allowed = "must be finite or infinite when linearised with hidden layers"
        raise InputError("limit", limit, allowed)


def _too_large(
    setup: Setup | NetworkSetup, limit: str, solver: str, size: int, smoothed: bool
) -> InputError:
    if solver == "implicit":
        field, value, remedy = "solver", solver, "lower `nodes` or take the explicit solver"
    elif isinstance(setup, NetworkSetup):
        field, value, remedy = "width", setup.width, "lower `depth`, or `limit` infinite"
        if limit != "finite":
            field, value = "depth", setup.depth
            remedy = "lower `nodes` or `outputs`, or ask for earlier times"
    elif smoothed:
        field, value, remedy = "vocab_size", setup.vocab_size, "a smoothed sign needs all tokens"
    else:
        field, value, remedy = "vocab_size", setup.vocab_size, "lower `nodes` or `outputs`"
        if limit == "finite":
            remedy += ", or `limit` infinite"
    allowed = f"the flow's state has {size} numbers, must be at most {MAX_STATE[solver]}: {remedy}"
    return InputError(field, value, allowed)
