"""Throughput of a learning-rate sweep: `dynsim.train` against the same loop in PyTorch on the CPU.

    python -m benchmarks.sweep_throughput [--json]

`dynsim.train` runs all learning rates at once; the PyTorch loop runs one after another, as one
would write it there: in-place updates without autograd, gradients by hand, all cores. Both record
the loss at every step when timed; before that both must give the same loss and the same two update
RMS at every step from the same initial weights in float64. PyTorch is optional
(`pip install -c constraints.txt -e ".[bench]"`); without it that part is left out.

The unit is network-steps per second: learning rates x steps / time, without compilation, which is
reported apart. Contestants take turns, so that a load from elsewhere hits them alike, and every
number is the median over the turns.

The matmul share compares two rates in float32: the three products of (vocab_size, width, outputs)
that a step needs (outputs and two gradients; 2 m d n operations each, nothing else counted) over
the time of the whole step, and one square matmul of JAX on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dynsim import Setup, targets, train

try:
    import torch  # pyright: ignore[reportMissingImports]
except ImportError:
    torch: Any = None

WIDTHS = (64, 128, 512)
LEARNING_RATES = np.geomspace(1e-4, 1e-1, 16)
REPEATS = 3
MATMUL_SIZE = 2048
MATMULS_PER_STEP = 3
SHARE_FROM_WIDTH = 512  # narrower networks are bound by memory and dispatch, not by the matmul

BASE = Setup(tokens="zipf:1", optimizer="sign", batch_size=0, steps=100)
SIZES = (
    replace(BASE, vocab_size=128, outputs=1),  # a step is mostly dispatch
    replace(BASE, vocab_size=512, outputs=64),  # a step is mostly matmuls
)


@dataclass(frozen=True)
class Row:
    """One line of the table; rates in network-steps per second, `None` where not measured."""

    width: int
    vocab_size: int
    outputs: int
    dynsim: float
    compile_seconds: float
    torch: float | None
    ratio: float | None
    matmul_share: float | None


def initial_weights(setup: Setup, dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """E (m, d) and W (n, d) that `train` draws for its first seed."""
    key = jax.random.key(setup.seed)
    sizes = setup.width, setup.vocab_size, setup.output_count
    for number in (*sizes, 0):  # then the seed
        key = jax.random.fold_in(key, number)
    embedding_key, projection_key = jax.random.split(jax.random.fold_in(key, 0))
    embedding = jax.random.normal(embedding_key, (setup.vocab_size, setup.width), dtype)
    projection = jax.random.normal(projection_key, (setup.output_count, setup.width), dtype)
    return np.array(embedding), np.array(setup.projection_std * projection, dtype)


def torch_sweep(
    setup: Setup, dtype: str = "float32", *, record_updates: bool = False
) -> NDArray[np.float64]:
    """The sweep in PyTorch: loss, projection and embedding update RMS, shape (rates, steps, 3)."""
    first_embedding, first_projection = map(torch.from_numpy, initial_weights(setup, dtype))
    frequency = torch.from_numpy(setup.law().frequencies.astype(dtype))
    target = torch.from_numpy(targets(setup).astype(dtype))
    record = torch.full((len(LEARNING_RATES), setup.steps, 3), torch.nan, dtype=target.dtype)
    with torch.no_grad():
        for run, rate in zip(record, LEARNING_RATES.tolist(), strict=True):
            embedding, projection = first_embedding.clone(), first_projection.clone()
            for now in run:
                residual = (embedding @ projection.T).sub_(target)  # (m, n)
                now[0] = 0.5 * frequency @ residual.square().sum(1)
                if record_updates:
                    by_projection = embedding @ (projection - first_projection).T
                    by_embedding = (embedding - first_embedding) @ first_projection.T
                    now[1] = (frequency @ by_projection.square_().mean(1)).sqrt()
                    now[2] = (frequency @ by_embedding.square_().mean(1)).sqrt()
                weighted = residual.mul_(frequency[:, None])
                embedding_gradient = weighted @ projection
                projection_gradient = weighted.T @ embedding
                embedding.sub_(embedding_gradient.sign_(), alpha=rate)
                projection.sub_(projection_gradient.sign_(), alpha=rate)
    return record.numpy().astype(np.float64)


def dynsim_sweep(
    setup: Setup, dtype: str = "float32", *, record_updates: bool = False
) -> NDArray[np.float64]:
    """The sweep in dynsim, the same records in the same shape."""
    result = train(
        setup,
        1,
        embedding_lrs=LEARNING_RATES,
        projection_lrs=LEARNING_RATES,
        dtype=dtype,
        record_updates=record_updates,
    )
    columns = (result.loss, result.projection_update_rms, result.embedding_update_rms)
    return np.stack([column[:, 0] for column in columns], axis=-1)


def check_agreement(setup: Setup) -> float:
    """Largest relative difference of the float64 records; raises unless it is rounding.

    In float32 a gradient entry near zero may round to the other sign, so curves would drift
    apart in their last digits; in float64 that does not happen within a sweep.
    """
    ours, theirs = (
        sweep(setup, "float64", record_updates=True) for sweep in (dynsim_sweep, torch_sweep)
    )
    largest = float(np.max(np.abs(ours - theirs) / (np.abs(theirs) + 1e-12)))
    if not largest < 1e-9:
        raise RuntimeError(f"dynsim and PyTorch differ by {largest:.3g} at width {setup.width}")
    return largest


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def matmul_rate() -> float:
    """Operations per second of a float32 matmul of size `MATMUL_SIZE` in JAX."""
    matrix = jax.random.normal(jax.random.key(0), (MATMUL_SIZE, MATMUL_SIZE), "float32")
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    multiply(matrix).block_until_ready()
    return 2 * MATMUL_SIZE**3 / seconds(lambda: multiply(matrix).block_until_ready())


def measure(setup: Setup) -> Row:
    steps = len(LEARNING_RATES) * setup.steps
    first = seconds(lambda: dynsim_sweep(setup))
    if torch is not None:
        check_agreement(setup)
        torch_sweep(replace(setup, steps=2))  # warm-up
    ours, theirs, matmul = [], [], []
    for _ in range(REPEATS):
        ours.append(seconds(lambda: dynsim_sweep(setup)))
        if torch is not None:
            theirs.append(seconds(lambda: torch_sweep(setup)))
        if setup.width >= SHARE_FROM_WIDTH:
            matmul.append(matmul_rate())
    operations = MATMULS_PER_STEP * 2 * setup.vocab_size * setup.width * setup.output_count * steps
    ratios = [b / a for a, b in zip(ours, theirs, strict=False)]
    shares = [operations / a / rate for a, rate in zip(ours, matmul, strict=False)]
    return Row(
        width=setup.width,
        vocab_size=setup.vocab_size,
        outputs=setup.output_count,
        dynsim=steps / statistics.median(ours),
        compile_seconds=first - statistics.median(ours),
        torch=steps / statistics.median(theirs) if theirs else None,
        ratio=statistics.median(ratios) if ratios else None,
        matmul_share=statistics.median(shares) if shares else None,
    )


def table(rows: list[Row]) -> str:
    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    lines = [
        "width  vocab  outputs  dynsim steps/s  compile s  PyTorch steps/s  ratio  matmul share"
    ]
    for row in rows:
        cells = (
            f"{row.width:>5}",
            f"{row.vocab_size:>5}",
            f"{row.outputs:>7}",
            f"{row.dynsim:>14,.0f}",
            f"{row.compile_seconds:>9.2f}",
            f"{cell(row.torch, ',.0f'):>15}",
            f"{cell(row.ratio, '.1f'):>5}",
            f"{cell(row.matmul_share, '.0%'):>12}",
        )
        lines.append("  ".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Learning-rate sweep: dynsim against PyTorch.")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if torch is not None:
        torch.set_num_threads(os.cpu_count() or 1)
    rows = [measure(replace(size, width=width)) for size in SIZES for width in WIDTHS]
    if arguments.json:
        about = {
            "learning_rates": len(LEARNING_RATES),
            "steps": BASE.steps,
            "optimizer": BASE.optimizer,
            "tokens": BASE.tokens,
            "cores": os.cpu_count(),
            "device": jax.default_backend(),
            "jax": jax.__version__,
            "torch": None if torch is None else torch.__version__,
        }
        print(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=2))
        return
    print(
        f"{len(LEARNING_RATES)} learning rates, {BASE.steps} full-batch {BASE.optimizer} steps, "
        f"{BASE.tokens} tokens, {os.cpu_count()} cores, JAX on {jax.default_backend()}, "
        f"median of {REPEATS}\n"
    )
    print(table(rows))
    if torch is None:
        print('\nPyTorch is not installed: pip install -c constraints.txt -e ".[bench]"')
    else:
        print("\nThe records of dynsim and PyTorch agree in float64 at every size.")


if __name__ == "__main__":
    main()
