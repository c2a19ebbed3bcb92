"""Finite networks against a plain numpy loop, and the promises of the trainer."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
from helpers import (
    assert_close_curves,
    assert_conserved,
    assert_exponent,
    assert_mean,
    assert_refused,
    assert_rejected,
)
from numpy_networks import train_linear, zipf

from dynsim import Setup, Training, targets, train
from dynsim._optimizers import constants, direction, schedule
from dynsim.laboratory import _linear_training as network
from dynsim.laboratory import token_updates

pytestmark = pytest.mark.usefixtures("quick_compilation")

UPDATES = ("projection_update_rms", "embedding_update_rms", "projection_step_rms")
SMALL = Setup(
    width=12, vocab_size=18, tokens="zipf:0.7", outputs=3, optimizer="sign", steps=9, seed=4
)


def setup_of(optimizer: str, loss: str, **fields) -> Setup:
    rates = (0.8, 0.5) if optimizer in ("sgd", "momentum") else (0.03, 0.02)
    return dataclasses.replace(
        SMALL,
        optimizer=optimizer,
        loss=loss,
        targets="onehot" if loss == "ce" else "gaussian",
        embedding_lr=rates[0],
        projection_lr=rates[1],
        **fields,
    )


def start_of(setup: Setup, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The initial weights (m, d) and (n, d) that the trainer gives to its seed, in float64."""
    plan = network._plan(setup, setup.steps, "float64")
    std = network._task(setup, "float64").projection_std
    start = network._start(plan, std, network.seed_keys(setup, 2))
    return np.asarray(start.embedding[seed]), np.asarray(start.projection[seed])


def shares_of(setup: Setup, seed: int) -> list[np.ndarray] | None:
    """The batch shares of each step, as the trainer draws them."""
    if not setup.batch_size:
        return None
    key = network.seed_keys(setup, 2)[seed]
    plan, task = network._plan(setup, 1, "float64"), network._task(setup, "float64")
    return list(np.asarray(batch_shares(plan, task, key, np.arange(setup.steps))))


@partial(jax.jit, static_argnums=0)
def batch_shares(plan, task, key, steps):
    return jax.vmap(lambda step: network._batch_share(plan, task, key, step))(steps)


def by_numpy(setup: Setup, seed: int = 0):
    return train_linear(
        *start_of(setup, seed),
        targets(setup),
        setup.law().frequencies,
        loss=setup.loss_name,
        optimizer=setup.optimizer,
        embedding_lr=setup.embedding_lr,
        projection_lr=setup.projection_lr,
        steps=setup.steps,
        shares=shares_of(setup, seed),
        **{name: getattr(setup, name) for name in ("beta1", "beta2", "epsilon")},
        weight_decay=setup.decay_rate,
        factors=factors_of(setup),
    )


def factors_of(setup: Setup) -> list[float]:
    """The schedule's definition, spelled out."""
    factors = []
    for step in range(setup.steps):
        if step < setup.warmup_steps:
            factors.append((step + 1) / setup.warmup_steps)
            continue
        done = (step - setup.warmup_steps) / (setup.steps - setup.warmup_steps)
        factors.append(
            {
                "constant": 1.0,
                "linear": 1 - done,
                "cosine": 0.5 * (1 + np.cos(np.pi * done)),
            }[setup.schedule]
        )
    return factors


@pytest.mark.parametrize("batch_size", [0, 16])
@pytest.mark.parametrize("loss", ["mse", "ce"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "sign", "smoothed-sign", "adam"])
def test_training_is_the_numpy_loop(optimizer, loss, batch_size):
    setup = setup_of(optimizer, loss, batch_size=batch_size, init="sp")
    result = train(setup, 2, dtype="float64")
    for seed in (0, 1):
        run = by_numpy(setup, seed)
        assert_close_curves(result.loss[0, seed], run.loss, 1e-9)
        for name in UPDATES:
            assert_close_curves(getattr(result, name)[0, seed], getattr(run, name), 1e-8)
    other = by_numpy(dataclasses.replace(setup, embedding_lr=1.1 * setup.embedding_lr))
    with pytest.raises(AssertionError, match="differ"):
        assert_close_curves(result.loss[0, 0], other.loss, 1e-9)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("optimizer", ["momentum", "smoothed-sign", "adam"])
