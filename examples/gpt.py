"""Trains a small GPT at several widths by a recommended rule, and checks that it keeps to the rule.

    python examples/gpt.py
    python examples/gpt.py --tied
    python examples/gpt.py --mistake embedding-group

The model is written as people write one: token and position embeddings, causal attention, LayerNorm
before each branch, an MLP with GELU. It reads the source text of Python's standard library, in 512
byte-pair tokens. Three things depend on the width, and all are marked with `muP`: the readout's
initial size (or a multiplier of tied logits), the scale of attention, and the optimizer's groups.

Every width trains for 4 steps under a recorder, with six seeds, which is enough for the coordinate
check. With the first seed the base width and the largest one then go on, and their losses are
printed. Exit code 1: the check fails.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch  # pyright: ignore[reportMissingImports]
import tyro
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from dynsim import LayerValues, Recommendation, label_parameters, recommend, token_law
from dynsim import torch_parameter_groups as parameter_groups
from dynsim.coordinates import CoordinateCheck, CoordinateRecorder, check_coordinates, read_records
from dynsim.tokens import corpus_tokens

HEADS, CONTEXT, BATCH, PROBED = 4, 64, 16, 6
LEARNING_RATE, WEIGHT_DECAY = 4e-3, 0.1  # tuned at the base width
RECORDED = (1, 4)

Mistake = Literal["none", "embedding-group", "readout", "attention", "weight-decay", "one-rate"]


@dataclass(frozen=True)
class Options:
    """Trains a small GPT at several widths and checks how its terms grow with the width."""

    widths: tuple[int, ...] = (32, 64, 128)
    """multiples of 4, the base width first; an interval needs three"""
    layers: int = 2
    steps: int = 120
    """steps that the first and the last width train for with the first seed; at least 4"""
    tied: bool = False
    """the readout is the token embedding"""
    mistake: Mistake = "none"
    """what is done wrongly: the embedding stands in the hidden group; the readout starts like a
    hidden matrix (tied: its multiplier is missing); attention is divided by the root of the head's
    width; weight decay is not scaled; one learning rate for all matrices"""
    vocab_size: int = 512
    """byte-pair tokens, at least 256"""
    text: Path | None = None
    """a text or a folder of texts (default: Python's standard library)"""
    seeds: int = 6
    """draws of the initial weights that are recorded at every width; narrow models differ much"""
    first_seed: int = 0
    out: Path = Path("gpt_example")
    """folder for the records, coordinates.csv"""

    @property
    def tokens(self) -> str:
        """The text as `dynsim recommend --tokens` takes it."""
        return "corpus" if self.text is None else f"corpus:{self.text}"


class Attention(nn.Module):
    """Causal attention of heads that grow with the width."""

    def __init__(self, width: int, scale: float):
        super().__init__()
        self.scale = scale
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        heads = self.qkv(x).view(batch, length, 3, HEADS, width // HEADS)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width: int, scale: float):
        super().__init__()
        self.norm_1, self.attention = nn.LayerNorm(width), Attention(width, scale)
        self.norm_2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm_1(x))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Gpt(nn.Module):
    """`growth` is the width over the base width; at the base width this is a standard GPT."""

    def __init__(self, options: Options, width: int, tied_multiplier: float):
        super().__init__()
        growth, head = width / options.widths[0], width // HEADS
        scale = head**-0.5 * growth**-0.5  # muP: falls like 1/head, not like its root
        if options.mistake == "attention":
            scale = head**-0.5
        self.wte = nn.Embedding(options.vocab_size, width)
        self.wpe = nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList([Block(width, scale) for _ in range(options.layers)])
        self.norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, options.vocab_size, bias=False)
        self.multiplier = 1.0
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                std = 0.2 if "wte" in name or "wpe" in name else weight.shape[1] ** -0.5
                nn.init.normal_(weight, std=std)
        if options.tied:
            self.lm_head.weight = self.wte.weight
            if options.mistake != "readout":
                self.multiplier = tied_multiplier  # muP
        elif options.mistake != "readout":
            nn.init.normal_(self.lm_head.weight, std=width**-0.5 * growth**-0.5)  # muP: 1/width

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.norm(x)) * self.multiplier


