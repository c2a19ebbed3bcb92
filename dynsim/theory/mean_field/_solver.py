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

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from dynsim._losses import loss_and_residual
from dynsim._optimizers import Constants, direction
from dynsim._programs import program

from ._conditioning import (
    Seen,
    defect,
    known_image,
    nothing_seen,
    transposed_tables,
    where_new,
    without,
    write,
)
from ._hidden import Hidden, Pass, Rule, applied, carried_up, pair_table, pulled_down
from ._population import (
    ABOVE,
    BELOW,
    Population,
    along,
    empty_frames,
    frame_of,
    framed,
    fresh_normals,
    new_for,
)
from ._updates import readout_and_hidden_squares

LAYERS = ("embedding", "hidden", "projection")


class Plan(NamedTuple):
    """What is compiled in: never a width, vocabulary, token law, learning rate or seed.

    `optimizer` is entrywise; `muon` says whether hidden matrices have Muon instead. `heads` are the
    leading tokens that many neurons hear of alike, where tokens are not all so treated. Tables of
    pairs of particles, and of directions, are kept in single precision if they are `single`. Tables
    are `transposed` for products where results are to be those that are stored, to the last digit.
    Solutions are computed side by side, or `in_turn`, which compiles sooner.
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
    activation: str = "identity"
    normalisation: str = "none"
    heads: int = 0
    single: bool = False
    transposed: bool = True
    in_turn: bool = False


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
    gain_rate: Float[Array, ""]  # of norm gains, over the embedding's
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
    """What solutions that are computed side by side do not share (here without the axis of these).

    Places 0 to T - 1 of the normals are for the steps' fresh Gaussians, the last token place for
    Z w^T and the last neuron place for the initial projection. Normals that are evenly spread are
    sequences along an order of the particles that each step finds.
    """

    embedding_lr: Float[Array, ""]
    hidden_lrs: Float[Array, " L"]
    projection_lr: Float[Array, ""]
    seed: Int[Array, ""]  # of the random numbers that are drawn in the program
    side: Float[Array, ""]  # +1 or -1, the sign of the head tokens' fresh Gaussians
    shares: Float[Array, "T M"]
    token_normals: Float[Array, "places M n"]  # of the head tokens, independent
    token_sequences: Float[Array, "places M n"]  # of the tail's, evenly spread
    neuron_normals: Float[Array, "places N n"]  # evenly spread, or independent
    hidden_normals: Float[Array, "steps passes N n"]  # the same, of matrix l downwards 2 l, upwards
    # 2 l + 1


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
    one = partial(_solve_one, plan, tokens, sizes, descent)
    with transposed_tables(plan.transposed):
        if plan.in_turn:
            return jax.lax.map(one, cases)
        if len(cases.side) > 1 or plan.transposed:
            return jax.vmap(one)(cases)
        # A program without the axis of cases compiles sooner.
        record, defect = one(jax.tree.map(lambda values: values[0], cases))
        return record[None], defect[None]


def _solve_one(
    plan: Plan, tokens: Tokens, sizes: Sizes, descent: Descent, case: Case
) -> tuple[Float[Array, "T columns"], Float[Array, ""]]:
    """Loss and the mean-square updates at every step, and the conditioning's defect.

    The updates are those of projection, embedding, the projection's step and each hidden layer.
    """
    n, width = plan.outputs, sizes.width
    # Without hidden layers the last step's effect on outputs is seen one step later.
    steps = plan.steps if plan.depth else plan.steps + 1
    columns, pair = n * steps, jnp.float32 if plan.single else jnp.float64
    used = (jnp.arange(plan.neurons) < sizes.neurons)[:, None]
    neurons = jnp.where(used[:, 0], width / sizes.neurons, 0)  # the metric of neuron sums
    population = Population(width, neurons, used, sizes.even)
    nu, mass = tokens.multiplicities, tokens.multiplicities * tokens.frequencies
    occurs = jnp.any(case.shares > 0, axis=0)
    optimizer, decay = optimizer_of(plan, descent.constants, LAYERS), descent.constants.weight_decay
    skip = 1.0 if plan.residual else 0.0
    on = sizes.multipliers
    key = jax.random.key(case.seed)

    def token_field(seen, index, scale, shift, readout):
        """u = Z w, with the new direction of w and its image, given (e_i - a z_i) . w."""
        known = known_image(seen.columns, seen.rows, readout, neurons, plan.responses)
        outputs = scale * known.expected + shift
        _, residual = loss_and_residual(plan.loss, outputs, tokens.targets)
        order = jnp.lexsort((residual[:, index % n], occurs, tokens.is_tail))
        spread = along(order, case.token_sequences[index])
        independent = case.side * case.token_normals[index]
        noise = jnp.where(tokens.is_tail[:, None], spread, independent)
        noise = without(seen.rows.basis, nu, noise)
        image = where_new(known.fresh, noise + known.responding)
        return known.expected + image @ known.root, known.fresh, image

    def neuron_field(seen, frames, index, scale, moved, weighted):
        """sum_i b_i e_i per neuron, and what has been seen of Z then."""
        known = known_image(seen.rows, seen.columns, weighted, nu, plan.responses)
        by_moved = applied(moved, nu, weighted, upwards=False)
        guess = scale * (known.expected + known.responding @ known.root) + by_moved
        order = jnp.argsort(guess[:, index % n])
        sequence = case.neuron_normals[index]
        block, noise = fresh_normals(population, sequence, order, frame_of(frames, 0))
        noise = without(seen.columns.basis, neurons, noise)
        image = where_new(known.fresh, known.responding + noise)
        seen = Seen(
            seen.rows._replace(basis=write(seen.rows.basis, known.fresh, index)),
            seen.columns._replace(image=write(seen.columns.image, image, index)),
        )
        frames = framed(frames, block, index, 0, BELOW, columns)
        return scale * (known.expected + image @ known.root) + by_moved, seen, frames

    def product(left, right):
        return left.astype(pair) @ right.astype(pair).T

    def moving(kept, moved, rate, direction):
        return kept.astype(pair) * moved - rate.astype(pair) * direction.astype(pair)

    def mean_square(update):
        return mass @ jnp.mean(update**2, axis=-1)

    def hidden_gradient(down: Pass, up: Pass):
        """Of the function's hidden matrices: of pairs of neurons, or in coefficients for Muon."""
        if plan.muon:
            return on.hidden * jnp.einsum("lki,lji->lkj", down.coefficients, up.coefficients)
        return pair_table((on.hidden * down.inputs).astype(pair), up.inputs.astype(pair))

    def hidden_push(seen: Seen, directions):
        if plan.muon:
            rows, columns = seen.rows.basis, seen.columns.basis
            return rows @ directions.astype(rows.dtype) @ columns.swapaxes(1, 2)
        return directions

    empty = nothing_seen(plan.tokens, plan.neurons, columns, single=plan.single)
    hidden_sizes = plan.neurons, plan.neurons, columns, plan.depth
    none_seen = nothing_seen(*hidden_sizes, single=plan.single)
    frames = empty_frames(plan.neurons, columns, plan.depth, plan.residual, plan.single)
    order, no_frame = jnp.arange(plan.neurons), jnp.zeros((plan.neurons, 1))
    _, start = fresh_normals(population, case.neuron_normals[plan.steps], order, no_frame)
    start = start * sizes.projection_std  # (N, n)

    def step(state: State, inputs):
        index, share, factor = inputs
        weights, frames = state.weights, state.frames
        moved, projection, scale = weights.embedding, weights.projection, weights.scale
        hidden = Hidden(weights.hidden, weights.hidden_scales, state.hidden_seen)
        rule = Rule(population, skip, plan.responses, columns, index)
        readout, down, sequences = projection, None, case.hidden_normals[index]
        if plan.depth:
            frame = frame_of(frames, plan.depth)
            block = new_for(frame, projection, neurons)
            frames = framed(frames, block, index, plan.depth, ABOVE, columns)
            down = pulled_down(rule, hidden, projection, frames, sequences[0::2])
            readout, frames = down.reached, down.frames
            hidden = hidden._replace(seen=down.seen)

        first_readout = jnp.where(index == 0, readout, state.first_readout)
        both = applied(moved, neurons, jnp.concatenate([readout, first_readout], axis=1))
        shift, on_first = both[:, :n], both[:, n:]
        field, fresh, image = token_field(state.seen, index, scale, shift, readout)
        if not plan.depth:
            block = new_for(frame_of(frames, 0), fresh, neurons)
            frames = framed(frames, block, index, 0, ABOVE, columns)
        seen = Seen(
            state.seen.rows._replace(image=write(state.seen.rows.image, image, index)),
            state.seen.columns._replace(basis=write(state.seen.columns.basis, fresh, index)),
        )
        first_field = jnp.where(index == 0, field, state.first_field)

        outputs = scale * field + shift
        losses, residual = loss_and_residual(plan.loss, outputs, tokens.targets)
        by_embedding = mean_square((scale - sizes.embedding_std) * first_field + on_first)

        weighted = share[:, None] * residual  # b
        residuals, seen, frames = neuron_field(seen, frames, index, scale, moved, weighted)
        gradients = {"embedding": product(on.embedding * weighted, readout)}
        if down is not None:
            up = carried_up(rule, hidden, residuals, frames, sequences[1::2])
            frames, hidden = up.frames, hidden._replace(seen=up.seen)
            gradients["hidden"] = hidden_gradient(down, up)
            residuals = up.reached
        gradients["projection"] = on.projection * residuals  # h
        gradients = jax.tree.map(lambda one: one.astype(pair), gradients)
        directions, memory = cast(Any, optimizer.update(gradients, state.memory))
        rates = [factor * rate for rate in (case.embedding_lr, case.hidden_lrs, case.projection_lr)]
        embedding_lr, hidden_lrs, projection_lr = rates
        kept, kept_hidden, kept_projection = (
            1 - rate * decay - factor * descent.independent_decay for rate in rates
        )
        after = Weights(
            moving(kept, moved, on.embedding * embedding_lr, directions["embedding"]),
            weights.hidden,
            kept_projection * projection - on.projection * projection_lr * directions["projection"],
            kept * scale,
            kept_hidden * weights.hidden_scales,
        )
        change = after.projection - projection

        if plan.depth:
            pushed = hidden_push(hidden.seen, directions["hidden"])
            kept_hidden, rates = (one[:, None, None] for one in (kept_hidden, hidden_lrs))
            after = after._replace(
                hidden=moving(kept_hidden, weights.hidden, on.hidden * rates, pushed)
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
                jax.random.fold_in(jax.random.fold_in(key, index), 2 * plan.depth),
            )
            by_projection, by_step = jnp.mean(of_rows.reshape(2, n), axis=1)
            record = [mass @ losses, by_projection, by_embedding, by_step, *of_hidden]
        else:
            # The step before moved W on the embeddings of its own time, but Z w^{t+1} is known
            # only now.
            earlier_step = mean_square(state.earlier[0] * field + state.earlier[1])
            by_projection = mean_square(outputs - scale * first_field - on_first)
            record = [mass @ losses, by_projection, by_embedding, earlier_step]
        earlier = scale, applied(moved, neurons, change) - scale * field
        state = State(after, memory, seen, hidden.seen, frames, first_readout, first_field, earlier)
        return state, jnp.stack(record)

    pairs = jnp.zeros((plan.depth, plan.neurons, plan.neurons), pair)
    begun = Weights(
        jnp.zeros((plan.tokens, plan.neurons), pair),
        pairs,
        start,
        sizes.embedding_std,
        jnp.full(plan.depth, sizes.hidden_std),
    )
    trained = {"embedding": begun.embedding, "projection": begun.projection}
    if plan.depth:
        coefficients = jnp.zeros((plan.depth, columns, columns))
        trained["hidden"] = coefficients if plan.muon else pairs
    trained = jax.tree.map(lambda one: one.astype(pair), trained)
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
    more = steps - plan.steps
    shares = jnp.concatenate([case.shares, case.shares[plan.steps - more : plan.steps]])
    factors = jnp.concatenate([descent.factors, jnp.zeros(more)])
    state, record = jax.lax.scan(step, state, (jnp.arange(steps), shares[:steps], factors))
    gap = defect(state.seen, nu, neurons)
    if plan.depth:
        of_layers = jax.vmap(defect, in_axes=(0, None, None))(state.hidden_seen, neurons, neurons)
        return record, jnp.maximum(gap, jnp.max(of_layers))
    return record[:-1].at[:, 3].set(record[1:, 3]), gap


def optimizer_of(
    plan: Plan, numbers: Constants, trained: Sequence[str]
) -> optax.GradientTransformation:
    """Of all that is trained: entrywise, but for hidden matrices that have Muon.

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
        {name: "muon" if name == "hidden" else "entrywise" for name in trained},
    )
