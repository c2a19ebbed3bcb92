"""The stability program: the largest learning-rate exponents that keep a wide network stable.

Whatever violates a constraint (`_stability_constraints`) can be cured by slowing a layer that
occurs in it. The program is therefore solved exactly, one layer after the other, by taking the
largest bound among the constraints whose other layers are already decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations, permutations

from ._parametrizations import (
    ENTRYWISE_NORMALISED,
    HALF,
    NETWORK_LAYERS,
    LayerExponents,
    NetworkLayer,
    Parametrization,
    TrainingOptimizer,
    as_exponent,
    check_training_optimizer,
)
from ._stability_constraints import (
    FULL_ALIGNMENT,
    Constraint,
    Gradients,
    NetworkAlignment,
    StabilityProgram,
    slowness_of,
    stability_program,
)


class InfeasibleProgram(ValueError):
    """No learning rates are stable; `conflicts` names the constraints that cannot all hold."""

    def __init__(self, conflicts: Sequence[str]):
        self.conflicts = tuple(conflicts)
        super().__init__("no stable learning rates: " + "; ".join(conflicts))


@dataclass(frozen=True)
class LayerSolution:
    """What the program decided for one layer.

    **Fields:**

    - `lr_exponent`: the largest stable power of d in the learning rate.
    - `residual`: r_l, the power by which the layer's output change falls with the width (0: it
      learns at full size; above 0: it is lazy).
    - `binding`: all constraints that stop the learning rate from growing faster.
    - `binding_constraint`: the names of the most direct ones (of the layer's own output if any
      of those binds, and by the shortest chain), one line.
    """

    lr_exponent: Fraction
    residual: Fraction
    binding: tuple[Constraint, ...]
    binding_constraint: str


@dataclass(frozen=True)
class StabilitySolution:
    """The program's answer: `parametrization` is the given one with lr, epsilon and decay set."""

    parametrization: Parametrization
    optimizer: TrainingOptimizer
    alignment: NetworkAlignment
    gradients: Gradients
    layers: Mapping[NetworkLayer, LayerSolution]

    @property
    def lr_exponents(self) -> tuple[Fraction, Fraction, Fraction]:
        """LR exponents of (embedding, hidden, readout)."""
        embedding, hidden, readout = (self.layers[name].lr_exponent for name in NETWORK_LAYERS)
        return embedding, hidden, readout


def _check_initialisation(given: Parametrization) -> None:
    """Raises `InfeasibleProgram` unless all activations start at order one or below."""
    conflicts = []
    for name, required in zip(NETWORK_LAYERS, (Fraction(0), -HALF), strict=False):
        layer = given.layer(name)
        if layer.weight_std != required:
            conflicts.append(
                f"{name} initial weights: multiplier x init must be d^{required} for activations "
                f"of order one, not d^{layer.weight_std}"
            )
    if given.readout.weight_std > -HALF:
        conflicts.append(
            f"readout initial weights: multiplier x init must be at most d^{-HALF} for outputs "
            f"that do not grow, not d^{given.readout.weight_std}"
        )
    if conflicts:
        raise InfeasibleProgram(conflicts)


def _prescribed(
    given: Parametrization,
    optimizer: TrainingOptimizer,
    fixed: Mapping[NetworkLayer, str | int | Fraction] | None,
) -> dict[NetworkLayer, Fraction]:
    """Slowness of the layers whose LR is not the program's to choose."""
    own: dict[NetworkLayer, Fraction] = {
        name: layer.lr for name, layer in given.layers.items() if layer.lr is not None
    }
    if own and optimizer not in ENTRYWISE_NORMALISED:
        raise ValueError(
            f"{given.name} prescribes learning rates for {', '.join(ENTRYWISE_NORMALISED)} only, "
            f"not for {optimizer}"
        )
    unknown = [str(name) for name in fixed or () if name not in NETWORK_LAYERS]
    if unknown:
        known = ", ".join(NETWORK_LAYERS)
        raise ValueError(f"unknown layer {', '.join(unknown)}: must be one of {known}")
    given_rates: dict[NetworkLayer, Fraction] = {
        name: as_exponent(value) for name, value in (fixed or {}).items()
    }
    return {name: -rate for name, rate in (own | given_rates).items()}


