"""Flows against closed forms, conservation, scipy, small-step descent and their own limits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest
from helpers import (
    assert_close_curves,
    assert_conserved,
    assert_exponent,
    assert_refused,
    without_64_bit_types,
)
from scipy.integrate import solve_ivp

import derivations
import dynsim
from derivations import flow_symbols as x
from derivations import symbols as s
from dynsim import Setup, evaluate, gradient_flow, train
from dynsim._outcome import Status
from dynsim.theory.flow import _gradient_flow as flows
from dynsim.theory.flow import _solver as solver
from dynsim.theory.flow import _starts as starts
from dynsim.theory.flow._failure import failure
from dynsim.theory.flow._krylov import krylov_tokens
from dynsim.theory.flow._network import flow_network
from dynsim.theory.flow._state import task_and_state
from experiments.output import flag

pytestmark = pytest.mark.usefixtures("quick_compilation")

SGD = Setup(
    width=16,
    vocab_size=6,
    outputs=2,
    tokens="zipf:1",
    optimizer="sgd",
    init="sp",
    embedding_lr=0.5,
    projection_lr=0.1,
)
SIGN = replace(SGD, width=64, optimizer="smoothed-sign", embedding_lr=0.02, projection_lr=0.01)
TIMES = np.linspace(0, 20, 5)


def scipy_losses(setup, start, times, direction=lambda g: g):
    """Losses of the weights' flow from a start, integrated by scipy at tight tolerance."""
    p, y = setup.law().frequencies, dynsim.targets(setup)
    (m, d), n = start.embedding.shape, setup.output_count

    def split(state):
        return state[: m * d].reshape(m, d), state[m * d :].reshape(n, d)

    def velocity(_, state):
        e, w = split(state)
        r = p[:, None] * (start.neurons_each * e @ w.T - y)
        return np.concatenate(
            [
                -setup.embedding_lr * direction(r @ w).ravel(),
                -setup.projection_lr * direction(r.T @ e).ravel(),
            ]
        )

    initial = np.concatenate([np.ravel(start.embedding), np.ravel(start.projection)])
    path = solve_ivp(velocity, (0, times[-1]), initial, "DOP853", times, rtol=1e-10, atol=1e-13).y.T
    errors = [start.neurons_each * e @ w.T - y for e, w in map(split, path)]
    return np.asarray([0.5 * p @ np.sum(error**2, axis=1) for error in errors])


def network(setup, index=0):
    return starts.finite_start(setup, 2, index, lambda *_: None, reduce=False)


@pytest.mark.slow
@pytest.mark.parametrize("width", [4, 16])
def test_agrees_with_scipy_in_weights_and_in_grams(width):
    setup = replace(SGD, width=width)
    flow = gradient_flow(setup, TIMES, tolerance=1e-10)
    assert flow.outcome.ok
    lines = repr(flow).splitlines()
    assert lines[0] == "Flow"
    assert "  outcome: ok" in lines
    assert len(lines) < 20
    assert flow.state_size == min((6 + 2) * width, 6**2 + 2 * 2 * (6 + 2))
    assert flow.loss[-1] < 0.5 * flow.loss[0], "nothing was learned"
    assert_close_curves(flow.loss, scipy_losses(setup, network(setup), TIMES), 1e-7)


@pytest.mark.slow
def test_invariant_is_conserved():
    setup = replace(SGD, width=4)
    task, state = task_and_state(setup, flow_network(setup), network(setup), weights=True)
    plan = solver.Plan("mse", False, "explicit", flows.DEFAULT_MAX_STEPS)
    invariants = []
    for end in (1e-6, 5.0, 50.0):
        times = np.linspace(0, end, len(TIMES))
        solution, _ = solver.solve(plan, task, state, times, np.float64(1e-10))
        e, w = (np.asarray(part[0]) for part in solution.last_state[:2])
        invariants.append(w.T @ w / setup.projection_lr - e.T @ e / setup.embedding_lr)
    assert not np.allclose(e, state.embedding, atol=0.1), "nothing moved"
    assert_conserved(invariants, 1e-8)