def test_decay_and_schedules_are_the_numpy_loop(optimizer, schedule):
    """And one compilation serves every number of theirs."""
    plain = setup_of(optimizer, "mse")
    changed = dataclasses.replace(
        plain,
        beta1=0.7,
        beta2=0.8,
        epsilon=0.02,
        weight_decay=2.0,
        schedule=schedule,
        warmup_steps=3,
    )
    train(plain, 2, dtype="float64")
    compiled = network._advance.traces
    result = train(changed, 2, dtype="float64")
    assert network._advance.traces == compiled
    run = by_numpy(changed)
    for name in ("loss", *UPDATES):
        assert_close_curves(getattr(result, name)[0, 0], getattr(run, name), 1e-7)
    for field in ("beta1", "epsilon", "weight_decay", "warmup_steps", "schedule"):
        back = dataclasses.replace(changed, **{field: getattr(Setup(), field)})
        moves = by_numpy(back).loss != pytest.approx(run.loss, rel=1e-3)
        unused = {"momentum": "epsilon", "smoothed-sign": "beta1"}.get(optimizer) == field
        assert moves != (unused or getattr(changed, field) == getattr(Setup(), field))


def test_the_schedule_reaches_zero_only_after_the_last_step():
    setup = Setup(steps=10, warmup_steps=4, schedule="linear")
    assert schedule(setup) == pytest.approx(factors_of(setup))
    assert schedule(setup)[[0, 3, 4]] == pytest.approx([0.25, 1, 1])
    assert schedule(setup)[-1] > 0
    long = Setup(steps=3, warmup_steps=10)
    assert schedule(long) == pytest.approx([0.1, 0.2, 0.3])


def test_segments_follow_the_schedule(monkeypatch):
    setup = setup_of("adam", "mse", schedule="cosine", warmup_steps=2, weight_decay=1.0)
    whole = train(setup, 2, dtype="float64")
    monkeypatch.setattr(network, "STEPS_PER_CALL", 4)
    assert_close_curves(train(setup, 2, dtype="float64").loss, whole.loss, 1e-12)


def test_loss_is_recorded_before_the_update():
    setup = setup_of("sgd", "mse")
    embedding, projection = start_of(setup, 0)
    result = train(setup, 2, dtype="float64")
    outputs = embedding @ projection.T
    initial = setup.law().frequencies @ (0.5 * (outputs - targets(setup)) ** 2).sum(axis=1)
    assert result.loss[0, 0, 0] == pytest.approx(initial, rel=1e-12)
    assert result.projection_update_rms[0, 0, 0] == 0
    assert result.embedding_update_rms[0, 0, 0] == 0
    assert result.loss[0, 0, 1] < initial
    assert result.loss.shape == (1, 2, setup.steps)


def test_update_rms_follow_their_definition():
    """sqrt(sum_i p_i (1/n) sum_k [(W_t - W_0) e_i(t)]_k^2) from a step's weights, spelled out."""
    setup = setup_of("adam", "mse")
    result, run = train(setup, 2, dtype="float64"), by_numpy(setup)
    p = setup.law().frequencies
    for step in (1, 5, 8):
        w0, e0 = run.projection[0], run.embedding[0]
        wt, et = run.projection[step], run.embedding[step]
        by_projection = by_embedding = 0.0
        for token in range(setup.vocab_size):
            by_projection += p[token] * np.mean(((wt - w0) @ et[token]) ** 2)
            by_embedding += p[token] * np.mean((w0 @ (et[token] - e0[token])) ** 2)
        assert result.projection_update_rms[0, 0, step] == pytest.approx(by_projection**0.5)
        assert result.embedding_update_rms[0, 0, step] == pytest.approx(by_embedding**0.5)
        on_initial = np.mean(((wt - w0) @ e0.T).T ** 2, axis=1) @ p  # (W_t - W_0) e_i(0) is not it
        assert by_projection**0.5 != pytest.approx(on_initial**0.5, rel=1e-4)


