"""Alignment exponents from the token law, against direct sums and Monte-Carlo."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp

from derivations import symbols as s
from derivations._parametrizations import parametrization
from derivations._phase_diagram import large_vocabulary_boundary, phase_diagram
from derivations._stability import maximal_learning_rates, solve_stability
from derivations._update_coherence import (
    muon_coherent_fraction,
    muon_update_rms,
    sign_coherent_fraction,
)
from derivations._vocabulary_alignment import (
    age_exponent,
    alignment_exponent,
    batch_alignment_square,
    embedding_hidden_trade,
    embedding_residual,
    hidden_update_growth,
    initial_alignment,
    learned_alignment,
    learned_alignment_exponent,
    vocabulary_alignment,
)

H = Fraction(1, 2)


def hidden_alignment(optimizer="adam", **options):
    return vocabulary_alignment(optimizer, **options).hidden.update_on_initial


@pytest.mark.parametrize(
    ("mu", "expected"), [(0, 1), ("1/2", "3/4"), (1, "1/2"), ("3/2", "1/2"), ("1/3", "5/6")]
)
@pytest.mark.parametrize("optimizer", ["sign", "adam", "adamw", "adafactor", "sgd", "momentum"])
def test_uniform_tokens(mu, expected, optimizer):
    assert hidden_alignment(optimizer, vocab_exponent=mu) == Fraction(expected)


def test_zipf_stays_mup_and_its_tail_does_not():
    assert hidden_alignment(vocab_exponent=3, zipf_exponent=1) == 1
    rank = {"vocab_exponent": 3, "zipf_exponent": 1, "averaged_over": "token"}
    assert hidden_alignment(rank_exponent="1/4", **rank) == Fraction(3, 4)
    assert hidden_alignment(rank_exponent="1/2", **rank) == H  # i* = d^(1/2 alpha)
    assert hidden_alignment(rank_exponent=2, **rank) == H


@pytest.mark.parametrize("zipf", [0.0, 0.25, 0.7, 1.5])
@pytest.mark.parametrize("averaged_over", ["law", "batch"])
@pytest.mark.parametrize("beta", [0.4, 0.8, 2.0])
def test_exponents_against_sums_over_actual_tokens(zipf, averaged_over, beta):
    """The order of C along m = d, B = d^beta is its slope at huge m, from integrals of the law."""
    sizes = np.array([2.0**30, 2.0**36])
    orders = []
    for size in sizes:
        sums = [_harmonic(k * zipf, size) for k in (1, 2, 3)]
        p2, p3, batch = sums[1] / sums[0] ** 2, sums[2] / sums[0] ** 3, size**beta
        field = p2 + (1 - p2) / batch
        if averaged_over == "law":
            square = (p3 + (p2 - p3) / batch) / field
        else:
            square = (p3 + 3 * p2 / batch + 1 / batch**2) / field
        orders.append(math.log(square))
    order = (orders[1] - orders[0]) / math.log(sizes[1] / sizes[0])
    exact = hidden_alignment(
        vocab_exponent=1,
        zipf_exponent=Fraction(zipf),
        batch_exponent=Fraction(beta).limit_denominator(100),
        averaged_over=averaged_over,
    )
    assert float(exact) == pytest.approx(max(0.5, 1 + order / 2), abs=0.03)


def _harmonic(power: float, size: float) -> float:
    """sum_{i <= size} i^-power: exact up to a million terms, the integral beyond."""
    head = float(np.sum(np.arange(1, 10**5 + 1) ** -power))
    edge = 10**5 + 0.5
    return head + (size ** (1 - power) - edge ** (1 - power)) / (1 - power)


def test_batch_alignment_against_sampled_batches():
    random = np.random.default_rng(0)
    frequencies = np.arange(1, 301) ** -0.3
    frequencies /= frequencies.sum()
    size = 100
    counts = random.multinomial(size, frequencies, size=4000) / size
    measured = (counts**3).sum(1).mean() / (counts**2).sum(1).mean()
    values = {
        s.batch_size: size,
        s.frequency_square_sum: (frequencies**2).sum(),
        s.frequency_cube_sum: (frequencies**3).sum(),
    }
    exact = float(batch_alignment_square().expression.subs(list(values.items())))
    assert measured == pytest.approx(exact, rel=0.02)
    full = (frequencies**3).sum() / (frequencies**2).sum()
    assert abs(full / exact - 1) > 0.1  # negative control: the law's own alignment is another


def test_batch_alignment_is_what_a_sign_step_shows():
    """Tokens of a batch much smaller than the vocabulary have m_eff = B."""
    random = np.random.default_rng(1)
    width, batch, outputs = 512, 64, 256
    embeddings = random.standard_normal((batch, width))  # all distinct, as for m >> B^2
    residuals = random.choice([-1.0, 1.0], (batch, outputs))
    update = np.sign(residuals.T @ embeddings)  # (outputs, width)
    rms = math.sqrt(np.mean((embeddings @ update.T) ** 2))
    predicted = math.sqrt(width * (1 + 2 / math.pi * (width - 1) / batch))
    assert rms == pytest.approx(predicted, rel=0.03)
    assert abs(rms / math.sqrt(width) - 1) > 1  # not the LV answer of the whole vocabulary


def test_learned_alignment_grows_with_age():
    exponent = learned_alignment_exponent().expression
    ages = [sp.Rational(-2), sp.Rational(-1, 2), sp.Rational(-1, 4), sp.Integer(0), sp.Integer(3)]
    expected = [sp.Rational(1, 2), sp.Rational(1, 2), sp.Rational(3, 4), 1, 1]
    assert [exponent.subs(age_exponent, y) for y in ages] == expected
    middle = vocabulary_alignment(vocab_exponent=1, learned_age_exponent="-1/4")
    assert middle.hidden.update_on_learned == Fraction(3, 4)


def test_update_alignment_sets_u_and_the_other_layers():
    young = vocabulary_alignment(vocab_exponent=1)
    old = vocabulary_alignment(vocab_exponent=1, update_alignment="full")
    assert (young.hidden.update_on_learned, old.hidden.update_on_learned) == (H, 1)
    assert (young.readout.update_on_initial, old.readout.update_on_initial) == (H, 1)
    mixed = vocabulary_alignment(vocab_exponent=1, other_layers="full")
    assert mixed.readout.update_on_initial == 1


def test_bridge_from_mup_to_large_vocabulary():
    """muP at mu = 0, the sqrt rule at mu >= 1, and everything between, for the young network."""
    rates = {}
    for mu in ("0", "1/2", "1", "2"):
        given = vocabulary_alignment(vocab_exponent=mu, other_layers="full")
        embedding, hidden, _ = solve_stability(parametrization("sp"), "adam", given).lr_exponents
        rates[mu] = embedding - hidden
    assert rates == {"0": 1, "1/2": Fraction(3, 4), "1": H, "2": H}


def test_trade_matches_the_corners_of_the_program():
    trade = embedding_hidden_trade().expression
    old = vocabulary_alignment(vocab_exponent=1, update_alignment="full")
    corners = maximal_learning_rates(parametrization("sp"), "adam", old)
    assert len(corners) == 2
    for embedding, hidden, _ in corners:
        values = {
            initial_alignment: sp.Rational(1, 2),
            learned_alignment: sp.Integer(1),
            embedding_residual: -sp.Rational(embedding.numerator, embedding.denominator),
        }
        assert trade.subs(list(values.items())) == -sp.Rational(
            hidden.numerator, hidden.denominator
        )
    young = vocabulary_alignment(vocab_exponent=1)
    assert len(maximal_learning_rates(parametrization("sp"), "adam", young)) == 1


@pytest.mark.parametrize("averaged_over", ["law", "batch"])
@pytest.mark.parametrize("beta", [None, 0, "1/2", 1, "3/2", 4])
def test_boundary_separates_the_phases_exactly(averaged_over, beta):
    boundary = large_vocabulary_boundary(averaged_over, mini_batch=beta is not None).expression
    for alpha in ("0", "1/5", "1/3", "2/5", "1/2", "3/4", "9/10", "1", "3/2"):
        values = {
            s.zipf_exponent: sp.Rational(alpha),
            s.batch_exponent: sp.Rational(str(beta or 0)),
        }
        critical = boundary.subs(list(values.items()))
        options = {"zipf_exponent": alpha, "batch_exponent": beta, "averaged_over": averaged_over}
        if critical == sp.oo:
            assert hidden_alignment(vocab_exponent=1000, **options) > H
            continue
        exact = Fraction(str(critical))
        assert hidden_alignment(vocab_exponent=exact, **options) == H
        below = exact - Fraction(1, 1000)
        assert hidden_alignment(vocab_exponent=below, **options) > H


def test_phase_diagram_is_exact_and_agrees_with_the_program():
    mus, alphas = ["0", "1/2", "1", "2"], ["0", "1/3", "1/2", "1"]
    diagram = phase_diagram(mus, alphas, "3/2", averaged_over="batch")
    for alpha, row in zip(alphas, diagram.hidden_lr_exponents, strict=True):
        for mu, rate in zip(mus, row, strict=True):
            given = vocabulary_alignment(
                vocab_exponent=mu, zipf_exponent=alpha, batch_exponent="3/2", averaged_over="batch"
            )
            assert rate == solve_stability(parametrization("sp"), "adam", given).lr_exponents[1]
            assert isinstance(rate, Fraction)
    assert phase_diagram(mus, alphas, optimizer="muon").hidden_lr_exponents == ((0,) * 4,) * 4
    old = phase_diagram(mus, alphas, update_alignment="full").hidden_lr_exponents
    assert {rate for row in old for rate in row} == {-1}


def test_sgd_carries_the_size_of_the_gradient():
    """Uniform tokens, mu = 1: the embedding has p = 1/d, the matrices sqrt(S) = d^(-1/2)."""
    given = vocabulary_alignment("sgd", vocab_exponent=1, other_layers="full")
    assert given.gradient == (-1, -H, -H)
    rates = solve_stability(parametrization("mup"), "sgd", given).lr_exponents
    plain = solve_stability(parametrization("mup"), "sgd").lr_exponents
    assert [a - b for a, b in zip(rates, plain, strict=True)] == [1, 1, H]


def _orthogonal_step(width: int, tokens: int, seed: int) -> tuple[float, float]:
    """RMS of O e and mean cosine of O e_i with delta_i, O the polar factor of sum delta_i e_i^T."""
    random = np.random.default_rng(seed)
    embeddings = random.standard_normal((tokens, width))
    backward = random.standard_normal((tokens, width))
    left, values, right = np.linalg.svd(backward.T @ embeddings)
    rank = int(np.sum(values > 1e-9 * values[0]))
    moved = embeddings @ (left[:, :rank] @ right[:rank]).T
    cosine = np.sum(moved * backward, axis=1)
    cosine /= np.linalg.norm(moved, axis=1) * np.linalg.norm(backward, axis=1)
    return math.sqrt(np.mean(moved**2)), float(cosine.mean())


@pytest.mark.parametrize(
    ("tokens_per_width", "checked"), [(32, 0.147), (8, 0.296), (Fraction(1, 8), 0.97)]
)
def test_muon_first_step(tokens_per_width, checked):
    """RMS one at every vocabulary; cosines sampled beforehand, by other code."""
    width = 96
    rms, cosine = _orthogonal_step(width, int(width * tokens_per_width), seed=3)
    assert rms == pytest.approx(1, abs=0.05)
    assert cosine == pytest.approx(checked, abs=0.012)
    if tokens_per_width > 1:
        values = {s.width: width, s.vocab_size: int(width * tokens_per_width)}
        derived = float(muon_coherent_fraction().expression.subs(list(values.items())))
        assert cosine == pytest.approx(derived, rel=0.03)
        assert abs(cosine / math.sqrt(1 / tokens_per_width) - 1) > 0.1  # prefactor is not one


@pytest.mark.parametrize(
    ("width", "tokens", "rank", "checked"),
    [
        (64, 32, 1, 0.215),
        (64, 32, 4, 0.424),
        (64, 32, 32, 1),
        (64, 256, 4, 0.278),
        (64, 256, 64, 1),
    ],
)
def test_muon_moves_less_if_the_gradient_has_a_lower_rank(width, tokens, rank, checked):
    """Backpropagated residuals of `rank` linear outputs, unequal frequencies: RMS over types."""
    squares = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        embeddings = random.standard_normal((tokens, width))
        backward = random.standard_normal((tokens, rank)) @ random.standard_normal((rank, width))
        frequencies = random.dirichlet(np.ones(tokens))
        gradient = (frequencies[:, None] * backward).T @ embeddings
        values, right = np.linalg.svd(gradient)[1:]
        kept = right[: np.sum(values > 1e-9 * values[0])]  # |O e| is the length of e in this space
        assert len(kept) == rank
        squares.append(np.sum((embeddings @ kept.T) ** 2) / (tokens * width))
    sizes = {s.width: width, s.vocab_size: tokens, s.gradient_rank: rank}
    units = {s.projection_lr: 1, s.embedding_std: 1}
    derived = float(muon_update_rms().expression.subs([*sizes.items(), *units.items()]))
    assert derived == pytest.approx(checked, abs=5e-4)
    assert math.sqrt(np.mean(squares)) == pytest.approx(derived, rel=0.02)


def test_muon_column():
    full = s.projection_lr * s.embedding_std
    for size in (s.vocab_size, s.width):  # full rank
        assert muon_update_rms().expression.subs(s.gradient_rank, size) == full
    fraction = muon_coherent_fraction().expression
    assert sp.simplify(fraction - 8 / (3 * sp.pi) * sp.sqrt(s.width / s.vocab_size)) == 0
    with pytest.raises(ValueError, match="no alignment exponent"):
        alignment_exponent("muon")
    rates = [
        solve_stability(
            parametrization("sp"),
            "muon",
            vocabulary_alignment("muon", vocab_exponent=mu, update_alignment="full"),
        ).lr_exponents[1]
        for mu in (0, 1, 2)
    ]
    assert rates == [0, 0, 0]


def test_sign_is_diluted_like_muon():
    ratio = sign_coherent_fraction().expression / sp.sqrt(s.width / s.vocab_size)
    limit = sp.limit(ratio.subs(s.vocab_size, s.width**2), s.width, sp.oo)
    assert sp.simplify(limit - sp.sqrt(2 / sp.pi)) == 0


def test_growth_interpolates_between_the_regimes():
    assert hidden_update_growth(4096, 256, 1.0, "adam") == pytest.approx(1, rel=0.005)
    assert hidden_update_growth(4096, 256, 1e-12, "adam") == pytest.approx(0.25, rel=1e-4)
    assert hidden_update_growth(4096, 256, 1e-12, "muon") == 1
    middle = hidden_update_growth(4096, 256, 1e-3, "adamw")
    rho = [1 + 2 / math.pi * (d - 1) * 1e-3 for d in (4096, 256)]
    assert middle == pytest.approx(math.sqrt(rho[0] / rho[1] / 16), rel=1e-9)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        vocabulary_alignment(vocab_exponent=-1)
    with pytest.raises(ValueError, match="must not exceed"):
        vocabulary_alignment(vocab_exponent=1, rank_exponent=2, averaged_over="token")
    with pytest.raises(ValueError, match="rank exponent belongs"):
        vocabulary_alignment(vocab_exponent=1, averaged_over="token")
    with pytest.raises(ValueError, match="none or full"):
        vocabulary_alignment(vocab_exponent=1, update_alignment="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="law, batch, token"):
        alignment_exponent("adam", "head")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="crossover_rank"):
        large_vocabulary_boundary("token")
    with pytest.raises(ValueError, match="must not be negative"):
        phase_diagram([-1], [0])
