"""The command line in-process: JSON, text, exit codes, one line for bad input, interruption."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import command_lines
import jax
import numpy as np
import optax
import pandas as pd
import pytest
import xarray as xr
from coordinate_records import records
from printed import assert_example, assert_readable, assert_same_print, example_line, next_words

import derivations
import dynsim
from derivations import symbols as s
from dynsim.comparison._result import Parting
from dynsim.coordinates._records import write_records
from dynsim.laboratory import NetworkSetup, NetworkTraining
from dynsim.theory import head_step, muon_row_norms
from dynsim.tokens import random_bigrams
from experiments import cli
from experiments.cli import COMMANDS, main
from experiments.commands import _published_rules
from experiments.commands._help_examples import example
from experiments.commands._options import AnyNetwork
from experiments.grouping import grouped
from experiments.output import flag
from experiments.overview import QUESTIONS, first_line
from experiments.results import load
from experiments.usage_errors import option_flags

pytestmark = pytest.mark.usefixtures("quick_compilation")


@dataclass(frozen=True)
class Output:
    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """Lines that stay on stderr: what a progress bar shows until the next carriage return does
        not, and a bar appears only where work takes a while."""
        left = [line.rpartition("\r")[2] for line in self.err.split("\n")]
        return [line for line in left if line.strip()]

    @property
    def document(self) -> dict:
        """The one JSON document on stdout: nothing else may stand there."""
        assert self.out.endswith("\n")
        assert self.out.count("\n") == 1

        def refuse(constant):
            raise AssertionError(f"{constant} is not JSON")

        return json.loads(self.out, parse_constant=refuse)


def assert_one_complaint(output: Output, *fragments: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr that holds the fragments."""
    assert output.code == 2, output
    assert output.out == ""
    assert len(output.complaints) == 1, output.err
    (line,) = output.complaints
    assert line.startswith("dynsim: error: ")
    assert "Traceback" not in line
    assert len(line) < 1200
    for fragment in fragments:
        assert fragment in line, line


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder to run in, with files that mean something and files that do not."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "counts").write_text("5\n3\n1\n")
    (folder / "words").write_text("five\n")
    (folder / "empty").touch()
    (folder / "runs.csv").write_text("width,learning_rate,loss\n64,1,2\n64,2,2.5\n")
    (folder / "text").write_text("some words of text " * 50)
    (folder / "damaged").mkdir()
    (folder / "damaged" / "updates.nc").write_bytes(b"not a netCDF file")
    return folder


@pytest.fixture
def run(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)

    def call(*arguments: object) -> Output:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # --help
            code = stop.code or 0
        captured = capsys.readouterr()
        return Output(code, captured.out, captured.err)

    return call


def test_the_asserts_can_fail():
    good = Output(2, "", "dynsim: error: --width -1: must be positive\n")
    assert_one_complaint(good, "--width")
    for bad in (
        replace(good, code=1),
        replace(good, out="{}"),
        replace(good, err=good.err * 2),
        replace(good, err="Traceback (most recent call last)\n"),
        replace(good, err="bar: 0%\n" + good.err),
    ):
        with pytest.raises(AssertionError):
            assert_one_complaint(bad, "--width")
    assert_one_complaint(replace(good, err="bar: 0%\r" + good.err), "--width")
    with pytest.raises(AssertionError):
        assert_one_complaint(good, "--seeds")
    assert Output(0, '{"a": 1}\n', "").document == {"a": 1}
    for text in ('{"a": NaN}\n', 'hello\n{"a": 1}\n'):
        with pytest.raises(AssertionError):
            _ = Output(0, text, "").document


# derive


@pytest.mark.parametrize("layer", derivations.LAYERS)
@pytest.mark.parametrize("optimizer", ["sgd", "sign"])
def test_derive_json_agrees_with_the_library(run, layer, optimizer):
    output = run(
        *("derive", "--layer", layer, "--optimizer", optimizer, "--width", 64),
        *("--vocab-size", 100, "--tokens", "zipf:1", "--json"),
    )
    assert output.code == 0
    assert output.err == ""
    document = output.document
    assert {"rms", "mean", "local_exponent", "exponent", "expression", "assumptions"} <= set(
        document
    )
    law = dynsim.token_law("zipf:1", 100)
    step = dynsim.first_step(layer, optimizer, 64.0, law)
    assert document["rms"] == pytest.approx(float(step.rms))
    assert document["mean"] == pytest.approx(float(step.mean))
    assert document["local_exponent"] == pytest.approx(float(step.local_exponent))
    asymptotic = derivations.exponent(layer, optimizer).subs(
        {s.zipf_exponent: 1, s.vocab_exponent: math.log(100) / math.log(64)}
    )
    assert document["exponent"] == pytest.approx(float(asymptotic))
    assert document["assumptions"]
    assert isinstance(document["expression"], str)


def test_derive_of_a_rank_in_a_batch(run):
    output = run(
        *("derive", "--layer", "projection", "--width", 64, "--vocab-size", 100),
        *("--tokens", "zipf:1", "--rank", 7, "--batch-size", 32, "--init", "sp", "--json"),
    )
    step = dynsim.first_step(
        "projection", "sign", 64.0, dynsim.token_law("zipf:1", 100), rank=7, batch_size=32
    )
    assert output.document["rms"] == pytest.approx(float(step.rms))
    assert output.document["rank"] == 7


def test_derive_closed_form(run):
    """d = 3, m = 2: RMS^2 = 3 (1 + (2/pi) 2/2)."""
    output = run(*("derive", "--layer", "projection", "--width", 3, "--vocab-size", 2, "--json"))
    assert output.document["rms"] == pytest.approx(math.sqrt(3 * (1 + 2 / math.pi)))


def test_derive_without_numbers_prints_the_formula(run):
    text = run("derive", "--layer", "projection")
    assert text.code == 0
    assert "Assumptions" in text.out
    assert "Steps" in text.out
    assert "RMS = " in text.out
    document = run("derive", "--layer", "projection", "--json").document
    assert document["rms"] is document["mean"] is document["local_exponent"] is None
    assert document["exponent"] == str(
        derivations.exponent("projection", "sign").subs(s.zipf_exponent, 0)
    )
    latex = run("derive", "--layer", "projection", "--format", "latex")
    assert r"\boxed" in latex.out
    assert r"\begin{itemize}" in latex.out


def test_derive_prints_the_answer_before_the_derivation(run):
    text = run("derive", "--layer", "hidden", "--width", 64, "--vocab-size", 100)
    document = run(
        "derive", "--layer", "hidden", "--width", 64, "--vocab-size", 100, "--json"
    ).document
    answer, _, rest = text.out.partition("\n\n")
    assert f"{document['rms']:.4g}" in answer
    assert f"d^{document['local_exponent']:.4g}" in answer
    assert "Assumptions" in rest


def test_derive_says_for_which_matrix_it_holds(run):
    """A second ReLU matrix is coherent at any vocabulary, the first is not; a readout reads too."""
    sizes = ("--width", 512, "--vocab-size", 4096, "--json")
    first = run("derive", "--layer", "hidden", *sizes).document
    second = run(
        "derive", "--layer", "hidden", "--matrix", 2, "--activation", "relu", *sizes
    ).document
    assert first["rms"] == pytest.approx(23.51, abs=0.01)
    assert second["rms"] == pytest.approx(133.1, abs=0.1)
    assert (first["exponent"], second["exponent"]) == (0.5, 1)
    assert "hidden matrix 1, which reads the embedding" in first["holds_for"]
    assert "hidden matrix 2, which reads relu features with a mean" in second["holds_for"]
    assert second["feature_overlap"] == pytest.approx(1 / math.pi, rel=1e-4)
    readout = run("derive", "--layer", "readout", "--activation", "relu", *sizes).document
    assert readout["rms"] == pytest.approx(second["rms"], rel=1e-4)
    text = run("derive", "--layer", "hidden", "--activation", "tanh", "--matrix", 3)
    told = " ".join(text.out.split())
    assert "holds for hidden matrix 3, which reads tanh features without a mean" in told
    refused = run("derive", "--layer", "projection", "--matrix", 2)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--matrix" in refused.err


def test_derive_of_a_head_answers_for_targets_and_others_apart(run, tmp_path):
    size = ("--width", 64, "--vocab-size", 100, "--tokens", "zipf:1", "--targets", "random:2")
    output = run("derive", "--layer", "head", *size, "--json", "--out", tmp_path)
    law = dynsim.token_law("zipf:1", 100)
    step = head_step("head", "sign", 64, law, random_bigrams(law, 100, 2))
    document = output.document
    assert (output.code, output.err) == (0, "")
    for kind, rms, contexts in zip(
        ("target", "other", "all"), step.rms[:, 0], step.effective_contexts, strict=True
    ):
        assert document["logits"][kind]["rms"] == pytest.approx(rms)
        assert document["logits"][kind]["effective_contexts"] == pytest.approx(contexts)
    assert document["rms"] == pytest.approx(step.rms[0, 0])
    drawn = pd.read_csv(tmp_path / "derive.csv")
    here = drawn[(drawn.width == 64) & (drawn.logits == "other")]
    assert here.rms.item() == pytest.approx(step.rms[1, 0])
    text = run("derive", "--layer", "tied", *size)
    assert text.out.index("target") < text.out.index("Assumptions")  # numbers first
    for layer in ("head", "embedding", "tied"):
        step = head_step(layer, "muon", 64, law, random_bigrams(law, 100, 2))
        asked = ("derive", "--layer", layer, "--optimizer", "muon", *size)
        muon = run(*asked, "--json").document
        for kind, rms in zip(("target", "other", "all"), step.rms[:, 0], strict=True):
            assert muon["logits"][kind]["rms"] == pytest.approx(rms)
        assert "C " not in run(*asked).out.partition("effective contexts")[0]
    rows = run(
        "derive", "--layer", "embedding", "--optimizer", "muon", *size[:6], "--json"
    ).document
    lengths = muon_row_norms(law.frequencies, 64)
    assert rows["row_length"] == pytest.approx({"first": lengths[0], "last": lengths[-1]})
    assert rows["starved_tokens"] == np.sum(lengths**2 < 0.5)
    for sizes in (size[:6], ()):
        assert_readable(run("derive", "--layer", "embedding", "--optimizer", "muon", *sizes).out)
    below = run("derive", "--layer", "embedding", "--outputs", 16, *size[:4], "--json").document
    one = run("derive", "--layer", "embedding", *size[:4], "--json").document
    assert one["rms"] / below["rms"] == pytest.approx(
        ((1 + 2 / math.pi * 63) / (1 + 2 / math.pi * 63 / 16)) ** 0.5
    )


