"""The kernel as a matrix: how it is built in the fewest operations and in bounded memory.

Of a function whose every output depends on its own point alone, the Jacobian of a point needs that
point alone. Its rows, or the factors of matrices (`_factored`), are contracted in blocks of points.
With many outputs a point, or Jacobians of
a point that are too large, each row is pushed forward instead, through all points. Of any other
function, such as one with batch normalisation, each column needs all points twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax import Array

from dynsim._draws import normal
from dynsim._errors import InputError

from ._cost import Cost, cost_of
from ._factored import Factors, Jacobian, factors_of, jacobian, product
from ._functions import output_shape, outputs
from ._products import linearisation, scaled

BLOCK_BYTES = 128 * 2**20  # what is computed together may take
NUMBER = 8  # bytes
POINT_JACOBIAN_BYTES = 2**30  # a Jacobian of one point that is still held as a whole
PASSES = 3.0  # operations of the derivative forward or backward, in those of the function
EIGEN = 10  # operations of an eigendecomposition, in those of the cube of its size
SAME = 1e-9  # relative difference of the same derivative computed in two ways


class Way(NamedTuple):
    """How a kernel is built: `contract` rows of Jacobians of points, `push` them forward, or take
    `columns` with all points; `block` points or columns at a time, and the operations it takes."""

    name: str
    block: int
    operations: float


def dense_kernel(f: Callable[..., Any], params: Any, rates: Any, x1: Any, x2: Any) -> Array:
    """The matrix Theta(x1, x2), refused where it and a pass exceed the memory present."""
    left, right = output_shape(f, params, x1), output_shape(f, params, x2)
    way = chosen_way(f, params, x1, x2)
    _check_memory(math.prod(left), math.prod(right), _passes(f, params, x1, x2), way)
    if way.name == "contract":
        return _contracted(f, params, rates, x1, x2, way.block)
    if way.name == "push":
        return _pushed(f, params, rates, x1, x2, way.block)
    return _columns(f, params, rates, x1, x2, way.block)


def point_kernels(f: Callable[..., Any], params: Any, rates: Any, x: Any) -> Array:
    """The blocks Theta(x_i, x_i) of all points, shape (N, n, n)."""
    shape = output_shape(f, params, x)
    points, n = shape[0], math.prod(shape[1:])
    alone = is_pointwise(f, params, x)
    cost = _pass_cost(f, params, _point(x, 0) if alone else x)
    held = factors_of(f, params, _point(x, 0)).numbers if alone else _parameters(params)
    needed = NUMBER * n * (held + cost.numbers)
    _check_fits("kernel", f"{points} blocks of {n} x {n} numbers", needed)
    return _own_blocks(f, params, rates, x, alone, max(1, int(BLOCK_BYTES // needed)))


def chosen_way(f: Callable[..., Any], params: Any, x1: Any, x2: Any) -> Way:
    """The way of fewest operations among those whose parts fit."""
    left, right = output_shape(f, params, x1), output_shape(f, params, x2)
    rows, columns = math.prod(left), math.prod(right)
    size = _parameters(params)
    all1, all2 = _pass_cost(f, params, x1), _pass_cost(f, params, x2)
    together = NUMBER * (size + max(all1.numbers, all2.numbers))
    block = max(1, min(columns, int(BLOCK_BYTES // together)))
    every = PASSES * columns * (all1.operations + all2.operations)
    if not (is_pointwise(f, params, x1) and (x2 is x1 or is_pointwise(f, params, x2))):
        return Way("columns", block, every)
    outputs_a_point = columns // right[0]
    one = _pass_cost(f, params, _point(x2, 0))
    held = factors_of(f, params, _point(x2, 0)).numbers  # of one row
    needed = NUMBER * outputs_a_point * (held + one.numbers)
    points = max(1, int(BLOCK_BYTES // needed))
    turns = 1 + math.ceil(left[0] / points)
    passes = PASSES * outputs_a_point * (turns * all2.operations + all1.operations)
    share = (1 + 1 / (turns - 1)) / 2 if x2 is x1 else 1.0  # of the blocks, without mirrored ones
    contract = Way("contract", points, share * (passes + 2 * rows * columns * held))
    push = Way(
        "push",
        max(1, min(outputs_a_point, block)),
        PASSES * (columns * all1.operations + outputs_a_point * all2.operations),
    )
    if needed > POINT_JACOBIAN_BYTES:
        return push
    return min(contract, push, key=lambda way: way.operations)


def products_for_the_matrix(f: Callable[..., Any], params: Any, x: Any) -> float:
    """How many kernel products cost as much as the matrix of x and its eigenvectors."""
    size = math.prod(output_shape(f, params, x))
    matrix = chosen_way(f, params, x, x).operations + EIGEN * float(size) ** 3
    return matrix / (2 * PASSES * max(_pass_cost(f, params, x).operations, 1.0))


def is_pointwise(f: Callable[..., Any], params: Any, x: Any) -> bool:
    """Whether every output depends on its own point alone.

    Points one by one must give the same outputs and the same derivative in a random direction. Two
    Jacobians that differ give the same one with probability 0.
    """
    leaves = jax.tree.leaves(x)
    shape = output_shape(f, params, x)
    if not leaves or any(np.ndim(leaf) < 1 or len(leaf) != shape[0] for leaf in leaves):
        return False
    if any(jnp.asarray(leaf).dtype == object for leaf in leaves):
        return False
    try:
        if output_shape(f, params, _point(x, 0)) != (1, *shape[1:]):
            return False
        keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(params)))
        direction = jax.tree.map(
            lambda leaf, key: normal(key, leaf.shape, leaf.dtype),
            params,
            jax.tree.unflatten(jax.tree.structure(params), list(keys)),
        )
        pairs = _derivatives(f, params, x, direction)
    except (TypeError, ValueError, IndexError, InputError):
        return False
    return all(_same(whole, single) for whole, single in pairs)


@partial(jax.jit, static_argnames="f")
def _derivatives(f, params, x, direction):
    """Outputs and their derivative in a direction, of all points together and one by one."""
    net = linearisation(f, params, x)

    def single(point):
        one = linearisation(f, params, jax.tree.map(lambda leaf: leaf[None], point))
        return one.start[0], one.push(direction)[0]

    start, change = jax.lax.map(single, x)
    return (net.start, start), (net.push(direction), change)


def _same(whole: Array, single: Array) -> bool:
    scale = float(jnp.max(jnp.abs(whole), initial=0))
    return bool(jnp.all(jnp.abs(whole - single) <= SAME * scale))


def _contracted(f, params, rates, x1, x2, block: int) -> Array:
    """Blocks of J(x1) H J(x2)^T; of a symmetric kernel those below the diagonal are mirrored."""
    count1, count2 = (output_shape(f, params, x)[0] for x in (x1, x2))
    starts1, starts2 = range(0, count1, block), range(0, count2, block)
    factors, rates = factors_of(f, params, _point(x1, 0)), jax.tree.leaves(rates)
    blocks: dict[tuple[int, int], Array] = {}
    for i, first in enumerate(starts1):
        left = _rows(f, params, _part(x1, first, block), factors)
        for j, second in enumerate(starts2):
            if x2 is x1 and j < i:
                blocks[i, j] = blocks[j, i].T
                continue
            same = x2 is x1 and j == i
            right = left if same else _rows(f, params, _part(x2, second, block), factors)
            blocks[i, j] = _product(rates, left, right)
    return jnp.block([[blocks[i, j] for j in range(len(starts2))] for i in range(len(starts1))])


def _rows(f, params, x, factors: Factors) -> Jacobian:
    """The Jacobian of every point by itself."""
    fan_out = tuple(factors.fan_out.items())
    return _compiled_rows(f, params, x, fan_out, factors.numbers, factors.together)


@partial(jax.jit, static_argnames=("f", "fan_out", "numbers", "together"))
def _compiled_rows(f, params, x, fan_out, numbers, together):
    return jacobian(f, params, x, Factors(dict(fan_out), numbers, together))


_product = jax.jit(product)


@partial(jax.jit, static_argnames=("f", "block"))
def _pushed(f, params, rates, x1, x2, block):
    """Each output's gradient, by its own point, pushed forward through all points of x1."""
    left = linearisation(f, params, x1)

    def of_point(point):
        right = linearisation(f, params, jax.tree.map(lambda leaf: leaf[None], point))
        size = right.start.size

        def column(index):
            unit = jnp.zeros(size).at[index].set(1).reshape(right.start.shape)
            return left.push(scaled(rates, right.pull(unit))).ravel()

        return jax.lax.map(column, jnp.arange(size), batch_size=block)

    columns = jax.lax.map(of_point, x2)
    return columns.reshape(-1, left.start.size).T


