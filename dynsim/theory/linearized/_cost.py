"""What one pass of a function costs, read off its program: operations, and numbers it computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ._low_precision import programs_of


class Cost(NamedTuple):
    """**Fields:** floating-point `operations`; `numbers`, the results of all steps together, which
    bounds what a pass holds at once."""

    operations: float
    numbers: float


def cost_of(function: Callable[..., Any], *inputs: Any) -> Cost:
    """The cost of one call. A loop whose length is not known counts as one turn."""
    return _of_program(jax.make_jaxpr(function)(*inputs).jaxpr)


def _of_program(program: Any) -> Cost:
    operations = numbers = 0.0
    for step in program.eqns:
        inner = [_of_program(one) for one in programs_of(step.params)]
        turns = step.params.get("length", 1) if step.primitive.name == "scan" else 1
        size = sum(_size(one) for one in step.outvars)
        operations += turns * sum(one.operations for one in inner)
        numbers += turns * sum(one.numbers for one in inner) + size
        if not inner:
            operations += size * _operations_per_number(step)
    return Cost(operations, numbers)


def _operations_per_number(step: Any) -> float:
    """Of a product twice the numbers that are summed over; one of any other step."""
    if step.primitive.name == "dot_general":
        summed = step.params["dimension_numbers"][0][0]
        return 2 * math.prod(step.invars[0].aval.shape[axis] for axis in summed)
    if step.primitive.name == "conv_general_dilated":
        kernel = step.invars[1].aval.shape
        outputs = kernel[step.params["dimension_numbers"].rhs_spec[0]]
        return 2 * math.prod(kernel) / max(outputs, 1)
    return 1


def _size(variable: Any) -> int:
    return math.prod(getattr(variable.aval, "shape", ()))
