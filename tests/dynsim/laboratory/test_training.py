"""The laboratory's trainer: its steps against numpy, gauges, and the promises of the grid."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
from helpers import assert_close_curves, assert_refused
from test_networks import as_numpy

from dynsim import Setup, train
from dynsim.laboratory import (
    NetworkSetup,
    network_coordinates,
    runs_side_by_side,
    scales,
    train_networks,
)
from dynsim.laboratory import _memory as memory
from dynsim.laboratory import _networks as networks
from dynsim.laboratory import _training as training

pytestmark = pytest.mark.usefixtures("quick_compilation")

MLP = NetworkSetup(
    network="mlp",
    width=8,
    base_width=4,
    vocab_size=12,
    depth=1,
    outputs=3,
    tokens="zipf:0.7",
    batch_size=16,
    steps=6,
    epsilon=1e-15,
    embedding_lr=0.02,
    hidden_lr=0.03,
    readout_ratio=0.7,
    vector_ratio=0.5,
    precision="float64",
    parametrization="mfp",
    seed=3,
)
TRANSFORMER = dataclasses.replace(MLP, network="transformer", head_width=4, context=4)
LINEAR = dataclasses.replace(MLP, network="linear", readout_ratio=1.0)


def changed(setup: NetworkSetup, **values) -> NetworkSetup:
    return dataclasses.replace(setup, **values)


def losses(setup: NetworkSetup, **arguments) -> np.ndarray:
    """Every loss there is of one run or more."""
    result = train_networks(setup, **arguments)
    return np.hstack([result.initial_loss[:, None], result.train_loss, result.loss])


# One step.


@jax.jit
def gradient(task, multiplier, network, key):
    """Of the squared error on the batch that this key draws."""
    batch = task.batch(key)
    return jax.grad(lambda n: training.batch_loss(n, multiplier, batch, "mse"))(network)


def walk(setup: NetworkSetup):
    """One run, step by step: weights by name before each step and after the last, and gradients."""
    plan, shared = training._plan(setup), training._shared(setup)
    runs = training._runs(setup, training.run_columns(setup))
    state = training._begin(plan, shared, runs)
    for index in range(setup.steps):
        network = jax.tree.map(lambda x: x[0], state.network)
        key = jax.random.fold_in(runs.batches[0], index)
        yield (
            as_numpy(network),
            as_numpy(gradient(shared.task, shared.multiplier, network, key)),
        )
        state = training._advance(plan, training._Drawing(1), shared, runs, state, index, index + 1)
    yield as_numpy(jax.tree.map(lambda x: x[0], state.network)), {}


def factor(step: int) -> float:
    """Two steps of warm-up, then half a cosine to 0 at step 6."""
    return (step + 1) / 2 if step < 2 else 0.5 * (1 + np.cos(np.pi * (step - 2) / 4))


SCHEDULED = changed(MLP, schedule="cosine", warmup_steps=2)
RATES = {"embedding": 0.02, "hidden": 0.03, "readout": 0.7 * 0.03, "vector": 0.5 * 0.02}


def newton_schulz(x: np.ndarray) -> np.ndarray:
    """Muon's five quintic iterations, on the singular values (Jordan et al. 2024)."""
    left, sizes, right = np.linalg.svd(x, full_matrices=False)
    sizes = sizes / np.linalg.norm(sizes)
    for _ in range(5):
        sizes = 3.4445 * sizes - 4.7750 * sizes**3 + 2.0315 * sizes**5
    return left * sizes @ right


