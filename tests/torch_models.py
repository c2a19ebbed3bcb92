"""Language models in PyTorch, as people write them, in muP at every width, and planted mistakes.

`Gpt` is written like nanoGPT: LayerNorm, fused qkv with bias, learned positions. `Llama` like the
Llama family: RMSNorm, rotary positions, grouped-query attention, a gated MLP. Both have a fixed
number of heads, so that heads grow with the width. At the base width all is standard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

BASE, VOCAB_SIZE, CONTEXT, HEADS = 32, 29, 12, 2


@dataclass(frozen=True)
class Config:
    """A model's size and what is wrong with it: `mistake` names one of `MISTAKES` or is empty."""

    width: int
    tied: bool = False
    mistake: str = ""

    @property
    def growth(self) -> float:
        return self.width / BASE


MISTAKES = (
    "init",
    "group",
    "readout multiplier",
    "attention scale",
    "embedding group",
    "weight decay",
    "two groups",
    "epsilon",
)


class Attention(nn.Module):
    """Shared by both models: scores are scaled by 1/width of a head."""

    def scale(self, config: Config) -> float:
        head, base = config.width // HEADS, BASE // HEADS
        return head**-0.5 if config.mistake == "attention scale" else base**0.5 / head


class GptAttention(Attention):
    def __init__(self, config: Config):
        super().__init__()
        self.c_attn = nn.Linear(config.width, 3 * config.width)
        self.c_proj = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(0.1)
        self.factor = self.scale(config)
        self.mask: torch.Tensor
        self.register_buffer("mask", torch.ones(CONTEXT, CONTEXT).tril().bool())

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, HEADS, width // HEADS).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )
        scores = (q @ k.transpose(-2, -1)) * self.factor
        scores = scores.masked_fill(~self.mask[:length, :length], float("-inf"))
        mixed = self.dropout(F.softmax(scores, dim=-1)) @ v
        return self.c_proj(mixed.transpose(1, 2).reshape(batch, length, width))


class GptMlp(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.c_fc = nn.Linear(config.width, 4 * config.width)
        self.c_proj = nn.Linear(4 * config.width, config.width)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x)))


class GptBlock(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(config.width), GptAttention(config)
        self.ln_2, self.mlp = nn.LayerNorm(config.width), GptMlp(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(VOCAB_SIZE, config.width)
        self.wpe = nn.Embedding(CONTEXT, config.width)
        self.h = nn.ModuleList([GptBlock(config)])
        self.ln_f = nn.LayerNorm(config.width)
        self.lm_head = nn.Linear(config.width, VOCAB_SIZE, bias=False)
        initialise(self, config)

    def forward(self, tokens, targets=None):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x)) * readout_multiplier(self.config)
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss


class RmsNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def rotated(x):
    """Rotary positions of (batch, heads, tokens, head)."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2])[:, None] * 10000.0 ** (-torch.arange(half) / half)[None]
    first, second = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class LlamaAttention(Attention):
    """Two heads that share one key and value head."""

    def __init__(self, config: Config):
        super().__init__()
        head = config.width // HEADS
        self.q_proj = nn.Linear(config.width, HEADS * head, bias=False)
        self.k_proj = nn.Linear(config.width, head, bias=False)
        self.v_proj = nn.Linear(config.width, head, bias=False)
        self.o_proj = nn.Linear(HEADS * head, config.width, bias=False)
        self.factor = self.scale(config)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (
            one(x).view(batch, length, -1, width // HEADS).transpose(1, 2)
            for one in (self.q_proj, self.k_proj, self.v_proj)
        )
        k, v = (one.repeat_interleave(HEADS, dim=1) for one in (k, v))
        mixed = F.scaled_dot_product_attention(
            rotated(q), rotated(k), v, is_causal=True, scale=self.factor
        )
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))


class LlamaMlp(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.gate_proj = nn.Linear(config.width, 2 * config.width, bias=False)
        self.up_proj = nn.Linear(config.width, 2 * config.width, bias=False)
        self.down_proj = nn.Linear(2 * config.width, config.width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaLayer(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.input_layernorm, self.self_attn = RmsNorm(config.width), LlamaAttention(config)
        self.post_attention_layernorm, self.mlp = RmsNorm(config.width), LlamaMlp(config)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(VOCAB_SIZE, config.width)
        self.layers = nn.ModuleList([LlamaLayer(config)])
        self.norm = RmsNorm(config.width)
        self.lm_head = nn.Linear(config.width, VOCAB_SIZE, bias=False)
        initialise(self, config)

    def forward(self, tokens, targets=None):
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        logits = self.lm_head(self.norm(x)) * readout_multiplier(self.config)
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss


def readout_multiplier(config: Config) -> float:
    return 1.0 if config.mistake == "readout multiplier" else 1 / config.growth


def initialise(model: nn.Module, config: Config) -> None:
    """Embedding and readout entries of one size at all widths, hidden ones 1/sqrt(fan-in)."""
    if config.tied:
        model.lm_head.weight = embedding(model).weight
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            continue
        std = 0.3
        if "wte" not in name and "embed" not in name and "wpe" not in name:
            std = BASE**-0.5 if "lm_head" in name else weight.shape[1] ** -0.5
        if config.mistake == "init" and name == wrong_matrix(model):
            std = weight.shape[1] ** -0.5 * config.growth**0.5
        nn.init.normal_(weight, std=std)


def embedding(model: Any) -> nn.Embedding:
    return model.wte if isinstance(model, Gpt) else model.embed_tokens


def wrong_matrix(model: nn.Module) -> str:
    """The matrix of the mistakes in one matrix."""
    return "h.0.mlp.c_fc.weight" if isinstance(model, Gpt) else "layers.0.mlp.up_proj.weight"


def optimizers(model: nn.Module, lr: float = 0.02, decay: float = 0.1) -> list:
    """AdamW with muP's groups. Tied weights that stand in two groups need two optimizers."""
    config = model.config
    wide, fixed = [], []
    for name, weight in model.named_parameters():
        is_hidden = weight.ndim == 2 and not any(
            part in name for part in ("wte", "wpe", "embed", "lm_head")
        )
        if config.mistake == "group" and name == wrong_matrix(model):
            is_hidden = False
        if config.mistake == "embedding group" and weight is embedding(model).weight:
            is_hidden = True
        (wide if is_hidden else fixed).append(weight)
    hidden_decay = decay if config.mistake == "weight decay" else decay * config.growth
    epsilon = 1e-3 * config.growth if config.mistake == "epsilon" else 1e-10
    groups = [
        {"params": wide, "lr": lr / config.growth, "weight_decay": hidden_decay},
        {"params": fixed, "lr": lr, "weight_decay": decay},
    ]
    found = [torch.optim.AdamW(groups, eps=epsilon)]
    if config.mistake == "two groups":
        found.append(torch.optim.AdamW([model.lm_head.weight], lr=lr / config.growth))
    return found


def batch(step: int, sequences: int = 8):
    """Tokens and targets of a step: a random walk on a ring, the same at every width."""
    random = torch.Generator().manual_seed(step)
    moves = torch.randint(1, 4, (sequences, CONTEXT + 1), generator=random)
    start = torch.randint(0, VOCAB_SIZE, (sequences, 1), generator=random)
    tokens = (start + moves.cumsum(1)) % VOCAB_SIZE
    return tokens[:, :-1], tokens[:, 1:]


def trained(model: nn.Module, stepping: list, steps: int) -> None:
    """Trains for a few steps, as a training script does."""
    loss = torch.tensor(math.nan)
    for step in range(steps):
        _, loss = model(*batch(step + 1))
        for one in stepping:
            one.zero_grad(set_to_none=True)
        loss.backward()
        for one in stepping:
            one.step()
    assert math.isfinite(loss.item())