def test_derive_leads_with_the_self_term_where_it_counts(run):
    """SP at m = 32 d: kappa = 4. Under muP it is small, and of Zipf tokens it is not known."""
    size = ("--layer", "projection", "--width", 128, "--vocab-size", 4096)
    document = run("derive", *size, "--init", "sp", "--json").document
    assert document["kappa"] == pytest.approx(4)
    assert document["rms"] == document["self_term"]["rms"] > document["rms_without_self_term"]
    text = run("derive", *size, "--init", "sp").out
    lead = next(line for line in text.splitlines() if line.startswith("  RMS  "))
    assert f"{document['rms']:.4g}" in lead
    small = run("derive", *size[:5], 64, "--json").document
    assert "rms_without_self_term" not in small
    zipf = run("derive", *size, "--init", "sp", "--tokens", "zipf:1", "--json").document
    assert zipf["self_term"] is None
    assert "sums over tokens scatter" in zipf["self_term_left_out"]
    assert "is not small" in run("derive", *size, "--init", "sp", "--tokens", "zipf:1").out


def test_derive_says_along_which_path_its_exponent_is_taken(run):
    """m = d^1.5 and B = d at d = 256; under a law that is fitted, its alpha."""
    sizes = ("--width", 256, "--vocab-size", 4096)
    line = exponent_line(run("derive", "--layer", "projection", *sizes).out)
    assert "  exponent        0.5   (of d along m = d^1.5 with uniform tokens: " in line
    zipf = ("--tokens", "zipf:0.5", "--batch-size", 256)
    line = exponent_line(run("derive", "--layer", "projection", *sizes, *zipf).out)
    assert "along m = d^1.5, B = d^1 with Zipf alpha = 0.5" in line
    ranked = run("derive", "--layer", "projection", *sizes, "--tokens", "zipf:1", "--rank", 16).out
    assert "i = d^0.5" in exponent_line(ranked)
    document = run("derive", "--layer", "projection", *sizes, "--json").document
    assert document["path"] == "along m = d^1.5 with uniform tokens"
    assert "at large width, along m = d^mu with uniform tokens;" in " ".join(
        run("derive", "--layer", "projection").out.split()
    )


def exponent_line(printed: str) -> str:
    lines = printed.splitlines()
    place = next(k for k, line in enumerate(lines) if line.startswith("  exponent "))
    return lines[place] + (lines[place + 1].strip() if lines[place + 1][:4] == "    " else "")


# tokens


def test_tokens_json_agrees_with_the_library(run):
    document = run("tokens", "zipf:1", "--vocab-size", 500, "--width", 256, "--json").document
    law = dynsim.token_law("zipf:1", 500)
    assert document["mean_effective_vocab_size"] == pytest.approx(1 / law.mean_alignment_square)
    assert document["crossover_rank"] == pytest.approx(dynsim.crossover_rank(256, law))
    assert document["zipf_exponent"]["value"] == pytest.approx(1)
    above = dynsim.coherence(256, law) > 1
    assert document["mup_share_of_tokens"] == pytest.approx(law.frequencies[above].sum())
    assert [row["rank"] for row in document["ranks"]] == [1, 10, 100]


def test_tokens_say_what_they_left_out(run, tmp_path):
    """A counts file has its own size, also in `recommend`; fewer types are a note."""
    file = tmp_path / "counts.csv"
    file.write_text("word,count\n" + "".join(f"w{k},{1000 // k}\n" for k in range(1, 41)))
    assert run("tokens", f"counts:{file}", "--json").document["vocab_size"] == 40
    cut = run("tokens", f"counts:{file}", "--vocab-size", 20)
    assert "20 of 40 types left out" in cut.out
    size = ("--width", 64, "--base-width", 32)
    document = run("recommend", *size, "--tokens", f"counts:{file}", "--json").document
    assert document["vocab_size"] == 40
    small = run("tokens", "corpus:text", "--json").document
    assert 256 < small["vocab_size"] < 4096  # what the text can fill


def test_recommend_reads_configurations_and_prints_lines_for_trainers(run, tmp_path):
    config = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "vocab_size": 50257}
    (tmp_path / "config.json").write_text(json.dumps(config))
    line = ("recommend", "--config", tmp_path, "--base-width", 256)
    document = run(*line, "--json").document
    assert (document["width"], document["vocab_size"], document["tied"]) == (768, 50257, True)
    assert document["shape"]["layers"] == 12
    text = " ".join(run(*line).out.split())
    assert "readout tied to the embedding" in text
    assert "one matrix has both roles" in text
    untied = run(*line, "--tied", "no", "--json").document
    assert "one matrix has both roles" not in " ".join(run(*line, "--tied", "no").out.split())
    assert "logits" not in untied["trainer"]
    assert untied["mup"]["factors"]["readout"] == pytest.approx(1 / 3)
    assert document["mup"]["factors"]["readout"] == document["mup"]["factors"]["embedding"] == 1
    assert document["trainer"]["logits"] == "logits = logits * 0.333333"
    unknown = run("recommend", "--width", 64, "--base-width", 32, "--vocab-size", 9).out
    assert "If it is the embedding, add --tied yes" in unknown
    assert text.count("Known: ") == text.count("Not known: ") == 3
    assert "hidden=0.333333 * hidden_lr" in document["trainer"]["torch"]
    rates = ("--base-embedding-lr", "3e-3", "--base-hidden-lr", "3e-3", "--rule", "lv")
    for optimizer in ("sgd", "momentum", "sign", "adam", "adamw", "adafactor", "muon"):
        trainer = run(*line, *rates, "--optimizer", optimizer, "--json").document["trainer"]
        names = {"dynsim": dynsim, "optax": optax, "labels": {"*": "hidden"}, "weight_decay": 0.1}
        exec(trainer["optax"], names)
        names["optimizer"].init({"weight": np.ones((2, 2))})
        names["model"] = [("weight", np.ones(2))]
        exec(trainer["torch"], names)
        (group,) = names["groups"]
        assert group["lr"] > 0
        if optimizer == "adamw":  # what a step shrinks a weight by is the base model's
            assert group["lr"] * group["weight_decay"] == pytest.approx(3e-3 * 0.1)


def test_tokens_of_files(run):
    assert run("tokens", "counts:counts", "--vocab-size", 3).code == 0
    text = run("tokens", "corpus:text", "--vocab-size", 258)
    assert text.code == 0
    assert "types" in text.out
    document = run("tokens", "uniform", "--vocab-size", 2, "--json").document
    assert document["zipf_exponent"]["value"] is None  # NaN is null in JSON
    assert document["crossover_rank"] is None


# train

UPDATES = ("projection_update_rms", "embedding_update_rms", "projection_step_rms")
LINEAR_LAYERS = ("--network", "mlp", "--activation", "identity", "--normalisation", "none")
TRAIN = ("train", "--width", 64, "--vocab-size", 256, "--steps", 4)


def test_train_json_agrees_with_the_library(run):
    document = run(*TRAIN, "--seeds", 3, "--embedding-lr", 0.1, "--json").document
    keys = {
        "config",
        "step",
        "loss",
        "loss_std_error",
        *UPDATES,
        "diverged",
    }
    assert keys <= set(document)
    setup = dynsim.Setup(width=64, vocab_size=256, steps=4, embedding_lr=0.1)
    result = dynsim.train(setup, 3)
    assert document["loss"] == pytest.approx(result.loss[0].mean(axis=0))
    error = result.loss[0].std(axis=0, ddof=1) / math.sqrt(3)
    assert document["loss_std_error"] == pytest.approx(error)
    for name in UPDATES:
        rms = np.sqrt((getattr(result, name)[0] ** 2).mean(axis=0))
        assert document[name] == pytest.approx(rms)
    assert document["step"] == [0, 1, 2, 3]
    assert document["diverged"] is False
    assert document["config"] == {"network": "linear", **setup.resolved(), "seeds": 3}


@pytest.mark.slow
def test_train_takes_every_network_and_refuses_what_means_nothing_for_it(run):
    """The loss before every step, as the laboratory evaluates it, in the layout of linear ones."""
    size = ("--width", 4, "--vocab-size", 5, "--steps", 3, "--seeds", 2)
    networks = {
        "mlp": {"depth": 1},
        "transformer": {"depth": 1, "head_width": 2, "context": 2, "batch_size": 4},
    }
    for network, fields in networks.items():
        options = [x for name, value in fields.items() for x in (flag(name), value)]
        document = run("train", *size, "--network", network, *options, "--json").document
        setup = NetworkSetup(network=network, width=4, vocab_size=5, steps=3, **fields)
        result = dynsim.train(setup, 2, horizons=[1, 2])
        assert isinstance(result, NetworkTraining)
        assert result.seed.tolist() == [0, 1]
        loss = np.hstack([result.initial_loss[:, None], result.loss])
        assert document["loss"] == pytest.approx(loss.mean(axis=0))
        assert document["config"] == {**setup.resolved(), "seeds": 2}
        assert document["diverged_seeds"] == 0
        keys = set(run(*TRAIN, "--json").document)
        if network == "mlp":
            assert all(len(document[name]) == 3 for name in UPDATES)
            assert np.shape(document["hidden_update_rms"]) == (3, 1)
            assert keys == set(document) - {"hidden_update_rms"}
        else:
            assert all(document[name] is None for name in UPDATES)
            assert "linear" in document["not_recorded"]
            assert keys == set(document) - {"not_recorded"}


@pytest.mark.parametrize(
    ("line", "option", "words"),
    [
        (("train", "--network", "mlp", "--projection-lr", 0.1), "--projection-lr", "--network mlp"),
        (("train", "--network", "mlp", "--init", "sp"), "--init", "--network mlp"),
        (("train", "--network", "mlp", "--context", 8), "--context", "--network mlp"),
        (("train", "--depth", 3), "--depth", "--network linear"),
        (("train", "--hidden-lr", 0.1), "--hidden-lr", "--network linear"),
        (("train", "--optimizer", "muon"), "--optimizer", "smoothed-sign"),
        (("train", "--optimizer", "muon"), "--optimizer", "--network mlp"),
        (("predict", "--network", "mlp"), "--normalisation", "none"),
        (("predict", *LINEAR_LAYERS[:4]), "--normalisation", "none"),
        (("predict", *LINEAR_LAYERS, "--depth", 9), "--depth", "at most 8"),
        (("predict", *LINEAR_LAYERS, "--projection-lr", 0.1), "--projection-lr", "--network mlp"),
        (("predict", *LINEAR_LAYERS, "--particles", 70), "--particles", "at least 80"),
        (("predict", "--network", "transformer", "--batch-size", 64), "--network", "or mlp"),
        (("predict", "--depth", 3), "--depth", "--network linear"),
        (("flow", "--network", "transformer", "--batch-size", 64), "--network", "linear or mlp"),
        (("flow", "--network", "mlp"), "--activation", "identity"),
        (("flow", *LINEAR_LAYERS, "--depth", 9), "--depth", "at most 8"),
        (("flow", *LINEAR_LAYERS, "--projection-lr", 0.1), "--projection-lr", "--network mlp"),
        (("flow", *LINEAR_LAYERS, "--optimizer", "adam"), "--optimizer", "sgd"),
        (("flow", "--hidden-lr", 0.1), "--hidden-lr", "--network linear"),
    ],
)
def test_what_a_network_has_no_use_for_is_refused(run, line, option, words):
    output = run(*line)
    assert output.code == 2
    assert output.complaints[-1].startswith(f"dynsim: error: {option} ")
    assert words in output.complaints[-1]