@pytest.mark.parametrize(
    ("optimizer", "decay"),
    [
        ("sgd", "coupled"),
        ("momentum", "coupled"),
        ("sign", "independent"),
        ("adam", "coupled"),
        ("muon", "coupled"),
    ],
)
def test_steps_are_the_optimizer_s_formula(optimizer, decay):
    setup = changed(SCHEDULED, optimizer=optimizer, decay=decay, weight_decay=0.05)
    prescribed = scales(setup).learning_rate
    path = list(walk(setup))
    labels = {name: networks.label_of(name) for name in path[0][0]}
    assert set(labels.values()) == set(RATES)
    first = {name: np.zeros_like(w) for name, w in path[0][0].items()}
    second = {name: np.zeros_like(w) for name, w in path[0][0].items()}
    for step, ((weights, gradients), (after, _)) in enumerate(itertools.pairwise(path)):
        for name, w in weights.items():
            label, g = labels[name], gradients[name]
            assert np.abs(g).max() > 0
            rule = "adam" if optimizer == "muon" and label != "hidden" else optimizer
            if rule in ("adam", "muon"):
                beta = 0.95 if rule == "muon" else 0.9
                first[name] = beta * first[name] + (1 - beta) * g
                second[name] = 0.999 * second[name] + 0.001 * g**2
            if rule == "momentum":
                first[name] = 0.9 * first[name] + g
            rate = factor(step) * RATES[label] * prescribed.of(label)
            shrink = 0.0 if label == "vector" else 0.05
            shrink *= rate if decay == "coupled" else factor(step)
            step_taken = after[name] - w + shrink * w
            if rule == "muon":
                # With Nesterov's look-ahead; each average without the bias of its zero start.
                ahead = 0.95 * first[name] / (1 - 0.95 ** (step + 2))
                ahead += 0.05 * g / (1 - 0.95 ** (step + 1))
                expected = newton_schulz(ahead)
                np.testing.assert_allclose(step_taken, -rate * expected, atol=1e-6 * rate)
                continue
            direction = {
                "sgd": lambda g=g: g,
                "sign": lambda g=g: np.sign(g),
                "momentum": lambda name=name: first[name],
                "adam": lambda name=name, step=step: (
                    first[name]
                    / (1 - 0.9 ** (step + 1))
                    / (np.sqrt(second[name] / (1 - 0.999 ** (step + 1))) + 1e-15)
                ),
            }[rule]()
            np.testing.assert_allclose(step_taken, -rate * direction, rtol=1e-8, atol=1e-12)
    assert factor(5) > 0.1


def test_muon_makes_rectangular_steps_orthogonal():
    """The MLP of a transformer block has four times as many rows as columns, and the reverse."""
    rule = training.optimizer_direction("muon", "adam", training.Constants(0.9, 0.999, 1e-12, 0.0))
    block = {"up": (16, 4), "down": (4, 16), "query": (4, 4)}
    random = np.random.default_rng(0)
    gradients = {"hidden": {name: 1e-4 * random.normal(size=n) for name, n in block.items()}}
    gradients = jax.tree.map(lambda x: x.astype("float32"), gradients)
    update = jax.jit(lambda g: rule.update(g, rule.init(g), g)[0])(gradients)["hidden"]
    for name, size in block.items():
        direction = np.asarray(update[name])
        assert direction.dtype == "float32"
        singular = np.linalg.svd(direction, compute_uv=False)
        assert 0.4 < singular.min() <= singular.max() < 1.3
        left, _, right = np.linalg.svd(gradients["hidden"][name], full_matrices=False)
        cosine = (direction * (left @ right)).sum() / np.linalg.norm(direction)
        assert cosine / np.sqrt(min(size)) > 0.95


# Gauges.


