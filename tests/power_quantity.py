"""A quantity that is a known power of the width, by every route: no network is trained for it."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from derivations import first_step
from dynsim.scaling import Asymptotic, Measurement, Quantity, Sampled, Unavailable, Value


class Power(Quantity):
    """y = size^power (1 + noise) of any setup, by every route."""

    name, symbol, meaning = "power", "y", "a power"

    def __init__(self, power=0.7, noise=0.05, lost=(), missing=(), largest=math.inf):
        self.power, self.noise, self.lost, self.missing = power, noise, lost, missing
        self.largest = largest  # width with a theory
        self.measurement = Measurement("power", self.trained)
        self.runs: list[tuple[int, list[int]]] = []

    def value(self, setup) -> float:
        return float(setup.width) ** self.power

    def trained(self, setup, seeds, progress):
        self.runs.append((setup.width, seeds.tolist()))
        normal = np.array([np.random.default_rng([setup.width, s]).normal() for s in seeds])
        values = self.value(setup) * np.exp(self.noise * normal)
        progress(1.0)
        return {"y": np.where(np.isin(seeds, self.lost) & (setup.width == 64), np.nan, values)}

    def available(self, column: str, width: float = 0) -> None:
        if column in self.missing:
            raise Unavailable(f"no {column} for it")
        if width > self.largest:
            raise Unavailable(f"no {column} so wide")

    def asymptotic(self, family):
        self.available("asymptotic")
        _, rms = first_step("projection", "sign")
        return Asymptotic(Fraction(str(self.power)), rms, ())

    def derived(self, setup) -> float:
        self.available("derived", setup.width)
        return self.value(setup)

    def mean_field(self, setups, progress=lambda part: None):
        self.available("mean_field", max(setup.width for setup in setups))
        progress(1.0)
        return [Value(self.value(setup), 0.01 * self.value(setup)) for setup in setups]

    def sampled(self, setup, arrays) -> Sampled:
        return Sampled(arrays["y"], lambda samples: np.log(np.mean(samples, axis=-1)))
