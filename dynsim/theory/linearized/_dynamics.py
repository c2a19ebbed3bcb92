"""The three ways in which a linearised network is trained, one function each.

Gradient descent and its flow move the outputs by f(t) = f(0) - Theta q(t), with q the accumulated
weighted residual, one number for each output: in closed form with mse (`learning`, of the modes of
the kernel), an ordinary differential equation for q otherwise (`gradient_flow`). Entrywise
optimizers are not linear in the gradient, and there the displacement of the parameters is followed
(`steps`, `smoothed_sign_flow`), with J held at the start. P = diag(p) are the points' weights, p r
the weighted residual.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg
from jax import Array

from dynsim._losses import loss_and_residual
from dynsim._optimizers import Constants, direction
from dynsim._programs import program

from ._functions import Floats
from ._products import linearisation, scaled

KRYLOV_LIMIT = 1000  # directions kept at most
KRYLOV_TOLERANCE = 1e-12
KRYLOV_BLOCK = 32  # directions for which there is room at first
KRYLOV_CHECK = 8  # directions added between two looks at the error
EXPLICIT_RTOL, IMPLICIT_RTOL = 1e-9, 1e-7  # a step; an implicit one costs a factorisation
SOLVER_STEPS = 50_000
STIFF = 2000.0  # largest eigenvalue times time from which a dense flow is solved implicitly


class Modes(NamedTuple):
    """Eigenpairs of P^(1/2) Theta P^(1/2) that the initial residual excites."""

    vectors: Floats  # (N n, K), orthonormal columns
    eigenvalues: Floats  # (K,)
    amplitudes: Floats  # (K,), the initial residual g = P^(1/2) (f - y) in these directions
    error: float  # of the residual at any of the times, relative to the initial one


def learned_fraction(eigenvalues: Floats, times: Floats, discrete: bool) -> Floats:
    """1 - exp(-lambda t), or 1 - (1 - lambda)^t after t steps of descent; shape (T, K)."""
    time = times[:, None]
    if not discrete:
        return -np.expm1(-eigenvalues * time)
    small = eigenvalues < 0.5
    with np.errstate(over="ignore"):
        slow = -np.expm1(time * np.log1p(-np.where(small, eigenvalues, 0)))
        return np.where(small, slow, 1 - (1 - eigenvalues) ** time)


def learning(
    eigenvalues: Floats, size: int, times: Floats, discrete: bool
) -> tuple[Floats, Floats]:
    """(fraction, fraction / lambda) of every mode of `size` outputs at every time, shape (T, K).

    Eigenvalues below the rounding of the largest are the kernel's null space: never learned.
    """
    alive = eigenvalues > eigenvalues.max(initial=0) * size * np.finfo(np.float64).eps
    rates = np.where(alive, eigenvalues, 1)
    fraction = np.where(alive, learned_fraction(rates, times, discrete), 0)
    return fraction, fraction / rates


def dense_modes(kernel: Array, share: Floats, residual: Floats) -> Modes:
    """All modes, by eigendecomposition; `share` is the square root of p, all vectors (N n,)."""
    values, vectors = map(np.asarray, jnp.linalg.eigh(share[:, None] * kernel * share[None, :]))
    return Modes(vectors, values, vectors.T @ (share * residual), 0.0)


def krylov_modes(
    product: Callable[[Floats], Floats],
    share: Floats,
    residual: Floats,
    times: Floats,
    discrete: bool,
    limit: int = KRYLOV_LIMIT,
) -> Modes:
    """The modes within the Krylov space of the initial residual (Lanczos).

    One space serves all times. It grows, fully reorthogonalised, until the part of the equation
    of motion that leaves it is below 1e-12 at every time: about sqrt(lambda_max t) products for
    a flow, t for t steps. Memory: one vector a direction. Source: Saad, SIAM J. Numer. Anal. 29
    (1992) 209 (the exponential), with the same error term for the other functions.
    """
    start = share * residual
    norm = float(np.linalg.norm(start))
    if norm == 0:
        return Modes(np.zeros((start.size, 1)), np.ones(1), np.zeros(1), 0.0)
    limit = min(limit, start.size)
    basis = np.empty((min(limit, KRYLOV_BLOCK), start.size))
    basis[0] = start / norm
    diagonal, beside = [], []
    while True:
        known = basis[: len(diagonal) + 1]
        image = product(known[-1])
        diagonal.append(float(known[-1] @ image))
        for _ in range(2):
            image = image - known.T @ (known @ image)
        left = float(np.linalg.norm(image))
        exhausted = left <= len(start) * np.finfo(np.float64).eps * np.max(np.abs(diagonal))
        full = len(known) == limit
        if exhausted or full or len(known) % KRYLOV_CHECK == 0:
            values, ritz = scipy.linalg.eigh_tridiagonal(diagonal, beside)
            error = 0.0
            if not exhausted and len(known) < start.size:
                weight = learning(values, start.size, times, discrete)[1]
                with np.errstate(over="ignore", invalid="ignore"):  # of a descent that diverges
                    error = left * float(np.max(np.abs(weight @ (ritz[0] * ritz[-1]))))
            if exhausted or full or error < KRYLOV_TOLERANCE:
                return Modes(known.T @ ritz, values, norm * ritz[0], error)
        beside.append(left)
        if len(known) == len(basis):
            room = np.empty((min(limit, 2 * len(basis)) - len(basis), start.size))
            basis = np.concatenate([basis, room])
        basis[len(diagonal)] = image / left


def named_constants(epsilon: Any) -> Constants:
    """The numbers of an optimizer asked for by name; without an epsilon, Adam's."""
    return Constants(0.9, 0.999, 1e-8 if epsilon is None else epsilon, 0.0)


