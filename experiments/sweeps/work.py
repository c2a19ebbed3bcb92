"""What runs where the networks are trained: in this process, or on a worker of a cluster.

Arguments and results are plain data. Nothing here prints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from dynsim import InputError
from experiments.cells.store import RESUMABLE, Arrays
from experiments.precision import enable_x64
from experiments.results import fingerprint, provenance

from .plan import MAX_TASK_RUNS

if TYPE_CHECKING:
    from dynsim.laboratory import NetworkSetup

Progress = Callable[[float], object]

# A task is a minute's work at most: what is lost when a sweep is killed. 10^12 operations take a
# core tens of seconds, 10^15 a GPU as long.
TASK_OPERATIONS = {"cpu": 1e12}
ACCELERATOR_OPERATIONS = 1e15
COMPILATION = 0.1  # of the operations of the largest task; a program compiles in that time
UPDATE_OPERATIONS = 30  # an optimizer's, for one weight


class Site(TypedDict):
    """Where a sweep is computed: what makes its numbers, and of each cell the largest task and the
    memory that sets how many networks train side by side."""

    provenance: dict[str, str]
    fingerprint: str
    tokens: dict[str, str]  # digest by vocabulary size, see `tokens_digest`
    largest_tasks: list[int]
    memory_gb: list[float]
    operations: list[float]  # of one run of each cell
    compilation: float  # operations in whose time a task's program compiles


class Job(TypedDict):
    """One task, as plain data: a `NetworkSetup`'s fields, and one entry a run."""

    setup: dict[str, Any]
    embedding_lrs: list[float]
    hidden_lrs: list[float]
    seeds: list[int]
    horizons: list[int]
    memory_gb: float
    tokens: str | None  # their digest
    train_loss: bool


class Trained(TypedDict):
    """A finished task: variables with runs in front, and what made them."""

    arrays: Arrays
    provenance: dict[str, str]


def examine(
    config: dict[str, Any], cells: Sequence[dict[str, Any]], memory_gb: float | None
) -> Site:
    """What a sweep of these cells would be made by, and how large its tasks may be.

    Raises `InputError` for a network that does not fit, or tokens that cannot be read.
    """
    from dynsim.laboratory import NetworkSetup

    enable_x64()
    setups = [NetworkSetup(**cell) for cell in cells]
    one_of_each = {setup.vocab_size: setup for setup in setups}
    digests = {str(size): tokens_digest(setup) for size, setup in one_of_each.items()}
    return Site(
        provenance=provenance(config),
        fingerprint=fingerprint(config),
        tokens={size: digest for size, digest in digests.items() if digest is not None},
        largest_tasks=[largest_task(setup, memory_gb) for setup in setups],
        memory_gb=[memory_of_as_many(setup, memory_gb) for setup in setups],
        operations=[operations(setup) for setup in setups],
        compilation=COMPILATION * task_operations(),
    )


def tokens_digest(setup: NetworkSetup) -> str | None:
    """Digest of what the networks see of a file or corpus: its stream of tokens where they learn
    what follows what, else its frequencies. None for a law that is a formula.

    Raises `InputError` for tokens that cannot be read.
    """
    from dynsim.tokens import corpus_tokens

    kind, _, path = setup.law_name.partition(":")
    if kind not in ("counts", "tokenizer", "corpus"):
        return None
    if setup.targets in ("bigram", "next-token"):
        content = corpus_tokens(path or None, setup.vocab_size).stream
    else:
        content = setup.law().frequencies
    return hashlib.sha256(content.tobytes()).hexdigest()


def memory_of_as_many(setup: NetworkSetup, memory_gb: float | None) -> float:
    """`memory_gb`, or the memory with which as many networks train side by side as do here without
    it, also where a device has more or less."""
    import jax

    from dynsim.laboratory import run_bytes, runs_side_by_side

    if memory_gb is not None:
        return memory_gb
    on_each = runs_side_by_side(setup) // jax.device_count()
    return (on_each + 0.5) * run_bytes(setup) / 2**30


def largest_task(setup: NetworkSetup, memory_gb: float | None) -> int:
    """Most runs of a task: about `TASK_OPERATIONS`, and a multiple of what trains side by side if
    that is less."""
    from dynsim.laboratory import runs_side_by_side

    together = runs_side_by_side(setup, memory_gb)
    runs = min(MAX_TASK_RUNS, max(1, int(task_operations() / operations(setup))))
    return runs if runs < together else runs // together * together


def task_operations() -> float:
    """Most operations of a task on this device."""
    import jax

    return TASK_OPERATIONS.get(jax.default_backend(), ACCELERATOR_OPERATIONS)


def operations(setup: NetworkSetup) -> float:
    """Roughly the operations of one run: three passes through every matrix for each token."""
    from dynsim.laboratory._memory import parameter_count

    weights = parameter_count(setup)
    looked_up = 0 if setup.tied else setup.vocab_size * setup.width
    tokens = setup.batch_size or setup.vocab_size
    return setup.steps * (6.0 * (weights - looked_up) * tokens + UPDATE_OPERATIONS * weights)


def train(job: Job, progress: Progress | None = None) -> Trained:
    """Trains the runs of one task.

    Raises `InputError` where the tokens are not those that the sweep was begun with.
    """
    from dynsim.laboratory import NetworkSetup, train_networks

    enable_x64()
    setup = NetworkSetup(**job["setup"])
    if tokens_digest(setup) != job["tokens"]:
        text = f"holds other tokens for a worker than when the sweep began; {RESUMABLE}"
        raise InputError("tokens", setup.law_name, text)
    result = train_networks(
        setup,
        job["embedding_lrs"],
        job["hidden_lrs"],
        job["seeds"],
        horizons=job["horizons"],
        memory_gb=job["memory_gb"],
        progress=progress,
    )
    arrays: Arrays = {
        "loss": result.loss,
        "initial_loss": result.initial_loss,
        "diverged": result.diverged,
    }
    if job["train_loss"]:
        kept = "float64" if setup.precision == "float64" else "float32"
        with np.errstate(over="ignore"):
            arrays["train_loss"] = result.train_loss.astype(kept)
    return Trained(arrays=arrays, provenance=provenance({}))