@pytest.mark.slow
def test_gram_state_stays_that_of_weights():
    """G_E and G_W of the Gram flow are E E^T and W W^T of the weights' flow at every time."""
    task, state = task_and_state(SGD, flow_network(SGD), network(SGD), weights=True)
    grams_task, grams = task_and_state(SGD, flow_network(SGD), network(SGD), weights=False)
    plan = solver.Plan("mse", False, "explicit", flows.DEFAULT_MAX_STEPS)
    ends = []
    for which in ((task, state), (grams_task, grams)):
        solution, record = solver.solve(plan, *which, TIMES, np.float64(1e-10))
        ends.append((solution.last_state, record))
    (weights, record), (gram, gram_record) = ends
    e, w, first = weights.embedding[0], weights.projection[0], task.initial_projection
    expected = (e @ w.T, e @ e.T, w @ w.T, e @ first.T, w @ first.T)
    for found, wanted in zip(gram, expected, strict=True):
        np.testing.assert_allclose(found[0], wanted, atol=1e-7)
    np.testing.assert_allclose(gram_record, record, atol=1e-8)


def aligned_losses(setup, times):
    """Closed form at infinite width and uniform tokens: one mode per singular value."""
    p = 1 / setup.vocab_size
    a, b, d = setup.embedding_lr, setup.projection_lr, setup.width
    singular = np.linalg.svd(dynsim.targets(setup), compute_uv=False)[:, None]
    imbalance = d * (a * setup.projection_std**2 + b) / np.sqrt(4 * a * b)
    values = {x.target: singular, x.initial_mode: 0.0, x.imbalance: imbalance, x.time: times}
    values |= {s.frequency: p, s.embedding_lr: a, s.projection_lr: b}
    modes = np.asarray(evaluate(derivations.aligned_mode(), values))
    return 0.5 * p * np.sum((modes - singular) ** 2, axis=0)


@pytest.mark.parametrize("vocab_size", [6, 100_000])
def test_infinite_width_of_uniform_tokens_has_a_closed_form(vocab_size):
    setup = replace(
        SGD,
        tokens="uniform",
        vocab_size=vocab_size,
        embedding_lr=0.1 * vocab_size**0.5,
        projection_lr=0.05 * vocab_size**0.5,
    )
    flow = gradient_flow(setup, TIMES, limit="infinite")
    assert flow.effective_tokens == 2
    assert flow.loss[-1] < 0.9 * flow.loss[0]
    np.testing.assert_allclose(flow.loss, aligned_losses(setup, TIMES), rtol=1e-6, atol=1e-9)


def test_small_steps_of_descent_converge_to_the_flow_at_first_order():
    each = np.asarray([4, 8, 16])  # steps per unit of time
    flow = gradient_flow(SGD, TIMES)
    gaps, training = [], None
    for count in each.tolist():
        rates = {"embedding_lr": 0.5 / count, "projection_lr": 0.1 / count}
        training = train(replace(SGD, steps=20 * count + 1, **rates), 1, dtype="float64")
        gaps.append(np.max(np.abs(training.loss[0, 0, :: 5 * count] - flow.loss)))
    assert_exponent(1 / each, gaps, 1, 0.1)
    assert training is not None
    for name in ("projection_update_rms", "embedding_update_rms"):
        found = getattr(training, name)[0, 0, :: 5 * each[-1]]
        np.testing.assert_allclose(getattr(flow, name), found, rtol=0.02, atol=1e-12)


