"""Rows of an embedding under Muon, against orthogonalised matrices that are drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers import assert_refused

import derivations
from derivations import muon_symbols, symbols
from dynsim import evaluate, theory, token_law

TOKENS, WIDTH, OUTPUTS = 600, 64, 48
RANKS = np.split(np.arange(TOKENS), [4, 16, 64, 200])


def polar(gradient):
    left, size, right = np.linalg.svd(gradient, full_matrices=False)
    kept = size > 1e-10 * size[0]
    return left[:, kept] @ right[kept]


def row_squares(gradient):
    return np.square(polar(gradient)).sum(axis=1)


def frequencies(exponent):
    return token_law(f"zipf:{exponent}" if exponent else "uniform", TOKENS).frequencies


@pytest.fixture
def draw():
    """Residuals of independent tokens behind a readout: their rank is the number of outputs."""
    rng = np.random.default_rng(7)
    readout = rng.standard_normal((OUTPUTS, WIDTH))
    return lambda: rng.standard_normal((TOKENS, OUTPUTS)) @ readout


@pytest.mark.parametrize("exponent", [0.0, 0.4, 1.0, 1.5])
def test_row_norms_are_those_of_drawn_gradients(exponent, draw):
    p = frequencies(exponent)
    drawn = np.mean([row_squares(p[:, None] * draw()) for _ in range(10)], axis=0)
    derived = np.square(theory.muon_row_norms(p, OUTPUTS))
    for some in RANKS:
        assert drawn[some].mean() == pytest.approx(derived[some].mean(), rel=0.08)
    assert drawn.sum() == pytest.approx(OUTPUTS)
    assert derived.sum() == pytest.approx(OUTPUTS)
    assert np.allclose(derived, OUTPUTS / TOKENS) == (exponent == 0)


def test_enough_rank_moves_all_tokens_alike():
    p = np.array([0.5, 0.3, 0.2, 0.0])
    assert theory.muon_row_norms(p, 3) == pytest.approx([1, 1, 1, 0])
    assert theory.muon_row_norms(p, 2)[2] < 0.9


@pytest.mark.parametrize("exponent", [0.8, 1.0, 2.0])
def test_zipf_closed_form(exponent):
    """Ranks below a vocabulary so large that it does not matter."""
    p = token_law(f"zipf:{exponent}", 300_000).frequencies
    rows = theory.muon_rows(p, 100)
    values = {symbols.zipf_exponent: exponent, symbols.gradient_rank: 100.0}
    half = float(evaluate(derivations.muon_half_rank(), values))
    ranks = np.array([1.0, 30.0, 100.0, 1000.0])
    closed = evaluate(derivations.muon_row_square_zipf(), {**values, symbols.rank: ranks})
    found = np.square(rows.norms[ranks.astype(int) - 1])
    slack = 0.02 if exponent > 0.9 else 0.1  # the sum over ranks converges slowly near 1/2
    assert found == pytest.approx(np.asarray(closed), rel=2 * slack)
    assert rows.half_rank == pytest.approx(half, rel=slack, abs=1)
    assert rows.starved_tokens == len(p) - rows.half_rank
    assert rows.starved_mass == pytest.approx(p[rows.half_rank :].sum())


def test_power_of_the_rank_is_the_slope():
    p = frequencies(1.0)
    below, above = (theory.muon_rows(p, WIDTH, rank).norms for rank in (39, 41))
    slope = np.log(above / below) / np.log(41 / 39)
    assert theory.muon_rows(p, WIDTH, 40).rank_powers == pytest.approx(slope, rel=2e-3, abs=1e-4)


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_batches(shared):
    """Drawn counts, and for each the rows of a drawn gradient of that batch."""
    rng = np.random.default_rng(3)
    p = frequencies(1.0)
    squares, drawn = np.zeros(TOKENS), np.zeros(TOKENS)
    for _ in range(40):
        counts = rng.multinomial(256, p)
        squares = squares + np.square(theory.muon_count_norms(counts, 32, shared)) / 40
        own = rng.standard_normal((TOKENS, 32))
        size = np.sqrt(counts) if shared == 0 else counts
        drawn = drawn + row_squares(size[:, None] * own) / 40
    averaged = np.square(theory.muon_row_norms(p, 32, 256, shared))
    for some in RANKS:
        assert drawn[some].mean() == pytest.approx(squares[some].mean(), rel=0.1)
        assert averaged[some].mean() == pytest.approx(squares[some].mean(), rel=0.06)


def test_large_batches_are_the_full_batch():
    p = frequencies(1.5)
    large = theory.muon_row_norms(p, 32, 10**9)
    assert large == pytest.approx(theory.muon_row_norms(p, 32), rel=1e-4)


def test_classes_share_one_direction_each():
    rng = np.random.default_rng(5)
    p, of_class = frequencies(1.0), np.arange(TOKENS) % 20
    gradient = p[:, None] * (np.eye(20)[of_class] @ rng.standard_normal((20, WIDTH)))
    total = np.bincount(of_class, p**2)[of_class]
    values = {symbols.frequency: p, symbols.frequency_square_sum: total}
    derived = np.asarray(evaluate(derivations.muon_class_row_square(), values))
    assert row_squares(gradient) == pytest.approx(derived, abs=1e-9)


def test_more_classes_than_rank_compete_as_rows():
    """Each class as one row of weight sum p_j^2, which its tokens divide."""
    rng = np.random.default_rng(6)
    p, classes = frequencies(1.0), 200
    of_class = rng.integers(0, classes, TOKENS)
    total = np.bincount(of_class, p**2, classes)
    share = theory.muon_row_squares(total, 32)
    values = {symbols.frequency: p, symbols.frequency_square_sum: total[of_class]}
    within = np.asarray(evaluate(derivations.muon_class_row_square(), values))
    derived = share[of_class] * within
    drawn = [
        row_squares(p[:, None] * rng.standard_normal((classes, 32))[of_class]) for _ in range(10)
    ]
    for some in RANKS:
        assert np.mean(drawn, axis=0)[some].mean() == pytest.approx(derived[some].mean(), rel=0.1)


def test_what_repairs_it_and_what_does_not(draw):
    p = frequencies(1.0)
    gradient = (p[:, None] * draw())[:, :OUTPUTS]
    lengths = np.linalg.norm(gradient, axis=1, keepdims=True)
    muon = np.linalg.norm(polar(gradient), axis=1)
    eigenvalues, basis = np.linalg.eigh(gradient.T @ gradient)
    one_sided = gradient @ (basis * eigenvalues**-0.5) @ basis.T
    assert one_sided == pytest.approx(polar(gradient), abs=1e-8)
    fourth_root = np.linalg.norm(gradient @ (basis * eigenvalues**-0.25) @ basis.T, axis=1)
    before = np.linalg.norm(polar(gradient / lengths), axis=1)
    rotated = np.linalg.norm(np.sign(gradient @ basis), axis=1)
    rare, frequent = slice(400, None), slice(0, 4)
    falls = [x[rare].mean() / x[frequent].mean() for x in (fourth_root, muon, before, rotated)]
    assert falls[0] < falls[1] < 0.15
    assert falls[2] == pytest.approx(1, abs=0.1)
    assert falls[3] == pytest.approx(1)
    assert before.mean() == pytest.approx(np.sqrt(OUTPUTS / TOKENS), rel=0.02)


@pytest.mark.parametrize("convention", derivations.MUON_CONVENTIONS)
@pytest.mark.parametrize(("outputs", "inputs"), [(12, 5), (5, 12), (7, 7)])
def test_scales_of_an_update_of_full_rank(convention, outputs, inputs):
    rng = np.random.default_rng(1)
    scale = theory.muon_scale(convention, outputs, inputs)
    update = scale * polar(rng.standard_normal((outputs, inputs)))
    values = {muon_symbols.rows: float(outputs), muon_symbols.columns: float(inputs)}
    entry = evaluate(derivations.muon_entry_rms(convention), values)
    assert np.sqrt(np.mean(update**2)) == pytest.approx(float(entry))
    largest = np.linalg.norm(update, 2) * np.sqrt(inputs / outputs)
    gauge = evaluate(derivations.muon_operator_rms(convention), values)
    assert largest == pytest.approx(float(gauge))
    assert (convention == "match-rms") == bool(np.isclose(float(entry), 0.2))
    assert convention != "spectral" or float(gauge) == pytest.approx(1)


def test_bad_input():
    p = frequencies(1.0)
    assert_refused("rank", lambda: theory.muon_row_norms(p, 0))
    assert_refused("rank", lambda: theory.muon_rows(p, 16, 17))
    assert_refused("frequencies", lambda: theory.muon_row_norms(-p, 8))
    assert_refused("batch_size", lambda: theory.muon_row_norms(p, 8, 0))
    assert_refused("shared_residual", lambda: theory.muon_row_norms(p, 8, 9, 1.5))


def test_outputs_change_as_derived_under_muon():
    """Fewer outputs than neurons, and more: whole networks orthogonalised by numpy. Exact where
    tokens are alike; else frequent tokens prefer what the readout stretches, within a bound."""
    rng = np.random.default_rng(3)
    p = frequencies(0.0)
    for exponent, outputs in itertools.product((0.0, 1.0), (OUTPUTS, 3 * WIDTH)):
        p, squares = frequencies(exponent), []
        for _ in range(8):
            readout = rng.standard_normal((outputs, WIDTH)) / WIDTH
            gradient = (p[:, None] * rng.standard_normal((TOKENS, outputs))) @ readout
            squares.append(p @ np.mean((polar(gradient) @ readout.T) ** 2, axis=1))
        step = theory.muon_embedding_step(WIDTH, p, outputs=outputs)
        larger = np.mean(squares) / step.rms**2
        if exponent == 0:
            assert larger == pytest.approx(1, abs=0.04)
        else:
            assert 1.05 < larger < (outputs + WIDTH) / max(outputs, WIDTH)
        assert step.gradient_rank == min(outputs, WIDTH)
    plenty = theory.muon_embedding_step(WIDTH, np.ones(2 * WIDTH))
    assert plenty.local_exponent == pytest.approx(-0.5, abs=1e-6)  # -1 of sigma_W, 1/2 of h = d/m
    few = theory.muon_embedding_step(WIDTH, p, outputs=OUTPUTS, init="sp")
    assert few.local_exponent == pytest.approx(0, abs=1e-6)
    assert_refused("outputs", lambda: theory.muon_embedding_step(WIDTH, p, outputs=7))
    assert_refused("rank", lambda: theory.muon_embedding_step(WIDTH, p, rank=TOKENS + 1))


def test_shampoo_begins_as_muon(draw):
    """Of an embedding's first gradient. On the side of the columns the whole root gives the polar
    factor, and the inverse fourth root keeps the root of the singular values; with the fourth root
    on the side of the tokens as well it is the polar factor again."""
    gradient = frequencies(1.0)[:, None] * draw()
    values, vectors = np.linalg.eigh(gradient.T @ gradient)
    kept = values > 1e-12 * values[-1]

    def power(exponent):
        return (vectors[:, kept] * values[kept] ** exponent) @ vectors[:, kept].T

    np.testing.assert_allclose(gradient @ power(-0.5), polar(gradient), atol=1e-6)
    left, size, right = np.linalg.svd(gradient, full_matrices=False)
    found = gradient @ power(-0.25)
    np.testing.assert_allclose(found, (left * size**0.5) @ right, atol=1e-6)
    on_tokens = (left[:, : kept.sum()] * size[: kept.sum()] ** -0.5) @ left[:, : kept.sum()].T
    np.testing.assert_allclose(on_tokens @ found, polar(gradient), atol=1e-6)
    squares = np.square(found).sum(axis=1)
    starved = row_squares(gradient)
    assert squares[-1] / squares[0] < 0.5 * starved[-1] / starved[0]
