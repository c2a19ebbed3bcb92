"""The description of an experiment: parts that all networks share, and the linear model's own.

Each option is defined once: its meaning, its default and its check stand in one part. `Setup` (the
linear model) and `dynsim.laboratory.NetworkSetup` (toy networks) inherit the parts, so that
`setup.vocab_size` is the same thing in both. An option that is None follows from others, and a
property says what follows; so `dataclasses.replace` works it out anew.

| option | property | what None means |
|---|---|---|
| `tokens` | `law_name` | corpus for bigram and next-token targets, else uniform |
| `outputs` | `output_count` | one per token type for next-token targets and tied readouts, else 1 |
| `loss` | `loss_name` | ce for class targets (onehot, bigram, next-token), else mse |
| `weight_decay` | `decay_rate` | 0.1 for adamw, else 0 |
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from dynsim.tokens._laws import MAX_TYPES, TokenLaw, check_law_name, token_law

from ._errors import InputError, check_choice, check_integer, check_rate, check_share
from ._summary import described

Loss = Literal["mse", "ce"]
Targets = Literal["gaussian", "sign", "onehot", "bigram", "next-token"]
Optimizer = Literal["sgd", "momentum", "sign", "smoothed-sign", "adam", "adamw", "muon"]
Schedule = Literal["constant", "linear", "cosine"]
Init = Literal["mup", "sp"]

CLASS_TARGETS = ("onehot", "bigram", "next-token")
CORPUS_TARGETS = ("bigram", "next-token")
LINEAR_TARGETS = ("gaussian", "sign", "onehot", "bigram")
LINEAR_OPTIMIZERS = ("sgd", "momentum", "sign", "smoothed-sign", "adam")
ADAMW_DECAY = 0.1
MAX_SIZE = 2**31 - 1
MIN_EPSILON, MAX_EPSILON = 1e-15, 1e15  # its square is a float32


@dataclass(frozen=True, repr=False)
class Part:
    """A part of a description. Every part checks its own fields; the whole checks combinations."""

    def __post_init__(self) -> None:
        """Raises `InputError` for a value out of range."""

    def __repr__(self) -> str:
        return described(self)


@dataclass(frozen=True, repr=False)
class Sizes(Part):
    """The two sizes that theory takes to infinity."""

    width: int = 256
    """width d, the embedding dimension (default: where corrections of order 1/width are below one
    percent)"""
    vocab_size: int = 1024
    """vocabulary size m, the number of token types (default: four times the default width, so
    that updates are far from full alignment)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("width", self.width, 1, MAX_SIZE)
        check_integer("vocab_size", self.vocab_size, 1, MAX_TYPES)


