"""Behind each number of `dynsim recommend`: the derivation, our own measurements, published rules.

The verdicts of our claims stand in `experiments/data/cited_claims.json`, so that a recommendation
needs no study. `python -m experiments.commands._rate_evidence` writes them from the stored studies.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.output import number, print_wrapped

from ._published_rules import written_names

if TYPE_CHECKING:
    from dynsim import Recommendation

CITED = Path(__file__).parents[1] / "data" / "cited_claims.json"
PARAMETRIZATIONS = "docs/theory/parametrizations.md"
RATES = "docs/theory/learning_rates.md"
FAMILY = {"sign": "adam", "adam": "adam", "adamw": "adam", "muon": "muon"}
"""optimizers that rules are published for, and which of them"""
LAYER = {
    "embedding": "embedding",
    "tied matrix": "embedding",
    "hidden": "hidden",
    "readout": "readout",
}

# What is derived, by rate: the formula in words, and where it stands.
STABLE = "the largest stable power at full alignment"
DERIVED = {
    "embedding": (
        "a token's input moves by the step of its own row, at every width",
        f"{PARAMETRIZATIONS}#stability-program",
    ),
    "tied matrix": (
        "as an embedding: a token's input moves by the step of its own row",
        f"{PARAMETRIZATIONS}#stability-program",
    ),
    "hidden": (
        "d aligned entries of a step add up (A = U = 1)",
        f"{PARAMETRIZATIONS}#stability-program",
    ),
    "hidden, muon": (
        "the step keeps its spectral norm, so that no input moves by more (A = U = 0)",
        "docs/theory/first_step.md#muon-step",
    ),
    "readout": (
        "d aligned entries of a step add up in a logit, at every vocabulary",
        f"{PARAMETRIZATIONS}#stability-program",
    ),
    "logits": (
        "as a readout the entries of the one matrix, as large as an embedding's, move logits d "
        "times as much",
        f"{PARAMETRIZATIONS}#stability-program; docs/theory/first_step.md#tied-step; Yang et al. "
        "2022, arXiv 2203.03466, appendix B.1",
    ),
    "vector": (
        "a gain or bias moves its neuron by its own step, at every width",
        f"{PARAMETRIZATIONS}#stability-program",
    ),
    "embedding decay": (
        "(LR)(weight decay) is kept, so that a row's turn at equilibrium does not depend on the "
        "width",
        "docs/theory/weight_decay.md#decay-and-width",
    ),
    "hidden decay": (
        "(LR)(weight decay) is kept, so that a step shrinks a weight by the same",
        "docs/theory/weight_decay.md#decay-and-width",
    ),
}
RATIO_RULES = {
    "lv": (
        "muP's ratio to the hidden rate times d^-1/2: a step of the hidden matrix adds up like a "
        "random walk (A = 1/2)",
        f"{PARAMETRIZATIONS}#vocabulary-alignment",
    ),
    "interpolated": (
        "muP's ratio to the hidden rate times RMS(d)/d, RMS(d) = sqrt(d + (2/pi) d (d - 1) C)",
        f"{RATES}#maximal-update-ratio",
    ),
}
POWER = "power of its best rate beyond muP's, MLP on text"
# Our own claims, by optimizer and rate, and what they are about in a few words.
MEASURED: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "adam": {
        "tied matrix": {
            "first-step-tied-target-logits": "first step of target logits over the derived RMS",
            "first-step-tied-other-logits": "the same, all other logits",
            "head-joint-tied": f"{POWER}, all rates searched together, 1,024 types",
            "head-joint-tied-growing": "the same along m = 8d",
            "head-joint-16384-tied": "the same, 16,384 types",
        },
        "embedding": {
            "head-joint-embedding": f"{POWER}, all rates searched together, 1,024 types",
            "control-head-joint-16384-embedding": "the same, 16,384 types",
            "depth-ratio-joint-fixed": "power of the ratio to hidden, trained together, fixed m",
            "depth-ratio-joint-proportional": "the same along m = 4d",
            "race-interpolated": "loss of the interpolated rule above muP's, transformer on text",
            "control-race-root": "loss of 1/sqrt(d) above muP's, transformer on text",
            "transfer-embedding-transformer": "share of muP's advantage that it brings, on text",
        },
        "hidden": {
            "proxies-transformer-kept": "power left in the best base rate under muP, on text",
            "update-magnitude-transformer-large-vocab": "power of the first update, m >> d",
        },
        "readout": {
            "head-target-logits": "first step of target logits over the derived RMS, real bigrams",
            "head-fixed-readout-rate": f"{POWER}, 1,024 types, 48 steps",
            "head-fixed-readout-rate-long": "the same, 192 steps",
            "head-16384-readout-correction": "the same, 16,384 types, 48 steps",
            "head-4096-readout-rate-long": "the same, 4,096 types, 192 steps",
            "head-joint-readout": f"{POWER}, all rates searched together, 1,024 types",
            "head-joint-16384-readout": "the same, 16,384 types",
            "depth-alignment-readout": "power of the readout's update, trained",
            "control-transfer-readout-transformer": "share of muP's advantage, readout alone",
        },
        "embedding decay": {
            "weight-decay-turn-network": "turn of rarer rows at equilibrium over the derived one",
            "weight-decay-rows-network": "their size over the derived one",
        },
        "hidden decay": {
            "weight-decay-turn-width": "power of a step's turn at equilibrium, LR ~ 1/d, decay ~ d",
            "weight-decay-relative-update": "power of a step's share of the output there",
            "not-seen-weight-decay-root": "power of the largest singular value at decay ~ sqrt(d)",
            "not-seen-transfer-coupled-decay-transformer": "what decay costs SP more than muP",
            "not-seen-transfer-independent-decay-transformer": "the same, independent decay",
        },
    },
    "muon": {
        "tied matrix": {
            "first-step-tied-target-logits": "first step of target logits over the derived RMS",
            "first-step-tied-other-logits": "the same, all other logits",
            "head-fixed-tied-rate-muon": f"{POWER}, alone, 1,024 types",
            "head-joint-tied-muon-growing": f"{POWER}, all rates searched together, m = 8d",
            "head-joint-16384-tied-muon": "the same, 16,384 types",
        },
        "logits": {
            "head-fixed-tied-step-on-targets": (
                "power of the tied matrix's first step in target logits, without the multiplier"
            ),
            "head-16384-tied-step": "the same, 16,384 types",
            "head-16384-tied-later-step-muon": "the same after eight steps",
        },
        "readout": {
            "head-fixed-readout-rate-muon": f"{POWER}, alone, 1,024 types",
            "head-joint-readout-muon-growing": f"{POWER}, all rates searched together, m = 8d",
            "head-joint-16384-readout-muon": "the same, 16,384 types",
        },
        "embedding": {
            "head-fixed-embedding-rate-muon": f"{POWER}, alone, 1,024 types",
            "head-joint-embedding-muon-growing": f"{POWER}, all rates searched together, m = 8d",
            "muon-rows-width": "were it Muon's: power of a rare token's step, alpha = 1",
            "depth-ratio-joint-muon": "power of the ratio to hidden, trained together, m = 4d",
            "depth-ratio-joint-muon-2": "the same, two hidden matrices",
            "depth-ratio-muon-proportional": "the same, each with the rest frozen",
        },
        "hidden": {
            "head-fixed-muon-hidden-step": "power of a step's change at one spectral norm, on text",
            "head-16384-hidden-later-step-muon": "the same after eight steps, 16,384 types",
            "muon-scale-original": "the first at one rate, implementation with the original factor",
            "muon-scale-match-rms": "the same with the factor 0.2 sqrt(max(outputs, inputs))",
            "hidden-ratio-muon": "power of the ratio embedding/hidden, MLP, m = 4d",
        },
    },
}
NOT_MEASURED = "no claim of ours yet"


@cache
def cited_claims() -> dict[str, dict[str, Any]]:
    """Verdict and numbers of every claim that is cited here, as its stored study has them."""
    return json.loads(CITED.read_text("utf-8"))


def cited_names() -> list[str]:
    """The claims that are cited, in order."""
    return sorted({n for rates in MEASURED.values() for claims in rates.values() for n in claims})


def rate_evidence(answer: Recommendation, rule: str) -> list[dict[str, Any]]:
    """For every number of the answer by a rule: factor, derivation, measurements and publications.

    Powers are those of the model's own gauge; published ones, of multipliers one, are compared
    after its multipliers are taken out.
    """
    chosen = next(one for one in answer.answers if one.rule == rule)
    growth = answer.width / answer.base_width
    family = FAMILY.get(answer.optimizer)
    multipliers: dict[str, Fraction] = dict(
        zip(("embedding", "hidden", "readout"), answer.multiplier_exponents, strict=True)
    )
    names = ("tied matrix", "logits") if answer.tied else ("embedding", "readout")
    rows = []
    for name in (*names, "hidden"):
        layer = LAYER.get(name, "readout")
        factor = answer.readout_multiplier if name == "logits" else getattr(chosen.factors, layer)
        power = _power(factor, growth)
        shift = Fraction(0) if name == "logits" else multipliers[layer]
        if name == "hidden" and answer.muon_scale == "rms":
            shift += Fraction(1, 2)
        rows.append(
            {
                "number": name,
                "factor": factor,
                "power": power,
                "derived": _derived(name, answer, rule),
                "measured": _measured(name, family),
                "published": _published(name, layer, power, shift, family, answer),
            }
        )
    decays = chosen.weight_decays(1)
    others = {
        "vector": chosen.factors.vector,
        f"{names[0]} decay": decays.embedding,
        "hidden decay": decays.hidden,
    }
    for name, factor in others.items():
        rows.append(
            {
                "number": name,
                "factor": factor,
                "power": _power(factor, growth),
                "derived": _derived(name, answer, rule),
                "measured": _measured(name, family),
                "published": _published_beside(name, family),
            }
        )
    return rows


def _power(factor: float, growth: float) -> str | None:
    """The power of the width, as a fraction where it is one; None where the width stays."""
    if growth == 1:
        return None
    value = math.log(factor) / math.log(growth)
    exact = Fraction(value).limit_denominator(4)
    return str(exact) if abs(value - exact) < 1e-9 else f"{value:.3g}"


def _derived(name: str, answer: Recommendation, rule: str) -> dict[str, str]:
    moved = "hidden" if answer.anchor == "embedding" else "embedding"
    if rule in RATIO_RULES and LAYER.get(name) == moved and answer.optimizer != "muon":
        formula, source = RATIO_RULES[rule]
    elif answer.optimizer not in FAMILY:
        formula, source = STABLE, f"{PARAMETRIZATIONS}#stability-program"
    else:
        name = "embedding decay" if name == "tied matrix decay" else name
        muon = f"{name}, muon"
        formula, source = DERIVED[muon if answer.optimizer == "muon" and muon in DERIVED else name]
    return {"formula": formula, "source": source}


def _measured(name: str, family: str | None) -> list[dict[str, Any]]:
    """The claims about a number, with their verdicts.

    Of a tied matrix those of an embedding too, and beside Muon those of a readout above matrices
    that Adam trains, each with words that say so.
    """
    if family is None:
        return []
    sources = [(family, name, "")]
    if name == "tied matrix":
        sources.append((family, "embedding", " (an embedding of its own)"))
    if name == "readout" and family == "muon":
        sources.append(("adam", name, " (hidden matrices by Adam)"))
    if name == "hidden decay" and family == "muon":
        sources.append(("adam", name, " (by AdamW; of Muon nothing was measured)"))
    if name == "embedding decay":
        sources = [("adam", name, "")]  # which Adam trains beside Muon too
    if name == "tied matrix decay":
        sources = [("adam", "embedding decay", " (an embedding of its own)")]
    return [
        {"claim": claim, "about": f"{about}{note}", **cited_claims()[claim]}
        for optimizer, number, note in sources
        for claim, about in MEASURED[optimizer].get(number, {}).items()
    ]


def _published(
    name: str,
    layer: str,
    power: str | None,
    shift: Fraction,
    family: str | None,
    answer: Recommendation,
) -> dict[str, Any] | None:
    """Who prescribes which power.

    Of a tied matrix also what is said of an embedding of its own, and of the matrices that are
    Adam's beside Muon what rules for Adam throughout say of them.
    """
    if family is None:
        return None
    import derivations

    def groups(of: Any, tied: bool) -> dict[str, list[str]]:
        compared = derivations.compare_published_rules(
            answer.width, answer.vocab_size, answer.base_width, family=of, tied=tied
        )
        if name == "logits":
            return _grouped({rule: str(x) for rule, x in compared.logit_multipliers.items()})
        place: Any = layer
        return {str(x): list(names) for x, names in compared.groups[place].items()}

    hidden, tied = name == "hidden", name in ("tied matrix", "logits")
    others = {}
    if family == "muon" and not hidden:
        others["with Adam throughout"] = groups("adam", tied)
    if name == "tied matrix":
        others["of an embedding of its own"] = groups(family, False)
    return {"power": _shifted(power, shift), "groups": groups(family, tied), "others": others}


def _published_decay(family: str | None) -> dict[str, Any] | None:
    """Powers of the width in (LR)(weight decay) of hidden matrices, by who prescribes them."""
    if family is None:
        return None
    import derivations

    known: Any = family
    powers = {
        rule.name: str(rule.decay)
        for rule in derivations.published_rules(known)
        if rule.decay is not None
    }
    return {"power": "0", "of": "(LR)(decay)", "groups": _grouped(powers), "others": {}}


def _published_beside(name: str, family: str | None) -> dict[str, Any] | None:
    """Of vectors, which MuAdam leaves alone (the code that the rule microsoft/mup was read from),
    and of decay."""
    if name == "hidden decay":
        return _published_decay(family)
    if name != "vector" or family is None:
        return None
    of, groups = "vectors trained by Adam", {"0": ["microsoft/mup"]}
    return {"power": "0", "of": of, "groups": groups, "others": {}}


def _grouped(powers: Mapping[str, str]) -> dict[str, list[str]]:
    order = sorted(set(powers.values()), key=Fraction, reverse=True)
    return {x: [name for name, own in powers.items() if own == x] for x in order}


def _shifted(power: str | None, shift: Fraction) -> str | None:
    """The power in the gauge of multipliers one."""
    if power is None:
        return None
    try:
        return str(Fraction(power) + shift) if "." not in power else f"{float(power) + shift:.3g}"
    except ValueError:
        return power


def print_evidence(rows: list[dict[str, Any]]) -> None:
    """The numbers one by one, with what stands behind each."""
    print("Why each number")
    for row in rows:
        power = "" if row["power"] is None else f" (d^{row['power']})"
        print(f"\n{row['number']} x{number(row['factor'])}{power}")
        derived = row["derived"]
        print_wrapped(f"  derived: {derived['formula']} ({derived['source']})", "    ")
        for one in row["measured"]:
            interval = f"{one['measured']:.3g} [{one['low']:.3g}, {one['high']:.3g}]"
            print_wrapped(
                f"  measured here: {one['about']}: {interval} where {one['predicted']:.3g} is "
                f"predicted; {one['verdict']} ({one['claim']})",
                "    ",
            )
        if not row["measured"]:
            print(f"  measured here: {NOT_MEASURED}")
        _print_published(row["published"])


def _print_published(published: dict[str, Any] | None) -> None:
    if published is None:
        print("  published: no rule is held here")
        return
    of = f" of {published['of']}" if "of" in published else ""
    print_wrapped(f"  published{of}: {_written(published['groups'], published['power'])}", "    ")
    for where, groups in published["others"].items():
        print_wrapped(f"  published {where}: {_written(groups, published['power'])}", "    ")


def _written(groups: Mapping[str, list[str]], own: str | None) -> str:
    """Who agrees with the power, and who has which other one."""
    same = [name for power, names in groups.items() if power == own for name in names]
    if not groups:
        return "nothing"
    parts = [f"the same: {written_names(same)}" if same else "nobody says the same"]
    others = ((power, names) for power, names in groups.items() if power != own)
    parts += [f"d^{power}: {written_names(names)}" for power, names in others]
    return "; ".join(parts)


def write_cited_claims() -> None:
    """Writes the verdicts of all cited claims from the stored studies."""
    from experiments.precision import enable_x64
    from experiments.topics._registry import CLAIMS
    from experiments.topics._stored import stored_evidence

    enable_x64()
    found = {}
    for name in cited_names():
        evidence = stored_evidence(name)
        found[name] = {
            "verdict": CLAIMS[name].verdict(evidence),
            "predicted": evidence.predicted,
            "measured": evidence.measured.value,
            "low": evidence.measured.low,
            "high": evidence.measured.high,
            "quantity": CLAIMS[name].quantity,
        }
    CITED.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    write_cited_claims()
