"""Mean-field solutions that compile sooner: the numbers of the others, from one program."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from helpers import assert_refused

from dynsim import InputError, Setup, predict
from dynsim.laboratory import NetworkSetup
from dynsim.theory.mean_field import _compiling, _quick
from dynsim.theory.mean_field._quick import (
    COLUMNS,
    begin_prediction,
    quick_means,
    quick_predictions,
)
from dynsim.theory.mean_field._replicas import solutions
from dynsim.theory.mean_field._sampling import (
    even_normals,
    few_even_normals,
    normals_at,
    normals_of_few,
)
from dynsim.theory.mean_field._solver import solve

pytestmark = pytest.mark.usefixtures("quick_compilation")

SETUP = Setup(width=64, vocab_size=100, steps=4, embedding_lr=0.3, projection_lr=0.2)
LINEAR = {"network": "mlp", "activation": "identity", "normalisation": "none"}
HIDDEN = NetworkSetup(width=64, depth=1, vocab_size=20, steps=2, **LINEAR)
PARTICLES, REPLICAS = 128, 8


def both(monkeypatch, setup):
    """By the quick program, and by the usual one: replicas side by side, normals of JAX."""

    def usual(setup, model, plan, particles, sampling, report, _solver):
        plan = plan._replace(transposed=True, in_turn=False)
        sampling = sampling._replace(few=False)
        return solutions(setup, model, plan, particles, sampling, report, solve)

    (quick,) = quick_predictions([setup], particles=PARTICLES, replicas=REPLICAS)
    monkeypatch.setattr(_quick, "solutions", usual)
    (slow,) = quick_predictions([setup], particles=PARTICLES, replicas=REPLICAS)
    return quick, slow


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "sign", "steps": 2}, {"batch_size": 64, "tokens": "zipf:1.0"}],
    ids=["gradient descent", "one step of signs", "batches"],
)
def test_the_numbers_are_those_of_the_usual_program(monkeypatch, changes):
    quick, slow = both(monkeypatch, replace(SETUP, **changes))
    for name in COLUMNS:
        np.testing.assert_allclose(quick.values[name], slow.values[name], 1e-9, 1e-12)
        np.testing.assert_allclose(quick.errors[name], slow.errors[name], 1e-6, 1e-9)


def test_of_several_outputs_they_may_be_another_sample(monkeypatch):
    """Orthogonal directions of several vectors are turned by rounding."""
    quick, slow = both(monkeypatch, replace(SETUP, outputs=2))
    for name in COLUMNS:
        error = np.hypot(quick.errors[name], slow.errors[name])
        assert (np.abs(quick.values[name] - slow.values[name]) <= 4 * error).all(), name
        assert (error <= 0.2 * slow.values[name]).all(), name


@pytest.mark.parametrize("in_turn", [0, np.inf], ids=["side by side", "in turn"])
@pytest.mark.parametrize(
    "setup",
    [SETUP, HIDDEN],
    ids=["linear model", "hidden layer"],
)
def test_means_at_learning_rates_are_those_of_predict(monkeypatch, setup, in_turn):
    """At more rates than one call takes, and one layer of them frozen."""
    monkeypatch.setattr(_quick, "IN_TURN", in_turn)
    rates, second = np.array([0.0, 0.1, 0.2, 0.4, 0.8]), np.array([0.01, 0.0, 0.02, 0.03, 0.04])
    quick = quick_means(setup, rates, second, particles=PARTICLES, replicas=3)
    name = "projection_lrs" if isinstance(setup, Setup) else "hidden_lrs"
    usual = predict(
        setup,
        particles=PARTICLES,
        replicas=3,
        embedding_lrs=rates,
        error_estimate=False,
        finite_width=False,
        **{name: second},
    )
    assert quick.shape[:2] == (5, setup.steps)
    np.testing.assert_allclose(quick[..., 0], usual.loss, rtol=1e-8)
    if usual.hidden_update_rms is not None:
        np.testing.assert_allclose(quick[..., 4:], usual.hidden_update_rms**2, 1e-8, 1e-12)
    for place, name in enumerate(COLUMNS[1:], 1):
        np.testing.assert_allclose(quick[..., place], getattr(usual, name) ** 2, 1e-8, 1e-12)


def test_all_sizes_and_replicas_share_a_program(monkeypatch):
    monkeypatch.setattr(_compiling, "_programs", {})
    traces = solve.traces
    setups = [
        replace(SETUP, width=width, vocab_size=number)
        for width, number in ((64, 200), (128, 900), (4096, 10**6))
    ]
    quick_predictions(setups, particles=64, replicas=4)
    assert len(_compiling._programs) == 1
    assert solve.traces == traces + 1


def test_a_program_that_was_begun_is_the_one_that_solves(monkeypatch):
    (expected,) = quick_predictions([SETUP])
    monkeypatch.setattr(_compiling, "_programs", {})
    begin_prediction(SETUP)
    programs = dict(_compiling._programs)
    assert len(programs) == 1
    (found,) = quick_predictions([replace(SETUP, width=128, vocab_size=50)])
    (found,) = quick_predictions([SETUP])
    assert _compiling._programs == programs
    for name in COLUMNS:
        np.testing.assert_array_equal(found.values[name], expected.values[name])


def test_what_is_refused_is_refused_when_it_is_begun():
    with pytest.raises(InputError, match="outputs"):
        begin_prediction(replace(SETUP, outputs=128, steps=128))


def test_a_program_that_could_not_be_compiled_is_tried_again(monkeypatch):
    monkeypatch.setattr(_compiling, "_programs", {})
    compiled, failures = _compiling._compiled_soon, [MemoryError("none is left")]

    def once_without_memory(lowered, in_turn):
        if failures:
            raise failures.pop()
        return compiled(lowered, in_turn)

    monkeypatch.setattr(_compiling, "_compiled_soon", once_without_memory)
    options = {"particles": 64, "replicas": 4}
    with pytest.raises(MemoryError):
        quick_predictions([SETUP], **options)
    assert np.isfinite(quick_predictions([SETUP], **options)[0].values["loss"]).all()


def test_threads_that_need_a_program_share_it(monkeypatch):
    monkeypatch.setattr(_compiling, "_programs", {})
    compiled, number = _compiling._compiled_soon, []

    def counted(lowered, in_turn):
        number.append(1)
        return compiled(lowered, in_turn)

    monkeypatch.setattr(_compiling, "_compiled_soon", counted)
    setups = [replace(SETUP, width=width) for width in (32, 64, 128)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda one: quick_predictions([one], particles=64), setups))
    assert len(number) == 1
    for one, (found,) in zip(setups, together, strict=True):
        (alone,) = quick_predictions([one], particles=64)
        np.testing.assert_array_equal(found.values["loss"], alone.values["loss"])


@pytest.mark.parametrize(
    ("particles", "replicas", "named"), [(8, 2, "particles"), (PARTICLES, 1, "replicas")]
)
def test_means_are_refused_as_predictions_are(particles, replicas, named):
    rates, options = ([0.1], [0.01]), {"particles": particles, "replicas": replicas}
    assert_refused(named, lambda: quick_means(SETUP, *rates, **options))
    assert_refused(named, lambda: predict(SETUP, **options))


def test_an_option_that_xla_does_not_know_is_done_without(monkeypatch):
    (before,) = quick_predictions([SETUP], particles=64, replicas=4)
    monkeypatch.setattr(_compiling, "SOONER", {"xla_of_another_version": True})
    monkeypatch.setattr(_compiling, "_programs", {})
    (after,) = quick_predictions([SETUP], particles=64, replicas=4)
    assert len(_compiling._programs) == 1
    for name in COLUMNS:
        np.testing.assert_allclose(after.values[name], before.values[name], rtol=1e-9)


def test_normals_of_few_points_are_those_of_the_compiled_program(random):
    points = np.concatenate([random.random(1000), [0.0, 1e-15, 0.5, 1 - 1e-15, 1.0]])
    np.testing.assert_allclose(normals_of_few(points), normals_at(points), rtol=1e-12, atol=1e-15)
    shifts = random.random((3, 2))
    found = few_even_normals(shifts, 100)
    assert found.shape == (3, 100, 2)
    np.testing.assert_allclose(found, even_normals(shifts, 100), rtol=1e-9, atol=1e-12)
