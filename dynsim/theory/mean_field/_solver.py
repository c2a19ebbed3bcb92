"""One solution of the mean-field equations, step by step, and many side by side.

Model and notation are those of `Setup`; b_i = p_hat_i r_i is a token's weighted residual. The
fields are u^t = Z w^t per token and v^t = Z^T b^t per neuron, with Z the initial embedding. The
theory writes them as Gaussians plus responses; here Z is conditioned on the fields already seen
(`_conditioning`), which solves the same equations. No response is estimated as a derivative or by
inverting a covariance, so there is no cutoff and nothing that could fail to be positive definite;
sum_i b_i u_i = sum_l v_l w_l holds to rounding.

With linear hidden layers (`_hidden`) w is the readout pulled down through them, and sum_i b_i e_i
is carried up through them to the readout. Without any, both are where they belong already.

Weight decay multiplies what is left of Z: e_i(t) = a_t z_i + (moved part), a_t = prod (1 - eta
lambda), so that the outputs contain a_t u^t and the projection's gradient a_t v^t. Weights are
those of the function: multipliers of a parametrization are part of them, and of gradients.

Inner products are weighted sums over particles: a neuron particle stands for d/N neurons, a token
particle for nu tokens (`token_particles`). Neuron particles that are evenly spread in value give
the mean-field limit. Neuron particles that are drawn independently are, for N = d and nu = 1, the
exact dynamics of a finite network.

Source: docs/theory/mean_field.md#mean-field-equations; docs/theory/mean_field.md#hidden-layers.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from dynsim._losses import loss_and_residual
from dynsim._optimizers import Constants, direction
from dynsim._programs import program

from ._conditioning import Seen, defect, known_image, nothing_seen, split, where_new, without, write
from ._hidden import Hidden, Pass, Rule, carried_up, pair_table, pulled_down
from ._population import (
    ABOVE,
    BELOW,
    Population,
    empty_frames,
    frame_of,
    framed,
    fresh_normals,
)
from ._random import Random
from ._sampling import in_order
from ._updates import readout_and_hidden_squares


class Plan(NamedTuple):
    """What is compiled in: never a width, vocabulary, token law, learning rate or seed.

    `optimizer` is entrywise; `muon` says whether hidden matrices have Muon instead.
    """

    tokens: int
    neurons: int
    outputs: int
    loss: str
    optimizer: str
    steps: int
    responses: bool
    depth: int = 0
    residual: bool = False
    muon: bool = False


class Multipliers(NamedTuple):
    """A weight of the function is so many times the one that is trained."""

    embedding: Float[Array, ""]
    hidden: Float[Array, ""]
    projection: Float[Array, ""]


class Sizes(NamedTuple):
    """Initial standard deviations are those of the function's weights, multipliers included."""

    width: Float[Array, ""]
    embedding_std: Float[Array, ""]
    hidden_std: Float[Array, ""]
    projection_std: Float[Array, ""]
    multipliers: Multipliers
    neurons: Float[Array, ""]  # neuron particles in use; the others weigh nothing
    even: Bool[Array, ""]  # whether these are evenly spread in value, or drawn independently


class Descent(NamedTuple):
    constants: Constants
    independent_decay: Float[Array, ""]  # weight decay that no learning rate multiplies
    factors: Float[Array, " T"]  # of the learning rates


class Tokens(NamedTuple):
    frequencies: Float[Array, " M"]
    multiplicities: Float[Array, " M"]
    targets: Float[Array, "M n"]
    is_tail: Bool[Array, " M"]


class Case(NamedTuple):
    """What solutions side by side do not share, here without the axis of these."""

    embedding_lr: Float[Array, ""]
    hidden_lrs: Float[Array, " L"]
    projection_lr: Float[Array, ""]
    side: Float[Array, ""]  # +1 or -1, the sign of the head tokens' fresh Gaussians
    shares: Float[Array, "T M"]
    random: Random


class Weights(NamedTuple):
    """What training has moved, of the projection all; and what is left of the random matrices."""

    embedding: Float[Array, "M N"]
    hidden: Float[Array, "L N N"]
    projection: Float[Array, "N n"]
    scale: Float[Array, ""]
    hidden_scales: Float[Array, " L"]


class State(NamedTuple):
    """All that one step hands to the next."""

    weights: Weights
    memory: Any
    seen: Seen
    hidden_seen: Seen
    frames: Float[Array, "f N F"]
    first_readout: Float[Array, "N n"]  # the readout at level 0, before the first step
    first_field: Float[Array, "M n"]  # Z times it
    earlier: tuple[Float[Array, ""], Float[Array, "M n"]]


@partial(program, static_argnames="plan")
def solve(
    plan: Plan, tokens: Tokens, sizes: Sizes, descent: Descent, cases: Case
) -> tuple[Float[Array, "cases T columns"], Float[Array, " cases"]]:
    """Of every case: its record, as in `_solve_one`, and its defect."""
    return jax.vmap(partial(_solve_one, plan, tokens, sizes, descent))(cases)


