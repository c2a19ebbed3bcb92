"""The claims about the best base rate of a proxy, by what its vocabulary does."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import Claim

from .estimators import drift

NETWORKS = {
    "mlp": "In a residual ReLU MLP of depth 2 with Gaussian targets",
    "transformer": "In a transformer of one block on real text, with a tokeniser trained at each "
    "vocabulary",
}
PATHS = {
    "kept": "the vocabulary kept at 1024",
    "proportional": "a vocabulary in proportion to the width, m = 8d",
}


def _claim(network: str, path: str) -> Claim:
    return Claim(
        name=f"proxies-{network}-{path}",
        statement=f"{NETWORKS[network]}, with all layers trained by Adam under muP and "
        f"{PATHS[path]}, the best base learning rate does not drift with the width from d = 32 "
        "to 128.",
        quantity="exponent of d in the best base LR",
        prediction="0",
        study="proxies",
        evidence=partial(drift, network=network, path=path),
        tolerance=0.25,
        citation="docs/theory/learning_rates.md#matrices-together",
        rival=0.5,
    )


CLAIMS = tuple(_claim(network, path) for network in NETWORKS for path in PATHS)
