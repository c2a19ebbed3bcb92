"""First steps of matrices that read features, and of residuals of unequal size, in networks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import assert_mean, assert_refused, assert_rejected

from dynsim import first_step, token_law
from dynsim.theory._features import feature_statistics
from dynsim.theory._residuals import residual_alignment

WIDTH, TOKENS, OUTPUTS = 64, 256, 16
ACTIVATIONS = {
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "identity": (lambda x: x, np.ones_like),
}


def first_updates(random, activation, *, depth=2):
    """Mean squares of the first sign update of every hidden matrix and of the readout, over that of
    what the matrix reads: a plain network with zero output, written-out backpropagation."""
    phi, slope = ACTIVATIONS[activation]
    fields = [random.standard_normal((TOKENS, WIDTH))]
    features, matrices = [fields[0]], []
    for _ in range(depth):
        matrices.append(random.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5)
        field = features[-1] @ matrices[-1].T
        fields.append(field / np.sqrt(np.mean(field**2)))
        features.append(phi(fields[-1]))
    residuals = random.standard_normal((TOKENS, OUTPUTS))
    back = residuals @ random.standard_normal((OUTPUTS, WIDTH)) * slope(fields[-1])
    pushes = [residuals]
    for level in range(depth, 0, -1):
        pushes.insert(0, back)
        back = (back @ matrices[level - 1]) * slope(fields[level - 1])
    changes = (z @ np.sign(push.T @ z).T for z, push in zip(features, pushes, strict=True))
    return [np.mean(c**2) / np.mean(z**2) for c, z in zip(changes, features, strict=True)]


@pytest.mark.parametrize("activation", ["relu", "tanh", "identity"])
def test_first_steps_of_finite_networks(activation, random):
    """Both hidden matrices and the readout; ReLU's second is no longer that of the first."""
    samples = np.array([first_updates(random, activation) for _ in range(60)])
    law, how = token_law("uniform", TOKENS), {"activation": activation, "residuals": "gaussian"}
    squares = [
        float(step.rms) ** 2
        for step in (
            first_step("hidden", "sign", WIDTH, law, **how),
            first_step("hidden", "sign", WIDTH, law, matrix=2, **how),
            first_step("readout", "sign", WIDTH, law, depth=2, **how),
        )
    ]
    for place, square in enumerate(squares):
        assert_mean(samples[:, place], square, bias=0.05, resolution=0.05)
        if place:
            assert_rejected(samples[:, place], squares[0], bias=0.05, resolution=0.2)


def test_the_second_hidden_matrix_of_a_relu_network():
    """133 where the first has 23.5, at width 512 and 4096 tokens; coherent at any vocabulary."""
    law = token_law("uniform", 4096)
    first = first_step("hidden", "sign", 512, law)
    second = first_step("hidden", "sign", 512, law, activation="relu", matrix=2)
    assert float(first.rms) == pytest.approx(23.51, abs=0.01)
    assert float(second.rms) == pytest.approx(133.1, abs=0.1)
    assert float(second.local_exponent) > 0.98
    assert "hidden matrix 2, which reads relu features with a mean" in second.holds_for
    assert "hidden matrix 1, which reads the embedding" in first.holds_for
    huge = first_step(
        "hidden", "sign", 512, token_law("uniform", 10**6), activation="relu", matrix=2
    )
    assert float(huge.rms) == pytest.approx(float(second.rms), rel=1e-2)
    centred = first_step("hidden", "sign", 512, law, activation="relu", matrix=3, mean_residual=0.0)
    assert float(centred.rms) < float(second.rms)


def test_deeper_features_overlap_more():
    """ReLU: J(c) = (sqrt(1 - c^2) + (pi - acos c) c)/pi, layer by layer (Cho and Saul 2009)."""
    overlap = 0.0
    for level in (1, 2, 3):
        overlap = (np.sqrt(1 - overlap**2) + (np.pi - np.arccos(overlap)) * overlap) / np.pi
        found = feature_statistics("relu", level)
        assert found.overlap == pytest.approx(overlap, rel=1e-5)
    assert feature_statistics("identity", 3).chance == pytest.approx(3)


@pytest.mark.parametrize("above", ["identity", "relu", "tanh"])
@pytest.mark.parametrize("residuals", ["equal", "gaussian"])
def test_alignment_of_unequal_residuals(above, residuals, random):
    law = token_law("zipf:1", 64)
    p, shape = law.frequencies, (40_000, 64)
    sizes = np.ones(shape) if residuals == "equal" else random.standard_normal(shape)
    sizes = sizes * ACTIVATIONS[above][1](random.standard_normal(shape))
    power = np.square(p * sizes)
    shares = power / power.sum(axis=1, keepdims=True).clip(1e-300)
    found = residual_alignment(law, residuals, above)
    assert_mean(shares @ p, found.square, bias=1e-4)
    if (residuals, above) == ("equal", "identity"):
        assert found.square == pytest.approx(law.mean_alignment_square, rel=1e-4)
        assert found.signal == pytest.approx(law.power_sum(2) ** 0.5, rel=1e-4)
    else:
        assert_rejected(shares @ p, law.mean_alignment_square)
    of_rank = residual_alignment(law, residuals, above, rank=3)
    assert_mean(shares[:, 2], of_rank.square, bias=1e-4)
    many = residual_alignment(token_law("uniform", 1000), residuals, above)
    assert many.square == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("activation", {"activation": "sine"}),
        ("activation", {"layer": "projection", "activation": "relu"}),
        ("matrix", {"matrix": 0}),
        ("matrix", {"layer": "readout", "matrix": 2}),
        ("depth", {"depth": 2}),
        ("residuals", {"residuals": "one-hot"}),
        ("residuals", {"residuals": "gaussian", "batch_size": 4}),
        ("mean_residual", {"mean_residual": 0.0}),
        ("mean_residual", {"activation": "tanh", "matrix": 2, "mean_residual": 0.0}),
        ("mean_residual", {"activation": "relu", "matrix": 2, "mean_residual": 1.5}),
    ],
)
def test_features_that_a_layer_does_not_have(field, change):
    given: dict[str, Any] = {
        "layer": "hidden",
        "optimizer": "sign",
        "width": 8,
        "law": token_law("uniform", 8),
    }
    assert_refused(field, partial(first_step, **(given | change)))
