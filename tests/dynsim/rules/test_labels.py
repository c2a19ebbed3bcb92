"""Labels proposed for the models that people have, and parameter groups that hold them."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_exponent, assert_refused

from dynsim import LayerValues, label_parameters, recommend, torch_parameter_groups

RATES = LayerValues(embedding=0.5, hidden=0.25, readout=0.125, vector=0.0625)


# JAX


class Equinox(eqx.Module):
    wte: eqx.nn.Embedding
    layers: list
    norm: eqx.nn.LayerNorm
    lm_head: eqx.nn.Linear
    activation: object

    def __init__(self, width, vocab_size=50):
        keys = jax.random.split(jax.random.key(0), 4)
        self.wte = eqx.nn.Embedding(vocab_size, width, key=keys[0])
        self.layers = [eqx.nn.Linear(width, 4 * width, key=key) for key in keys[1:3]]
        self.norm = eqx.nn.LayerNorm(width)
        self.lm_head = eqx.nn.Linear(width, vocab_size, use_bias=False, key=keys[3])
        self.activation = jax.nn.relu


def flax_parameters(width, vocab_size=50):
    """As flax names and lays out what it makes: kernels have their inputs first."""
    return {
        "Embed_0": {"embedding": jnp.ones((vocab_size, width))},
        "Block_0": {
            "LayerNorm_0": {"scale": jnp.ones(width), "bias": jnp.ones(width)},
            "query": {
                "kernel": jnp.ones((width, 2, width // 2)),
                "bias": jnp.ones((2, width // 2)),
            },
            "Dense_0": {"kernel": jnp.ones((width, 4 * width)), "bias": jnp.ones(4 * width)},
        },
        "lm_head": {"kernel": jnp.ones((width, vocab_size))},
    }


def test_equinox_modules_are_labelled():
    found = label_parameters(Equinox(32))
    assert found == {
        "wte.weight": "embedding",
        "layers.0.weight": "hidden",
        "layers.0.bias": "vector",
        "layers.1.weight": "hidden",
        "layers.1.bias": "vector",
        "norm.weight": "vector",
        "norm.bias": "vector",
        "lm_head.weight": "readout",
    }
    assert "rows are looked up" in repr(found)


@pytest.mark.parametrize("wider", [None, 64])
def test_flax_trees_are_labelled(wider):
    other = None if wider is None else flax_parameters(wider)
    labels = {"Block_0.query.bias": "vector"}
    found = label_parameters(flax_parameters(32), labels, wider=other)
    assert found["Embed_0.embedding"] == "embedding"
    assert found["Block_0.Dense_0.kernel"] == found["Block_0.query.kernel"] == "hidden"
    assert found["lm_head.kernel"] == "readout"
    rest = {label for name, label in found.items() if "bias" in name or "scale" in name}
    assert rest == {"vector"}


def test_only_what_is_ambiguous_is_asked_for():
    """A plain matrix says nothing about its sides; the wider model and the user do."""
    tree = {"embed": jnp.ones((50, 32)), "a": jnp.ones((3, 32)), "b": jnp.ones((32, 32))}
    wider = {"embed": jnp.ones((50, 64)), "a": jnp.ones((3, 64)), "b": jnp.ones((64, 64))}
    assert_refused("labels", lambda: label_parameters(tree), "must also cover", "a (3 x 32")
    found = label_parameters(tree, {"a": "embedding"})
    assert found == {"embed": "embedding", "a": "embedding", "b": "hidden"}
    assert label_parameters(tree, {"a": "embedding"}, wider=wider) == found
    assert_refused("wider", lambda: label_parameters(tree, wider=tree), "another width")
    smaller = {"embed": jnp.ones((50, 64))}
    assert_refused("wider", lambda: label_parameters(tree, wider=smaller), "the same parameters")
    assert_refused("label", lambda: label_parameters(tree, {"a": "mlp"}), "of parameter a")


# PyTorch


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="needs torch: pip install 'dynsim[torch]'")


@pytest.fixture(scope="module")
def models(torch):
    import torch_models

    return torch_models


def expected(names):
    """By the words that these models use."""
    for name in names:
        if "norm" in name or "ln_" in name or name.endswith("bias"):
            yield "vector"
        elif "wte" in name or "wpe" in name or "embed_tokens" in name:
            yield "embedding"
        else:
            yield "readout" if "lm_head" in name else "hidden"


@pytest.mark.parametrize("family", ["Gpt", "Llama"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_transformers_are_labelled_without_a_question(torch, models, family, device):
    """Grouped-query attention, fused qkv, both with the types alone and with a wider model."""
    with torch.device(device):
        model, wider = (getattr(models, family)(models.Config(width)) for width in (64, 128))
    found = label_parameters(model)
    assert list(found.values()) == list(expected(found))
    assert label_parameters(model, wider=wider) == found


@pytest.mark.parametrize("tied", [False, True])
def test_a_branch_as_wide_as_the_vocabulary_is_no_readout(torch, tied):
    """With 4 x width token types an MLP's first matrix has the shape of a readout."""

    class Model(torch.nn.Module):
        def __init__(self, width=16, head="lm_head"):
            super().__init__()
            self.wte = torch.nn.Embedding(64, width)
            self.up = torch.nn.Linear(width, 4 * width, bias=False)
            setattr(self, head, torch.nn.Linear(width, 64, bias=False))
            if tied:
                getattr(self, head).weight = self.wte.weight

    right = {"wte.weight": "embedding", "up.weight": "hidden", "lm_head.weight": "readout"}
    if tied:
        del right["lm_head.weight"]
    assert label_parameters(Model()) == label_parameters(Model(), wider=Model(32)) == right
    asked = "up.weight (64 x 16: readout if"
    assert_refused("labels", lambda: label_parameters(Model(head="last")), asked)


