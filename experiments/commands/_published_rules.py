"""Published learning-rate rules side by side, in one gauge, and what our networks measure."""

from __future__ import annotations

from typing import Any

from experiments.output import number, print_table

from ._latex import latex_table

GAUGE = "gauge: all multipliers one (table 3 of Tensor Programs V)"

MEASURED_RATIOS = {
    "fixed vocabulary m = 4": "lr-ratio-fixed-vocab",
    "m = 4 d": "lr-ratio-proportional",
}
"""families of our own networks, and the claims that hold their measured exponents"""


def comparison_document(sizes: dict[str, int]) -> dict[str, Any]:
    """The rules at `width`, `base_width` and `vocab_size`; where they agree; what was measured."""
    import derivations

    comparison = derivations.compare_published_rules(**sizes)
    rules = [
        {
            "name": rule.name,
            "source": rule.source,
            "scope": rule.scope,
            "presumes": rule.presumes,
            "evidence": rule.evidence,
            "lr_exponents": {layer: str(x) for layer, x in rule.lr_exponents.items()},
            "factors": dict(comparison.factors[rule.name]),
            "ratio_exponent": str(rule.ratio_exponent),
            "ratio_factor": comparison.ratio_factors[rule.name],
        }
        for rule in comparison.rules
    ]
    agreement = {
        layer: {str(x): list(names) for x, names in groups.items()}
        for layer, groups in comparison.groups.items()
    }
    measured = measured_ratio_exponents()
    return {**sizes, "gauge": GAUGE, "rules": rules, "agreement": agreement, "measured": measured}


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
    head = ("rule", "embedding", "hidden", "readout", "embedding/hidden")
    rows = [
        [rule["name"], *rule["lr_exponents"].values(), rule["ratio_exponent"]]
        for rule in document["rules"]
    ]
    return latex_table(head, rows)


def print_comparison(document: dict[str, Any]) -> None:
    """Exponents and factors rule by rule, which rules agree, and the measured exponents."""
    print(
        "LR exponents of the width under Adam, and factors from width "
        f"{document['base_width']} to {document['width']}; {document['gauge']}.\n"
        "None of these rules depends on the vocabulary; here m/d = "
        f"{number(document['vocab_size'] / document['width'])}.\n"
    )
    head = ("rule", "embedding", "hidden", "readout", "embedding/hidden", "presumes")
    rows = [
        [
            rule["name"],
            *(f"{x} (x{number(rule['factors'][k])})" for k, x in rule["lr_exponents"].items()),
            f"{rule['ratio_exponent']} (x{number(rule['ratio_factor'])})",
            rule["presumes"],
        ]
        for rule in document["rules"]
    ]
    print_table(head, rows)
    print()
    for layer, groups in document["agreement"].items():
        print(f"{layer}: " + "; ".join(f"{x}: {', '.join(names)}" for x, names in groups.items()))
    print("\nMeasured on our own networks (embedding + projection, one step, muP initialisation):")
    for row in document["measured"]:
        interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
        print(f"  {row['family']}: embedding/projection ~ d^{row['value']:.3f} {interval}")
