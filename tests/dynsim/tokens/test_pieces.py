"""Token laws in pieces: the whole law at sizes that have both, closed forms beyond."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from dynsim import Setup, token_law
from dynsim.theory.mean_field import _particles
from dynsim.tokens import _pieces
from dynsim.tokens._pieces import Pieces, law_in_pieces, power_law_in_pieces
from dynsim.tokens._power_sums import zipf_sum

TYPES, SINGLE, PIECES = 100_000, 2**10, 2**12


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.3, 3.0])
def test_pieces_are_the_whole_law(exponent):
    law = token_law(f"zipf:{exponent}", TYPES).frequencies
    pieces = power_law_in_pieces(exponent, TYPES, SINGLE, PIECES)
    repeated = np.repeat(pieces.frequencies, pieces.counts.astype(int))
    np.testing.assert_allclose(repeated[:SINGLE], law[:SINGLE], rtol=1e-7)
    np.testing.assert_allclose(repeated, law, rtol=1e-3 * max(exponent, 1))
    for power in (1, 2, 3):
        total = pieces.counts @ pieces.frequencies**power
        assert total == pytest.approx(np.sum(law**power), rel=1e-7)


def test_a_law_from_a_file_in_pieces(tmp_path, monkeypatch):
    counts = np.sort(np.random.default_rng(0).pareto(1.0, 5000))[::-1] + 1
    np.savetxt(tmp_path / "counts.txt", counts)
    name = f"counts:{tmp_path / 'counts.txt'}"
    whole = law_in_pieces(name, 5000)
    for size, value in (("MOST_WHOLE", 1000), ("SINGLE", 100), ("PIECES", 400)):
        monkeypatch.setattr(_pieces, size, value)
    pieces = law_in_pieces(name, 5000)
    assert len(pieces.counts) <= 500 < len(whole.counts)
    assert pieces.counts.sum() == 5000
    np.testing.assert_array_equal(pieces.frequencies[:100], whole.frequencies[:100])
    assert pieces.counts @ pieces.frequencies == pytest.approx(1)


@pytest.mark.parametrize("batch_size", [0, 4096])
def test_particles_of_pieces_are_those_of_the_whole_law(batch_size, monkeypatch):
    fields = {"tokens": "zipf:1.1", "outputs": 2, "batch_size": batch_size}
    setup = Setup(vocab_size=TYPES, **fields)
    whole = _particles.token_particles(setup, 512)

    def in_pieces(name: str, vocab_size: int) -> Pieces:
        return power_law_in_pieces(1.1, vocab_size, SINGLE, PIECES)

    monkeypatch.setattr(_particles, "law_in_pieces", in_pieces)
    few = _particles.token_particles(setup, 512)
    assert few.head == whole.head
    np.testing.assert_allclose(few.frequencies[: few.head], whole.frequencies[: few.head])
    # Which types a cell holds differs by a piece at its edges.
    assert np.median(np.abs(few.frequencies / whole.frequencies - 1)) < 0.05
    assert few.multiplicities.sum() == pytest.approx(whole.multiplicities.sum(), rel=1e-2)
    for power in (1, 2, 3):
        sums = [one.multiplicities @ one.frequencies**power for one in (few, whole)]
        assert sums[0] == pytest.approx(sums[1], rel=1e-4)


def test_a_thousand_million_types_take_little_memory():
    setup = Setup(vocab_size=10**9, tokens="zipf:1.2")
    tracemalloc.start()
    particles = _particles.token_particles(setup, 512)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**28
    p, nu = particles.frequencies, particles.multiplicities
    assert nu @ p == pytest.approx(1)
    square = zipf_sum(2.4, 10**9) / zipf_sum(1.2, 10**9) ** 2
    assert nu @ p**2 == pytest.approx(square, rel=1e-8)
