"""First-step values: what they were computed for, how they print, and bad input."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import assert_refused

from dynsim import first_step, optimal_learning_rates, token_law
from dynsim.theory import (
    batch_effective_vocab_size,
    coherence,
    crossover_rank,
    self_term_rms,
    visit_chance,
)

LAW = token_law("zipf:1", 64)


def test_a_first_step_says_what_it_is_of():
    step = first_step("projection", "sign", [8, 16], LAW, rank=2)
    assert (step.layer, step.optimizer, step.rank, step.batch_size) == ("projection", "sign", 2, 0)
    assert step.law is LAW
    np.testing.assert_array_equal(step.width, [8, 16])
    lines = repr(step).splitlines()
    assert lines[0] == "First step of the projection layer by sign, at LR = 1"
    assert {"  width: [8, 16]", "  law: zipf:1, 64 token types", "  rank: 2"} <= set(lines)
    assert "  batch_size: all tokens" in lines


@pytest.mark.parametrize("self_term", [False, True])
def test_optimal_rates_have_names(self_term):
    rates = optimal_learning_rates([8, 16], LAW, init="mup", self_term=self_term)
    embedding, projection = rates
    assert rates.embedding is embedding
    assert rates.projection is projection


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("layer", {"layer": "x"}),
        ("optimizer", {"optimizer": "adamw"}),
        ("init", {"init": "x"}),
        ("width", {"width": 0.0}),
        ("width", {"width": [8, math.nan]}),
        ("width", {"width": "wide"}),
        ("law", {"law": "zipf:1"}),
        ("batch_size", {"batch_size": -1}),
        ("rank", {"rank": 65}),
    ],
)
def test_a_first_step_refuses(field, change):
    given: dict[str, Any] = {"layer": "projection", "optimizer": "sign", "width": 8, "law": LAW}
    assert_refused(field, partial(first_step, **(given | change)))


def test_the_other_functions_refuse():
    names: Any = "x"
    assert_refused("init", lambda: optimal_learning_rates(8, LAW, init=names))
    assert_refused("targets", lambda: optimal_learning_rates(8, LAW, init="mup", targets="onehot"))
    assert_refused("width", lambda: optimal_learning_rates(-8, LAW, init="mup"))
    assert_refused("init", lambda: self_term_rms(8, LAW, init=names))
    assert_refused("batch_size", lambda: visit_chance(LAW, -1))
    assert_refused("rank", lambda: visit_chance(LAW, 4, rank=65))
    assert_refused("batch_size", lambda: batch_effective_vocab_size(LAW, 0))
    assert_refused("width", lambda: coherence(0, LAW))
    assert_refused("law", lambda: crossover_rank(8, names))
