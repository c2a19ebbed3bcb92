"""`dynsim exponent`: its text, its document, its files, and what it keeps."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from power_quantity import Power

import dynsim
from dynsim.claims import claim_file
from dynsim.scaling import Measurement
from dynsim.scaling._budget import Plan
from dynsim.scaling.quantities import _registry
from experiments.cli import main
from experiments.commands._exponent_text import proposed_claim, write_claim
from experiments.commands._path_options import PathOptions, documented
from experiments.commands.exponent import Exponent
from experiments.results import load

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def power(monkeypatch) -> Power:
    """The default quantity is a known power of the width."""
    one = Power(0.7)
    one.name = "projection_step_rms"
    monkeypatch.setattr(_registry, "QUANTITIES", {"projection_step_rms": one})
    return one


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["exponent", *map(str, arguments)])
    return code, *capsys.readouterr()


LINE = ("--widths", 32, 64, 128, "--vocab-size", "d^1.5", "--predict", "7/10")


def test_the_document_agrees_with_the_library(power, capsys):
    code, out, _ = run(capsys, *LINE, "--json")
    document = json.loads(out)
    found: Any = dynsim.exponent(widths=[32, 64, 128], vocab_size="d^1.5", predict="7/10")
    assert code == 0
    assert out.count("\n") == 1
    assert document["asymptotic"] == pytest.approx(0.7)
    assert document["derived"] == pytest.approx(0.7)
    assert document["mean_field"] == pytest.approx(0.7)
    fit = found.measured
    assert document["measured"] == {"value": fit.value, "low": fit.low, "high": fit.high}
    assert document["drift"] == found.drift
    assert document["verdict"] == found.verdict == "holds"
    assert set(document["why"]) == {"wide", "wide_derived"}
    assert document["why"]["wide_derived"].startswith("--epsilon is over 1 %")
    assert document["config"]["vocab_size"] == "d^1.5"
    assert document["provenance"]["code_version"]


def test_missing_columns_are_null_and_say_why(power, capsys):
    power.missing = ("asymptotic", "mean_field")
    _, out, _ = run(capsys, "--widths", 32, 64, "--theory-only", "--json")
    document = json.loads(out)
    for name in ("asymptotic", "mean_field", "measured", "drift", "verdict"):
        assert document[name] is None
        assert document["why"][name]
    assert document["derived"] == pytest.approx(0.7)


def test_the_text_begins_with_what_theory_answers(power, capsys):
    code, out, _ = run(capsys, *LINE, "--derivation")
    assert code == 0
    paragraphs = out.split("\n\n")
    assert paragraphs[0].startswith("projection_step_rms grows like d^(7/10) along m = d^1.5")
    assert " ".join(paragraphs[0].split()).endswith("doubling the width multiplies it by 1.62.")
    answer = next(one for one in paragraphs[1:] if "grows like d^" in one)
    assert answer.startswith("projection_step_rms grows like d^0.69 [0.67, 0.72] along m = d^1.5;")
    told = " ".join(answer.split())
    assert "derived asymptotically 7/10: doubling the width multiplies it by 1.6" in told
    before = out[: out.index(answer)]
    assert "derived formula at these sizes: 0.7000" in before
    # 1.96 standard errors of three values with 1 % each: 1.96 * 0.01 / (ln 2 sqrt 2)
    assert "mean field at these sizes: 0.7000 ± 0.02 (95 %)" in before
    derivation = power.asymptotic(None).derivation.to_text()
    assert " ".join(derivation.split()) in " ".join(before.split())
    assert "--vocab-size d^1.5 is 181.019 at --width 32" in out
    assert "\nPredicted 0.7 ± 0.05: holds\n\nNext, " in out


def test_several_forms_of_sizes(power, capsys):
    texts = [("--widths", "32,64,128"), ("--widths", 32, "64,128"), ("--widths", 32, 64, 128)]
    answers = [run(capsys, *one, "--theory-only")[1] for one in texts]
    answers = [one.partition("\nNext, ")[0] for one in answers]
    assert answers[0] == answers[1] == answers[2]


def test_an_interrupted_run_goes_on_where_it_stopped_and_leaves_files(
    power, capsys, tmp_path, monkeypatch
):
    whole = power.trained

    def interrupted(setup, seeds, progress):
        if setup.width == 32:  # the largest are trained first, and here kept before it strikes
            while len(list(tmp_path.rglob("*.npz"))) < 2:
                time.sleep(0.01)
            raise KeyboardInterrupt
        return whole(setup, seeds, progress)

    with monkeypatch.context() as patch:
        patch.setattr(power, "measurement", Measurement("power", interrupted))
        code, _, err = run(capsys, *LINE, "--out", tmp_path)
    assert code == 130
    assert "what was finished is kept" in err
    assert sorted(width for width, _ in power.runs) == [64, 128]
    power.runs.clear()
    code, out, _ = run(capsys, *LINE, "--out", tmp_path, "--json")
    assert code == 0
    assert [width for width, _ in power.runs] == [32]

    names = ("png", "pdf", "svg", "nc", "csv", "tex")
    expected = {tmp_path / f"exponent.{name}" for name in names} | {tmp_path / "claim.toml"}
    assert {Path(one) for one in json.loads(out)["files"]} == expected
    assert all(file.stat().st_size > 50 for file in expected)
    assert load(tmp_path / "exponent.nc").attrs["code_version"]
    row = (tmp_path / "exponent.tex").read_text().splitlines()
    assert row[0].startswith("% quantity & path")
    assert row[1].startswith(r"\texttt{projection\_step\_rms} & $m = d^{1.5}$ & $7/10$ & $0.700$")
    assert row[0].count("&") == row[1].count("&") == 6
    (claim,) = claim_file(tmp_path / "claim.toml").claims
    assert claim.sizes == (32, 64, 128)
    assert claim.options["vocab_size"] == "d^1.5"
    assert (claim.prediction, claim.tolerance, claim.expected) == (0.7, 0.05, "holds")


@pytest.mark.parametrize(
    ("missing", "against"), [(("derived",), "mean_field"), (("derived", "mean_field"), "derived")]
)
def test_a_claim_looks_at_the_theory_that_the_verdict_looked_at(power, tmp_path, missing, against):
    power.missing = missing
    found = dynsim.exponent(power, widths=[32, 64, 128], predict=0.7)
    assert (found.against, found.verdict) == (against, "holds")
    (path,) = write_claim(found, tmp_path)
    assert claim_file(path).claims[0].against == against


class Slow(Power):
    """0.9 in the limit, while theory and networks have 0.7 at every size that is measured."""

    def asymptotic(self, family):
        return replace(super().asymptotic(family), exponent=Fraction(9, 10))


@pytest.mark.parametrize(
    ("quantity", "prediction", "seeds", "told"),
    [
        (Power(0.7, noise=0.02), "asymptotic", 8, ()),
        (Slow(0.7, noise=0.02), 0.7, 8, ("cannot show the limit, 9/10, within ± 0.05",)),
        # an interval of ± 0.07 fits into ± 0.05 with more networks
        (Power(0.7, noise=0.1), "asymptotic", "more", ("the interval of 8 does not fit into",)),
    ],
)
def test_the_proposed_claim_is_one_that_networks_can_decide(
    tmp_path, quantity, prediction, seeds, told
):
    found = dynsim.exponent(quantity, widths=[32, 64, 128])
    proposed = proposed_claim(found)
    assert proposed is not None
    assert found.asymptotic is not None
    assert len(proposed.notes) == len(told)
    assert all(text in note for text, note in zip(told, proposed.notes, strict=True))
    (path,) = write_claim(found, tmp_path)
    (claim,) = claim_file(path).claims
    assert claim.prediction == proposed.prediction == prediction
    assert claim.seeds == proposed.seeds
    assert claim.seeds > 8 if seeds == "more" else claim.seeds == 8
    predicted = float(found.asymptotic.exponent) if prediction == "asymptotic" else prediction
    again = dynsim.exponent(
        quantity, widths=claim.sizes, seeds=claim.seeds, predict=predicted, tolerance=0.05
    )
    assert again.verdict == "holds"


def test_a_drift_that_rounds_to_nothing_has_no_sign(power, capsys):
    power.noise = 0.0
    power.missing = ("mean_field",)
    _, out, _ = run(capsys, "--widths", 32, 64, 128)
    assert "measured exponent changes by less than 0.001." in out


def test_a_budget_prints_the_derived_power_first(power, capsys):
    code, out, _ = run(capsys, "--vocab-size", "4*d", "--budget", "2s")
    assert code == 0
    assert out.startswith("projection_step_rms grows like d^(7/10) along m = 4*d, derived")
    first, second, *_ = out.partition("\n\n")[2].splitlines()
    assert first == "derived, as width goes to infinity: 7/10"
    assert second.startswith("budget 2 s: sizes 64 128 256")
    assert out.count("budget 2 s") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--quantitiy", "loss"),
            "--quantitiy is no option of exponent: the nearest is --quanti",
        ),
        (("--vocab_sise=4",), "--vocab_sise is no option of exponent: the nearest is --vocab-size"),
        (("5",), "exponent takes no argument 5: see dynsim exponent --help"),
        (("--widths",), "--widths is missing: must be followed by sizes such as 128 256 512"),
        (("--step-counts", "--json"), "--step-counts is missing: must be followed by sizes"),
    ],
)
def test_a_mistake_in_an_option_is_one_line(capsys, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert err.count("\n") == 1
    assert f"dynsim: error: {message}" in err


def test_the_help_has_one_default_for_each_option(capsys):
    with pytest.raises(SystemExit):
        main(["exponent", "--help"])
    text = " ".join(re.sub("[│─╭╮╰╯]", " ", capsys.readouterr().out).split())
    assert "(default: 128 256 512 1024)" in text
    for option in text.split(" --")[1:]:
        assert option.count("(default") <= 1, option


def test_a_short_budget_says_what_it_cannot_do():
    plan = Plan(1.0, 9.2, (64, 128, 256), 2, 0.1)
    assert str(plan).startswith("budget 1 s is too short: even 2 networks at each of the sizes 64")


def test_the_help_names_every_quantity():
    text = documented(Exponent)["quantity"]
    for name in _registry.QUANTITIES:
        assert name in text, name


def test_the_guide_says_what_every_quantity_is():
    guide = (Path(__file__).parents[2] / "docs/guides/exponents.md").read_text(encoding="utf-8")
    section = guide.partition("## Quantities")[2].partition("## Paths")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert named == list(_registry.QUANTITIES)


def test_options_are_those_of_a_setup_with_their_own_words():
    """Every size and rate is a text, its meaning that of the one definition."""
    fields = PathOptions.__dataclass_fields__
    described = documented(dynsim.Setup) | documented(dynsim.NetworkSetup)
    assert set(described) <= set(fields)
    for name in ("width", "batch_size", "embedding_lr", "tokens", "beta1"):
        words = fields[name].type.__metadata__[0].help
        assert words.startswith(described[name].partition(" (default")[0])
        assert words.count("(default") <= 1
    given = PathOptions().options()
    assert None not in given.values()
    assert dynsim.scaling.family("width", [4, 8], **given).setup(4) == dynsim.Setup(4, steps=2)
