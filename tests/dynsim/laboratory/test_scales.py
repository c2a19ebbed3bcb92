"""Parametrizations in numbers and the description of an experiment."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import pytest
from helpers import assert_refused, refusal
from hypothesis import given
from hypothesis import strategies as st

import derivations
from dynsim import InputError
from dynsim._layers import LABELS
from dynsim.laboratory import NetworkSetup, grid_factors, learning_rate_factors, scales

MLP = NetworkSetup(network="mlp", width=256, base_width=64, vocab_size=32)  # four times as wide
OPTIMIZERS = ("sgd", "momentum", "sign", "adam", "adamw", "muon")

# embedding, hidden, readout at four times the base width: multipliers, initial factors over SP,
# and learning rates of Adam. Yang et al. 2022 (table 9), Everett et al. 2024 (table 1), Blake et
# al. 2024 (table 2), Hayou & Liu 2025.
ADAM = {
    "sp": ((1, 1, 1), (1, 1, 1), (1, 1 / 4, 1 / 4)),
    "ntk": ((1, 1 / 2, 1 / 2), (1, 2, 2), (1, 1 / 2, 1 / 2)),
    "mup": ((2, 1, 1 / 2), (1 / 2, 1, 1), (1 / 2, 1 / 4, 1 / 2)),
    "mfp": ((1, 1 / 2, 1 / 4), (1, 2, 2), (1, 1 / 2, 1)),
    "umup": ((1, 1 / 2, 1 / 4), (1, 2, 2), (1 / 2, 1 / 2, 1)),
    "lv": ((2, 1, 1 / 2), (1 / 2, 1, 1), (1 / 4, 1 / 4, 1 / 2)),
}
SGD = {"sp": (2, 1 / 2, 1 / 4), "ntk": (2, 2, 1), "mup": (1, 1, 1), "mfp": (4, 4, 4)}
VECTORS = {"sp": 1, "ntk": 1, "mup": 1, "mfp": 1, "umup": 1 / 2, "lv": 1 / 2}  # under Adam


def layers(values) -> tuple[float, float, float]:
    return values.embedding, values.hidden, values.readout


def changed(**values) -> NetworkSetup:
    return dataclasses.replace(MLP, **values)


@pytest.mark.parametrize("name", ADAM)
def test_numbers_of_each_parametrization(name):
    setup = changed(parametrization=name)
    prescribed = scales(setup)
    multiplier, init, rate = ADAM[name]
    assert layers(prescribed.multiplier) == pytest.approx(multiplier)
    assert layers(prescribed.init_factor) == pytest.approx(init)
    assert layers(prescribed.learning_rate) == pytest.approx(rate)
    assert prescribed.learning_rate.vector == pytest.approx(VECTORS[name])
    assert prescribed.multiplier.vector == prescribed.init_factor.vector == 1
    for optimizer in ("sign", "adamw"):
        assert scales(changed(parametrization=name, optimizer=optimizer)) == prescribed
    assert learning_rate_factors(setup) == prescribed.learning_rate
    assert grid_factors(setup) == pytest.approx(rate[:2])
    linear = dataclasses.replace(setup, network="linear")
    assert grid_factors(linear) == pytest.approx((rate[0], rate[2]))


@pytest.mark.parametrize("name", SGD)
def test_numbers_under_sgd(name):
    for optimizer in ("sgd", "momentum"):
        setup = changed(parametrization=name, optimizer=optimizer)
        assert layers(learning_rate_factors(setup)) == pytest.approx(SGD[name])
    # A norm gain is an embedding whose multiplier is one: x growth^2(multiplier).
    multiplier = scales(setup).multiplier.embedding
    vector = learning_rate_factors(setup).vector
    assert vector == pytest.approx(SGD[name][0] * multiplier**2)


def test_rates_that_umup_and_lv_prescribe_are_for_adam_alone():
    """Under SGD and Muon they are their gauges with the program's rates."""
    for optimizer, name in itertools.product(("sgd", "muon"), ("umup", "lv")):
        gauge = {"umup": "mfp", "lv": "mup"}[name]
        setup = changed(parametrization=name, optimizer=optimizer)
        assert scales(setup) == scales(dataclasses.replace(setup, parametrization=gauge))
    # Muon's update has a spectral norm of its own: hidden learning rates do not move in SP.
    assert learning_rate_factors(changed(parametrization="sp", optimizer="muon")).hidden == 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("tied", [False, True])
