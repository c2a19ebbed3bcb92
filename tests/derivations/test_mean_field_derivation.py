"""The mean-field equations: against the exact first step, finite networks and `dynsim.predict`.

The derived equations are evaluated here as they stand: `Evaluator` reads the sympy expressions of
`derivations` with arrays in place of their indexed quantities, and estimates the responses by
regression on the Gaussian fields (Stein's lemma). Nothing of the solver of `dynsim` is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import sympy as sp
from helpers import assert_mean, assert_rejected, assert_same_expression
from numpy_networks import Run, linear_first_step, train_linear
from scipy.integrate import quad
from scipy.stats import norm

import derivations
from derivations import _mean_field_equations as equations
from derivations import symbols as s
from derivations._mean_field_first_step import mean_absolute_residual
from derivations._mean_field_limits import width_over_vocab
from dynsim import Setup, predict

KAPPA, D = s.self_term_ratio, s.width
PROJECTION_STEP = derivations.mean_field_first_update("projection", "sign")


def step_named(derived: derivations.Derivation, left: str) -> sp.Expr:
    (right,) = {step.right for step in derived.steps if step.left == left}
    return right


# The first step, symbolically


def test_self_term_is_the_response_of_step_zero():
    assert_same_expression(
        derivations.first_residual_response().expression, derivations.self_term_ratio().expression
    )


def test_first_projection_update_is_the_engines_with_self_term():
    exact = derivations.self_term_second_moment().expression
    assert_same_expression(PROJECTION_STEP.expression, exact)
    assert sp.simplify(PROJECTION_STEP.expression.subs(KAPPA, 0) - exact) != 0


@pytest.mark.parametrize(
    ("optimizer", "beyond"), [("sign", -2 / sp.pi), ("adam", -2 / sp.pi), ("sgd", 1)]
)
def test_without_self_term_d_stands_for_d_minus_one(optimizer, beyond):
    """Exact minus mean field is one diagonal term: d (d - 1) against d^2, d (d + 1) for SGD."""
    exact = derivations.update_second_moment("projection", optimizer).expression.subs(
        s.alignment, sp.sqrt(s.alignment_square)
    )
    limit = derivations.mean_field_first_update("projection", optimizer).expression.subs(KAPPA, 0)
    prefactor = exact.subs(s.alignment_square, 0)
    assert_same_expression((exact - limit) / prefactor, beyond * s.alignment_square)
    assert sp.limit(exact / limit, D, sp.oo) == 1


@pytest.mark.parametrize(
    ("optimizer", "beyond"), [("sign", sp.pi / 2 - 1), ("adam", sp.pi / 2 - 1), ("sgd", 2)]
)
def test_first_embedding_update_is_the_engines_to_one_over_d(optimizer, beyond):
    exact = derivations.update_second_moment("embedding", optimizer).expression
    exact = exact.subs(s.residual, s.residual_norm)  # one output
    limit = derivations.mean_field_first_update("embedding", optimizer).expression
    ratio = sp.simplify(exact / limit)
    assert sp.limit(ratio, D, sp.oo) == 1
    assert sp.limit(D * (ratio - 1), D, sp.oo) == beyond


def test_cross_term_is_the_engines_but_for_what_does_not_average():
    """(d a)^2 against d [1 + (d - 1) a^2]: the fluctuation d (1 - a^2) of a sum over neurons."""
    push = step_named(derivations.mean_field_first_loss(), "T")
    cross = sp.expand(push).coeff(s.embedding_lr * s.projection_lr)
    exact = derivations.cross_term_second_moment("sign").expression
    exact = exact.subs({s.embedding_lr: 1, s.projection_lr: 1})
    agreement = derivations.arcsine_law().expression.subs(
        s.alignment, KAPPA / sp.sqrt(1 + KAPPA**2)
    )
    assert cross is not None
    assert cross != 0
    assert_same_expression(exact - cross**2, D * (1 - agreement**2))


def test_first_loss_has_the_engines_optimal_learning_rates():
    loss = derivations.mean_field_first_loss().expression
    eta_w, eta_e = s.projection_lr, s.embedding_lr
    (best,) = sp.solve(sp.diff(loss.subs(eta_e, 0), eta_w), eta_w)
    assert_same_expression(best, derivations.optimal_projection_lr_with_self_term().expression)
    alone = loss.subs(eta_w, 0).subs(s.self_term_ratio, _kappa_of_unit_slope())
    (best,) = sp.solve(sp.diff(alone, eta_e), eta_e)
    exact = derivations.optimal_learning_rate("embedding").expression
    ratio = sp.simplify(best / exact / mean_absolute_residual)
    assert sp.limit(ratio, D, sp.oo) == 1
    assert sp.limit(D * (ratio - 1), D, sp.oo) == sp.pi / 2 - 1


def _kappa_of_unit_slope() -> sp.Expr:
    return derivations.self_term_ratio().expression.subs(s.residual_slope, 1)


def test_gaussian_targets_have_these_averages():
    p2, field, output = 0.1, 0.3, 0.7  # E[r^2] = field / p2 = 3, of which f has the part 0.7
    std = np.sqrt(field / p2)
    numbers = {s.frequency_square_sum: p2, s.field_square_sum: field}
    size, slope = (float(value.subs(numbers)) for value in derivations.GAUSSIAN_TARGETS.values())
    assert size == pytest.approx(2 * quad(lambda r: r * norm.pdf(r, scale=std), 0, 40)[0])

    def answer(f):  # E[f sign(f - y)] given f, y normal of variance 3 - 0.7
        return f * norm.pdf(f, scale=output**0.5) * (2 * norm.cdf(f, scale=2.3**0.5) - 1)

    assert slope == pytest.approx(quad(answer, -10, 10)[0] / output)


def test_conditioning_gives_the_responses():
    assert derivations.conditioning_response().expression == sp.Tuple(
        *sp.symbols("R_20 R_21", real=True)
    )


def test_conditioning_on_past_fields_in_a_sample(random):
    """The matrix form behind it: E[Z | Z W, Z^T B] w from 4000 matrices that share both fields."""
    m, d, k = 5, 6, 2
    past_w, past_b, now = (random.standard_normal(shape) for shape in ((d, k), (m, k), d))
    seen = random.standard_normal((m, d))
    row, column = seen @ past_w, seen.T @ past_b
    conditions = np.vstack([np.kron(np.eye(m), past_w.T), np.kron(past_b.T, np.eye(d))])
    values = np.concatenate([row.ravel(), column.T.ravel()])
    mean = (np.linalg.pinv(conditions) @ values).reshape(m, d)  # of a standard normal Z
    alpha = np.linalg.lstsq(past_w, now, rcond=None)[0]
    rest = now - past_w @ alpha
    split = row @ alpha + past_b @ np.linalg.solve(past_b.T @ past_b, column.T @ rest)
    np.testing.assert_allclose(mean @ now, split, atol=1e-12)


# The two limits


@pytest.mark.parametrize("init", derivations.INITIALISATIONS)
def test_both_limits_are_those_of_the_exact_moments(init):
    exact = derivations.update_second_moment("projection", "sign").expression
    exact = exact.subs({s.alignment: sp.sqrt(1 / s.vocab_size), s.projection_lr: 1})
    exact = exact.subs(derivations.initial_std(init))
    fixed = derivations.fixed_vocabulary_limit(init).expression
    assert_same_expression(fixed, sp.limit(exact / D**2, D, sp.oo))
    gamma = width_over_vocab
    along = derivations.proportional_limit(init).expression
    plain = sp.limit(exact.subs(s.vocab_size, D / gamma) / D, D, sp.oo)
    if init == "mup":  # the self term is gone
        assert_same_expression(along, plain)
    else:
        assert sp.limit(along / plain, gamma, sp.oo) == 1
        assert sp.limit(along, gamma, 0) == 1
        assert sp.simplify(along - plain) != 0
    assert sp.limit(along / gamma, gamma, sp.oo) == fixed * s.vocab_size  # they meet


def test_at_fixed_vocabulary_steins_lemma_is_the_kernel():
    """d E[z_i w^1] by the kernel of z_i and h is R_w^10 p_i r_i without self term."""
    by_kernel = step_named(derivations.fixed_vocabulary_limit("mup"), "d E[z_i w(1)]")
    response = step_named(PROJECTION_STEP, "R_w(1, 0)").subs(KAPPA, 0)
    assert_same_expression(by_kernel, response * s.frequency * s.residual)


# The equations, evaluated


@dataclass
class Evaluator:
    """Reads an expression with token arrays (M, 1), neuron arrays (1, N) and numbers."""

    arrays: dict[str, list]
    numbers: dict[str, float]
    tokens_each: float = 1.0  # tokens that one token particle stands for

    def at(self, expression: sp.Expr, time: int, past: int | None = None):
        times = {equations.step: sp.Integer(time)}
        if past is not None:
            times[equations.past] = sp.Integer(past)
        return self.read(expression.xreplace(times))

    def read(self, node: sp.Basic):
        match node:
            case sp.Number():
                return float(node)
            case sp.Symbol():
                return self.numbers[node.name]
            case sp.Add() | sp.Mul() | sp.Pow():
                values = [self.read(part) for part in node.args]
                return {sp.Add: sum_all, sp.Mul: product, sp.Pow: power}[node.func](values)
            case sp.Indexed():
                times = [int(index) for index in node.indices if index.is_number]
                series = self.arrays[node.base.name]
                if not times:
                    return series
                return series[tuple(times)] if isinstance(series, dict) else series[times[-1]]
            case sp.Sum() | sp.Product():
                return self.reduce(node)
            case sp.Derivative():
                raise AssertionError("a response outside a mean")
        name = type(node).__name__
        if name == "Phi":
            return np.sign(self.read(node.args[0]))
        assert name == "E", node
        (inside,) = node.args
        if isinstance(inside, sp.Derivative):
            return self.response(*inside.args)
        return np.mean(self.read(inside), axis=1, keepdims=True)

    def reduce(self, node):
        (index, first, last) = node.limits[0]
        if index == equations.token:
            function = node.function
            if function.has(sp.Derivative):  # the mean over tokens stands for every one of them
                return self.numbers["m"] * self.response(*function.args[0].args)
            return self.tokens_each * np.sum(self.read(function), axis=0, keepdims=True)
        if index == equations.neuron:
            return np.sum(self.read(node.function), axis=1, keepdims=True)
        terms = [
            self.read(node.function.xreplace({index: sp.Integer(place)}))
            for place in range(int(first), int(last) + 1)
        ]
        return sum_all(terms) if isinstance(node, sp.Sum) else product(terms)

    def response(self, answer: sp.Indexed, *by) -> float:
        """Coefficient of one Gaussian field in a regression on its whole series."""
        noise = by[0][0]
        fields = np.array([series.ravel() for series in self.arrays[noise.base.name]])
        fitted = np.linalg.lstsq(fields.T, self.read(answer).ravel(), rcond=None)[0]
        return float(fitted[int(noise.indices[-1])])


def sum_all(values):
    return sum(values, start=0.0)


def product(values):
    result = 1.0
    for value in values:
        result = result * value
    return result


def power(values):
    return values[0] ** values[1]


@dataclass(frozen=True)
class Case:
    """Sign descent on uniform tokens with targets +1 or -1 and a projection that starts large."""

    width: int = 256
    vocab_size: int = 1024
    embedding_lr: float = 0.03
    projection_lr: float = 0.02
    steps: int = 6
    weight_decay: float = 0.0
    without: frozenset[str] = field(default_factory=frozenset)


CASE = Case()


def mean_field_losses(case: Case, random: np.random.Generator, particles: int) -> np.ndarray:
    """Losses from the derived equations, marched forward in time with Monte-Carlo particles."""
    token_equation, neuron_equation = (
        _without(derived.expression, case.without)
        for derived in (derivations.token_output(), derivations.neuron_gradient())
    )
    weight_equation = derivations.projection_entry().expression
    covariances = {
        side: derivations.field_covariance(side).expression for side in ("token", "neuron")
    }
    responses = {side: derivations.field_response(side).expression for side in ("token", "neuron")}
    targets = random.choice([-1.0, 1.0], (particles, 1))
    known = {"token": [targets.ravel()], "neuron": []}
    start = _new_normals(random, known["neuron"], particles)[None, :] / np.sqrt(case.width)
    rates = {
        "eta_E": [case.embedding_lr] * case.steps,
        "eta_W": [case.projection_lr] * case.steps,
    }
    world = Evaluator(
        {"chi": [], "zeta": [], "b": [], "w": [start], "h": [], "R_w": {}, "R_r": {}, **rates},
        {
            "d": case.width,
            "m": case.vocab_size,
            "sigma_E": 1.0,
            "lambda": case.weight_decay,
        },
        case.vocab_size / particles,
    )
    innovations = {"token": [], "neuron": []}
    matrices = {side: np.zeros((case.steps, case.steps)) for side in innovations}

    def fresh_field(side: str, time: int):
        """A Gaussian of the derived covariance with its own past."""
        for past in range(time + 1):
            value = float(np.squeeze(world.at(covariances[side], time, past)))
            matrices[side][time, past] = matrices[side][past, time] = value
        shape = (particles, 1) if side == "token" else (1, particles)
        innovations[side].append(_new_normals(random, known[side], particles).reshape(shape))
        weights = np.linalg.cholesky(matrices[side][: time + 1, : time + 1])[time]
        return sum_all([w * g for w, g in zip(weights, innovations[side], strict=True)])

    losses, arrays = [], world.arrays
    for time in range(case.steps):
        for past in range(time):
            arrays["R_w"][time, past] = world.at(responses["token"], time, past)
        arrays["chi"].append(fresh_field("token", time))
        error = world.at(token_equation, time) - targets
        losses.append(0.5 * float(np.mean(error**2)))
        arrays["b"].append(error / case.vocab_size)
        for past in range(time + 1):
            arrays["R_r"][time, past] = world.at(responses["neuron"], time, past)
        arrays["zeta"].append(fresh_field("neuron", time))
        arrays["h"].append(world.at(neuron_equation, time))
        arrays["w"].append(world.at(weight_equation, time + 1))
    return np.array(losses)


def _new_normals(random: np.random.Generator, known: list, count: int) -> np.ndarray:
    """Normals with the sample moments of independence: mean 0, variance 1, uncorrelated to `known`.

    Appended to `known`.
    """
    basis = np.linalg.qr(np.transpose([np.ones(count), *known]))[0]
    normals = random.standard_normal(count)
    normals -= basis @ (basis.T @ normals)
    known.append(normals / np.sqrt(np.mean(normals**2)))
    return known[-1]


def _without(expression: sp.Expr, dropped: frozenset[str]):
    """An equation with a response or the S-term taken out."""
    taken = {
        term: sp.S.Zero
        for term in expression.atoms(sp.Sum)
        if any(term.has(sp.IndexedBase(name)) for name in dropped)
        or ("S-term" in dropped and term.limits[0][0] == equations.token)
    }
    return expression.xreplace(taken) if taken else expression


def finite_losses(case: Case, seeds: int) -> np.ndarray:
    runs = [network(case, np.random.default_rng([11, seed])) for seed in range(seeds)]
    return np.array([run.loss for run in runs])


def network(case: Case, random: np.random.Generator) -> Run:
    return train_linear(
        random.standard_normal((case.vocab_size, case.width)),
        random.standard_normal((1, case.width)) / np.sqrt(case.width),
        random.choice([-1.0, 1.0], (case.vocab_size, 1)),
        np.full(case.vocab_size, 1 / case.vocab_size),
        loss="mse",
        optimizer="sign",
        embedding_lr=case.embedding_lr,
        projection_lr=case.projection_lr,
        steps=case.steps,
    )


def evaluated(case: Case, particles: int = 1500, replicas: int = 4) -> np.ndarray:
    randoms = [np.random.default_rng([5, replica]) for replica in range(replicas)]
    return np.mean([mean_field_losses(case, random, particles) for random in randoms], axis=0)


def relative(losses: np.ndarray) -> np.ndarray:
    """Losses over the initial one, whose fluctuation between networks is that of the outputs."""
    return losses / losses[..., :1]


@pytest.fixture(scope="module")
def finite() -> np.ndarray:
    curve = relative(finite_losses(CASE, 60)).mean(axis=0)
    assert curve[-1] < 0.1, "little was learned"
    return curve


@pytest.fixture(scope="module")
def derived() -> np.ndarray:
    return relative(evaluated(CASE))


@pytest.mark.slow
def test_equations_give_what_finite_networks_do(derived, finite):
    np.testing.assert_allclose(derived, finite, rtol=0, atol=0.01)


@pytest.mark.slow
def test_equations_give_what_predict_solves(derived, quick_compilation):
    setup = Setup(
        optimizer="sign",
        width=CASE.width,
        vocab_size=CASE.vocab_size,
        targets="sign",
        init="sp",
        embedding_lr=CASE.embedding_lr,
        projection_lr=CASE.projection_lr,
        steps=CASE.steps,
    )
    solved = predict(setup, particles=512, replicas=8, error_estimate=False).loss[0]
    np.testing.assert_allclose(derived, relative(solved), rtol=0, atol=0.01)


@pytest.mark.parametrize("dropped", ["R_w", "R_r", "S-term"])
def test_every_term_is_needed(finite, dropped):
    broken = evaluated(Case(without=frozenset({dropped})), 800, 2)
    assert np.max(np.abs(relative(broken) - finite)) > 0.04


# Exact parts of the equations, at any width


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_unrolled_weights_and_fields_are_exact(random, decay):
    """A network of 7 tokens and width 9 with weight decay and a schedule, step by step."""
    m, d, steps = 7, 9, 4
    rates_e, rates_w = [0.1, 0.3, 0.05, 0.2], [0.2, 0.1, 0.4, 0.3]
    z, w = random.standard_normal((m, d)), random.standard_normal((1, d))
    y, p = random.standard_normal((m, 1)), random.dirichlet(np.ones(m))[:, None]
    e, arrays = z, {name: [] for name in "uvbwh"}
    embeddings = []
    for time in range(steps):
        b = p * (e @ w.T - y)
        h = b.T @ e
        fields = {"u": z @ w.T, "v": b.T @ z, "b": b, "w": w, "h": h}
        for name, value in fields.items():
            arrays[name].append(value)
        embeddings.append(e)
        e = (1 - rates_e[time] * decay) * e - rates_e[time] * np.sign(b @ w)
        w = (1 - rates_w[time] * decay) * w - rates_w[time] * np.sign(h)
    arrays |= {"eta_E": rates_e, "eta_W": rates_w, "z": z}
    world = Evaluator(arrays, {"lambda": decay})
    for time in range(steps):
        found = world.at(derivations.embedding_entry().expression, time)
        np.testing.assert_allclose(found, embeddings[time], atol=1e-12)
        found = world.at(derivations.projection_entry().expression, time)
        np.testing.assert_allclose(found, arrays["w"][time], atol=1e-12)
        for derived, value in (
            (derivations.token_output(), embeddings[time] @ arrays["w"][time].T),
            (derivations.neuron_gradient(), arrays["h"][time]),
        ):
            (exact,) = [part.right for part in derived.steps if "exact at any" in part.reason]
            np.testing.assert_allclose(world.at(exact, time), value, atol=1e-12)
    if decay:
        world.numbers["lambda"] = 0.0
        found = world.at(derivations.embedding_entry().expression, 3)
        assert np.max(np.abs(found - embeddings[3])) > 0.01


# The first step, numerically

FIRST = {"width": 256, "vocab_size": 256, "embedding_lr": 0.03, "projection_lr": 0.05}


def first_values(**rates: float) -> dict[sp.Symbol, float]:
    """SP, uniform tokens, Gaussian targets of unit variance: S = 2/m, J = 1."""
    m, d = FIRST["vocab_size"], FIRST["width"]
    return {
        s.width: d,
        s.frequency: 1 / m,
        s.frequency_square_sum: 1 / m,
        s.frequency_cube_sum: 1 / m**2,
        s.alignment_square: 1 / m,
        s.field_square_sum: 2 / m,
        s.embedding_std: 1.0,
        s.projection_std: d**-0.5,
        s.self_term_ratio: np.sqrt(m / (2 * d)),
        s.embedding_lr: rates.get("embedding_lr", 0.0),
        s.projection_lr: rates.get("projection_lr", 0.0),
    }


@pytest.mark.parametrize("optimizer", ["sign", "sgd"])
def test_first_projection_update_in_networks(random, optimizer):
    """The derived second moment at SP with its self term; SGD's is new here."""
    m, d = FIRST["vocab_size"], FIRST["width"]
    updates = linear_first_step(
        random,
        width=d,
        targets=random.standard_normal((200, m, 1)),
        frequencies=np.full(m, 1 / m),
        seeds=200,
        optimizer=optimizer,
        projection_std=d**-0.5,
        centred=False,
    )
    samples = np.mean(updates.projection[..., 0] ** 2, axis=1)
    derived = derivations.mean_field_first_update("projection", optimizer).expression
    values = first_values(projection_lr=1.0)
    options = {"bias": 4 / d, "resolution": 0.05}
    assert_mean(samples, float(derived.subs(values)), **options)
    assert_rejected(samples, float(derived.subs({**values, KAPPA: 0.0})), **options)