def solve_stability(
    given: Parametrization,
    optimizer: TrainingOptimizer = "adam",
    alignment: NetworkAlignment = FULL_ALIGNMENT,
    *,
    gradients: Gradients = "updated",
    fixed: Mapping[NetworkLayer, str | int | Fraction] | None = None,
    priority: Sequence[NetworkLayer] = NETWORK_LAYERS,
) -> StabilitySolution:
    """The largest stable LR exponents of a parametrization, exactly.

    Minimises the slownesses s_l one after the other in the order of `priority`, subject to
    r_l >= 0 at every layer. The order matters only where layers compete: an old large-vocabulary
    network (A < U), where a slower embedding buys a faster hidden layer, and SGD, where a faster
    readout makes every gradient below it larger (`gradients="updated"`; with `"initial"` the
    gradients stay those at initialisation). `maximal_learning_rates` lists all choices.
    With more hidden layers of the same alignment every further one has the same exponent when
    Omega is 1/2. Weight decay keeps (lr)(decay) independent of the width, epsilon follows the
    gradient's entries.

    **Arguments:**

    - `fixed`: LR exponents that are given, by layer, on top of those the parametrization
      prescribes.
    - `priority`: the layers, first the one that may be fastest.

    Raises `InfeasibleProgram` when the initialisation is not of order one or fixed learning rates
    break a constraint (it names them), and `ValueError` for unknown names or an optimizer for
    which the parametrization prescribes no learning rates.

    Source: Everett et al. 2024, arXiv 2407.05872;
    docs/theory/parametrizations.md#stability-program. Muon's row is not in that paper: an
    orthogonal update never lengthens its input, so A and U do not enter the hidden layer.
    """
    check_training_optimizer(optimizer)
    if sorted(priority) != sorted(NETWORK_LAYERS):
        raise ValueError(f"priority must order {', '.join(NETWORK_LAYERS)}")
    _check_initialisation(given)
    slowness = _prescribed(given, optimizer, fixed)
    program = stability_program(given, optimizer, alignment, gradients)
    prescribed = frozenset(slowness)
    _check_prescribed(program, slowness)
    binding: dict[NetworkLayer, tuple[Constraint, ...]] = {}
    for name in priority:
        if name in prescribed:
            coefficients = slowness_of(name).coefficients
            rule = Constraint(name, "prescribed", coefficients, slowness[name])
            binding[name] = (rule,)
            continue
        decided = {name, *slowness}
        decisive = [
            constraint
            for constraint in program.constraints
            if constraint.involves(name)
            and all(layer in decided for layer in NETWORK_LAYERS if constraint.involves(layer))
        ]
        index = NETWORK_LAYERS.index(name)
        needed = {
            constraint: -constraint.slack(slowness) / constraint.coefficients[index]
            for constraint in decisive
        }
        slowness[name] = max(needed.values())
        binding[name] = tuple(c for c, value in needed.items() if value == slowness[name])
    layers: dict[NetworkLayer, LayerSolution] = {
        name: LayerSolution(
            lr_exponent=-slowness[name],
            residual=min(form.at(slowness) for form in program.residuals[name]),
            binding=binding[name],
            binding_constraint=_most_direct(name, binding[name]),
        )
        for name in NETWORK_LAYERS
    }
    filled = _filled(given, optimizer, program, slowness)
    return StabilitySolution(filled, optimizer, alignment, gradients, layers)


def _most_direct(layer: NetworkLayer, binding: Sequence[Constraint]) -> str:
    own = [constraint for constraint in binding if constraint.layer == layer] or list(binding)
    shortest = min(len(constraint.through) for constraint in own)
    direct = [constraint.name for constraint in own if len(constraint.through) == shortest]
    return ", ".join(dict.fromkeys(direct))