def test_routers_and_lora_factors_are_known(torch):
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.wte = torch.nn.Embedding(50, 64)
            self.gate = torch.nn.Linear(64, 4)
            self.lora_A = torch.nn.Linear(64, 2, bias=False)
            self.lora_B = torch.nn.Linear(2, 64, bias=False)
            self.conv = torch.nn.Conv2d(3, 64, 4)

    found = label_parameters(Layer(), {"conv.weight": "embedding"})
    assert found["gate.weight"] == found["lora_A.weight"] == "hidden"
    assert found["lora_B.weight"] == "embedding"


def wrapped(torch, model, wrapper):
    if wrapper == "compile":
        return torch.compile(model, backend="eager")
    if wrapper == "data parallel":
        return torch.nn.DataParallel(model)
    holder = torch.nn.Module()
    name = "_fsdp_wrapped_module" if wrapper == "fsdp" else "_checkpoint_wrapped_module"
    setattr(holder, name, model)
    return holder


@pytest.mark.parametrize("wrapper", ["compile", "data parallel", "fsdp", "checkpoint"])
def test_groups_survive_wrappers(torch, models, wrapper):
    """With patterns of the bare names, and with proposed labels."""
    model = models.Llama(models.Config(32))
    patterns = {"lm_head*": "readout", "embed_tokens*": "embedding", "*norm*": "vector"}
    patterns["layers.*"] = "hidden"
    plain = torch_parameter_groups(model, patterns, RATES)
    for labels in (patterns, None):
        groups = torch_parameter_groups(wrapped(torch, model, wrapper), labels, RATES)
        assert len(groups) == len(plain)
        for group, own in zip(groups, plain, strict=True):
            assert (group["label"], group["lr"]) == (own["label"], own["lr"])
            assert {map(id, group["params"])} != set()
            assert set(map(id, group["params"])) == set(map(id, own["params"]))


def test_a_frozen_parameter_needs_no_label(torch):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[0].requires_grad_(False)
    labels = {"1.weight": "hidden", "1.bias": "vector"}
    groups = torch_parameter_groups(model, labels, RATES)
    assert sum(len(group["params"]) for group in groups) == 2
    model[0].requires_grad_(True)
    assert_refused("labels", lambda: torch_parameter_groups(model, labels, RATES), "0.weight")


def test_groups_of_ones_own_keep_their_options(torch, models):
    """nanoGPT's two groups, with and without decay, split by label."""
    model = models.Gpt(models.Config(32))
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    own = [
        {"params": decayed, "weight_decay": 0.1, "betas": (0.9, 0.95)},
        {"params": iter(rest), "weight_decay": 0.0},
    ]
    decays = LayerValues(0.1, 0.4, 0.1, 0.1)
    groups = torch_parameter_groups(model, None, RATES, groups=own, weight_decays=decays)
    own[1]["params"] = rest
    assert [(g["label"], g["lr"], g["weight_decay"]) for g in groups] == [
        ("embedding", 0.5, 0.1),
        ("hidden", 0.25, 0.4),
        ("readout", 0.125, 0.1),
        ("vector", 0.0625, 0.0),
    ]
    assert [g.get("betas") for g in groups] == [(0.9, 0.95)] * 3 + [None]
    torch.optim.AdamW(groups)
    kept = torch_parameter_groups(model, None, RATES, groups=own)
    assert [g["weight_decay"] for g in kept] == [0.1, 0.1, 0.1, 0.0]

    def groups_of(*parts):
        return lambda: torch_parameter_groups(
            model, None, RATES, groups=[{"params": p} for p in parts]
        )

    assert_refused("groups", groups_of(decayed), "must hold all trained parameters")
    assert_refused("groups", groups_of(decayed, rest, rest[:1]), "stands in two groups")
    other = [torch.nn.Parameter(torch.ones(2))]
    assert_refused("groups", groups_of(decayed, rest, other), "of the model alone")


