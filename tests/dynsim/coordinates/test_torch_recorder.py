"""What the recorder measures, against the matrices themselves, in every form that models have."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_refused

torch = pytest.importorskip("torch", reason="needs torch: pip install 'dynsim[torch]'")
import torch_models as models  # noqa: E402
from torch import nn  # noqa: E402  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # noqa: E402  # pyright: ignore[reportMissingImports]

from dynsim.coordinates import CoordinateRecorder, read_records  # noqa: E402

WIDTH, TOKENS = 8, torch.arange(6)


def recorder_of(model, probe=TOKENS, *, steps=(1,), optimizer=None, file=None, **more):
    return CoordinateRecorder(
        model,
        probe,
        width=WIDTH,
        vocab_size=6,
        optimizer=optimizer,
        steps=steps,
        file=file,
        **more,
    )


def sizes(recorder, module, step):
    table = recorder.records.table()
    rows = table[(table.module == module) & (table.step == step)]
    return dict(zip(rows.term, rows.rms, strict=True))


def step_of(model, optimizer, probe=TOKENS, parts=1):
    """One optimizer step, its gradients accumulated over `parts` passes."""
    optimizer.zero_grad()
    for _ in range(parts):
        model(probe).square().mean().backward()
    optimizer.step()


def rms(x):
    return float(x.detach().float().square().mean().sqrt())


class Small(nn.Module):
    def __init__(self, tied=False):
        super().__init__()
        torch.manual_seed(0)
        self.wte = nn.Embedding(6, WIDTH)
        self.fc = nn.Linear(WIDTH, WIDTH)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(WIDTH, 6, bias=False)
        if tied:
            self.head.weight = self.wte.weight

    def forward(self, tokens):
        return self.head(self.drop(torch.tanh(self.fc(self.wte(tokens))))) * 0.25


def test_the_four_terms_are_those_of_the_matrices():
    model = Small()
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    recorder = recorder_of(model, optimizer=optimizer)
    step_of(model, optimizer)
    model.eval()
    change = {name: p.detach() - start[name] for name, p in model.named_parameters()}
    e0, de = start["wte.weight"], change["wte.weight"]
    z0 = torch.tanh(e0 @ start["fc.weight"].T + start["fc.bias"])
    z = torch.tanh((e0 + de) @ model.fc.weight.detach().T + model.fc.bias.detach())
    w0, dw = 0.25 * start["head.weight"], 0.25 * change["head.weight"]  # multiplier included
    expected = {
        "fc": {
            "update_on_initial": rms(e0 @ change["fc.weight"].T),
            "initial_on_learned": rms(de @ start["fc.weight"].T),
            "update_on_learned": rms(de @ change["fc.weight"].T),
            "weight_update": rms(change["fc.weight"]),
            "learned_input": rms(de),
        },
        "head": {
            "update_on_initial": rms(z0 @ dw.T),
            "initial_on_learned": rms((z - z0) @ w0.T),
            "update_on_learned": rms((z - z0) @ dw.T),
            "output": rms(z @ (w0 + dw).T),
            "weight_update": rms(dw),
        },
        "wte": {"update_on_initial": rms(de), "output": rms(e0 + de)},
        "model": {"update": rms(z @ (w0 + dw).T - z0 @ w0.T)},
        "fc.bias": {"weight_update": rms(change["fc.bias"])},
    }
    for module, terms in expected.items():
        found = sizes(recorder, module, 1)
        for term, value in terms.items():
            assert found[term] == pytest.approx(value, rel=1e-4), (module, term)
    assert sizes(recorder, "fc", 0)["initial"] == pytest.approx(rms(e0 @ start["fc.weight"].T))
    assert sizes(recorder, "fc", 1)["learning_rate"] == pytest.approx(0.1)


def test_training_is_not_changed():
    """Dropout draws the same numbers, modules stay in training mode, gradients are the same."""
    results = []
    for watched in (False, True):
        model = Small()
        optimizer = torch.optim.Adam(model.parameters())
        torch.manual_seed(1)
        if watched:
            recorder_of(model, optimizer=optimizer, steps=(1, 2))
        for _ in range(3):
            step_of(model, optimizer)
        assert model.drop.training
        assert not model.fc._forward_hooks
        results.append(model.head.weight.detach().clone())
    assert torch.equal(*results)


def test_accumulated_gradients_are_one_step():
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = recorder_of(model, optimizer=optimizer, steps=(2,))
    step_of(model, optimizer, parts=3)
    assert recorder.step == 1
    step_of(model, optimizer, parts=3)
    assert set(recorder.records.table().step) == {0, 2}
    assert recorder.memory == 0  # what was kept is let go after the last step


def test_a_tied_weight_is_two_modules():
    recorder = recorder_of(Small(tied=True))
    table = recorder.records.table().drop_duplicates("module").set_index("module")
    assert table.label.wte == "embedding"
    assert table.label["head"] == "readout"
    assert table.tied.wte == table.tied["head"] == 1
    entries = {name: sizes(recorder, name, 0)["weight"] for name in ("wte", "head")}
    assert entries["head"] == pytest.approx(0.25 * entries["wte"])


def test_a_frozen_matrix_is_marked():
    model = Small()
    model.fc.weight.requires_grad_(False)
    table = recorder_of(model).records.table().drop_duplicates("module").set_index("module")
    assert table.trained["fc"] == 0
    assert table.trained["head"] == 1


class Lora(nn.Module):
    def __init__(self):
        super().__init__()
        self.base_layer = nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
        self.lora_A = nn.Linear(WIDTH, 2, bias=False)
        self.lora_B = nn.Linear(2, WIDTH, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x)) * 2.0


def test_lora_has_a_frozen_base_and_two_factors():
    model = nn.Sequential(nn.Embedding(6, WIDTH), Lora(), nn.Linear(WIDTH, 6))
    recorder = recorder_of(model)
    table = recorder.records.table().drop_duplicates("module").set_index("module")
    assert table.label["1.lora_A"] == "hidden"
    assert table.label["1.lora_B"] == "embedding"
    assert table.trained["1.base_layer"] == 0
    assert sizes(recorder, "1.lora_B", 0)["initial"] == 0


class Experts(nn.Module):
    """Two experts, each token goes to one: chosen by index, or all of them stacked."""

    def __init__(self, stacked):
        super().__init__()
        torch.manual_seed(0)
        self.wte = nn.Embedding(6, WIDTH)
        self.gate = nn.Linear(WIDTH, 2, bias=False)
        self.stacked = stacked
        if stacked:
            self.w1 = nn.Parameter(torch.randn(2, WIDTH, WIDTH))
        else:
            self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.lm_head = nn.Linear(WIDTH, 6)

    def forward(self, tokens):
        x = self.wte(tokens)
        shares = F.softmax(self.gate(x), dim=-1)
        if self.stacked:
            y = torch.einsum("td,edf->tef", x, self.w1)
            return self.lm_head(torch.einsum("tef,te->tf", y, shares))
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            (rows,) = torch.where(shares.argmax(-1) == index)
            out[rows] = expert(x[rows]) * shares[rows, index, None]
        return self.lm_head(out)


def test_experts_are_recorded_one_by_one():
    model = Experts(stacked=True)
    recorder = recorder_of(model, labels={"w1": "hidden"})
    e0 = model.wte.weight.detach()
    for expert in range(2):
        found = sizes(recorder, f"w1[{expert}]", 0)
        assert found["initial"] == pytest.approx(rms(e0 @ model.w1.detach()[expert]), rel=1e-4)
        assert found["weight"] == pytest.approx(rms(model.w1.detach()[expert]), rel=1e-4)


def test_tokens_that_change_their_expert_are_not_compared():
    """Learned inputs are those of tokens that reach the expert at both steps."""
    model = Experts(stacked=False)
    recorder = recorder_of(model)
    start = model.wte.weight.detach().clone()
    before = (start @ model.gate.weight.detach().T).argmax(-1)
    with torch.no_grad():
        model.wte.weight += 0.01 * torch.randn(6, WIDTH)
        model.gate.weight.copy_(torch.randn(2, WIDTH))
    recorder.after_step()
    after = (model.wte.weight.detach() @ model.gate.weight.detach().T).argmax(-1)
    assert (before != after).any()
    for expert in range(2):
        both = (before == expert) & (after == expert)
        found = sizes(recorder, f"experts.{expert}", 1)
        if both.any():
            learned = (model.wte.weight.detach() - start)[both]
            assert found["learned_input"] == pytest.approx(rms(learned), rel=1e-4)
        else:
            assert "learned_input" not in found


def test_attention_of_torch_and_its_scores_are_seen():
    """The fast path of `MultiheadAttention` hides its products; the recorder takes the slow one."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte = nn.Embedding(6, WIDTH)
            self.block = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
            self.lm_head = nn.Linear(WIDTH, 6)

        def forward(self, tokens):
            return self.lm_head(self.block(self.wte(tokens)))

    recorder = recorder_of(Model(), TOKENS[None])
    table = recorder.records.table().drop_duplicates("module").set_index("module")
    assert table.label["block.self_attn.in_proj_weight"] == "hidden"
    assert table.fan_in["block.self_attn scores"] == WIDTH // 2
    assert table.reads_embedding["block.self_attn.in_proj_weight"] == 1
    assert table.reads_embedding["block.linear1"] == 0