def _check_prescribed(program: StabilityProgram, slowness: Mapping[NetworkLayer, Fraction]) -> None:
    """Raises `InfeasibleProgram` for constraints that no free layer can satisfy any more."""
    conflicts = []
    for constraint in program.constraints:
        layers: list[NetworkLayer] = [n for n in NETWORK_LAYERS if constraint.involves(n)]
        if all(name in slowness for name in layers) and constraint.slack(slowness) < 0:
            fixed = " and ".join(f"{name} LR d^{-slowness[name]}" for name in layers)
            conflicts.append(f"{constraint.name} against {fixed or 'the initialisation'}")
    if conflicts:
        raise InfeasibleProgram(list(dict.fromkeys(conflicts)))


def _filled(
    given: Parametrization,
    optimizer: TrainingOptimizer,
    program: StabilityProgram,
    slowness: Mapping[NetworkLayer, Fraction],
) -> Parametrization:
    def filled(name: NetworkLayer) -> LayerExponents:
        uses_epsilon = optimizer in ("adam", "adamw", "adafactor") or (
            optimizer == "muon" and name != "hidden"
        )
        falls = min(form.at(slowness) for form in program.gradients[name])
        return replace(
            given.layer(name),
            lr=-slowness[name],
            epsilon=-falls if uses_epsilon else None,
            weight_decay=slowness[name],
        )

    return replace(
        given,
        embedding=filled("embedding"),
        hidden=filled("hidden"),
        readout=filled("readout"),
    )


def maximal_learning_rates(
    given: Parametrization,
    optimizer: TrainingOptimizer = "adam",
    alignment: NetworkAlignment = FULL_ALIGNMENT,
    *,
    gradients: Gradients = "updated",
) -> tuple[tuple[Fraction, Fraction, Fraction], ...]:
    """Every corner of the set of stable LR exponents (embedding, hidden, readout), largest first.

    At a corner no layer can be faster unless another becomes slower; one corner means that the
    layers do not compete. Found by enumerating the triples of constraints in rational arithmetic.

    Raises `ValueError` where a layer's LR is prescribed (there is nothing to choose), and as
    `solve_stability` does.
    """
    if any(layer.lr is not None for layer in given.layers.values()):
        raise ValueError(f"{given.name} prescribes its learning rates")
    check_training_optimizer(optimizer)
    _check_initialisation(given)
    constraints = stability_program(given, optimizer, alignment, gradients).constraints
    planes = sorted({(c.coefficients, c.bound) for c in constraints if any(c.coefficients)})
    corners = set()
    for chosen in combinations(planes, len(NETWORK_LAYERS)):
        point = _solved([row for row, _ in chosen], [bound for _, bound in chosen])
        if point is None:
            continue
        slowness = dict(zip(NETWORK_LAYERS, point, strict=True))
        if all(constraint.slack(slowness) >= 0 for constraint in constraints):
            corners.add((-point[0], -point[1], -point[2]))
    return tuple(sorted(corners, reverse=True))


def _solved(
    rows: Sequence[Sequence[Fraction]], bounds: Sequence[Fraction]
) -> list[Fraction] | None:
    """Cramer's rule in three unknowns; None for dependent rows."""
    determinant = _determinant(rows)
    if determinant == 0:
        return None
    solution = []
    for column in range(3):
        replaced = [
            [bound if index == column else value for index, value in enumerate(row)]
            for row, bound in zip(rows, bounds, strict=True)
        ]
        solution.append(_determinant(replaced) / determinant)
    return solution


def _determinant(rows: Sequence[Sequence[Fraction]]) -> Fraction:
    total = Fraction(0)
    for first, second, third in permutations(range(3)):
        inversions = (first > second) + (first > third) + (second > third)
        total += (-1) ** inversions * rows[0][first] * rows[1][second] * rows[2][third]
    return total
