"""Flows of linear hidden layers: scipy, conservation, aligned layers, descent, limits, kernels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from helpers import assert_close_curves, assert_conserved, assert_refused
from scipy.integrate import solve_ivp

import derivations
import dynsim
from derivations import flow_symbols as x
from derivations import symbols as s
from dynsim import Setup, Status, evaluate, gradient_flow, predict_linearized, train
from dynsim.laboratory import NetworkSetup
from dynsim.theory.flow import _solver as solver
from dynsim.theory.flow._deep_starts import drawn_start
from dynsim.theory.flow._network import FlowNetwork, Rates, Sizes, flow_network
from dynsim.theory.flow._revealed import GaussianMatrix, OutOfRoomError, Space
from dynsim.theory.flow._starts import FlowStart, effective_targets
from dynsim.theory.flow._state import task_and_state
from dynsim.theory.flow._trial import Tokens, small_network

pytestmark = pytest.mark.usefixtures("quick_compilation")

PLAIN = NetworkSetup(
    network="mlp",
    activation="identity",
    normalisation="none",
    residual="no",
    depth=2,
    width=8,
    base_width=4,
    vocab_size=5,
    outputs=2,
    tokens="zipf:1",
    optimizer="sgd",
    embedding_lr=0.4,
    hidden_lr=0.1,
    readout_ratio=0.5,
    steps=4,
)
RESIDUAL = replace(PLAIN, residual="yes")
HIDDEN_LRS = (0.3, 0.05)
TIMES = np.linspace(0, 6, 4)
PLAN = solver.Plan("mse", False, "explicit", 10_000)


def network(setup) -> Any:
    return drawn_start(setup, 2, 0, lambda *_: None, reduce=False)


def loss_of(parts, p, y, skip):
    """Of (E, A_1, ..., W); no formula of the flow is used."""
    h, *matrices, w = parts
    for matrix in matrices:
        h = skip * h + h @ matrix.T
    return 0.5 * p @ jnp.sum((h @ w.T - y) ** 2, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("setup", [PLAIN, RESIDUAL], ids=["plain", "residual"])
def test_agrees_with_scipy_and_automatic_derivatives(setup):
    start, rates = network(setup), flow_network(setup, HIDDEN_LRS).rates
    first = [start.embedding, *start.hidden, start.projection]
    each = [rates.embedding, *rates.hidden, rates.projection]
    assert each[1] == pytest.approx(6 * each[2], rel=1e-12)
    p, y, skip = setup.law().frequencies, dynsim.targets(setup), float(setup.residual == "yes")
    shapes, ends = [part.shape for part in first], np.cumsum([part.size for part in first])

    def split(state):
        return [one.reshape(own) for one, own in zip(np.split(state, ends[:-1]), shapes)]  # noqa: B905

    gradient = jax.jit(jax.grad(lambda parts: loss_of(parts, p, y, skip)))

    def velocity(_, state):
        slopes = gradient(split(state))
        return np.concatenate([-eta * np.ravel(g) for eta, g in zip(each, slopes, strict=True)])

    flat = np.concatenate([np.ravel(part) for part in first])
    path = solve_ivp(velocity, (0, TIMES[-1]), flat, "DOP853", TIMES, rtol=1e-10, atol=1e-12).y.T
    flow = gradient_flow(setup, TIMES, hidden_lrs=HIDDEN_LRS, tolerance=1e-10)
    assert flow.outcome.ok
    assert flow.loss[-1] < 0.5 * flow.loss[0], "nothing was learned"
    assert_close_curves(flow.loss, [loss_of(split(at), p, y, skip) for at in path], 1e-7)
    e, a, b, w = split(path[-1])
    below = skip * e + e @ a.T
    ends_at = {
        "hidden_update_rms": [
            np.sqrt(p @ np.mean((e @ (a - start.hidden[0]).T) ** 2, axis=1)),
            np.sqrt(p @ np.mean((below @ (b - start.hidden[1]).T) ** 2, axis=1)),
        ],
        "projection_update_rms": np.sqrt(
            p @ np.mean(((skip * below + below @ b.T) @ (w - start.projection).T) ** 2, axis=1)
        ),
    }
    for name, value in ends_at.items():
        assert getattr(flow, name)[-1] == pytest.approx(value, rel=1e-6)


def end_of_flow(described, start, times, setup=PLAIN):
    """The weights (E, hidden, W) at the last time, and the losses."""
    task, state = task_and_state(setup, described, start, weights=False)
    solution, record = solver.solve(PLAN, task, state, times, np.float64(1e-10))
    last = solution.last_state
    return [np.asarray(one[0]) for one in (last.embedding, last.hidden, last.projection)], record


@pytest.mark.parametrize("setup", [PLAIN, RESIDUAL], ids=["plain", "residual"])
def test_what_neighbouring_layers_conserve(setup):
    described, start = flow_network(setup, HIDDEN_LRS), network(setup)
    rates, found, of_matrices = described.rates, [], []
    for end in (1e-6, 2.0, 20.0):
        (e, (a, b), w), _ = end_of_flow(described, start, np.linspace(0, end, 2), setup)
        of_matrices.append(b.T @ b / rates.hidden[1] - a @ a.T / rates.hidden[0])
        if described.residual:
            a, b = a + np.eye(len(a)), b + np.eye(len(b))
        eta = {s.embedding_lr: rates.embedding, s.projection_lr: rates.projection}
        eta |= {x.hidden_lr: rates.hidden[0], x.next_hidden_lr: rates.hidden[1]}
        inputs = {
            "hidden": {x.layer_map: a, x.next_layer_map: b, **eta},
            "embedding": {x.layer_map: a, x.embedding: e, **eta},
            "projection": {x.layer_map: b, x.projection: w, **eta, x.hidden_lr: rates.hidden[1]},
        }
        found.append([evaluate(derivations.layer_invariant(pair), inputs[pair]) for pair in inputs])
    assert np.linalg.norm(a - start.hidden[0]) > 0.1, "nothing moved"
    for invariant in zip(*found, strict=True):
        assert_conserved(invariant, 1e-7)
    if described.residual:  # the negative control: of A itself nothing of the kind is conserved
        with pytest.raises(AssertionError):
            assert_conserved(of_matrices, 1e-3)


@pytest.mark.parametrize("depth", [3])
def test_aligned_balanced_layers_follow_the_closed_form(depth):
    rates = Rates(0.5, tuple(0.2 * (1 + np.arange(depth))), 0.1)
    each = np.array([rates.embedding, *rates.hidden, rates.projection])
    eta, layers, y, size = np.prod(each) ** (1 / len(each)), depth + 2, 2.0, 0.6
    sizes = np.sqrt(each * size)
    f_0 = float(np.prod(sizes))
    unit = np.eye(2)[:1]
    hidden = np.stack([np.diag([one, 0.0]) for one in sizes[1:-1]])
    ends = sizes[0] * unit, sizes[-1] * unit
    p, target = np.ones(1), np.full((1, 1), y)
    start = FlowStart(p, target, *ends, 1.0, 0.0, 0.0, True, hidden)
    described = FlowNetwork(depth, False, Sizes(1.0, 1.0, 1.0), rates)
    setup = replace(PLAIN, depth=depth)
    times = np.array([0.0, 2.0, 8.0])
    _, record = end_of_flow(described, start, times, setup)
    f = y - np.sqrt(2 * np.asarray(record[:, 0]))
    assert 1.2 * f_0 < f[1] < f[2] < y
    of = derivations.aligned_layers_time().expression
    values = {x.layers: layers, x.target: y, x.mean_rate: eta, s.frequency: 1, x.initial_mode: f_0}
    (variable,) = of.free_symbols - set(values)
    reached = [float(sp.N(of.subs(values | {variable: one}))) for one in f[1:]]
    assert reached == pytest.approx(times[1:], rel=1e-6)


@pytest.mark.slow
def test_small_steps_of_descent_converge_to_the_flow_at_first_order():
    flow = gradient_flow(RESIDUAL, [0.0, 3.0])
    gaps = []
    for count in (24, 48):
        scale = 3 / count
        fine = replace(
            RESIDUAL,
            embedding_lr=scale * RESIDUAL.embedding_lr,
            hidden_lr=scale * RESIDUAL.hidden_lr,
            steps=count,
            precision="float64",
        )
        gaps.append(abs(train(fine, 1).loss[0, -1] - flow.loss[-1]))
    assert gaps[1] == pytest.approx(gaps[0] / 2, rel=0.2)
    assert gaps[1] < 0.02 * flow.loss[0]


def test_a_gaussian_matrix_that_was_not_met_has_catalan_moments():
    """|A^T A|^k seen from any vector: 1, 2, 5, 14 for variance 1/d, the moments of its spectrum."""
    lower, upper = Space(32), Space(32)
    matrix = GaussianMatrix(lower, upper, (1.0, 1.0), 1e-9, 16)
    vector = np.zeros((1, 32))
    vector[0, lower.fresh()] = 1.0
    moments, now = [], vector
    for _ in range(4):
        now = matrix.backward(matrix.forward(now))
        moments.append(float(vector[0] @ now[0]))
    assert moments == pytest.approx([1, 2, 5, 14], rel=1e-12)
    lower.fresh(lower.capacity - lower.used)
    upper.fresh(upper.capacity - upper.used)
    with pytest.raises(OutOfRoomError):
        matrix.forward(now)


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["infinite", "proportional"])
def test_layers_that_do_nothing_leave_the_linear_models_limit(limit):
    """A residual layer with no weights and no rate: both limits of the linear model, exactly."""
    setup = Setup(width=32, vocab_size=48, outputs=2, optimizer="sgd", embedding_lr=12.0)
    setup = replace(setup, projection_lr=0.2)
    flow = gradient_flow(setup, TIMES, limit=limit, nodes=24)
    stds, rates = Sizes(1.0, 0.0, setup.projection_std), Rates(12.0, (0.0,), 0.2)
    described = FlowNetwork(1, True, stds, rates)
    y = effective_targets(setup)
    others = setup.vocab_size - len(y) if limit == "proportional" else 0
    tokens = Tokens(np.full(len(y), 1 / 48), y, others)
    options = TIMES[-1], 1e-7, 1000, lambda *_: None
    found = small_network(described, setup.width, tokens, *options)
    assert found.reached == TIMES[-1]
    ends = found.embedding, found.projection
    start = FlowStart(found.frequencies, found.targets, *ends, 1.0, 0.0, 0.0, False, found.hidden)
    _, record = end_of_flow(described, start, TIMES, setup)
    assert flow.loss[-1] < 0.9 * flow.loss[0]
    assert_close_curves(np.asarray(record[:, 0]), flow.loss, 1e-5)
    assert_close_curves(np.asarray(record[1:, 2]), flow.embedding_update_rms[1:], 1e-5)


WIDE = replace(RESIDUAL, depth=1, width=96, base_width=1, tokens="uniform", embedding_lr=0.5)
WIDE = replace(WIDE, hidden_lr=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "vocab_size"), [("infinite", 4), ("proportional", 96)])
def test_limits_are_the_mean_of_wide_networks(limit, vocab_size):
    setup = replace(WIDE, vocab_size=vocab_size, embedding_lr=0.05 * math.sqrt(vocab_size))
    times = np.linspace(0, 3 * math.sqrt(vocab_size), 4)
    flow = gradient_flow(setup, times, limit=limit)
    assert flow.outcome.ok
    assert np.max(flow.loss_error) < 1e-5
    networks = [gradient_flow(setup, times, network=k, tolerance=1e-6) for k in range(6)]
    for name in ("loss", "embedding_update_rms", "hidden_update_rms"):
        values = np.array([getattr(one, name)[1:] for one in networks])
        error = values.std(axis=0, ddof=1) / math.sqrt(len(networks))
        expected = getattr(flow, name)[1:]
        gap = np.abs(values.mean(axis=0) - expected)
        assert np.all(gap < 4 * error + 3 / setup.width * np.abs(expected).max()), name
    assert flow.loss[-1] < 0.7 * flow.loss[0]
    lazy = gradient_flow(replace(setup, hidden_lr=0.0), times, limit=limit, error_estimate=False)
    assert abs(lazy.loss[-1] - flow.loss[-1]) > 0.05 * flow.loss[0], "hidden layers do nothing"


@pytest.mark.slow
def test_linearised_flow_is_that_of_the_linearised_network():
    start, rates = network(PLAIN), flow_network(PLAIN, HIDDEN_LRS).rates

    def outputs(parts, tokens):
        h, *matrices, w = parts
        h = h[tokens]
        for matrix in matrices:
            h = h @ matrix.T
        return h @ w.T

    first = [start.embedding, *start.hidden, start.projection]
    each = [rates.embedding, *rates.hidden, rates.projection]
    options = {"learning_rates": each, "weights": PLAIN.law().frequencies}
    found = predict_linearized(
        outputs, first, jnp.arange(5), dynsim.targets(PLAIN), TIMES, **options
    )
    flow: Any = gradient_flow(PLAIN, TIMES, hidden_lrs=HIDDEN_LRS, linearised=True, tolerance=1e-10)
    assert_close_curves(flow.loss, found.loss, 1e-7)
    moved = np.asarray(found.params[2]) - start.hidden[1]
    below = start.embedding @ start.hidden[0].T
    size = np.sqrt(PLAIN.law().frequencies @ np.mean((below @ moved.T) ** 2, axis=1))
    assert flow.hidden_update_rms[-1, 1] == pytest.approx(size, rel=1e-6)


@pytest.mark.parametrize("setup", [PLAIN, RESIDUAL], ids=["plain", "residual"])
def test_linearised_infinite_width_has_a_closed_form(setup):
    """Every token by itself: its residual falls like exp(-theta p t)."""
    flow = gradient_flow(setup, TIMES, limit="infinite", linearised=True, tolerance=1e-10)
    described = flow_network(setup)
    values = {
        s.width: 8.0,
        x.depth: 2,
        x.skip: float(described.residual),
        x.hidden_std: described.stds.hidden,
        s.embedding_std: described.stds.embedding,
        s.projection_std: described.stds.projection,
        s.embedding_lr: described.rates.embedding,
        s.projection_lr: described.rates.projection,
        x.hidden_lr_sum: sum(described.rates.hidden),
    }
    theta = float(evaluate(derivations.initial_kernel_rate(), values))
    p, squares = setup.law().frequencies, np.sum(dynsim.targets(setup) ** 2, axis=1)
    expected = 0.5 * np.exp(-2 * theta * np.outer(TIMES, p)) @ (p * squares)
    assert expected[-1] < 0.5 * expected[0]
    assert_close_curves(flow.loss, expected, 1e-7)


def test_a_search_that_runs_out_of_steps_says_so():
    flow = gradient_flow(
        PLAIN, [0.0, 1e-6, 50.0], limit="infinite", max_steps=20, error_estimate=False
    )
    assert flow.outcome.status is Status.STOPPED
    assert flow.reached < 50
    assert np.isnan(flow.loss[-1])
    assert "raise `max_steps`" in flow.outcome.message


REFUSED = [
    ("hidden_lrs", {}, {"hidden_lrs": [0.1]}, "each of 2 hidden layers"),
    ("hidden_lrs", {}, {"hidden_lrs": [0.1, -1.0]}, "0"),
    ("activation", {"activation": "relu"}, {}, "identity"),
    ("normalisation", {"normalisation": "rms"}, {}, "none"),
    ("network", {"network": "transformer", "batch_size": 32, "head_width": 4}, {}, "linear or mlp"),
    ("depth", {"depth": 9}, {}, "at most 8"),
    ("optimizer", {"optimizer": "muon"}, {}, "sgd"),
    ("optimizer", {"optimizer": "smoothed-sign"}, {}, "sgd"),
    ("precision", {"precision": "bfloat16"}, {}, "float64"),
    ("tied", {"tied": True, "vocab_size": 2}, {}, "false"),
    ("batch_size", {"batch_size": 2}, {}, "full batch"),
    ("weight_decay", {"weight_decay": 0.1}, {}, "left out"),
    ("tokens", {}, {"limit": "proportional"}, "uniform"),
    ("limit", {"tokens": "uniform"}, {"limit": "proportional", "linearised": True}, "infinite"),
    ("width", {"width": 3000}, {}, "lower --depth"),
    ("depth", {"depth": 8, "vocab_size": 2500}, {"limit": "infinite", "nodes": 1000}, "--nodes"),
    ("solver", {}, {"solver": "implicit", "width": 64}, "at most 1024"),
]


@pytest.mark.parametrize(("option", "changes", "options", "fragment"), REFUSED)
def test_bad_input(option, changes, options, fragment):
    options = dict(options)
    setup = replace(PLAIN, **changes)
    setup = replace(setup, width=options.pop("width", setup.width))
    assert_refused(option, lambda: gradient_flow(setup, TIMES, **options), fragment)


def test_rates_of_layers_that_do_not_exist_are_refused():
    setup = Setup(optimizer="sgd")
    assert_refused("hidden_lrs", lambda: gradient_flow(setup, TIMES, hidden_lrs=[0.1]), "left out")