@dataclass(frozen=True, repr=False)
class Task(Part):
    """What is learned: tokens, their targets, the loss."""

    tokens: str | None = None
    """token law: uniform, zipf:ALPHA, counts:FILE, corpus or corpus:PATH (default: corpus for
    bigram and next-token, else uniform)"""
    targets: Targets = "gaussian"
    """gaussian: N(0, 1); sign: +1 or -1; onehot: a uniformly random class per token; bigram: the
    corpus's next-token frequencies; next-token (mlp, transformer): the corpus itself, token by
    token. The classes of bigram and next-token are the outputs-1 most frequent tokens, then all
    others"""
    target_rank: int = 0
    """rank of gaussian targets (structured: below outputs), 0 for unstructured"""
    outputs: int | None = None
    """number of outputs n (default: one per token type for next-token or a tied readout, else
    1)"""
    loss: Loss | None = None
    """mse: half the squared error, summed over outputs; ce: cross-entropy in nats (default: ce for
    onehot, bigram and next-token, else mse)"""
    seed: int = 0
    """seed of targets, initialisation and batches"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("targets", self.targets, get_args(Targets))
        check_integer("target_rank", self.target_rank, 0, MAX_SIZE)
        check_integer("seed", self.seed, 0, MAX_SIZE)
        if self.tokens is not None:
            check_law_name("tokens", self.tokens)
        if self.outputs is not None:
            check_integer("outputs", self.outputs, 1, MAX_SIZE)
        if self.loss is not None:
            check_choice("loss", self.loss, get_args(Loss))
        if self.loss == "ce" and self.targets not in CLASS_TARGETS:
            raise InputError(
                "targets",
                self.targets,
                "must be onehot, bigram or next-token with `loss` ce (targets are class "
                "probabilities)",
            )
        if self.targets == "next-token" and self.loss == "mse":
            raise InputError("loss", self.loss, "must be ce with `targets` next-token")
        if self.targets in CORPUS_TARGETS and not self.law_name.startswith("corpus"):
            raise InputError(
                "tokens",
                self.tokens,
                f"must be corpus or corpus:PATH with `targets` {self.targets}",
            )

    @property
    def law_name(self) -> str:
        """The token law: `tokens`, or what follows from the targets."""
        return self.tokens or ("corpus" if self.targets in CORPUS_TARGETS else "uniform")

    @property
    def loss_name(self) -> Loss:
        """The loss: `loss`, or what follows from the targets."""
        return self.loss or ("ce" if self.targets in CLASS_TARGETS else "mse")


@dataclass(frozen=True, repr=False)
class Descent(Part):
    """How it is learned: the optimizer and its schedule.

    A step is theta <- theta - eta_t (Phi + weight_decay theta), with Phi the optimizer's map of
    the gradients and eta_t the layer's learning rate times the schedule's factor.
    """

    optimizer: Optimizer = "adam"
    """sgd, momentum, sign (of the gradient g), smoothed-sign g/sqrt(g^2 + epsilon^2), adam, adamw
    or muon (mlp and transformer: hidden matrices, adam for the rest; the default is what most
    networks are trained with, and its first step is that of sign)"""
    beta1: float = 0.9
    """share of the past in adam's mean gradient, or momentum's factor in g + beta1 (g + ...)"""
    beta2: float = 0.999
    """share of the past in adam's mean squared gradient"""
    epsilon: float = 1e-12
    """smallest gradient that counts: of smoothed-sign, and in adam's m/(sqrt(v) + epsilon) (the
    usual 1e-8 is not small against gradients of wide networks with large vocabularies, which fall
    like 1/(width vocab_size))"""
    weight_decay: float | None = None
    """decoupled weight decay: a step shrinks weights (of mlp and transformer: matrices) by
    learning rate times this (default: 0.1 for adamw, else 0)"""
    schedule: Schedule = "constant"
    """learning rates after the warm-up: constant, or to 0 at the last step, linear or cosine"""
    warmup_steps: int = 0
    """first steps, during which learning rates rise linearly"""
    steps: int = 20
    """number of training steps (default: few, since the cost of a prediction grows faster than
    their number)"""
    batch_size: int = 0
    """tokens per batch; 0: every token type at its frequency (not for transformer, next-token)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("optimizer", self.optimizer, get_args(Optimizer))
        check_share("beta1", self.beta1)
        check_share("beta2", self.beta2)
        if not MIN_EPSILON <= self.epsilon <= MAX_EPSILON:
            raise InputError("epsilon", self.epsilon, "must be a number from 1e-15 to 1e15")
        if self.weight_decay is not None:
            check_rate("weight_decay", self.weight_decay)
        check_choice("schedule", self.schedule, get_args(Schedule))
        check_integer("warmup_steps", self.warmup_steps, 0, MAX_SIZE)
        check_integer("steps", self.steps, 1, MAX_SIZE)
        check_integer("batch_size", self.batch_size, 0, MAX_SIZE)

    @property
    def decay_rate(self) -> float:
        """The weight decay: `weight_decay`, or what follows from the optimizer."""
        if self.weight_decay is not None:
            return self.weight_decay
        return ADAMW_DECAY if self.optimizer == "adamw" else 0.0

    @property
    def entrywise_optimizer(self) -> str:
        """The entrywise rule: that of all parameters, or, under muon, of all but hidden ones."""
        return "adam" if self.optimizer in ("adamw", "muon") else self.optimizer


@dataclass(frozen=True, repr=False)
class EmbeddingRate(Part):
    """The learning rate that every network has."""

    embedding_lr: float = 0.01
    """learning rate of the embedding, 0 freezes it (mlp, transformer: at base_width)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("embedding_lr", self.embedding_lr)


