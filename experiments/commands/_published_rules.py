"""Published learning-rate rules side by side, in one gauge, and what our networks measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from experiments.output import number, print_table, print_wrapped

from ._latex import latex_table

GAUGES = {
    "adam": "all multipliers one (table 3 of Tensor Programs V)",
    "muon": "all multipliers one; Muon's learning rate is its step's spectral norm over "
    "sqrt(rows/columns), whatever an implementation multiplies by",
}
DERIVED = "derived, full alignment"
LAYERS = {False: ("embedding", "hidden", "readout"), True: ("embedding", "hidden")}
COLUMNS = {
    False: ("embedding", "hidden", "readout", "decay"),
    True: ("embedding", "logits", "hidden", "decay"),
}

MEASURED_RATIOS = {
    "fixed vocabulary m = 4": "lr-ratio-fixed-vocab",
    "m = 4 d": "lr-ratio-proportional",
}
"""families of our own networks, and the claims that hold their measured exponents"""


def comparison_document(
    sizes: dict[str, int], optimizer: str = "adam", tied: bool = False
) -> dict[str, Any]:
    """The rules at `width`, `base_width` and `vocab_size`; where they agree; what was measured."""
    import derivations

    family: derivations.RuleFamily = "muon" if optimizer == "muon" else "adam"
    comparison = derivations.compare_published_rules(**sizes, family=family, tied=tied)
    rules = [
        {
            "name": rule.name,
            "source": rule.source,
            "date": rule.date,
            "scope": rule.scope,
            "presumes": rule.presumes,
            "evidence": rule.evidence,
            "trained_by": rule.trained_by,
            "lr_exponents": {k: str(x) for k, x in comparison.exponents[rule.name].items()},
            "factors": dict(comparison.factors[rule.name]),
            "ratio_exponent": str(_ratio(comparison.exponents[rule.name])),
            "ratio_factor": comparison.ratio_factors[rule.name],
            "decay_exponent": None if rule.decay is None else str(rule.decay),
            "logit_multiplier_exponent": str(comparison.logit_multipliers.get(rule.name, 0)),
        }
        for rule in comparison.rules
    ]
    agreement = {
        layer: {str(x): list(names) for x, names in groups.items()}
        for layer, groups in comparison.groups.items()
    }
    derived = {
        "lr_exponents": {layer: str(x) for layer, x in comparison.derived.items()},
        "logit_multiplier_exponent": str(comparison.derived_logit_multiplier),
        "source": "docs/theory/parametrizations.md#stability-program",
    }
    return {
        **sizes,
        "optimizer": optimizer,
        "tied": tied,
        "gauge": GAUGES[family],
        "rules": rules,
        "silent": list(comparison.silent),
        "agreement": agreement,
        "derived": derived,
        "measured": measured_ratio_exponents() if family == "adam" and not tied else [],
    }


def _ratio(exponents: Mapping[Any, Fraction]) -> Fraction:
    return exponents["embedding"] - exponents["hidden"]


def measured_ratio_exponents() -> list[dict[str, Any]]:
    """Width exponent of the optimal LR ratio, measured in the stored study of trained networks."""
    from experiments.precision import enable_x64
    from experiments.results import STORED, load
    from experiments.topics._claim_study import claim_networks
    from experiments.topics._parts import claim_files

    enable_x64()
    study = "first_step_claims"
    stored = load(STORED / f"{study}.nc")
    claims = {one.name: one for one in claim_files("first_step")[study].claims}
    fits = {
        family: claim_networks(claims[name], stored).fit for family, name in MEASURED_RATIOS.items()
    }
    return [
        {"family": family, "value": fit.value, "low": fit.low, "high": fit.high}
        for family, fit in fits.items()
        if fit is not None
    ]


def comparison_latex(document: dict[str, Any]) -> str:
    """The exponents as a LaTeX table."""
    columns = COLUMNS[document["tied"]]
    rows = [
        [rule["name"], *(_cells(rule)[column] for column in columns)]
        for rule in (*document["rules"], _derived_row(document))
    ]
    return latex_table(("rule", *columns), rows)


def written_names(names: Sequence[str]) -> str:
    """Names of rules in one line; those of one paper that differ by a letter's word are joined.

    `Everett SP, full alignment` and `Everett NTK, full alignment` become `Everett (SP, NTK; full
    alignment)`.
    """
    kinds: dict[str, list[str]] = {}
    parts: list[str] = []
    for name in names:
        who, comma, kind = name.partition(", ")
        if not comma:
            parts.append(name)
            continue
        author, _, letters = who.partition(" ")
        if kind not in kinds:
            parts.append(f"{author}, {kind}")
        kinds.setdefault(kind, []).append(letters)
    return ", ".join(
        f"{author} ({', '.join(kinds[kind])}; {kind})" if comma else author
        for author, comma, kind in (part.partition(", ") for part in parts)
    )


def _derived_row(document: dict[str, Any]) -> dict[str, Any]:
    return {"name": DERIVED, "date": "", "decay_exponent": None, **document["derived"]}


def _cells(rule: dict[str, Any]) -> dict[str, str]:
    """The exponents of a rule by the head of their column."""
    decay = rule["decay_exponent"]
    return {
        **rule["lr_exponents"],
        "logits": rule["logit_multiplier_exponent"],
        "decay": "-" if decay is None else decay,
    }


def in_one_sentence(document: dict[str, Any]) -> str:
    """Over which layers published rules disagree, and by how much at these widths."""
    growth = document["width"] / document["base_width"]
    sides = {
        "tied matrix" if document["tied"] and layer == "embedding" else layer: list(groups)
        for layer, groups in document["agreement"].items()
        if len(groups) > 1 and layer in LAYERS[document["tied"]]
    }
    if not sides:
        return "The published rules agree on every layer's learning rate."
    spans = []
    for layer, powers in sides.items():
        found = [float(Fraction(power)) for power in powers]
        factor = number(growth ** (max(found) - min(found)))
        spans.append(f"{layer} (d^{' or d^'.join(powers)}: a factor {factor})")
    return (
        f"From width {document['base_width']} to {document['width']} the {len(document['rules'])} "
        f"published rules disagree on the learning rates of {', '.join(spans)}."
    )


def print_comparison(document: dict[str, Any]) -> None:
    """Who agrees, exponents and factors rule by rule, the measured exponents and the sources."""
    growth = document["width"] / document["base_width"]
    tie = "one matrix as embedding and readout" if document["tied"] else "a readout of its own"
    print_wrapped(in_one_sentence(document))
    print()
    print_wrapped(
        f"Powers of the width in learning rates, and factors from width {document['base_width']} "
        f"to {document['width']}, for hidden matrices trained by {document['optimizer']} and {tie}."
    )
    print_wrapped(f"Gauge: {document['gauge']}.")
    print()
    for layer in LAYERS[document["tied"]]:
        groups, derived = document["agreement"][layer], document["derived"]["lr_exponents"][layer]
        name = "tied matrix" if document["tied"] and layer == "embedding" else layer
        print(f"{name} (derived at full alignment: {derived})")
        for x, names in groups.items():
            factor = number(growth ** float(Fraction(x)))
            print_wrapped(f"  {x} (x{factor}): {written_names(names)}", "    ")
    print()
    columns = COLUMNS[document["tied"]]
    rows = [
        [rule["name"], rule["date"], *(_cells(rule)[column] for column in columns)]
        for rule in (*document["rules"], _derived_row(document))
    ]
    print_table(("rule", "date", *columns), rows)
    print()
    if document["silent"]:
        print_wrapped(f"Nothing said of a tied readout: {written_names(document['silent'])}")
    print_wrapped(
        "decay: power of the width in what a step shrinks a hidden matrix by, (LR)(weight decay). "
        "None of the rules depends on the vocabulary, which decides which applies; here m/d = "
        f"{number(document['vocab_size'] / document['width'])}."
    )
    if document["measured"]:
        print("\nMeasured on our own networks (embedding + projection, one step, muP start):")
    for row in document["measured"]:
        interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
        print(f"  {row['family']}: embedding/projection ~ d^{row['value']:.3f} {interval}")
    print("\nSources (what was read and assumed: --json)")
    for rule in document["rules"]:
        print_wrapped(f"{rule['name']}: {rule['source']}. Presumes {rule['presumes']}.", "  ")