SWEEP = ("--widths", 4, "--vocab-sizes", 4, "--embedding-lrs", 0.1, "--hidden-lrs", 0.1)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        (("train", "--network", "linear"), "depth", 2),
        (("predict", "--network", "linear"), "depth", 2),
        (("flow", "--network", "linear"), "hidden_lr", 0.01),
        (("compare", "--network", "mlp", "--activation", "identity"), "head_width", 16),
        (("exponent", "--network", "linear"), "depth", 2),
        (("predict", *LINEAR_LAYERS, "--readout-lr", 0.1), "readout_ratio", 1.0),
        (("sweep", *SWEEP, "--out", "sweep.nc"), "depth", 2),
        (("coordinate-check", "--network", "mlp"), "context", 32),
        (("coordinate-check", "runs.csv"), "seeds", 8),
        (("derive", "--layer", "projection"), "matrix", 1),
        (("derive", "--layer", "hidden"), "depth", 1),
        (("derive", "--layer", "embedding", "--optimizer", "muon"), "residuals", "equal"),
        (("derive", "--layer", "head"), "activation", "identity"),
        (("parametrization", "--compare"), "alignment", "full"),
        (("lifetime", "--targets", "onehot"), "outputs", 1),
    ],
)
def test_an_option_without_a_use_is_refused_with_its_default_value_too(run, line, field, value):
    flag = "--" + field.replace("_", "-")
    for words in ((flag, value), (f"{flag}={value}",)):
        output = run(*line, *words)
        assert output.code == 2
        (complaint,) = output.complaints
        assert complaint.startswith(f"dynsim: error: {flag} ")


def test_options_of_one_command_are_not_those_of_the_next(run):
    assert run("predict", "--network", "linear", "--depth", 2).code == 2
    assert AnyNetwork(network="linear").description() == dynsim.Setup()


def test_divergence_is_a_result(run):
    rates = ("--embedding-lr", "1e20", "--projection-lr", "1e20", "--optimizer", "sgd")
    output = run(*TRAIN, *rates, "--json")
    assert output.code == 0
    assert output.document["diverged"] is True
    assert output.document["loss"][-1] is None
    assert "diverged" in run(*TRAIN, *rates).out


@pytest.mark.slow
def test_predict_json_agrees_with_the_library(run):
    size = ("--width", 64, "--vocab-size", 128, "--steps", 3)
    solver = ("--particles", 256, "--replicas", 2)
    document = run("predict", *size, *solver, "--json").document
    setup = dynsim.Setup(width=64, vocab_size=128, steps=3)
    result = dynsim.predict(setup, particles=256, replicas=2)
    assert document["step"] == [0, 1, 2]
    for name in ("loss", "loss_error", *UPDATES):
        assert document[name] == pytest.approx(getattr(result, name)[0])
    for name in UPDATES:
        assert document[f"{name}_error"] == pytest.approx(getattr(result, f"{name}_error")[0])
    assert document["finite_width_correction"] == pytest.approx(result.finite_width_correction[0])
    assert document["diverged"] is False
    assert document["accuracy"] is None
    assert document["accuracy_reached"] == pytest.approx(result.accuracy_reached)
    text = run("predict", *size, *solver)
    assert text.code == 0
    assert "largest error of the loss" in text.out
    assert text.out.startswith("The mse loss goes from ")


@pytest.mark.slow
def test_predict_of_hidden_layers_has_the_keys_of_train(run):
    size = ("--width", 8, "--vocab-size", 8, "--steps", 2, "--optimizer", "muon", "--depth", 2)
    solver = ("--particles", 32, "--replicas", 2)
    predicted = run("predict", *LINEAR_LAYERS, *size, *solver, "--json").document
    trained = run("train", *LINEAR_LAYERS, *size, "--seeds", 1, "--json").document
    assert np.shape(predicted["hidden_update_rms"]) == (2, 2)
    assert np.shape(predicted["hidden_update_rms_error"]) == (2, 2)
    missing = set(trained) - set(predicted)
    assert missing == {"loss_std_error", "diverged_seeds"}
    chosen = run("predict", *LINEAR_LAYERS, *size, "--accuracy", "60%", "--json").document
    assert chosen["accuracy_reached"] <= chosen["accuracy"] == 0.6
    assert chosen["config"]["replicas"] >= 4
    assert "hidden_2_update_rms" in run("predict", *LINEAR_LAYERS, *size, *solver).out


@pytest.mark.slow
def test_flow_json_agrees_with_the_library(run):
    size = ("--width", 64, "--vocab-size", 256, "--embedding-lr", 0.5, "--time", 4, "--points", 3)
    document = run("flow", *size, "--json").document
    setup = dynsim.Setup(width=64, vocab_size=256, embedding_lr=0.5, optimizer="sgd")
    result = dynsim.gradient_flow(setup, [0.0, 2.0, 4.0])
    assert document["time"] == [0, 2, 4]
    for name in ("loss", "loss_error", "projection_update_rms", "embedding_update_rms"):
        assert document[name] == pytest.approx(getattr(result, name))
    assert document["finished"] is True
    assert document["status"] == "ok"
    assert document["rejected_steps"] == result.rejected_steps
    assert document["config"]["limit"] == "finite"
    assert document["config"]["time"] == 4
    assert json.loads(document["provenance"]["config"]) == document["config"]
    text = run("flow", *size)
    assert text.code == 0
    assert [line.split()[0] for line in text.out.splitlines()[5:8]] == ["0", "2", "4"]
    assert "status: ok;" in text.out
    stopped = run("flow", *size, "--max-steps", 1, "--json")
    assert stopped.code == 0
    assert stopped.document["finished"] is False
    assert stopped.document["loss"][-1] is None
    assert "raise --max-steps" in stopped.document["status"]


def test_lifetime_is_the_derived_one(run, tmp_path):
    size = ("--width", 256, "--vocab-size", 4096, "--embedding-lr", 0.005)
    document = run("lifetime", *size, "--json").document
    assert document["initial_regime"] == "LV"
    assert document["lifetime_displacement"] == pytest.approx(256**-0.5, rel=0.01)
    assert document["lifetime_steps"] == pytest.approx(256**-0.5 / 0.005, rel=0.01)
    exponents = {round(row["step"], 1): row["local_exponent"] for row in document["ages"]}
    assert exponents[0] == pytest.approx(0.52, abs=0.01)
    assert exponents[round(document["lifetime_steps"], 1)] == pytest.approx(0.75, abs=0.01)
    batch = run("lifetime", *size, "--batch-size", 512, "--json").document
    assert 1.1 < batch["lifetime_visits"] / document["lifetime_visits"] < 1.5  # a noisier field
    visits = batch["lifetime_visits"] / batch["visits_per_step"]
    assert batch["lifetime_steps"] == pytest.approx(visits)
    out = ("--out", tmp_path / "batch")
    ages = run("lifetime", *size, "--batch-size", 512, "--json", *out).document["ages"]
    drawn = pd.read_csv(tmp_path / "batch" / "lifetime.csv")
    place = [row["displacement"] for row in ages]
    slopes = np.interp(place, drawn.displacement, drawn.local_exponent)
    assert slopes == pytest.approx([row["local_exponent"] for row in ages], abs=1e-3)
    text = run("lifetime", *size)
    assert text.code == 0
    assert "12.5" in text.out
    small = run("lifetime", "--width", 256, "--vocab-size", 64)
    assert small.out.startswith("The first step is in the muP regime")


def test_lifetime_of_a_head_is_none_for_its_targets(run):
    size = ("--width", 64, "--vocab-size", 400)
    head = run("lifetime", *size, "--outputs", 400, "--targets", "onehot", "--json").document
    target, other, _ = head["logits"]
    assert (target["initial_regime"], other["initial_regime"]) == ("muP", "LV")
    assert target["local_exponent"] > 0.9 > 0.6 > other["local_exponent"]
    assert other["lifetime_steps"] is None
    refused = run("lifetime", *size, "--outputs", 400)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--targets" in refused.err
    never = run("lifetime", *size, "--outputs", 399)
    assert "do not end it" in never.out
    assert run("lifetime", *size, "--outputs", 399, "--json").document["lifetime_steps"] is None


@pytest.mark.parametrize(
    ("option", "value"),
    [("width", 1), ("outputs", 0.5), ("outputs", 1e9), ("embedding-lr", 0), ("batch-size", -1)],
)
def test_lifetime_names_a_bad_option(run, option, value):
    output = run("lifetime", f"--{option}", value)
    assert output.code == 2
    assert f"--{option}" in output.complaints[-1]


# Files

