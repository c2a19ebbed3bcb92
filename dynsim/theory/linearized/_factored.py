"""Jacobians of points in factors: of a matrix that a point uses once, g (x) z stands for its rows.

Where a parameter W is used once, as W z on one vector z, the derivative of output k by W is the
outer product of g_k, the derivative by W z, and z. Products of such rows need g and z alone,

    sum_ab (dW_ab f_k)(x) (dW_ab f_l)(x') = (g_k(x) . g_l(x')) (z(x) . z(x')),

fan-in times fewer numbers and operations than with the rows themselves. All other parameters
(vectors, filters, matrices on sequences or used twice) have rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax import Array

from ._functions import outputs

CALLS = ("pjit", "jit")  # read as if they were not there
SAME_MATRIX = ("transpose", "copy", "copy_p")


class Jacobian(NamedTuple):
    """Of N points with n outputs each, by the place of a parameter among the leaves.

    **Fields:** `rows` (N n, numbers of the leaf); for a matrix in factors `pulled` (N, n, fan-out)
    and `inputs` (N, fan-in).
    """

    rows: dict[int, Array]
    pulled: dict[int, Array]
    inputs: dict[int, Array]


def product(rates: Sequence[Array], left: Jacobian, right: Jacobian) -> Array:
    """J H J'^T, (N n, N' n), with a rate for every leaf."""
    parts = [rates[leaf] * (left.rows[leaf] @ right.rows[leaf].T) for leaf in left.rows]
    for leaf, inputs in left.inputs.items():
        g, h = left.pulled[leaf], right.pulled[leaf]
        derivatives = g.reshape(-1, g.shape[-1]) @ h.reshape(-1, h.shape[-1]).T
        alike = (rates[leaf] * (inputs @ right.inputs[leaf].T))[:, None, :, None]
        split = derivatives.reshape(*g.shape[:2], *h.shape[:2])
        parts.append((split * alike).reshape(derivatives.shape))
    return sum(parts[1:], parts[0])


class Factors(NamedTuple):
    """Which leaves are matrices in factors, with their fan-out, and what one row then holds.

    `together`: whether many points cost no more together than one by one.
    """

    fan_out: dict[int, int]
    numbers: int
    together: bool


def factors_of(f: Callable[..., Any], params: Any, point: Any) -> Factors:
    """Of a function whose outputs at a point depend on that point alone; `point` is one, (1, ...).

    What a row holds: of a matrix in factors its fan-out, of any other leaf all its numbers.
    """
    leaves: list[Any] = jax.tree.leaves(params)
    closed = _program(f, params, point)
    uses: dict[int, list[int]] = {leaf: [] for leaf in range(len(leaves))}
    filters: list[bool] = []

    def count(equation: Any, place: int | None, found: int) -> None:
        uses[found].append(-1 if place is None else _fan_out(equation, place))

    def abstract(*values: Any) -> Any:
        reader = _Reader(count, lambda leaf, result, z: result, filters)
        return reader.evaluated(closed, values, len(leaves))

    jax.eval_shape(abstract, *leaves, *jax.tree.leaves(point))
    fan_out = {leaf: found[0] for leaf, found in uses.items() if len(found) == 1 and found[0] > 0}
    numbers = sum(fan_out.get(leaf, int(value.size)) for leaf, value in enumerate(leaves))
    return Factors(fan_out, numbers, not filters)


def jacobian(f: Callable[..., Any], params: Any, x: Any, factors: Factors) -> Jacobian:
    """The Jacobian of every point of x by itself."""
    leaves = jax.tree.leaves(params)
    rest = [leaf for leaf in range(len(leaves)) if leaf not in factors.fan_out]
    points = len(jax.tree.leaves(x)[0])

    def of_point(one: Any) -> Any:
        point = jax.tree.map(lambda leaf: leaf[None], one)
        closed = _program(f, params, point)

        def moved(own: list[Array], added: dict[int, Array]) -> Any:
            inputs: dict[int, Array] = {}

            def change(leaf: int, result: Array, z: Array) -> Array:
                if leaf not in added:
                    return result
                inputs[leaf] = z
                return result + added[leaf].reshape(result.shape)

            values = list(leaves)
            for place, value in zip(rest, own, strict=True):
                values[place] = value
            reader = _Reader(lambda *_: None, change, [])
            (result,) = reader.evaluated(closed, (*values, *jax.tree.leaves(point)), len(leaves))
            return result.ravel(), inputs

        nothing = {leaf: jnp.zeros(size) for leaf, size in factors.fan_out.items()}
        start, pull, inputs = jax.vjp(moved, [leaves[leaf] for leaf in rest], nothing, has_aux=True)
        rows, pulled = jax.vmap(pull)(jnp.eye(start.size))
        return [row.reshape(start.size, -1) for row in rows], pulled, inputs

    mapped = jax.vmap(of_point) if factors.together else partial(jax.lax.map, of_point)
    rows, pulled, inputs = mapped(x)
    own = {leaf: row.reshape(-1, row.shape[-1]) for leaf, row in zip(rest, rows, strict=True)}
    return Jacobian(own, pulled, {leaf: z.reshape(points, -1) for leaf, z in inputs.items()})


def _program(f: Callable[..., Any], params: Any, point: Any) -> Any:
    """The program of f at one point: of the leaves of params, then of the point."""
    structure, count = jax.tree.structure(params), len(jax.tree.leaves(params))
    of_point = jax.tree.structure(point)

    def flat(*values: Any) -> Array:
        one = jax.tree.unflatten(of_point, values[count:])
        return outputs(f, jax.tree.unflatten(structure, values[:count]), one)

    return jax.make_jaxpr(flat)(*jax.tree.leaves(params), *jax.tree.leaves(point))


class _Reader:
    """Evaluates a program, and follows each parameter to where it is used.

    `used(equation, place, leaf)` is called at every use: `place` is that of the matrix in a product
    with one vector, None for any other use. `change(leaf, result, z)` gives what such a product is
    replaced by. What has a filter is noted in `filters`.
    """

    def __init__(
        self,
        used: Callable[[Any, int | None, int], None],
        change: Callable[[int, Array, Array], Array],
        filters: list[bool],
    ):
        self.used, self.change, self.filters = used, change, filters

    def evaluated(self, closed: Any, values: Sequence[Any], leaves: int) -> list[Any]:
        marks = [place if place < leaves else None for place in range(len(values))]
        results, marks = self._program(closed.jaxpr, closed.consts, values, marks)
        for mark in marks:
            if mark is not None:
                self.used(None, None, mark)
        return results

    def _program(
        self, jaxpr: Any, consts: Sequence[Any], values: Sequence[Any], marks: Sequence[int | None]
    ) -> tuple[list[Any], list[int | None]]:
        known: dict[Any, tuple[Any, int | None]] = {}
        known.update(zip(jaxpr.constvars, ((const, None) for const in consts), strict=True))
        known.update(zip(jaxpr.invars, zip(values, marks, strict=True), strict=True))

        def read(atom: Any) -> tuple[Any, int | None]:
            return (atom.val, None) if isinstance(atom, jax.extend.core.Literal) else known[atom]

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            known.update(zip(equation.outvars, self._equation(equation, inputs), strict=True))
        pairs = [read(atom) for atom in jaxpr.outvars]
        return [value for value, _ in pairs], [mark for _, mark in pairs]

    def _equation(
        self, equation: Any, inputs: list[tuple[Any, int | None]]
    ) -> list[tuple[Any, int | None]]:
        name, params = equation.primitive.name, equation.params
        values, marks = [value for value, _ in inputs], [mark for _, mark in inputs]
        if name in CALLS:
            inner = params["jaxpr"]
            results, found = self._program(inner.jaxpr, inner.consts, values, marks)
            return list(zip(results, found, strict=True))
        if "conv" in name and name != "convert_element_type":
            self.filters.append(True)
        bound: Any = equation.primitive.get_bind_params(params)
        subfunctions, bound = bound if isinstance(bound, tuple) else ((), bound)  # before JAX 0.10
        made = equation.primitive.bind(*subfunctions, *values, **bound)
        results = list(made) if equation.primitive.multiple_results else [made]
        held = [place for place, mark in enumerate(marks) if mark is not None]
        if not held:
            return [(result, None) for result in results]
        first = marks[held[0]]
        assert first is not None
        same = name == "convert_element_type" and values[0].dtype == results[0].dtype
        if same or name in SAME_MATRIX:
            return [(results[0], first)]
        if len(held) == 1 and _on_one_vector(equation, held[0]):
            self.used(equation, held[0], first)
            return [(self.change(first, results[0], values[1 - held[0]].ravel()), None)]
        for mark in marks:
            if mark is not None:
                self.used(equation, None, mark)
        return [(result, None) for result in results]


def _on_one_vector(equation: Any, place: int) -> bool:
    """Whether the operand at `place` is a matrix W of a product W z with a single vector z."""
    if equation.primitive.name != "dot_general":
        return False
    (contracted, batch) = equation.params["dimension_numbers"]
    matrix, vector = (equation.invars[place].aval, equation.invars[1 - place].aval)
    if matrix.ndim != 2 or len(contracted[0]) != 1 or batch[0] or batch[1]:
        return False
    return bool(np.prod(vector.shape) == matrix.shape[contracted[place][0]])


def _fan_out(equation: Any, place: int) -> int:
    contracted, _ = equation.params["dimension_numbers"]
    return int(equation.invars[place].aval.shape[1 - contracted[place][0]])
