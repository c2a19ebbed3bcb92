"""The one description: valid ones hold, invalid ones name the option in one line."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from helpers import assert_refused, refusal
from hypothesis import given
from hypothesis import strategies as st

import dynsim
from dynsim import Setup
from dynsim._errors import check_choice, check_integer, check_rate, shown
from dynsim._runs import seed_labels
from dynsim._setup import Descent, EmbeddingRate, Sizes, Task
from dynsim.laboratory import NetworkFamily, NetworkSetup

INTEGERS = {
    "width": 1,
    "vocab_size": 1,
    "outputs": 1,
    "steps": 1,
    "batch_size": 0,
    "seed": 0,
    "warmup_steps": 0,
}
RATES = ("embedding_lr", "projection_lr", "weight_decay")
SHARES = ("beta1", "beta2")
CHOICES = ("loss", "targets", "optimizer", "init", "schedule")


def test_training_asks_for_a_description():
    description: Any = "x"
    assert_refused("setup", lambda: dynsim.train(description), "dynsim.NetworkSetup")


def test_default_setup_is_the_documented_one():
    setup = Setup()
    assert (setup.embedding_lr, setup.projection_lr) == (0.01, 0.01)
    assert (setup.tokens, setup.law_name) == (None, "uniform")
    assert (setup.outputs, setup.output_count) == (None, 1)
    assert (setup.loss, setup.loss_name) == (None, "mse")
    assert (setup.weight_decay, setup.decay_rate) == (None, 0)
    assert (setup.optimizer, setup.epsilon) == ("adam", 1e-12)
    assert setup.batch_size == 0
    assert setup.law().vocab_size == setup.vocab_size
    assert hash(setup) == hash(Setup())
    with pytest.raises(dataclasses.FrozenInstanceError):
        setup.width = 3  # type: ignore[misc]


def test_every_field_is_tested_and_documented():
    fields = {field.name for field in dataclasses.fields(Setup)}
    assert fields == {*INTEGERS, *RATES, *SHARES, *CHOICES, "tokens", "target_rank", "epsilon"}


def test_projection_std():
    assert Setup(width=16).projection_std == pytest.approx(1 / 16)
    assert Setup(width=16, init="sp").projection_std == pytest.approx(1 / 4)


@given(st.sampled_from(sorted(INTEGERS)), st.integers())
def test_integers_out_of_range(field, value):
    low, high = INTEGERS[field], 2**30 if field == "vocab_size" else 2**31 - 1
    if low <= value <= high:
        assert getattr(Setup(**{field: value}), field) == value
    else:
        assert_refused(field, lambda: Setup(**{field: value}), "must be an integer")


@given(
    st.sampled_from(sorted(INTEGERS)),
    st.one_of(st.floats(), st.text(), st.none(), st.booleans()),
)
def test_what_is_no_integer(field, value):
    if field == "outputs" and value is None:  # what follows from the targets
        return
    assert_refused(field, lambda: Setup(**{field: value}))


@given(st.sampled_from(RATES), st.floats())
def test_learning_rates(field, value):
    if math.isfinite(value) and 0 <= value <= 1e30:
        assert getattr(Setup(**{field: value}), field) == value
    else:
        assert_refused(field, lambda: Setup(**{field: value}), "finite number")


@given(st.sampled_from((*SHARES, "epsilon")), st.floats())
def test_constants_of_optimizers(field, value):
    good = 1e-15 <= value <= 1e15 if field == "epsilon" else 0 <= value < 1
    if good:
        assert getattr(Setup(**{field: value}), field) == value
    else:
        assert_refused(field, lambda: Setup(**{field: value}), "must be")


@given(st.sampled_from(CHOICES), st.text())
def test_choices(field, value):
    allowed = {
        "loss": {"mse", "ce"},
        "targets": {"gaussian", "sign", "onehot", "bigram"},
        "optimizer": {"sgd", "momentum", "sign", "smoothed-sign", "adam"},
        "schedule": {"constant", "linear", "cosine"},
        "init": {"mup", "sp"},
    }[field]
    if value not in allowed:
        assert_refused(field, lambda: Setup(**{field: value}), "must be one of")


@given(st.text())
def test_token_law_names(value):
    error = refusal(lambda: Setup(tokens=value))
    assert error is None or (error.field == "tokens" and "\n" not in str(error))


@pytest.mark.parametrize(
    ("named", "fields"),
    [
        ("targets", {"loss": "ce", "outputs": 4}),
        ("targets", {"loss": "ce", "outputs": 4, "targets": "sign"}),
        ("outputs", {"loss": "ce", "outputs": 1, "targets": "onehot"}),
        ("outputs", {"targets": "onehot"}),
        ("tokens", {"targets": "bigram", "outputs": 4, "tokens": "uniform"}),
        ("tokens", {"targets": "bigram", "outputs": 4, "tokens": "zipf:1"}),
        ("outputs", {"targets": "bigram", "outputs": 1, "tokens": "corpus"}),
        ("outputs", {"targets": "bigram", "outputs": 1025, "tokens": "corpus"}),
    ],
)
def test_combinations_that_mean_nothing(named, fields):
    assert_refused(named, lambda: Setup(**fields), "must be")


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": "ce", "outputs": 2, "targets": "onehot"},
        {"loss": "ce", "outputs": 4, "targets": "bigram", "tokens": "corpus:somewhere"},
        {"targets": "bigram", "outputs": 1024, "tokens": "corpus"},
        {"outputs": 1, "targets": "onehot", "loss": "mse"},
        {"targets": "bigram", "outputs": 4},
        {"embedding_lr": 0.0, "projection_lr": 0},
    ],
)
def test_combinations_that_mean_something(fields):
    assert Setup(**fields)


@given(st.text(max_size=300))
def test_shown_is_one_short_printable_line(value):
    text = shown(value)
    assert len(text) <= 80
    assert text.isprintable()


def test_checks_let_good_values_pass():
    check_integer("--x", 3, 3)
    check_integer("--x", 3, 1, 3)
    check_rate("--x", 0.0)
    check_choice("--x", "a", ("a", "b"))
    assert_refused("--x", lambda: check_integer("--x", 4, 1, 3), "at most 3")
    assert_refused("--x", lambda: check_rate("--x", math.nan))
    assert_refused("--x", lambda: check_choice("--x", "c", ("a", "b")), "a, b")


PARTS = (Sizes, Task, Descent, EmbeddingRate)


@pytest.mark.parametrize("part", PARTS)
def test_both_descriptions_have_the_very_same_shared_options(part):
    """One definition and one default: the fields are inherited, not written again."""
    for kind in (Setup, NetworkSetup):
        assert issubclass(kind, part)
        own = {field.name: field for field in dataclasses.fields(kind)}
        for field in dataclasses.fields(part):
            assert own[field.name] is field
            assert field.name not in vars(kind).get("__annotations__", {})
    shared = {field.name for field in dataclasses.fields(Setup)} & {
        field.name for field in dataclasses.fields(NetworkSetup)
    }
    assert shared == {field.name for one in PARTS for field in dataclasses.fields(one)}


@pytest.mark.parametrize("kind", [Setup, NetworkSetup])
def test_replaced_options_decide_anew_what_follows_from_them(kind):
    setup = kind()
    assert (setup.law_name, setup.loss_name, setup.output_count) == ("uniform", "mse", 1)
    classes = dataclasses.replace(setup, targets="bigram", outputs=4)
    assert (classes.law_name, classes.loss_name, classes.output_count) == ("corpus", "ce", 4)
    assert dataclasses.replace(classes, targets="gaussian", outputs=None) == setup
    assert dataclasses.replace(setup, tokens="zipf:1").law().name == "zipf:1"


def test_a_family_is_described_without_sizes():
    family = NetworkFamily(network="mlp", targets="next-token", batch_size=8)
    small, large = family.at(8, 300), family.at(16, 400, hidden_lr=0.5)
    assert (small.output_count, large.output_count) == (300, 400)
    assert (small.hidden_lr, large.hidden_lr) == (0.01, 0.5)
    assert large.at(8, 300) == dataclasses.replace(small, hidden_lr=0.5)
    assert_refused("batch_size", lambda: NetworkFamily(network="transformer"))
    assert_refused("optimizer", lambda: NetworkFamily(optimizer="lion"))
    assert_refused("width", lambda: family.at(0, 300))


def test_descriptions_print_what_is_not_at_its_default():
    assert repr(Setup(width=7, tokens="zipf:1")) == "Setup(width=7, tokens=zipf:1)"
    assert repr(NetworkFamily(network="mlp")) == "NetworkFamily(network=mlp)"


@pytest.mark.parametrize(
    "seeds", [0, -1, True, 1.5, "x", [], [[1]], [-1], [0.5], [2**32], None, 10**7]
)
def test_seeds_are_a_count_or_labels(seeds):
    assert seed_labels(3).tolist() == [0, 1, 2]
    assert seed_labels([7, 2]).tolist() == [7, 2]
    assert_refused("seeds", lambda: seed_labels(seeds))


@pytest.mark.parametrize(
    ("theory", "network"),
    [
        (dynsim.predict, "transformer"),
        (lambda setup: dynsim.gradient_flow(setup, [1.0]), "transformer"),
        (dynsim.compare, "transformer"),
    ],
)
def test_theory_says_which_network_it_covers(theory, network):
    setup = NetworkSetup(network=network, batch_size=32)
    assert_refused("network", lambda: theory(setup), "must be linear")
    assert_refused("setup", lambda: theory(NetworkSetup(network="linear")), "dynsim.Setup")


def test_resolved_options_describe_the_same_experiment():
    setup = NetworkSetup(targets="next-token", batch_size=8, vocab_size=64, optimizer="adamw")
    options = setup.resolved()
    assert (options["tokens"], options["outputs"], options["loss"]) == ("corpus", 64, "ce")
    assert options["weight_decay"] == setup.decay_rate > 0
    assert NetworkSetup(**options).resolved() == options
