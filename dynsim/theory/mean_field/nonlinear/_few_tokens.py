"""Mean field with few tokens: every token is a direction of its own in the space of neurons.

h_0 = e_i, h_l = s h_{l-1} + A_l z_{l-1}, z_l = phi(norm(h_l)), f_i = W z_L. With the m tokens fixed
and the width large, every neuron has the m numbers h_{l,i} at its level, and an initial hidden
matrix enters through its images of m vectors a step on either side: the features z_{l-1,i} from
below and the gradients delta_{l,i} = dl_i/dh_l from above,

    delta_{L,i} = (dz_L/dh_L)^T W^T b_i,
    delta_{l-1,i} = s delta_{l,i} + (dz_{l-1}/dh_{l-1})^T A_l^T delta_{l,i}.

It is conditioned on both as with linear layers (`through_matrix`), where n outputs take the place
of m tokens. The gradient of A_l is sum_i delta_{l,i} z_{l-1,i}^T, of rank m.

Neuron particles that are evenly spread in value give the limit; as many independent ones as the
network has neurons give the network's own law.

Source: docs/theory/mean_field.md#nonlinear-layers.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynsim._draws import normal, uniform
from dynsim._losses import loss_and_residual
from dynsim._programs import program
from dynsim.theory.mean_field._conditioning import Seen, defect, nothing_seen
from dynsim.theory.mean_field._hidden import Rule, pair_table, through_matrix
from dynsim.theory.mean_field._population import (
    ABOVE,
    BELOW,
    Population,
    empty_frames,
    frame_of,
    framed,
    fresh_normals,
    sequence_of,
)
from dynsim.theory.mean_field._solver import LAYERS, Case, Descent, Plan, Sizes, Tokens
from dynsim.theory.mean_field._solver import optimizer_of as optimizer_of_layers
from dynsim.theory.mean_field._updates import image_by_itself

from ._levels import features

TRAINED = (*LAYERS, "gains")


class Weights(NamedTuple):
    """Embedding, projection and gains are whole; of hidden matrices it is what training moved."""

    embedding: Float[Array, "N m"]
    hidden: Float[Array, "L N N"]
    projection: Float[Array, "N n"]
    gains: Float[Array, "levels N"]
    scales: Float[Array, " L"]  # of the Gaussian matrices: initial std and what decay has left


class State(NamedTuple):
    """All that one step hands to the next."""

    weights: Weights
    memory: Any
    seen: Seen
    frames: Float[Array, "f N F"]
    first_outputs: Float[Array, "m n"]


def _of_layer(seen: Seen, place: int) -> Seen:
    """What has been seen of one of the matrices."""
    return jax.tree.map(lambda columns: columns[place], seen)


@partial(program, static_argnames="plan")
def solve(
    plan: Plan, tokens: Tokens, sizes: Sizes, descent: Descent, cases: Case
) -> tuple[Float[Array, "cases T columns"], Float[Array, " cases"]]:
    """As `solve` of linear layers: of every case its record and the conditioning's defect."""
    return jax.vmap(partial(_solve_one, plan, tokens, sizes, descent))(cases)