def residuals(
    loss: str | Callable[[Any, Any], Any], outputs: Array, targets: Array
) -> tuple[Array, Array]:
    """Loss of every point and r = dl/df, in the shape of the outputs, (N,) or (N, n)."""
    if not isinstance(loss, str):
        return jax.vmap(jax.value_and_grad(loss))(outputs, targets)
    table = (len(outputs), -1)
    losses, residual = loss_and_residual(loss, outputs.reshape(table), targets.reshape(table))
    return losses, residual.reshape(outputs.shape)


class SolvedFlow(NamedTuple):
    """What a solver returned: arrays over times (NaN from where it stopped), how far, how hard."""

    values: Array
    last: Any
    reached: Array
    steps: Array


def _solve(field, start, times, scale, implicit, read, max_steps) -> SolvedFlow:
    """Integrates `field` from `start`, `read` of the state at every time.

    `scale` is the size of the state at which absolute errors count. Failure is a shorter result.
    """
    import diffrax  # half a second, which only a flow costs

    rtol = IMPLICIT_RTOL if implicit else EXPLICIT_RTOL
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, state, args: field(state)),
        diffrax.Kvaerno5() if implicit else diffrax.Tsit5(),
        t0=0.0,
        t1=times[-1],
        dt0=None,
        y0=start,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol * scale),
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(ts=times, fn=lambda t, state, args: read(state)),
                diffrax.SubSaveAt(t1=True, steps=False),
            ]
        ),
        max_steps=max_steps,
        throw=False,
    )
    values, last = cast(Any, solution.ys)
    arrived = jnp.all(jnp.isfinite(values), axis=tuple(range(1, values.ndim)))
    return SolvedFlow(
        jnp.where(jnp.isfinite(values), values, jnp.nan),
        jax.tree.map(lambda leaf: jnp.where(arrived[-1], leaf[0], jnp.nan), last),
        jnp.max(jnp.where(arrived, times, 0.0)),
        solution.stats["num_steps"],
    )