UNIT = {  # initial and learning-rate exponents of the same training with all multipliers one
    "adam": {
        "ntk": ("0,-1/2,-1/2", "0,-1,-1"),
        "mup": ("0,-1/2,-1", "0,-1,-1"),
        "mfp": ("0,-1/2,-1", "0,-1,-1"),
        "umup": ("0,-1/2,-1", "-1/2,-1,-1"),
        "lv": ("0,-1/2,-1", "-1/2,-1,-1"),
    },
    "sgd": {
        "ntk": ("0,-1/2,-1/2", "1/2,-1/2,-1"),
        "mup": ("0,-1/2,-1", "1,0,-1"),
        "mfp": ("0,-1/2,-1", "1,0,-1"),
    },
    "muon": {"mup": ("0,-1/2,-1", "0,0,-1"), "ntk": ("0,-1/2,-1/2", "0,0,-1")},
}
UNIT["sign"] = UNIT["adam"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setup", "optimizer", "tied"),
    [
        (changed(MLP, decay="independent"), "sign", False),
        (MLP, "adam", False),
        (MLP, "sgd", False),
        (TRANSFORMER, "adam", True),
        (MLP, "muon", False),
    ],
)
def test_multipliers_are_a_gauge(setup, optimizer, tied):
    """A parametrization with its multipliers trains as the same one with multipliers one."""
    setup = changed(setup, optimizer=optimizer, tied=tied, outputs=None if tied else 3)
    seen = []
    for name, (init, rates) in UNIT[optimizer].items():
        own = losses(changed(setup, parametrization=name))
        unit = changed(setup, parametrization="sp", init_exponents=init, lr_exponents=rates)
        assert max(scales(unit).multiplier.hidden, scales(unit).multiplier.embedding) == 1
        # Muon's five iterations are no exact polar factor, so its step knows the gradient's
        # scale through an epsilon of 1e-8 alone.
        assert_close_curves(own, losses(unit), 1e-5 if optimizer == "muon" else 1e-9)
        seen.append(own[0, -1])
    assert np.ptp(seen) > 1e-4  # ntk is not mup
    # The program's own exponents for SP are NTK's.
    assert_close_curves(
        losses(changed(setup, parametrization="sp")),
        losses(changed(setup, parametrization="ntk")),
        1e-5 if optimizer == "muon" else 1e-9,
    )


def test_parametrizations_coincide_at_the_base_width():
    setup = changed(MLP, base_width=8)
    curves = [
        losses(changed(setup, parametrization=name))
        for name in ("sp", "ntk", "mup", "mfp", "umup", "lv")
    ]
    for curve in curves[1:]:
        np.testing.assert_array_equal(curve, curves[0])


def test_independent_decay_is_the_same_in_every_gauge():
    """Coupled decay is not: it follows the learning rate of the gauge."""
    unit = {"init_exponents": "0,-1/2,-1", "lr_exponents": "0,-1,-1", "parametrization": "sp"}
    for optimizer, decay, same in (("sign", "independent", True), ("adam", "coupled", False)):
        setup = changed(MLP, optimizer=optimizer, decay=decay, weight_decay=0.05)
        own, other = losses(setup), losses(changed(setup, **unit))
        assert np.allclose(own, other, rtol=1e-9) == same


@pytest.mark.parametrize("optimizer", ["sgd", "sign", "adam"])
def test_the_linear_network_is_the_linear_model(optimizer):
    """Full batch, SP's gauge with muP's initial sizes and fixed learning rates: `dynsim.train`."""
    rates = (0.5, 0.3) if optimizer == "sgd" else (0.02, 0.03)
    setup = changed(
        LINEAR,
        base_width=1,
        optimizer=optimizer,
        batch_size=0,
        parametrization="sp",
        init_exponents="0,-1/2,-1",
        lr_exponents="0,0,0",
        steps=7,
        schedule="linear",
    )
    shared = {
        field.name: getattr(setup, field.name)
        for field in dataclasses.fields(Setup)
        if hasattr(setup, field.name) and getattr(setup, field.name) is not None
    }
    linear = Setup(**shared | {"init": "mup", "tokens": "zipf:0.7"})
    trained = train(
        linear, 2, embedding_lrs=[rates[0]], projection_lrs=[rates[1]], dtype="float64"
    ).loss[0]
    result = train_networks(setup, *rates, [0, 1], horizons=[1, 4, 6])
    assert_close_curves(result.train_loss[:, :6], trained[:, :6], 1e-10)
    assert_close_curves(result.loss, trained[:, [1, 4, 6]], 1e-10)
    assert_close_curves(result.initial_loss, trained[:, 0], 1e-10)
    assert np.isnan(result.train_loss[:, 6:]).all()  # training ends at the last horizon
    assert not result.diverged.any()


# The grid.