def rule_at(options: Options, width: int) -> Recommendation:
    """The rule for this width, with learning rates that were tuned at the base width."""
    return recommend(
        width,
        options.widths[0],
        options.vocab_size,
        token_law(options.tokens, options.vocab_size),
        base_embedding_lr=LEARNING_RATE,
        base_hidden_lr=LEARNING_RATE,
        tied=options.tied,
    )


def command_of(options: Options, width: int) -> str:
    """The command that prints that rule."""
    return (
        f"dynsim recommend --width {width} --base-width {options.widths[0]} "
        f"--vocab-size {options.vocab_size} --tokens {options.tokens} "
        f"--base-embedding-lr {LEARNING_RATE} --base-hidden-lr {LEARNING_RATE} "
        f"--tied {'yes' if options.tied else 'no'}"
    )


def optimizer_of(options: Options, model: Gpt, rule: Recommendation) -> torch.optim.Optimizer:
    """AdamW with muP's groups, or with a planted mistake in them."""
    labels = dict(label_parameters(model))
    rates, decays = rule.mup.learning_rates, rule.mup.weight_decays(WEIGHT_DECAY)
    if options.mistake == "embedding-group":
        labels["wte.weight"] = "hidden"
    if options.mistake == "weight-decay":
        decays = LayerValues(*[WEIGHT_DECAY] * 4)
    if options.mistake == "one-rate":
        rates, decays = LayerValues(*[LEARNING_RATE] * 4), LayerValues(*[WEIGHT_DECAY] * 4)
    return torch.optim.AdamW(parameter_groups(model, labels, rates, weight_decays=decays))


class Text:
    """A tokenised text: batches for training from its first nine tenths, a probe from the rest."""

    def __init__(self, options: Options):
        text = None if options.text is None else str(options.text)
        stream = torch.from_numpy(corpus_tokens(text, options.vocab_size).stream.astype("int64"))
        self.parts = stream.tensor_split([int(0.9 * len(stream))])

    def batch(self, number: int, part: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and those that follow, (BATCH, CONTEXT) each; the same at every width."""
        random = torch.Generator().manual_seed(number)
        stream = self.parts[part]
        starts = torch.randint(len(stream) - CONTEXT, (BATCH,), generator=random)
        rows = torch.stack([stream[start : start + CONTEXT + 1] for start in starts])
        return rows[:, :-1], rows[:, 1:]


def loss_of(model: Gpt, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    tokens, following = batch
    return F.cross_entropy(model(tokens).flatten(0, 1), following.flatten())


def train(options: Options, text: Text, width: int, seed: int, steps: int) -> float:
    """Trains and records one model. Returns the loss on text that it was not trained on."""
    torch.manual_seed(seed)
    rule = rule_at(options, width)
    model = Gpt(options, width, rule.readout_multiplier)
    optimizer = optimizer_of(options, model, rule)
    CoordinateRecorder(
        model,
        text.batch(0, part=1)[0][:PROBED],
        width=width,
        vocab_size=options.vocab_size,
        seed=seed,
        optimizer=optimizer,
        steps=RECORDED,
        file=options.out / "coordinates.csv",
    )
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, text.batch(step)).backward()
        optimizer.step()
    with torch.no_grad():
        held_out = [loss_of(model, text.batch(number, part=1)).item() for number in range(8)]
    return sum(held_out) / len(held_out)


def checked(options: Options) -> CoordinateCheck:
    """Trains every width, with every seed, and judges the records."""
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "coordinates.csv").unlink(missing_ok=True)
    text = Text(options)
    ends = options.widths[0], options.widths[-1]
    for width in options.widths:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            long = width in ends and seed == options.first_seed
            steps = options.steps if long else RECORDED[-1]
            loss = train(options, text, width, seed, steps)
            if long:
                print(f"width {width}: loss {loss:.3f} on held-out text after {steps} steps")
    return check_coordinates(read_records([options.out / "coordinates.csv"]), "mup")


def main(arguments: list[str] | None = None) -> int:
    torch.set_num_threads(1)  # matrices are small: more threads cost more than they save
    options = tyro.cli(Options, args=arguments, description=__doc__)
    width = options.widths[-1]
    print(f"{command_of(options, width)}\n{rule_at(options, width).mup}\n")
    found = checked(options)
    print(f"\n{found}\n")
    print(f"dynsim coordinate-check {options.out / 'coordinates.csv'} --parametrization mup")
    return int(found.verdict == "fails")


if __name__ == "__main__":
    sys.exit(main())