def test_parameters_without_names_are_refused(torch):
    model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 9))
    for given in (model.parameters(), list(model.parameters()), model.state_dict()):
        words = "must be a module or model.named_parameters()"
        assert_refused(
            "model", lambda g=given: torch_parameter_groups(g, {"*": "hidden"}, RATES), words
        )
    named = torch_parameter_groups(model.named_parameters(), {"*": "hidden"}, RATES)
    assert len(named[0]["params"]) == 3
    call = lambda: torch_parameter_groups(model.named_parameters(), None, RATES)  # noqa: E731
    assert_refused("labels", call, "named parameters alone")


class TestTiedWeights:
    """One matrix that is embedding and readout: its rate, and what it does to the outputs."""

    WIDTHS = (64, 256, 1024)
    LABELS = {"wte*": "embedding", "fc*": "hidden", "*norm*": "vector", "lm_head*": "readout"}  # noqa: RUF012

    def model(self, torch, width, tied):
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.wte = torch.nn.Embedding(64, width)
                self.fc = torch.nn.Linear(width, width, bias=False)
                self.lm_head = torch.nn.Linear(width, 64, bias=False)
                self.norm = torch.nn.RMSNorm(width)
                self.multiplier = 1.0
                torch.nn.init.normal_(self.wte.weight, std=0.02)
                torch.nn.init.normal_(self.fc.weight, std=width**-0.5)
                torch.nn.init.normal_(self.lm_head.weight, std=0.02 * 64 / width)
                if tied:
                    self.lm_head.weight = self.wte.weight

            def forward(self, tokens):
                x = self.wte(tokens)
                x = x + self.fc(self.norm(x))
                return self.lm_head(self.norm(x)) * self.multiplier

        return Model()

    def test_both_roles_are_named_and_the_slower_rate_is_taken(self, torch):
        model = self.model(torch, 64, tied=True)
        with pytest.warns(UserWarning, match=r"wte\.weight and lm_head\.weight are one weight"):
            groups = torch_parameter_groups(model, self.LABELS, RATES)
        rates = {id(p): group["lr"] for group in groups for p in group["params"]}
        assert rates[id(model.wte.weight)] == 0.125
        fast = torch_parameter_groups(model, self.LABELS, RATES, tied="embedding")
        rates = {id(p): group["lr"] for group in fast for p in group["params"]}
        assert rates[id(model.wte.weight)] == 0.5
        wrong = lambda: torch_parameter_groups(model, None, RATES, tied="x")  # noqa: E731
        assert_refused("tied", wrong, "slower")

    def moved(self, torch, tied, multiplied):
        """RMS change of the outputs after five steps of Adam, by width."""
        sizes = []
        for width in self.WIDTHS:
            model = self.model(torch, width, tied)
            rates = {"base_embedding_lr": 3e-3, "base_hidden_lr": 3e-3}
            answer = recommend(width, 64, 64, "uniform", **rates, tied=tied)
            model.multiplier = answer.readout_multiplier if multiplied else 1.0
            groups = torch_parameter_groups(model, self.LABELS, answer.mup.learning_rates)
            optimizer = torch.optim.Adam(groups)
            tokens, targets = torch.arange(64), torch.randperm(64)
            start = model(tokens).detach()
            for _ in range(5):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(tokens), targets).backward()
                optimizer.step()
            sizes.append(float((model(tokens).detach() - start).square().mean().sqrt()))
        return np.array(sizes)

    def test_the_recommended_multiplier_makes_the_one_rate_stable(self, torch):
        """And there is no warning, since the recommendation knows both roles."""
        for tied, multiplied in ((False, False), (True, True)):
            assert_exponent(self.WIDTHS, self.moved(torch, tied, multiplied), -0.15, 0.15)
        without = self.moved(torch, tied=True, multiplied=False)
        with pytest.raises(AssertionError):
            assert_exponent(self.WIDTHS, without, -0.15, 0.15)