def test_initial_weights_have_the_stated_scale():
    for init, std in (("mup", 1 / 64), ("sp", 1 / 8)):
        setup = Setup(width=64, vocab_size=400, outputs=300, init=init)
        embedding, projection = start_of(setup, 0)
        assert_mean(embedding.ravel() ** 2, 1.0)
        assert_rejected(embedding.ravel() ** 2, 1.1)
        assert_mean(projection.ravel() ** 2, std**2)
        assert_rejected(projection.ravel() ** 2, 1.1 * std**2)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [0, 1, 40])
def test_batch_shares_are_multinomial(batch_size):
    setup = Setup(width=2, vocab_size=8, tokens="zipf:1", batch_size=batch_size)
    p = zipf(8, 1)
    shares = token_updates(setup, 1500 if batch_size else 2, dtype="float64").batch_share
    assert shares.sum(axis=1) == pytest.approx(np.ones(len(shares)))
    if not batch_size:
        assert shares == pytest.approx(np.tile(p, (2, 1)))
        return
    assert shares * batch_size == pytest.approx(np.round(shares * batch_size))
    options = {"resolution": 0.2}
    for token in (0, 3, 7):
        assert_mean(shares[:, token], p[token], **options)
        square = p[token] ** 2 + p[token] * (1 - p[token]) / batch_size
        assert_mean(shares[:, token] ** 2, square, **options)
    assert_rejected(shares[:, 0], 1.4 * p[0], **options)


def test_every_step_and_seed_draws_its_own_batch():
    setup = dataclasses.replace(SMALL, batch_size=6)
    first, second = shares_of(setup, 0), shares_of(setup, 1)
    assert first is not None
    assert second is not None
    distinct = {share.tobytes() for share in first + second}
    assert len(distinct) > 2 * setup.steps * 0.8


def test_token_updates_are_the_first_step():
    """The same numbers as the frequency-weighted records of `train` at step one."""
    setup = setup_of("sign", "mse", batch_size=5)
    updates = token_updates(setup, 2, dtype="float64")
    p = setup.law().frequencies
    result = train(setup, 2, dtype="float64")
    assert_close_curves(np.sqrt(updates.embedding @ p), result.embedding_update_rms[0, :, 1], 1e-12)
    # (W_1 - W_0) e_i(1) = (W_1 - W_0) e_i(0) + cross term, here in numpy.
    run = by_numpy(setup, 1)
    on_initial = run.embedding[0] @ (run.projection[1] - run.projection[0]).T
    cross = (run.embedding[1] - run.embedding[0]) @ (run.projection[1] - run.projection[0]).T
    assert_close_curves(updates.projection[1], (on_initial**2).mean(axis=1), 1e-10)
    assert_close_curves(updates.cross[1], (cross**2).mean(axis=1), 1e-10)
    both = np.sqrt(p @ ((on_initial + cross) ** 2).mean(axis=1))
    assert both == pytest.approx(result.projection_update_rms[0, 1, 1])


def test_divergence_is_recorded_not_raised():
    setup = dataclasses.replace(SMALL, optimizer="sgd", embedding_lr=1e4, projection_lr=1e4)
    result = train(setup, 2)
    assert result.diverged.shape == (1, 2)
    assert result.diverged.all()
    assert not np.all(np.isfinite(result.loss)) or result.loss.max() > 1e6
    both = train(SMALL, 2, embedding_lrs=[0.01, 1e20], projection_lrs=[0.01, 1e20])
    assert both.diverged.tolist() == [[False, False], [True, True]]
    assert np.all(np.isfinite(both.loss[0]))  # the diverged run does not touch its neighbour


