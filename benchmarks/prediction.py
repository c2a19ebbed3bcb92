"""Time of a mean-field prediction: the goals, growing sizes, and training the same networks.

    python -m benchmarks.prediction [--train]

First the goals, each in a process of its own and with nothing kept from earlier runs: seconds from
the start of `dynsim predict` to its end, compilation included, and again with the compiled program
at hand; with --train also of `dynsim train` for one network of a sixteenth of the size. Then
seconds of one prediction at growing sizes (compiled before), the ratio to the smallest, and with
--train the seconds of training one network of the size.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial

import jax

from dynsim import Setup, predict, train

SIZES = ((256, 1024), (4096, 131_072), (16_384, 1_000_000))
WIDE = ("--width", "4096", "--vocab-size", "131072")
TRAINED = ("--width", "1024", "--vocab-size", "32768", "--seeds", "1")
CLASSES = ("--loss", "ce", "--targets", "onehot", "--tokens", "zipf:1")
LINEAR = ("--network", "mlp", "--activation", "identity", "--normalisation", "none")
RATES = ("--embedding-lr", "0.02", "--hidden-lr", "0.002")
GOALS = {  # seconds: options
    "T = 20, n = 2": (5, ("--steps", "20", "--outputs", "2")),
    "T = 50, n = 8, ce, Zipf 1": (10, ("--steps", "50", "--outputs", "8", *CLASSES)),
    "depth 1, T = 20, n = 2": (
        20,
        ("--steps", "20", "--outputs", "2", *LINEAR, "--depth", "1", *RATES),
    ),
}


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def print_goals(train_too: bool, names: Sequence[str] = tuple(GOALS)) -> None:
    print(
        f"{'prediction at 1 %':28} {'goal':>6} {'first':>8} {'again':>8} {'over goal':>10}", end=""
    )
    print(f" {'training':>9} {'over first':>11}" if train_too else "")
    for name in names:
        goal, options = GOALS[name]
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "DYNSIM_COMPILATION_CACHE": folder}

            def run(*line: str, own: dict[str, str] = environment) -> None:
                words = [sys.executable, "-m", "dynsim", *line, "--json"]
                subprocess.run(words, env=own, check=True, capture_output=True)

            first, again = (seconds(partial(run, "predict", *WIDE, *options)) for _ in range(2))
            line = f"{name:28} {goal:4} s {first:6.1f} s {again:6.1f} s {first / goal:10.2f}"
            if train_too:
                trained = seconds(partial(run, "train", *TRAINED, *options))
                line += f" {trained:7.1f} s {trained / first:11.1f}"
        print(line, flush=True)


def main() -> None:
    print_goals("--train" in sys.argv)
    jax.config.update("jax_enable_x64", True)
    smallest = None
    for width, vocab_size in SIZES:
        setup = Setup(width=width, vocab_size=vocab_size, steps=50, outputs=8, tokens="zipf:1")
        options = {"replicas": 2, "error_estimate": False, "finite_width": False}
        if smallest is None:
            predict(setup, **options)  # compiles
        taken = seconds(lambda s=setup, o=options: predict(s, **o))
        smallest = smallest or taken
        line = f"d = {width:,}, m = {vocab_size:,}: {taken:.1f} s, {taken / smallest:.2f} times"
        if "--train" in sys.argv and width * vocab_size < 2**30:
            trained = seconds(lambda s=setup: train(s, 1))
            line += f"; training one network {trained:.1f} s"
        print(line, flush=True)


if __name__ == "__main__":
    main()
