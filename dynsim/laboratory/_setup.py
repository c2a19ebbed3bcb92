"""The description of a toy-network experiment: network, parametrization, task, optimizer, seed."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import Literal, get_args

from dynsim._errors import InputError, check_choice, check_integer, check_rate
from dynsim._setup import MAX_SIZE, Loss, Schedule, Setup

NetworkName = Literal["linear", "mlp", "transformer"]
Activation = Literal["relu", "gelu", "identity"]
Normalisation = Literal["rms", "none"]
ParametrizationName = Literal["sp", "ntk", "mup", "mfp", "umup", "lv"]
LabOptimizer = Literal["sgd", "momentum", "sign", "adam", "adamw", "muon"]
LabTargets = Literal["gaussian", "sign", "onehot", "bigram", "next-token"]
Decay = Literal["coupled", "independent"]
Precision = Literal["float32", "bfloat16", "float64"]

CLASS_TARGETS = ("onehot", "bigram", "next-token")
CORPUS_TARGETS = ("bigram", "next-token")
ADAMW_DECAY = 0.1
_POWER = re.compile(r"[+-]?\d{1,6}(/\d{1,6}|\.\d{1,6})?")


@dataclass(frozen=True)
class NetworkSetup:
    """A toy network and how it is trained.

    `linear`: f = W e_i. `mlp`: h_0 = e_i, h_l = h_{l-1} + W_l phi(norm(h_{l-1})) for `depth` hidden
    layers, but W_1 reads norm(e_i) without phi; f = W phi(norm(h_depth)). `transformer`:
    decoder-only, `depth` blocks of causal attention (rotary positions) and an MLP of four widths,
    RMSNorm before each and before the readout.

    At `base_width` every parametrization is the standard one: embedding entries start with
    standard deviation 1, hidden and readout ones with 1/sqrt(fan-in). At width d a layer's
    multiplier, initial standard deviation and learning rate are those times
    (d / base_width)^exponent, exponents relative to SP's. Learning rates here are those at
    `base_width`; the readout's is `readout_ratio` times the hidden one, that of norm gains
    `vector_ratio` times the embedding's.

    Raises `InputError` for a value out of range or a combination that means nothing.
    """

    network: NetworkName = "linear"
    """linear: embedding and projection; mlp: embedding, residual hidden layers, readout;
    transformer: decoder-only"""
    width: int = 128
    """width d, the embedding dimension"""
    vocab_size: int = 512
    """vocabulary size m, the number of token types"""
    depth: int = 2
    """hidden layers of mlp, blocks of transformer"""
    head_width: int = 16
    """width of an attention head; the number of heads is width/head_width"""
    context: int = 32
    """tokens of a sequence of transformer"""
    activation: Activation = "relu"
    """of mlp and transformer; identity: a deep linear network"""
    normalisation: Normalisation = "rms"
    """of mlp, before hidden layers and readout (transformer always has rms)"""
    tied: bool = False
    """the readout is the embedding's transpose (one output per token type)"""
    parametrization: ParametrizationName = "mup"
    """sp, ntk, mup, mfp, umup or lv: powers of the width in init, multipliers, learning rates"""
    lr_exponents: str = "auto"
    """powers of the width in the learning rates, as embedding,hidden,readout[,vector] such as
    0,-1,-1; auto: the parametrization's largest stable ones for the optimizer"""
    init_exponents: str = "auto"
    """powers of the width in the initial weights (multiplier included), embedding,hidden,readout
    such as 0,-1/2,-1; auto: the parametrization's"""
    base_width: int = 64
    """width at which all parametrizations coincide and learning rates are as given"""
    tokens: str | None = None
    """token law: uniform, zipf:ALPHA, counts:FILE, corpus or corpus:PATH (default: corpus for
    bigram and next-token, else uniform)"""
    targets: LabTargets = "gaussian"
    """gaussian: N(0, 1); sign: +1 or -1; onehot: a random class per token; bigram: next-token
    frequencies; next-token: the corpus itself, token by token"""
    target_rank: int = 0
    """rank of gaussian targets (structured: below outputs), 0 for unstructured"""
    outputs: int | None = None
    """number of outputs n (next-token: the n-1 most frequent tokens, then all others; default: one
    per token type there, else 1)"""
    loss: Loss | None = None
    """mse: half the squared error, summed over outputs; ce: cross-entropy in nats (default: ce for
    onehot, bigram and next-token)"""
    optimizer: LabOptimizer = "adam"
    """sgd, momentum, sign, adam, adamw, or muon (hidden matrices; adam for the rest)"""
    beta1: float = 0.9
    """share of the past in adam's mean gradient, or momentum's factor"""
    beta2: float = 0.999
    """share of the past in adam's mean squared gradient"""
    epsilon: float = 1e-12
    """in adam's m/(sqrt(v) + epsilon); the usual 1e-8 is no longer small against gradients of wide
    networks with large vocabularies, which fall like 1/(width vocab_size)"""
    weight_decay: float | None = None
    """decoupled weight decay of matrices (default: 0.1 for adamw, else 0)"""
    decay: Decay = "coupled"
    """a step shrinks weights by weight_decay times the learning rate (coupled) or by itself
    (independent); both follow the schedule"""
    schedule: Schedule = "constant"
    """learning rates after the warm-up: constant, or to 0 at the last step, linear or cosine"""
    warmup_steps: int = 0
    """first steps, during which learning rates rise linearly"""
    steps: int = 100
    """number of training steps"""
    batch_size: int = 0
    """tokens per batch; 0: every token type at its frequency (not for transformer, next-token)"""
    embedding_lr: float = 0.01
    """learning rate of the embedding at base_width"""
    hidden_lr: float = 0.01
    """learning rate of hidden layers (of linear: the projection) at base_width"""
    readout_ratio: float = 1.0
    """learning rate of the readout over the hidden one, at base_width"""
    vector_ratio: float = 1.0
    """learning rate of norm gains over the embedding's, at base_width"""
    precision: Precision = "float32"
    """of training; bfloat16: gradients in bfloat16, weights, loss and optimizer in float32"""
    seed: int = 0
    """seed of targets, initialisation and batches"""

    def __post_init__(self) -> None:
        for option, choices in _CHOICES.items():
            check_choice(option, getattr(self, option), choices)
        _ = self.task_setup  # checks what it shares with the linear setup
        check_integer("depth", self.depth, 1, 1024)
        check_integer("head_width", self.head_width, 2, MAX_SIZE)
        check_integer("context", self.context, 1, MAX_SIZE)
        check_integer("base_width", self.base_width, 1, MAX_SIZE)
        for name in ("embedding_lr", "hidden_lr", "readout_ratio", "vector_ratio"):
            check_rate(name, getattr(self, name))
        _ = self.written_lr_exponents, self.written_init_exponents
        if self.tied and self.output_count != self.vocab_size:
            raise InputError(
                "tied", self.tied, f"needs {self.vocab_size} outputs, one per token type"
            )
        if self.tied and self.network == "linear":
            raise InputError("tied", self.tied, "must be used with mlp or transformer")
        if self.targets == "next-token" and self.loss == "mse":
            raise InputError("loss", self.loss, "must be ce with `targets` next-token")
        if self.targets == "next-token" and self.batch_size == 0:
            raise InputError("batch_size", 0, "must be at least 1 with `targets` next-token")
        if self.network == "transformer":
            self._check_transformer()

    def _check_transformer(self) -> None:
        if self.width % self.head_width or self.head_width % 2:
            raise InputError(
                "head_width",
                self.head_width,
                f"must be even and divide `width` ({self.width}) in a transformer",
            )
        if self.batch_size == 0 or self.batch_size % self.context:
            raise InputError(
                "batch_size",
                self.batch_size,
                f"must be a multiple of `context` ({self.context}) in a transformer",
            )

    @property
    def output_count(self) -> int:
        """Number of outputs n."""
        if self.outputs is not None:
            return self.outputs
        return self.vocab_size if self.targets == "next-token" or self.tied else 1

    @property
    def sequence_length(self) -> int:
        """Tokens that one forward pass sees together: 1 but for a transformer."""
        return self.context if self.network == "transformer" else 1

    @property
    def decay_rate(self) -> float:
        """The weight decay lambda."""
        if self.weight_decay is not None:
            return self.weight_decay
        return ADAMW_DECAY if self.optimizer == "adamw" else 0.0

    @property
    def entrywise_optimizer(self) -> str:
        """The entrywise rule: that of all parameters, or, under muon, of all but hidden ones."""
        return "adam" if self.optimizer in ("adamw", "muon") else self.optimizer

    @cached_property
    def task_setup(self) -> Setup:
        """Tokens, targets, optimizer and schedule as the linear model's `Setup` states them."""
        shared = {field.name for field in fields(Setup)} & {field.name for field in fields(self)}
        corpus = self.targets in CORPUS_TARGETS
        values = {name: getattr(self, name) for name in shared} | {
            "tokens": self.tokens or ("corpus" if corpus else "uniform"),
            "targets": "bigram" if corpus else self.targets,
            "outputs": self.output_count,
            "loss": self.loss or ("ce" if self.targets in CLASS_TARGETS else "mse"),
            "optimizer": self.entrywise_optimizer,
            "weight_decay": self.decay_rate,
        }
        return Setup(**values)

    @cached_property
    def written_lr_exponents(self) -> tuple[Fraction, ...] | None:
        return _exponents("lr_exponents", self.lr_exponents, (3, 4))

    @cached_property
    def written_init_exponents(self) -> tuple[Fraction, ...] | None:
        return _exponents("init_exponents", self.init_exponents, (3,))

    def at(self, width: int, vocab_size: int) -> NetworkSetup:
        """The same experiment at another size, checked there. Raises `InputError`."""
        values = {field.name: getattr(self, field.name) for field in fields(NetworkSetup)}
        return NetworkSetup(**{**values, "width": width, "vocab_size": vocab_size})


_CHOICES: dict[str, tuple[str, ...]] = {
    "network": get_args(NetworkName),
    "activation": get_args(Activation),
    "normalisation": get_args(Normalisation),
    "parametrization": get_args(ParametrizationName),
    "targets": get_args(LabTargets),
    "optimizer": get_args(LabOptimizer),
    "decay": get_args(Decay),
    "precision": get_args(Precision),
}


def _exponents(option: str, text: str, counts: tuple[int, ...]) -> tuple[Fraction, ...] | None:
    """Exponents written as 0,-1,-1/2; None for auto. Raises `InputError`."""
    if text == "auto":
        return None
    allowed = f"must be auto or {' or '.join(map(str, counts))} powers such as 0,-1,-1/2"
    parts = [part.strip() for part in text.split(",")]
    try:
        if not all(_POWER.fullmatch(part) for part in parts):
            raise InputError(option, text, allowed)
        values = tuple(Fraction(part) for part in parts)
    except ZeroDivisionError:
        raise InputError(option, text, allowed) from None
    if len(values) not in counts or any(abs(value) > 4 for value in values):
        raise InputError(option, text, allowed + ", each from -4 to 4")
    return values
