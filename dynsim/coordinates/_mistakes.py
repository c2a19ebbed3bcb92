"""Likely mistakes in words: which known error has this module's pattern of wrong powers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ._powers import Powers
from ._verdicts import Slope

NEAR = 0.2  # a power within this of a half is named as that half


def likely_mistakes(label: str, failures: Sequence[Slope], powers: Powers) -> tuple[str, ...]:
    """What the failing terms of one module point to, the most direct first."""
    by_term: dict[str, Slope] = {}
    for slope in failures:  # of each term the first recorded step
        by_term.setdefault(slope.term, slope)
    texts: list[str] = []
    if not failures:
        return ()
    if any(slope.verdict == "diverged" for slope in failures):
        texts.append("its sizes are not finite: the run diverged")
    if any(slope.verdict == "frozen" for slope in failures):
        texts.append("it does not learn: is it in a parameter group of the optimizer?")
    weight, update = by_term.get("weight"), by_term.get("weight_update")
    excess = {term: _excess(slope) for term, slope in by_term.items()}
    together = (
        weight is not None
        and update is not None
        and abs(excess["weight"] - excess["weight_update"]) < 2 * NEAR
    )
    if together:
        assert weight is not None
        texts.append(_multiplier(label, weight, excess["weight"]))
    else:
        if weight is not None and weight.verdict not in ("diverged",):
            texts.append(_initialisation(weight, excess["weight"]))
        if update is not None and update.verdict in ("blows up", "too small"):
            texts.append(_learning_rate(label, update, excess["weight_update"], powers, by_term))
    if label == "scores" and "initial" in by_term:
        texts.append(
            f"attention scores start like {_power(by_term['initial'])}, should be "
            f"{_target(by_term['initial'])}: divided by the root of the head's width instead of "
            "the head's width?"
        )
    elif label == "scores" and "update" in by_term:
        texts.append(
            f"attention scores move like {_power(by_term['update'])}, should not grow: divided by "
            "the root of the head's width instead of the head's width?"
        )
    if (decay := by_term.get("decay")) is not None:
        texts.append(
            f"a step shrinks the weight by (learning rate)(weight decay) like {_power(decay)}, "
            "should not depend on the width: scale the decay as 1/(learning rate)"
        )
    if (epsilon := by_term.get("epsilon")) is not None:
        texts.append(
            f"Adam's epsilon over the gradient's entries grows like {_power(epsilon)} and is "
            "not small: it damps the updates of wide models; take a smaller epsilon, or scale it "
            "as the gradient"
        )
    if not texts and label == "readout" and "initial_on_learned" in by_term:
        texts.append(
            f"its initial weights follow what the layers below learn (Omega = 1): "
            f"{_power(by_term['initial_on_learned'])}, should not grow. muP starts the readout as "
            "width^-1"
        )
    if not texts and label == "outputs":
        texts.append(f"the model's outputs move like {_power(failures[0])}, should not grow")
    if not texts and failures:
        worst = max(failures, key=lambda slope: abs(_excess(slope)))
        texts.append(f"{worst.term.replace('_', ' ')} goes like {_power(worst)}")
    return tuple(texts)


def _multiplier(label: str, weight: Slope, excess: float) -> str:
    what = f"{label} multiplier" if label in ("readout", "embedding") else "multiplier"
    kind = "missing" if excess > 0 and abs(excess - round(excess)) < NEAR else "of a wrong power"
    if label == "readout" and excess > 0:
        kind = "missing" if excess > 0.5 + NEAR else "missing, or 1/sqrt(width)"
    return (
        f"{what} {kind}: entries and updates both go like {_shown(excess)} times what they should "
        f"(entries {_power(weight)}, should be {_target(weight)})"
    )


def _initialisation(weight: Slope, excess: float) -> str:
    return (
        f"initial entries (multiplier included) go like {_power(weight)}, should be "
        f"{_target(weight)}: initial standard deviation off by {_shown(excess)}"
    )


def _learning_rate(
    label: str, update: Slope, excess: float, powers: Powers, by_term: dict[str, Any]
) -> str:
    if "epsilon" in by_term:
        return f"updates go like {_power(update)}, should be {_target(update)}: damped by epsilon"
    measured = update.slope.value
    others = [
        f"the {name}'s"
        for name, power in powers.update.items()
        if name != label and abs(power - measured) < NEAR
    ]
    group = (
        f", which is {' or '.join(others)} rate: in the wrong parameter group?" if others else ""
    )
    return (
        f"updates go like {_power(update)}, should be {_target(update)}: learning rate (times "
        f"multiplier) off by {_shown(excess)}{group}"
    )


def _excess(slope: Slope) -> float:
    """Measured minus allowed power; 0 inside the band."""
    value = slope.slope.value
    if math.isnan(value):
        return 0.0
    if value > slope.allowed.high:
        return value - slope.allowed.high
    return min(0.0, value - slope.allowed.low)


def _power(slope: Slope) -> str:
    return _shown(slope.slope.value)


def _target(slope: Slope) -> str:
    middle = slope.allowed.high if math.isinf(slope.allowed.low) else slope.allowed.low
    return f"width^{middle:g}"


def _shown(excess: float) -> str:
    half = round(2 * excess) / 2
    return f"width^{half:g}" if abs(half - excess) < NEAR else f"width^{excess:.2f}"
