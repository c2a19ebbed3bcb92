"""Mean-field dynamics against finite networks, exact first steps and a closed Gram recursion."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close_curves, assert_refused, without_64_bit_types
from scipy.stats import kstest

import dynsim
from dynsim import Setup, train
from dynsim._outcome import OK, Status
from dynsim.theory.mean_field import _accuracy, _replicas
from dynsim.theory.mean_field._conditioning import split
from dynsim.theory.mean_field._particles import batch_shares, token_particles
from dynsim.theory.mean_field._predict import predict
from dynsim.theory.mean_field._sampling import stratified_points
from dynsim.theory.mean_field._solver import solve

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIGN = Setup(
    optimizer="sign",
    width=256,
    vocab_size=256,
    steps=12,
    embedding_lr=0.02,
    projection_lr=0.02,
    init="sp",
)
SETUPS = {
    "sign": (SIGN, 200),
    "sign of many tokens": (
        Setup(
            optimizer="sign",
            width=128,
            vocab_size=2048,
            steps=12,
            embedding_lr=0.02,
            projection_lr=0.02,
        ),
        32,
    ),
    "cross-entropy on zipf": (
        Setup(
            optimizer="sign",
            width=512,
            vocab_size=2048,
            tokens="zipf:1.0",
            outputs=4,
            loss="ce",
            targets="onehot",
            steps=12,
            embedding_lr=0.015,
            projection_lr=0.005,
        ),
        32,
    ),
    "adam in mini-batches": (
        Setup(
            width=128,
            vocab_size=1024,
            tokens="zipf:0.8",
            outputs=2,
            optimizer="adam",
            batch_size=256,
            steps=10,
            embedding_lr=0.03,
            projection_lr=0.04,
        ),
        48,
    ),
}


UPDATES = ("projection_update_rms", "embedding_update_rms", "projection_step_rms")
QUICK = {"particles": 512, "replicas": 12, "error_estimate": False}
LIMIT = {**QUICK, "finite_width": False}
TINY = {"particles": 128, "replicas": 2, "error_estimate": False, "finite_width": False}


@cache
def trained(name):
    return train(*SETUPS[name])


def gap(prediction, training):
    """Largest distance of the loss curves beyond two standard errors, over the initial loss."""
    losses = training.loss[0]
    error = losses.std(axis=0, ddof=1) / np.sqrt(len(losses))
    error = np.hypot(error, prediction.loss_error[0])
    distance = np.abs(prediction.loss[0] - losses.mean(axis=0)) - 2 * error
    return max(0.0, float(distance.max() / losses[:, 0].mean()))


def rms_gap(prediction, training, name):
    """Distance of an update RMS beyond two standard errors over the curve, relative to its size."""
    ours, squares = getattr(prediction, name)[0], getattr(training, name)[0] ** 2
    theirs = np.sqrt(squares.mean(axis=0))
    error = squares.std(axis=0, ddof=1) / np.sqrt(len(squares)) / np.maximum(2 * theirs, 1e-300)
    excess = np.maximum(np.abs(ours - theirs) - 2 * error, 0)
    return float(np.linalg.norm(excess) / np.linalg.norm(theirs))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETUPS)
def test_agrees_with_finite_networks(name):
    prediction, training = predict(SETUPS[name][0], **QUICK), trained(name)
    assert prediction.loss[0, -1] < 0.7 * prediction.loss[0, 0], "nothing was learned"
    assert gap(prediction, training) < 0.015
    for update in UPDATES:
        assert rms_gap(prediction, training, update) < 0.03


@pytest.mark.slow
def test_without_responses_it_disagrees():
    """Negative control: the fresh fields alone are not the theory."""
    prediction = predict(SIGN, responses=False, **LIMIT)
    assert gap(prediction, trained("sign")) > 0.1


@pytest.mark.slow
def test_few_neurons_are_a_finite_network():
    """At width 8 the correction is no small one, and exact: as many neurons, all tokens."""
    setup = replace(SIGN, width=8, vocab_size=16, steps=6, embedding_lr=0.1, projection_lr=0.1)
    prediction = predict(setup, particles=128, replicas=200, error_estimate=False)
    training = train(setup, 2000)
    assert gap(prediction, training) < 0.002
    for name in UPDATES:
        assert rms_gap(prediction, training, name) < 0.01
    limit = replace(prediction, loss=prediction.loss - prediction.finite_width_correction)
    assert gap(limit, training) > 0.01


DECAYING = {
    "momentum": {"beta1": 0.6, "projection_lr": 0.1, "embedding_lr": 2e3},
    "smoothed-sign": {"epsilon": 1e-4, "projection_lr": 0.02, "embedding_lr": 0.03},
    "adam": {"beta1": 0.5, "beta2": 0.9, "projection_lr": 0.02, "embedding_lr": 0.03},
}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", DECAYING)
def test_decay_and_schedules_agree_with_finite_networks(optimizer):
    fields = {"steps": 8, "weight_decay": 3.0, "schedule": "cosine", "warmup_steps": 3}
    if optimizer == "momentum":
        fields["weight_decay"] = 5e-5  # times the embedding's learning rate
    setup = Setup(width=256, vocab_size=1024, optimizer=optimizer, **fields, **DECAYING[optimizer])
    prediction, training = predict(setup, **LIMIT), train(setup, 32)
    assert prediction.loss[0, -1] < 0.8 * prediction.loss[0, 0], "nothing was learned"
    assert gap(prediction, training) < 0.01
    for name in UPDATES:
        assert rms_gap(prediction, training, name) < 0.02
    for field in ("weight_decay", "schedule"):
        other = predict(replace(setup, **{field: getattr(Setup(), field)}), **LIMIT)
        assert max(rms_gap(other, training, name) for name in UPDATES) > 0.03, field


@pytest.mark.parametrize(("vocab_size", "tokens"), [(4096, "uniform"), (16384, "uniform")])
def test_first_step_has_the_self_term(vocab_size, tokens):
    """SP, m = d and 4 d: sqrt of the exact second moment, which contains kappa."""
    setup = Setup(
        optimizer="sign",
        width=4096,
        vocab_size=vocab_size,
        tokens=tokens,
        init="sp",
        steps=12,
        embedding_lr=0,
        projection_lr=1.0,
    )
    kappa, expected = dynsim.theory.self_term_rms(4096, setup.law(), init="sp")
    found = predict(setup, **QUICK).projection_update_rms[0, 1]
    without = dynsim.first_step("projection", "sign", 4096, setup.law(), init="sp").rms
    assert float(kappa) > 0.5
    assert abs(found / float(expected) - 1) < 0.01
    assert abs(found / float(without) - 1) > 0.03, "the self term is not resolved"


GRAMS = Setup(
    width=10**9,
    vocab_size=12,
    outputs=2,
    optimizer="sgd",
    steps=15,
    embedding_lr=2e9,
    projection_lr=2e-9,
)


def gram_recursion(setup, frequencies, targets):
    """Losses of gradient descent in infinite width from F = E W^T, G_E = E E^T, G_W = W W^T."""
    f = np.zeros_like(targets)
    by_embedding = setup.width * np.eye(len(targets))
    by_projection = setup.width * setup.projection_std**2 * np.eye(targets.shape[1])
    a, b = setup.embedding_lr, setup.projection_lr
    losses = []
    for _ in range(setup.steps):
        losses.append(0.5 * frequencies @ np.sum((f - targets) ** 2, axis=1))
        r = frequencies[:, None] * (f - targets)
        turn_e, turn_w = a * r @ f.T, b * r.T @ f
        step_e = by_embedding - turn_e - turn_e.T + a**2 * r @ by_projection @ r.T
        step_w = by_projection - turn_w - turn_w.T + b**2 * r.T @ by_embedding @ r
        f = f - b * by_embedding @ r - a * r @ by_projection + a * b * r @ f.T @ r
        by_embedding, by_projection = step_e, step_w
    return np.asarray(losses)


@pytest.mark.parametrize("tokens", ["uniform", "zipf:1.0"])
def test_gradient_descent_at_fixed_vocabulary_closes_in_grams(tokens):
    """d to infinity at fixed m: no Gaussian is left, and few particles are exact."""
    setup = replace(GRAMS, tokens=tokens)
    exact = gram_recursion(setup, setup.law().frequencies, dynsim.targets(setup))
    assert exact[-1] < 0.2 * exact[0]
    prediction = predict(setup, **TINY)
    assert_close_curves(prediction.loss[0], exact, 2e-3)
    slower = replace(setup, embedding_lr=0.0)
    other = gram_recursion(slower, setup.law().frequencies, dynsim.targets(setup))
    assert np.max(np.abs(prediction.loss[0] / other - 1)) > 0.1


@pytest.mark.slow
def test_an_accuracy_is_met_and_said():
    """At fixed vocabulary the limit is known exactly; elsewhere a far better solution stands in."""
    exact = gram_recursion(GRAMS, GRAMS.law().frequencies, dynsim.targets(GRAMS))
    closed = predict(GRAMS)
    assert_close_curves(closed.loss[0, :7], exact[:7], 5e-4)
    assert_close_curves(closed.loss[0], exact, 1e-2)  # down to 1e-9 of the initial loss
    assert closed.accuracy == 0.01
    assert closed.accuracy_reached < 0.002
    setup = replace(SIGN, vocab_size=1024, steps=6)
    best = predict(setup, particles=1024, replicas=24, error_estimate=False)
    for accuracy in (0.2, 0.02):
        found = predict(setup, accuracy=accuracy)
        assert found.outcome == (OK,)
        # A standard error, of which the worst of the steps may be off by more than one.
        assert 0 < found.accuracy_reached <= accuracy / 1.2
        assert found.accuracy == accuracy
        distance = np.abs(found.loss - best.loss)[0] / best.loss[0, 0]
        assert np.max(distance - 3 * (best.loss_error / best.loss[0, 0])[0]) < 3 * accuracy
        if accuracy == 0.2:
            assert found.replicas == 6
    assert found.replicas > 12
    assert "of the initial loss" in repr(found)


@pytest.mark.parametrize(
    ("kind", "close", "left"), [("float32", 1e-5, 1e-5), ("float64", 1e-9, 1e-4)]
)
def test_directions_stay_orthonormal_where_little_is_new(kind, close, left, random):
    """Of vectors that hardly turn, and whose columns differ in size by far.

    In double precision a direction is new beside the longest column, in single in its own.
    """
    particles, columns, steps = 300, 2, 40
    metric = random.uniform(0.1, 10, particles)
    weights = np.sqrt(metric)[:, None]
    basis = np.zeros((particles, columns * steps), kind)
    start, *turns = random.standard_normal((4, particles, columns)) / weights
    apart, lost = np.eye(columns * steps), []
    for step in range(steps):
        age = 1e-3 * step
        vectors = start + age * turns[0] + age**2 * turns[1] + age**3 * turns[2]
        vectors = vectors * [1, 1e-5]
        found = split(*map(jnp.asarray, (vectors, basis, metric)))
        old, fresh, root = map(np.asarray, found)
        made = basis @ old + fresh @ root
        sizes = np.linalg.norm(weights * vectors, axis=0)
        lost.append(np.linalg.norm(weights * (vectors - made), axis=0) / sizes)
        basis[:, columns * step : columns * (step + 1)] = fresh
    gram = basis.T.astype(float) @ (metric[:, None] * basis)
    used = np.diag(gram) > 0.5
    assert used.sum() >= 3 * columns
    assert np.max(np.abs(gram - apart)[np.ix_(used, used)]) < close
    assert np.max(np.abs(gram[~used])) == 0
    assert np.max(lost) < left


def test_the_vocabulary_takes_no_memory():
    """A list of these types would take a GiB."""
    small, large = (replace(SIGN, vocab_size=size, steps=2) for size in (2**12, 2**27))
    predict(small, **TINY)  # compiles
    tracemalloc.start()
    found = predict(large, **TINY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.all(np.isfinite(found.loss))
    assert peak < 2**27


def test_a_sweep_shares_its_program_and_its_random_numbers(monkeypatch):
    """Of a prediction that chooses its own numbers; rates of zero train nothing."""
    setup = replace(SIGN, vocab_size=4096, steps=4, outputs=3)
    draws, blocks = [], _replicas._random_numbers

    def counted(*arguments):
        draws.append(arguments[-1])
        return blocks(*arguments)

    monkeypatch.setattr(_replicas, "_random_numbers", counted)
    alone = predict(setup, accuracy=0.5)
    of_one, traces = len(draws), solve.traces
    rates = {"embedding_lrs": [0.0, setup.embedding_lr, 1e-9], "projection_lrs": [0.0, 0.03, 1e-9]}
    several = predict(setup, accuracy=0.5, **rates)
    assert solve.traces <= traces + 1
    assert len(draws) == 2 * of_one
    assert several.replicas == alone.replicas == 6
    # The same task and the same draws: where nothing is learned the losses agree.
    np.testing.assert_allclose(several.loss[:, 0], alone.loss[0, 0], rtol=1e-6)
    np.testing.assert_allclose(several.loss[0], several.loss[2], rtol=1e-4)


def test_the_time_left_is_told_from_the_solutions_at_hand(monkeypatch, random):
    """Where thousands of replicas are needed, the progress in their middle says how many are left.

    Losses scatter by chance here; nothing is solved.
    """
    solved, seen = [0], []

    def scattered(setup, model, plan, particles, sampling, report, solver):
        shape = 1, sampling.replicas, plan.steps, 4
        solved[0] += sampling.replicas
        report(1.0)
        return 1 + 0.1 * random.standard_normal(shape), np.zeros(1)

    def progress(part):
        seen.append((solved[0], part))

    monkeypatch.setattr(_accuracy, "solutions", scattered)
    monkeypatch.setattr(_accuracy, "compiling", lambda *_: None)
    found = predict(replace(SIGN, vocab_size=4096), accuracy=0.01, progress=progress)
    assert found.replicas > 300
    numbers, done = np.transpose(seen)
    done = np.cumsum(done)
    assert done[-1] == pytest.approx(1)
    total, first = numbers[-1], np.searchsorted(numbers, 20)
    middle = np.searchsorted(numbers, (numbers[first] + total) / 2)
    per_solution = (done[middle] - done[first]) / (numbers[middle] - numbers[first])
    left = (1 - done[middle]) / per_solution
    assert 0.6 < left / (total - numbers[middle]) < 1.7


def test_chance_is_no_bias():
    """Replicas that differ by chance alone, at many steps; and a change that is there."""
    random = np.random.default_rng(0)
    sizes = _accuracy.Particles(2048, 512, 1024, 256)
    found = []
    for shift in (0.0, 0.5):
        limit = 1 + 0.01 * random.standard_normal((200, 4, 30, 1))
        fewer = 1 + shift + 0.01 * math.sqrt(2) * random.standard_normal((200, 2, 30, 1))
        change = limit[:, :2] - fewer
        chance = _accuracy._chance(sizes, limit, change)
        beyond = np.abs(change.mean(axis=1)) > _accuracy.BEYOND_CHANCE * chance
        found.append(np.mean(beyond.any(axis=(1, 2))))
    assert found[0] < 0.1
    assert found[1] == 1
    limit[:, :, 20:] = np.nan  # a rate that diverges has errors until it does
    chance = _accuracy._chance(sizes, limit, change)
    assert np.isfinite(chance[:, :20]).all()
    assert np.isnan(chance[:, 20:]).all()


@pytest.mark.slow
def test_one_compilation_serves_all_sizes_and_rates():
    small = replace(SIGN, width=64, vocab_size=40, tokens="zipf:1.0")
    large = replace(small, width=16384, vocab_size=10**6, tokens="uniform", init="mup")
    predict(small, **TINY)
    compiled = solve.traces
    for setup in (large, replace(large, embedding_lr=0.3, projection_lr=1e-4, seed=5)):
        predict(setup, **TINY)
    predict(small, embedding_lrs=[0.1, 0.2], **TINY)
    assert solve.traces == compiled
    predict(replace(small, steps=13), **TINY)
    assert solve.traces == compiled + 1


@pytest.mark.slow
def test_error_estimates_are_honest():
    """Deviations from a far better solution are about as large as stated, neither way off."""
    scores = []
    updates = {name: [] for name in UPDATES}
    for vocab_size in (64, 4096):
        setup = replace(SIGN, vocab_size=vocab_size, init="mup", projection_lr=0.01)
        best = predict(setup, **{**LIMIT, "particles": 1024, "replicas": 24})
        rough = predict(setup, particles=512, replicas=8, finite_width=False)
        error = np.hypot(rough.loss_error, best.loss_error)
        scores.append((rough.loss - best.loss)[0, 1:] / error[0, 1:])
        for name, found in updates.items():
            error = np.hypot(getattr(rough, name + "_error"), getattr(best, name + "_error"))
            change = getattr(rough, name) - getattr(best, name)
            found.append(change[0, 1:] / error[0, 1:])
    size = float(np.sqrt(np.mean(np.square(scores))))
    assert 0.3 < size < 2.0, f"errors are off by a factor of {size:.2f}"
    for name, found in updates.items():
        size = float(np.sqrt(np.mean(np.square(found))))
        assert 0.1 < size < 4, f"errors of {name} are off by a factor of {size:.2f}"


def test_a_sweep_is_its_single_runs():
    rates = np.asarray([0.01, 0.02, 0.1])
    sweep = predict(SIGN, embedding_lrs=rates, **TINY)
    assert sweep.loss.shape == (3, SIGN.steps)
    single = predict(replace(SIGN, embedding_lr=0.1), **TINY)
    assert_close_curves(sweep.loss[2], single.loss[0], 1e-9)
    assert len(sweep.outcome) == 3
    lines = repr(sweep).splitlines()
    assert lines[0] == "Mean-field prediction"
    assert "  embedding_lrs: [0.01, 0.02, 0.1]" in lines
    assert len(lines) < 20
    pieces = predict(SIGN, embedding_lrs=rates, memory_gb=1e-9, **TINY)
    assert_close_curves(pieces.loss, sweep.loss, 1e-9)


def test_few_tokens_take_few_particles():
    """The same prediction, from fewer particles and more replicas."""
    setup = replace(SIGN, vocab_size=16, steps=6)
    few = predict(setup, particles=512, error_estimate=False, finite_width=False)
    assert few.replicas == 128
    assert np.max(few.loss_error) < 0.01
    assert predict(replace(SIGN, vocab_size=512), **TINY).replicas == 2


def test_draws_are_normal_one_by_one_and_stratified_together(random):
    points = stratified_points(random, 8, (4000, 2))
    assert points.shape == (8, 4000, 2)
    for draw in points:
        assert kstest(draw.ravel(), "uniform").pvalue > 1e-4
    sizes = np.sort(2 * np.abs(points - 0.5), axis=0)
    assert np.all(np.floor(8 * sizes) == np.arange(8)[:, None, None])


def test_divergence_and_rough_answers_are_said():
    wild = replace(GRAMS, width=256, embedding_lr=1e6, projection_lr=1e6)
    prediction = predict(wild, **TINY)
    assert prediction.diverged.all()
    assert prediction.outcome[0].status is Status.DIVERGED
    assert str(prediction.outcome[0]).startswith("diverged: at step")
    rough = predict(replace(SIGN, vocab_size=16), **TINY)
    assert not rough.diverged.any()
    assert rough.outcome[0].status is Status.INACCURATE
    assert "raise `replicas`" in rough.outcome[0].message
    assert rough.outcome[0].written("--{}".format).endswith("raise --replicas")
    fine = predict(replace(SIGN, init="mup", projection_lr=0.005), **QUICK)
    assert fine.outcome == (OK,)


def test_frozen_layers_do_not_move():
    for frozen in ({"embedding_lr": 0.0}, {"projection_lr": 0.0}):
        prediction = predict(replace(SIGN, **frozen), **TINY)
        name = next(iter(frozen)).replace("lr", "update_rms")
        assert np.max(np.abs(getattr(prediction, name))) < 1e-10
        assert np.all(prediction.loss[:, -1] < prediction.loss[:, 0])


@pytest.mark.parametrize("steps", [1, 12])
def test_smallest_cases(steps):
    assert np.isfinite(
        predict(replace(SIGN, width=1, vocab_size=1, steps=steps), **TINY).loss
    ).all()


def test_bad_input():
    assert_refused("particles", lambda: predict(SIGN, particles=40), "at least 48")
    assert_refused("replicas", lambda: predict(SIGN, replicas=1), "at least 2")
    for wrong in (0.0, 2.0, float("nan")):
        assert_refused("accuracy", lambda wrong=wrong: predict(SIGN, accuracy=wrong), "to 1")
    both = {"accuracy": 0.1, "replicas": 4}
    assert_refused("accuracy", lambda: predict(SIGN, **both), "left out")
    with without_64_bit_types(), pytest.raises(RuntimeError, match="64-bit"):
        predict(SIGN)


@pytest.mark.parametrize("tokens", ["uniform", "zipf:0.8", "zipf:1.2"])
def test_token_particles_keep_the_laws_sums(tokens):
    setup = Setup(optimizer="sign", vocab_size=20000, tokens=tokens, outputs=2)
    particles, law, rows = token_particles(setup, 512), setup.law(), dynsim.targets(setup)
    p, nu = particles.frequencies, particles.multiplicities
    assert nu @ p == pytest.approx(1)
    assert nu @ p**2 == pytest.approx(law.power_sum(2))
    np.testing.assert_array_equal(particles.targets[: particles.head], rows[: particles.head])
    np.testing.assert_allclose((nu * p) @ particles.targets, law.frequencies @ rows, atol=1e-12)
    np.testing.assert_allclose((nu * p) @ particles.targets**2, law.frequencies @ rows**2)
    few = token_particles(replace(setup, vocab_size=300), 512)
    assert few.head == 300
    assert not few.multiplicities[300:].any()


def test_batch_shares_have_the_moments_of_batches(random):
    setup = Setup(optimizer="sign", vocab_size=5000, tokens="zipf:1.0", batch_size=200, steps=6)
    particles, p = token_particles(setup, 512), setup.law().frequencies
    nu = particles.multiplicities
    shares = np.asarray([batch_shares(setup, particles, random) for _ in range(300)])
    batches = random.multinomial(setup.batch_size, p, size=(300, 2)) / setup.batch_size
    np.testing.assert_allclose(shares @ nu, 1)
    assert np.mean(shares**2 @ nu) == pytest.approx(np.mean(np.sum(batches**2, -1)), rel=0.02)
    again = np.mean(np.sum(shares[:, 1:] * shares[:, :-1] * nu, axis=-1))
    assert again == pytest.approx(np.sum(p**2), rel=0.02)
