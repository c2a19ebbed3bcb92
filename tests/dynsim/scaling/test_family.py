"""Families: one setup a size, with what follows from the paths, and errors that name the size."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from helpers import assert_refused

from dynsim import Setup
from dynsim.laboratory import NetworkSetup
from dynsim.scaling import family

SIZES = [128, 256, 512]


def test_sizes_and_rates_follow_the_growing_size():
    one = family(
        "width",
        np.array(SIZES),
        vocab_size="d^2/8",
        batch_size="4*m",
        outputs="sqrt(B/d)",
        embedding_lr="0.03*d^(-1/2)",
        optimizer="sign",
    )
    assert one.setup(128) == Setup(
        width=128,
        vocab_size=2048,
        batch_size=8192,
        outputs=8,
        embedding_lr=0.03 * 128**-0.5,
        optimizer="sign",
        steps=2,  # one update, and the state after it
    )
    assert one.values(256) == {"d": 256, "m": 8192, "B": 32768, "n": 11}
    orders = {"width": 1, "vocab_size": 2, "batch_size": 2, "outputs": Fraction(1, 2)}
    rates = {"embedding_lr": Fraction(-1, 2), "projection_lr": 0}
    assert {name: one.order(name) for name in (*orders, *rates)} == orders | rates
    assert family("width", SIZES, **{**one.options, **one.paths}).setups() == one.setups()


@pytest.mark.parametrize(
    ("along", "field"),
    [
        ("vocab_size", "vocab_size"),
        ("batch_size", "batch_size"),
        ("outputs", "outputs"),
        ("steps", "steps"),
    ],
)
def test_any_size_may_grow(along, field):
    one = family(along, [4, 8], width=16)
    grown = [getattr(setup, field) - (along == "steps") for setup in one.setups()]
    assert grown == [4, 8]
    assert [one.updates(size) for size in (4, 8)] == ([4, 8] if along == "steps" else [1, 1])
    assert one.order(along) == 1
    assert one.order("width") == 0


def test_outputs_that_are_tokens_grow_with_them():
    one = family(
        "width",
        [16, 32],
        network="mlp",
        tied=True,
        vocab_size="d^2",
        steps="n",
        embedding_lr="1/n",
    )
    assert isinstance(one.setup(16), NetworkSetup)
    assert one.order("outputs") == one.order("vocab_size") == 2
    assert one.updates(16) == 256
    assert one.setup(16).embedding_lr == 1 / 256


def test_rounding_is_said():
    one = family("width", SIZES, vocab_size="d^0.7", batch_size="d/2")
    assert [setup.vocab_size for setup in one.setups()] == [30, 49, 79]
    assert one.rounded == (
        "`vocab_size` d^0.7 is 29.8571 at `width` 128, and no integer at 2 more: rounded to the "
        "nearest integer",
    )
    assert family("width", SIZES, vocab_size="sqrt(d^4)").rounded == ()


@pytest.mark.parametrize(
    ("field", "options", "fragments"),
    [
        ("vocab_size", {"vocab_size": "d^4/16"}, ["d^4/16 = 4.29497e+09: ", "(at --width 512)"]),
        ("vocab_size", {"vocab_size": "d/1000"}, ["d/1000 = 0.128: ", "1 when it is rounded"]),
        # 0 would be the full batch
        ("batch_size", {"batch_size": "d/1000"}, ["0.128", "(at --width 128)"]),
        ("steps", {"steps": 0}, ["at least 1"]),
        ("embedding_lr", {"embedding_lr": "((d^8)^8)^8"}, ["((d^8)^8)^8 = inf: must be finite"]),
        ("embedding_lr", {"embedding_lr": "d^8*d^8"}, ["= 5.1923e+33", "1e30 (at --width 128)"]),
        ("vocab_size", {"vocab_size": "n", "outputs": "m"}, ["itself through --outputs"]),
        ("vocab_size", {"vocab_size": "m"}, ["must not depend on itself"]),
        ("vocab_size", {"vocab_size": "4*B"}, ["needs a positive --batch-size for its B"]),
        ("embedding_lr", {"embedding_lr": "1/B"}, ["needs a positive --batch-size for its B"]),
        ("outputs", {"outputs": 300, "targets": "bigram", "vocab_size": "d"}, ["(at --width 128)"]),
        (
            "head_width",
            {"network": "transformer", "head_width": 256, "batch_size": 32},
            ["(at --width 128)"],
        ),
        ("vocab_sizes", {"vocab_sizes": [1, 2]}, ["nearest", "vocab_size"]),
        ("widht", {"widht": 3}, ["the nearest are width"]),
        ("width", {"width": 3}, ["--widths gives its values"]),
        ("vocab_size", {"vocab_size": "d^-1/2"}, ["write d^(-1/2)"]),
    ],
)
def test_an_error_says_what_fails_and_where(field, options, fragments):
    assert_refused(field, lambda: family("width", SIZES, **options), *fragments)


def test_an_error_that_no_size_makes_names_none():
    with pytest.raises(ValueError, match="must be one of") as caught:
        family("width", SIZES, optimizer="adm")
    assert "(at" not in str(caught.value)


@pytest.mark.parametrize(
    "sizes", [[], [128], [256, 128], [128, 128], 5, "12", [0, 1], [1.5, 2], [True, 2]]
)
def test_sizes_are_two_or_more_and_increase(sizes):
    assert_refused("widths", lambda: family("width", sizes), "must")


def test_other_sizes_of_the_same_family():
    one = family("width", SIZES, vocab_size="4*d")
    assert one.at([64, 2048]).setup(64).vocab_size == 256
    assert one.described() == {"widths": SIZES, "steps": "1", "vocab_size": "4*d"}
