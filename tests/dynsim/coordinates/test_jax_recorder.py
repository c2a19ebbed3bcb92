"""The recorder around JAX functions: plain, equinox and flax, against the matrices themselves."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from helpers import assert_refused

from dynsim import LayerValues, optax_optimizer
from dynsim.coordinates import JaxRecorder, check_coordinates

pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB_SIZE, BASE, TOKENS = 12, 16, jnp.arange(12)


def parameters(width, seed=0):
    """Embedding, two hidden matrices stacked for a scan, readout: standard at the base width."""
    random = np.random.default_rng(seed)

    def draw(std, *shape):
        return jnp.asarray(std * random.standard_normal(shape), jnp.float32)

    return {
        "embed": draw(1.0, VOCAB_SIZE, width),
        "layers": draw(width**-0.5, 2, width, width),
        "head": draw(BASE**-0.5, width, VOCAB_SIZE),
    }


LABELS = {"embed": "embedding", "layers": "hidden", "head": "readout"}


def apply(params, tokens):
    """Residual layers in a scan; the readout has muP's multiplier."""
    width = params["embed"].shape[1]

    def layer(x, weight):
        rms = jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True))
        return x + jnp.tanh(jax.nn.relu(x / rms) @ weight), None

    x, _ = jax.lax.scan(layer, params["embed"][tokens], params["layers"])
    return (x @ params["head"]) * (BASE / width)


def recorder_of(function, params, inputs=(TOKENS,), **more):
    settings = {"width": 16, "vocab_size": VOCAB_SIZE, "steps": (1, 2), "file": None} | more
    return JaxRecorder(function, params, inputs, **settings)


def sizes(recorder, module, step):
    table = recorder.records.table()
    rows = table[(table.module == module) & (table.step == step)]
    return dict(zip(rows.term, rows.rms, strict=True))


def rms(x):
    return float(jnp.sqrt(jnp.mean(jnp.square(x))))


@pytest.mark.slow
def test_terms_are_those_of_the_matrices():
    params = parameters(16)
    recorder = recorder_of(apply, params, labels=LABELS)
    moved = jax.tree.map(lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size).reshape(x.shape)), params)
    recorder.after_step(moved)
    head, change = params["head"], moved["head"] - params["head"]
    e0, de = params["embed"], moved["embed"] - params["embed"]
    z0 = apply({**params, "head": jnp.eye(16)}, TOKENS)
    z = apply({**moved, "head": jnp.eye(16)}, TOKENS)
    expected = {
        "head": {
            "update_on_initial": rms(z0 @ change),
            "initial_on_learned": rms((z - z0) @ head),
            "update_on_learned": rms((z - z0) @ change),
            "output": rms(apply(moved, TOKENS)),
        },
        "embed": {"update_on_initial": rms(de)},
        "layers[1]": {"weight_update": rms(moved["layers"][1] - params["layers"][1])},
        "model": {"update": rms(apply(moved, TOKENS) - apply(params, TOKENS))},
    }
    for module, terms in expected.items():
        found = sizes(recorder, module, 1)
        for term, value in terms.items():
            assert found[term] == pytest.approx(value, rel=1e-3), (module, term)
    normed = jax.nn.relu(e0 / jnp.sqrt(jnp.mean(jnp.square(e0), axis=-1, keepdims=True)))
    first = sizes(recorder, "layers[0]", 0)
    assert first["initial"] == pytest.approx(rms(normed @ params["layers"][0]), rel=1e-3)
    table = recorder.records.table().drop_duplicates("module").set_index("module")
    assert table.reads_embedding["layers[0]"] == 1
    assert table.reads_embedding["layers[1]"] == 0


def trained(width, rates, seed=0):
    params = parameters(width, seed)
    recorder = recorder_of(apply, params, labels=LABELS, width=width, seed=seed)
    optimizer = optax_optimizer(rates, LABELS)
    state = optimizer.init(params)
    targets = (TOKENS * 5 + 1) % VOCAB_SIZE

    def loss(p):
        logits = apply(p, TOKENS)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(2):
        params, state = step(params, state)
        recorder.after_step(params)
    return recorder.records.table()


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [False, True])
def test_a_right_model_passes_and_an_unscaled_hidden_rate_is_named(wrong):
    tables = []
    for width in (16, 32, 64):
        hidden = 0.03 if wrong else 0.03 * BASE / width
        tables.append(trained(width, LayerValues(0.03, hidden, 0.03, 0.03)))
    found = check_coordinates(pd.concat(tables, ignore_index=True), "mup")
    if wrong:
        assert {module.name for module in found.failing} == {"layers[0]", "layers[1]"}
        assert "wrong parameter group" in found.failing[0].mistakes[0]
    else:
        assert not found.failing, found


class Tied(eqx.Module):
    embed: eqx.nn.Embedding
    query: eqx.nn.Linear
    key: eqx.nn.Linear
    activation: object

    def __init__(self, width):
        keys = jax.random.split(jax.random.key(0), 3)
        self.embed = eqx.nn.Embedding(VOCAB_SIZE, width, key=keys[0])
        self.query = eqx.nn.Linear(width, width, key=keys[1])
        self.key = eqx.nn.Linear(width, width, key=keys[2])
        self.activation = jax.nn.relu

    def __call__(self, tokens):
        x = jax.vmap(self.embed)(tokens)
        q, k = jax.vmap(self.query)(x), jax.vmap(self.key)(x)
        scores = jax.nn.softmax(q @ k.T / q.shape[-1], axis=-1)
        return self.activation(scores @ x) @ self.embed.weight.T


def test_equinox_with_tied_weights_and_attention():
    """Functions among the leaves are left alone; scores are seen with the width of a head."""
    recorder = recorder_of(lambda model, x: jax.vmap(model)(x), Tied(16), (TOKENS[None],))
    table = recorder.records.table().drop_duplicates("module").set_index("module")
    assert table.label["embed"] == "embedding"
    assert table.label["embed as readout"] == "readout"
    assert table.label["query"] == table.label["key"] == "hidden"
    assert table.fan_in["scores.0"] == 16


def test_flax_modules():
    linen = pytest.importorskip("flax.linen", reason="needs flax")
    model = linen.Sequential([linen.Embed(VOCAB_SIZE, 16), linen.LayerNorm(), linen.Dense(16)])
    params = model.init(jax.random.key(0), TOKENS)
    recorder = recorder_of(model.apply, params)
    found = sizes(recorder, "layers_2", 0)
    assert found["weight"] == pytest.approx(rms(params["params"]["layers_2"]["kernel"]), rel=1e-5)
    assert found["input"] == pytest.approx(1, abs=0.02)


def test_what_cannot_be_recorded_is_refused():
    params = parameters(16)
    assert_refused("labels", lambda: recorder_of(apply, params), "must also cover")
    assert_refused("apply", lambda: recorder_of(3, params), "must be a function")
    call = lambda: recorder_of(lambda p, x: p["b"] + x, {"b": jnp.ones(3)}, (1.0,))  # noqa: E731
    assert_refused("apply", call, "multiplies nothing")
    empty = lambda: recorder_of(apply, {}, labels=LABELS)  # noqa: E731
    assert_refused("model", empty, "must have parameters")


def test_recorded_numbers_do_not_depend_on_compilation():
    params = parameters(16)
    plain = recorder_of(apply, params, labels=LABELS).records.table()
    compiled = recorder_of(jax.jit(apply), params, labels=LABELS).records.table()
    np.testing.assert_allclose(compiled.rms, plain.rms, rtol=1e-5)
