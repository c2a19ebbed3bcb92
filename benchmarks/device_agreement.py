"""Do an accelerator and the CPU find the same numbers? `python -m benchmarks.device_agreement`

Every network, a few steps with full-precision products, on the accelerator here and on the CPU in
a second process; the linear model and its mean-field prediction too. Initial weights and batches
are the same numbers; sums are ordered differently, so losses agree to `TOLERANCE` (relative) and
no better.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from dynsim import NetworkSetup, Setup, predict
from dynsim.laboratory import train_linear, train_networks

TOLERANCE = {"float32": 1e-3, "float64": 1e-8}
STEPS, RATES = 10, (1e-3, 1e-2)
SETUPS: dict[str, Setup | NetworkSetup] = {
    "linear": NetworkSetup(network="linear", width=256, vocab_size=1024, steps=STEPS),
    "mlp": NetworkSetup(network="mlp", width=256, vocab_size=1024, outputs=16, steps=STEPS),
    "mlp, muon": NetworkSetup(
        network="mlp", width=128, vocab_size=512, optimizer="muon", steps=STEPS
    ),
    "transformer": NetworkSetup(
        network="transformer",
        width=128,
        vocab_size=1024,
        targets="onehot",
        outputs=64,
        batch_size=1024,
        steps=STEPS,
    ),
    "linear model": Setup(width=256, vocab_size=1024, outputs=4, tokens="zipf:1", steps=STEPS),
    "prediction": Setup(width=10_000, vocab_size=100_000, outputs=2, tokens="zipf:1", steps=STEPS),
}
QUICK = ("linear",)
PARTICLES = 256


def losses(name: str, precision: str) -> NDArray[np.float64]:
    """Losses (runs, steps) of two rates, and of two seeds where networks are trained.

    The prediction is computed in float64 whatever the precision.
    """
    setup = SETUPS[name]
    if isinstance(setup, NetworkSetup):
        rates = np.repeat(RATES, 2)
        setup = replace(setup, precision=precision)
        return train_networks(setup, rates, rates, np.tile([0, 1], 2)).train_loss
    if name == "prediction":
        found = predict(
            setup, embedding_lrs=RATES, projection_lrs=RATES, particles=PARTICLES, replicas=4
        )
        return found.loss
    found = train_linear(setup, 2, embedding_lrs=RATES, projection_lrs=RATES, dtype=precision)
    return found.loss.reshape(-1, STEPS)


def losses_on_cpu(names: Iterable[str], precision: str) -> dict[str, NDArray[np.float64]]:
    """The same, computed on the CPU by a second process."""
    command = (sys.executable, "-m", "benchmarks.device_agreement", "--losses", precision)
    quick = str(int(jax.config.read("jax_disable_most_optimizations")))
    there = subprocess.run(
        [*command, *names],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": quick},
        check=True,
        capture_output=True,
        text=True,
    )
    return {name: np.array(values) for name, values in json.loads(there.stdout).items()}


def largest_gap(here: Any, reference: Any) -> float:
    """Largest relative difference of a loss."""
    return float(np.max(np.abs(np.divide(here, reference) - 1)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--losses", nargs="+", help="print this backend's losses: precision, names")
    asked = parser.parse_args().losses
    jax.config.update("jax_enable_x64", True)
    if asked:
        precision, *names = asked
        print(json.dumps({name: losses(name, precision).tolist() for name in names}))
        return 0
    if jax.default_backend() == "cpu":
        print("JAX sees no accelerator here: nothing to compare")
        return 0
    agree = True
    for precision, tolerance in TOLERANCE.items():
        for name, reference in losses_on_cpu(SETUPS, precision).items():
            gap = largest_gap(losses(name, precision), reference)
            agree &= gap <= tolerance
            print(f"{precision} {name:12s} largest relative difference of a loss {gap:.1e}")
    print(f"{jax.devices()[0].device_kind}: {'agrees' if agree else 'DIFFERS'}")
    return int(not agree)


if __name__ == "__main__":
    sys.exit(main())
