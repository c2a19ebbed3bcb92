"""Records of a model whose powers of the width are known, as a recorder would write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

WIDTHS = (64, 128, 256)
HALF = -0.5
# Powers of the width under muP at full alignment: embedding, hidden matrix, readout.
MUP: dict[str, dict[str, float]] = {
    "wte": {"weight": 0, "initial": 0, "weight_update": 0, "update_on_initial": 0},
    "block.fc": {
        "weight": HALF,
        "input": 0,
        "initial": 0,
        "weight_update": -1,
        "update_on_initial": 0,
        "learned_input": 0,
        "initial_on_learned": 0,
        "update_on_learned": 0,
    },
    "lm_head": {
        "weight": -1,
        "input": 0,
        "initial": HALF,
        "weight_update": -1,
        "update_on_initial": 0,
        "learned_input": 0,
        "initial_on_learned": 0,
        "update_on_learned": 0,
    },
}
LABELS = {"wte": "embedding", "block.fc": "hidden", "lm_head": "readout"}
AT_START = ("weight", "input", "initial")


def records(
    changed: Mapping[tuple[str, str], float] = {},
    *,
    widths: Sequence[int] = WIDTHS,
    seeds: int = 1,
    noise: float = 0.0,
    vocab_sizes: Mapping[int, int] | None = None,
    rng: int = 0,
) -> pd.DataFrame:
    """Sizes (d/64)^power e^noise; `changed` holds other powers, by module and term."""
    random = np.random.default_rng(rng)
    rows = []
    for width in widths:
        for seed in range(seeds):
            for module, terms in MUP.items():
                for term, power in terms.items():
                    value = changed.get((module, term), power)
                    for step in (0,) if term in AT_START else (1, 2):
                        rows.append(
                            {
                                "width": width,
                                "vocab_size": (vocab_sizes or {}).get(width, 100),
                                "seed": seed,
                                "step": step,
                                "module": module,
                                "label": LABELS[module],
                                "term": term,
                                "rms": (width / 64) ** value
                                * np.exp(noise * random.standard_normal()),
                                "reads_embedding": int(module == "block.fc"),
                            }
                        )
    return pd.DataFrame(rows)
