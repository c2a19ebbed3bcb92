"""Tangent kernels and linearised training, beside neural-tangents where that still runs.

    python -m benchmarks.tangent_kernels [--theirs PYTHON] [--json]

A tanh network with hidden layers of width d, n outputs, N points, in float64: seconds of the kernel
of all points with themselves, (N n)^2 numbers, and of gradient flow on mse at six times. Without
compilation, the best of three turns. A second table has the memory that the flow takes without its
matrix, as outputs grow.

neural-tangents (last release 0.6.5) needs an old JAX, so it runs in an environment of its own:

    python3.11 -m venv old
    old/bin/pip install "jax==0.4.23" "jaxlib==0.4.23" "numpy<2" "scipy<1.13" neural-tangents==0.6.5
    python -m benchmarks.tangent_kernels --theirs old/bin/python

Each of its implementations is timed, and its best one counts. Kernels and outputs of both must
agree before anything is timed. This file runs under both versions of JAX.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SIZES = ((128, 256, 2, 1), (64, 256, 2, 10), (32, 256, 2, 24))  # N, d, hidden layers, n
INPUTS = 32
TIMES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
REPEATS = 3
TOLERANCE = 1e-7
MEMORY_OUTPUTS = (64, 256, 1024)  # at 64 points and width 256


def network(params: Any, x: Any) -> Any:
    for weight in params[:-1]:
        x = jnp.tanh(x @ weight.T / weight.shape[1] ** 0.5)
    return x @ params[-1].T / params[-1].shape[1] ** 0.5


def task(points: int, width: int, depth: int, outputs: int) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(0)
    sizes = (INPUTS, *[width] * depth, outputs)
    params = [random.standard_normal((above, below)) for below, above in itertools.pairwise(sizes)]
    return (
        params,
        random.standard_normal((points, INPUTS)),
        random.standard_normal((points, outputs)),
    )


def best(work: Any) -> tuple[float, Any]:
    """Seconds of the best of three turns after a first one, and the result."""
    result = jax.block_until_ready(work())
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
    return min(seconds), np.asarray(result)


def ours(size: tuple[int, ...]) -> tuple[dict[str, float], dict[str, Any]]:
    from dynsim import predict_linearized, tangent_kernel

    params, x, y = task(*size)
    kernel, theta = best(lambda: tangent_kernel(network, params, x))
    flow, outputs = best(lambda: predict_linearized(network, params, x, y, TIMES).outputs)
    return {"kernel": kernel, "flow": flow}, {"kernel": theta, "flow": outputs}


def theirs(size: tuple[int, ...]) -> tuple[dict[str, float], dict[str, Any]]:
    """By neural-tangents; times and rates in the units of dynsim."""
    import neural_tangents as nt  # pyright: ignore[reportMissingImports]

    params, x, y = task(*size)
    points, outputs = y.shape
    times = np.array(TIMES)
    found = {}
    for name in ("JACOBIAN_CONTRACTION", "NTK_VECTOR_PRODUCTS", "STRUCTURED_DERIVATIVES"):
        way = getattr(nt.NtkImplementation, name)
        function = jax.jit(
            nt.empirical_ntk_fn(network, trace_axes=(), vmap_axes=0, implementation=way)
        )
        found[name] = best(lambda function=function: function(x, None, params))
    kernel, theta = min(found.values(), key=lambda pair: pair[0])
    fastest = min(found, key=lambda name: found[name][0])
    function = jax.jit(
        nt.empirical_ntk_fn(
            network,
            trace_axes=(),
            vmap_axes=0,
            implementation=getattr(nt.NtkImplementation, fastest),
        )
    )

    def train() -> Any:
        # Their loss is a mean over outputs: their rate is n times ours.
        flow = nt.predict.gradient_descent_mse(function(x, None, params), y, outputs, trace_axes=())
        return flow(times, network(params, x), None, None)

    flow, trained = best(train)
    matrix = theta.transpose(0, 2, 1, 3).reshape(points * outputs, -1)
    return {"kernel": kernel, "flow": flow}, {"kernel": matrix, "flow": trained}


def measured(side: Any, folder: Path) -> None:
    """Writes the seconds, and the results of every size, for the other process to compare."""
    rows = []
    for place, size in enumerate(SIZES):
        seconds, results = side(size)
        rows.append(seconds)
        np.savez(folder / f"{side.__name__}{place}.npz", **results)
        (folder / f"{side.__name__}.json").write_text(json.dumps(rows))


def memory(outputs: int) -> None:
    """Prints by how many MiB the flow without its matrix raises this process's memory."""
    from dynsim import predict_linearized

    params, x, y = task(64, 256, 2, outputs)
    predict_linearized(network, *task(2, 8, 1, 2), TIMES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    predict_linearized(network, params, x, y, TIMES[:3], kernel="matrix-free")
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def other_process(python: str, *arguments: str) -> str:
    command = [python, "benchmarks/tangent_kernels.py", *arguments]
    root = Path(__file__).parents[1]
    return subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--theirs", metavar="PYTHON", help="of an environment of neural-tangents")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--only", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if options.only:
        measured({"ours": ours, "theirs": theirs}[options.only[0]], Path(options.only[1]))
        return
    if options.memory:
        memory(options.memory)
        return
    sides = {"ours": sys.executable, **({"theirs": options.theirs} if options.theirs else {})}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side, python in sides.items():
            other_process(python, "--only", side, name)
        seconds = {side: json.loads((folder / f"{side}.json").read_text()) for side in sides}
        if options.theirs:
            check(folder)
    rows = [
        {
            **dict(zip(("points", "width", "depth", "outputs"), size, strict=True)),
            **{f"{side} {what}": found[place][what] for side, found in seconds.items()
               for what in ("kernel", "flow")},
        }
        for place, size in enumerate(SIZES)
    ]  # fmt: skip
    memories = {n: float(other_process(sys.executable, "--memory", str(n))) for n in MEMORY_OUTPUTS}
    if options.json:
        print(json.dumps({"rows": rows, "memory_mib": memories}, indent=2))
        return
    for row in rows:
        print(
            f"N = {row['points']}, width {row['width']}, n = {row['outputs']}: kernel "
            f"{row['ours kernel']:.4f} s{ratio(row, 'kernel')}, flow {row['ours flow']:.4f} s"
            f"{ratio(row, 'flow')}"
        )
    print("\nmemory of the flow without its matrix, 64 points, width 256")
    for outputs, size in memories.items():
        matrix = 8 * (64 * outputs) ** 2 / 2**20
        print(f"{outputs:5d} outputs: {size:5.0f} MiB (the matrix alone: {matrix:,.0f} MiB)")


def ratio(row: dict[str, Any], what: str) -> str:
    if f"theirs {what}" not in row:
        return ""
    theirs = row[f"theirs {what}"]
    return f" (neural-tangents {theirs:.4f} s, {theirs / row[f'ours {what}']:.1f} times)"


def check(folder: Path) -> None:
    """Raises unless both found the same."""
    for place in range(len(SIZES)):
        here, there = (np.load(folder / f"{side}{place}.npz") for side in ("ours", "theirs"))
        for name in here:
            gap = np.abs(here[name] - there[name]).max() / np.abs(there[name]).max()
            if not gap < TOLERANCE:
                raise RuntimeError(f"{name} of {SIZES[place]} differs by {gap:.2g}")


if __name__ == "__main__":
    main()