def test_chunks_order_and_company_change_nothing():
    embedding, hidden = [0.01, 0.02, 0.05, 0.01, 0.3], [0.03, 0.02, 0.01, 0.03, 0.2]
    seeds = [0, 1, 2, 1, 7]
    whole = losses(LINEAR, embedding_lrs=embedding, hidden_lrs=hidden, seeds=seeds)
    one = memory.run_bytes(LINEAR) / 2**30
    for runs in (0.01, 2.1):
        pieces = losses(
            LINEAR,
            embedding_lrs=embedding,
            hidden_lrs=hidden,
            seeds=seeds,
            memory_gb=runs * one,
        )
        assert_close_curves(pieces, whole, 1e-12)
    turned = losses(
        LINEAR, embedding_lrs=embedding[::-1], hidden_lrs=hidden[::-1], seeds=seeds[::-1]
    )
    np.testing.assert_array_equal(turned[::-1], whole)
    again = losses(LINEAR, embedding_lrs=embedding, hidden_lrs=hidden, seeds=seeds)
    np.testing.assert_array_equal(again, whole)
    # Same seed, same start and first batch at any learning rate; another seed, another start.
    np.testing.assert_array_equal(whole[1, :2], whole[3, :2])
    assert len(np.unique(whole[:, 0])) == 4
    assert np.all(whole[1, 2:] != whole[3, 2:])
    others = [{}, {"seed": 4}, {"width": 9}, {"vocab_size": 13}, {"outputs": 4}]
    keys = [training.run_key(changed(LINEAR, **size), 0) for size in others]
    assert len({jax.random.key_data(key).tobytes() for key in keys}) == 5


def test_columns_are_broadcast_and_reported():
    result = train_networks(LINEAR, [0.1, 0.2, 0.3], seeds=[5], weight_decays=[0.0, 0.1, 0.1])
    assert result.embedding_lr.tolist() == [0.1, 0.2, 0.3]
    assert result.hidden_lr.tolist() == [0.03] * 3
    assert result.seed.tolist() == [5] * 3
    assert result.weight_decay.tolist() == [0.0, 0.1, 0.1]
    assert result.horizons.tolist() == [6]
    assert result.loss.shape == (3, 1)
    assert result.train_loss.shape == (3, 6)
    assert result.initial_loss.shape == result.diverged.shape == (3,)
    assert result.loss.dtype == result.train_loss.dtype == "float64"
    decayed, free = (
        train_networks(LINEAR, 0.2, seeds=[5], weight_decays=decay).loss for decay in (0.1, 0.0)
    )
    assert decayed[0, 0] == pytest.approx(result.loss[1, 0], rel=1e-12)
    assert free[0, 0] != decayed[0, 0]


def test_horizons_and_calls_change_nothing(monkeypatch):
    runs = {"embedding_lrs": [0.1, 0.2], "seeds": [0, 1]}
    whole = train_networks(LINEAR, **runs)
    monkeypatch.setattr(training, "STEPS_PER_CALL", 2)
    monkeypatch.setattr(training, "DRAWN_AT_ONCE", 4)
    finished = []
    one = memory.run_bytes(LINEAR) / 2**30
    many = train_networks(
        LINEAR, **runs, horizons=np.array([1, 5, 6]), progress=finished.append, memory_gb=one
    )
    assert len(finished) == 2 * 5  # two chunks; calls end at 1, 2, 4, 5 and 6
    assert sum(finished) == pytest.approx(1)
    assert_close_curves(many.loss[:, -1:], whole.loss, 1e-12)
    assert_close_curves(many.train_loss, whole.train_loss, 1e-12)
    assert np.all(np.diff(many.loss, axis=1) != 0)  # what each is, the linear model above says


def test_the_evaluation_in_pieces_is_the_whole():
    """A law of 600 types, at most 256 at once."""
    setup = changed(MLP, vocab_size=600)
    plan, shared = training._plan(setup), training._shared(setup)
    network = networks.initial_network(plan.shape, shared.init_factor, jax.random.key(0))
    batch = shared.task.evaluation()
    whole = jax.jit(partial(training._loss, plan))(shared, network, batch)
    pieces = jax.jit(partial(training._evaluation_loss, plan))(shared, network)
    assert batch.in_pieces(training.EVALUATION_PIECE).tokens.shape == (3, 200, 1)
    assert float(pieces) == pytest.approx(float(whole), rel=1e-12)