def _solve_one(
    plan: Plan, tokens: Tokens, sizes: Sizes, descent: Descent, case: Case
) -> tuple[Float[Array, "T columns"], Float[Array, ""]]:
    m, depth, width = plan.tokens, plan.depth, sizes.width
    columns, on = m * plan.steps, sizes.multipliers
    used = (jnp.arange(plan.neurons) < sizes.neurons)[:, None]
    metric = jnp.where(used[:, 0], width / sizes.neurons, 0)
    population = Population(width, metric, used, sizes.even)
    optimizer = optimizer_of_layers(plan, descent.constants, TRAINED)
    decay, skip = descent.constants.weight_decay, 1.0 if plan.residual else 0.0
    key = jax.random.key(case.seed)

    def read(level, stream, gain):
        activation = plan.activation if level else "identity"
        return features(population, activation, plan.normalisation, stream, gain)

    def mean_square(update):
        """sum_i p_i mean_k x_ik^2 of numbers by token (m, k)."""
        return tokens.frequencies @ jnp.mean(update**2, axis=1)

    def outputs_of(features, projection):
        return features.T @ (metric[:, None] * projection)

    frames = empty_frames(plan.neurons, columns + m, depth, plan.residual)  # a last step: the start
    begin = jax.random.split(jax.random.fold_in(key, plan.steps))
    points = uniform(begin[0], (plan.neurons + 1, m))
    order, last = jnp.arange(plan.neurons), jnp.asarray(plan.steps)
    sequence = sequence_of(population, points[0], points[1:])
    block, embedding = fresh_normals(population, sequence, order, frame_of(frames, 0))
    frames = framed(frames, block, last, 0, BELOW, columns + m)
    start = case.neuron_normals[plan.steps]
    block, projection = fresh_normals(population, start, order, frame_of(frames, depth))
    block = jnp.pad(block, ((0, 0), (0, max(m - plan.outputs, 0))))[:, :m]
    frames = framed(frames, block, last, depth, ABOVE, columns + m)
    first_projection = sizes.projection_std * projection

    def initial_outputs_of(weights, seen, key):
        """The outputs if no layer but the embedding had moved."""
        stream = weights.embedding
        for level in range(depth + 1):
            z, _ = read(level, stream, jnp.ones(plan.neurons))
            if level == depth:
                return outputs_of(z, first_projection)
            rows, below = _of_layer(seen, level)
            noise = normal(jax.random.fold_in(key, level), z.shape)
            image = image_by_itself(below, rows, z, metric, used * noise)
            stream = skip * stream + sizes.hidden_std * image
        raise AssertionError

    def step(state: State, inputs):
        index, share, factor = inputs
        weights, frames = state.weights, state.frames
        at = jax.random.fold_in(key, index)
        rule = Rule(population, skip, plan.responses, columns + m, index)

        def sequence(place, side):
            points = uniform(jax.random.fold_in(at, 2 * place + side), (plan.neurons + 1, m))
            return sequence_of(population, points[0], points[1:])

        seen = [_of_layer(state.seen, place) for place in range(depth)]

        stream, read_by, pulls, below, of_hidden = weights.embedding, [], [], [], []
        for level in range(depth + 1):
            z, pull = read(level, stream, weights.gains[level])
            read_by.append(z)
            pulls.append(pull)
            if level == depth:
                break
            learned = weights.hidden[level] @ (metric[:, None] * z)
            scale = weights.scales[level]
            direct, drawn = skip * stream + learned, sequence(level, BELOW)
            up = through_matrix(rule, level, scale, seen[level], z, direct, frames, drawn, True)
            frames, seen[level] = up.frames, up.seen
            below.append(up.coefficients)
            initial = up.reached - skip * stream - learned  # (scale)(Gaussian matrix) z
            shrunk = 1 - sizes.hidden_std / jnp.where(scale == 0, 1, scale)
            change = learned + jnp.where(scale == 0, 0, shrunk) * initial
            of_hidden.append(tokens.frequencies @ (change**2).T @ metric / width)
            stream = up.reached

        projection, top = weights.projection, read_by[-1]
        outputs = outputs_of(top, projection)
        losses, residual = loss_and_residual(plan.loss, outputs, tokens.targets)
        first = jnp.where(index == 0, outputs, state.first_outputs)
        weighted = share[:, None] * residual  # b

        delta, by_gain = pulls[depth](projection @ weighted.T)
        gradients: dict[str, Any] = {"projection": on.projection * top @ weighted}
        gains, of_matrices = [by_gain], []
        for place in reversed(range(depth)):
            scale, hidden = weights.scales[place], weights.hidden[place]
            direct = hidden.T @ (metric[:, None] * delta)
            drawn = sequence(place, ABOVE)
            down = through_matrix(
                rule, place, scale, seen[place], delta, direct, frames, drawn, False
            )
            frames, seen[place] = down.frames, down.seen
            if plan.muon:
                gradient = down.coefficients @ below[place].T
            else:
                gradient = pair_table(delta[None], read_by[place][None])[0]
            of_matrices.append(on.hidden * gradient)
            pulled, by_gain = pulls[place](down.reached)
            delta = skip * delta + pulled
            gains.append(by_gain)
        gradients["hidden"] = jnp.stack(of_matrices[::-1])
        gradients["gains"] = jnp.stack(gains[::-1])
        gradients["embedding"] = on.embedding * delta

        whole = jax.tree.map(lambda *sides: jnp.stack(sides), *seen)
        directions, memory = cast(Any, optimizer.update(gradients, state.memory))
        pushed = directions["hidden"]
        if plan.muon:
            pushed = whole.rows.basis @ pushed @ whole.columns.basis.swapaxes(1, 2)
        rates = [factor * rate for rate in (case.embedding_lr, case.hidden_lrs, case.projection_lr)]
        embedding_lr, hidden_lrs, projection_lr = rates
        kept, kept_hidden, kept_projection = (
            1 - rate * decay - factor * descent.independent_decay for rate in rates
        )
        after = Weights(
            kept * weights.embedding - on.embedding * embedding_lr * directions["embedding"],
            kept_hidden[:, None, None] * weights.hidden
            - (on.hidden * hidden_lrs)[:, None, None] * pushed,
            kept_projection * projection - on.projection * projection_lr * directions["projection"],
            weights.gains - sizes.gain_rate * embedding_lr * directions["gains"],
            kept_hidden * weights.scales,
        )
        alone = initial_outputs_of(weights, whole, jax.random.fold_in(at, 2 * depth))
        by_embedding = jnp.where(index == 0, 0, mean_square(alone - first))
        record = [
            tokens.frequencies @ losses,
            mean_square(outputs_of(top, projection - first_projection)),
            by_embedding,
            mean_square(outputs_of(top, after.projection - projection)),
            *of_hidden,
        ]
        return State(after, memory, whole, frames, first), jnp.stack(record)

    pairs = jnp.zeros((depth, plan.neurons, plan.neurons))
    begun = Weights(
        sizes.embedding_std * embedding,
        pairs,
        first_projection,
        jnp.ones((depth + 1, plan.neurons)),
        jnp.full(depth, sizes.hidden_std),
    )
    trained = {
        "embedding": begun.embedding,
        "hidden": jnp.zeros((depth, columns, columns)) if plan.muon else pairs,
        "projection": begun.projection,
        "gains": begun.gains,
    }
    state = State(
        begun,
        optimizer.init(trained),
        nothing_seen(plan.neurons, plan.neurons, columns, depth),
        frames,
        jnp.zeros((m, plan.outputs)),
    )
    state, record = jax.lax.scan(
        step, state, (jnp.arange(plan.steps), case.shares, descent.factors)
    )
    gaps = jax.vmap(defect, in_axes=(0, None, None))(state.seen, metric, metric)
    return record, jnp.max(gaps)
