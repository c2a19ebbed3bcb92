"""Losses over two learning rates with a known optimum, and sweeps of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import xarray as xr

from experiments.results import save

RATES = 2.0 ** np.arange(-8, 9)
INITIAL = 1.2
BASE = 3.0 ** np.arange(-4, 5)
SWEPT = {"width": [64, 128, 256], "vocab_size": [100, 800], "horizon": [10, 40]}
ORDER = ("width", "vocab_size", "embedding_lr", "hidden_lr", "seed", "horizon")


def bowl(best, *, tilt=0.6, bends=(0.06, 0.01), cubic=0.0, rates=(RATES, RATES)):
    """A quadratic form in log rates, stiff along one axis and soft along the other, turned;
    `cubic` makes high rates worse than low ones. Shape (K_E, K_H), without an upper bound."""
    u, v = np.log(rates[0] / best[0])[:, None], np.log(rates[1] / best[1])
    stiff = math.cos(tilt) * u + math.sin(tilt) * v
    soft = -math.sin(tilt) * u + math.cos(tilt) * v
    return 0.3 + bends[0] * stiff**2 + bends[1] * soft**2 + cubic * (u**3 + v**3)


def sweep(seeds=2, rates=(BASE, BASE), **swept) -> xr.Dataset:
    """Optima at d^1/4 m^1/2 (embedding) and d^-1/2 m^-1/4 T^-1/2 (hidden), bases in a rule d^-1."""
    sizes = SWEPT | swept
    shape = [len(values) for values in sizes.values()]
    loss = np.empty((*shape[:2], *map(len, rates), seeds, shape[2]))
    for place in np.ndindex(*shape):
        d, m, steps = (
            np.sqrt(values[i] / values[0]) for values, i in zip(sizes.values(), place, strict=True)
        )
        one = bowl((0.5 * d**0.5 * m, 2.0 / (d * m**0.5 * steps)), rates=rates)
        loss[place[0], place[1], ..., place[2]] = one[..., None] + 0.1 * np.arange(seeds)
    initial = np.broadcast_to(INITIAL + 0.1 * np.arange(seeds), (*shape[:2], seeds))
    widths = np.array(sizes["width"])
    return xr.Dataset(
        {
            "loss": (ORDER, loss),
            "initial_loss": (("width", "vocab_size", "seed"), initial),
            "diverged": (ORDER[:-1], np.zeros(loss.shape[:-1], bool)),
            "embedding_lr_factor": ("width", np.ones(len(widths))),
            "hidden_lr_factor": ("width", widths[0] / widths),
        },
        {**sizes, "embedding_lr": rates[0], "hidden_lr": rates[1]},
    )


def stored(dataset: xr.Dataset, folder: Path) -> str:
    save(dataset, folder / "sweep.nc")
    return str(folder / "sweep.nc")
