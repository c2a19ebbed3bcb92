"""Gradient flow: `dynsim.gradient_flow` against scipy's `solve_ivp` on the same problem.

    python -m benchmarks.gradient_flow [--json]

Both integrate the same finite network at the same tolerance by a Dormand-Prince method of order 8
(Dopri8, DOP853), scipy in the weights with numpy matrix products, as one would write it there,
dynsim in the smaller of weights and Gram matrices. Before they are timed, both must agree with
each other at tight tolerance. Compilation is reported apart; contestants take turns, and every
number is the median over the turns.

The last rows are vocabularies for which scipy would integrate every token: there dynsim reduces
the tokens first, and its time includes that.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import jax
import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from dynsim import Setup, gradient_flow, targets
from dynsim.theory.flow._starts import finite_start

REPEATS = 5
TOLERANCE, TIGHT = 1e-8, 1e-11
TIMES = np.linspace(0, 20, 21)

BASE = Setup(tokens="zipf:1", optimizer="sgd", init="sp", embedding_lr=1.0, projection_lr=0.02)
SETUPS = (
    replace(BASE, width=8, vocab_size=8, outputs=1),
    replace(BASE, width=64, vocab_size=16, outputs=2),
    replace(BASE, width=256, vocab_size=64, outputs=4),
    replace(BASE, width=64, vocab_size=1024, outputs=4),
    replace(BASE, width=32, vocab_size=8192, outputs=1, tokens="uniform", embedding_lr=100.0),
)
LIMITS = (
    replace(BASE, width=256, vocab_size=100_000, outputs=1),
    replace(BASE, width=256, vocab_size=100_000, outputs=8),
)


@dataclass(frozen=True)
class Row:
    """One line of the table; times in seconds, `None` where scipy has nothing to compare."""

    limit: str
    width: int
    vocab_size: int
    outputs: int
    effective_tokens: int
    dynsim: float
    compile_seconds: float
    scipy: float | None
    ratio: float | None


def scipy_flow(
    setup: Setup, start: tuple[NDArray[np.float64], ...], tolerance: float
) -> NDArray[np.float64]:
    """Losses at `TIMES` of the weights' flow from (E, W), shape (T,)."""
    p, y = setup.law().frequencies, targets(setup)
    (m, d), n = start[0].shape, setup.output_count

    def velocity(_: float, state: NDArray[np.float64]) -> NDArray[np.float64]:
        e, w = state[: m * d].reshape(m, d), state[m * d :].reshape(n, d)
        r = p[:, None] * (e @ w.T - y)
        by_e, by_w = -setup.embedding_lr * r @ w, -setup.projection_lr * r.T @ e
        return np.concatenate([by_e.ravel(), by_w.ravel()])

    initial = np.concatenate([part.ravel() for part in start])
    span = (0.0, float(TIMES[-1]))
    options = {"t_eval": TIMES, "rtol": tolerance, "atol": 1e-3 * tolerance}
    path = solve_ivp(velocity, span, initial, "DOP853", **options).y.T
    outputs = [state[: m * d].reshape(m, d) @ state[m * d :].reshape(n, d).T for state in path]
    return np.asarray([0.5 * p @ np.sum((output - y) ** 2, axis=1) for output in outputs])


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(setup: Setup, *, infinite: bool = False) -> Row:
    limit = "infinite" if infinite else "finite"

    def ours(tolerance: float = TOLERANCE) -> NDArray[np.float64]:
        flow = gradient_flow(setup, TIMES, limit=limit, tolerance=tolerance, error_estimate=False)
        if not flow.outcome.ok:
            raise RuntimeError(str(flow.outcome))
        return flow.loss

    drawn = None if infinite else finite_start(setup, 2, 0, lambda *_: None, reduce=False)
    start = () if drawn is None else (np.asarray(drawn.embedding), np.asarray(drawn.projection))
    first = seconds(ours)
    if not infinite:
        gap = float(np.max(np.abs(ours(TIGHT) / scipy_flow(setup, start, TIGHT) - 1)))
        if not gap < 1e-7:
            raise RuntimeError(f"dynsim and scipy differ by {gap:.3g} at {setup}")
    own, theirs = [], []
    for _ in range(REPEATS):
        own.append(seconds(ours))
        if not infinite:
            theirs.append(seconds(lambda: scipy_flow(setup, start, TOLERANCE)))
    flow = gradient_flow(setup, TIMES, limit=limit, error_estimate=False)
    ratios = [b / a for a, b in zip(own, theirs, strict=False)]
    return Row(
        limit,
        setup.width,
        setup.vocab_size,
        setup.output_count,
        flow.effective_tokens,
        statistics.median(own),
        first - statistics.median(own),
        statistics.median(theirs) if theirs else None,
        statistics.median(ratios) if ratios else None,
    )


def table(rows: list[Row]) -> str:
    lines = ["limit     width   vocab  outputs  eff. tokens  dynsim ms  compile s  scipy ms  ratio"]
    for row in rows:
        scipy = "-" if row.scipy is None else f"{1e3 * row.scipy:.1f}"
        ratio = "-" if row.ratio is None else f"{row.ratio:.1f}"
        lines.append(
            f"{row.limit:<8}  {row.width:>5}  {row.vocab_size:>6}  {row.outputs:>7}  "
            f"{row.effective_tokens:>11}  {1e3 * row.dynsim:>9.1f}  {row.compile_seconds:>9.2f}  "
            f"{scipy:>8}  {ratio:>5}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Gradient flow: dynsim against scipy.")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = [measure(setup) for setup in SETUPS]
    rows += [measure(setup, infinite=True) for setup in LIMITS]
    if arguments.json:
        about = {"tolerance": TOLERANCE, "cores": os.cpu_count(), "jax": jax.__version__}
        print(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=2))
        return
    print(f"tolerance {TOLERANCE:g}, {os.cpu_count()} cores, median of {REPEATS}\n")
    print(table(rows))
    print("\nIn finite networks both agree to 1e-7 at tight tolerance.")


if __name__ == "__main__":
    main()
