"""What a sweep computes: its grid of cells, each cell's runs, and the tasks they are cut into."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynsim import InputError, check_integer
from dynsim.laboratory import NetworkFamily, NetworkSetup

MAX_RUNS = 10**8
MAX_CELLS = 200_000  # sizes, of which each is a program and a file of its own
MAX_TASK_RUNS = 4096
MAX_RATES = 10_000
GRID_FIELDS = ("width", "vocab_size", "embedding_lr", "hidden_lr")


@contextlib.contextmanager
def naming_grid_options() -> Iterator[None]:
    """Within it, errors about one network's width and vocab_size name the axes of a grid."""
    try:
        yield
    except InputError as error:
        field = re.sub(r"^(width|vocab_size)$", r"\1s", error.field)
        allowed = re.sub(r"`(width|vocab_size)`", r"`\1s`", error.allowed)
        raise InputError(field, error.value, allowed) from None


def fields_of(setup: NetworkFamily) -> dict[str, Any]:
    """The fields by name, which are plain values; sooner than `dataclasses.asdict`."""
    return {field.name: getattr(setup, field.name) for field in dataclasses.fields(setup)}


class Task(NamedTuple):
    """Runs start, ..., stop - 1 of a cell, trained together."""

    number: int
    cell: int
    start: int
    stop: int

    @property
    def runs(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Grid:
    """Cells (widths x vocab sizes), and the runs of each: seeds x embedding LRs x hidden LRs.

    - `setup`: what all networks share; sizes and learning rates, where it has them, do not count.
    - `seeds`: how many; number k is folded into the key of `setup.seed` for weights and batches,
      while targets are those of `setup.seed` for all.
    - `horizons`: steps after which the loss is evaluated, ascending.
    - `memory_gb`: memory for the networks that train together (None: what is there).
    - `train_loss`: whether the loss of every step's batch is kept.

    Raises `InputError` for an axis that is empty or names a value twice.
    """

    setup: NetworkFamily
    widths: tuple[int, ...]
    vocab_sizes: tuple[int, ...]
    embedding_lrs: tuple[float, ...]
    hidden_lrs: tuple[float, ...]
    seeds: int
    horizons: tuple[int, ...]
    memory_gb: float | None = None
    train_loss: bool = False

    def __post_init__(self) -> None:
        for name in ("widths", "vocab_sizes", "embedding_lrs", "hidden_lrs", "horizons"):
            values = sorted(getattr(self, name))
            if not values or len(set(values)) < len(values):
                raise InputError(name, values, "must be one or more different values")
            object.__setattr__(self, name, tuple(values))
        check_integer("seeds", self.seeds, 1, MAX_RUNS)
        cells = len(self.widths) * len(self.vocab_sizes)
        if cells > MAX_CELLS:
            counts = f"{len(self.widths)} widths"
            allowed = f"must leave at most {MAX_CELLS:,} cells (widths times vocabulary sizes)"
            raise InputError("widths", counts, allowed)
        if cells * self.runs > MAX_RUNS:
            allowed = f"must leave at most {MAX_RUNS} runs in the grid"
            raise InputError("seeds", self.seeds, allowed)
        for horizon in self.horizons:
            check_integer("horizons", horizon, 1, self.setup.steps)
        _ = self.cells  # which refuses sizes that cannot be
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise InputError("memory_gb", self.memory_gb, "must be a positive number")

    @cached_property
    def config(self) -> dict[str, Any]:
        """Everything that the numbers depend on, ready for JSON."""
        fields = fields_of(self.setup)
        grid = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "setup"
        }
        config = {name: fields[name] for name in fields if name not in GRID_FIELDS} | grid
        return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}

    @cached_property
    def cells(self) -> list[NetworkSetup]:
        """The setup of each cell, width by width. Raises `InputError` for a size that cannot be."""
        shared = {
            field.name: getattr(self.setup, field.name)
            for field in dataclasses.fields(NetworkFamily)
        }
        with naming_grid_options():
            return [
                NetworkSetup(**shared, width=width, vocab_size=vocab_size)
                for width in self.widths
                for vocab_size in self.vocab_sizes
            ]

    @property
    def run_shape(self) -> tuple[int, int, int]:
        """Seeds, embedding LRs, hidden LRs: a cell's runs, the last varying fastest."""
        return self.seeds, len(self.embedding_lrs), len(self.hidden_lrs)

    @property
    def runs(self) -> int:
        """Runs in a cell."""
        return math.prod(self.run_shape)

    def run_list(self, task: Task) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Embedding LR, hidden LR and seed number of each of the task's runs."""
        runs = np.arange(task.start, task.stop)
        seed, embedding, hidden = np.unravel_index(runs, self.run_shape)
        return (
            np.asarray(self.embedding_lrs)[embedding],
            np.asarray(self.hidden_lrs)[hidden],
            seed,
        )

    def tasks(self, runs_per_task: Sequence[int]) -> list[Task]:
        """Every task, cell by cell; `runs_per_task` has one number a cell."""
        pieces = (
            (cell, start, min(start + size, self.runs))
            for cell, size in enumerate(runs_per_task)
            for start in range(0, self.runs, size)
        )
        return [Task(number, *piece) for number, piece in enumerate(pieces)]


def even_size(runs: int, largest: int) -> int:
    """The size of tasks, at most `largest`, that cuts `runs` into equal parts if it can.

    A last task of another size compiles anew, so a divisor is taken if it is at least half as
    large; else the fewest tasks, as equal as can be.
    """
    largest = min(max(largest, 1), runs)
    for size in range(largest, (largest - 1) // 2, -1):
        if runs % size == 0:
            return size
    return math.ceil(runs / math.ceil(runs / largest))


def learning_rate_axis(field: str, text: str) -> tuple[float, ...]:
    """The learning rates written as LO:HI:N, spaced evenly in their logarithm, or as one number;
    `0,` before LO:HI:N adds 0, a frozen layer.

    LO:HI:1 is LO. Raises `InputError`.
    """
    allowed = "must be LO:HI:N, N log-spaced rates from LO > 0 to HI, or 0,LO:HI:N, or one number"
    spaced = text.removeprefix("0,")
    frozen = (0.0,) if spaced != text else ()
    parts = spaced.split(":")
    try:
        if len(parts) == 1 and not frozen:
            return (_checked(float(text)),)
        low, high, count = _checked(float(parts[0])), _checked(float(parts[1])), int(parts[2])
    except (ValueError, IndexError):
        raise InputError(field, text, allowed) from None
    if len(parts) > 3 or not 0 < low <= high or count < 1:
        raise InputError(field, text, allowed)
    if count > MAX_RATES:
        raise InputError(field, text, f"must have at most {MAX_RATES:,} rates")
    if count > 1 and low == high:
        raise InputError(field, text, "must have LO below HI")
    return (*frozen, *(float(rate) for rate in np.geomspace(low, high, count)))


def _checked(rate: float) -> float:
    if not 0 <= rate <= 1e30:
        raise ValueError(f"{rate} is no learning rate")
    return rate


def differences(there: dict[str, Any], here: dict[str, Any], most: int = 3) -> str:
    """What two descriptions of a sweep differ in, on one line; empty if in nothing."""
    names = [
        name for name in sorted({*there, *here}) if there.get(name, ...) != here.get(name, ...)
    ]
    parts = [f"{name} is {_short(there.get(name))} there, {_short(here.get(name))} here"
             for name in names[:most]]  # fmt: skip
    more = len(names) - most
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def _short(value: Any) -> str:
    text = " ".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