def test_error_follows_the_tolerance():
    exact = scipy_losses(SGD, network(SGD), TIMES)
    tolerances = np.asarray([1e-3, 1e-5, 1e-7, 1e-9])
    gaps = [
        np.max(np.abs(gradient_flow(SGD, TIMES, tolerance=tolerance).loss - exact))
        for tolerance in tolerances.tolist()
    ]
    assert_exponent(tolerances, gaps, 8 / 9, 0.25)  # of a method of order 8


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["finite", "infinite"])
def test_reduction_is_exact_with_ties_and_converges_without(limit, monkeypatch):
    width = 4
    uniform = replace(SGD, width=width, vocab_size=60, tokens="uniform", embedding_lr=4.0)
    zipf = replace(uniform, tokens="zipf:0.7")
    blocks = (2, 4) if limit == "finite" else (4, 6)  # the estimate of the last takes the first

    def losses(setup, nodes):
        last = nodes == blocks[-1]
        flow = gradient_flow(setup, TIMES, limit=limit, nodes=nodes, error_estimate=last)
        assert flow.effective_tokens < 60
        return flow.loss, flow.loss_error

    reduced = [losses(zipf, nodes) for nodes in blocks]
    in_one_block, error = losses(uniform, 2)
    assert not error.any()
    for setup in (uniform, zipf):
        with monkeypatch.context() as patch:
            patch.setattr(starts, "krylov_tokens", lambda p, columns, _: (p, columns, True))
            whole = gradient_flow(setup, TIMES, limit=limit)
        assert whole.effective_tokens == 60
        assert whole.loss[-1] < 0.9 * whole.loss[0]
        if setup is uniform:
            np.testing.assert_allclose(in_one_block, whole.loss, rtol=1e-6)
            continue
        gaps = [np.max(np.abs(loss - whole.loss)) for loss, _ in reduced]
        assert gaps[0] > 10 * gaps[1]
        assert gaps[1] < np.max(reduced[1][1]) < 0.1, "the error estimate must cover the error"


def test_effective_tokens_keep_the_moments_of_the_law(random):
    """K blocks: sum p^(j+1) y y^T for j < 2 K, and not beyond."""
    p, y = dynsim.token_law("zipf:0.7", 80).frequencies, random.standard_normal((80, 2))
    q, (z, _), exact = krylov_tokens(p, (y, np.zeros((80, 0))), 3)
    assert not exact
    assert len(q) == 6
    gaps = []
    for power in range(1, 8):
        wanted = y.T @ (p[:, None] ** power * y)
        gap = z.T @ (q[:, None] ** power * z) - wanted
        gaps.append(np.max(np.abs(gap)) / np.max(np.abs(wanted)))
    assert max(gaps[:6]) < 1e-10
    assert gaps[6] > 1e-8


@pytest.mark.slow
def test_a_real_vocabulary_at_infinite_width():
    """10^5 Zipf tokens: the reduction agrees with a fine one, and with merging by hand."""
    rates = {"embedding_lr": 50.0, "projection_lr": 0.02}
    setup = replace(SGD, vocab_size=100_000, width=256, outputs=1, **rates)
    flow = gradient_flow(setup, TIMES, limit="infinite", nodes=24)
    assert flow.effective_tokens == 24
    assert flow.loss[-1] < 0.7 * flow.loss[0]
    assert np.max(flow.loss_error) < 1e-6
    p, y = setup.law().frequencies, dynsim.targets(setup)[:, 0]
    assert flow.loss[0] == pytest.approx(0.5 * p @ y**2)
    cell = np.unique(np.round(np.log(p) * 6), return_inverse=True)[1]
    power, mass = np.bincount(cell, y**2), np.bincount(cell, p * y**2)
    merged = solve_merged(setup, mass / power, np.sqrt(power), TIMES)
    np.testing.assert_allclose(flow.loss, merged, rtol=3e-3)


def solve_merged(setup, p, y, times):
    """Infinite-width losses of given tokens with one output, from the Grams, by scipy."""
    m, a, b = len(p), setup.embedding_lr, setup.projection_lr

    def velocity(_, state):
        f, gram, scale = state[:m], state[m:-1].reshape(m, m), state[-1]
        r = p * (f - y)
        turn = np.outer(r, f)
        moves = -b * gram @ r - a * scale * r, -a * (turn + turn.T).ravel(), [-2 * b * r @ f]
        return np.concatenate(moves)

    squares = (setup.width * np.eye(m)).ravel(), [setup.width * setup.projection_std**2]
    start = np.concatenate([np.zeros(m), *squares])
    path = solve_ivp(velocity, (0, times[-1]), start, "RK45", times, rtol=1e-6, atol=1e-9).y[:m].T
    return 0.5 * np.sum(p * (path - y) ** 2, axis=1)


