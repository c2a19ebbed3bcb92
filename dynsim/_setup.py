"""The one description of an experiment, shared by theory, simulator and finite networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from dynsim.tokens._laws import MAX_VOCAB_SIZE, TokenLaw, check_law_name, token_law

from ._errors import InputError, check_choice, check_integer, check_rate, check_share

Loss = Literal["mse", "ce"]
TargetKind = Literal["gaussian", "sign", "onehot", "bigram"]
OptimizerName = Literal["sgd", "momentum", "sign", "smoothed-sign", "adam"]
Schedule = Literal["constant", "linear", "cosine"]
Init = Literal["mup", "sp"]

MAX_SIZE = 2**31 - 1
MIN_EPSILON, MAX_EPSILON = 1e-15, 1e15  # its square is a float32


@dataclass(frozen=True)
class Setup:
    """A linear embedding + projection experiment: model, tokens, task, optimizer, size, seed.

    Model f_i = W e_i with embedding E (vocab_size x width) and projection W (outputs x width),
    loss L = sum_i p_i l(f_i, y_i), l = |f - y|^2 / 2 (mse) or cross-entropy in nats (ce).
    A step is theta <- theta - eta_t (Phi + weight_decay theta), eta_t the layer's learning rate
    times the schedule's factor. The embedding's entries start with standard deviation 1.

    Raises `InputError` for a value out of range or a combination that means nothing.
    """

    width: int = 256
    """width d, the embedding dimension"""
    vocab_size: int = 1024
    """vocabulary size m, the number of token types"""
    tokens: str = "uniform"
    """token law: uniform, zipf:ALPHA, counts:FILE, corpus or corpus:PATH"""
    outputs: int = 1
    """number of outputs n"""
    loss: Loss = "mse"
    """mse: half the squared error, summed over outputs; ce: cross-entropy in nats"""
    targets: TargetKind = "gaussian"
    """gaussian: N(0, 1); sign: +1 or -1; onehot: a uniformly random class per token; bigram: the
    corpus's next-token frequencies (the outputs-1 most frequent next tokens, then all others)"""
    target_rank: int = 0
    """rank of gaussian targets (structured: below outputs), 0 for unstructured"""
    optimizer: OptimizerName = "sign"
    """sgd, momentum, sign (of the gradient g), smoothed-sign g/sqrt(g^2 + epsilon^2) or adam"""
    init: Init = "mup"
    """standard deviation of the projection's entries: mup 1/width, sp 1/sqrt(width)"""
    embedding_lr: float = 0.01
    """learning rate of the embedding, 0 freezes it"""
    projection_lr: float = 0.01
    """learning rate of the projection, 0 freezes it"""
    beta1: float = 0.9
    """share of the past in adam's mean gradient, or momentum's factor in g + beta1 (g + ...)"""
    beta2: float = 0.999
    """share of the past in adam's mean squared gradient"""
    epsilon: float = 1e-8
    """smallest gradient that counts: of smoothed-sign, and in adam's m/(sqrt(v) + epsilon)"""
    weight_decay: float = 0.0
    """decoupled weight decay (adam with it is AdamW): a step shrinks weights by learning rate
    times this"""
    schedule: Schedule = "constant"
    """learning rates after the warm-up: constant, or to 0 at the last step, linear or cosine"""
    warmup_steps: int = 0
    """first steps, during which learning rates rise linearly"""
    steps: int = 20
    """number of training steps recorded"""
    batch_size: int = 0
    """tokens per batch, 0 for the full batch"""
    seed: int = 0
    """seed of targets, initialisation and batches"""

    def __post_init__(self) -> None:
        check_integer("width", self.width, 1, MAX_SIZE)
        check_integer("vocab_size", self.vocab_size, 1, MAX_VOCAB_SIZE)
        check_integer("outputs", self.outputs, 1, MAX_SIZE)
        check_integer("steps", self.steps, 1, MAX_SIZE)
        check_integer("batch_size", self.batch_size, 0, MAX_SIZE)
        check_integer("seed", self.seed, 0, MAX_SIZE)
        check_integer("target_rank", self.target_rank, 0, MAX_SIZE)
        check_rate("embedding_lr", self.embedding_lr)
        check_rate("projection_lr", self.projection_lr)
        check_share("beta1", self.beta1)
        check_share("beta2", self.beta2)
        check_rate("weight_decay", self.weight_decay)
        if not MIN_EPSILON <= self.epsilon <= MAX_EPSILON:
            raise InputError("epsilon", self.epsilon, "must be a number from 1e-15 to 1e15")
        check_integer("warmup_steps", self.warmup_steps, 0, MAX_SIZE)
        check_choice("schedule", self.schedule, get_args(Schedule))
        check_choice("loss", self.loss, get_args(Loss))
        check_choice("targets", self.targets, get_args(TargetKind))
        if not 0 <= self.target_rank <= self.outputs or (
            self.target_rank and self.targets != "gaussian"
        ):
            raise InputError(
                "target_rank",
                self.target_rank,
                "must be from 0 to `outputs`, and 0 unless `targets` is gaussian",
            )
        check_choice("optimizer", self.optimizer, get_args(OptimizerName))
        check_choice("init", self.init, get_args(Init))
        check_law_name("tokens", self.tokens)
        if self.loss == "ce" and self.targets not in ("onehot", "bigram"):
            raise InputError(
                "targets",
                self.targets,
                "must be onehot or bigram with `loss` ce (targets are class probabilities)",
            )
        if self.loss == "ce" and self.outputs < 2:
            raise InputError("outputs", self.outputs, "must be at least 2 with `loss` ce")
        if self.targets == "bigram" and not self.tokens.startswith("corpus"):
            raise InputError(
                "tokens", self.tokens, "must be corpus or corpus:PATH with `targets` bigram"
            )
        if self.targets == "bigram" and not 2 <= self.outputs <= self.vocab_size:
            raise InputError(
                "outputs", self.outputs, "must be from 2 to `vocab_size` with `targets` bigram"
            )

    @property
    def projection_std(self) -> float:
        """sigma_W: 1/width under muP, 1/sqrt(width) under SP."""
        return 1 / self.width if self.init == "mup" else self.width**-0.5

    def law(self) -> TokenLaw:
        """The token law at this vocabulary size."""
        return token_law(self.tokens, self.vocab_size)
