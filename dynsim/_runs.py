"""What every trainer of many networks shares: memory, chunks, keys and draws of tokens."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from ._draws import uniform
from ._errors import InputError, check_integer
from ._machine import free_bytes
from ._setup import Experiment

MAX_SEEDS = 1_000_000
SEED_LABELS = 2**32  # labels are below it
SMALL = 2**26  # bytes that are always there; to ask the system takes longer than all else
CACHE_BYTES = 32 * 2**20  # a CPU's last cache: more side by side than fits is slower


def device_memory() -> int:
    """Bytes of one device's memory."""
    import psutil

    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return int((stats or {}).get("bytes_limit", psutil.virtual_memory().total))


def free_memory() -> int:
    """Bytes that a device still has: of a processor's memory, what is free to this process."""
    device = jax.devices()[0]
    if jax.default_backend() != "cpu" and (stats := device.memory_stats()):
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return free_bytes()


def check_curves_fit(setup: Experiment, bytes_a_step: float) -> None:
    """Raises `InputError` where what is recorded of every step does not fit the memory."""
    free = free_memory()
    if setup.steps * bytes_a_step > free:
        raise InputError(
            "steps",
            setup.steps,
            f"must be at most {int(free / bytes_a_step):,}: what is recorded of every step takes "
            f"{bytes_a_step:,.0f} bytes, and {_gib(free)} GiB are free",
        )


def _gib(size: float) -> str:
    """Bytes in GiB: three digits, or a whole number, without a power of ten."""
    gib = size / 2**30
    return f"{gib:.3g}" if gib < 999.5 else f"{gib:,.0f}"


def check_fits(
    needed: int,
    setup: Experiment,
    kind: str = "network",
    bytes_with_head: Callable[[int], int] | None = None,
) -> None:
    """Raises `InputError` if one network of `needed` bytes is more than the device holds.

    `bytes_with_head` is what the network needs with another number of outputs, and as many tokens.
    """
    if needed > SMALL and needed > (free := free_memory()):
        if bytes_with_head is not None and 2 <= setup.output_count == setup.vocab_size:
            most = bisect_right(range(setup.vocab_size), free, key=bytes_with_head) - 1
            raise InputError(
                "vocab_size",
                setup.vocab_size,
                f"one {kind} with a head of {setup.output_count} outputs needs "
                f"{_gib(needed)} GiB; must be at most {most}, the largest head that fits the "
                f"{_gib(free)} GiB of this device that are free, at `width` {setup.width}",
            )
        raise InputError(
            "width",
            setup.width,
            f"one {kind} of vocabulary {setup.vocab_size}, {setup.output_count} outputs and batch "
            f"{setup.batch_size} needs {_gib(needed)} GiB and must fit the "
            f"{_gib(free)} GiB of this device that are free",
        )


def memory_budget(
    memory_gb: float | None, elsewhere: float = 2 * 2**30, cache: float = CACHE_BYTES
) -> float:
    """Bytes for what is computed side by side: as given, or a CPU's cache, or `elsewhere`."""
    if memory_gb is not None:
        return memory_gb * 2**30
    return cache if jax.default_backend() == "cpu" else elsewhere


def even(total: int, most: int) -> int:
    """Size of equal chunks of at most `most`, so that few shapes are compiled."""
    return math.ceil(total / math.ceil(total / most))


def chunks(total: int, size: int) -> Iterator[slice]:
    """`total` runs in chunks of `size`, the last one smaller."""
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def sized_key(setup: Experiment) -> Array:
    """The key of the setup's seed and sizes: other sizes draw independent weights and batches.

    (Normals of two shapes drawn with one key share their beginning, which would correlate the
    cells of a sweep.)
    """
    key = jax.random.key(setup.seed)
    for size in (setup.width, setup.vocab_size, setup.output_count):
        key = jax.random.fold_in(key, size)
    return key


def seed_labels(seeds: int | ArrayLike) -> NDArray[np.int64]:
    """Labels of the networks, shape (K,): a count K means 0, ..., K - 1; labels stay as given.

    Raises `InputError` for a count below 1, and for labels that are not integers from 0 to
    2^32 - 1.
    """
    if np.ndim(seeds) == 0:
        count: Any = int(seeds) if isinstance(seeds, np.integer) else seeds
        check_integer("seeds", count, 1, MAX_SEEDS)
        return np.arange(count)
    labels = np.asarray(seeds)
    if labels.ndim != 1 or not labels.size:
        raise InputError("seeds", f"of shape {labels.shape}", "must be a count or a list of labels")
    if labels.dtype.kind not in "iu" or (labels < 0).any() or (labels >= SEED_LABELS).any():
        allowed = "must be integers from 0 to 2^32 - 1"
        raise InputError("seeds", str(labels.tolist())[:40], allowed)
    return labels.astype(np.int64)


def running_sum(frequencies: NDArray[np.float64]) -> Array:
    """Of a token law, in float64 and ending at 1: what `drawn_tokens` inverts."""
    cumulative = np.cumsum(frequencies)
    return jnp.asarray(cumulative / cumulative[-1], "float64")


def drawn_tokens(key: Array, cumulative: Array, shape: tuple[int, ...]) -> Array:
    """Independent tokens of the law."""
    drawn = uniform(key, shape, "float64")
    return jnp.searchsorted(cumulative, drawn, side="right")
