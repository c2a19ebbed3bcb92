"""The claims about the embedding's learning rate over that of hidden layers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from experiments.topics._claim import WRONG, Claim

from .estimators import WITH_EMBEDDING, Family, ratio_exponent, variant_exponent

STUDY = "depth_ratio"
TOGETHER = "docs/theory/learning_rates.md#matrices-together"
QUANTITY = "exponent of d in the ratio of sufficient rates"
PATHS = {
    "fixed": "a fixed vocabulary of m = 16 tokens",
    "proportional": "a vocabulary m = 4d",
    "superlinear": "a vocabulary m = d^(3/2)",
}
DEPTHS = {1: "one hidden matrix", 2: "two hidden matrices", 4: "four hidden matrices"}
OPTIMIZERS = {
    "adam": "Adam",
    "muon": "Muon on hidden matrices and Adam on the rest",
}
# Registered as claims that hold; the intervals of the stored networks are too wide.
UNDECIDED = (
    "depth-ratio-together-4",
    "depth-ratio-joint-superlinear",
    "depth-ratio-joint-late",
    "depth-ratio-muon-fixed",
    "depth-ratio-muon-proportional",
    "depth-ratio-muon-superlinear",
    "depth-ratio-muon-together-2",
    "depth-ratio-joint-muon-2",
    "depth-ratio-residual-together-2",
    "depth-ratio-outputs-together-2",
    "depth-ratio-outputs-joint-2",
)
# Undecided with six or eighteen seeds, or under all fresh ones, and measured again with others and
# more of them.
MEASURED_AGAIN = {
    "depth-ratio-alone-fixed": "depth_ratio_alone",
    "depth-ratio-alone-superlinear": "depth_ratio_alone",
    "depth-ratio-joint-2": "depth_ratio_seeds",
    "depth-ratio-together-4": "depth_ratio_again",
    "depth-ratio-joint-4": "depth_ratio_again",
    "depth-ratio-joint-muon": "depth_ratio_again",
    "depth-ratio-muon-together-2": "depth_ratio_again",
    "depth-ratio-joint-muon-2": "depth_ratio_again",
}
ONE = "the hidden one"
ALONE = "the embedding's learning rate over the hidden one, each sufficient with the rest frozen,"
JOINT = (
    "with all layers trained together, the embedding's learning rate (0.3) over the sufficient "
    "hidden one"
)
POWERS = {
    1.0: "like the width d",
    0.5: "like sqrt(d)",
    0.75: "like d^(3/4)",
    0.875: "like d^(7/8)",
    0.0: "by no power of the width d",
    -0.5: "like 1/sqrt(d)",
    -0.25: "like d^(-1/4)",
}


def _ratio(family: Family) -> str:
    if family.layers == "all":
        return JOINT
    if family.layers == "embedding+hidden":
        return JOINT.replace("all layers", "embedding and hidden matrix")
    if family.layers == "hidden+readout" and family.depth > 1:
        return ALONE.replace(ONE, "that of hidden matrices and readout, trained together")
    if family.layers == "hidden+readout":
        return ALONE.replace(
            "the hidden one", "that of hidden matrix and readout, trained together"
        )
    if family.depth > 1:
        return ALONE.replace(ONE, "that of the hidden matrices, trained together")
    return ALONE


def _sufficient(family: Family) -> str:
    beside = " beside what the embedding removes" if family.layers in WITH_EMBEDDING else ""
    return f"A rate is sufficient that removes nine tenths of what the best one removes{beside}."


def _claim(
    name: str,
    family: Family,
    horizon: int,
    power: float,
    rival: float,
    *,
    tolerance: float = 0.1,
    wrong: bool = False,
    **options: Any,
) -> Claim:
    """`power` is the derived one, or another one in a control."""
    setting = (
        f"{'in' if wrong else 'In'} a plain linear network with {DEPTHS[family.depth]} under muP "
        f"initialisation, {PATHS[family.path]} and {OPTIMIZERS[family.optimizer]}, after {horizon} "
        "steps"
    )
    return Claim(
        name=name,
        statement=f"{WRONG if wrong else ''}{setting} {_ratio(family)} grows {POWERS[power]}. "
        f"{_sufficient(family)}",
        quantity=QUANTITY,
        prediction=f"{power:g}",
        study=MEASURED_AGAIN.get(name, STUDY),
        evidence=partial(
            ratio_exponent, family=family, horizon=horizon, predicted=power if wrong else None
        ),
        tolerance=tolerance,
        citation=options.pop("citation", TOGETHER),
        rival=rival,
        expected="fails" if wrong else "undecided" if name in UNDECIDED else "holds",
        **options,
    )


def _variant(name: str, variant: str, layers: str, power: float) -> Claim:
    """Of two hidden matrices, in another network than the plain one with one output."""
    own = _claim(name, _adam("proportional", 2, layers), 2, power, 0.5)
    words = {
        "residual": ("a plain linear network", "a residual linear network"),
        "two outputs": ("a plain linear network", "a plain linear network of two outputs"),
    }
    return replace(
        own,
        statement=own.statement.replace(*words[variant]),
        study="depth_ratio_variants",
        evidence=partial(
            variant_exponent,
            variant=variant,
            family=_adam("proportional", 2, layers),
            horizon=2,
        ),
    )


def _joint(name: str, family: Family, horizon: int) -> Claim:
    power, rival = (0.0, -0.5) if family.optimizer == "muon" else (1.0, 0.5)
    return _claim(f"depth-ratio-joint-{name}", family, horizon, power, rival, tolerance=0.15)


def _adam(path: str, depth: int, layers: str) -> Family:
    return Family("adam", path, depth, layers)


def _muon(path: str, depth: int, layers: str) -> Family:
    return Family("muon", path, depth, layers)


CLAIMS = (
    _claim("depth-ratio-alone-fixed", _adam("fixed", 1, "hidden"), 12, 1.0, 0.5),
    _claim("depth-ratio-alone-proportional", _adam("proportional", 1, "hidden"), 12, 0.5, 1.0),
    _claim("depth-ratio-alone-superlinear", _adam("superlinear", 1, "hidden"), 12, 0.75, 0.5),
    _claim(
        "depth-ratio-together-readout",
        _adam("proportional", 1, "hidden+readout"),
        2,
        0.75,
        0.5,
    ),
    _claim("depth-ratio-together-2", _adam("proportional", 2, "hidden"), 2, 0.75, 0.5),
    _claim("depth-ratio-together-4", _adam("proportional", 4, "hidden"), 2, 0.875, 0.5),
    _joint("fixed", _adam("fixed", 1, "all"), 2),
    _joint("proportional", _adam("proportional", 1, "all"), 2),
    _joint("superlinear", _adam("superlinear", 1, "all"), 2),
    _joint("late", _adam("proportional", 1, "all"), 12),
    _joint("2", _adam("proportional", 2, "all"), 2),
    _joint("4", _adam("proportional", 4, "all"), 2),
    _claim("depth-ratio-muon-fixed", _muon("fixed", 1, "hidden"), 12, 0.0, -0.5),
    _claim("depth-ratio-muon-proportional", _muon("proportional", 1, "hidden"), 12, -0.5, 0.0),
    _claim("depth-ratio-muon-superlinear", _muon("superlinear", 1, "hidden"), 12, -0.25, 0.0),
    _claim(
        "depth-ratio-muon-together-2",
        _muon("proportional", 2, "hidden"),
        2,
        -0.25,
        -0.5,
        tolerance=0.12,
    ),
    _joint("muon", _muon("proportional", 1, "all"), 2),
    _joint("muon-2", _muon("proportional", 2, "all"), 2),
    _variant("depth-ratio-residual-together-2", "residual", "hidden", 0.75),
    _variant("depth-ratio-outputs-together-2", "two outputs", "hidden", 0.75),
    _variant("depth-ratio-outputs-joint-2", "two outputs", "all", 1.0),
    _claim(
        "control-depth-ratio-joint",
        _adam("proportional", 1, "embedding+hidden"),
        2,
        0.5,
        1.0,
        tolerance=0.15,
        wrong=True,
        citation=f"contradicts {TOGETHER}; Hayou & Liu 2025, arXiv 2506.15025",
    ),
    _claim(
        "control-depth-ratio-together",
        _adam("proportional", 2, "hidden+readout"),
        2,
        0.5,
        1.0,
        wrong=True,
        citation=f"contradicts {TOGETHER}",
    ),
    _claim(
        "control-depth-ratio-alone",
        _adam("proportional", 1, "hidden"),
        2,
        1.0,
        0.5,
        wrong=True,
        citation=f"contradicts {TOGETHER}",
    ),
    _claim(
        "control-depth-ratio-muon",
        _muon("proportional", 1, "hidden"),
        2,
        0.0,
        -0.5,
        wrong=True,
        citation=f"contradicts {TOGETHER}",
    ),
)
