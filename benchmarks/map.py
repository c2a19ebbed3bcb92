"""Time of a map of 200 x 200 cells, and of the loop over single points that a user would write.

    python -m benchmarks.map

Prints the seconds from the call to the values, symbolic derivation and compilation included, the
same when both are there, and the ratio of a Python loop over `dynsim.first_step`, row by row with
all widths at once, to the latter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import dynsim


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def by_hand(shown: dynsim.RegimeMap, tokens: str, batch_size: int) -> np.ndarray:
    """The local exponent of every row of a map from a law and a first step of its own."""
    rows = []
    for vocab_size in shown.y.values:
        law = dynsim.token_law(tokens, int(vocab_size))
        step = dynsim.first_step("projection", "sign", shown.x.values, law, batch_size=batch_size)
        rows.append(np.asarray(step.local_exponent))
    return np.stack(rows)


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    cases: list[dict[str, Any]] = [
        {"tokens": "uniform"},
        {"tokens": "zipf:1"},
        {"tokens": "zipf:1", "batch_size": 4096},
    ]
    for options in cases:
        first = seconds(lambda o=options: dynsim.regime_map(**o))
        again = seconds(lambda o=options: dynsim.regime_map(**o))
        shown = dynsim.regime_map(**options)
        batch = options.get("batch_size", 0)
        loop = seconds(lambda s=shown, o=options, b=batch: by_hand(s, o["tokens"], b))
        gap = np.abs(by_hand(shown, options["tokens"], batch) / shown.values - 1).max()
        print(
            f"{options}: {first:.2f} s at first, {again:.3f} s again; a loop {loop:.2f} s, "
            f"{loop / again:.0f} times (largest relative difference {gap:.1e})",
            flush=True,
        )
    for colour in ("restoration", "optimal_rate_ratio", "mup_share"):
        first = seconds(lambda c=colour: dynsim.regime_map(c, tokens="zipf:1"))
        print(f"{colour}: {first:.2f} s at first", flush=True)


if __name__ == "__main__":
    main()
