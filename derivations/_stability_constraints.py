"""The constraints of the stability program: by which power every layer's output may change.

Write s_l for minus the LR exponent of layer l ("slowness") and r_l for the power by which the
change of layer l's output falls with the width. Every r_l is a minimum of functions that are
affine and non-decreasing in the slownesses, so r_l >= 0 is a list of linear constraints
`sum_l k_l s_l >= bound` with k_l >= 0. Source: docs/theory/parametrizations.md#stability-program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from ._parametrizations import (
    HALF,
    NETWORK_LAYERS,
    LayerExponents,
    NetworkLayer,
    Parametrization,
    TrainingOptimizer,
    as_exponent,
)

Gradients = Literal["initial", "updated"]
Kind = Literal[
    "own update",
    "update on initial inputs",
    "update on learned inputs",
    "initial weights on learned inputs",
    "prescribed",
]
_LETTER: dict[Kind, str] = {
    "own update": "r_1",
    "update on initial inputs": "A",
    "update on learned inputs": "U",
    "initial weights on learned inputs": "Omega",
    "prescribed": "prescribed",
}


@dataclass(frozen=True)
class LayerAlignment:
    """How a sum over the width grows, as a power of d, for one matrix.

    A matrix with entries of size one multiplies a vector with entries of size one: 1/2 if they
    are independent, 1 if aligned.

    **Fields:**

    - `update_on_initial` (A): the weight's update on the inputs as they were at initialisation.
    - `update_on_learned` (U): the weight's update on what the inputs have learned.
    - `initial_on_learned` (Omega): the initial weight on what the inputs have learned.
    """

    update_on_initial: Fraction
    update_on_learned: Fraction
    initial_on_learned: Fraction


@dataclass(frozen=True)
class NetworkAlignment:
    """Alignment of the two matrices that read others (the embedding reads one-hot tokens).

    `gradient` holds, for optimizers that keep the gradient's size (SGD, momentum), the power of
    d that the token law puts into the gradient's entries of each layer; zero unless the
    vocabulary grows with the width.
    """

    hidden: LayerAlignment
    readout: LayerAlignment
    gradient: tuple[Fraction, Fraction, Fraction] = (Fraction(0), Fraction(0), Fraction(0))


def layer_alignment(
    update_on_initial: str | int | Fraction,
    update_on_learned: str | int | Fraction,
    initial_on_learned: str | int | Fraction = HALF,
) -> LayerAlignment:
    """A `LayerAlignment` from fractions as the user writes them; Omega is 1/2 unless given."""
    values = (update_on_initial, update_on_learned, initial_on_learned)
    return LayerAlignment(*(as_exponent(value) for value in values))


ALIGNED, UNALIGNED = layer_alignment(1, 1), layer_alignment(HALF, HALF)
FULL_ALIGNMENT = NetworkAlignment(ALIGNED, ALIGNED)
NO_ALIGNMENT = NetworkAlignment(UNALIGNED, UNALIGNED)


@dataclass(frozen=True)
class Constraint:
    """`sum_l coefficients[l] s_l >= bound`, where s_l is minus the LR exponent of layer l.

    `layer` is the layer whose output it keeps stable, `kind` which term of that output, and
    `through` the chain of terms by which earlier layers enter.
    """

    layer: NetworkLayer
    kind: Kind
    coefficients: tuple[Fraction, Fraction, Fraction]
    bound: Fraction
    through: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As the theory writes it: `hidden A`, or `readout Omega (through hidden Omega)`."""
        text = f"{self.layer} {_LETTER[self.kind]}"
        return f"{text} (through {', '.join(self.through)})" if self.through else text

    def involves(self, layer: NetworkLayer) -> bool:
        return self.coefficients[NETWORK_LAYERS.index(layer)] > 0

    def slack(self, slowness: Mapping[NetworkLayer, Fraction]) -> Fraction:
        """Left-hand side minus bound; missing layers count as zero."""
        terms = zip(self.coefficients, NETWORK_LAYERS, strict=True)
        return sum((k * slowness.get(name, Fraction(0)) for k, name in terms), -self.bound)


@dataclass(frozen=True)
class _Affine:
    """constant + sum_l coefficients[l] s_l, and the chain of terms it came from."""

    constant: Fraction
    coefficients: tuple[Fraction, Fraction, Fraction]
    chain: tuple[str, ...] = ()

    def __add__(self, other: _Affine | Fraction) -> _Affine:
        if isinstance(other, Fraction):
            return replace(self, constant=self.constant + other)
        pairs = zip(self.coefficients, other.coefficients, strict=True)
        first, second, third = (mine + theirs for mine, theirs in pairs)
        chain = tuple(dict.fromkeys(self.chain + other.chain))
        return _Affine(self.constant + other.constant, (first, second, third), chain)

    def at(self, slowness: Mapping[NetworkLayer, Fraction]) -> Fraction:
        terms = zip(self.coefficients, NETWORK_LAYERS, strict=True)
        return self.constant + sum((k * slowness[name] for k, name in terms), Fraction(0))