def test_what_counts_as_divergence():
    def of(*curve):
        loss = np.array(curve, float)[None, None]
        return Training(
            SMALL, np.ones(1), np.ones(1), np.zeros(1, int), *[loss] * 4
        ).diverged.item()

    assert not of(1, 2, 1e6)
    assert of(1, 2e6, 0.1)
    assert of(1, np.nan, 1)
    assert of(1, np.inf)
    assert not of(1e-9, 1.0)  # a tiny start is no reason
    assert of(100, 1.1e8)
    assert not of(100, 0.9e8)


def test_first_seeds_do_not_depend_on_how_many():
    few, many = train(SMALL, 2, dtype="float64"), train(SMALL, 5, dtype="float64")
    assert_close_curves(few.loss, many.loss[:, :2], 1e-12)
    assert np.all(np.abs(np.diff(many.loss[0], axis=0)) > 1e-6)
    updates = token_updates(SMALL, 2, dtype="float64").projection
    longer = token_updates(SMALL, 4, dtype="float64").projection
    assert_close_curves(updates, longer[:2], 1e-12)


def test_seeds_may_be_given_by_their_labels():
    whole = train(SMALL, 4, dtype="float64")
    chosen = train(SMALL, [3, 1], dtype="float64")
    assert (whole.seeds.tolist(), chosen.seeds.tolist()) == ([0, 1, 2, 3], [3, 1])
    assert_close_curves(chosen.loss, whole.loss[:, [3, 1]], 1e-12)
    updates = token_updates(SMALL, [2], dtype="float64").projection
    assert_close_curves(updates, token_updates(SMALL, 3, dtype="float64").projection[2:], 1e-12)


def test_results_print_what_they_are():
    text = repr(train(SMALL, 2))
    assert text.startswith("Training of finite linear networks")
    assert "setup: Setup(width=12" in text
    assert "diverged: 0 of 2 networks" in text
    assert "array(" not in text
    assert "shape 2x18" in repr(token_updates(SMALL, 2))


def test_widths_draw_independent_weights():
    """The claims' bootstrap takes the cells of a study (width, vocabulary) to be independent."""
    narrow, _ = start_of(SMALL, 0)
    wide, _ = start_of(dataclasses.replace(SMALL, width=2 * SMALL.width), 0)
    assert not np.allclose(narrow.ravel(), wide.ravel()[: narrow.size])


def test_another_seed_is_another_experiment():
    other = dataclasses.replace(SMALL, seed=5)
    assert not np.any(train(SMALL, 2).loss[0, :, 0] == train(other, 2).loss[0, :, 0])


@pytest.mark.slow
def test_chunking_changes_nothing():
    setup = dataclasses.replace(SMALL, batch_size=8)
    rates = {"embedding_lrs": [0.01, 0.02, 0.05], "projection_lrs": [0.03, 0.02, 0.01]}
    whole = train(setup, 5, dtype="float64", **rates)
    one_run = network.network_bytes(setup, "float64") / 2**30
    for runs in (0.1, 2, 7):
        pieces = train(setup, 5, dtype="float64", memory_gb=runs * one_run, **rates)
        assert_close_curves(pieces.loss, whole.loss, 1e-12)
        assert_close_curves(
            pieces.projection_update_rms[..., 1:], whole.projection_update_rms[..., 1:], 1e-12
        )


@pytest.mark.parametrize("optimizer", ["sign", "adam"])
def test_long_runs_go_on_where_a_call_stopped(optimizer, monkeypatch):
    """Segments of the scan change nothing: optimizer state and batches carry over."""
    setup = setup_of(optimizer, "mse", batch_size=7)
    whole = train(setup, 2, dtype="float64")
    monkeypatch.setattr(network, "STEPS_PER_CALL", 4)
    finished = []
    pieces = train(setup, 2, dtype="float64", progress=finished.append)
    assert pieces.loss.shape == whole.loss.shape
    assert_close_curves(pieces.loss, whole.loss, 1e-12)
    assert len(finished) == 3
    assert sum(finished) == pytest.approx(1)


