"""Mean field of a nonlinear hidden layer with tokens and neurons in proportion.

h_ia = sum_b A_ab e_ib, f_i = sum_a V_a . phi(h_ia), b_i = p_i r_i. The gradient at h_ia is
delta_ia = phi'(h_ia) V_a . b_i, and those of the layers are sum_i delta_ia e_ib for A_ab,
sum_a A_ab delta_ia for e_ib and sum_i b_i phi(h_ia) for V_a. Seen from neuron a, delta_.a is a part
that it has in common with all neurons, and a rest that is independent between neurons: that of
phi'(h_ia), whose argument is Gaussian and new for every pair. The same holds for token i and the
directions delta_i., and for the moved parts of A and e. So

- neuron a sees the initial embedding through shared directions, means over neurons weighted by
  their readout's direction, and through a Gaussian matrix of its own for the rest;
- token i sees the initial hidden matrix through shared directions, means over tokens weighted by
  their residual's direction, and through one of its own;
- readout and residuals are shared directions too. What one matrix makes of them the other one
  meets: A^T V, whose image under the embedding is the linear part of the outputs, and Z^T b. This
  is the self term of the outputs: residuals, and with them the gradient of A, know of A^T V;
- frequent tokens are shared directions themselves, with their own embedding as the image.

Left out are correlations of the rest between neurons (of relative order 1/width), and dependences
of the common part on a neuron's readout beyond its direction.

Source: docs/theory/mean_field.md#gaussian-equivalence.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynsim._activation import activated
from dynsim._draws import normal
from dynsim._losses import loss_and_residual
from dynsim._programs import program
from dynsim.theory.mean_field._conditioning import defect
from dynsim.theory.mean_field._population import along
from dynsim.theory.mean_field._solver import (
    LAYERS,
    Case,
    Descent,
    Plan,
    Sizes,
    Tokens,
    optimizer_of,
)

from ._own_copies import (
    Copies,
    given_images,
    image_for_all,
    no_copies,
    own_images,
    shared_direction,
    shared_image,
)

ODD = ("tanh", "identity")
MOVED = 1e-3  # relative change of a readout from which on it has a direction of its own
DIRECTED = 1e-12  # a readout or residual below it, relative to the mean square, has no direction


class Weights(NamedTuple):
    """What training has moved, of the readout all; and what is left of the random matrices."""

    embedding: Float[Array, "M N"]
    hidden: Float[Array, "N N"]
    readout: Float[Array, "N n"]
    scale: Float[Array, ""]
    hidden_scale: Float[Array, ""]


class State(NamedTuple):
    """All that one step hands to the next."""

    weights: Weights
    memory: Any
    embedding: Copies  # as every hidden neuron sees it
    hidden: Copies  # as every token sees it
    pushed: tuple[Float[Array, "J N"], Float[Array, "K N"]]  # shared parts of the last updates
    shown: Float[Array, "N n"]  # the readout whose direction was shared last
    first_outputs: Float[Array, "M n"]


@partial(program, static_argnames="plan")
def solve(
    plan: Plan, tokens: Tokens, sizes: Sizes, descent: Descent, cases: Case
) -> tuple[Float[Array, "cases T columns"], Float[Array, " cases"]]:
    """As `solve` of linear layers: of every case its record and the conditioning's defect."""
    return jax.lax.map(partial(_solve_one, plan, tokens, sizes, descent), cases)


