"""The toy networks against plain numpy: outputs, gradients, labels, initial sizes."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynsim._layers import LayerValues
from dynsim.laboratory import (
    NetworkSetup,
    initial_network,
    network_shape,
    parameter_labels,
)
from dynsim.laboratory import _memory as memory
from dynsim.laboratory import _networks as networks
from dynsim.laboratory import _training as training
from dynsim.laboratory._tasks import Batch

pytestmark = pytest.mark.usefixtures("quick_compilation")

MULTIPLIERS = LayerValues(1.3, 0.7, 0.4, 1.0)
FACTORS = LayerValues(0.5, 2.0, 3.0, 1.0)

SMALL = NetworkSetup(width=8, vocab_size=11, outputs=5, depth=2, precision="float64")
MLP = dataclasses.replace(SMALL, network="mlp")
TRANSFORMER = dataclasses.replace(
    SMALL, network="transformer", head_width=4, context=6, batch_size=12
)
SETUPS = {
    "linear": SMALL,
    "mlp": MLP,
    "mlp without norm": dataclasses.replace(MLP, normalisation="none", activation="gelu"),
    "mlp with layer norm": dataclasses.replace(MLP, normalisation="layer", activation="tanh"),
    "mlp tied": dataclasses.replace(MLP, tied=True, outputs=None, activation="identity"),
    "transformer": TRANSFORMER,
    "transformer tied": dataclasses.replace(
        TRANSFORMER, tied=True, outputs=None, activation="gelu", head_width=8, depth=1
    ),
}


initial = jax.jit(initial_network, static_argnums=0)


def network_of(setup: NetworkSetup, *, seed: int = 3):
    """A network of the setup with gains away from 1."""
    network = initial(network_shape(setup), FACTORS, jax.random.key(seed))
    random = np.random.default_rng(seed)
    moved = {"vector": 0.5 + random.random(setup.width)}
    labels = parameter_labels(network)
    return jax.tree.map(lambda label, w: jnp.asarray(moved.get(label, w)), labels, network)


def tokens_of(setup: NetworkSetup) -> np.ndarray:
    size = (3, setup.sequence_length)
    return np.random.default_rng(0).integers(0, setup.vocab_size, size)


def as_numpy(network) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves(network)
    return dict(zip(networks.parameter_names(network), map(np.asarray, leaves), strict=True))


def activated(name: str, x: np.ndarray) -> np.ndarray:
    if name == "gelu":  # the tanh form
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return {"relu": np.maximum(x, 0), "tanh": np.tanh(x), "identity": x}[name]


def normalised(x: np.ndarray, gain: np.ndarray | None) -> np.ndarray:
    return x if gain is None else gain * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def centred(setup: NetworkSetup, x: np.ndarray) -> np.ndarray:
    return x - x.mean(-1, keepdims=True) if setup.normalisation == "layer" else x


def turned(x: np.ndarray, place: int) -> np.ndarray:
    """Entries k and k + half of a head as a complex number, turned by place x 10000^(-k/half)."""
    half = len(x) // 2
    z = (x[:half] + 1j * x[half:]) * np.exp(1j * place * 10_000.0 ** (-np.arange(half) / half))
    return np.concatenate([z.real, z.imag])


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, head_width: int) -> np.ndarray:
    """Causal attention of one sequence (C, d), one head and one place after the other."""
    mixed = np.zeros_like(q)
    for start in range(0, q.shape[1], head_width):
        head = slice(start, start + head_width)
        for i in range(len(q)):
            query = turned(q[i, head], i)
            scores = [query @ turned(k[j, head], j) / math.sqrt(head_width) for j in range(i + 1)]
            share = np.exp(scores) / np.exp(scores).sum()
            mixed[i, head] = share @ v[: i + 1, head]
    return mixed


def by_numpy(setup: NetworkSetup, w: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """Outputs (S, C, n), the definitions written out."""
    by_embedding, by_hidden, by_readout = 1.3, 0.7, 0.4
    readout = w.get("readout", w["embedding"])
    h = by_embedding * w["embedding"][tokens]
    if setup.network == "linear":
        return by_readout * h @ readout.T
    if setup.network == "mlp":
        for layer in range(setup.depth):
            z = normalised(centred(setup, h), w.get(f"gains.{layer}"))
            z = z if layer == 0 else activated(setup.activation, z)
            h = h + by_hidden * z @ w[f"hidden.{layer}"].T
        z = activated(
            setup.activation, normalised(centred(setup, h), w.get(f"gains.{setup.depth}"))
        )
        return by_readout * z @ readout.T
    for place in range(setup.depth):
        b = {name: w[f"blocks.{place}.{name}"] for name in networks.Block.__dataclass_fields__}
        z = normalised(h, b["attention_gain"])
        q, k, v = (by_hidden * z @ b[name].T for name in ("query", "key", "value"))
        mixed = np.stack([attended(*s, setup.head_width) for s in zip(q, k, v, strict=True)])
        h = h + by_hidden * mixed @ b["output"].T
        z = by_hidden * normalised(h, b["mlp_gain"]) @ b["up"].T
        h = h + by_hidden * activated(setup.activation, z) @ b["down"].T
    return by_readout * normalised(h, w["gain"]) @ readout.T


@eqx.filter_jit
def forward(network, tokens):
    return network(tokens, MULTIPLIERS)


@pytest.mark.parametrize("name", SETUPS)
def test_outputs_are_those_of_numpy(name):
    setup = SETUPS[name]
    network, tokens = network_of(setup), tokens_of(setup)
    weights = as_numpy(network)
    outputs, inputs = forward(network, tokens)
    assert outputs.dtype == "float64"
    np.testing.assert_allclose(outputs, by_numpy(setup, weights, tokens), rtol=1e-10, atol=1e-10)
    # The recorded inputs: of every matrix but the embedding, and what the readout makes of its own.
    labels = dict(zip(weights, jax.tree.leaves(parameter_labels(network)), strict=True))
    matrices = {name for name, label in labels.items() if label in ("hidden", "readout")}
    assert set(inputs) == matrices | {"readout"}
    readout = weights.get("readout", weights["embedding"])
    np.testing.assert_allclose(0.4 * inputs["readout"] @ readout.T, outputs, rtol=1e-12)
    for matrix in matrices:
        assert inputs[matrix].shape == (*tokens.shape, weights[matrix].shape[1])
    # The size of the network, as the memory estimate counts it.
    assert memory.parameter_count(setup) == sum(value.size for value in weights.values())


def test_bfloat16_rounds_and_nothing_else():
    setup = SETUPS["transformer"]
    network, tokens = network_of(setup), tokens_of(setup)
    exact = forward(network, tokens).outputs
    narrow = forward(jax.tree.map(lambda x: x.astype(jnp.bfloat16), network), tokens).outputs
    assert narrow.dtype == "bfloat16"
    gap = float(jnp.linalg.norm(narrow - exact) / jnp.linalg.norm(exact))
    assert 1e-4 < gap < 0.05


def test_the_future_changes_nothing_past():
    network, tokens = network_of(TRANSFORMER), tokens_of(TRANSFORMER)
    for place in (1, 3, 5):
        other = tokens.copy()
        other[:, place] = (other[:, place] + 1) % TRANSFORMER.vocab_size
        before, after = forward(network, tokens).outputs, forward(network, other).outputs
        np.testing.assert_array_equal(before[:, :place], after[:, :place])
        assert np.all(np.abs(before - after)[:, place:].max(axis=-1) > 1e-6)


def test_attention_knows_distances_alone():
    """Rotary scores of a query at i and a key at j depend on i - j; the order matters."""
    random = np.random.default_rng(1)
    query, key = (np.tile(random.normal(size=(1, 1, 1, 8)), (1, 7, 1, 1)) for _ in range(2))
    scores = np.einsum("sihk,sjhk->ij", networks.rotated(query), networks.rotated(key))
    for distance in range(-6, 7):
        diagonal = np.diagonal(scores, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-12)
    assert np.abs(np.diff(scores[0])).min() > 1e-3
    np.testing.assert_allclose(scores[0, 0], query[0, 0, 0] @ key[0, 0, 0])


@pytest.mark.parametrize("size", [1.0, 1e-4])  # the second is mostly epsilon
def test_norm_gradient_is_that_of_its_formula(size):
    random = np.random.default_rng(2)
    gain, x = random.normal(size=5), size * random.normal(size=(2, 3, 5))
    pulled = random.normal(size=x.shape)

    def naive(gain, x):
        return gain[None, None, :] * x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)

    @partial(jax.jit, static_argnums=0)
    def with_gradients(norm):
        values, pull = jax.vjp(norm, gain, x)
        return values, *pull(pulled)

    for got, wanted in zip(with_gradients(networks.rms_norm), with_gradients(naive), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12 / size)


def loss_of(setup: NetworkSetup, kind: str):
    random = np.random.default_rng(4)
    tokens = tokens_of(setup)
    y = {
        "mse": random.normal(size=(*tokens.shape, setup.output_count)),
        "ce": random.dirichlet(np.ones(setup.output_count), size=tokens.shape),
        "class": random.integers(0, setup.output_count, tokens.shape),
    }[kind]
    weights = random.dirichlet(np.ones(tokens.size)).reshape(tokens.shape)
    batch = Batch(*map(jnp.asarray, (tokens, y, weights)))
    loss = "mse" if kind == "mse" else "ce"
    return batch, partial(training.batch_loss, batch=batch, loss=loss)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("linear", "mse"), ("mlp without norm", "ce"), ("transformer tied", "class")],
)
def test_gradients_are_finite_differences(name, kind):
    setup = SETUPS[name]
    network = network_of(setup)
    batch, loss = loss_of(setup, kind)
    random = np.random.default_rng(5)

    # The loss itself, in numpy.
    outputs = np.asarray(forward(network, batch.tokens).outputs)
    y = np.eye(setup.output_count)[batch.targets] if kind == "class" else batch.targets
    each = (
        0.5 * ((outputs - y) ** 2).sum(-1)
        if kind == "mse"
        else -(y * (outputs - np.log(np.exp(outputs).sum(-1, keepdims=True)))).sum(-1)
    )
    value_and_gradient = jax.jit(jax.value_and_grad(lambda n: loss(n, MULTIPLIERS)))
    value, gradient = value_and_gradient(network)
    assert float(value) == pytest.approx(float((batch.weights * each).sum()), rel=1e-12)

    leaves, tree = jax.tree.flatten(network)
    for which in range(len(leaves)):  # parameter by parameter
        along = random.normal(size=leaves[which].shape)
        along /= np.linalg.norm(along)
        step = 1e-4

        def moved(by, which=which, along=along):
            changed = [w + by * along if k == which else w for k, w in enumerate(leaves)]
            return float(value_and_gradient(jax.tree.unflatten(tree, changed))[0])

        slope = (moved(step) - moved(-step)) / (2 * step)
        exact = float((jax.tree.leaves(gradient)[which] * along).sum())
        assert slope == pytest.approx(exact, rel=1e-4, abs=1e-8)
        assert exact != 0


def test_every_parameter_has_its_label():
    block = {
        **dict.fromkeys(("query", "key", "value", "output", "up", "down"), "hidden"),
        **dict.fromkeys(("attention_gain", "mlp_gain"), "vector"),
    }
    ends = {"embedding": "embedding", "readout": "readout"}
    expected = {
        "linear": ends,
        "mlp": ends
        | {f"hidden.{k}": "hidden" for k in range(2)}
        | {f"gains.{k}": "vector" for k in range(3)},
        "transformer": ends
        | {"gain": "vector"}
        | {f"blocks.{k}.{name}": label for k in range(2) for name, label in block.items()},
    }
    for name, labels in expected.items():
        network = jax.eval_shape(partial(network_of, SETUPS[name]))
        found = jax.tree.leaves(parameter_labels(network))
        assert dict(zip(networks.parameter_names(network), found, strict=True)) == labels
    tied = jax.eval_shape(partial(network_of, SETUPS["mlp tied"]))
    assert "readout" not in networks.parameter_names(tied)


@pytest.mark.parametrize("name", ["mlp", "transformer"])
def test_initial_sizes_are_measured_ones(name):
    setup = dataclasses.replace(
        SETUPS[name], width=64, vocab_size=200, outputs=100, precision="float32", depth=1
    )
    shape = network_shape(setup)
    weights, other = (as_numpy(initial(shape, FACTORS, jax.random.key(k))) for k in range(2))
    sizes = {"embedding": 0.5, "readout": 3 / 8, "blocks.0.down": 2 / 16}
    for parameter, w in weights.items():
        assert w.dtype == "float32"
        if w.ndim == 1:
            assert np.all(w == 1)
            continue
        expected = sizes.get(parameter, 2 / 8)
        error = 1 / math.sqrt(2 * w.size)
        assert w.std() / expected == pytest.approx(1, abs=5 * error)
        assert abs(w.mean()) < 5 * expected / math.sqrt(w.size)
        assert abs((w * other[parameter]).mean()) < 5 * expected**2 / math.sqrt(w.size)
    matrices = [w.ravel()[:4096] / w.std() for w in weights.values() if w.ndim == 2]
    overlap = np.corrcoef([w for w in matrices if len(w) == 4096])
    assert np.abs(overlap - np.eye(len(overlap))).max() < 5 / 64  # no two share their numbers