def test_a_sweep_is_its_single_runs():
    rates = [0.003, 0.01, 0.2]
    sweep = train(SMALL, 3, embedding_lrs=rates, projection_lrs=rates[::-1], dtype="float64")
    assert sweep.loss.shape == (3, 3, SMALL.steps)
    for k, (embedding, projection) in enumerate(zip(rates, rates[::-1], strict=True)):
        alone = dataclasses.replace(SMALL, embedding_lr=embedding, projection_lr=projection)
        assert_close_curves(sweep.loss[k], train(alone, 3, dtype="float64").loss[0], 1e-12)
    assert sweep.embedding_lrs.tolist() == rates
    assert sweep.projection_lrs.tolist() == rates[::-1]


def test_a_frozen_layer_does_not_move():
    frozen = train(SMALL, 2, embedding_lrs=[0.0], projection_lrs=[0.05])
    assert np.all(frozen.embedding_update_rms == 0)
    assert np.all(frozen.projection_update_rms[..., 1:] > 0)


def test_no_recompilation_across_learning_rates_seeds_and_laws(compilations):
    setup = dataclasses.replace(SMALL, width=13)
    train(setup, 2)
    assert compilations  # the listener hears compilations
    compilations.clear()
    train(dataclasses.replace(setup, embedding_lr=0.5, projection_lr=3e-4), 2)
    train(dataclasses.replace(setup, seed=77), 2)
    train(dataclasses.replace(setup, tokens="zipf:1.3", targets="sign"), 2)
    assert not compilations
    train(dataclasses.replace(setup, optimizer="adam"), 2)
    assert compilations  # another optimizer is another program


def test_float32_is_the_default_and_close_to_float64():
    setup = setup_of("sgd", "mse")
    single, double = train(setup, 2), train(setup, 2, dtype="float64")
    assert single.loss.dtype == np.float64  # records are float64 either way
    # Different precision draws different normals; compare from the same distribution.
    assert single.loss.mean() == pytest.approx(double.loss.mean(), rel=0.5)
    assert network.network_bytes(setup, "float64") == 2 * network.network_bytes(setup, "float32")


def conserved_drift(rate: float) -> float:
    """Largest drift of W^T W/eta_W - E^T E/eta_E over unit time, relative to its start."""
    random = np.random.default_rng(1)
    embedding, projection = random.normal(size=(10, 6)), random.normal(size=(3, 6)) / 6
    embedding_lr, projection_lr = rate, 3 * rate
    run = train_linear(
        embedding,
        projection,
        random.normal(size=(10, 3)),
        zipf(10, 1),
        loss="mse",
        optimizer="sgd",
        embedding_lr=embedding_lr,
        projection_lr=projection_lr,
        steps=round(2 / rate),
    )
    charges = np.array(
        [
            rate * (w.T @ w / projection_lr - e.T @ e / embedding_lr)
            for e, w in zip(run.embedding, run.projection, strict=True)
        ]
    )
    assert_conserved(charges, 10 * rate)
    with pytest.raises(AssertionError, match="drifts"):
        assert_conserved([w.T @ w for w in run.projection], 10 * rate)
    assert run.loss[-1] < 0.5 * run.loss[0]  # while the network learns
    return float(np.max(np.abs(charges - charges[0])) / np.max(np.abs(charges[0])))


def test_sgd_conserves_the_balance_of_the_layers():
    """W^T W/eta_W - E^T E/eta_E is conserved by gradient flow: the drift is first order in eta.

    The numpy loop stands for the trainer, which the tests above hold it equal to.
    """
    rates = np.array([0.04, 0.02, 0.01, 0.005])
    assert_exponent(rates, [conserved_drift(rate) for rate in rates], 1.0, 0.1)