@partial(jax.jit, static_argnames=("f", "loss", "implicit", "max_steps"))
def gradient_flow(
    f, loss, params, rates, x, y, weights, times, kernel, largest, implicit, max_steps
):
    """z(t) = integral of the residual, dz/dt = r(f(0) - Theta P z), shape (T, ...) of the outputs.

    `kernel` is the matrix Theta or None for products; `weights` has the shape of the outputs and
    `largest` is lambda_max(P^(1/2) Theta P^(1/2)), which sets the scale of time.
    """
    net = linearisation(f, params, x)

    def field(z):
        impulse = weights * z
        if kernel is None:
            change = net.push(scaled(rates, net.pull(impulse)))
        else:
            change = (kernel @ impulse.ravel()).reshape(impulse.shape)
        return residuals(loss, net.start - change, y)[1]

    start = jnp.zeros_like(net.start)
    return _solve(field, start, times, 1 / largest, implicit, lambda z: z, max_steps)


@partial(jax.jit, static_argnames=("f", "loss", "max_steps"))
def smoothed_sign_flow(f, loss, params, rates, x, x_test, y, weights, times, epsilon, max_steps):
    """Outputs under dtheta/dt = -H g / sqrt(g^2 + epsilon^2), and the displacement at the end."""
    net, reading = linearisation(f, params, x), _reader(f, params, x, x_test)
    rule = direction("smoothed-sign", named_constants(epsilon))

    def field(travelled):
        _, residual = residuals(loss, net.start + net.push(scaled(rates, travelled)), y)
        gradient = net.pull(weights * residual)
        return jax.tree.map(jnp.negative, rule.update(gradient, optax.EmptyState())[0])

    start = jax.tree.map(jnp.zeros_like, params)

    def read(travelled):
        return reading(scaled(rates, travelled)).ravel()

    flow = _solve(field, start, times, times[-1], False, read, max_steps)
    return flow._replace(last=scaled(rates, flow.last))


@partial(program, static_argnames=("f", "loss", "optimizer"))
def steps(f, loss, optimizer, params, rates, x, x_test, y, weights, times):
    """Outputs after each number of steps, shape (T, ...), and the displacement at the end.

    `optimizer` is an optax transformation; its updates times `rates` are taken off the parameters.
    """
    net, reading = linearisation(f, params, x), _reader(f, params, x, x_test)

    def step(_, state):
        displacement, memory = state
        _, residual = residuals(loss, net.start + net.push(displacement), y)
        here = optax.apply_updates(params, displacement)
        updates, memory = optimizer.update(net.pull(weights * residual), memory, here)
        return jax.tree.map(jnp.subtract, displacement, scaled(rates, updates)), memory

    def until(state, gap):
        state = jax.lax.fori_loop(0, gap, step, state)
        return state, reading(state[0]).ravel()

    start = jax.tree.map(jnp.zeros_like, params), optimizer.init(params)
    (displacement, _), values = jax.lax.scan(until, start, jnp.diff(times, prepend=0))
    return values, displacement


def _reader(f, params, x, x_test) -> Callable[[Any], Array]:
    """displacement -> outputs at x and, behind them, at x_test, as one flat vector."""
    nets = [linearisation(f, params, x)]
    if x_test is not None:
        nets.append(linearisation(f, params, x_test))
    return lambda displacement: jnp.concatenate(
        [(net.start + net.push(displacement)).ravel() for net in nets]
    )


@partial(jax.jit, static_argnames="f")
def displacement_of(f, params, rates, x, impulse):
    """theta(t) - theta(0) = -H J^T q, for q in the shape of the outputs."""
    return jax.tree.map(jnp.negative, scaled(rates, linearisation(f, params, x).pull(impulse)))


@partial(jax.jit, static_argnames="f")
def outputs_of(f, params, rates, x, x_read, impulses):
    """f(0) - Theta(x_read, x) q at every q of `impulses`, shape (T, ...) of the outputs."""
    net, read = linearisation(f, params, x), linearisation(f, params, x_read)
    return jax.lax.map(lambda q: read.start - read.push(scaled(rates, net.pull(q))), impulses)