def mean_losses(setup, count, **options):
    runs = [gradient_flow(setup, TIMES, network=k, **options).loss for k in range(count)]
    return np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1) / np.sqrt(count)


def test_wide_networks_approach_infinite_width():
    gaps = []
    widths = (256, 4096)
    for width in widths:
        rates = {"embedding_lr": width / 2, "projection_lr": 0.8 / width}
        setup = replace(SGD, width=width, init="mup", **rates)
        limit = gradient_flow(setup, TIMES, limit="infinite")
        runs = [gradient_flow(setup, TIMES, network=k).loss for k in range(10)]
        gaps.append(np.sqrt(np.mean((np.asarray(runs)[:, 1:] - limit.loss[1:]) ** 2)))
    assert_exponent(widths, gaps, -0.5, 0.15)


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", [32, 512])
def test_proportional_limit_is_the_mean_of_large_networks(vocab_size):
    setup = replace(
        SGD,
        width=128,
        vocab_size=vocab_size,
        tokens="uniform",
        embedding_lr=0.2 * vocab_size,
        projection_lr=0.2 * vocab_size / (128 + vocab_size),
    )
    estimated = vocab_size == 32
    limit = gradient_flow(setup, TIMES, limit="proportional", nodes=12, error_estimate=estimated)
    assert np.max(limit.loss_error) < 1e-4 or not estimated
    mean, error = mean_losses(setup, 12)
    assert limit.loss[-1] < 0.7 * limit.loss[0]
    assert np.all(np.abs(limit.loss - mean) < 3 * error + 0.015 * mean[0])
    if vocab_size == 512:
        fixed = gradient_flow(setup, TIMES, limit="infinite")
        assert np.max(np.abs(fixed.loss - mean)) > 0.1 * mean[0], "the limits differ at m = 4 d"


def test_marchenko_pastur_rule_integrates_polynomials():
    for ratio in (0.0, 0.3, 1.0, 4.0):
        values, shares = starts.marchenko_pastur_rule(ratio, 5)
        assert np.all(values >= 0)
        assert shares.sum() == pytest.approx(1)
        for order in range(1, 10):
            moment = derivations.marchenko_pastur_moment(order)
            expected = float(evaluate(moment, {x.aspect_ratio: ratio}))
            assert shares @ values**order == pytest.approx(expected, rel=1e-9)


def test_proportional_and_fixed_limits_meet_for_few_tokens():
    setup = replace(SGD, width=10**7, tokens="uniform", init="mup", embedding_lr=1e6)
    setup = replace(setup, projection_lr=1e-7)
    curves = [
        gradient_flow(setup, TIMES, limit=limit, nodes=3, error_estimate=False)
        for limit in ("infinite", "proportional")
    ]
    assert curves[0].loss[-1] < 0.5 * curves[0].loss[0]
    assert_close_curves(curves[1].loss, curves[0].loss, 1e-4)


# Smoothed sign


def test_smoothed_sign_agrees_with_scipy():
    setup = replace(SIGN, epsilon=0.05)
    flow = gradient_flow(setup, TIMES, tolerance=1e-10)
    exact = scipy_losses(
        setup, network(setup), TIMES, direction=lambda g: g / np.sqrt(g**2 + 0.05**2)
    )
    assert_close_curves(flow.loss, exact, 1e-6)


@pytest.mark.parametrize("limit", ["finite", "infinite"])
def test_much_smoothing_is_gradient_flow(limit):
    smooth = replace(SIGN, embedding_lr=0.5e5, projection_lr=0.1e5, epsilon=1e5)
    flow = gradient_flow(smooth, TIMES, limit=limit, particles=64, error_estimate=False)
    plain = gradient_flow(
        replace(smooth, optimizer="sgd", embedding_lr=0.5, projection_lr=0.1), TIMES, limit=limit
    )
    assert plain.loss[-1] < 0.5 * plain.loss[0]
    np.testing.assert_allclose(flow.loss, plain.loss, rtol=1e-6, atol=1e-9)
    rates = np.asarray(flow.fastest_rate) / np.asarray(plain.fastest_rate)
    np.testing.assert_allclose(rates, 1, rtol=1e-4)


