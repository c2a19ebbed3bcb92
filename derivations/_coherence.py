"""A layer's first update split into what its neurons do in common and what each does alone.

An output changes by a sum of d terms, one a neuron. Its mean square has d squares, the incoherent
part, and d (d - 1) products of two neurons, the coherent part.
"""

from __future__ import annotations

from typing import Literal, get_args

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._first_step import Layer, role_values, update_second_moment
from ._gaussian import Optimizer, kernel

UpdatePart = Literal["incoherent", "coherent", "aligned"]
UPDATE_PARTS: tuple[UpdatePart, ...] = get_args(UpdatePart)
SOURCE = "docs/theory/model.md#coherence"


@cache
def update_part(layer: Layer, optimizer: Optimizer, part: UpdatePart) -> Derivation:
    """Mean square of a part of the first update of a layer, in the alignment c.

    Sign: incoherent eta^2 sigma^2 d, coherent eta^2 sigma^2 d (d - 1) (2/pi) c^2. They add up to
    `update_second_moment`. `aligned` is the largest that the sum could be at these sizes of change
    and input, (sum_l Delta_l^2) (sum_l u_l^2) (Cauchy and Schwarz): sign eta^2 sigma^2 d^2.
    """
    whole, moments = update_second_moment(layer, optimizer), kernel(optimizer)
    rate, values = role_values(layer, optimizer)
    d = s.width
    reason, value = {
        "incoherent": (
            "The square of the sum over neurons has d equal squares,",
            d * moments.second_moment,
        ),
        "coherent": (
            "The square of the sum over neurons has d (d - 1) products of two means,",
            d * (d - 1) * moments.mean**2,
        ),
        "aligned": (
            "The squared lengths of the change and of what it multiplies are d times the squares "
            "of their entries; their product bounds the squared sum.",
            (d * moments.second_moment.subs(s.alignment, 0)) * d,
        ),
    }[part]
    value = rate**2 * sp.factor(value.subs(values, simultaneous=True))
    left, latex = f"{part} part of {whole.left}", rf"\text{{{part} part}}"
    return Derivation(
        name=f"First step of the {layer} layer under {optimizer}: {part} part of the mean square",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=whole.assumptions,
        steps=(*moments.steps, Step(reason, left, latex, value)),
        source=SOURCE,
    )
