"""Time of a mean-field prediction at growing sizes, and of training the same networks.

    python -m benchmarks.prediction [--train]

Prints seconds of one prediction (compiled before), the ratio to the smallest size, and with
--train the seconds of training one network of the size.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import jax

from dynsim import Setup, predict, train

SIZES = ((256, 1024), (4096, 131_072), (16_384, 1_000_000))


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    first = None
    for width, vocab_size in SIZES:
        setup = Setup(width=width, vocab_size=vocab_size, steps=50, outputs=8, tokens="zipf:1")
        options = {"replicas": 2, "error_estimate": False, "finite_width": False}
        if first is None:
            predict(setup, **options)  # compiles
        taken = seconds(lambda s=setup, o=options: predict(s, **o))
        first = first or taken
        line = f"d = {width:,}, m = {vocab_size:,}: {taken:.1f} s, {taken / first:.2f} times"
        if "--train" in sys.argv and width * vocab_size < 2**30:
            trained = seconds(lambda s=setup: train(s, 1))
            line += f"; training one network {trained:.1f} s"
        print(line, flush=True)


if __name__ == "__main__":
    main()