def sign_descent(setup, start, steps_each, times):
    """Losses of discrete sign descent with steps 1/steps_each long, in numpy."""
    p, y = setup.law().frequencies, dynsim.targets(setup)
    e, w = np.array(start.embedding), np.array(start.projection)
    losses = []
    for step in range(round(times[-1] * steps_each) + 1):
        error = start.neurons_each * e @ w.T - y
        if step % steps_each == 0 and step // steps_each in times:
            losses.append(0.5 * p @ np.sum(error**2, axis=1))
        r = p[:, None] * error
        by_e, by_w = np.sign(r @ w), np.sign(r.T @ e)
        e, w = (
            e - setup.embedding_lr / steps_each * by_e,
            w - setup.projection_lr / steps_each * by_w,
        )
    return np.asarray(losses)


def test_little_smoothing_is_sign_descent():
    times = np.arange(0, 9, 2)
    exact = sign_descent(SIGN, network(SIGN), 400, times)
    assert exact[-1] < 0.5 * exact[0]
    gaps = [
        np.max(np.abs(gradient_flow(replace(SIGN, epsilon=epsilon), times).loss - exact))
        for epsilon in (0.1, 0.01, 0.001)
    ]
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]
    assert gaps[2] < 2e-3 * exact[0]


@pytest.mark.slow
def test_particles_converge_to_what_wide_networks_do():
    setup = replace(SIGN, init="mup", width=1024, embedding_lr=0.3, projection_lr=1.2e-4)
    setup = replace(setup, epsilon=1e-3)
    options = {"tolerance": 1e-6}
    mean, error = mean_losses(setup, 4, **options)
    few, many = (
        gradient_flow(setup, TIMES, limit="infinite", particles=count, **options, **estimate)
        for count, estimate in ((64, {}), (1024, {"error_estimate": False}))
    )
    assert mean[-1] < 0.7 * mean[0]
    assert np.max(np.abs(many.loss - mean)) < 0.02 * mean[0] + 3 * np.max(error)
    assert np.isnan(many.loss_error).all()
    gap = np.max(np.abs(few.loss - many.loss))
    assert 0.3 * gap < np.max(few.loss_error) < 10 * gap


# Solvers and failures


@pytest.mark.slow
def test_implicit_solver_gives_the_same():
    explicit = gradient_flow(SGD, TIMES, limit="infinite")
    implicit = gradient_flow(SGD, TIMES, limit="infinite", solver="implicit", tolerance=1e-6)
    assert_close_curves(implicit.loss, explicit.loss, 1e-4)
    assert implicit.solver_steps != explicit.solver_steps


def kernel_rates(setup, start):
    """Largest rate of the linearised outputs, from the whole neural tangent kernel."""
    p = setup.law().frequencies
    e, w = start.embedding, start.projection
    root = np.diag(np.sqrt(p))
    by_w = np.kron(root @ e @ e.T @ root, np.eye(setup.output_count))
    by_e = np.kron(np.diag(p), w @ w.T)
    return np.linalg.eigvalsh(setup.projection_lr * by_w + setup.embedding_lr * by_e)[-1]


@pytest.mark.parametrize("tokens", ["uniform", "zipf:1"])
@pytest.mark.parametrize("width", [4, 16])
def test_fastest_rate_bounds_the_tangent_kernel(tokens, width):
    setup = replace(SGD, tokens=tokens, width=width)
    bound = sum(gradient_flow(setup, 1e-9 * TIMES).fastest_rate)
    exact = kernel_rates(setup, network(setup))
    assert bound >= exact * (1 - 1e-6)
    assert bound <= exact * (1.5 if tokens == "zipf:1" else 1 + 1e-6)


