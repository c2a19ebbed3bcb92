"""The description of a toy-network experiment: shared parts, network, parametrization."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal, get_args

from ._errors import InputError, check_choice, check_integer, check_rate
from ._setup import MAX_SIZE, Descent, EmbeddingRate, Experiment, Part, Task

NetworkName = Literal["linear", "mlp", "transformer"]
Residual = Literal["yes", "no"]
Activation = Literal["relu", "gelu", "tanh", "identity"]
Normalisation = Literal["rms", "layer", "none"]
ParametrizationName = Literal["sp", "ntk", "mup", "mfp", "umup", "lv"]
Decay = Literal["coupled", "independent"]
Precision = Literal["float32", "bfloat16", "float64"]

NETWORK_OPTIMIZERS = ("sgd", "momentum", "sign", "smoothed-sign", "adam", "adamw", "muon")
_POWER = re.compile(r"[+-]?\d{1,6}(/\d{1,6}|\.\d{1,6})?")


@dataclass(frozen=True, repr=False)
class NetworkModel(Part):
    """What toy networks alone have: architecture, parametrization, precision."""

    network: NetworkName = "linear"
    """linear: embedding and projection; mlp: embedding, residual hidden layers, readout;
    transformer: decoder-only"""
    depth: int = 2
    """hidden layers of mlp, blocks of transformer"""
    residual: Residual = "yes"
    """of mlp: hidden layers add to their input (yes), or put their output in its place (no)"""
    head_width: int = 16
    """transformer: width of an attention head; the number of heads is width/head_width"""
    context: int = 32
    """transformer: tokens of a sequence"""
    activation: Activation = "relu"
    """of mlp and transformer; identity: a deep linear network"""
    normalisation: Normalisation = "rms"
    """of mlp, before hidden layers and readout (transformer always has rms); layer: rms after the
    mean over neurons is subtracted"""
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
    decay: Decay = "coupled"
    """a step shrinks weights by weight_decay times the learning rate (coupled) or by itself
    (independent); both follow the schedule"""
    readout_ratio: float = 1.0
    """learning rate of the readout over the hidden one, at base_width"""
    vector_ratio: float = 1.0
    """learning rate of norm gains over the embedding's, at base_width"""
    precision: Precision = "float32"
    """of training; bfloat16: gradients in bfloat16, weights, loss and optimizer in float32"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, choices in self._choices().items():
            check_choice(option, getattr(self, option), choices)
        if self.depth == 0:
            none = "must be at least 1; a network without hidden layers is `network` linear"
            raise InputError("depth", self.depth, none)
        check_integer("depth", self.depth, 1, 1024)
        check_integer("head_width", self.head_width, 2, MAX_SIZE)
        check_integer("context", self.context, 1, MAX_SIZE)
        check_integer("base_width", self.base_width, 1, MAX_SIZE)
        for name in ("readout_ratio", "vector_ratio"):
            check_rate(name, getattr(self, name))
        _ = self.written_lr_exponents, self.written_init_exponents

    def _choices(self) -> dict[str, tuple[str, ...]]:
        """What each option may be."""
        return _CHOICES

    @property
    def sequence_length(self) -> int:
        """Tokens that one forward pass sees together: 1 but for a transformer."""
        return self.context if self.network == "transformer" else 1

    @cached_property
    def written_lr_exponents(self) -> tuple[Fraction, ...] | None:
        """`lr_exponents` as numbers, None for auto."""
        return _exponents("lr_exponents", self.lr_exponents, (3, 4))

    @cached_property
    def written_init_exponents(self) -> tuple[Fraction, ...] | None:
        """`init_exponents` as numbers, None for auto."""
        return _exponents("init_exponents", self.init_exponents, (3,))


@dataclass(frozen=True, repr=False)
class HiddenRate(EmbeddingRate):
    """The learning rates of toy networks."""

    hidden_lr: float = 0.01
    """learning rate of hidden layers (of linear: the projection) at base_width"""
    readout_lr: float | None = None
    """learning rate of the readout of mlp and transformer at base_width (default: readout_ratio
    times that of hidden layers)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("hidden_lr", self.hidden_lr)
        if self.readout_lr is not None:
            check_rate("readout_lr", self.readout_lr)


