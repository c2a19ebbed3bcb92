"""The fields of the explorer: their ranges, and the words in which a wrong value is refused.

The page takes the words from here; `check` refuses the same values for the command.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from dynsim import InputError, check_integer
from dynsim._errors import check_choice
from dynsim.tokens import check_law_name
from dynsim.tokens._laws import KNOWN_LAWS, MAX_VOCAB_SIZE, MAX_ZIPF_EXPONENT
from experiments.usage_errors import NO_INTEGER, NO_NUMBER

MAX_WIDTH = 2**31 - 1  # of `recommend`
MAX_BATCH = 2**53
MAX_STEPS = 10**9
LEAST_RATE, MOST_RATE = 1e-30, 1e30
OPTIMIZERS = ("sign", "adam", "sgd", "muon")
INITS = ("mup", "sp")


@dataclass(frozen=True)
class State:
    """What the explorer's views are of: one point of the theory.

    `steps` is the number of the update that is looked at, 1 the first; the embedding has then moved
    by `embedding_lr` (`steps` - 1) of its initial standard deviations.
    """

    width: int = 1024
    vocab_size: int = 32768
    tokens: str = "uniform"
    batch_size: int = 0
    outputs: int = 1
    init: str = "mup"
    optimizer: str = "sign"
    embedding_lr: float = 0.01
    steps: int = 1
    base_width: int = 256

    def __post_init__(self) -> None:
        """Raises `InputError` for a value out of range."""
        for name, (low, high) in INTEGERS.items():
            check_integer(name, getattr(self, name), low, high)
        if self.outputs > self.vocab_size:
            raise InputError("outputs", self.outputs, OUTPUTS)
        if not LEAST_RATE <= self.embedding_lr <= MOST_RATE:
            raise InputError("embedding_lr", self.embedding_lr, RATE)
        check_choice("init", self.init, INITS)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_law_name("tokens", self.tokens)


INTEGERS = {
    "width": (2, MAX_WIDTH),
    "vocab_size": (1, MAX_VOCAB_SIZE),
    "batch_size": (0, MAX_BATCH),
    "outputs": (1, MAX_VOCAB_SIZE),
    "steps": (1, MAX_STEPS),
    "base_width": (1, MAX_WIDTH),
}
OUTPUTS = "must be from 1 to `vocab_size`"
RATE = f"must be from {LEAST_RATE:g} to {MOST_RATE:g}"


@dataclass(frozen=True)
class Field:
    """How the page shows a field: its name, meaning, and the range of its slider."""

    name: str
    label: str
    meaning: str
    kind: str
    slider: tuple[float, float] | None = None
    zero: str = ""
    choices: tuple[tuple[str, str], ...] = ()


FIELDS = (
    Field("width", "width d", "neurons in a layer", "integer", (16, 65536)),
    Field("vocab_size", "vocabulary m", "token types", "integer", (16, 1e6)),
    Field("tokens", "token law", "how often each token occurs", "tokens"),
    Field("batch_size", "batch B", "tokens per batch", "integer", (1, 1e6), zero="full batch"),
    Field("outputs", "outputs n", "directions of the residuals", "integer", (1, 1024)),
    Field(
        "embedding_lr",
        "embedding LR",
        "in initial standard deviations of the embedding",
        "number",
        (1e-5, 1),
    ),
    Field("steps", "age: update T", "1 is the first update", "integer", (1, 1e5)),
    Field("base_width", "base width d₀", "where learning rates were tuned", "integer", (16, 65536)),
    Field(
        "optimizer",
        "optimizer",
        "whose updates",
        "choice",
        choices=(("sign", "sign"), ("adam", "Adam"), ("sgd", "SGD"), ("muon", "Muon")),
    ),
    Field(
        "init",
        "initialisation",
        "entries of the projection: μP 1/d, SP 1/√d",
        "choice",
        choices=(("mup", "μP"), ("sp", "SP")),
    ),
)
assert {field.name for field in FIELDS} == {field.name for field in fields(State)}


def refusal(refuse: Callable[[], object]) -> str:
    """The words, without the value, in which a call refuses its argument."""
    try:
        refuse()
    except InputError as error:
        return error.allowed
    raise AssertionError("this value must be refused")


def allowed() -> dict[str, str]:
    """By field, what the command says is allowed."""
    words = {
        name: refusal(lambda name=name, low=low, high=high: check_integer(name, low - 1, low, high))
        for name, (low, high) in INTEGERS.items()
    }
    words |= {
        name: refusal(lambda name=name, known=known: check_choice(name, "", known))
        for name, known in (("init", INITS), ("optimizer", OPTIMIZERS))
    }
    return words | {
        "embedding_lr": RATE,
        "number": NO_NUMBER,
        "integer": NO_INTEGER,
        "tokens": KNOWN_LAWS,
        "outputs_of_vocabulary": OUTPUTS,
        "zipf": refusal(lambda: check_law_name("tokens", f"zipf:{math.inf}")),
    }


def described() -> list[dict[str, Any]]:
    """The fields as plain data."""
    return [vars(field) | {"default": getattr(State(), field.name)} for field in FIELDS]


def limits() -> dict[str, float]:
    """The largest values that a field may have, for the page's own checks."""
    most = {name: high for name, (_, high) in INTEGERS.items()}
    least = {f"least_{name}": low for name, (low, _) in INTEGERS.items()}
    return {
        **most,
        **least,
        "embedding_lr": MOST_RATE,
        "least_embedding_lr": LEAST_RATE,
        "zipf": MAX_ZIPF_EXPONENT,
    }
