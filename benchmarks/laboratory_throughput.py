"""Throughput of the laboratory: `train_networks` against the same training in PyTorch on the CPU.

    python -m benchmarks.laboratory_throughput [--json]

Adam on one-hot targets, a grid of learning rates from one start. `train_networks` trains as many
networks side by side as fit the cache; the PyTorch loop trains one after another with autograd,
its fused Adam and its fused attention, on batches that are drawn beforehand. Both record the loss
of every step. Before they are timed both must give the same losses in float64 from the same
weights and batches. PyTorch is optional (`pip install -c constraints.txt -e ".[bench]"`); without
it that part is left out.

The unit is network-steps per second: runs x steps / time, without compilation, which is reported
apart. "Singly" is `train_networks` with one network at a time. Contestants take turns, so that a
load from elsewhere hits them alike, and every number is the median over the turns.

The matmul share compares two rates in float32: the matrix products of a step (forward, and twice
that backward; nothing else counted) over the time of the whole step, and one square matmul of JAX
on this machine. The second table is the peak memory of this process after ever wider grids.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from benchmarks.sweep_throughput import matmul_rate, seconds
from dynsim.laboratory import (
    NetworkSetup,
    initial_network,
    learning_rate_factors,
    network_shape,
    scales,
    task,
    train_networks,
)
from dynsim.laboratory._memory import parameter_count, run_bytes
from dynsim.laboratory._networks import NORM_EPSILON, ROTARY_BASE, label_of, parameter_names
from dynsim.laboratory._training import run_key

try:
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]
except ImportError:
    torch: Any = None
    functional: Any = None

REPEATS = 3
RUNS = 16
ONE_NETWORK_GB = 1e-9
GRIDS = (1, 16, 256)

BASE = NetworkSetup(
    vocab_size=512, tokens="zipf:1", targets="onehot", outputs=64, batch_size=256, head_width=16
)
SIZES = tuple(
    replace(BASE, network=network, width=width, steps=steps)
    for network, width, steps in (
        ("linear", 64, 100),
        ("linear", 256, 50),
        ("mlp", 64, 50),
        ("mlp", 256, 15),
        ("transformer", 32, 25),
        ("transformer", 128, 6),
    )
)
RATES = np.geomspace(1e-4, 1e-2, RUNS)


@dataclass(frozen=True)
class Row:
    """One line of the table; rates in network-steps per second, `None` where not measured."""

    network: str
    width: int
    parameters: int
    dynsim: float
    singly: float
    compile_seconds: float
    torch: float | None
    ratio: float | None
    matmul_share: float


def start_and_batches(setup: NetworkSetup) -> tuple[dict[str, Any], Any, Any]:
    """What `train_networks` gives to seed 0: weights by name, tokens and classes (T, S, C)."""
    key = run_key(setup, 0)
    prescribed = scales(setup)
    init = jax.jit(initial_network, static_argnums=0)
    network = init(network_shape(setup), prescribed.init_factor, jax.random.fold_in(key, 0))
    leaves = map(np.array, jax.tree.leaves(network))
    weights = dict(zip(parameter_names(network), leaves, strict=True))
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, 1)))(np.arange(setup.steps))
    batches = jax.vmap(task(setup).batch)(keys)
    return weights, np.array(batches.tokens), np.array(batches.targets.argmax(-1))


def torch_outputs(setup: NetworkSetup, w: dict[str, Any], tokens: Any, turn: Any) -> Any:
    """The forward pass, (S, C) to (S, C, n)."""
    by = scales(setup).multiplier

    def norm(x: Any, gain: str) -> Any:
        return functional.rms_norm(x, (setup.width,), w[gain], NORM_EPSILON)

    h = by.embedding * functional.embedding(tokens, w["embedding"])
    if setup.network == "mlp":
        for layer in range(setup.depth):
            z = norm(h, f"gains.{layer}")
            z = z.relu() if layer else z
            h = h + by.hidden * functional.linear(z, w[f"hidden.{layer}"])
        h = norm(h, f"gains.{setup.depth}").relu()
    if setup.network == "transformer":
        heads = (*tokens.shape, setup.width // setup.head_width, setup.head_width)
        for block in (f"blocks.{place}." for place in range(setup.depth)):
            z = norm(h, block + "attention_gain")
            q, k, v = (
                (by.hidden * functional.linear(z, w[block + name])).view(heads).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            mixed = functional.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
            mixed = mixed.transpose(1, 2).reshape(h.shape)
            h = h + by.hidden * functional.linear(mixed, w[block + "output"])
            z = functional.linear(norm(h, block + "mlp_gain"), w[block + "up"])
            h = h + by.hidden * functional.linear((by.hidden * z).relu(), w[block + "down"])
        h = norm(h, "gain")
    return by.readout * functional.linear(h, w["readout"])


def rotation(setup: NetworkSetup, dtype: Any) -> Any:
    """Rotary positions of (S, heads, C, head_width)."""
    half = setup.head_width // 2
    frequency = ROTARY_BASE ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(setup.context, dtype=torch.float64)[:, None] * frequency
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)

    def turn(x: Any) -> Any:
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)

    return turn


def torch_losses(
    setup: NetworkSetup, start: dict[str, Any], tokens: Any, classes: Any
) -> NDArray[np.float64]:
    """The grid in PyTorch, one network after another: losses (runs, steps)."""
    tokens, classes = torch.from_numpy(tokens).long(), torch.from_numpy(classes).long()
    first = {name: torch.from_numpy(w) for name, w in start.items()}
    record = torch.empty((RUNS, setup.steps), dtype=first["embedding"].dtype)
    turn = rotation(setup, record.dtype)
    factors = learning_rate_factors(setup)
    for run, rate in zip(record, RATES.tolist(), strict=True):
        w = {name: value.clone().requires_grad_() for name, value in first.items()}
        groups = [{"params": [w[n]], "lr": rate * factors.of(label_of(n))} for n in w]
        betas = setup.beta1, setup.beta2
        adam = torch.optim.Adam(groups, betas=betas, eps=setup.epsilon, fused=True)
        for step in range(setup.steps):
            outputs = torch_outputs(setup, w, tokens[step], turn).flatten(0, 1)
            loss = functional.cross_entropy(outputs, classes[step].flatten())
            adam.zero_grad()
            loss.backward()
            adam.step()
            run[step] = loss.detach()
    return record.numpy().astype(np.float64)


def dynsim_losses(setup: NetworkSetup, memory_gb: float | None = None) -> NDArray[np.float64]:
    """The same in dynsim."""
    return train_networks(setup, RATES, RATES, memory_gb=memory_gb).train_loss


def check_agreement(setup: NetworkSetup) -> None:
    """Raises unless the float64 losses differ by rounding alone."""
    exact = replace(setup, precision="float64", steps=5)
    jax.config.update("jax_disable_most_optimizations", True)  # compiles several times sooner
    ours, theirs = dynsim_losses(exact), torch_losses(exact, *start_and_batches(exact))
    jax.config.update("jax_disable_most_optimizations", False)
    largest = float(np.max(np.abs(ours - theirs) / np.abs(theirs)))
    if not largest < 1e-7:
        raise RuntimeError(f"{setup.network} {setup.width}: losses differ by {largest:.3g}")


def operations(setup: NetworkSetup) -> int:
    """Of the matrix products of one step: two a weight and token, thrice with the backward pass;
    attention's scores and mixtures on top."""
    read = parameter_count(setup) - setup.vocab_size * setup.width
    mixing = 2 * setup.depth * setup.context * setup.width if setup.network == "transformer" else 0
    return 6 * setup.batch_size * (read + mixing)