DRAWN = {
    "derive": ("--layer", "projection", "--width", 64, "--vocab-size", 100),
    "tokens": ("zipf:1", "--vocab-size", 50),
    "train": TRAIN[1:],
    "predict": (*TRAIN[1:], "--particles", 64, "--replicas", 2),
    "flow": ("--width", 64, "--vocab-size", 256, "--embedding-lr", 0.5, "--time", 4, "--points", 3),
    "lifetime": ("--width", 64),
    "recommend": ("--width", 512, "--base-width", 64, "--vocab-size", 1000),
    "parametrization": ("mup",),
    "compare": (*TRAIN[1:], "--particles", 64, "--replicas", 2, "--seeds", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", DRAWN)
def test_a_command_draws_and_writes_what_it_prints(run, tmp_path, command):
    plain = run(command, *DRAWN[command], "--json").document
    output = run(
        *(command, *DRAWN[command], "--json", "--out", tmp_path / "out"),
        *("--plot", tmp_path / "figures" / "one.SVG"),
    )
    assert output.code == 0
    document = output.document
    assert set(document) == {*plain, "files"}
    files = [Path(path) for path in document["files"]]
    assert files[0] == tmp_path / "figures" / "one.SVG"
    assert b"<svg" in files[0].read_bytes()
    assert {path.name for path in files[1:]} == {
        f"{command}.{suffix}" for suffix in ("png", "pdf", "svg", "nc", "csv")
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in files[1:]}
    stored = load(tmp_path / "out" / f"{command}.nc")
    assert {"result", "setup", "config", "code_version"} <= set(stored.attrs)
    rows = (tmp_path / "out" / f"{command}.csv").read_text().splitlines()
    main = stored[next(iter(stored.data_vars))]
    assert main.name in rows[0].split(",")
    assert len(rows) == main.size + 1


@pytest.mark.slow
def test_only_what_is_asked_for_is_written(run, tmp_path, monkeypatch):
    """Its name stands in the text. Published rules are drawn without what networks measured."""
    monkeypatch.setattr(_published_rules, "measured_ratio_exponents", list)
    path = tmp_path / "law.pdf"
    text = run("tokens", "uniform", "--vocab-size", 9, "--plot", path)
    assert str(path) in text.out.splitlines()
    assert list(tmp_path.iterdir()) == [path]
    rules = run("parametrization", "--compare", "--json", "--out", tmp_path)
    assert load(tmp_path / "parametrization.nc").attrs["result"] == "PublishedRules"
    assert len(rules.document["files"]) == 5


@pytest.mark.parametrize("command", DRAWN)
def test_files_are_refused_before_any_work(run, command, monkeypatch):
    """Where the work would fail, what is said is that the file cannot be."""

    def work(*arguments, **options):
        raise AssertionError("it worked")

    for name in ("train", "predict", "gradient_flow", "first_step", "recommend", "compare"):
        monkeypatch.setattr(dynsim, name, work)
    monkeypatch.setattr(dynsim, "restoration_displacement", work)
    monkeypatch.setattr(dynsim, "coherence", work)
    line = (command, *DRAWN[command])
    assert_one_complaint(run(*line, "--plot", "a.jpg"), "--plot", ".png", ".pdf", ".svg")
    assert_one_complaint(run(*line, "--plot", "counts/a.png"), "--plot")
    assert_one_complaint(run(*line, "--out", "counts/inside"), "--out")
    Path("folder.png").mkdir(exist_ok=True)
    assert_one_complaint(run(*line, "--plot", "folder.png"), "--plot")


@pytest.mark.slow
def test_compare_says_where_routes_part(run, tmp_path):
    """The same options, and so the same compiled programs, as in the test of its files."""
    line = ("compare", *DRAWN["compare"])
    document = run(*line, "--json").document
    assert set(document["routes"]) == {"networks", "mean field", "linearised"}
    assert document["why"]["flow"].startswith("--optimizer adam: must be sgd")
    loss = document["routes"]["networks"]["loss"]
    assert len(loss["value"]) == len(loss["low"]) == document["config"]["steps"] == 4
    assert loss["low"][1] < loss["value"][1] < loss["high"][1]
    assert len(document["partings"]) == 9
    text = run(*line, "--plot", tmp_path / "routes.svg")
    assert text.code == 0
    *_, further = text.out.partition("Next, ")
    assert "routes_8_steps.svg" in further  # beside the figure, which stays
    assert "no flow: --optimizer adam" in text.out
    rows = [text for text in text.out.splitlines() if "networks, linearised" in text]
    assert [row.split()[0] for row in rows] == ["loss", *UPDATES[:2]]


def test_compare_names_the_first_routes_to_part_and_the_furthest_apart():
    from experiments.commands.compare import in_one_sentence

    small = Parting("loss", "networks", "flow", 1, 3, 10, 0.1, 0.02)
    large = Parting("loss", "networks", "linearised", 4, 6, 10, -2.0, -0.8)
    none = Parting("loss", "networks", "mean field", None, 0, 10, 5.0, math.nan)

    def told(*partings):
        found = SimpleNamespace(curves=["networks"], partings=partings)
        return in_one_sentence(found)

    both = told(none, large, small)
    assert both.startswith("networks and flow (loss, +2.0% at the end) part from step 1 on; ")
    assert "networks and linearised (loss, -80.0% at the end) end the furthest apart" in both
    assert both.endswith("1 of 3 comparisons agree throughout.")
    assert "furthest" not in told(none, small)
    larger = replace(large, relative=1.5)
    vanishing = replace(large, relative=-0.999)  # a thousandth is further than this
    assert "-99.9% at the end) end the furthest" in told(small, larger, vanishing)
    from_zero = replace(large, relative=math.nan)
    assert "linearised (loss, -2 at the end) end the furthest" in told(small, vanishing, from_zero)


def test_train_text_and_one_seed(run):
    text = run(*TRAIN, "--seeds", 1)
    assert text.code == 0
    assert text.out.split("\n\n")[1].split("\n")[0].split() == [
        "step",
        "loss",
        "loss_std_error",
        *UPDATES,
    ]
    document = run(*TRAIN, "--seeds", 1, "--json").document
    assert document["loss_std_error"] == [None] * 4


@pytest.mark.slow
def test_the_last_matrix_is_named_as_in_the_network_at_hand(run):
    """The linear network has a projection; one with hidden layers has a readout."""
    assert "the trained projection has then moved outputs" in " ".join(run(*TRAIN).out.split())
    mlp = ("train", "--network", "mlp", "--width", 8, "--base-width", 8, "--vocab-size", 8)
    printed = run(*mlp, "--steps", 3, "--seeds", 2).out
    told = " ".join(printed.split())
    assert "the trained readout has then moved outputs" in told
    assert "readout_update_rms: RMS of what the trained part of the readout adds" in told
    assert "projection" not in told.replace("projection_..._rms of --json", "")


CHECK = ("coordinate-check", "--widths", 8, 32, "--vocab-sizes", 8, "--record", 1, "--seeds", 8)


@pytest.mark.slow
def test_coordinate_check_judges_and_draws(run, tmp_path):
    output = run(*CHECK, "--outputs", 4, "--out", tmp_path, "--json")
    assert output.code == 0
    document = output.document
    assert document["verdict"] in ("as predicted", "undecided")
    assert [layer["matrix"] for layer in document["layers"]] == ["embedding", "readout"]
    assert document["config"]["widths"] == [8, 32]
    assert document["config"]["record"] == [0, 1]
    slopes = {(row["matrix"], row["term"]): row for row in document["slopes"]}
    moved = slopes["embedding", "update_on_initial"]
    assert moved["slope"]["value"] == pytest.approx(0, abs=1e-3)
    assert moved["allowed"] == {"low": 0, "high": 0}
    stored = load(tmp_path / "coordinates.nc")
    assert json.loads(stored.attrs["config"]) == document["config"]
    assert {Path(path).suffix for path in document["figures"]} == {".png", ".pdf"}
    assert all(Path(path).stat().st_size > 5000 for path in document["figures"])


@pytest.mark.slow
def test_a_check_of_widths_that_are_too_few_warns_of_nothing(run):
    """Sizes without a spread over seeds; a warning is an exception in these tests."""
    output = run(*CHECK[:2], 2, 1, 8, "--vocab-sizes", 5, "--record", 1, "--seeds", 2, "--json")
    assert output.code in (0, 1)
    assert "arning" not in output.err
    assert {row["matrix"] for row in output.document["slopes"]} == {"embedding", "readout"}


def test_coordinate_check_exits_with_one_on_a_mistake(run):
    output = run(*CHECK, "--outputs", 4, "--lr-exponents=-1/2,-1,1/2")
    assert output.code == 1
    told = " ".join(output.out.split())
    assert "readout: dW z0 blows up" in told
    assert "the exponents given imply" in told
    assert "embedding: " not in output.out
    frozen = run(*CHECK, "--outputs", 4, "--lr-exponents=-1,-1,-1/2")
    assert frozen.code == 1
    assert "embedding: de too small: width^-0.50" in frozen.out


@pytest.fixture(scope="module")
def recorded(workplace) -> Path:
    """Records of a right muP model, and beside them of one without its readout multiplier."""
    powers = {("lm_head", "weight"): 0, ("lm_head", "weight_update"): 0}
    write_records(records(), workplace / "recorded.csv")
    write_records(records(powers), workplace / "wrong.csv")
    return workplace


@pytest.mark.slow
def test_coordinate_check_judges_records(run, recorded, tmp_path):
    right = run("coordinate-check", "recorded.csv", "--out", tmp_path, "--json")
    assert right.code == 0
    document = right.document
    assert document["verdict"] == "as predicted"
    assert [module["module"] for module in document["modules"]] == ["wte", "block.fc", "lm_head"]
    assert {row["layer"] for row in document["alignment"]} >= {"readout"}
    assert {Path(path).name for path in document["files"]} == {
        "coordinates.png",
        "coordinates.pdf",
        "slopes.csv",
    }
    assert all(Path(path).stat().st_size > 500 for path in document["files"])
    wrong = run("coordinate-check", "wrong.csv", "--parametrization", "mup")
    assert wrong.code == 1
    assert "lm_head: readout multiplier missing" in wrong.out
    own = "exponents:0,-1/2,-1:0,-1,-1"  # muP's
    assert run("coordinate-check", "recorded.csv", "--parametrization", own).code == 0


def test_parametrization_takes_measured_alignment(run, recorded):
    output = run("parametrization", "mup", "--alignment", "measured:recorded.csv", "--json")
    layers = output.document
    assert layers["hidden_alignment"] == {"A": "1", "U": "1", "Omega": "1/2"}
    assert layers["hidden"]["lr_exponent"] == -1
    assert layers["hidden"]["lr_exponent_low"] <= -1 <= layers["hidden"]["lr_exponent_high"]
    text = run("parametrization", "mup", "--alignment", "measured:recorded.csv").out
    assert "hidden alignment A = 1.00" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sp", "ntk", "mup", "mfp", "umup", "lv"])
def test_parametrization_proposes_the_check_to_those_alone_that_pass_it(run, name):
    """SP and NTK fail it at the readout (docs/guides/coordinate_check.md), and are told why."""
    printed = run("parametrization", name).out
    words = next_words(printed)
    if name in ("sp", "ntk"):
        assert "moves the output like d^(1/2): coordinate-check fails" in " ".join(printed.split())
        assert words[0] == "recommend"
        assert "Let the readout start" in " ".join(run(*words).out.split())
    else:
        assert words[:5] == ["coordinate-check", "--network", "mlp", "--parametrization", name]
        assert "coordinate-check fails" not in printed
        assert run(*words, *SMALL_CHECK).code == 0


SMALL_CHECK = ("--widths", 16, 64, "--vocab-sizes", 16, "--record", 1, 4, "--seeds", 4)


# verify and regimes

ROW = {
    "name",
    "prediction",
    "simulated",
    "measured",
    "low",
    "high",
    "expected",
    "verdict",
}


def test_verify_reuses_stored_studies(run, stored_studies):
    before = {file.name: file.stat().st_mtime_ns for file in stored_studies.glob("*.nc")}
    names = ("projection-exponent-lv", "self-term", "control-collapse-on-product")
    chosen = [argument for name in names for argument in ("--claim", name)]
    output = run("verify", *chosen, "--out", stored_studies, "--json")
    assert output.code == 0
    rows = output.document["claims"]
    assert [row["name"] for row in rows] == list(names)
    for row in rows:
        assert set(row) >= ROW
        assert row["verdict"] == row["expected"]
    after = {file.name: file.stat().st_mtime_ns for file in stored_studies.glob("*.nc")}
    assert before == after
    text = run("verify", *chosen, "--out", stored_studies)
    assert "3 of 3 verdicts as expected" in text.out
    assert "projection-exponent-lv" in text.out


def test_verify_exits_with_one_when_a_claim_fails(run, studies, tmp_path):
    from experiments.results import save

    wrong = studies["batches"].assign(mean_square=studies["batches"].mean_square * 2)
    save(wrong, tmp_path / "batches.nc")  # it keeps its fingerprint
    output = run("verify", "--claim", "minibatch-absent-tokens", "--out", tmp_path)
    assert output.code == 1
    assert "fails" in output.out
    assert "(!)" in output.out


def test_verify_measures_again_what_is_damaged_or_of_another_config(run, studies, tmp_path):
    from experiments.results import save
    from experiments.topics._registry import STUDIES

    jax.config.update("jax_disable_most_optimizations", False)  # compiled as `studies` are
    path = tmp_path / "batches.nc"
    path.write_bytes(b"damaged")
    measured = []
    original = STUDIES["batches"]

    def measure(**cell):
        measured.append(cell)
        return original.measure(**cell)

    cheap = replace(original, measure=measure)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STUDIES, "batches", cheap)
        assert run("verify", "--claim", "minibatch-absent-tokens", "--out", tmp_path).code == 0
        assert len(measured) == len(original.cells(False))
        again = load(path)  # the same numbers, seed by seed; a program may be compiled otherwise
        xr.testing.assert_allclose(again, studies["batches"], rtol=1e-6)
        assert again.attrs == studies["batches"].attrs
        stale = studies["batches"].assign_attrs(fingerprint="of other code")
        save(stale, path)
        assert run("verify", "--claim", "minibatch-absent-tokens", "--out", tmp_path).code == 0
        assert len(measured) == 2 * len(original.cells(False))
        assert run("verify", "--claim", "minibatch-absent-tokens", "--out", tmp_path).code == 0
        assert len(measured) == 2 * len(original.cells(False))


def test_another_seed_has_a_folder_of_its_own(run, tmp_path):
    from experiments.results import study_config
    from experiments.topics._registry import STUDIES

    settings = {"seeds": 3, "samples": 50, "neurons": 8}
    small = replace(STUDIES["kernel"], config=lambda _: settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STUDIES, "kernel", small)
        written = []
        for seed in (0, 2, 0):
            output = run("verify", "--claim", "sign-kernel", "--seed", seed, "--out", tmp_path)
            assert "sign-kernel" in output.out
            written.append((tmp_path / "kernel.nc").stat().st_mtime_ns)
    assert len(set(written)) == 1  # reused, not measured again
    first, other = (load(tmp_path / name) for name in ("kernel.nc", "seed-2/kernel.nc"))
    assert study_config(other) == {**study_config(first), "seed": 2}
    first, other = (one.moment.sel(quantity="sum_mean").to_numpy() for one in (first, other))
    assert not np.any(first == other)


def test_claims_left_out_are_counted(run, tmp_path):
    from experiments.topics import _registry

    names = [name for name, one in _registry.CLAIMS.items() if one.study == "race"]
    few = {name: _registry.CLAIMS[name] for name in ("sign-kernel", *names)}
    settings = {"seeds": 3, "samples": 50, "neurons": 8}
    small = replace(_registry.STUDIES["kernel"], config=lambda _: settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_registry, "CLAIMS", few)
        patch.setitem(_registry.STUDIES, "kernel", small)
        text = run("verify", "--out", tmp_path).out
        document = run("verify", "--out", tmp_path, "--json").document
    assert f"{len(names)} more claims are measured with --study race" in text
    assert not [name for name in names if name in text]
    assert document["left_out"] == dict.fromkeys(names, "--study race")


def test_regimes_draws_from_stored_studies(run, stored_studies, tmp_path):
    """All but those of transfer_networks, whose slow fits test_transfer_networks.py draws."""
    data = tmp_path / "data"
    data.mkdir()
    for file in stored_studies.glob("*.nc"):
        if file.stem != "transfer_networks":
            (data / file.name).symlink_to(file)
    output = run("regimes", "--data", data, "--out", tmp_path / "figures", "--json")
    assert output.code == 0
    paths = [Path(path) for path in output.document["figures"]]
    assert {path.suffix for path in paths} == {".png"}
    assert len({path.stem for path in paths}) >= 12
    for path in paths:
        assert path.read_bytes()[:5] == b"\x89PNG\r"
        assert path.stat().st_size > 5000


def test_regimes_draws_in_the_formats_asked_for(run, tmp_path):
    formats = ("--format", "pdf", "--format", "svg")
    line = ("regimes", "--figure", "learning_rate_phases", *formats, "--out", tmp_path)
    pdf, svg = (Path(path) for path in run(*line, "--json").document["figures"])
    assert pdf.read_bytes()[:5] == b"%PDF-"
    assert b"<svg" in svg.read_bytes()[:2000]
    assert_one_complaint(run("regimes", "--format", "jpg"), "--format", "png", "jpg")


def test_regimes_draws_and_lists_by_name(run, tmp_path):
    chosen = ("--figure", "race", "--figure", "learning_rate_phases")
    output = run("regimes", *chosen, "--out", tmp_path, "--json")
    stems = {Path(path).stem for path in output.document["figures"]}
    assert stems == {"race", "learning_rate_phases"}
    assert stems == {path.stem for path in tmp_path.iterdir()}
    listed = run("regimes", "--list", "--json").document["figures"]
    assert listed["regime_map"] == ["zipf_map", "updates"]
    _, _, head, _, *rows = run("regimes", "--list").out.splitlines()
    assert head.split() == ["figure", "drawn", "from", "(studies)"]
    assert ["regime_map", "zipf_map,", "updates"] in [row.split() for row in rows]
    for option, value in (("--out", "figures"), ("--format", "pdf"), ("--data", "studies")):
        assert_one_complaint(run("regimes", "--list", option, value), option, value, "--list")
    unknown = run("regimes", "--figure", "regime_mup")
    assert_one_complaint(unknown, "--figure")
    assert "regime_map" in unknown.err


def test_a_lost_second_process_leaves_no_figure_out(monkeypatch, tmp_path):
    from concurrent.futures.process import BrokenProcessPool

    from experiments.commands import regimes
    from experiments.output import progress_bar

    class Lost:
        """A pool whose only process has died."""

        def submit(self, *_):
            raise BrokenProcessPool

    names = [str(number) for number in range(8)]
    monkeypatch.setattr(regimes, "draw_stored", lambda name, *_: [Path(name)])
    with progress_bar(8, "test") as bar:
        drawn = regimes._drawn(names, tmp_path, tmp_path, ("png",), bar, Lost())
        assert bar.n == 8
    assert drawn == {name: [Path(name)] for name in names}


# transfer


def transfer_table(folder: Path, name: str, **columns) -> Path:
    """A CSV sweep of five widths with alpha = beta = 1/2, gamma = 0 and three seeds."""
    rows = ["width,learning_rate,seed,loss" + "".join(f",{column}" for column in columns)]
    random = np.random.default_rng(0)
    for width in (64, 128, 256, 512, 1024):
        for rate in 2.0 ** np.arange(-9, -2):
            distance = math.log(rate) - math.log(2**-6) - 4 / math.sqrt(width)
            loss = 1 + 4 / math.sqrt(width) + 0.1 * distance**2
            for seed in range(3):
                noisy = loss * (1 + 0.001 * random.normal())
                rest = "".join(f",{value}" for value in columns.values())
                rows.append(f"{width},{rate},{seed},{noisy}{rest}")
    path = folder / name
    path.write_text("\n".join(rows))
    return path


@pytest.mark.slow
def test_transfer_json_table_and_figure(run, tmp_path):
    paths = [transfer_table(tmp_path, f"{name}.csv", rule=name) for name in ("mup", "sp")]
    output = run("transfer", *paths, "--out", tmp_path / "figures", "--json")
    assert output.code == 0
    document = output.document
    assert [one["group"] for one in document["groups"]] == [{"rule": "mup"}, {"rule": "sp"}]
    for group in document["groups"]:
        assert {"E", "kappa", "R_inf", "alpha", "beta", "gamma"} <= set(group)
        for name, truth in (("alpha", 0.5), ("beta", 0.5), ("gamma", 0), ("kappa", -0.5)):
            assert set(group[name]) == {"value", "low", "high", "status"}
            assert group[name]["low"] < truth < group[name]["high"]
            assert group[name]["status"] == "ok"
        assert group["E"]["value"] < 0.002
        assert len(group["widths"]) == 5
    assert document["reference"] in ({"rule": "mup"}, {"rule": "sp"})
    assert [one["reference"] for one in document["groups"]] == [document["reference"]] * 2
    assert {path[-4:] for path in document["figures"]} == {".png", ".pdf"}
    assert all(Path(path).stat().st_size > 5000 for path in document["figures"])
    text = run("transfer", *paths, "--group-by", "rule", "--factor", 1.2)
    assert text.code == 0
    assert "kappa: alpha - 2 beta + gamma" in text.out
    first = text.out.splitlines()[0]
    assert "rule mup" in first
    assert "The best learning rate moves like width^-" in first
    assert "L*(N) = L_inf + A N^-alpha" in text.out
    assert "rule sp" in text.out
    assert "x the lowest" in text.out


@pytest.mark.slow
def test_a_notebooks_backend_and_a_name_in_other_bytes(tmp_path):
    """What a notebook sets for every command, and a file whose name is no UTF-8."""
    path = transfer_table(tmp_path, "L\udce4ufe.csv")
    command = [sys.executable, "-m", "experiments.cli", "transfer", path, "--json"]
    line = [*command, "--out", tmp_path / "figures"]
    setting = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run(line, capture_output=True, text=True, env=setting, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["files"] == [str(path)]
    assert (tmp_path / "figures" / "transfer.png").stat().st_size > 5000


def test_one_seed_gives_intervals_from_scatter_and_costs(run, tmp_path):
    path = transfer_table(tmp_path, "runs.csv")
    text = path.read_text().replace(",loss", ",smooth loss").replace("width,", "h,")
    path.write_text(text)
    roles = ("--width-column", "h", "--loss-column", "smooth loss")
    one = run("transfer", path, *roles, "--where", "seed=0", "--json").document
    assert one["read"].startswith("read 35 runs from 1 file: 5 widths (64, 128, 256, 512, 1024)")
    (group,) = one["groups"]
    assert group["intervals"] == "scatter"
    for name, truth in (("alpha", 0.5), ("beta", 0.5)):
        assert group[name]["low"] < truth < group[name]["high"]
    cost = {(row["tuned"], row["used"]): row for row in group["costs"]}[64, 1024]
    shift = 4 / 8 - 4 / 32
    assert cost["cost"]["low"] < 0.1 * shift**2 < cost["cost"]["high"]
    text = run("transfer", path, *roles, "--where", "seed=0").out
    assert "one seed: from the scatter of the points about the fit" in text
    assert "Loss lost by a learning rate tuned at another width" in text
    assert "eta* ~ width^p, p = " in text
    optima = run("optima", path, *roles).out
    assert "power of the width: -0." in optima
    assert "bootstrap over seeds" in optima


@pytest.mark.slow
def test_transfer_compares_within_sets(run, tmp_path):
    paths = [
        transfer_table(tmp_path, f"{name}.csv", rule=name[1:], network=name[0], unit="nats")
        for name in ("amup", "asp", "bmup")
    ]
    options = ("--group-by", "rule", "--within", "network")
    document = run("transfer", *paths, *options, "--json").document
    first, alone, second = document["groups"]
    assert document["reference"] is None
    assert first["reference"] == second["reference"]
    assert first["reference"]["network"] == "a"
    assert alone["reference"] == {"rule": "mup", "network": "b"}
    assert alone["R_inf"]["value"] == 0
    text = run("transfer", *paths, *options, "unit").out
    assert re.search(r"^reference of R_inf in network a: rule \w+, network a$", text, re.M)
    assert "\nreference of R_inf in network b: none, there is a single group\n" in text
    together = run("transfer", *paths, "--within", "unit", "--json").document
    assert together["reference"] in [one["group"] for one in together["groups"]]
    assert {str(one["reference"]) for one in together["groups"]} == {str(together["reference"])}
    assert run("transfer", *paths, "--within", "unit").out.count("reference of R_inf:") == 1
    unknown = run("transfer", *paths, "--within", "depth")
    assert unknown.code == 2
    assert "--within" in unknown.err
    assert "must be one of rule, network, unit, file" in unknown.err


def metrics_shown(text: str) -> dict[str, str]:
    """The cells of the only group's metrics by their heading, of all tables that hold them."""
    found: dict[str, str] = {}
    lines = text.splitlines()
    for head, below in zip(lines, lines[2:], strict=False):
        if head.startswith("group  ") and below.startswith("all runs  "):
            cells = (re.split(r"\s{2,}", line)[1:] for line in (head, below))
            found |= dict(zip(*cells, strict=True))
    return found


def test_transfer_marks_misfits_and_what_has_no_reference(run, tmp_path):
    path = transfer_table(tmp_path, "one.csv")
    right = run("transfer", path, "--json").document["groups"][0]
    cells = metrics_shown(run("transfer", path).out)
    assert right["R_inf"]["value"] == 0
    assert cells["R_inf"] == "-"
    assert not any("?" in cell for cell in cells.values())
    lines = path.read_text().split("\n")
    steeper = [
        ",".join([*cells[:3], str(float(cells[3]) * (1.03 if cells[0] == "256" else 1))])
        for cells in (line.split(",") for line in lines[1:])
    ]
    path.write_text("\n".join([lines[0], *steeper]))
    text = run("transfer", path).out
    assert any(cell.endswith("] ?") for cell in metrics_shown(text).values())
    assert "?: misfit, see below the group" in " ".join(text.split())


@pytest.mark.parametrize("command", ["transfer", "optima"])
def test_too_few_runs_are_told_in_a_sentence(run, command):
    """One width with two learning rates."""
    output = run(command, "runs.csv")
    assert output.code == 0
    told = " ".join(output.out.split())
    assert told.startswith("all runs: ")
    assert "that needs two widths at which the lowest loss lies between other learning" in told
    assert "here 0 of 1 are so." in told
    assert "nan" not in told


def test_transfer_says_what_is_missing(run, tmp_path):
    path = transfer_table(tmp_path, "all.csv")
    lines = path.read_text().split("\n")
    few = [line for line in lines if not line.startswith(("256", "512", "1024"))]
    path.write_text("\n".join(few))
    document = run("transfer", path, "--json").document
    (group,) = document["groups"]
    assert group["E"]["value"] is None
    assert group["gamma"]["value"] == pytest.approx(0, abs=0.1)
    assert document["reference"] is None
    text = run("transfer", path, "--out", tmp_path)
    assert "L_inf, A and alpha need 3 widths" in text.out
    assert "42 runs, 0 diverged" in text.out
    assert "transfer.pdf" in text.out


# Bad input

SIZES = ("--width", 10, "--vocab-size", 10)
SWEEP = (
    *("--widths", 3, "--vocab-sizes", 4, "--embedding-lrs", 1, "--hidden-lrs", 1),
    *("--out", "sweep.nc"),
)
BAD = [
    (("bogus",), "bogus"),
    (("--bogus",), "bogus"),
    (("derive",), "--layer"),
    (("exponent", "--vocab-size", "d^-1/2"), "write d^(-1/2) or (d^-1)/2"),
    (("exponent", "--vocab-size", "d^0.7+3"), "at character 6"),
    (("exponent", "--vocab-size", "d^4/16"), "(at --width 512)"),
    (("exponent", "--quantity", "projection_rms"), "projection_step_rms"),
    (("exponent", "--quantity", "hidden_step_rms"), "--network"),
    (("exponent", "--widths", "128", "x"), "--widths"),
    (("exponent", "--widths", "128"), "--widths"),
    (("exponent", "--widths", "256", "128"), "must increase"),
    (("exponent", "--widths", "4", "8", "--vocab-sizes", "4", "8"), "--vocab-sizes"),
    (("exponent", "--width", "4*d"), "--widths"),
    (("exponent", "--predict", "x"), "--predict"),
    (("exponent", "--predict", "nan"), "--predict"),
    (("exponent", "--tolerance", "0.1"), "--predict"),
    (("exponent", "--predict", "1", "--tolerance", "-1"), "--tolerance"),
    (("exponent", "--budget", "soon"), "--budget"),
    (("exponent", "--seeds", "0"), "--seeds"),
    (("exponent", "--depth", "3"), "--depth"),
    (("exponent", "--plot", "figure.bmp"), "--plot"),
    (("exponent", "--json=1"), "--json"),
    (("explore", "--width", 0), "--width"),
    (("explore", "--outputs", 5, "--vocab-size", 4), "--vocab-size"),
    (("explore", "--embedding-lr", "inf"), "--embedding-lr"),
    (("explore", "--tokens", "counts:words"), "--tokens"),
    (("explore", "--out", "counts/inside"), "--out"),
    (("explore", "--serve", "--port", -1), "--port"),
    (("lifetime", "--tokens", "zipf:1", "--batch-size", 3), "--tokens"),
    (("derive", "--layer", "output"), "--layer"),
    (("derive", "--layer", "hidden", "--optimizer", "muon"), "--optimizer"),
    (("derive", "--layer", "embedding", "--optimizer", "muon", "--outputs", 3), "--outputs"),
    (("predict", "--outputs", 1024, "--output-sample", 3), "--output-sample"),
    (("predict", "--outputs", 1024), "--output-sample"),
    (("predict", "--network", "mlp", "--output-sample", 32), "--network"),
    (("derive", "--layer", "embedding", "--optimizer", "muon", "--depth", 2), "--depth"),
    (("derive", "--layer", "hidden", "--width", 4), "--vocab-size"),
    (("derive", "--layer", "hidden", "--vocab-size", 4), "--width"),
    (("derive", "--layer", "hidden", "--width", 0, "--vocab-size", 4), "--width"),
    (("derive", "--layer", "hidden", "--width", -3, "--vocab-size", 4), "--width"),
    (("derive", "--layer", "hidden", "--width", 10**16, "--vocab-size", 4), "--width"),
    (("derive", "--layer", "hidden", "--width", "nan", "--vocab-size", 4), "--width"),
    (("derive", "--layer", "hidden", "--width", "1.5", "--vocab-size", 4), "--width"),
    (("derive", "--layer", "hidden", "--width", 4, "--vocab-size", 0), "--vocab-size"),
    (("derive", "--layer", "hidden", "--width", 4, "--vocab-size", 2**40), "--vocab-size"),
    (("derive", "--layer", "hidden", "--tokens", "zipf:-1"), "--tokens"),
    (("derive", "--layer", "hidden", "--tokens", "zipf:nan"), "--tokens"),
    (("derive", "--layer", "hidden", *SIZES, "--tokens", "counts:missing"), "--tokens"),
    (("derive", "--layer", "hidden", *SIZES, "--tokens", "counts:words"), "--tokens"),
    (("derive", "--layer", "hidden", *SIZES, "--tokens", "counts:empty"), "--tokens"),
    (("derive", "--layer", "hidden", *SIZES, "--tokens", "counts:counts"), "--vocab-size"),
    (("derive", "--layer", "hidden", *SIZES, "--tokens", "corpus"), "--vocab-size"),
    (("derive", "--layer", "hidden", *SIZES, "--rank", 0), "--rank"),
    (("derive", "--layer", "hidden", *SIZES, "--rank", 11), "--rank"),
    (("derive", "--layer", "hidden", "--rank", -1), "--rank"),
    (("derive", "--layer", "hidden", "--batch-size", -1), "--batch-size"),
    (("derive", "--layer", "hidden", "--init", "xavier"), "--init"),
    (("derive", "--layer", "hidden", "--format", "word"), "--format"),
    (("derive", "--layer"), "--layer"),
    (("derive", "--layer", "head", *SIZES), "--targets"),
    (("derive", "--layer", "head", *SIZES, "--targets", "random"), "--targets"),
    (("derive", "--layer", "head", *SIZES, "--targets", "random:99999999"), "--targets"),
    (("derive", "--layer", "head", *SIZES, "--targets", "bigram"), "--tokens"),
    (("derive", "--layer", "hidden", *SIZES, "--targets", "onehot"), "--targets"),
    (("derive", "--layer", "hidden", "--outputs", 2), "--outputs"),
    (("derive", "--layer", "tied", *SIZES, "--targets", "onehot", "--outputs", 3), "--outputs"),
    (("derive", "--layer", "head", *SIZES, "--targets", "onehot", "--outputs", 1), "--outputs"),
    (("derive", "--layer", "head", *SIZES, "--targets", "onehot", "--rank", 99), "--rank"),
    (
        (
            *("derive", "--layer", "tied", "--optimizer", "muon", "--targets", "onehot"),
            *("--width", 8, "--vocab-size", 4097),
        ),
        "--vocab-size",
    ),
    (("derive", "--layer", "head", "--matrix", 2), "--matrix"),
    (("lifetime", "--targets", "bogus"), "--targets"),
    (("lifetime", "--targets", "onehot", "--plot", "a.png"), "--plot"),
    (("tokens", "bogus"), "--tokens"),
    (("tokens", "uniform", "--vocab-size", 0), "--vocab-size"),
    (("tokens", "uniform", "--vocab-size", "many"), "--vocab-size"),
    (("tokens", "uniform", "--width", 0), "--width"),
    (("tokens", "corpus", "--vocab-size", 255), "--vocab-size"),
    (("tokens", "corpus:text", "--vocab-size", 9999), "--vocab-size"),
    (("tokens", "corpus:missing"), "--tokens"),
    (("tokens", "corpus:empty"), "--tokens"),
    (("tokens", "uniform", "zipf:1"), "zipf:1"),
    (("train", "--width", 0), "--width"),
    (("train", "--width", "wide"), "--width"),
    (("sweep", "--out", "sweep.nc"), "--widths"),
    (("sweep", *SWEEP, "--width", 3), "--width"),
    (("sweep", *SWEEP, "--widths", 0), "--widths"),
    (("sweep", *SWEEP, "--widths", 3, 3), "--widths"),
    (("sweep", *SWEEP, "--widths"), "--widths"),
    (("sweep", *SWEEP, "--vocab-sizes", "many"), "--vocab-sizes"),
    (("sweep", *SWEEP, "--embedding-lrs", "1:0.1:3"), "--embedding-lrs"),
    (("sweep", *SWEEP, "--embedding-lrs", "nan"), "--embedding-lrs"),
    (("sweep", *SWEEP, "--hidden-lrs", "0:1:3"), "--hidden-lrs"),
    (("sweep", *SWEEP, "--seeds", 0), "--seeds"),
    (("sweep", *SWEEP, "--seed", -1), "--seed"),
    (("sweep", *SWEEP, "--horizons", 101), "--horizons"),
    (("sweep", *SWEEP, "--memory-gb", -1), "--memory-gb"),
    (("sweep", *SWEEP, "--executor", "slurm"), "--executor"),
    (("sweep", *SWEEP, "--executor", "dask:"), "--executor"),
    (("sweep", *SWEEP, "--network", "transformer"), "--batch-size"),
    (("sweep", *SWEEP, "--network", "transformer", "--batch-size", 32), "--head-width"),
    (("sweep", *SWEEP, "--out", "damaged"), "--out"),
    (("sweep", *SWEEP, "--out", "counts"), "exists"),
    (("sweep", *SWEEP, "--out", "counts", "--resume"), "not the file of a sweep"),
    (("sweep", *SWEEP, "--out", "counts/sweep.nc"), "--out"),
    (("compare", "--network", "transformer", "--batch-size", 64), "--network"),
    (("compare", "--steps", 1), "--steps"),
    (("compare", "--seeds", 1), "--seeds"),
    (("derive", "--layer", "hidden", "--plot", "a.png"), "--width"),
    (("predict", "--particles", 1), "--particles"),
    (("predict", "--particles", 10**9), "--particles"),
    (("predict", "--replicas", 1), "--replicas"),
    (("predict", "--accuracy", "1 percent"), "--accuracy"),
    (("predict", "--accuracy", "200%"), "--accuracy"),
    (("predict", "--accuracy", "0.1", "--particles", 256), "--accuracy"),
    (("predict", "--outputs", 1000, "--steps", 1000), "--steps"),
    (("flow", "--optimizer", "sign"), "--optimizer"),
    (("flow", "--optimizer", "adam"), "--optimizer"),
    (("flow", "--time", "nan"), "--time"),
    (("flow", "--time", 0), "--time"),
    (("flow", "--points", 1), "--points"),
    (("flow", "--batch-size", 3), "--batch-size"),
    (("flow", "--limit", "wide"), "--limit"),
    (("flow", "--limit", "proportional", "--tokens", "zipf:1"), "--tokens"),
    (("train", "--vocab-size", -1), "--vocab-size"),
    (("train", "--outputs", 0), "--outputs"),
    (("train", "--steps", 0), "--steps"),
    (("train", "--batch-size", -1), "--batch-size"),
    (("train", "--seed", -1), "--seed"),
    (("train", "--seed", 2**40), "--seed"),
    (("train", "--embedding-lr", "nan"), "--embedding-lr"),
    (("train", "--embedding-lr", "inf"), "--embedding-lr"),
    (("train", "--projection-lr", "-0.1"), "--projection-lr"),
    (("train", "--projection-lr", "fast"), "--projection-lr"),
    (("train", "--loss", "mae"), "--loss"),
    (("train", "--loss", "ce"), "--targets"),
    (("train", "--loss", "ce", "--targets", "onehot"), "--outputs"),
    (("train", "--targets", "bigram", "--outputs", 3, "--tokens", "uniform"), "--tokens"),
    (("train", "--targets", "none"), "--targets"),
    (("train", "--optimizer", "lion"), "--optimizer"),
    (("train", "--init", "none"), "--init"),
    (("train", "--tokens", "counts:"), "--tokens"),
    (("verify", "--claim", "bogus"), "--claim"),
    (("verify", "--out", "counts"), "--out"),
    (("verify", "--full=7"), "7"),
    (("verify", "--seed", -1), "--seed"),
    (("verify", "--seed", 0.5), "--seed"),
    (("verify", "--seed", 10**9), "--seed"),
    (("transfer",), "FILE"),
    (("transfer", "missing.csv"), "missing.csv"),
    (("transfer", "counts"), "must end in"),
    (("transfer", "damaged/updates.nc"), "damaged/updates.nc"),
    (("transfer", "missing.csv", "--factor", 1), "--factor"),
    (("transfer", "missing.csv", "--factor", "nan"), "--factor"),
    (("transfer", "missing.csv", "--rate", "readout"), "--rate"),
    (("transfer", "missing.csv", "--log-rates", "3"), "--log-rates"),
    (("transfer", "runs.csv", "--where", "lr"), "--where"),
    (("transfer", "runs.csv", "--width-column", "h"), "--width-column"),
    (("transfer", "runs.csv", "--last", "epoch"), "--last"),
    (("transfer", "runs.csv", "--encoding", "latin-0"), "--encoding"),
    (("optima", "runs.csv", "--horizon", 1), "--horizon"),
    (("optima", "runs.csv", "--factor", 1), "--factor"),
    (("optima", "runs.csv", "--group-by", "rule"), "--group-by"),
    (("regimes", "--data", "damaged"), "--data"),
    (("regimes", "--data", "damaged", "--figure", "race"), "race.nc"),
    (("regimes", "--list=7"), "7"),
    (("train", "--optimizer", "sgd", "--epsilon", 0.1), "--epsilon"),
    (("flow", "--optimizer", "sgd", "--beta1", 0.9), "--beta1"),
    (("exponent", "--optimizer", "sign", "--beta2", 0.9), "--beta2"),
    (("coordinate-check", "--optimizer", "momentum", "--beta2", 0.9), "--beta2"),
    (("predict", "--network", "transformer"), "must be linear or mlp"),
    (("compare", "--network", "transformer"), "must be linear or mlp"),
    (("flow", "--network", "transformer"), "must be linear or mlp"),
    (("regimes", "--out", "counts/inside"), "--out"),
    (("coordinate-check", "--widths", 8), "--widths"),
    (("coordinate-check", "--widths", 8, 8), "--widths"),
    (("coordinate-check", "--widths", 0, 8), "--widths"),
    (("coordinate-check", "--vocab-sizes", 0), "--vocab-sizes"),
    (("coordinate-check", "--record", 0), "--record"),
    (("coordinate-check", "--record", 101), "--record"),
    (("coordinate-check", "--seeds", 1), "--seeds"),
    (("coordinate-check", "--tolerance", 0), "--tolerance"),
    (("coordinate-check", "--tolerance", "nan"), "--tolerance"),
    (("coordinate-check", "--optimizer", "sgd"), "--optimizer"),
    (("coordinate-check", "--network", "transformer"), "--batch-size"),
    (("coordinate-check", "--lr-exponents", "1"), "--lr-exponents"),
    (("coordinate-check", "--parametrization", "exponents:0,0,0:0,0,0"), "--parametrization"),
    (("coordinate-check", "missing.csv"), "missing.csv"),
    (("coordinate-check", "empty"), "must end in .csv or .nc"),
    (("coordinate-check", "missing.csv", "--widths", 8, 16), "--widths"),
    (("parametrization", "mup", "--alignment", "measured:missing.csv"), "missing.csv"),
    (("parametrization", "mup", "--alignment", "measured:"), "FILE"),
    (("parametrization", "mup", "--alignment", "some"), "--alignment"),
    (("optima",), "FILE"),
    (("optima", "missing.nc"), "FILE"),
    (("optima", "counts"), "FILE"),
    (("parametrization",), "NAME"),
    (("parametrization", "bogus"), "NAME"),
    (("parametrization", "mup", "--optimizer", "lion"), "--optimizer"),
    (("parametrization", "mup", "--tied", "yes"), "--tied"),
    (("parametrization", "--compare", "--optimizer", "sgd"), "--optimizer"),
    (("recommend",), "--width"),
    (("recommend", "--width", 0, "--vocab-size", 4, "--base-width", 4), "--width"),
    (("recommend", "--width", 0), "--width"),
    (("recommend", "--width", 8, "--vocab-size", 4), "--base-width"),
    (("recommend", "--config", "missing", "--base-width", 4), "--config"),
    (("recommend", "--config", "words", "--base-width", 4), "--config"),
    (("recommend", "--config", "words", "--preset", "gpt2", "--base-width", 4), "--config"),
    (("recommend", "--preset", "gpt5", "--base-width", 4), "--preset"),
    (("tokens", "tokenizer:words"), "--tokens"),
    (("tokens", "tokenizer:"), "--tokens"),
    (("tokens", "counts:counts", "--vocab-size", 9), "--vocab-size"),
]


@pytest.mark.parametrize(
    ("arguments", "named"), BAD, ids=[" ".join(map(str, arguments)) for arguments, _ in BAD]
)
def test_bad_input_is_one_line_and_exit_code_two(run, arguments, named):
    assert_one_complaint(run(*arguments), named)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("train", "--seeds", 0), "--seeds"),
        (("train", "--seeds", -5), "--seeds"),
        (("train", "--width", 2**31 - 1), "--width"),
        (("train", "--tokens", "counts:missing"), "--tokens"),
        (("train", "--tokens", "counts:counts", "--vocab-size", 4), "--vocab-size"),
    ],
)
def test_bad_training_is_one_line_and_nothing_else(run, arguments, named):
    assert_one_complaint(run(*arguments), named)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("train", "--seeds", 0), "--seeds"),
        (("train", "--width", 2**31 - 1), "--width"),
        (("train", "--tokens", "counts:missing"), "--tokens"),
    ],
)
def test_bad_training_names_the_option(run, arguments, named):
    output = run(*arguments)
    assert output.code == 2
    assert output.complaints[-1].startswith(f"dynsim: error: {named} ")


