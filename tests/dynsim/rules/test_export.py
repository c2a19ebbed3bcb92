"""The learning rates that really reach the parameters, in optax and in PyTorch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynsim._errors import InputError
from dynsim._layers import LABELS, LayerValues
from dynsim.rules._export import label_parameters, optax_optimizer, torch_parameter_groups
from dynsim.rules._recommend import recommend
from tests.helpers import assert_refused

RATES = LayerValues(embedding=0.5, hidden=0.25, readout=0.125, vector=0.0625)
PATTERNS = {
    "embed*": "embedding",
    "*bias": "vector",
    "norm*": "vector",
    "head*": "readout",
    "blocks.*": "hidden",
}


def parameters():
    random = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(random.standard_normal(shape), dtype=jnp.float32)

    return {
        "embed": draw(6, 4),
        "blocks": [
            {"weight": draw(4, 4), "bias": draw(4)},
            {"weight": draw(4, 4), "bias": draw(4)},
        ],
        "norm": {"scale": draw(4)},
        "head": draw(3, 4),
    }


EXPECTED = {
    "embed": 0.5,
    "blocks.0.weight": 0.25,
    "blocks.0.bias": 0.0625,
    "blocks.1.weight": 0.25,
    "blocks.1.bias": 0.0625,
    "norm.scale": 0.0625,
    "head": 0.125,
}


def by_name(tree):
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def loss(tree):
    hidden = tree["embed"]
    for block in tree["blocks"]:
        hidden = jnp.tanh(hidden @ block["weight"] + block["bias"][None, :])
    return jnp.mean((hidden * tree["norm"]["scale"][None, :] @ tree["head"].T - 1) ** 2)


def first_step(optimizer, start):
    """Absolute change of each parameter in one jitted step."""

    @jax.jit
    def step(tree):
        state = optimizer.init(tree)
        updates, _ = optimizer.update(jax.grad(loss)(tree), state, tree)
        return optax.apply_updates(tree, updates)

    moved = by_name(step(start))
    return {name: np.abs(np.asarray(moved[name] - leaf)) for name, leaf in by_name(start).items()}


@pytest.mark.parametrize("build", [optax.adam, optax.sign_sgd])
def test_optax_first_step_shows_the_learning_rates(build):
    for name, change in first_step(optax_optimizer(RATES, PATTERNS, build), parameters()).items():
        np.testing.assert_allclose(change, EXPECTED[name], rtol=2e-3, err_msg=name)


def test_a_wrong_label_is_seen_in_the_step():
    wrong = {"blocks.0.weight": "embedding", **PATTERNS}
    changes = first_step(optax_optimizer(RATES, wrong), parameters())
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(changes["blocks.0.weight"], 0.25, rtol=2e-3)
    np.testing.assert_allclose(changes["blocks.1.weight"], 0.25, rtol=2e-3)


def test_optax_weight_decay_reaches_its_layer():
    """With a zero gradient AdamW only shrinks: w (1 - lr decay)."""
    decays = LayerValues(embedding=0.1, hidden=0.2, readout=0.3, vector=0.0)
    optimizer = optax_optimizer(RATES, PATTERNS, weight_decays=decays)
    start = parameters()
    zero = jax.tree.map(jnp.zeros_like, start)
    updates, _ = optimizer.update(zero, optimizer.init(start), start)
    for name, update in by_name(updates).items():
        shrink = {0.5: 0.05, 0.25: 0.05, 0.125: 0.0375, 0.0625: 0.0}[EXPECTED[name]]
        np.testing.assert_allclose(update, -shrink * by_name(start)[name], rtol=1e-4, atol=1e-7)


def test_recommendation_reaches_a_jax_model():
    rule = recommend(1024, 256, 1000, base_embedding_lr=0.01, base_hidden_lr=0.02).mup
    changes = first_step(optax_optimizer(rule.learning_rates, PATTERNS), parameters())
    assert np.median(changes["embed"]) == pytest.approx(0.01, rel=1e-2)
    assert np.median(changes["blocks.0.weight"]) == pytest.approx(0.02 / 4, rel=1e-2)


def test_unlabelled_parameters_are_named():
    partial = {key: PATTERNS[key] for key in ("embed*", "*bias", "blocks.*")}
    with pytest.raises(InputError, match=r"head, norm\.scale"):
        optax_optimizer(RATES, partial).init(parameters())
    with pytest.raises(InputError, match="must also cover b, c"):
        label_parameters(["a", "b", "c"], {"a": "hidden"})
    with pytest.raises(InputError, match="of parameter b must be one of embedding, hidden"):
        label_parameters(["a", "b"], {"a": "hidden", "b": "mlp"})


def test_labels_by_function_and_first_matching_pattern():
    assert label_parameters(["x.bias"], lambda name: "vector")["x.bias"] == "vector"
    assert label_parameters(["x.bias"], {"*.bias": "vector", "x.*": "hidden"}) == {
        "x.bias": "vector"
    }
    assert set(label_parameters(LABELS, {label: label for label in LABELS})) == set(LABELS)


def torch_model():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)

    class Block(torch.nn.Linear):
        pass

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(6, 4)
            self.blocks = torch.nn.ModuleList([Block(4, 4), Block(4, 4)])
            self.norm = torch.nn.LayerNorm(4)
            self.head = torch.nn.Linear(4, 3, bias=False)

        def forward(self, tokens):
            hidden = self.embed(tokens)
            for block in self.blocks:
                hidden = torch.tanh(block(hidden))
            return self.head(self.norm(hidden))

    return torch, Model()


def torch_step(torch, model, groups):
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.Adam(groups)
    (model(torch.arange(6)) ** 2).mean().backward()
    optimizer.step()
    return optimizer, {
        name: (value.detach() - start[name]).abs().numpy()
        for name, value in model.named_parameters()
    }


def test_torch_groups_and_first_step():
    torch, model = torch_model()
    groups = torch_parameter_groups(model, PATTERNS, RATES)
    optimizer, changes = torch_step(torch, model, groups)
    assert {g["label"]: g["lr"] for g in optimizer.param_groups} == {
        label: RATES.of(label) for label in LABELS
    }
    count = sum(len(group["params"]) for group in groups)
    assert count == len(list(model.parameters()))
    for name, change in changes.items():
        expected = {"embed": 0.5, "head": 0.125, "norm": 0.0625}.get(
            name.split(".")[0], 0.0625 if name.endswith("bias") else 0.25
        )
        assert float(np.median(change)) == pytest.approx(expected, rel=1e-2), name


def test_torch_weight_decays_and_named_parameters():
    torch, model = torch_model()
    decays = LayerValues(0.1, 0.2, 0.3, 0.0)
    groups = torch_parameter_groups(model.named_parameters(), PATTERNS, RATES, weight_decays=decays)
    optimizer = torch.optim.AdamW(groups)
    assert {g["label"]: g["weight_decay"] for g in optimizer.param_groups} == {
        label: decays.of(label) for label in LABELS
    }


def test_torch_unlabelled_parameters_are_named():
    _, model = torch_model()
    patterns = {key: label for key, label in PATTERNS.items() if key != "head*"}
    with pytest.raises(InputError, match=r"head\.weight"):
        torch_parameter_groups(model, patterns, RATES)


def test_torch_tied_weights_occur_once():
    _, model = torch_model()
    model.tied = model.head
    groups = torch_parameter_groups(model, PATTERNS, RATES)
    counted = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(counted) == len(set(counted))


def test_recommendation_reaches_a_torch_model():
    torch, model = torch_model()
    rule = recommend(1024, 256, 10**6, "uniform", base_embedding_lr=0.01, base_hidden_lr=0.02).lv
    groups = torch_parameter_groups(model, PATTERNS, rule.learning_rates)
    _, changes = torch_step(torch, model, groups)
    assert float(np.median(changes["embed.weight"])) == pytest.approx(0.01 / 2, rel=1e-2)
    assert float(np.median(changes["blocks.0.weight"])) == pytest.approx(0.02 / 4, rel=1e-2)


def test_a_builder_for_each_label():
    """Muon for hidden matrices alone: the embedding is no Muon matrix, whatever its shape."""
    params = {"wte": jnp.ones((4, 4)), "fc": jnp.ones((4, 4)), "head": jnp.ones((4, 4))}
    labels = {"wte": "embedding", "fc": "hidden", "head": "readout"}
    rates = LayerValues(embedding=0.1, hidden=0.2, readout=0.3, vector=0.4)
    optimizer = optax_optimizer(rates, labels, {"hidden": optax.sgd})
    gradients = jax.tree.map(lambda leaf: 5 * leaf, params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    hidden, readout, embedding = jax.tree.leaves(updates)  # fc, head, wte: in order of the names
    assert np.allclose(hidden, -0.2 * 5)  # plain descent
    assert np.allclose(embedding, -0.1)  # Adam's first step is the sign
    assert np.allclose(readout, -0.3)
    optax_optimizer(rates, labels, {"hidden": optax.contrib.muon}).init(params)
    with pytest.raises(InputError, match="optimizer 'body': must be one of embedding, hidden"):
        optax_optimizer(rates, labels, {"body": optax.sgd})
    assert_refused(
        "optimizer", lambda: optax_optimizer(rates, labels, {"hidden": "muon"}), "hidden", "rate"
    )
