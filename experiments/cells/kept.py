"""Cells of quantities along a path, kept in a store: interrupted work resumes, repeated is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.results import fingerprint

from .store import Arrays, Store


def kept(store: Store) -> Callable[[Any, Any, NDArray[np.int64]], Arrays]:
    """The `measure` of `dynsim.exponent`: a cell's arrays from the store, or by training and kept
    there."""

    def measure(measurement: Any, setup: Any, seeds: NDArray[np.int64]) -> Arrays:
        description = {
            "measurement": measurement.name,
            "setup": setup.resolved(),
            "seeds": seeds.tolist(),
        }
        identity = fingerprint(description)
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        found = store.read(name, identity)
        if found is None:
            arrays = measurement.run(setup, seeds, lambda part: None)
            found = {one: np.asarray(values) for one, values in arrays.items()}
            store.write(name, identity, found)
        return found

    return measure
