"""More outputs than the solver has room for: rotated, or sampled in networks of smaller sizes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import derivations
from dynsim import Setup, evaluate, first_step, predict, token_law
from dynsim._targets import targets
from dynsim.theory.mean_field._many_outputs import UPDATES, predict_rotated
from dynsim.theory.mean_field._rotation import can_rotate, rotated
from dynsim.theory.mean_field._similar import similar
from tests.helpers import assert_refused

LARGE = Setup(
    width=1024,
    vocab_size=4096,
    outputs=2048,
    optimizer="sign",
    init="sp",
    embedding_lr=0.02,
    projection_lr=0.01,
    steps=3,
    seed=5,
)


@pytest.mark.parametrize("layer", ["embedding", "projection"])
def test_exact_first_steps_of_similar_networks_are_alike(layer):
    """At the derived rates they differ by a relative 1/width; at the same rates by the sizes."""
    small = similar(LARGE, 256)
    rms = []
    for setup, factors in ((LARGE, (1, 1)), (small, small[5:7])):
        law = token_law("uniform", setup.vocab_size)
        step = first_step(layer, "sign", setup.width, law, outputs=setup_outputs(setup), init="sp")
        factor = factors[("embedding", "projection").index(layer)]
        rms.append(factor * float(step.rms))
    assert rms[1] == pytest.approx(rms[0], rel=1 / small.width)
    if layer == "projection":
        assert rms[1] / small.projection_factor < 0.5 * rms[0]


def setup_outputs(setup) -> int:
    return getattr(setup, "output_count", None) or setup.outputs


def test_a_sample_of_outputs_makes_the_first_step_of_all(quick_compilation):
    """Networks with 32 and 16 outputs against the exact moments at 2048."""
    setup = replace(LARGE, init="mup", steps=2)
    found = predict(setup, output_sample=32, replicas=48)
    law = setup.law()
    exact = {
        "projection_step_rms": ("projection", setup.projection_lr),
        "embedding_update_rms": ("embedding", setup.embedding_lr),
    }
    for name, (layer, rate) in exact.items():
        outputs = setup.output_count if layer == "embedding" else 1
        step = first_step(layer, "sign", setup.width, law, outputs=outputs)
        at = 0 if name == "projection_step_rms" else 1
        assert getattr(found, name)[0, at] == pytest.approx(rate * float(step.rms), rel=0.03)
    start = setup.output_count / 2 * (1 + 1 / setup.width)
    assert found.loss[0, 0] == pytest.approx(start, rel=0.01)
    assert (found.output_sample, found.neurons, found.particles) == (32, 16, 64)
    assert "32 outputs" in repr(found)


def test_few_classes_compete_as_many_do(quick_compilation):
    """A softmax over 512 classes starts at ln 512, whichever number of classes is stepped."""
    setup = Setup(
        width=512,
        vocab_size=512,
        outputs=512,
        targets="onehot",
        optimizer="sign",
        projection_lr=1e-3,
        steps=1,
    )
    found = predict(setup, output_sample=32, replicas=8)
    assert found.loss[0, 0] == pytest.approx(math.log(512), rel=0.01)


def trained(setup: Setup, rows: np.ndarray, projection: np.ndarray, step) -> list[float]:
    """Losses of a network in numpy with these targets and initial projection."""
    embedding = np.random.default_rng(1).standard_normal((setup.vocab_size, setup.width))
    losses = []
    for _ in range(5):
        residual = embedding @ projection.T - rows
        losses.append(0.5 * np.mean(np.sum(residual**2, axis=1)))
        moves = residual @ projection, residual.T @ embedding
        embedding = embedding - 0.02 * step(moves[0])
        projection = projection - 0.02 * step(moves[1])
    return losses


def test_rotated_outputs_train_alike_where_updates_are_linear():
    """Under SGD a network and the same one with rotated outputs; under sign they differ."""
    setup = Setup(width=9, vocab_size=6, outputs=8, target_rank=2, optimizer="sgd")
    rows = targets(setup)
    random = np.random.default_rng(2)
    turn = np.linalg.qr(random.standard_normal((8, 8)))[0]
    start = random.standard_normal((8, 9)) / 9
    plain, turned = (
        [trained(setup, rows @ by, by.T @ start, step) for by in (np.eye(8), turn)]
        for step in (lambda gradient: gradient, np.sign)
    )
    np.testing.assert_allclose(*plain, rtol=1e-10)
    assert np.max(np.abs(np.divide(*turned) - 1)) > 0.01


@pytest.mark.parametrize(("rank", "vocab_size"), [(2, 40), (0, 5), (7, 5)])
def test_rotated_targets_have_the_products_of_the_targets(rank, vocab_size):
    """Few directions, or fewer tokens than outputs."""
    setup = Setup(
        width=512, vocab_size=vocab_size, outputs=30, target_rank=rank, optimizer="momentum"
    )
    parts, rows = rotated(setup), targets(setup)
    few = targets(parts.with_targets)
    kept = min(rank or 30, vocab_size)
    assert few.shape == (vocab_size, kept)
    np.testing.assert_allclose(few @ few.T, rows @ rows.T, atol=1e-10)
    assert not targets(parts.without).any()
    assert (parts.others, parts.effect) == (30 - kept, (30 - kept) / 512)
    assert not can_rotate(replace(setup, optimizer="sign"))
    assert_refused("outputs", lambda: rotated(replace(setup, width=64)), "quarter")


@pytest.mark.slow
def test_rotated_outputs_are_predicted_as_all_of_them(quick_compilation):
    """Where there is room for all outputs: two with targets and four without, which add up."""
    setup = Setup(
        width=4096,
        vocab_size=4096,
        outputs=6,
        target_rank=2,
        optimizer="momentum",
        init="sp",
        embedding_lr=1000.0,
        projection_lr=0.2,
        steps=2,
    )
    solver = partial(predict, particles=128, replicas=4, error_estimate=False, finite_width=False)
    whole, parts = solver(setup), predict_rotated(setup, solver, None)
    assert parts.rotated_outputs == 2
    assert whole.loss[0, 1] < 0.8 * whole.loss[0, 0]
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=0.1)
    for name in UPDATES:
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=0.1, atol=1e-9)
    assert_errors_are_those_of_parts_that_err_together(
        setup, solver(replace(setup, outputs=1, target_rank=0))
    )


def assert_errors_are_those_of_parts_that_err_together(setup, part):
    """Six outputs of which each errs by the same, and in the same direction, as one does."""
    errors = {f"{name}_error": 0.01 * getattr(part, name) for name in UPDATES}
    given = replace(part, loss_error=0.01 * part.loss, **errors)

    def solver(setup, progress):
        loss, error = (setup.output_count * one for one in (given.loss, given.loss_error))
        return replace(given, setup=setup, loss=loss, loss_error=error)

    found = predict_rotated(setup, solver, None)
    np.testing.assert_allclose(found.loss_error, 0.01 * found.loss)
    for name in UPDATES:
        alike = 0.01 * getattr(found, name)
        np.testing.assert_allclose(getattr(found, f"{name}_error"), alike, atol=1e-9)


@pytest.mark.parametrize(
    ("field", "changes", "sample"),
    [
        ("output_sample", {}, 34),
        ("output_sample", {}, 2048),
        ("output_sample", {"width": 1021}, 32),
        ("tokens", {"tokens": "zipf:1"}, 32),
        ("target_rank", {"target_rank": 3}, 32),
        ("targets", {"targets": "bigram", "tokens": "corpus"}, 32),
        ("init", {"targets": "onehot"}, 32),
        ("epsilon", {"optimizer": "adam", "epsilon": 1e-5}, 32),
    ],
)
def test_what_a_sample_does_not_stand_for_is_refused(field, changes, sample):
    setup = replace(LARGE, **changes)
    assert_refused(field, lambda: predict(setup, output_sample=sample))


def test_the_wall_is_refused_and_the_way_on_is_named():
    setup = replace(LARGE, steps=5)
    assert_refused("steps", lambda: predict(setup), "--output-sample")
    assert_refused("particles", lambda: predict(setup, output_sample=32, particles=64))
    rate = derivations.similar_rate("embedding", "one-output", "proportional")
    assert float(evaluate(rate, {derivations.size_ratio: 3.0})) == pytest.approx(9)
