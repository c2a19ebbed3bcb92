"""Where a JAX function multiplies by its parameters, seen in one evaluation of its jaxpr.

The function is traced once and evaluated equation by equation. What is made of parameters by
reshaping, slicing, casts and constant factors is followed, and every product of such an array with
something else is kept. flax, equinox, plain functions and scans over layers look the same here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax import Array

Replay = Callable[[Array], Array]

VIEWS = frozenset(
    [
        *("reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice", "rev"),
        *("dynamic_slice", "copy", "copy_p", "stop_gradient", "optimization_barrier"),
    ]
)
COPIES = frozenset(["convert_element_type", "reduce_precision", "device_put"])
CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


@dataclass(frozen=True)
class Derived:
    """An array made of a parameter by linear operations that `replay` repeats for other values."""

    name: str
    replay: Replay
    part: str = ""


@dataclass
class Product:
    """One product of a parameter with an input; `apply(z, w)` repeats it, w a parameter's value.

    `before`, `after`: constants that multiply the inputs before it and the outputs after it.
    """

    name: str
    part: str
    inputs: Array
    apply: Callable[[Array, Array], Array]
    entries: Replay
    fan_in: int
    lookup: bool = False
    reads_embedding: bool = False
    before: float = 1.0
    after: float = 1.0


@dataclass(frozen=True)
class Scores:
    """Attention scores before the softmax, and the width of a head (0: not seen)."""

    values: Array
    head_width: int


@dataclass
class Pass:
    """What one evaluation showed, in order, and what the function returned."""

    products: list[Product] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)
    outputs: Any = None


@dataclass(frozen=True)
class _Value:
    """An array and what is known of it.

    `minuend`: it is that minus something; `summed`: of a product of two activations, over how many
    entries it sums.
    """

    array: Any
    derived: Derived | None = None
    of_embedding: bool = False
    factor: float = 1.0
    product: Product | None = None
    summed: int = 0
    minuend: _Value | None = None


def observed_call(
    function: Callable[..., Any], parameters: Mapping[str, Array], inputs: Sequence[Any]
) -> Pass:
    """`function(parameters, *inputs)` with its products by the parameters, a dict by name."""
    seen = Pass()
    closed, shape = jax.make_jaxpr(function, return_shape=True)(dict(parameters), *inputs)
    leaves, _ = jax.tree.flatten((dict(parameters), *inputs))
    names = sorted(parameters)  # the order in which a dict is flattened
    values = [
        _Value(leaf, Derived(names[k], lambda value: value) if k < len(names) else None)
        for k, leaf in enumerate(leaves)
    ]
    outputs = _evaluated(closed.jaxpr, closed.consts, values, seen)
    seen.outputs = jax.tree.unflatten(
        jax.tree.structure(shape), [output.array for output in outputs]
    )
    return seen


def _evaluated(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[_Value], seen: Pass
) -> list[_Value]:
    known: dict[Any, _Value] = {}

    def read(atom: Any) -> _Value:
        return _Value(atom.val) if isinstance(atom, jax.extend.core.Literal) else known[atom]

    for variable, const in zip(jaxpr.constvars, consts, strict=True):
        known[variable] = _Value(const)
    known.update(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        results = _equation(equation, values, seen)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(equation: Any, values: list[_Value], seen: Pass) -> list[_Value]:
    name, params = equation.primitive.name, equation.params
    if name == "scan":
        return _scan(equation, values, seen)
    if name == "cond":
        branch = params["branches"][int(values[0].array)]
        return _evaluated(branch.jaxpr, branch.consts, values[1:], seen)
    inner = next((params[key] for key in CALLS if key in params), None)
    if inner is not None and name != "while":
        closed = hasattr(inner, "consts")
        jaxpr, consts = (inner.jaxpr, inner.consts) if closed else (inner, ())
        return _evaluated(jaxpr, consts, values, seen)
    bound: Any = equation.primitive.get_bind_params(params)
    subfunctions, bound = bound if isinstance(bound, tuple) else ((), bound)  # up to JAX 0.9: both
    made = equation.primitive.bind(*subfunctions, *(value.array for value in values), **bound)
    results = [_Value(array) for array in (made if equation.primitive.multiple_results else [made])]

    def again(*arrays: Array) -> Array:
        return equation.primitive.bind(*subfunctions, *arrays, **bound)

    if name == "dot_general":
        return [_dot(values, results[0], params, again, seen)]
    if name == "conv_general_dilated" and values[1].derived is not None:
        return [_product(values, 1, results[0], again, values[0].array.shape[-1], seen)]
    if name == "gather" and values[0].derived is not None and not _is_activation(values[1]):
        return [_gather(values, results[0], again, seen)]
    return [_followed(name, values, result, again, seen) for result in results]


def _is_activation(value: _Value) -> bool:
    array = value.array
    return jnp.issubdtype(jnp.result_type(array), jnp.floating) and np.size(array) > 1


def _scan(equation: Any, values: list[_Value], seen: Pass) -> list[_Value]:
    """A scan, unrolled: layers that are stacked in one parameter become its parts.

    Constants, what is carried and what is stacked follow each other. The body sees an axis less of
    what is stacked alone, of inputs and outputs; the names of their numbers differ between
    versions of JAX.
    """
    params = equation.params
    body, length = params["jaxpr"], params["length"]
    whole = _of_one_rank(equation.invars, body.jaxpr.invars)
    carried = _of_one_rank(equation.outvars, body.jaxpr.outvars)
    fixed, carry = values[: whole - carried], values[whole - carried : whole]
    stacked = values[whole:]
    rows: list[list[_Value] | None] = [None] * length
    for index in reversed(range(length)) if params["reverse"] else range(length):
        outputs = _evaluated(
            body.jaxpr, body.consts, [*fixed, *carry, *(_row(x, index) for x in stacked)], seen
        )
        carry, rows[index] = outputs[:carried], outputs[carried:]
    per_step = [row for row in rows if row is not None]
    columns = [
        _Value(jnp.stack([row[k].array for row in per_step]))
        for k in range(len(per_step[0]) if per_step else 0)
    ]
    return [*carry, *columns]


def _of_one_rank(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    pairs = zip(outside, inside, strict=True)
    return sum(len(one.aval.shape) == len(other.aval.shape) for one, other in pairs)


def _row(value: _Value, index: int) -> _Value:
    if value.derived is None:
        return _Value(value.array[index])
    derived = value.derived
    return _Value(
        value.array[index],
        Derived(derived.name, lambda w: derived.replay(w)[index], f"{derived.part}[{index}]"),
    )


def _dot(
    values: list[_Value],
    result: _Value,
    params: Mapping[str, Any],
    again: Callable[..., Array],
    seen: Pass,
) -> _Value:
    held = [value.derived is not None for value in values]
    (contracted, _), _ = params["dimension_numbers"]
    summed = int(np.prod([values[0].array.shape[axis] for axis in contracted]))
    if sum(held) == 0:
        return replace(result, summed=summed)
    if sum(held) == 2:
        return result
    return _product(values, held.index(True), result, again, summed, seen)


def _product(
    values: list[_Value],
    at: int,
    result: _Value,
    again: Callable[..., Array],
    fan_in: int,
    seen: Pass,
) -> _Value:
    derived, read = values[at].derived, values[1 - at]
    assert derived is not None

    def apply(inputs: Array, value: Array) -> Array:
        weight = derived.replay(value)
        return again(*((weight, inputs) if at == 0 else (inputs, weight)))

    product = Product(
        derived.name,
        derived.part,
        read.array,
        apply,
        derived.replay,
        fan_in,
        reads_embedding=read.of_embedding,
        before=read.factor,
    )
    seen.products.append(product)
    return replace(result, product=product)


def _gather(
    values: list[_Value], result: _Value, again: Callable[..., Array], seen: Pass
) -> _Value:
    derived = values[0].derived
    assert derived is not None

    def apply(indices: Array, value: Array) -> Array:
        return again(derived.replay(value), indices)

    product = Product(
        derived.name, derived.part, values[1].array, apply, derived.replay, 1, lookup=True
    )
    seen.products.append(product)
    return replace(result, of_embedding=True, product=product)


def _followed(
    name: str, values: list[_Value], result: _Value, again: Callable[..., Array], seen: Pass
) -> _Value:
    first = values[0] if values else None
    wide = [value for value in values if _is_activation(value) and value.derived is None]
    if _is_activation(result) and wide and all(value.of_embedding for value in wide):
        result = replace(result, of_embedding=True)
    if name == "exp" and first is not None and first.minuend is not None:
        scores = first.minuend
        if np.ndim(scores.array) >= 3 and scores.array.shape[-1] == scores.array.shape[-2]:
            seen.scores.append(Scores(scores.array, scores.summed))
    if name == "sub" and first is not None:
        result = replace(result, minuend=first)
    summed = [v.summed for v in wide if v.summed and v.array.shape[-2:] == result.array.shape[-2:]]
    if summed:
        result = replace(result, summed=summed[0])
    if name in ("mul", "div"):
        return _scaled(name, values, result, again)
    if first is not None and (name in VIEWS or name in COPIES):
        derived = first.derived
        if derived is not None:
            if name in VIEWS:
                rest = [value.array for value in values[1:]]
                inner = derived.replay
                derived = replace(derived, replay=lambda w: again(inner(w), *rest))
            return replace(result, derived=derived)
        return replace(result, factor=first.factor, product=first.product)
    return result


def _scaled(name: str, values: list[_Value], result: _Value, again: Callable[..., Array]) -> _Value:
    """A constant factor: of a parameter, of the inputs of a product, or of its outputs."""
    constants = [np.size(v.array) == 1 and v.derived is None for v in values]
    if sum(constants) != 1 or (name == "div" and constants[0]):
        return result
    at = constants.index(True)
    constant, other = values[at], values[1 - at]
    factor = float(jnp.ravel(constant.array)[0])
    if factor == 0:
        return result
    factor = 1 / factor if name == "div" else factor
    if other.derived is not None:
        inner = other.derived.replay
        return replace(result, derived=replace(other.derived, replay=lambda w: factor * inner(w)))
    if other.product is not None:
        other.product.after *= factor
    return replace(result, factor=other.factor * factor, product=other.product)