@dataclass(frozen=True, repr=False)
class LinearModel(Part):
    """What the linear model alone has."""

    init: Init = "mup"
    """linear: standard deviation of the projection's entries: mup 1/width, sp 1/sqrt(width)"""
    projection_lr: float = 0.01
    """linear: learning rate of the projection, 0 freezes it"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("init", self.init, get_args(Init))
        check_rate("projection_lr", self.projection_lr)


@dataclass(frozen=True, repr=False)
class Experiment(EmbeddingRate, Descent, Task, Sizes):
    """What every experiment has: sizes, task, descent. It checks what their combinations need."""

    def __post_init__(self) -> None:
        super().__post_init__()
        count = self.output_count
        if not 0 <= self.target_rank <= count or (self.target_rank and self.targets != "gaussian"):
            raise InputError(
                "target_rank",
                self.target_rank,
                "must be from 0 to `outputs`, and 0 unless `targets` is gaussian",
            )
        if self.loss_name == "ce" and count < 2:
            raise InputError("outputs", count, "must be at least 2 with `loss` ce")
        if self.targets in CORPUS_TARGETS and not 2 <= count <= self.vocab_size:
            raise InputError(
                "outputs",
                count,
                f"must be from 2 to `vocab_size` with `targets` {self.targets}",
            )

    @property
    def output_count(self) -> int:
        """Number of outputs n: `outputs`, or what follows from the targets."""
        if self.outputs is not None:
            return self.outputs
        return self.vocab_size if self.targets == "next-token" else 1

    def law(self) -> TokenLaw:
        """The token law at this vocabulary size."""
        return token_law(self.law_name, self.vocab_size)

    def resolved(self) -> dict[str, Any]:
        """Every option by name, those that were left open as what follows from the others."""
        return asdict(self) | {
            "tokens": self.law_name,
            "outputs": self.output_count,
            "loss": self.loss_name,
            "weight_decay": self.decay_rate,
        }


@dataclass(frozen=True, repr=False)
class Setup(LinearModel, Experiment):
    """A linear embedding + projection experiment, shared by theory and finite networks.

    Model f_i = W e_i with embedding E (vocab_size x width) and projection W (outputs x width),
    loss L = sum_i p_i l(f_i, y_i), l = |f - y|^2 / 2 (mse) or cross-entropy in nats (ce).
    The embedding's entries start with standard deviation 1.

    Raises `InputError` for a value out of range or a combination that means nothing.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer in ("adamw", "muon"):
            remedy = "muon is for hidden matrices, `network` mlp; adamw is adam with `weight_decay`"
            allowed = f"must be one of {', '.join(LINEAR_OPTIMIZERS)} ({remedy})"
            raise InputError("optimizer", self.optimizer, allowed)
        check_choice("optimizer", self.optimizer, LINEAR_OPTIMIZERS)
        check_choice("targets", self.targets, LINEAR_TARGETS)

    @property
    def projection_std(self) -> float:
        """sigma_W: 1/width under muP, 1/sqrt(width) under SP."""
        return 1 / self.width if self.init == "mup" else self.width**-0.5


def check_covered(setup: object, theory: str) -> None:
    """Raises `InputError` unless `setup` describes the linear model, which `theory` covers."""
    if isinstance(setup, Setup):
        return
    network = getattr(setup, "network", None)
    if network in (None, "linear"):
        raise InputError("setup", type(setup).__name__, "must be a dynsim.Setup")
    raise InputError(
        "network",
        network,
        f"must be linear, the one network that {theory} covers (train covers mlp and transformer)",
    )