def first_loss(**rates: float) -> float:
    expression = derivations.mean_field_first_loss().expression
    return float(expression.subs(derivations.GAUSSIAN_TARGETS).subs(first_values(**rates)))


@pytest.mark.parametrize(
    "rates",
    [
        {"embedding_lr": 0.03, "projection_lr": 0.05},
        {"embedding_lr": 0.0, "projection_lr": 0.05},
        {"embedding_lr": 0.05, "projection_lr": 0.0},
    ],
)
def test_first_loss_in_networks(rates):
    m, d = FIRST["vocab_size"], FIRST["width"]
    drops = []
    for seed in range(300):
        random = np.random.default_rng([3, seed])
        losses = train_linear(
            random.standard_normal((m, d)),
            random.standard_normal((1, d)) * d**-0.5,
            random.standard_normal((m, 1)),
            np.full(m, 1 / m),
            loss="mse",
            optimizer="sign",
            steps=2,
            **rates,
        ).loss
        drops.append(losses[1] - losses[0])
    assert_mean(drops, first_loss(**rates), bias=4 / d, resolution=0.05)
    assert_rejected(drops, 1.3 * first_loss(**rates), bias=4 / d, resolution=0.05)


def test_first_step_in_predict(quick_compilation):
    rates = {"embedding_lr": 0.03, "projection_lr": 0.05}
    setup = Setup(optimizer="sign", width=4096, vocab_size=4096, init="sp", steps=2, **rates)
    numbers = first_values(**rates) | {
        s.width: 4096,
        s.projection_std: 1 / 64,
        s.frequency_square_sum: 1 / 4096,
        s.frequency_cube_sum: 4096**-2,
        s.field_square_sum: 2 / 4096,
    }
    solved = predict(setup, particles=512, replicas=16, error_estimate=False)
    loss = derivations.mean_field_first_loss().expression.subs(derivations.GAUSSIAN_TARGETS)
    change = float(solved.loss[0, 1] - solved.loss[0, 0])
    assert change == pytest.approx(float(loss.subs(numbers)), rel=0.03)
    moment = derivations.mean_field_first_update("embedding", "sign").expression
    assert solved.embedding_update_rms[0, 1] == pytest.approx(
        float(sp.sqrt(moment).subs(numbers)), rel=0.01
    )