def test_divergence_is_recorded_and_touches_no_neighbour():
    setup = changed(LINEAR, optimizer="sgd", precision="float32")
    both = train_networks(setup, [0.1, 1e30, 1e10], 0.1)
    assert both.diverged.tolist() == [False, True, True]
    assert np.all(np.isfinite(both.loss[0]))
    alone = train_networks(setup, [0.1] * 3, 0.1)
    np.testing.assert_array_equal(alone.loss[0], both.loss[0])
    frozen = train_networks(setup, [0.0] * 3, 0.0)
    np.testing.assert_array_equal(frozen.loss[:, 0], frozen.initial_loss)


def test_weights_whose_squares_overflow_have_diverged(quick_compilation):
    """The norm makes zeros of them, and the loss of a network without an opinion is finite."""
    setup = changed(MLP, batch_size=0, precision="float32", steps=2)
    rates = np.array([0.01, 1e30])
    found = train_networks(setup, rates, rates, record_updates=True)
    assert np.all(np.isfinite(found.loss))
    assert found.diverged.tolist() == [False, True]


def test_one_program_serves_the_whole_study(compilations):
    setup = changed(LINEAR, width=5)
    runs = {"embedding_lrs": [0.1, 0.2], "seeds": [0, 1]}
    # The numbers of a schedule come from small programs of their own.
    train_networks(changed(setup, schedule="cosine", warmup_steps=1), **runs, horizons=[3, 6])
    assert compilations
    compilations.clear()
    for values in (
        {"seed": 77},
        {"parametrization": "sp", "base_width": 3},
        {"lr_exponents": "0,0,1", "init_exponents": "0,0,1/2"},
        {"tokens": "zipf:1.1", "targets": "sign"},
        {"beta1": 0.5, "epsilon": 1e-3, "schedule": "cosine", "warmup_steps": 2},
    ):
        train_networks(changed(setup, **values), **runs)
    train_networks(setup, [0.3, 0.4], 0.1, [9, 8], weight_decays=[0.1, 0.2], horizons=[1, 2, 5])
    assert not compilations
    train_networks(changed(setup, optimizer="sign"), **runs)
    assert compilations


def test_bfloat16_follows_float32():
    setup = changed(LINEAR, precision="float32")
    single = train_networks(setup, seeds=[0, 1])
    narrow = train_networks(changed(setup, precision="bfloat16"), seeds=[0, 1])
    gap = np.abs(narrow.train_loss - single.train_loss) / single.train_loss
    assert 1e-6 < gap.max() < 0.05
    assert_close_curves(narrow.loss, single.loss, 0.05)


# Memory.


def compiled_bytes(setup: NetworkSetup, runs: int) -> int:
    """What XLA says that a training call holds: arguments, and what it works in."""
    plan, shared = training._plan(setup), training._shared(setup)
    batch = training._runs(setup, training.run_columns(setup, seeds=np.arange(runs)))
    state = jax.eval_shape(partial(training._begin, plan, shared), batch)
    compiled = training._advance.lower(
        plan, training._Drawing(1), shared, batch, state, 0, 1
    ).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes


@pytest.mark.parametrize(
    "setup",
    [
        changed(LINEAR, width=64, vocab_size=400, outputs=50, batch_size=0),
        changed(TRANSFORMER, width=32, vocab_size=100, batch_size=512, context=16),
    ],
)
def test_the_memory_estimate_is_right_within_a_factor_two(setup):
    actual = compiled_bytes(changed(setup, precision="float32"), 8) / 8
    estimate = memory.run_bytes(changed(setup, precision="float32"))
    assert actual / 2 < estimate < 2 * actual
    assert memory.run_bytes(setup) == 2 * estimate  # float64