def test_a_stiff_failure_names_the_rate_and_the_remedy():
    setup = replace(SGD, embedding_lr=1e-3, projection_lr=1e5)
    flow = gradient_flow(setup, [0, 1e-7, 1e-6, 99.0, 100.0], max_steps=100)
    assert np.isfinite(flow.loss[:3]).all()
    assert np.isnan(flow.loss[3:]).all()
    assert 0 < flow.reached < 100
    assert flow.solver_steps == 100
    for fragment in (
        f"at t = {flow.reached:.4g} of 100 after 100 steps",
        "maximum number of solver steps",
        "100% from the projection's learning rate",
        "stiff",
        "raise `max_steps` to about",
        "take `solver` implicit",
        "shorten `time`",
        "lower `projection_lr`",
    ):
        assert fragment in flow.outcome.message
    assert flow.outcome.status is Status.STOPPED
    assert "lower --projection-lr" in flow.outcome.written(flag)
    swapped = replace(setup, embedding_lr=1e6, projection_lr=1e-3)
    slow = gradient_flow(swapped, 5 * TIMES, max_steps=100)
    assert "from the embedding's learning rate" in slow.outcome.message
    assert "lower `embedding_lr`" in slow.outcome.message


def test_other_failures_say_what_to_change():
    few = gradient_flow(SGD, 1e4 * TIMES, tolerance=1e-13, max_steps=100)
    assert "stiff" not in few.outcome.message
    assert "raise `max_steps`, raise `tolerance`" in few.outcome.message
    sharp = gradient_flow(replace(SIGN, epsilon=1e-9), TIMES, max_steps=100)
    assert "raise `epsilon`" in sharp.outcome.message
    huge = gradient_flow(replace(SGD, embedding_lr=1e30, projection_lr=1e30), TIMES, max_steps=100)
    for flow in (few, sharp, huge):
        assert flow.outcome.status is Status.STOPPED
        assert str(flow.outcome).startswith("stopped: at t = ")
        assert "Try increasing" not in flow.outcome.message
    assert "max_steps" not in huge.outcome.message, "no number of steps would do"
    assert "lower `projection_lr`" in huge.outcome.message


@pytest.mark.parametrize("method", ["explicit", "implicit"])
def test_a_flow_that_took_no_step_is_not_told_to_take_more(method):
    def advice(rates, reason="Out of steps.", steps=20, smoothed=False):
        outcome = failure(reason, rates, steps, 0.0, 20.0, solver=method, smoothed=smoothed)
        return str(outcome).partition("What to change: ")[2]

    for rates, remedy in (
        ((1e31, 1e29), "shorten time or lower projection_lr"),
        ((1e29, 1e31), "shorten time or lower embedding_lr"),
        ((np.nan, np.nan), "lower embedding_lr or projection_lr"),
    ):
        assert advice(rates) == remedy
    assert advice((1e31, 0.0), "", smoothed=True).startswith("raise epsilon, shorten")
    assert "raise max_steps" in advice((1.0, 1.0), steps=1)


def test_widths_share_one_program():
    """A Gram flow's arrays have no axis of the width."""
    shapes = [
        jax.tree.map(
            np.shape, task_and_state(setup, flow_network(setup), network(setup), weights=False)
        )
        for setup in (SGD, replace(SGD, width=300))
    ]
    assert shapes[0] == shapes[1]


def test_the_advice_helps():
    """An explicit solver needs about as many steps as the status of its failure says."""
    setup = replace(SGD, embedding_lr=1e-3, projection_lr=30.0, tokens="uniform")
    short = gradient_flow(setup, 10 * TIMES, max_steps=100)
    whole = gradient_flow(setup, 10 * TIMES)
    needed = float(short.outcome.message.split("needs about ")[1].split(" ")[0])
    assert whole.outcome.ok
    assert 0.3 < whole.solver_steps / needed < 1.5


def test_cross_entropy_flows_in_weights():
    setup = replace(SGD, loss="ce", targets="onehot", outputs=3)
    flow = gradient_flow(setup, TIMES / 4)
    gaps = []
    for step in (1 / 8, 1 / 16):
        fine = replace(setup, steps=round(5 / step) + 1)
        fine = replace(fine, embedding_lr=0.5 * step, projection_lr=0.1 * step)
        gaps.append(abs(train(fine, 1, dtype="float64").loss[0, 0, -1] - flow.loss[-1]))
    assert flow.loss[-1] < 0.9
    assert gaps[1] == pytest.approx(gaps[0] / 2, rel=0.2)
    assert gaps[1] < 0.01