def test_all_parametrizations_coincide_at_the_base_width(optimizer, tied):
    for name in derivations.PARAMETRIZATIONS:
        setup = changed(parametrization=name, optimizer=optimizer, tied=tied, width=64)
        prescribed = scales(setup)
        by_readout = 64**-0.5 if tied else 1
        assert layers(prescribed.multiplier) == pytest.approx((1, 1, by_readout))
        assert layers(prescribed.init_factor) == pytest.approx((1, 1, 1))
        assert layers(prescribed.learning_rate) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("name", ADAM)
def test_a_tied_readout_starts_at_the_size_of_an_untied_one(name):
    free = scales(changed(parametrization=name))
    tied = scales(changed(parametrization=name, tied=True))
    sp_std = 256**-0.5
    assert tied.multiplier.readout * tied.init_factor.embedding == pytest.approx(
        free.multiplier.readout * free.init_factor.readout * sp_std
    )
    assert tied.learning_rate.readout == tied.learning_rate.embedding
    assert tied.init_factor.readout == tied.init_factor.embedding
    assert tied.multiplier.embedding == free.multiplier.embedding
    assert tied.learning_rate.hidden == free.learning_rate.hidden


def test_written_exponents_replace_the_parametrization():
    setup = changed(lr_exponents="1/2,-1,-1/2", init_exponents="-1/2, 0, -1")
    prescribed = scales(setup)
    assert layers(prescribed.learning_rate) == pytest.approx((2, 1 / 4, 1 / 2))
    sizes = zip(layers(prescribed.multiplier), layers(prescribed.init_factor), strict=True)
    weights = [multiplier * init for multiplier, init in sizes]
    assert weights == pytest.approx((1 / 2, 2, 1 / 2))  # over SP: 0, -1/2, -1/2
    assert layers(prescribed.multiplier) == pytest.approx(ADAM["mup"][0])
    assert prescribed.learning_rate.vector == pytest.approx(4)  # 1/2, and mup's multiplier
    with_vector = dataclasses.replace(setup, lr_exponents="1/2,-1,-1/2,-1.5")
    assert learning_rate_factors(with_vector).vector == pytest.approx(1 / 8)


def test_at_changes_the_size_alone():
    assert MLP.at(128, 16) == changed(width=128, vocab_size=16)
    assert_refused("width", lambda: MLP.at(0, 16))
    assert set(LABELS) == {"embedding", "hidden", "readout", "vector"}


def test_defaults_that_depend():
    text = changed(targets="next-token", batch_size=8, vocab_size=300)
    assert (text.output_count, text.loss_name, text.law_name) == (300, "ce", "corpus")
    assert changed(tied=True).output_count == 32
    assert MLP.output_count == 1
    assert MLP.loss_name == "mse"
    assert changed(optimizer="adamw").decay_rate == 0.1
    assert changed(optimizer="adamw", weight_decay=0.0).decay_rate == 0
    assert MLP.decay_rate == 0
    assert (MLP.sequence_length, changed(network="linear").sequence_length) == (1, 1)
    wide = changed(network="transformer", batch_size=64)
    assert wide.sequence_length == 32


@pytest.mark.parametrize(
    "setup",
    [
        MLP,
        NetworkSetup(network="transformer", batch_size=32, lr_exponents="0,-1,-1/2,0.25"),
        NetworkSetup(targets="next-token", batch_size=16, weight_decay=0.5, tokens="corpus:x"),
    ],
)
def test_a_setup_survives_plain_data(setup):
    _ = setup, setup.written_lr_exponents  # what is cached is no part of it
    plain = dataclasses.asdict(setup)
    assert NetworkSetup(**json.loads(json.dumps(plain))) == setup
    assert hash(setup) == hash(NetworkSetup(**plain))