def wrapped(model, wrapper):
    if wrapper == "compile":
        return torch.compile(model, backend="eager")
    if wrapper == "data parallel":
        return nn.DataParallel(model)
    if wrapper == "checkpoint":
        from torch.distributed.algorithms._checkpoint import (  # pyright: ignore[reportMissingImports]
            checkpoint_wrapper as wrappers,
        )

        model.fc = wrappers.checkpoint_wrapper(model.fc)
    return model


@pytest.mark.parametrize("wrapper", ["compile", "data parallel", "checkpoint"])
def test_wrappers_leave_the_names_as_they_are(wrapper):
    plain = recorder_of(Small()).records.table()
    found = recorder_of(wrapped(Small(), wrapper)).records.table()
    assert list(found.module) == list(plain.module)
    np.testing.assert_allclose(found.rms, plain.rms)


def test_autocast_and_low_precision_are_measured_in_single_precision():
    model = Small()
    plain = recorder_of(model).records.table()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = recorder_of(model).records.table()
    np.testing.assert_array_equal(found.rms, plain.rms)
    half = recorder_of(Small().bfloat16()).records.table()
    np.testing.assert_allclose(half.rms, plain.rms, rtol=0.02)


def test_fused_and_shared_matrices_need_no_modules():
    """A plain parameter, transposed, scaled and split, and one that is used twice."""

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte = nn.Embedding(6, WIDTH)
            self.w_qkv = nn.Parameter(torch.randn(WIDTH, 3 * WIDTH))
            self.shared = nn.Linear(WIDTH, WIDTH, bias=False)

        def forward(self, tokens):
            q, k, v = (self.wte(tokens) @ (self.w_qkv * 0.5)).chunk(3, dim=-1)
            x = self.shared(torch.tanh(self.shared(q * k + v)))
            return F.linear(x, self.wte.weight)

    model = Plain()
    recorder = recorder_of(model, labels={"w_qkv": "hidden"})
    modules = set(recorder.records.table().module)
    assert {"wte", "w_qkv", "shared", "shared#2", "wte as readout"} <= modules
    expected = 0.5 * rms(model.wte.weight @ model.w_qkv)
    assert sizes(recorder, "w_qkv", 0)["initial"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("suffix", [".csv", ".nc"])
def test_runs_share_a_file_and_are_kept_at_every_step(tmp_path, suffix):
    file = tmp_path / "new" / f"runs{suffix}"
    for seed in (0, 1):
        model = Small()
        optimizer = torch.optim.Adam(model.parameters())
        recorder = recorder_of(model, optimizer=optimizer, steps=(1, 5), file=file, seed=seed)
        assert set(read_records([file]).seed) == set(range(seed + 1))
        step_of(model, optimizer)  # the run ends here: steps 0 and 1 are in the file
        recorder.close()
    table = read_records([file, file])  # rows that occur again count once
    assert set(table.step) == {0, 1}
    assert len(table) == 2 * len(recorder.records.table())
    assert_refused("file", lambda: recorder_of(Small(), file=file), "seed 0 already")


def started():
    model = Small()
    optimizer = torch.optim.Adam(model.parameters())
    step_of(model, optimizer)
    return model, optimizer


def test_what_cannot_be_recorded_is_refused():
    model, optimizer = started()
    cases = {
        "has taken steps already": ("optimizer", lambda: recorder_of(model, optimizer=optimizer)),
        "must be a torch.nn.Module": ("model", lambda: recorder_of(lambda x: x)),
        "must have parameters": ("model", lambda: recorder_of(nn.ReLU())),
        "multiplies nothing": ("model", lambda: recorder_of(nn.LayerNorm(6), torch.ones(6))),
        "from 1 on": ("steps", lambda: recorder_of(Small(), steps=(0, 1))),
        "must end in .csv or .nc": ("file", lambda: recorder_of(Small(), file="runs.txt")),
        "must be a torch optimizer": ("optimizer", lambda: recorder_of(Small(), optimizer=3)),
        "must also cover 0.weight": (
            "labels",
            lambda: recorder_of(
                nn.Sequential(nn.Linear(3, 64), nn.Linear(64, 64)), torch.ones(2, 3)
            ),
        ),
        "must be an integer": (
            "width",
            lambda: CoordinateRecorder(Small(), TOKENS, width=0, vocab_size=6, file=None),
        ),
    }
    for words, (field, call) in cases.items():
        assert_refused(field, call, words)
    watched = recorder_of(Small(), optimizer=torch.optim.SGD(Small().parameters(), 0.1))
    assert_refused("optimizer", watched.after_step, "leave out after_step")


def test_the_memory_is_that_of_weights_and_inputs():
    recorder = recorder_of(Small(), steps=(1, 2))
    weights = 6 * WIDTH + WIDTH * WIDTH + WIDTH + 6 * WIDTH
    inputs = 6 * 2 + 6 * WIDTH + 6 * WIDTH  # token numbers (8 bytes), inputs of fc and head
    outputs = 6 * 6
    assert recorder.memory == 4 * (weights + inputs + outputs)
    assert "on the CPU" in repr(recorder)


def test_models_of_two_kinds_of_probe():
    tokens, targets = models.batch(0)
    for probe in ((tokens, targets), {"tokens": tokens, "targets": targets}):
        recorder = recorder_of(models.Gpt(models.Config(WIDTH)), probe)
        assert sizes(recorder, "model", 0)["output"] > 0
