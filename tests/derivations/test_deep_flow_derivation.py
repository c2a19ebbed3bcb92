"""The flow of linear hidden layers, derived, against numpy: gradients, kernel, closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import solve_ivp

import derivations
from derivations import flow_symbols as x
from derivations import symbols as s
from dynsim import evaluate

M, N, D = 5, 3, 4
RATES = 0.7, 0.3, 0.5, 0.2  # embedding, two hidden layers, readout


@pytest.fixture
def parts(random):
    shapes = (M, D), (D, D), (D, D), (N, D)
    return [random.standard_normal(shape) for shape in shapes]


def levels(parts, skip):
    """H_l and W_l of every level."""
    e, *matrices, w = parts
    features, readouts = [e], [w]
    for matrix in matrices:
        features.append(skip * features[-1] + features[-1] @ matrix.T)
    for matrix in matrices[::-1]:
        readouts.insert(0, skip * readouts[0] + readouts[0] @ matrix)
    return features, readouts


@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_gradients_and_the_kernel_are_those_of_the_output(random, parts, skip):
    """One step of descent against the derived gradients, and dF/dt against the layers' sum."""
    p, y = random.dirichlet(np.ones(M)), random.standard_normal((M, N))
    features, readouts = levels(parts, skip)
    residual = p[:, None] * (features[-1] @ readouts[-1].T - y)
    carried = residual.T @ features[0]
    gradients = [residual @ readouts[0]]
    for level in (1, 2):
        values = {x.level_readout: readouts[level], x.carried_residual: carried}
        gradients.append(evaluate(derivations.hidden_gradient(), values))
        passed = {x.carried_residual: carried, x.hidden_matrix: parts[level], x.skip: skip}
        carried = evaluate(derivations.level_up(), passed)
    gradients.append(carried)
    down = {x.level_readout: readouts[2], x.hidden_matrix: parts[2], x.skip: skip}
    np.testing.assert_allclose(evaluate(derivations.level_down(), down), readouts[1])

    def loss(moved):
        last, _ = levels(moved, skip)
        return 0.5 * p @ np.sum((last[-1] @ moved[-1].T - y) ** 2, axis=1)

    for place, gradient in enumerate(gradients):
        direction = random.standard_normal(parts[place].shape)
        ends = [
            loss([*parts[:place], parts[place] + step * direction, *parts[place + 1 :]])
            for step in (1e-6, -1e-6)
        ]
        slope = (ends[0] - ends[1]) / 2e-6
        assert slope == pytest.approx(np.sum(gradient * direction), rel=1e-6)
    values = {x.weighted_residual: residual}
    values |= {s.embedding_lr: RATES[0], s.projection_lr: RATES[3]}
    for level in range(3):
        values[derivations.feature_gram(level)] = features[level] @ features[level].T
        values[derivations.readout_gram(level)] = readouts[level] @ readouts[level].T
    values |= {derivations.layer_rate(level): RATES[level] for level in (1, 2)}
    moves = [-1e-6 * rate * one for rate, one in zip(RATES, gradients, strict=True)]
    ends = []
    for sign in (1, -1):
        moved = [a + sign * b for a, b in zip(parts, moves, strict=True)]
        ends.append(levels(moved, skip)[0][-1] @ moved[-1].T)
    expected = (ends[0] - ends[1]) / 2e-6
    found = evaluate(derivations.deep_output_flow(2), values)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_without_hidden_layers_the_flow_is_that_of_the_linear_model():
    """The derivation asserts it; what is left are the two Gram matrices of the linear model."""
    found = derivations.deep_output_flow(0).expression
    assert found.has(x.embedding_gram, x.projection_gram)
    assert not found.has(derivations.feature_gram(0))


@pytest.mark.parametrize("layers", [3, 6])
def test_time_of_aligned_layers_is_the_inverse_of_their_velocity(layers):
    values = {x.layers: layers, x.target: 2.0, x.mean_rate: 0.3, s.frequency: 0.5}
    velocity = derivations.aligned_layers().expression.subs(values)
    (f,) = velocity.free_symbols
    of = sp.lambdify(f, velocity)
    path = solve_ivp(lambda _, at: [of(at[0])], (0, 3), [0.2], rtol=1e-10, atol=1e-12)
    time = derivations.aligned_layers_time().expression.subs({**values, x.initial_mode: 0.2})
    reached = path.y[0, -1]
    assert 0.25 < reached < 1.9
    assert float(sp.N(time.subs(f, reached))) == pytest.approx(3, rel=1e-6)


def test_a_new_direction_has_the_length_of_random_matrices(random):
    """Exact at d: the part that the transpose has not met, with k = 3 directions met."""
    d, k, std, count = 20, 3, 0.5, 4000
    matrices = std * random.standard_normal((count, d, d))
    squares = np.sum(matrices[:, k:, 0] ** 2, axis=1)  # (1 - P) A q, q a unit vector
    exact = derivations.new_direction().steps[0].right
    values = {x.hidden_std: std, s.width: d, x.directions: k, x.new_length: 1}
    error = squares.std() / np.sqrt(count)
    assert abs(squares.mean() - float(exact.subs(values))) < 4 * error
    assert abs(squares.mean() - float(exact.subs({**values, x.directions: 0}))) > 4 * error


@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_initial_kernel_is_the_mean_over_networks(random, skip):
    """The diagonal of the kernel of two hidden layers, over many small networks: exact in mean."""
    d, count, std, std_w = 6, 4000, 0.3, 0.4
    found = []
    for _ in range(count):
        e, w = random.standard_normal((1, d)), std_w * random.standard_normal((1, d))
        matrices = list(std * random.standard_normal((2, d, d)))
        features, readouts = levels([e, *matrices, w], skip)
        squares = [float(np.sum(one**2)) for one in (*features, *readouts)]
        k, g = squares[:3], squares[3:]
        found.append(
            RATES[3] * k[2] + RATES[0] * g[0] + RATES[1] * k[0] * g[1] + RATES[2] * k[1] * g[2]
        )
    values = {s.width: d, x.depth: 2, x.skip: skip, x.hidden_std: std, s.embedding_std: 1.0}
    values |= {s.projection_std: std_w, s.embedding_lr: RATES[0], s.projection_lr: RATES[3]}
    values[x.hidden_lr_sum] = RATES[1] + RATES[2]
    expected = float(evaluate(derivations.initial_kernel_rate(), values))
    assert abs(np.mean(found) - expected) < 4 * np.std(found) / np.sqrt(count)


def test_the_grams_of_hidden_layers_are_not_closed():
    """K_1's velocity holds the readout through B B^T, which no Gram matrix of the levels is."""
    expression = derivations.open_gram().expression
    b, w = x.layer_map, x.projection
    assert any(
        part.args[-4:] == (b, b.T, b, x.embedding.T) and w in part.args
        for part in expression.atoms(sp.MatMul)
    )