def test_a_value_for_a_flag_names_the_flag(run):
    assert_one_complaint(run("verify", "--full=7"), "--full")


@pytest.mark.parametrize(
    "line",
    [
        "exponent --quantity hidden_step_rms --out {}",
        "exponent --widths 64 --out {}",
        "flow --optimizer adam --plot {}/flow.png",
        "train --tokens corpus:/nowhere --out {}",
        "map --x nothing=1:2:3 --out {}",
        "regimes --data /nowhere --out {}",
    ],
)
def test_bad_input_leaves_no_folder(run, tmp_path, line):
    """A folder that was made for results which never came is removed, and no other."""
    there = tmp_path / "there"
    there.mkdir()
    for folder in (tmp_path / "new" / "deeper", there):
        assert run(*line.format(folder).split()).code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.slow
def test_regimes_without_data_is_bad_input(run, tmp_path):
    output = run("regimes", "--data", "missing", "--out", tmp_path)
    assert_one_complaint(output, "--data")


def test_unwritable_out(run, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):
        pytest.skip("root writes everywhere")
    assert_one_complaint(run("verify", "--out", locked / "inside"), "--out")


@pytest.mark.parametrize("command", [(), *((name,) for name in cli.COMMANDS)])
def test_help_is_no_error(run, command):
    output = run(*command, "--help")
    assert output.code == 0
    assert "dynsim" in output.out
    assert output.err == ""


