"""Everything that the page knows from the Python side, beside the formulas: words and numbers."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp

import derivations
from derivations import symbols as s
from dynsim import Setup, TokenLaw
from dynsim.maps import _reasons as reasons
from dynsim.rules._recommend import UNALIGNED_HIDDEN, layer_exponents
from dynsim.rules._words import KNOWN, PRESUMES
from dynsim.scaling._epsilon import NEGLIGIBLE
from dynsim.scaling.quantities._aged import MANY_OUTPUTS
from dynsim.scaling.quantities._first_step import (
    FIRST_STEP,
    LARGEST_OUTPUT_VARIANCE,
    LARGEST_SHARE,
)
from dynsim.theory._features import feature_statistics
from dynsim.theory._first_step import (
    FREQUENT_TOKEN,
    NARROW,
    SELF_AVERAGING_FREQUENCY,
    SELF_AVERAGING_WIDTH,
)
from dynsim.tokens import _counts as counts_words
from experiments.output import flag
from experiments.self_term import NOT_AVERAGED, SMALL_RATIO

from .fields import FIELDS, OPTIMIZERS, State, allowed, described, limits

GAUSS_NODES = 16
PAGES = "https://arxiv.org/abs/"
# What the views call the symbols of the generated functions of a readout behind one ReLU layer.
FEATURES = {
    derivations.common_agreement: "common",
    derivations.own_agreement: "own",
    derivations.chance_agreement: "chance",
    derivations.feature_overlap_symbol: "overlap",
    derivations.feature_fourth_moment: "fourth_moment",
}


def facts(state: State, law: TokenLaw | None, versions: dict[str, str]) -> dict[str, Any]:
    """The page's constants as plain data. `law`: counts that the page comes with, if any."""
    nodes, weights = np.polynomial.legendre.leggauss(GAUSS_NODES)
    features = feature_statistics("relu", 1)
    return {
        "fields": described(),
        "flags": {field.name: flag(field.name) for field in FIELDS}
        | {"targets": "--targets", "epsilon": "--epsilon"},
        "limits": limits(),
        "allowed": allowed(),
        "counts_words": {
            name: getattr(counts_words, name)
            for name in (
                "NO_COUNTS",
                "NO_SUM",
                "WRONG_LINE",
                "WRONG_VALUE",
                "WRONG_COUNT",
                "NO_COLUMN",
                "COUNT_COLUMNS",
            )
        },
        "state": vars(state),
        "reasons": {
            name: text
            for name, text in vars(reasons).items()
            if isinstance(text, str) and name.isupper()
        },
        "thresholds": {
            "LARGEST_ERROR": reasons.LARGEST_ERROR,
            "LARGEST_OUTPUT_VARIANCE": LARGEST_OUTPUT_VARIANCE,
            "LARGEST_SHARE": LARGEST_SHARE,
            "MANY_OUTPUTS": MANY_OUTPUTS,
            "NEGLIGIBLE": NEGLIGIBLE,
            "EPSILON": Setup.epsilon,
            "SMALL_RATIO": SMALL_RATIO,
            "SELF_AVERAGING_WIDTH": SELF_AVERAGING_WIDTH,
            "SELF_AVERAGING_FREQUENCY": SELF_AVERAGING_FREQUENCY,
        },
        "self_term": {
            "NOT_AVERAGED": NOT_AVERAGED,
            "NARROW": NARROW,
            "FREQUENT_TOKEN": FREQUENT_TOKEN,
        },
        "kernels": {
            name: "sgd" if FIRST_STEP[name] == "sgd" else "sign"
            for name in OPTIMIZERS
            if name in FIRST_STEP
        },
        "features": {str(symbol): getattr(features, name) for symbol, name in FEATURES.items()},
        "gauss": {"nodes": nodes.tolist(), "weights": weights.tolist()},
        "rules": {name: _rules(name) for name in OPTIMIZERS},
        "words_of_rules": {"presumes": PRESUMES, "known": KNOWN},
        "published": _published(),
        "explanations": {view: list(map(explained, of)) for view, of in _explanations().items()},
        "versions": versions,
        "counts": None if law is None else _counted(law),
    }