def measure(setup: NetworkSetup) -> Row:
    compile_and_run = seconds(lambda: dynsim_losses(setup))
    dynsim_losses(setup, ONE_NETWORK_GB)
    start = start_and_batches(setup)
    if torch is not None:
        check_agreement(setup)
    ours, singly, theirs, matmul = [], [], [], []
    for _ in range(REPEATS):
        ours.append(seconds(lambda: dynsim_losses(setup)))
        singly.append(seconds(lambda: dynsim_losses(setup, ONE_NETWORK_GB)))
        if torch is not None:
            theirs.append(seconds(lambda: torch_losses(setup, *start)))
        matmul.append(matmul_rate())
    steps = RUNS * setup.steps
    shares = [operations(setup) * steps / a / b for a, b in zip(ours, matmul, strict=True)]
    ratios = [b / a for a, b in zip(ours, theirs, strict=False)]
    return Row(
        network=setup.network,
        width=setup.width,
        parameters=parameter_count(setup),
        dynsim=steps / statistics.median(ours),
        singly=steps / statistics.median(singly),
        compile_seconds=compile_and_run - statistics.median(ours),
        torch=steps / statistics.median(theirs) if theirs else None,
        ratio=statistics.median(ratios) if ratios else None,
        matmul_share=statistics.median(shares),
    )


