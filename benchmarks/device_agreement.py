"""Do an accelerator and the CPU train the same networks? `python -m benchmarks.device_agreement`

Every network, a few steps in float32 with full-precision products, on the accelerator here and on
the CPU in a second process. Initial weights and batches are the same numbers; sums are ordered
differently, so losses agree to `TOLERANCE` (relative) and no better.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np

from dynsim.laboratory import NetworkSetup, train_networks

TOLERANCE = 1e-3
SETUPS: dict[str, dict[str, Any]] = {
    "linear": {"network": "linear", "width": 256, "vocab_size": 1024},
    "mlp": {"network": "mlp", "width": 256, "vocab_size": 1024, "outputs": 16},
    "mlp, muon": {"network": "mlp", "width": 128, "vocab_size": 512, "optimizer": "muon"},
    "transformer": {
        "network": "transformer",
        "width": 128,
        "vocab_size": 1024,
        "targets": "onehot",
        "outputs": 64,
        "batch_size": 1024,
    },
}
STEPS, RATES = 10, (1e-3, 1e-2)


def losses() -> dict[str, list[list[float]]]:
    """Training losses of two rates and two seeds, by network."""
    found = {}
    for name, fields in SETUPS.items():
        setup = NetworkSetup(**fields, steps=STEPS)
        rates = np.repeat(RATES, 2)
        found[name] = train_networks(setup, rates, rates, np.tile([0, 1], 2)).train_loss.tolist()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--losses", action="store_true", help="print the losses of this backend")
    jax.config.update("jax_enable_x64", True)
    if parser.parse_args().losses:
        print(json.dumps(losses()))
        return 0
    if jax.default_backend() == "cpu":
        print("JAX sees no accelerator here: nothing to compare")
        return 0
    there = subprocess.run(
        [sys.executable, "-m", "benchmarks.device_agreement", "--losses"],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        check=True,
        capture_output=True,
        text=True,
    )
    reference = json.loads(there.stdout)
    worst = 0.0
    for name, here in losses().items():
        gap = float(np.max(np.abs(np.divide(here, reference[name]) - 1)))
        worst = max(worst, gap)
        print(f"{name:12s} largest relative difference of a loss {gap:.1e}")
    print(f"{jax.devices()[0].device_kind}: {'agrees' if worst <= TOLERANCE else 'DIFFERS'}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