def _solve_one(
    plan: Plan, tokens: Tokens, sizes: Sizes, descent: Descent, case: Case
) -> tuple[Float[Array, "T columns"], Float[Array, ""]]:
    """Loss and the mean-square updates at every step, and the conditioning's defect.

    The updates are those of projection, embedding, the projection's step and each hidden layer.
    """
    n, columns, width = plan.outputs, plan.outputs * plan.steps, sizes.width
    used = (jnp.arange(plan.neurons) < sizes.neurons)[:, None]
    neurons = jnp.where(used[:, 0], width / sizes.neurons, 0)  # the metric of neuron sums
    population = Population(width, neurons, used, sizes.even)
    nu, mass = tokens.multiplicities, tokens.multiplicities * tokens.frequencies
    occurs = jnp.any(case.shares > 0, axis=0)
    optimizer, decay = _optimizer(plan, descent.constants), descent.constants.weight_decay
    skip = 1.0 if plan.residual else 0.0
    on = sizes.multipliers
    random = case.random

    def token_field(seen, index, undirected, scale, moved, readout):
        """u = Z w and (e_i - a z_i) . w, with the new direction of w and its image."""
        known = known_image(seen.columns, seen.rows, readout, neurons, plan.responses)
        shift = moved @ (neurons[:, None] * readout)
        outputs = scale * known.expected + shift
        _, residual = loss_and_residual(plan.loss, outputs, tokens.targets)
        order = jnp.lexsort((residual[:, index % n], occurs, tokens.is_tail))
        drawn = in_order(undirected, jnp.where(tokens.is_tail, order, jnp.arange(plan.tokens)))
        noise = drawn * jnp.where(tokens.is_tail, 1, case.side)[:, None]
        noise = without(seen.rows.basis, nu, noise)
        image = where_new(known.fresh, noise + known.responding)
        return known.expected + image @ known.root, shift, known.fresh, image

    def neuron_field(seen, frames, index, undirected, scale, moved, weighted):
        """sum_i b_i e_i per neuron, and what has been seen of Z then."""
        known = known_image(seen.rows, seen.columns, weighted, nu, plan.responses)
        by_moved = moved.T @ (nu[:, None] * weighted)
        guess = scale * (known.expected + known.responding @ known.root) + by_moved
        order = jnp.argsort(guess[:, index % n])
        block, noise = fresh_normals(population, undirected, order, frame_of(frames, 0))
        noise = without(seen.columns.basis, neurons, noise)
        image = where_new(known.fresh, known.responding + noise)
        seen = Seen(
            seen.rows._replace(basis=write(seen.rows.basis, known.fresh, index)),
            seen.columns._replace(image=write(seen.columns.image, image, index)),
        )
        frames = framed(frames, block, index, 0, BELOW, columns)
        return scale * (known.expected + image @ known.root) + by_moved, seen, frames

    def mean_square(update):
        return mass @ jnp.mean(update**2, axis=-1)

    def hidden_gradient(down: Pass, up: Pass):
        """Of the function's hidden matrices: of pairs of neurons, or in coefficients for Muon."""
        if plan.muon:
            return on.hidden * jnp.einsum("lki,lji->lkj", down.coefficients, up.coefficients)
        return pair_table(on.hidden * down.inputs, up.inputs)

    def hidden_push(seen: Seen, directions):
        if plan.muon:
            return seen.rows.basis @ directions @ seen.columns.basis.swapaxes(1, 2)
        return directions

    empty = nothing_seen(plan.tokens, plan.neurons, columns)
    none_seen = nothing_seen(plan.neurons, plan.neurons, columns, plan.depth)
    frames = empty_frames(plan.neurons, columns, plan.depth, plan.residual)
    order = jnp.arange(plan.neurons)
    top = frame_of(frames, plan.depth)
    _, start = fresh_normals(population, random.neurons[-1], order, top)
    start = start * sizes.projection_std  # (N, n)

    def step(state: State, inputs):
        index, share, factor, own = inputs
        weights, frames = state.weights, state.frames
        moved, projection, scale = weights.embedding, weights.projection, weights.scale
        hidden = Hidden(weights.hidden, weights.hidden_scales, state.hidden_seen)
        rule = Rule(population, skip, plan.responses, index, own.hidden)
        readout, down = projection, None
        if plan.depth:
            _, block, _ = split(projection, frame_of(frames, plan.depth), neurons)
            frames = framed(frames, block, index, plan.depth, ABOVE, columns)
            down = pulled_down(rule, hidden, projection, frames)
            readout, frames = down.reached, down.frames
            hidden = hidden._replace(seen=down.seen)

        field, shift, fresh, image = token_field(
            state.seen, index, own.tokens, scale, moved, readout
        )
        if not plan.depth:
            _, block, _ = split(fresh, frame_of(frames, 0), neurons)
            frames = framed(frames, block, index, 0, ABOVE, columns)
        seen = Seen(
            state.seen.rows._replace(image=write(state.seen.rows.image, image, index)),
            state.seen.columns._replace(basis=write(state.seen.columns.basis, fresh, index)),
        )
        first_field = jnp.where(index == 0, field, state.first_field)
        first_readout = jnp.where(index == 0, readout, state.first_readout)

        outputs = scale * field + shift
        losses, residual = loss_and_residual(plan.loss, outputs, tokens.targets)
        on_first = moved @ (neurons[:, None] * first_readout)
        by_embedding = mean_square((scale - sizes.embedding_std) * first_field + on_first)

        weighted = share[:, None] * residual  # b
        residuals, seen, frames = neuron_field(
            seen, frames, index, own.neurons, scale, moved, weighted
        )
        gradients = {"embedding": (on.embedding * weighted) @ readout.T}
        if down is not None:
            up = carried_up(rule, hidden, residuals, frames)
            frames, hidden = up.frames, hidden._replace(seen=up.seen)
            gradients["hidden"] = hidden_gradient(down, up)
            residuals = up.reached
        gradients["projection"] = on.projection * residuals  # h
        directions, memory = cast(Any, optimizer.update(gradients, state.memory))
        rates = [factor * rate for rate in (case.embedding_lr, case.hidden_lrs, case.projection_lr)]
        embedding_lr, hidden_lrs, projection_lr = rates
        kept, kept_hidden, kept_projection = (
            1 - rate * decay - factor * descent.independent_decay for rate in rates
        )
        after = Weights(
            kept * moved - on.embedding * embedding_lr * directions["embedding"],
            weights.hidden,
            kept_projection * projection - on.projection * projection_lr * directions["projection"],
            kept * scale,
            kept_hidden * weights.hidden_scales,
        )
        change = after.projection - projection

        if plan.depth:
            pushed = hidden_push(hidden.seen, directions["hidden"])
            after = after._replace(
                hidden=kept_hidden[:, None, None] * weights.hidden
                - (on.hidden * hidden_lrs)[:, None, None] * pushed
            )
            rows = jnp.concatenate([projection - start, change], axis=1)
            of_rows, of_hidden = readout_and_hidden_squares(
                population,
                skip,
                hidden,
                sizes.hidden_std,
                rows,
                (seen, scale, moved),
                mass,
                (own.rows, own.row_points),
            )
            by_projection, by_step = jnp.mean(of_rows.reshape(2, n), axis=1)
            record = [mass @ losses, by_projection, by_embedding, by_step, *of_hidden]
        else:
            # The step before moved W on the embeddings of its own time, but Z w^{t+1} is known
            # only now.
            earlier_step = mean_square(state.earlier[0] * field + state.earlier[1])
            by_projection = mean_square(outputs - scale * first_field - on_first)
            record = [mass @ losses, by_projection, by_embedding, earlier_step]
        earlier = scale, moved @ (neurons[:, None] * change) - scale * field
        state = State(after, memory, seen, hidden.seen, frames, first_readout, first_field, earlier)
        return state, jnp.stack(record)

    pairs = jnp.zeros((plan.depth, plan.neurons, plan.neurons))
    begun = Weights(
        jnp.zeros((plan.tokens, plan.neurons)),
        pairs,
        start,
        sizes.embedding_std,
        jnp.full(plan.depth, sizes.hidden_std),
    )
    trained = {"embedding": begun.embedding, "projection": begun.projection}
    if plan.depth:
        trained["hidden"] = jnp.zeros((plan.depth, columns, columns)) if plan.muon else pairs
    no_field, one = jnp.zeros((plan.tokens, n)), jnp.ones(())
    state = State(
        begun,
        optimizer.init(trained),
        empty,
        none_seen,
        frames,
        start,
        no_field,
        (one, no_field),
    )
    state, record = jax.lax.scan(
        step,
        state,
        (
            jnp.arange(plan.steps),
            case.shares,
            descent.factors,
            jax.tree.map(lambda values: values[: plan.steps], random),
        ),
    )
    gap = defect(state.seen, nu, neurons)
    if plan.depth:
        of_layers = jax.vmap(defect, in_axes=(0, None, None))(state.hidden_seen, neurons, neurons)
        return record, jnp.maximum(gap, jnp.max(of_layers))
    last, *_ = token_field(
        state.seen,
        plan.steps,
        random.tokens[-1],
        state.weights.scale,
        state.weights.embedding,
        state.weights.projection,
    )
    last_step = mean_square(state.earlier[0] * last + state.earlier[1])
    return record.at[:, 3].set(jnp.append(record[1:, 3], last_step)), gap


def _optimizer(plan: Plan, numbers: Constants) -> optax.GradientTransformation:
    """Entrywise, but for hidden matrices that have Muon.

    Muon acts on the coefficients of a gradient in orthonormal bases of its rows and columns, as it
    would on the matrix itself.
    """
    rule = direction(plan.optimizer, numbers)
    if not (plan.muon and plan.depth):
        return rule
    axes = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    muon = optax.contrib.scale_by_muon(
        weight_dimension_numbers=partial(jax.tree.map, lambda _: axes)
    )
    return optax.partition(
        {"entrywise": rule, "muon": muon},
        {"embedding": "entrywise", "hidden": "muon", "projection": "entrywise"},
    )