def peak_memory() -> dict[int, float]:
    """Peak MiB of this process after grids of ever more runs of an MLP of 5 MB in training."""
    setup = replace(BASE, network="mlp", width=256, steps=1)
    peaks = {}
    for runs in GRIDS:
        train_networks(setup, np.geomspace(1e-4, 1e-2, runs))
        peaks[runs] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return peaks


def table(rows: list[Row]) -> str:
    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    head = (
        f"{'network':>11}  width  parameters  dynsim steps/s  singly  compile s  PyTorch steps/s  "
        "ratio  matmul share"
    )
    lines = [head]
    for row in rows:
        cells = (
            f"{row.network:>11}",
            f"{row.width:>5}",
            f"{row.parameters:>10,}",
            f"{row.dynsim:>14,.0f}",
            f"{row.singly:>6,.0f}",
            f"{row.compile_seconds:>9.1f}",
            f"{cell(row.torch, ',.0f'):>15}",
            f"{cell(row.ratio, '.1f'):>5}",
            f"{row.matmul_share:>12.0%}",
        )
        lines.append("  ".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="The laboratory's grids against PyTorch.")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    cores = len(os.sched_getaffinity(0))  # those this process is pinned to
    if torch is not None:
        torch.set_num_threads(cores)
    peaks = peak_memory()
    rows = []
    for setup in SIZES:
        rows.append(measure(setup))
        print(f"{setup.network} {setup.width} measured", file=sys.stderr)
    if arguments.json:
        about = {
            "runs": RUNS,
            "batch_size": BASE.batch_size,
            "cores": cores,
            "device": jax.default_backend(),
            "jax": jax.__version__,
            "torch": None if torch is None else torch.__version__,
        }
        rows_and_peaks = {"rows": [asdict(row) for row in rows], "peak_mib": peaks}
        print(json.dumps({**about, **rows_and_peaks}, indent=2))
        return
    print(
        f"{RUNS} runs, {BASE.batch_size} tokens a batch of {BASE.vocab_size} types, Adam, "
        f"{cores} cores, JAX on {jax.default_backend()}, median of {REPEATS}\n"
    )
    print(table(rows))
    if torch is None:
        print('\nPyTorch is not installed: pip install -c constraints.txt -e ".[bench]"')
    else:
        print("\nThe losses of dynsim and PyTorch agree in float64 at every size.")
    wide = replace(BASE, network="mlp", width=256)
    print(f"\nPeak memory, networks of {run_bytes(wide) / 2**20:.1f} MiB in training:")
    print("\n".join(f"{runs:>5} runs  {peak:>6.0f} MiB" for runs, peak in peaks.items()))


if __name__ == "__main__":
    main()