@dataclass(frozen=True)
class Extended(Setup):
    """A setup with something that flows know nothing of."""

    momentum: float = 0.0


REFUSED = [
    ("optimizer", {"optimizer": "adam"}, {}, "sgd or smoothed-sign"),
    ("optimizer", {"optimizer": "sign"}, {}, "discontinuous"),
    ("weight_decay", {"weight_decay": 0.1}, {}, "no meaning for a flow, must be left out"),
    ("schedule", {"schedule": "cosine"}, {}, "must be constant"),
    ("batch_size", {"batch_size": 4}, {}, "full batch"),
    ("loss", {"loss": "ce", "targets": "onehot"}, {"limit": "infinite"}, "mse"),
    ("tokens", {}, {"limit": "proportional"}, "uniform"),
    ("optimizer", {"optimizer": "smoothed-sign"}, {"limit": "proportional"}, "predict"),
    ("limit", {}, {"limit": "wide"}, "finite"),
    ("solver", {}, {"solver": "euler"}, "explicit"),
    ("solver", {"vocab_size": 99}, {"solver": "implicit", "width": 64}, "at most 1024"),
    ("nodes", {}, {"nodes": 1}, "at least 2"),
    ("network", {}, {"network": -1}, "at least 0"),
    ("max_steps", {}, {"max_steps": 0}, "at least 1"),
    ("tolerance", {}, {"tolerance": 0.5}, "1e-2"),
    (
        "particles",
        {"optimizer": "smoothed-sign"},
        {"limit": "infinite", "particles": 8},
        "at least 16",
    ),
    (
        "times",
        {},
        {"times": [1.0, 2.0, 1.5, 3.0]},
        " 1.5: must be increasing times, none negative, the last one positive",
    ),
    (
        "times",
        {},
        {"times": [-3.0, 1.0]},
        " -3.0: must be increasing times, none negative, the last one positive",
    ),
    (
        "times",
        {},
        {"times": [0.0]},
        " 0.0: must be increasing times, none negative, the last one positive",
    ),
    (
        "times",
        {},
        {"times": [1.0, np.inf, np.inf]},
        " inf: must be increasing times, none negative, the last one positive",
    ),
    ("times", {}, {"times": []}, "positive"),
    ("nodes", {"vocab_size": 10**6, "outputs": 8}, {"limit": "infinite"}, "numbers"),
    ("vocab_size", {"vocab_size": 20_000}, {"width": 1000, "nodes": 25}, "--limit infinite"),
    ("vocab_size", {"tokens": "uniform"}, {"limit": "proportional", "nodes": 4096}, "numbers"),
    (
        "vocab_size",
        {"optimizer": "smoothed-sign", "vocab_size": 20},
        {"limit": "infinite", "particles": 2**20},
        "all tokens",
    ),
]


@pytest.mark.parametrize(("option", "changes", "options", "fragment"), REFUSED)
def test_bad_input(option, changes, options, fragment):
    options = dict(options)
    setup = replace(SGD, **changes, width=options.pop("width", SGD.width))
    times = options.pop("times", TIMES)
    assert_refused(option, lambda: gradient_flow(setup, times, **options), fragment)


def test_what_a_flow_does_not_know_is_refused():
    known = {name: getattr(SGD, name) for name in flows.FIELDS_OF_A_FLOW}
    same = gradient_flow(Extended(**known), TIMES)
    np.testing.assert_array_equal(same.loss, gradient_flow(SGD, TIMES).loss)
    assert_refused(
        "momentum", lambda: gradient_flow(Extended(**known, momentum=0.9), TIMES), "must be 0.0"
    )


def test_needs_64_bit_types():
    with without_64_bit_types(), pytest.raises(RuntimeError, match="64-bit"):
        gradient_flow(SGD, TIMES)