def test_a_command_is_the_file_of_its_name():
    folder = Path(cli.__file__).parent / "commands"
    files = {file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")}
    assert files == {name.replace("-", "_") for name in cli.COMMANDS}
    for name, command in cli.COMMANDS.items():
        assert command.__module__ == f"experiments.commands.{name.replace('-', '_')}"


def test_out_of_memory_and_broken_pipe_are_no_tracebacks(run, monkeypatch):
    def exhaust(_):
        raise MemoryError

    monkeypatch.setattr(cli.COMMANDS["tokens"], "run", exhaust)
    assert_one_complaint(run("tokens", "uniform"), "memory")


def test_interruption_has_its_own_exit_code(run, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.COMMANDS["tokens"], "run", interrupt)
    output = run("tokens", "uniform")
    assert output.code == 130
    assert output.complaints == ["dynsim: error: interrupted"]


# Generated command lines: a sample of those that end at once; tests/command_lines.py tries all.

LINES = 60


def test_every_command_is_drawn():
    drawn = {*COMMANDS, command_lines.CAMPAIGN}
    assert set(command_lines.CHEAP) == set(command_lines.VALID) == drawn
    assert "--only" in command_lines.drawn_options(command_lines.CAMPAIGN)
    for name, command in COMMANDS.items():
        drawn = {one for one in command_lines.drawn_options(name) if one.startswith("--")}
        assert drawn | set(command_lines.ENDLESS.get(name, ())) == set(option_flags(command))


@pytest.mark.slow
def test_generated_command_lines_end_as_the_guide_says(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    chance = random.Random(0)
    for line in [command_lines.command_line(chance, work=False) for _ in range(LINES)]:
        end = command_lines.ending(line)
        assert command_lines.complaint(line, end, 2 * command_lines.BOUND) is None, line


def test_what_is_wrong_with_an_ending_is_seen():
    good = command_lines.Ending(2, "", "bar: 0%\rdynsim: error: --width -1: must be\n", 0.1)
    bad = [
        good._replace(code=None),
        good._replace(code=70),
        good._replace(code=1),
        good._replace(err="Traceback (most recent call last)\n"),
        good._replace(err=good.err + "and more\n"),
        good._replace(out="{}"),
        good._replace(err="DeprecationWarning: old\n" + good.err),
        good._replace(seconds=1e4),
        good._replace(code=0, err="", out='{"a": NaN}\n'),
        good._replace(code=0, err="", out='{"a": 1, "a": 2}\n'),
        good._replace(code=0, err="", out='{"a": "\\udcff"}\n'),
    ]
    line = ["tokens", "--json"]
    assert command_lines.complaint(line, good) is None
    assert command_lines.complaint(line, good._replace(code=0, err="", out='{"a": 1}\n')) is None
    assert all(command_lines.complaint(line, one) for one in bad)


# Interruption

RUN = (
    "import sys\n"
    "from experiments.start import main\n"
    "sys.exit(main())\n"  # as the command itself, whose handler of signals no callback can lose
)


def start(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_control_c_keeps_finished_studies_and_a_rerun_uses_them(tmp_path):
    """`kernel` is measured first; the interruption comes while `updates` is measured."""
    process = start(
        "verify", "--claim", "sign-kernel", "--claim", "data-collapse", "--out", tmp_path
    )
    finished = tmp_path / "kernel.nc"
    deadline = time.monotonic() + 120
    while not finished.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    last = err.replace("\r", "\n").strip().split("\n")[-1].strip()
    promise = "; what was finished is kept and the same command goes on after it"
    interrupted = "dynsim: error: interrupted"
    # It promises once the file stands; a strike between the two finds no promise yet.
    assert last in (interrupted + promise, interrupted)
    left = {file.name for file in tmp_path.iterdir()}
    cells = {"kernel.nc.cells", "updates.nc.cells"}  # of what was finished, if it came to that
    assert left - cells == {"kernel.nc"}
    assert load(finished).attrs["study"] == "kernel"
    before = finished.stat()
    again = start("verify", "--claim", "sign-kernel", "--out", tmp_path, "--json")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert json.loads(out)["claims"][0]["verdict"] == "holds"
    after = finished.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert not finished.with_name("kernel.nc.cells").exists()


def test_every_command_stands_under_a_question(capsys):
    listed = [name for names in QUESTIONS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS)
    for arguments in ([], ["--help"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        printed = capsys.readouterr().out
        assert all(first_line(command)[:40] in printed for command in COMMANDS.values())
        assert max(map(len, printed.splitlines())) <= 100


# verify prints its example where studies are measured, explore where its page is made.
EXAMPLES = [command for command in COMMANDS if command not in ("verify", "explore")]


@pytest.fixture(scope="module")
def example_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.mark.slow
@pytest.mark.parametrize("command", EXAMPLES)
def test_a_command_prints_the_example_of_its_help(run, example_folder, monkeypatch, command):
    """Its first lines are an answer, its last a command; all fit the line, without NaN."""
    monkeypatch.chdir(example_folder)
    if command in ("optima", "transfer") and not Path("sweep.nc").exists():
        run(*example_line("sweep"))
    assert_example(command, run(*example_line(command)).out)


NEXT_SMALLER = {  # what proposed commands are run with, so that they take seconds
    "exponent": ["--widths", "8", "16", "--seeds", "2"],
    "flow": ["--steps", "3", "--particles", "64", "--replicas", "2", "--seeds", "2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", EXAMPLES)
def test_what_an_example_proposes_next_works_and_answers(run, example_folder, monkeypatch, command):
    """It ends with 0, and begins with an answer of its own."""
    monkeypatch.chdir(example_folder)
    if command in ("sweep", "optima", "transfer") and not Path("sweep.nc").exists():
        run(*example_line("sweep"))
    words = next_words("\n".join(example(command)["output"]))
    found = run(*words, *NEXT_SMALLER.get(command, ()))
    assert found.code == 0, found.err or found.out
    if "--list" not in words:
        assert_readable(found.out)


def test_verify_prints_the_example_of_its_help(run, stored_studies, tmp_path, monkeypatch):
    (tmp_path / "dynsim-verify").mkdir()
    shutil.copy(stored_studies / "kernel.nc", tmp_path / "dynsim-verify")
    monkeypatch.chdir(tmp_path)
    assert_example("verify", run(*example_line("verify")).out)


def test_another_print_is_noticed():
    assert_same_print("loss  0.4694 [1, 2]\n----\n", "loss 0.4693   [1, 2]\n--------")
    for other in ("loss 0.48 [1, 2]", "lost 0.4694 [1, 2]", "loss 0.4694 [1, 3]", "loss 0.4694"):
        with pytest.raises((AssertionError, ValueError)):
            assert_same_print("loss 0.4694 [1, 2]", other)


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"dynsim {dynsim.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_an_option_takes(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert "None}" not in printed
    assert "default: None" not in printed
    assert "default: )" not in printed
    assert max(map(len, printed.splitlines())) <= 100
    groups = re.findall(r"^(?:╭─)? ?(\w+) options", printed, flags=re.MULTILINE)
    expected = {"train": ["size", "network", "task", "optimizer", "output"]}
    expected["compare"] = expected["predict"] = expected["train"]
    expected["derive"] = ["size", "network", "task", "output"]
    assert groups == expected.get(command, groups)
    assert command in ("optima", "regimes", "verify", "transfer", "coordinate-check") or groups


def test_a_shell_can_complete_every_command_and_option(capsys):
    with pytest.raises(SystemExit):
        main(["--tyro-print-completion", "bash"])
    printed = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in printed
        assert all(flag in printed for flag in option_flags(command)), name


def test_groups_of_options_change_no_option():
    for name, command in COMMANDS.items():
        flat, shown = set(option_flags(command)), set(option_flags(grouped(command)))
        assert flat == shown, name


def test_claims_are_listed_without_being_measured(run):
    from experiments.topics._registry import CLAIMS

    listed = json.loads(run("verify", "--list", "--json").out)["claims"]
    assert [one["name"] for one in listed] == list(CLAIMS)
    name = listed[0]["name"]
    shown = run("verify", "--list", "--claim", name).out
    assert name in shown
    assert listed[0]["statement"][:60] in " ".join(shown.split())
    table = shown.split("\n\n")[1]
    assert len([line for line in table.splitlines() if not line.startswith(" ")]) == 3
    assert_one_complaint(run("verify", "--list", "my.toml"), "--list")
