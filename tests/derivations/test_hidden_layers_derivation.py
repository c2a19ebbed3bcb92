"""Linear hidden layers in the mean field: gradients, depth 0, first step, Muon, by other routes."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from helpers import assert_mean, assert_rejected, assert_same_expression

import derivations
from derivations import _mean_field_hidden as hidden
from derivations import symbols as s
from derivations._mean_field_equations import projection

WIDTH, TOKENS, DEPTH, SEEDS = 64, 320, 3, 300


def levels(embedding, matrices, skip):
    """h_l of every token, shape (m, d) each."""
    found = [embedding]
    for matrix in matrices:
        found.append(skip * found[-1] + found[-1] @ matrix.T)
    return found


def readouts(readout, matrices, skip):
    """B^l, shape (d, n) each, from level 0 up."""
    found = [readout.T]
    for matrix in matrices[::-1]:
        found.append(skip * found[-1] + matrix.T @ found[-1])
    return found[::-1]


@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_gradients_of_hidden_matrices_are_the_readout_times_the_residuals(random, skip):
    """B^l (M^(l-1))^T against differences of the loss, two outputs and two layers."""
    m, d, n, small = 6, 4, 2, 1e-6
    embedding, readout = random.standard_normal((m, d)), random.standard_normal((n, d))
    matrices = [random.standard_normal((d, d)) for _ in range(2)]
    target, share = random.standard_normal((m, n)), random.random(m)

    def loss(matrices):
        outputs = levels(embedding, matrices, skip)[-1] @ readout.T
        return 0.5 * share @ np.sum((outputs - target) ** 2, axis=1)

    h, pulled = levels(embedding, matrices, skip), readouts(readout, matrices, skip)
    weighted = share[:, None] * (h[-1] @ readout.T - target)
    for layer in range(2):
        carried = h[layer].T @ weighted
        read = {"B": pulled[layer + 1], "M": carried}
        gradient = np.zeros((d, d))
        for output in range(n):  # the printed product, one output at a time
            row = sp.lambdify(
                [hidden.readout_above[hidden.upper, hidden.step], _below()],
                derivations.hidden_matrix_gradient().expression,
            )
            gradient += row(read["B"][:, output][:, None], read["M"][:, output][None, :])
        moved = np.zeros((d, d))
        for place in np.ndindex(d, d):
            changed = [matrix.copy() for matrix in matrices]
            changed[layer][place] += small
            moved[place] = (loss(changed) - loss(matrices)) / small
        np.testing.assert_allclose(gradient, moved, atol=1e-4)


def _below():
    return hidden.residuals_below[hidden.lower, hidden.step]


def test_a_layer_that_does_nothing_leaves_the_equations_of_the_linear_model():
    """No matrix and no learning rate: readout and residuals pass, and B_0 is the projection."""
    nothing = {sp.IndexedBase(name): sp.S.Zero for name in ("xi", "omega", "R_B", "R_M", "eta_A")}
    for passage, passed in (("down", hidden.readout_above), ("up", hidden.residuals_below)):
        derived = derivations.hidden_passage(passage).expression
        left = derived.replace(
            lambda part: isinstance(part, sp.Indexed) and part.base in nothing,
            lambda _: sp.S.Zero,
        ).doit()
        end = hidden.lower if passage == "down" else hidden.upper
        assert_same_expression(left, hidden.skip * passed[end, hidden.step])
        assert sp.simplify(left - derived) != 0
    for deep, plain in (
        (derivations.deep_token_output, derivations.token_output()),
        (derivations.deep_neuron_gradient, derivations.neuron_gradient()),
    ):
        assert deep(0).expression == plain.expression
        assert deep(2).expression != plain.expression
        below = deep(2).expression.replace(
            lambda part: isinstance(part, sp.Indexed) and part.base.name == "B_0",
            lambda part: projection[part.indices],
        )
        assert below == plain.expression


@pytest.fixture(scope="module")
def first_updates():
    """Mean squares of (Delta A_l h_{l-1,i}) per unit learning rate, shape (seeds, layers)."""
    random, found = np.random.default_rng(3), []
    for _ in range(SEEDS):
        embedding = random.standard_normal((TOKENS, WIDTH))
        matrices = [random.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5 for _ in range(DEPTH)]
        target = random.choice([-1.0, 1.0], (TOKENS, 1)) / TOKENS
        pulled = readouts(random.standard_normal((1, WIDTH)), matrices, 0.0)
        h = levels(embedding, matrices, 0.0)
        signs = [np.sign(pulled[k + 1] @ (h[k].T @ target).T) for k in range(DEPTH)]
        found.append([np.mean((h[k] @ signs[k].T) ** 2) for k in range(DEPTH)])
    return np.array(found)


@pytest.mark.parametrize("layer", range(1, DEPTH + 1))
def test_first_update_of_every_hidden_layer(first_updates, layer):
    """Chance alignment of (l - 1)/d, which the first layer's formula lacks."""
    formula = derivations.hidden_first_mean_field_update().expression.subs(
        {s.width: WIDTH, s.embedding_std: 1, s.projection_lr: 1, s.alignment_square: 1 / TOKENS}
    )
    predicted = [float(formula.subs(hidden.hidden_level, k)) for k in (1, layer)]
    samples = first_updates[:, layer - 1]
    assert_mean(samples, predicted[1], bias=0.04)
    if layer > 1:
        assert_rejected(samples, predicted[0], bias=0.04, resolution=0.05)


def test_first_update_of_the_first_layer_is_the_engines():
    exact = derivations.update_second_moment("hidden", "sign").expression
    exact = exact.subs(s.alignment, sp.sqrt(s.alignment_square))
    limit = derivations.hidden_first_mean_field_update().expression.subs(hidden.hidden_level, 1)
    assert sp.limit(limit / exact, s.width, sp.oo) == 1
    scale = s.projection_lr**2 * s.embedding_std**2 * s.width
    assert_same_expression((limit - exact) / scale, 2 * s.alignment_square / sp.pi)


def test_muon_acts_on_coefficients(random):
    """Five Newton-Schulz steps of a matrix of rank 4 against those of its 4 x 4 coefficients."""
    rows, columns = (np.linalg.qr(random.standard_normal((12, 4)))[0] for _ in range(2))
    small = random.standard_normal((4, 4))

    def orthogonalised(x):
        x = x / np.linalg.norm(x)
        for _ in range(5):
            square = x @ x.T
            x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
        return x

    whole = orthogonalised(rows @ small @ columns.T)
    np.testing.assert_allclose(whole, rows @ orthogonalised(small) @ columns.T, atol=1e-12)
    derived = derivations.low_rank_orthogonalisation()
    values = {"Q": rows, "C": small, "P": columns}
    outer, inner = (
        sp.lambdify(sorted(part.free_symbols, key=str), part, "numpy")
        for part in (derived.steps[1].right, derived.expression)
    )
    names = sorted(values)
    assert np.allclose(
        outer(*(values[n] for n in names)), inner(*(values[n] for n in names)), atol=1e-12
    )
