"""What the pieces of a laboratory step cost alone: how quick a program made of them could be.

A step of a toy network needs, whatever else it does,

- the matrix products: of every layer the outputs z W^T, and of their gradient r both r W and
  r^T z; of attention the scores, the mixtures and twice as many backward;
- norms, activations, attention's rotations and softmax, each forward and backward;
- the derivative of the cross-entropy by the logits (of a head with a class for each type the
  exponentials alone);
- Adam's map of every weight with its two moments, without correcting their bias;
- the rows of the embedding looked up, and their gradients added.

Each piece is compiled by itself, as the only one of a loop, and run by all cores at once, each with
networks of its own, as `train_networks` does. Of a product the fastest of four ways to lay its
factors out counts, and of every piece the fastest number of networks side by side. Drawing batches,
residual sums, copies between pieces and calls come on top.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.sweep_throughput import seconds
from dynsim._activation import activated
from dynsim.laboratory import NetworkSetup
from dynsim.laboratory._memory import parameter_count
from dynsim.laboratory._networks import MLP_RATIO, causal_shares, rms_norm, rotated
from dynsim.laboratory._step import cross_entropy
from dynsim.laboratory._tasks import room_for_types
from dynsim.laboratory._workers import core_count

SIDE_BY_SIDE = (1, 2, 4)
REPEATS = 3
SECONDS = 0.04  # of one timed loop
FEWEST = 16  # turns of it


class Product(NamedTuple):
    """`together` products of (rows, inner) and (inner, columns)."""

    rows: int
    inner: int
    columns: int
    together: int = 1


def evaluated_tokens(setup: NetworkSetup) -> int:
    """Of one step: of a batch's equal tokens one, where `train_networks` merges them."""
    return room_for_types(setup) or setup.batch_size


def products(setup: NetworkSetup) -> Counter[Product]:
    """The matrix products of one step, with how often each is due."""
    tokens, width, outputs = evaluated_tokens(setup), setup.width, setup.output_count
    layers = [(width, outputs)]
    if setup.network == "mlp":
        layers += setup.depth * [(width, width)]
    if setup.network == "transformer":
        wide = MLP_RATIO * width
        layers += setup.depth * [*4 * [(width, width)], (width, wide), (wide, width)]
    due: Counter[Product] = Counter()
    for fan_in, fan_out in layers:
        due[Product(tokens, fan_in, fan_out)] += 1
        due[Product(tokens, fan_out, fan_in)] += 1
        due[Product(fan_out, tokens, fan_in)] += 1
    if setup.network == "transformer":
        length, head = setup.context, setup.head_width
        count = tokens // length * (width // head)
        due[Product(length, head, length, count)] += 2 * setup.depth
        due[Product(length, length, head, count)] += 4 * setup.depth
    return due


def pieces_milliseconds(setup: NetworkSetup) -> dict[str, float]:
    """Of one network and step, by kind of piece."""
    adam = partial(_adam, setup.beta1, setup.beta2, setup.epsilon)
    looked_up = jnp.zeros((setup.vocab_size, setup.width), "float32")
    places = jnp.arange(evaluated_tokens(setup)) * 7 % setup.vocab_size
    weights = tuple(jnp.ones(parameter_count(setup), "float32") for _ in range(4))
    return {
        "products": sum(n * product_milliseconds(one) for one, n in products(setup).items()),
        **{name: there_and_back(*piece) for name, piece in entrywise(setup).items()},
        "loss": _loss_milliseconds(setup),
        "adam": least_milliseconds(adam, weights),
        "embedding": least_milliseconds(_look_up_and_add, (looked_up, places)),
    }