def test_rotations_are_a_symmetry():
    """Rotating E and W together changes no output under SGD, but it does under sign."""
    random = np.random.default_rng(2)
    rotation, _ = np.linalg.qr(random.normal(size=(12, 12)))
    for optimizer, symmetric in (("sgd", True), ("sign", False)):
        setup = setup_of(optimizer, "mse")
        embedding, projection = start_of(setup, 0)
        rest = {
            "loss": "mse",
            "optimizer": optimizer,
            "embedding_lr": setup.embedding_lr,
            "projection_lr": setup.projection_lr,
            "steps": 6,
        }
        p, y = setup.law().frequencies, targets(setup)
        straight = train_linear(embedding, projection, y, p, **rest)
        rotated = train_linear(embedding @ rotation, projection @ rotation, y, p, **rest)
        assert np.allclose(straight.loss, rotated.loss, rtol=1e-9) == symmetric


def test_bad_input():
    assert_refused("--seeds", lambda: train(SMALL, 0))
    assert_refused("--seeds", lambda: token_updates(SMALL, -1))
    assert_refused("--optimizer", lambda: direction("muon", constants(SMALL)))
    huge = Setup(width=2**31 - 1, vocab_size=2**20)
    assert_refused("--width", lambda: train(huge, 1), "GiB")
    assert_refused("--width", lambda: token_updates(huge, 1), "GiB")


def test_mismatched_sweeps_are_refused():
    with pytest.raises(ValueError, match="broadcast"):
        train(SMALL, 1, embedding_lrs=[0.1, 0.2], projection_lrs=[0.1, 0.2, 0.3])


@pytest.mark.slow
def test_without_x64_the_error_says_what_to_do():
    calls = (
        "dynsim.train(dynsim.Setup(width=4, vocab_size=4, steps=2), 1)",
        "dynsim.laboratory.token_updates(dynsim.Setup(width=4, vocab_size=4), 1)",
        "dynsim.first_step('projection', 'sign', 8.0, dynsim.token_law('uniform', 4))",
    )
    refused = "try:\n    {}\nexcept RuntimeError as e:\n    print(e)\n"
    code = "import dynsim\n" + "".join(refused.format(call) for call in calls)
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    lines = run.stdout.splitlines()
    assert len(lines) == len(calls)
    assert all("jax_enable_x64" in line for line in lines)


def test_parts_of_a_step_are_recorded_beside_unchanged_numbers():
    """Other columns bit for bit as without; the parts against plain numpy at the first step."""
    setup = setup_of("sign", "mse")
    plain, detailed = train(setup, 3), train(setup, 3, record_parts=True)
    assert plain.step_parts is None
    for name in ("loss", *UPDATES):
        assert np.array_equal(getattr(plain, name), getattr(detailed, name)), name
    parts = detailed.step_parts
    assert parts is not None
    first = parts.embedding_step_rms[..., 0]
    assert np.allclose(first, detailed.embedding_update_rms[..., 1], rtol=1e-5)
    # sign descent changes every entry of W by the learning rate
    keys, std = network.seed_keys(setup, 3), jax.numpy.asarray(setup.projection_std)
    for seed, key in enumerate(keys):
        sizes = (setup.vocab_size, setup.output_count, setup.width)
        start = network.initial_weights(sizes, std, key, "float32")
        norms = setup.law().frequencies @ np.sum(np.square(start.embedding), axis=1)
        expected = setup.projection_lr * np.sqrt(norms)
        assert np.isclose(parts.incoherent_rms[0, seed, 0], expected, rtol=1e-5)
        aligned = expected * np.sqrt(setup.width)
        assert np.isclose(parts.aligned_rms[0, seed, 0], aligned, rtol=1e-5)
    assert np.all(parts.aligned_rms > detailed.projection_step_rms)  # Cauchy and Schwarz