@dataclass(frozen=True, repr=False)
class NetworkFamily(Descent, Task, NetworkModel):
    """Toy networks of all widths and vocabularies: a description without sizes and learning rates.

    It checks what needs no size; `at` gives the network of one size, which checks the rest.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("optimizer", self.optimizer, NETWORK_OPTIMIZERS)
        if self.tied and self.network == "linear":
            raise InputError("tied", self.tied, "must be used with mlp or transformer")
        if self.targets == "next-token" and self.batch_size == 0:
            raise InputError("batch_size", 0, "must be at least 1 with `targets` next-token")
        if self.network != "transformer":
            return
        if self.head_width % 2:
            raise InputError("head_width", self.head_width, "must be even in a transformer")
        if self.batch_size == 0:
            allowed = (
                f"must be given with `network` transformer, a multiple of `context` "
                f"({self.context}): it has no full batch"
            )
            raise InputError("batch_size", None, allowed)
        if self.batch_size % self.context:
            raise InputError(
                "batch_size",
                self.batch_size,
                f"must be a multiple of `context` ({self.context}) in a transformer",
            )

    def at(self, width: int, vocab_size: int, **rates: float) -> NetworkSetup:
        """The network of this size, at the learning rates given, or one's own. Raises
        `InputError`."""
        names = {field.name for field in fields(NetworkSetup)}
        own = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name in names
        }
        values: dict[str, Any] = {**own, **rates, "width": width, "vocab_size": vocab_size}
        return NetworkSetup(**values)


@dataclass(frozen=True, repr=False)
class NetworkSetup(HiddenRate, NetworkFamily, Experiment):
    """A toy network and how it is trained.

    `linear`: f = W e_i. `mlp`: h_0 = e_i, h_l = h_{l-1} + W_l phi(norm(h_{l-1})) for `depth` hidden
    layers, but W_1 reads norm(e_i) without phi; f = W phi(norm(h_depth)); without `residual`,
    h_l = W_l phi(norm(h_{l-1})). `transformer`:
    decoder-only, `depth` blocks of causal attention (rotary positions) and an MLP of four widths,
    RMSNorm before each and before the readout.

    At `base_width` every parametrization is the standard one: embedding entries start with
    standard deviation 1, hidden and readout ones with 1/sqrt(fan-in). At width d a layer's
    multiplier, initial standard deviation and learning rate are those times
    (d / base_width)^exponent, exponents relative to SP's. Learning rates here are those at
    `base_width`; the readout's is `readout_lr`, or `readout_ratio` times the hidden one, that of
    norm gains `vector_ratio` times the embedding's.

    Raises `InputError` for a value out of range or a combination that means nothing.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tied and self.output_count != self.vocab_size:
            raise InputError(
                "tied", self.tied, f"needs {self.vocab_size} outputs, one per token type"
            )
        if self.network == "transformer" and self.width % self.head_width:
            raise InputError(
                "head_width",
                self.head_width,
                f"must divide `width` ({self.width}) in a transformer",
            )
        if self.readout_lr is not None:
            self._check_readout_lr(self.readout_lr)

    def _check_readout_lr(self, rate: float) -> None:
        if self.network == "linear" or self.tied:
            network = "`network` linear, whose projection has `hidden_lr`"
            network = "`tied`, where the readout is the embedding" if self.tied else network
            raise InputError("readout_lr", rate, f"must be left out with {network}")
        if self.readout_ratio != 1:
            raise InputError(
                "readout_ratio", self.readout_ratio, "must be left out with `readout_lr`"
            )

    def readout_rate(self, hidden_lr: Any) -> Any:
        """Learning rate of the readout at `base_width` where hidden layers have `hidden_lr`."""
        if self.readout_lr is not None:
            return self.readout_lr + 0 * hidden_lr
        return hidden_lr if self.network == "linear" else self.readout_ratio * hidden_lr

    @property
    def output_count(self) -> int:
        """Number of outputs n: `outputs`, or what follows from targets and readout."""
        if self.outputs is None and self.tied:
            return self.vocab_size
        return super().output_count


_CHOICES: dict[str, tuple[str, ...]] = {
    "network": get_args(NetworkName),
    "residual": get_args(Residual),
    "activation": get_args(Activation),
    "normalisation": get_args(Normalisation),
    "parametrization": get_args(ParametrizationName),
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