@partial(jax.jit, static_argnames=("f", "block"))
def _columns(f, params, rates, x1, x2, block):
    left, right = linearisation(f, params, x1), linearisation(f, params, x2)
    shape, size = right.start.shape, right.start.size

    def column(index):
        unit = jnp.zeros(size).at[index].set(1).reshape(shape)
        return left.push(scaled(rates, right.pull(unit))).ravel()

    return jax.lax.map(column, jnp.arange(size), batch_size=block).T


@partial(jax.jit, static_argnames=("f", "alone", "block"))
def _own_blocks(f, params, rates, x, alone, block):
    """Of every point the products of its outputs' gradients."""
    whole = linearisation(f, params, x)
    points = whole.start.shape[0]
    outputs_a_point = whole.start.size // points
    scales = jax.tree.leaves(rates)

    def of_point(index):
        if alone:
            own = jax.tree.map(lambda leaf: jnp.take(leaf, index[None], axis=0), x)
            rows = jacobian(f, params, own, factors_of(f, params, own))
            return product(scales, rows, rows)

        def gradient(output):
            unit = jnp.zeros(whole.start.shape).reshape(points, -1).at[index, output].set(1)
            return whole.pull(unit.reshape(whole.start.shape))

        gradients = jax.tree.leaves(jax.vmap(gradient)(jnp.arange(outputs_a_point)))
        flat = [leaf.reshape(outputs_a_point, -1) for leaf in gradients]
        rows = Jacobian(dict(enumerate(flat)), {}, {})
        return product(scales, rows, rows)

    return jax.lax.map(of_point, jnp.arange(points), batch_size=block)


def _point(x: Any, index: int) -> Any:
    return _part(x, index, 1)


def _part(x: Any, start: int, count: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[start : start + count], x)


def _parameters(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _pass_cost(f: Callable[..., Any], params: Any, x: Any) -> Cost:
    return cost_of(lambda p: outputs(f, p, x), params)


def _passes(f: Callable[..., Any], params: Any, x1: Any, x2: Any) -> float:
    """Numbers that a pass forward and backward computes."""
    return 2 * max(_pass_cost(f, params, x).numbers for x in (x1, x2))


def _check_memory(rows: int, columns: int, numbers: float, way: Way) -> None:
    """Raises `InputError` where two copies of the matrix, or a pass over all points, do not fit."""
    passes = 0.0 if way.name == "contract" else numbers
    _check_fits("kernel", f"of {rows} x {columns} numbers", NUMBER * (2 * rows * columns + passes))


def _check_fits(field: str, what: str, needed: float) -> None:
    present = psutil.virtual_memory().total
    if needed > present:
        raise InputError(
            field,
            what,
            f"needs {needed / 2**30:.0f} GiB and the memory is {present / 2**30:.0f} GiB; "
            "take a smaller number of points or products without the matrix",
        )