def entrywise(setup: NetworkSetup) -> dict[str, tuple[Callable[[Any], Any], tuple[int, ...], int]]:
    """What acts between the products: a function, the shape of what it acts on, how often."""
    rows, width, depth = evaluated_tokens(setup), setup.width, setup.depth
    norm = partial(rms_norm, jnp.ones(width, "float32"))
    activation = partial(activated, setup.activation)
    if setup.network == "linear":
        return {}
    if setup.network == "mlp":
        norms = 0 if setup.normalisation == "none" else depth + 1
        return {
            "norms": (norm, (rows, width), norms),
            "activations": (activation, (rows, width), depth),
        }
    length, head = setup.context, setup.head_width
    heads = width // head
    return {
        "norms": (norm, (rows, width), 2 * depth + 1),
        "activations": (activation, (rows, MLP_RATIO * width), depth),
        "rotations": (rotated, (rows // length, length, heads, head), 2 * depth),
        "shares": (causal_shares, (rows // length, heads, length, length), depth),
    }


def there_and_back(function: Callable[[Any], Any], shape: tuple[int, ...], times: int) -> float:
    """So many times the function, which keeps shapes, and its derivative."""

    def piece(state: tuple[Any, Any]) -> tuple[Any, Any]:
        x, pulled = state
        y, back = jax.vjp(function, x)
        return x + 1e-20 * back(pulled)[0], pulled + 1e-20 * y

    entries = jax.random.normal(jax.random.key(0), (2, *shape), "float32")
    return times * least_milliseconds(piece, tuple(entries)) if times else 0.0


def _loss_milliseconds(setup: NetworkSetup) -> float:
    shape = evaluated_tokens(setup), setup.output_count
    logits = jax.random.normal(jax.random.key(0), shape, "float32")
    if setup.targets == "next-token":
        return least_milliseconds(_exponential, logits)
    targets = jnp.eye(shape[1], dtype="float32")[jnp.arange(shape[0]) % shape[1]]
    weights = jnp.full(shape[0], 1 / shape[0], "float32")

    def piece(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        logits, targets, weights = state
        by_logits = jax.grad(lambda f: weights @ cross_entropy(f, targets))(logits)
        return logits + 1e-20 * by_logits, targets, weights

    return least_milliseconds(piece, (logits, targets, weights))


@cache
def product_milliseconds(product: Product) -> float:
    """With the better layout of both factors."""
    rows, inner, columns, together = product
    batch = (together,) if together > 1 else ()

    def state(left: bool, right: bool) -> tuple[Any, ...]:
        a = (inner, rows) if left else (rows, inner)
        b = (columns, inner) if right else (inner, columns)
        return tuple(jnp.ones(batch + one, "float32") for one in (a, b, (rows, columns)))

    return min(
        least_milliseconds(partial(_multiply, left, right), state(left, right))
        for left in (False, True)
        for right in (False, True)
    )


def _multiply(left: bool, right: bool, state: tuple[Any, ...]) -> tuple[Any, ...]:
    a, b, _ = state
    product = jnp.matmul(a.mT if left else a, b.mT if right else b, precision="highest")
    product = jax.lax.optimization_barrier(product)
    corner = (0,) * b.ndim
    return a, b.at[corner].add(1e-20 * product[corner]), product


def _exponential(x: Any) -> Any:
    return jnp.exp(-x)


def _adam(beta1: float, beta2: float, epsilon: float, state: tuple[Any, ...]) -> tuple[Any, ...]:
    w, mean, square, gradient = state
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient * gradient
    return w - 1e-3 * mean / (jnp.sqrt(square) + epsilon), mean, square, gradient


def _look_up_and_add(state: tuple[Any, ...]) -> tuple[Any, ...]:
    table, places = state
    return table.at[places].add(0.5 * table[places]), places


def least_milliseconds(piece: Callable[[Any], Any], state: Any) -> float:
    """Of one network, with the best number of them side by side."""
    return min(_milliseconds(piece, state, networks) for networks in SIDE_BY_SIDE)


def _milliseconds(piece: Callable[[Any], Any], state: Any, networks: int) -> float:
    cores = core_count()
    if networks > 1:
        piece = jax.vmap(piece)
        state = jax.tree.map(lambda x: jnp.stack(networks * [x]), state)
    loop = jax.jit(lambda count, start: jax.lax.fori_loop(0, count, lambda _, x: piece(x), start))

    def train(count: int) -> None:
        jax.block_until_ready(loop(count, state))

    with ThreadPoolExecutor(cores) as pool:

        def spent(count: int) -> float:
            return seconds(lambda: list(pool.map(train, cores * [count])))

        train(1)
        count = FEWEST
        while spent(count) < SECONDS:
            count *= 4
        least = min(spent(count) for _ in range(REPEATS))
    return 1e3 * least / (count * networks * cores)
