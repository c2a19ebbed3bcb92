"""One solution of the mean-field equations, step by step, and many side by side.

Model and notation are those of `Setup`; b_i = p_hat_i r_i is a token's weighted residual. The
fields are u^t = Z w^t per token and v^t = Z^T b^t per neuron, with Z the initial embedding. The
theory writes them as Gaussians plus responses; here Z is conditioned on the fields already seen
(`_conditioning`), which solves the same equations. No response is estimated as a derivative or by
inverting a covariance, so there is no cutoff and nothing that could fail to be positive definite;
sum_i b_i u_i = sum_l v_l w_l holds to rounding.

Weight decay multiplies what is left of Z: e_i(t) = a_t z_i + (moved part), a_t = prod (1 - eta
lambda), so that the outputs contain a_t u^t and the projection's gradient a_t v^t.

Inner products are weighted sums over particles: a neuron particle stands for d/N neurons, a token
particle for nu tokens (`token_particles`). Neuron particles that are evenly spread in value give
the mean-field limit. Neuron particles that are drawn independently are, for N = d and nu = 1, the
exact dynamics of a finite network.

Source: docs/theory/mean_field.md#mean-field-equations.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dynsim._losses import loss_and_residual
from dynsim._optimizers import Constants, direction
from dynsim._programs import program

from ._conditioning import defect, nothing_seen, response, split, where_new, without, write
from ._sampling import even_points, normals


class Plan(NamedTuple):
    """What is compiled in: never a width, vocabulary, token law, learning rate or seed."""

    tokens: int
    neurons: int
    outputs: int
    loss: str
    optimizer: str
    steps: int
    responses: bool


class Sizes(NamedTuple):
    width: Float[Array, ""]
    projection_std: Float[Array, ""]
    neurons: Float[Array, ""]  # neuron particles in use; the others weigh nothing
    even: Bool[Array, ""]  # whether these are evenly spread in value, or drawn independently


class Descent(NamedTuple):
    constants: Constants
    factors: Float[Array, " T"]  # of the learning rates


class Tokens(NamedTuple):
    frequencies: Float[Array, " M"]
    multiplicities: Float[Array, " M"]
    targets: Float[Array, "M n"]
    is_tail: Bool[Array, " M"]


class Case(NamedTuple):
    """What solutions that are computed side by side do not share (here without the axis of these).

    Places 0 to T - 1 of the random numbers are for the steps' fresh Gaussians, the last token place
    for Z w^T and the last neuron place for the initial projection.
    """

    embedding_lr: Float[Array, ""]
    projection_lr: Float[Array, ""]
    side: Float[Array, ""]  # +1 or -1, the sign of the head tokens' fresh Gaussians
    shares: Float[Array, "T M"]
    token_points: Float[Array, "places M n"]  # uniform in (0, 1)
    token_shifts: Float[Array, "places n"]  # of the evenly spread ones
    neuron_points: Float[Array, "places N n"]
    neuron_shifts: Float[Array, "places n"]


@partial(program, static_argnames="plan")
def solve(
    plan: Plan, tokens: Tokens, sizes: Sizes, descent: Descent, cases: Case
) -> tuple[Float[Array, "cases T 4"], Float[Array, " cases"]]:
    """Of every case: its record, as in `_solve_one`, and its defect."""
    return jax.vmap(partial(_solve_one, plan, tokens, sizes, descent))(cases)


def _solve_one(
    plan: Plan, tokens: Tokens, sizes: Sizes, descent: Descent, case: Case
) -> tuple[Float[Array, "T 4"], Float[Array, ""]]:
    """Loss and the three mean-square updates at every step, and the conditioning's defect."""
    n, columns, width = plan.outputs, plan.outputs * plan.steps, sizes.width
    used = (jnp.arange(plan.neurons) < sizes.neurons)[:, None]
    neurons = jnp.where(used[:, 0], width / sizes.neurons, 0)  # the metric of neuron sums
    nu, mass = tokens.multiplicities, tokens.multiplicities * tokens.frequencies
    occurs = jnp.any(case.shares > 0, axis=0)
    optimizer = direction(plan.optimizer, descent.constants)
    decay = descent.constants.weight_decay

    def neuron_normals(place, order, frame):
        """Standard normals (N, n): evenly spread and orthogonal to the frame, or independent."""
        points = even_points(case.neuron_shifts[place], order)
        drawn = normals(jnp.where(sizes.even, points, case.neuron_points[place]))
        _, even, _ = split(drawn, frame, neurons)
        return even, jnp.where(sizes.even, even * jnp.sqrt(width), used * drawn)

    def token_field(seen, index, scale, moved, projection):
        """u = Z w and (e_i - a z_i) . w, with the new direction of w and its image."""
        old, fresh, root = split(projection, seen.neuron_basis, neurons)
        shift = moved @ (neurons[:, None] * projection)
        expected = seen.token_image @ old
        outputs = scale * expected + shift
        _, residual = loss_and_residual(plan.loss, outputs, tokens.targets)
        order = jnp.lexsort((residual[:, index % n], occurs, tokens.is_tail))
        points = even_points(case.token_shifts[index], order)
        drawn = normals(jnp.where(tokens.is_tail[:, None], points, case.token_points[index]))
        noise = drawn * jnp.where(tokens.is_tail, 1, case.side)[:, None]
        image = noise = without(seen.token_basis, nu, noise)
        if plan.responses:
            image = noise + response(seen.token_basis, seen.neuron_image, neurons, fresh)
        image = where_new(fresh, image)
        return expected + image @ root, shift, fresh, image

    def mean_square(update):
        return mass @ jnp.mean(update**2, axis=-1)

    seen = nothing_seen(plan.tokens, plan.neurons, columns)
    _, start = neuron_normals(plan.steps, jnp.arange(plan.neurons), seen.frame)
    start = start * sizes.projection_std  # (N, n)
    weights = {"embedding": jnp.zeros((plan.tokens, plan.neurons)), "projection": start}

    def step(carry, inputs):
        weights, memory, seen, scale, first_field, earlier = carry
        index, share, factor = inputs
        moved, projection = weights["embedding"], weights["projection"]  # moved: e_i(t) - a z_i
        field, shift, fresh, image = token_field(seen, index, scale, moved, projection)
        _, framed, _ = split(fresh, seen.frame, neurons)
        seen = seen._replace(
            neuron_basis=write(seen.neuron_basis, fresh, index),
            token_image=write(seen.token_image, image, index),
            frame=write(seen.frame, framed, 2 * index),
        )
        first_field = jnp.where(index == 0, field, first_field)

        outputs = scale * field + shift
        losses, residual = loss_and_residual(plan.loss, outputs, tokens.targets)
        on_start = moved @ (neurons[:, None] * start)
        # The step before moved W on the embeddings of its own time: only now is Z w^{t+1} known.
        updates = (
            outputs - scale * first_field - on_start,
            (scale - 1) * first_field + on_start,
            earlier[0] * field + earlier[1],
        )
        record = jnp.stack([mass @ losses, *map(mean_square, updates)])

        weighted = share[:, None] * residual  # b
        old, fresh, root = split(weighted, seen.token_basis, nu)
        by_moved = moved.T @ (nu[:, None] * weighted)
        expected = seen.neuron_image @ old
        responding = jnp.zeros((plan.neurons, n))
        if plan.responses:
            responding = response(seen.neuron_basis, seen.token_image, nu, fresh)
        guess = scale * (expected + responding @ root) + by_moved
        framed, noise = neuron_normals(index, jnp.argsort(guess[:, index % n]), seen.frame)
        noise = without(seen.neuron_basis, neurons, noise)
        image = where_new(fresh, responding + noise)
        seen = seen._replace(
            token_basis=write(seen.token_basis, fresh, index),
            neuron_image=write(seen.neuron_image, image, index),
            frame=write(seen.frame, framed, 2 * index + 1),
        )
        gradients = {
            "embedding": weighted @ projection.T,
            "projection": scale * (expected + image @ root) + by_moved,  # h
        }
        directions, memory = cast(Any, optimizer.update(gradients, memory))
        embedding_lr, projection_lr = factor * case.embedding_lr, factor * case.projection_lr
        shrink = 1 - embedding_lr * decay
        weights = {
            "embedding": shrink * moved - embedding_lr * directions["embedding"],
            "projection": (1 - projection_lr * decay) * projection
            - projection_lr * directions["projection"],
        }
        change = weights["projection"] - projection
        earlier = scale, moved @ (neurons[:, None] * change) - scale * field
        return (weights, memory, seen, shrink * scale, first_field, earlier), record

    one, no_field = jnp.ones(()), jnp.zeros((plan.tokens, n))
    carry = (weights, optimizer.init(weights), seen, one, no_field, (one, no_field))
    (weights, _, seen, scale, _, earlier), record = jax.lax.scan(
        step, carry, (jnp.arange(plan.steps), case.shares, descent.factors)
    )
    last, *_ = token_field(seen, plan.steps, scale, weights["embedding"], weights["projection"])
    of_steps = jnp.append(record[1:, 3], mean_square(earlier[0] * last + earlier[1]))
    return record.at[:, 3].set(of_steps), defect(seen, nu, neurons)