BAD = {
    "readout_lr": (-1e-9, 1e31),
    "network": ("cnn",),
    "width": (0, -1, 1.5, 2**31),
    "vocab_size": (0, 2**31),
    "depth": (0, 1025, 2.0),
    "head_width": (0, 1),
    "context": (0, True),
    "residual": ("maybe", True),
    "activation": ("sine",),
    "normalisation": ("batch",),
    "parametrization": ("MUP", ""),
    "lr_exponents": ("1,2", "a,b,c", "0,1,1/0", "0,0,5", "1e9,0,0", "0,0,0,0,0", "nan,0,0", ""),
    "init_exponents": ("0,0,0,0", "inf,0,0", "0;0;0"),
    "base_width": (0, 0.5),
    "tokens": ("zipf", "uniform:3", "zipf:-1", "\n"),
    "targets": ("text",),
    "target_rank": (-1, 2),
    "outputs": (0, -3, 1.0),
    "loss": ("mae", "ce"),
    "optimizer": ("lion", ""),
    "beta1": (1.0, -0.1, math.nan),
    "beta2": (1.0,),
    "epsilon": (0.0, math.inf),
    "weight_decay": (-0.1, math.nan, math.inf),
    "decay": ("none",),
    "schedule": ("step",),
    "warmup_steps": (-1,),
    "steps": (0, 2**31),
    "batch_size": (-1, 2**31),
    "embedding_lr": (-1.0, math.nan, math.inf),
    "hidden_lr": (-1e-9, 1e31),
    "readout_ratio": (-1.0, math.inf),
    "vector_ratio": (math.nan,),
    "precision": ("float16",),
    "seed": (-1, 2**31),
}


def test_every_wrong_value_is_refused_by_name():
    # All fields but `tied`, whose mistakes are combinations.
    assert set(BAD) | {"tied"} == {field.name for field in dataclasses.fields(NetworkSetup)}
    for field, values in BAD.items():
        for value in values:
            option = "targets" if (field, value) == ("loss", "ce") else field
            assert_refused(option, lambda f=field, v=value: changed(**{f: v}))


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("tied", {"tied": True, "outputs": 3}),
        ("tied", {"tied": True, "network": "linear"}),
        ("batch_size", {"targets": "next-token"}),
        ("loss", {"targets": "next-token", "batch_size": 4, "loss": "mse"}),
        ("tokens", {"targets": "next-token", "batch_size": 4, "tokens": "uniform"}),
        ("outputs", {"targets": "next-token", "batch_size": 4, "outputs": 33}),
        ("outputs", {"targets": "bigram"}),
        ("batch_size", {"network": "transformer"}),
        ("batch_size", {"network": "transformer", "batch_size": 33}),
        ("head_width", {"network": "transformer", "batch_size": 32, "head_width": 24}),
        ("head_width", {"network": "transformer", "batch_size": 32, "width": 9, "head_width": 3}),
    ],
)
def test_combinations_that_mean_nothing(option, values):
    assert_refused(option, lambda: changed(**values))


NUMBERS = st.one_of(st.integers(-5, 2**40), st.floats(), st.sampled_from([2**31, 2**31 - 1]))


@given(
    field=st.sampled_from(
        [name for name, values in BAD.items() if isinstance(values[0], int | float)]
    ),
    value=NUMBERS,
)
def test_any_number_is_taken_or_refused_by_name(field, value):
    error = refusal(lambda: changed(**{field: value}))
    if error is not None:
        assert error.field == field
        assert "\n" not in str(error)
        return
    kept = getattr(changed(**{field: value}), field)
    assert kept == value
    assert math.isfinite(kept)


@given(text=st.one_of(st.text(max_size=12), st.from_regex(r"[-0-9/.e,]{0,20}", fullmatch=True)))
def test_any_exponents_are_taken_or_refused(text):
    error = refusal(lambda: changed(lr_exponents=text))
    if error is None:
        assert all(
            math.isfinite(value) and value > 0
            for value in layers(scales(changed(lr_exponents=text)).learning_rate)
        )
    else:
        assert isinstance(error, InputError)
        assert "\n" not in str(error)