def slowness_of(layer: NetworkLayer) -> _Affine:
    first, second, third = (Fraction(name == layer) for name in NETWORK_LAYERS)
    return _Affine(Fraction(0), (first, second, third))


@dataclass(frozen=True)
class StabilityProgram:
    constraints: tuple[Constraint, ...]
    residuals: Mapping[NetworkLayer, tuple[_Affine, ...]]
    gradients: Mapping[NetworkLayer, tuple[_Affine, ...]]


def stability_program(
    given: Parametrization,
    optimizer: TrainingOptimizer,
    alignment: NetworkAlignment,
    gradients: Gradients,
) -> StabilityProgram:
    """The residuals r_l and the constraints r_l >= 0.

    r_1 = u_1; r_l = min(u_l - A, u_l + r_{l-1} - U, w_l + r_{l-1} - Omega), where the update of
    the weight falls as d^-u_l and its initial entries as d^-w_l.
    """
    gradient_forms = _gradients(given, optimizer, alignment, gradients)
    updates = {
        name: _updates(name, given.layer(name), optimizer, gradient_forms[name])
        for name in NETWORK_LAYERS
    }
    aligned = {"hidden": alignment.hidden, "readout": alignment.readout}
    if optimizer == "muon":
        # |O x| <= |x| for an orthogonal O: no alignment makes the update's output larger.
        bounded = LayerAlignment(Fraction(0), Fraction(0), alignment.hidden.initial_on_learned)
        aligned["hidden"] = bounded
    residuals: dict[NetworkLayer, tuple[_Affine, ...]] = {"embedding": updates["embedding"]}
    constraints = [_constraint("embedding", "own update", form) for form in updates["embedding"]]
    before: NetworkLayer = "embedding"
    for layer in NETWORK_LAYERS[1:]:
        own, learned = updates[layer], residuals[before]
        exponents = aligned[layer]
        initial = -given.layer(layer).weight_std
        terms: list[tuple[Kind, _Affine]] = [
            *(("update on initial inputs", u + -exponents.update_on_initial) for u in own),
            *(
                ("update on learned inputs", u + r + -exponents.update_on_learned)
                for u in own
                for r in learned
            ),
            *(
                ("initial weights on learned inputs", r + (initial - exponents.initial_on_learned))
                for r in learned
            ),
        ]
        constraints += [_constraint(layer, kind, form) for kind, form in terms]
        residuals[layer] = tuple(
            replace(form, chain=(f"{layer} {_LETTER[kind]}", *form.chain)) for kind, form in terms
        )
        before = layer
    return StabilityProgram(tuple(constraints), residuals, gradient_forms)


def _constraint(layer: NetworkLayer, kind: Kind, form: _Affine) -> Constraint:
    return Constraint(layer, kind, form.coefficients, -form.constant, form.chain)


def _gradients(
    given: Parametrization,
    optimizer: TrainingOptimizer,
    alignment: NetworkAlignment,
    gradients: Gradients,
) -> dict[NetworkLayer, tuple[_Affine, ...]]:
    """By which powers a gradient entry of each trained weight falls (the smallest counts).

    The error reaches the layers below through the readout, at initialisation (a_L + b_L) or as
    updated; the readout's own gradient is a_L, since its inputs and the error are of order one.
    """
    zero = (Fraction(0), Fraction(0), Fraction(0))
    extra = dict(zip(NETWORK_LAYERS, alignment.gradient, strict=True))
    own = _Affine(-given.readout.multiplier - extra["readout"], zero)
    back = [_Affine(-given.readout.weight_std, zero)]
    if gradients == "updated":
        update = _updates("readout", given.readout, optimizer, (own,))
        back += [replace(form, chain=("updated readout",)) for form in update]
    forms: dict[NetworkLayer, tuple[_Affine, ...]] = {"readout": (own,)}
    for name in NETWORK_LAYERS[:2]:
        forms[name] = tuple(b + (-given.layer(name).multiplier - extra[name]) for b in back)
    return forms


def _updates(
    name: NetworkLayer,
    layer: LayerExponents,
    optimizer: TrainingOptimizer,
    gradient: tuple[_Affine, ...],
) -> tuple[_Affine, ...]:
    """By which powers the update of the weight itself falls, from the optimizer's definition."""
    step = slowness_of(name) + -layer.multiplier
    if optimizer in ("sgd", "momentum"):
        return tuple(step + form for form in gradient)
    if optimizer == "adafactor":
        return (step + -layer.init_std,)
    return (step,)
