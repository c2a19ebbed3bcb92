"""abc-parametrizations as values: exact exponents of the width, layer by layer.

A weight is W = (multiplier) w with w's entries started at (init_std) and trained with (lr), each
a power of the width d. The literature writes d^-a, d^-b, d^-c; here every field is the power
itself, so multiplier = -a, init_std = -b and lr = -c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, get_args

import sympy as sp

NetworkLayer = Literal["embedding", "hidden", "readout"]
NETWORK_LAYERS: tuple[NetworkLayer, ...] = get_args(NetworkLayer)

TrainingOptimizer = Literal["sgd", "momentum", "sign", "adam", "adamw", "adafactor", "muon"]
TRAINING_OPTIMIZERS: tuple[TrainingOptimizer, ...] = get_args(TrainingOptimizer)
ENTRYWISE_NORMALISED: tuple[TrainingOptimizer, ...] = ("sign", "adam", "adamw")

# By which power of theta the learning rate falls when the multiplier grows by theta: the update
# of W is theta (lr) times an update that is proportional to the gradient (SGD), free of its scale
# (sign, Adam, Muon) or proportional to the weights' own size (Adafactor).
_LR_POWER: dict[TrainingOptimizer, int] = {
    "sgd": 2,
    "momentum": 2,
    "sign": 1,
    "adam": 1,
    "adamw": 1,
    "muon": 1,
    "adafactor": 0,
}

_WRITTEN = re.compile(r"[+-]?\d{1,6}(?:/\d{1,6}|\.\d{1,6})?")
HALF = Fraction(1, 2)


def as_exponent(value: str | int | Fraction | sp.Rational) -> Fraction:
    """`value` as an exact rational: `1/2`, `-0.5`, an integer, a Fraction or a sympy Rational.

    Raises `ValueError` for anything else. A float is refused, since 0.1 is not a tenth.
    """
    if isinstance(value, str) and _WRITTEN.fullmatch(value.strip()):
        try:
            return Fraction(value.strip())
        except ZeroDivisionError:
            pass
    if isinstance(value, sp.Rational):
        return Fraction(int(value.p), int(value.q))
    if isinstance(value, int | Fraction) and not isinstance(value, bool):
        return Fraction(value)
    raise ValueError(f"an exponent must be an integer or a fraction such as 1/2, not {value!r:.60}")


def check_training_optimizer(optimizer: str) -> None:
    """Raises `ValueError` with the known names unless `optimizer` is one of them."""
    if optimizer not in TRAINING_OPTIMIZERS:
        known = ", ".join(TRAINING_OPTIMIZERS)
        raise ValueError(f"unknown optimizer {optimizer!r:.60}: must be one of {known}")


@dataclass(frozen=True)
class LayerExponents:
    """Powers of the width d in one layer.

    **Fields:**

    - `multiplier`: of the constant that multiplies the trained weight (theory's -a).
    - `init_std`: of the trained weight's initial standard deviation (-b).
    - `lr`: of its learning rate (-c); None while the stability program has not set it.
    - `epsilon`: of the constant that Adam compares with a gradient entry (for Adafactor the
      square root of its constant); None where the optimizer has none or nothing is set yet.
    - `weight_decay`: of the decoupled weight decay, which shrinks the weight by (lr)(decay) a
      step; None while the LR is not set.
    """

    multiplier: Fraction
    init_std: Fraction
    lr: Fraction | None = None
    epsilon: Fraction | None = None
    weight_decay: Fraction | None = None

    def gauge_transformed(self, theta: Fraction, optimizer: TrainingOptimizer) -> LayerExponents:
        """The same layer with its multiplier larger by d^theta; the function computed is the same.

        init_std falls by theta; lr by 2 theta (SGD, momentum), theta (sign, Adam, Muon) or 0
        (Adafactor); epsilon grows by theta as the gradient does; weight decay grows as lr falls.
        """
        power = _LR_POWER[optimizer]

        def shifted(value: Fraction | None, by: Fraction) -> Fraction | None:
            return None if value is None else value + by

        return LayerExponents(
            multiplier=self.multiplier + theta,
            init_std=self.init_std - theta,
            lr=shifted(self.lr, -power * theta),
            epsilon=shifted(self.epsilon, theta),
            weight_decay=shifted(self.weight_decay, power * theta),
        )

    @property
    def weight_std(self) -> Fraction:
        """Power of d in the initial entries of the weight itself, multiplier times init."""
        return self.multiplier + self.init_std


@dataclass(frozen=True)
class Parametrization:
    """An abc-parametrization of embedding -> hidden -> readout.

    Layers whose `lr` is None leave it to the stability program (`solve_stability`); a layer with
    one prescribes it, for the optimizers sign, Adam and AdamW.

    **Fields:** `name`; the three layers' exponents; `source`, the paper that states it.
    """

    name: str
    embedding: LayerExponents
    hidden: LayerExponents
    readout: LayerExponents
    source: str

    def layer(self, name: NetworkLayer) -> LayerExponents:
        """The exponents of one layer by its name."""
        return {"embedding": self.embedding, "hidden": self.hidden, "readout": self.readout}[name]

    @property
    def layers(self) -> dict[NetworkLayer, LayerExponents]:
        """The exponents by layer, in the order of the network."""
        return {name: self.layer(name) for name in NETWORK_LAYERS}

    def gauge_transformed(
        self, theta: Mapping[NetworkLayer, Fraction], optimizer: TrainingOptimizer
    ) -> Parametrization:
        """The same training in another gauge: multiplier of layer l times d^theta[l].

        Layers that are not named stay as they are. Source:
        docs/theory/parametrizations.md#abc-gauge; Yang et al. 2022
        (Tensor Programs V).
        """
        moved = {
            name: self.layer(name).gauge_transformed(Fraction(theta[name]), optimizer)
            for name in theta
        }
        return replace(self, **moved)

    def with_multipliers(
        self,
        optimizer: TrainingOptimizer,
        multipliers: Mapping[NetworkLayer, Fraction] | None = None,
    ) -> Parametrization:
        """The same training in the gauge of these multipliers (default: all of them one).

        With multipliers of one the exponents are those of the weights themselves, so two
        parametrizations that train alike have equal exponents.
        """
        theta: dict[NetworkLayer, Fraction] = {}
        for name in NETWORK_LAYERS if multipliers is None else multipliers:
            wanted = Fraction(0) if multipliers is None else multipliers[name]
            theta[name] = wanted - self.layer(name).multiplier
        return self.gauge_transformed(theta, optimizer)


Triple = Sequence[str | int | Fraction] | Mapping[NetworkLayer, str | int | Fraction]


def custom_parametrization(
    multiplier: Triple, init_std: Triple, lr: Triple | None = None, name: str = "custom"
) -> Parametrization:
    """A parametrization of the user's own: powers of d for (embedding, hidden, readout).

    Each argument is a triple in that order or a mapping by layer; fractions may be written as
    text (`"-1/2"`). `lr` may be a mapping of some layers only; the others are left to the
    stability program.

    Raises `ValueError` for a missing or unknown layer and for a value that is not a rational.
    """
    multipliers, stds = _triple("multiplier", multiplier), _triple("init_std", init_std)
    rates = {} if lr is None else _triple("lr", lr, partial=True)
    layers = {
        layer: LayerExponents(multipliers[layer], stds[layer], rates.get(layer))
        for layer in NETWORK_LAYERS
    }
    return Parametrization(name, **layers, source="given by the user")


def _triple(what: str, values: Triple, *, partial: bool = False) -> dict[NetworkLayer, Fraction]:
    if isinstance(values, str):
        raise ValueError(f"{what} must name embedding, hidden and readout, not one value")
    if not isinstance(values, Mapping):
        if len(values) != len(NETWORK_LAYERS):
            raise ValueError(f"{what} must have three exponents: embedding, hidden, readout")
        values = dict(zip(NETWORK_LAYERS, values, strict=True))
    unknown = [str(name) for name in values if name not in NETWORK_LAYERS]
    missing = [] if partial else [name for name in NETWORK_LAYERS if name not in values]
    if unknown or missing:
        wrong = f"unknown {', '.join(unknown)}" if unknown else f"no {', '.join(missing)}"
        raise ValueError(f"{what} must name embedding, hidden and readout: {wrong}")
    return {name: as_exponent(value) for name, value in values.items()}


def _named(
    name: str,
    a: tuple[int | Fraction, ...],
    b: tuple[int | Fraction, ...],
    source: str,
    lr: tuple[int | Fraction | None, ...] = (None, None, None),
) -> Parametrization:
    """From the letters of the papers: weight d^-a w, init d^-b (the LR is the power itself)."""
    layers = {
        layer: LayerExponents(
            -Fraction(a[index]),
            -Fraction(b[index]),
            None if (rate := lr[index]) is None else Fraction(rate),
        )
        for index, layer in enumerate(NETWORK_LAYERS)
    }
    return Parametrization(name, **layers, source=source)


_EVERETT = "Everett et al. 2024, arXiv 2407.05872, table 1"

PARAMETRIZATIONS: dict[str, Parametrization] = {
    "sp": _named("sp", (0, 0, 0), (0, HALF, HALF), f"standard parametrization; {_EVERETT}"),
    "ntk": _named("ntk", (0, HALF, HALF), (0, 0, 0), f"neural tangent; {_EVERETT}"),
    "mup": _named(
        "mup",
        (-HALF, 0, HALF),
        (HALF, HALF, HALF),
        f"maximal update, the gauge of table 9 of Yang et al. 2022, arXiv 2203.03466; {_EVERETT}",
    ),
    "mfp": _named("mfp", (0, HALF, 1), (0, 0, 0), f"mean field; {_EVERETT}"),
    "umup": _named(
        "umup",
        (0, HALF, 1),
        (0, 0, 0),
        "unit-scaled maximal update; Blake et al. 2024, arXiv 2407.17465, table 2 (Adam)",
        lr=(-HALF, -HALF, 0),
    ),
    "lv": _named(
        "lv",
        (-HALF, 0, HALF),
        (HALF, HALF, HALF),
        "muP with the embedding slowed until embedding LR / hidden LR grows as sqrt(width); Hayou "
        "& Liu 2025, arXiv 2506.15025 (they state the ratio; hidden and readout are muP's)",
        lr=(-1, -1, -HALF),
    ),
}


def parametrization(name: str) -> Parametrization:
    """The parametrization called `name`: sp, ntk, mup, mfp, umup or lv.

    Raises `ValueError` with the known names.
    """
    if name not in PARAMETRIZATIONS:
        known = ", ".join(PARAMETRIZATIONS)
        raise ValueError(f"unknown parametrization {name!r:.60}: must be one of {known}")
    return PARAMETRIZATIONS[name]