def _solve_one(
    plan: Plan, tokens: Tokens, sizes: Sizes, descent: Descent, case: Case
) -> tuple[Float[Array, "T columns"], Float[Array, ""]]:
    count, n, width = plan.neurons, plan.outputs, sizes.width
    metric = jnp.full(count, width / count)
    nu, mass = tokens.multiplicities, tokens.multiplicities * tokens.frequencies
    shared = n if plan.activation in ODD else n + 1
    a_step = n + shared + 1  # directions of either side
    optimizer = optimizer_of(plan, descent.constants, LAYERS)
    decay, on = descent.constants.weight_decay, sizes.multipliers
    key = jax.random.key(case.seed)

    def phi(x):
        return activated(plan.activation, x)

    slope = jax.vmap(jax.vmap(jax.grad(phi)))

    def weights_of(vectors):
        """By which members enter the shared directions: their unit vector, and 1 if phi is even."""
        length = jnp.sqrt(jnp.sum(vectors**2, axis=1, keepdims=True))
        least = DIRECTED * jnp.max(length)
        unit = jnp.where(length > least, vectors / jnp.where(length > least, length, 1), 0)
        if plan.activation not in ODD:
            unit = jnp.concatenate([unit, jnp.ones((len(unit), 1))], axis=1)
        return unit

    def mean_square(update):
        return mass @ jnp.mean(update**2, axis=1)

    def share(copies, vectors, of_rows, first, key):
        """Every vector becomes a shared direction, at places from `first` on."""
        size = len(copies.by_column if of_rows else copies.by_row)
        noise = normal(key, (len(vectors), size))
        return share_with(copies, vectors, noise, of_rows, first)

    def share_with(copies, vectors, noise, of_rows, first):
        def one(copies, inputs):
            place, vector, drawn = inputs
            return shared_direction(copies, vector, of_rows, first + place, drawn), None

        return jax.lax.scan(one, copies, (jnp.arange(len(vectors)), vectors, noise))[0]

    def share_met(copies, vectors, images, index, first, key):
        """What the other matrix has made: at the start its image is known, later drawn."""
        return jax.lax.cond(
            index == 0,
            lambda copies: share_known(copies, vectors, images, False, first),
            lambda copies: share(copies, vectors, False, first, key),
            copies,
        )

    def share_known(copies, vectors, images, of_rows, first):
        def one(copies, inputs):
            place, vector, image = inputs
            return shared_image(copies, vector, image, of_rows, first + place), None

        return jax.lax.scan(one, copies, (jnp.arange(len(vectors)), vectors, images))[0]

    keys = jax.random.split(jax.random.fold_in(key, plan.steps), 5)
    order = jax.random.permutation(keys[0], count)
    readout = sizes.projection_std * along(order, case.neuron_normals[plan.steps])
    rows = normal(keys[1], (count, count))  # of the hidden matrix, by hidden neuron
    first_embedding = normal(keys[2], (plan.tokens, count))
    length = jnp.sqrt(rows**2 @ metric)
    crossing = length[None, :] * normal(keys[3], (plan.tokens, count))  # A z, (M, N)

    last = plan.steps * a_step
    of_embedding = no_copies(count, nu, metric, last + max(plan.heads, 1))
    of_embedding = given_images(of_embedding, rows, crossing.T, False, jnp.asarray(last))
    if plan.heads:
        own = jnp.eye(plan.heads, plan.tokens), first_embedding[: plan.heads]
        of_embedding = share_with(of_embedding, *own, True, last)
    of_hidden = no_copies(plan.tokens, metric, metric, last + 1)
    of_hidden = given_images(of_hidden, first_embedding, crossing, False, jnp.asarray(last))
    gaussian = sizes.embedding_std * sizes.hidden_std

    def step(state: State, inputs):
        index, batch, factor = inputs
        weights, embedding, hidden = state.weights, state.embedding, state.hidden
        at = jax.random.split(jax.random.fold_in(key, index), 12)
        moved, learned, readout = weights.embedding, weights.hidden, weights.readout
        place = index * a_step

        # Columns of the embedding and of the hidden matrix are input neurons. Their updates:
        # A^T V at level 0, as all tokens see it, is what Z meets.
        # A readout that hardly moves has no new direction, only rounding.
        change = jnp.sum((readout - state.shown) ** 2, axis=0)
        new = change > MOVED**2 * jnp.sum(readout**2, axis=0)
        shown = jnp.where(new[None, :], readout, state.shown)
        hidden = share(hidden, shown.T, True, place, at[8])
        below = jax.vmap(lambda one: image_for_all(hidden, one, True))(shown.T)
        linear = (crossing @ (metric[:, None] * shown)).T
        embedding = share_met(embedding, below, linear, index, place, at[10])
        embedding = share(embedding, state.pushed[0], False, place + n, at[0])
        hidden = share(hidden, state.pushed[1], False, place + n, at[1])
        own = place + n + shared
        by_learned, embedding = own_images(embedding, learned, False, own, at[2])
        by_moved, hidden = own_images(hidden, moved, False, own, at[3])
        own_learned = weights.scale * by_learned.T + moved @ (metric[:, None] * learned.T)
        by_initial = weights.scale / sizes.embedding_std * gaussian * crossing
        by_initial = by_initial + sizes.hidden_std * by_moved  # A(0) e_i
        kept = weights.hidden_scale / sizes.hidden_std
        field = kept * by_initial + own_learned
        features, slopes = phi(field), slope(field)
        outputs = features @ (metric[:, None] * readout)
        losses, residual = loss_and_residual(plan.loss, outputs, tokens.targets)
        first = jnp.where(index == 0, outputs, state.first_outputs)
        alone = phi(by_initial) @ (metric[:, None] * first_readout) - first
        weighted = batch[:, None] * residual  # b

        mean = nu / jnp.sum(nu)
        if not plan.responses:
            by_token, by_neuron = jnp.mean(slopes, axis=1), mean @ slopes
            slopes = by_token[:, None] * by_neuron[None, :] / jnp.mean(by_neuron)
        delta = slopes * (weighted @ readout.T)  # (M, N)
        of_neurons, of_tokens = weights_of(readout), weights_of(weighted)
        # And Z^T b, as all neurons see it, is what A meets.
        embedding = share(embedding, weighted.T, True, place, at[9])
        carried = jax.vmap(lambda one: image_for_all(embedding, one, True))(weighted.T)
        linear = (crossing.T @ (nu[:, None] * weighted)).T
        hidden = share_met(hidden, carried, linear, index, place, at[11])
        embedding = share(embedding, (delta @ of_neurons / count).T, True, place + n, at[4])
        hidden = share(hidden, (of_tokens * mean[:, None]).T @ delta, True, place + n, at[5])
        down, embedding = own_images(embedding, delta.T, True, own, at[6])
        push, hidden = own_images(hidden, delta, True, own, at[7])
        gradients = {
            "embedding": on.embedding
            * (weights.hidden_scale * push + delta @ (metric[:, None] * learned)),
            "hidden": on.hidden * (weights.scale * down + delta.T @ (nu[:, None] * moved)),
            "projection": on.projection * features.T @ (nu[:, None] * weighted),
        }
        directions, memory = cast(Any, optimizer.update(gradients, state.memory))
        rates = [
            factor * rate for rate in (case.embedding_lr, case.hidden_lrs[0], case.projection_lr)
        ]
        left = [1 - rate * decay - factor * descent.independent_decay for rate in rates]
        moves = [
            -part * rate * directions[name]
            for part, rate, name in zip(
                (on.embedding, on.hidden, on.projection), rates, LAYERS, strict=True
            )
        ]
        after = Weights(
            left[0] * moved + moves[0],
            left[1] * learned + moves[1],
            left[2] * readout + moves[2],
            left[0] * weights.scale,
            left[1] * weights.hidden_scale,
        )
        pushed = (of_neurons.T @ moves[1] / count, (of_tokens * mean[:, None]).T @ moves[0])
        change = own_learned + (kept - 1) * by_initial
        record = [
            mass @ losses,
            mean_square(features @ (metric[:, None] * (readout - first_readout))),
            mean_square(alone),
            mean_square(features @ (metric[:, None] * (after.readout - readout))),
            mean_square(change),
        ]
        state = State(after, memory, embedding, hidden, pushed, shown, first)
        return state, jnp.stack(record)

    first_readout = readout
    nothing = jnp.zeros((count, count))
    begun = Weights(
        jnp.zeros((plan.tokens, count)), nothing, readout, sizes.embedding_std, sizes.hidden_std
    )
    state = State(
        begun,
        optimizer.init(
            {"embedding": begun.embedding, "hidden": nothing, "projection": begun.readout}
        ),
        of_embedding,
        of_hidden,
        (jnp.zeros((shared, count)), jnp.zeros((shared, count))),
        jnp.zeros((count, n)),
        jnp.zeros((plan.tokens, n)),
    )
    state, record = jax.lax.scan(
        step, state, (jnp.arange(plan.steps), case.shares, descent.factors)
    )
    gap = defect(state.embedding.shared, nu, metric)
    return record, jnp.maximum(gap, defect(state.hidden.shared, metric, metric))