def test_wider_grids_hold_no_more_at_once():
    one = memory.run_bytes(LINEAR) / 2**30
    assert runs_side_by_side(LINEAR, 0.5 * one) == 1
    assert runs_side_by_side(LINEAR, 5.5 * one) == 5
    assert runs_side_by_side(LINEAR) == memory.CORE_CACHE // memory.run_bytes(LINEAR)
    wide = changed(LINEAR, width=2**24, vocab_size=2**20)
    assert_refused("--width", lambda: runs_side_by_side(wide), "GiB", str(2**20))
    assert_refused("--width", lambda: train_networks(wide))


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ("--embedding-lrs", {"embedding_lrs": [0.1, -1]}),
        ("--embedding-lrs", {"embedding_lrs": [np.nan]}),
        ("--embedding-lrs", {"embedding_lrs": []}),
        ("--embedding-lrs", {"embedding_lrs": [[0.1]]}),
        ("--hidden-lrs", {"hidden_lrs": [np.inf]}),
        ("--hidden-lrs", {"hidden_lrs": 1e31}),
        ("--weight-decay", {"weight_decays": -0.1}),
        ("--seeds", {"seeds": -1}),
        ("--seeds", {"seeds": [0.5]}),
        ("--seeds", {"seeds": True}),
        ("--seeds", {"seeds": 2**32}),
        ("--embedding-lrs", {"embedding_lrs": "fast"}),
        ("--hidden-lrs", {"hidden_lrs": [[0.1], [0.1, 0.2]]}),
        ("--seeds", {"seeds": [[1]]}),
        ("--embedding-lrs", {"embedding_lrs": [0.1, 0.2], "hidden_lrs": [0.1, 0.2, 0.3]}),
        ("--seeds", {"embedding_lrs": [0.1, 0.2, 0.3], "seeds": [0, 1]}),
        ("--horizons", {"horizons": []}),
        ("--horizons", {"horizons": 3}),
        ("--horizons", {"horizons": np.array(3)}),
        ("--horizons", {"horizons": [[1], [2, 3]]}),
        ("--horizons", {"horizons": [0]}),
        ("--horizons", {"horizons": [7]}),
        ("--horizons", {"horizons": [2, 2]}),
        ("--horizons", {"horizons": [3, 1]}),
        ("--horizons", {"horizons": [1.5]}),
        ("--memory-gb", {"memory_gb": 0}),
        ("--memory-gb", {"memory_gb": np.nan}),
    ],
)
def test_wrong_arguments(option, arguments):
    assert_refused(option, lambda: train_networks(LINEAR, **arguments))


ON_TWO_DEVICES = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
from dynsim.laboratory import NetworkSetup, network_coordinates, train_networks
from dynsim.laboratory import _training as training
used = set()
advance = training._advance
def watched(*arguments):
    state = advance(*arguments)
    used.update(shard.device.id for shard in state.network.embedding.addressable_shards)
    assert not state.network.embedding.is_fully_replicated
    return state
training._advance = watched
setup = NetworkSetup(**json.loads(sys.argv[1]))
result = train_networks(setup, [0.1, 0.2, 0.3], seeds=[0, 1, 2])
found = [sorted(used), result.train_loss.tolist(), result.loss.tolist()]
used.clear()
sizes = network_coordinates(setup, (1, 3), seeds=3).mean_square
print(json.dumps([*found, sorted(used), sizes.tolist()]))
"""


TWO_DEVICES = "--xla_force_host_platform_device_count=2"


@pytest.mark.slow
def test_several_devices_share_the_runs():
    run = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES, json.dumps(dataclasses.asdict(LINEAR))],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **{name: os.environ[name] for name in os.environ if name.startswith(("JAX_", "XLA_"))},
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {TWO_DEVICES}",
            "JAX_PLATFORMS": "cpu",
            "PATH": "",
        },
    )
    assert run.returncode == 0, run.stderr
    used, train_loss, loss, used_to_measure, sizes = json.loads(run.stdout)
    assert used == used_to_measure == [0, 1]
    here = train_networks(LINEAR, [0.1, 0.2, 0.3], seeds=[0, 1, 2])
    assert_close_curves(train_loss, here.train_loss, 1e-10)
    assert_close_curves(loss, here.loss, 1e-10)
    measured = network_coordinates(LINEAR, (1, 3), seeds=3).mean_square
    np.testing.assert_allclose(sizes, measured, rtol=1e-9)