def _rules(optimizer: str) -> dict[str, dict[str, float]]:
    """Powers of the width in the learning rates by layer, of a model without multipliers."""
    known: derivations.TrainingOptimizer = next(
        name for name in derivations.TRAINING_OPTIMIZERS if name == optimizer
    )
    model = derivations.parametrization("sp")
    alignments = {"mup": derivations.FULL_ALIGNMENT, "lv": UNALIGNED_HIDDEN}
    return {
        rule: {
            layer: float(power) for layer, power in layer_exponents(model, known, aligned).items()
        }
        for rule, aligned in alignments.items()
    }


def _published() -> list[dict[str, Any]]:
    return [
        {
            "name": rule.name,
            "source": rule.source,
            "presumes": rule.presumes,
            "scope": rule.scope,
            "power": float(rule.ratio_exponent),
            "written": _fraction(rule.ratio_exponent),
            "powers": {layer: float(power) for layer, power in rule.lr_exponents.items()},
        }
        for rule in derivations.published_rules()
    ]


def _fraction(power: Fraction) -> str:
    return str(power)


def _counted(law: TokenLaw) -> dict[str, Any]:
    """Frequencies, largest first, with how many types share each."""
    values, sizes = np.unique(law.frequencies, return_counts=True)
    runs = [
        [float(value), int(size)] for value, size in zip(values[::-1], sizes[::-1], strict=True)
    ]
    return {"name": law.name, "types": law.vocab_size, "runs": runs, "notes": list(law.notes)}


def _explanations() -> dict[str, list[derivations.Derivation]]:
    """The derivations on which each view rests."""
    projection = derivations.first_step("projection", "sign")[1]
    return {
        "map": [
            projection,
            derivations.coherence_ratio(),
            derivations.crossover_vocab_size(),
            derivations.aged_update_second_moment("one"),
        ],
        "updates": [
            derivations.first_step("embedding", "sign")[1],
            projection,
            derivations.self_term_second_moment(),
            derivations.feature_first_step("sign")[1],
        ],
        "ratio": [
            derivations.optimal_embedding_lr_with_output(),
            derivations.optimal_projection_lr_with_self_term(),
            derivations.maximal_update_ratio(),
        ],
        "tokens": [
            derivations.first_step("projection", "sign", of_one_token=True)[1],
            derivations.crossover_rank(),
        ],
        "life": [
            derivations.coherent_field("one"),
            derivations.aged_coherence_ratio("one"),
            derivations.restoration_displacement("one"),
            derivations.restoration_displacement("many"),
        ],
        "rules": [derivations.update_second_moment("hidden", "sign")],
    }


def explained(derivation: derivations.Derivation) -> dict[str, Any]:
    """A derivation for the reader: name, formula as MathML, assumptions, symbols and source."""
    free = sorted(derivation.expression.atoms(sp.Symbol), key=str)
    return {
        "name": derivation.name,
        "formula": f'<math display="block"><mrow>{_left(derivation.left)}<mo>=</mo>'
        f"{_mathml(derivation.expression)}</mrow></math>",
        "symbols": [[_mathml(symbol), s.MEANING[symbol]] for symbol in free if symbol in s.MEANING],
        "assumptions": list(dict.fromkeys(derivation.assumptions)),
        "source": derivation.source,
    }


def _mathml(expression: sp.Expr) -> str:
    text = sp.mathml(expression, printer="presentation")
    return text.replace("&InvisibleTimes;", "&#8290;").replace("&ApplyFunction;", "&#8289;")


def _left(text: str) -> str:
    """The left side of a formula, which derivations write as plain text, as MathML."""
    parts = re.findall(
        r"[A-Za-z]+_\([^)]*\)|[A-Za-z]+(?:_[A-Za-z0-9]+)?\*?|\)_\w\^\d|[\d.]+|\S", text
    )
    return "".join(map(_left_part, parts))


def _left_part(part: str) -> str:
    if tail := re.fullmatch(r"\)_(\w)\^(\d)", part):
        bracket = '<mo stretchy="false">)</mo>'
        return f"<msubsup>{bracket}<mi>{tail[1]}</mi><mn>{tail[2]}</mn></msubsup>"
    if step := re.fullmatch(r"([A-Za-z]+)_\((.*)\)", part):
        return f"<msub><mi>{step[1]}</mi><mtext>{step[2]}</mtext></msub>"
    if not part[0].isalpha():
        return f'<mo stretchy="false">{part}</mo>'
    name = part.rstrip("*")
    written = f"<mi>{name}</mi>" if name in ("RMS", "mean") else _mathml(sp.Symbol(name))
    return f"<msup>{written}<mo>*</mo></msup>" if part.endswith("*") else written
