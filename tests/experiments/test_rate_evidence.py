"""What stands behind each number of a recommendation, and the documented GPT-2 example."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

import derivations
from dynsim import recommend
from experiments.cli import main
from experiments.commands import _rate_evidence
from experiments.commands._published_rules import written_names
from experiments.commands._rate_evidence import cited_claims, cited_names, rate_evidence

ROOT = Path(__file__).parents[2]
EXAMPLE = "dynsim recommend --preset gpt2 --base-width 768 --width 3072 --optimizer muon"
SIZE = {"width": 3072, "base_width": 768, "vocab_size": 50257}


SHOWN = re.compile(rf"(```text\n\$ {re.escape(EXAMPLE)}\n)(.*?)(\n```)", re.DOTALL)
GUIDE = ROOT / "docs/guides/parametrizations.md"


def parts_shown(printed):
    """The answer, and the reasons of its numbers, of what the command prints."""
    answer, _, rest = printed.partition("\n\n")
    reasons = rest[rest.index("Why each number") : rest.index("\n\nrho =")]
    return answer, reasons


def output(capsys, *line):
    assert main(list(line)) == 0
    return capsys.readouterr().out


def of(rows):
    return {row["number"]: row for row in rows}


def test_the_documented_example_prints_what_the_guide_shows(capsys):
    """Written anew by `python -m tests.experiments.test_rate_evidence`."""
    shown = SHOWN.search(GUIDE.read_text("utf-8"))
    assert shown is not None
    answer, reasons = parts_shown(output(capsys, *EXAMPLE.split()[1:]))
    assert shown[2].split("\n[...]\n") == [answer, reasons]


def test_a_gpt_four_times_as_wide_keeps_its_rates_and_divides_its_logits(capsys):
    document = json.loads(output(capsys, *EXAMPLE.split()[1:], "--json"))
    found = of(document["evidence"])
    factors = {name: (row["factor"], row["power"]) for name, row in found.items()}
    assert factors == {
        "tied matrix": (1, "0"),
        "logits": (0.25, "-1"),
        "hidden": (1, "0"),
        "vector": (1, "0"),
        "tied matrix decay": (1, "0"),
        "hidden decay": (1, "0"),
    }
    assert "logits multiplied by 0.25" in document["answer"]
    hidden = found["hidden"]["published"]
    assert hidden["groups"]["1/2"] == ["Moonlight", "Kimi K2"]
    assert "nanochat" in hidden["groups"]["0"]
    logits = found["logits"]["published"]
    assert logits["groups"] == {"0": ["Moonlight", "Scion"]}
    assert logits["others"]["with Adam throughout"] == {"-1": ["microsoft/mup", "CompleteP"]}
    measured = {name: {one["claim"] for one in row["measured"]} for name, row in found.items()}
    assert measured["hidden"] == {
        "hidden-ratio-muon",
        "head-fixed-muon-hidden-step",
        "head-16384-hidden-later-step-muon",
        "muon-scale-original",
        "muon-scale-match-rms",
    }
    assert measured["logits"] == {
        "head-fixed-tied-step-on-targets",
        "head-16384-tied-step",
        "head-16384-tied-later-step-muon",
    }
    searched = {
        "head-fixed-tied-rate-muon",
        "head-joint-tied-muon-growing",
        "head-joint-16384-tied-muon",
    }
    assert searched <= measured["tied matrix"]
    of_adam = [one["about"] for one in found["hidden decay"]["measured"]]
    assert all("by AdamW" in about for about in of_adam)


@pytest.mark.parametrize(
    "line",
    [
        (*EXAMPLE.split()[1:],),
        ("recommend", "--preset", "llama-3-8b", "--base-width", "256", "--rule", "interpolated"),
        ("recommend", "--preset", "phi-2", "--base-width", "256", "--optimizer", "sgd"),
        ("parametrization", "--compare", "--optimizer", "muon"),
        ("parametrization", "--compare", "--optimizer", "muon", "--tied", "yes"),
    ],
    ids=lambda line: " ".join(line[:3]),
)
def test_lines_fit_a_hundred_columns(capsys, monkeypatch, line):
    from experiments.commands import _published_rules

    monkeypatch.setattr(_published_rules, "measured_ratio_exponents", list)
    assert max(map(len, output(capsys, *line).splitlines())) <= 100


@pytest.mark.parametrize("optimizer", derivations.TRAINING_OPTIMIZERS)
@pytest.mark.parametrize("tied", [False, True])
def test_every_number_names_its_derivation(optimizer, tied):
    from citations import names_a_source

    rows = rate_evidence(recommend(**SIZE, optimizer=optimizer, tied=tied), "mup")
    for row in rows:
        assert names_a_source(row["derived"]["source"]), row
    known = {row["number"] for row in rows if row["published"] is not None}
    assert bool(known) == (optimizer in _rate_evidence.FAMILY)


@pytest.mark.parametrize("parametrization", ["sp", "ntk", "mup", "mfp"])
@pytest.mark.parametrize(("optimizer", "muon_scale"), [("adam", "spectral"), ("muon", "rms")])
def test_powers_are_compared_in_the_gauge_of_multipliers_one(
    parametrization, optimizer, muon_scale
):
    """Whatever the model multiplies by, and whatever Muon does: full alignment is one rule."""
    answer = recommend(
        **SIZE, parametrization=parametrization, optimizer=optimizer, muon_scale=muon_scale
    )
    found = of(rate_evidence(answer, "mup"))
    hidden = 0 if optimizer == "muon" else -1
    powers = {
        name: found[name]["published"]["power"] for name in ("embedding", "hidden", "readout")
    }
    assert powers == {"embedding": "0", "hidden": str(hidden), "readout": "-1"}


def test_the_lv_rule_is_derived_and_published():
    found = of(rate_evidence(recommend(**SIZE, optimizer="adamw"), "lv"))
    assert found["embedding"]["power"] == "-1/2"
    assert "Hayou & Liu" in found["embedding"]["published"]["groups"]["-1/2"]
    assert "vocabulary-alignment" in found["embedding"]["derived"]["source"]
    assert found["hidden"]["power"] == "-1"
    assert Fraction(found["hidden decay"]["power"]) == 1


def test_no_power_where_the_width_stays():
    stays = recommend(768, 768, 50257, optimizer="muon")
    assert {row["power"] for row in rate_evidence(stays, "mup")} == {None}


def test_cited_claims_are_those_of_the_stored_studies():
    """After a study is measured again: `python -m experiments.commands._rate_evidence`."""
    from experiments.topics._registry import CLAIMS

    pinned = json.loads((ROOT / "tests/experiments/stored_numbers.json").read_text("utf-8"))
    assert list(cited_claims()) == cited_names()
    for name, cited in cited_claims().items():
        stored = pinned[CLAIMS[name].study]["claims"][name]
        for number in ("predicted", "measured", "low", "high"):
            assert cited[number] == pytest.approx(stored[number], rel=1e-6, abs=1e-9), name
        assert cited["verdict"] == stored["verdict"], name


def test_names_of_one_paper_are_joined():
    names = ["a", "Everett SP, full alignment", "Everett NTK, full alignment", "b"]
    assert written_names(names) == "a, Everett (SP, NTK; full alignment), b"
    assert written_names(["Qiu et al."]) == "Qiu et al."


if __name__ == "__main__":
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as written:
        main(EXAMPLE.split()[1:])
    block = "\n[...]\n".join(parts_shown(written.getvalue()))
    text = GUIDE.read_text("utf-8")
    GUIDE.write_text(SHOWN.sub(lambda found: found[1] + block + found[3], text), "utf-8")
