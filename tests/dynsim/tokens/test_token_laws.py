"""Token laws: closed forms, files, real text, and a million types."""

from __future__ import annotations

import io
import itertools
import math
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from helpers import assert_refused, refusal
from hypothesis import given
from hypothesis import strategies as st

from dynsim import TokenLaw, token_law
from dynsim._files import sealed, unsealed
from dynsim.tokens import check_law_name, corpus_tokens
from dynsim.tokens._power_sums import zipf_sum


def test_uniform():
    law = token_law("uniform", 8)
    assert law.vocab_size == 8
    assert law.frequencies == pytest.approx(np.full(8, 1 / 8))
    assert law.effective_vocab_size == pytest.approx(np.full(8, 8))
    assert law.power_sum(2) == pytest.approx(1 / 8)
    assert law.power_sum(3) == pytest.approx(1 / 64)
    assert law.mean_alignment_square == pytest.approx(1 / 8)
    assert law.zipf_exponent.value == pytest.approx(0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_zipf(alpha):
    law = token_law(f"zipf:{alpha}", 100)
    ranks = np.arange(1, 101)
    assert law.frequencies.sum() == pytest.approx(1, abs=1e-14)
    assert law.frequencies / law.frequencies[0] == pytest.approx(ranks**-alpha)
    squares = np.sum(ranks ** (-2 * alpha))
    assert law.effective_vocab_size == pytest.approx(ranks ** (2 * alpha) * squares)


def test_zipf_power_sums_converge_to_zeta():
    law = token_law("zipf:1", 1_000_000)
    head = law.frequencies[0]
    assert law.power_sum(2) / head**2 == pytest.approx(math.pi**2 / 6, rel=1e-5)
    assert law.power_sum(3) / head**3 == pytest.approx(1.2020569, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0, 1.7])
def test_fitted_zipf_exponent_recovers_alpha(alpha):
    fit = token_law(f"zipf:{alpha}", 5000).zipf_exponent
    assert repr(fit).startswith("Zipf exponent\n  value: ")
    assert fit.value == pytest.approx(alpha, abs=1e-9)
    assert fit.low - 1e-9 <= alpha <= fit.high + 1e-9


def test_fitted_zipf_exponent_of_sampled_counts(random):
    p = token_law("zipf:1.2", 400).frequencies
    counts = np.sort(random.multinomial(10_000_000, p))[::-1]
    fit = TokenLaw("sampled", counts / counts.sum()).zipf_exponent
    assert fit.value == pytest.approx(1.2, abs=0.02)
    assert fit.low < fit.value < fit.high
    assert abs(fit.value - 1.0) > 0.1


def test_fit_needs_three_types():
    fit = TokenLaw("two", np.array([0.5, 0.5, 0])).zipf_exponent
    assert math.isnan(fit.value)
    assert math.isnan(fit.low)
    assert math.isnan(fit.high)


def test_types_that_never_occur_have_an_infinite_effective_vocabulary(tmp_path):
    file = tmp_path / "counts"
    file.write_text("3\n0\n1\n")
    law = token_law(f"counts:{file}", 3)
    assert law.frequencies == pytest.approx([0.75, 0.25, 0])
    assert law.effective_vocab_size[-1] == math.inf
    assert np.isfinite(law.mean_alignment_square)


def test_counts_are_sorted_and_cut(tmp_path):
    file = tmp_path / "counts"
    file.write_text("# a comment\n\n2\n10\n3.5\n1\n")
    law = token_law(f"counts:{file}", 3)
    assert law.frequencies == pytest.approx(np.array([10, 3.5, 2]) / 15.5)


BAD_FILES = {
    "empty": ("", "no counts"),
    "only comments": ("# nothing\n\n", "no counts"),
    "words": ("1\ntwo\n", "line 2 must be one non-negative number"),
    "negative": ("1\n-2\n", "line 2"),
    "nan": ("nan\n", "line 1"),
    "infinite": ("1\ninf\n", "line 2"),
    "two columns": ("1 2\n", "line 1"),
    "all zero": ("0\n0\n", "positive, finite sum"),
    "long line": ("x" * 5000 + "\n", "line 1"),
    "control characters": ("1\n\x1b[2J\n", "line 2"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_counts_files(case, tmp_path):
    content, fragment = BAD_FILES[case]
    file = tmp_path / "bad"
    file.write_text(content)
    assert_refused("--tokens", lambda: token_law(f"counts:{file}", 1), "counts:", fragment)


def test_counts_whose_sum_overflows(tmp_path):
    file = tmp_path / "bad"
    file.write_text("1e308\n1e308\n1e308\n")
    assert_refused("--tokens", lambda: token_law(f"counts:{file}", 1), "positive, finite sum")


def test_changed_counts_change_the_law_within_one_process(tmp_path):
    file = tmp_path / "counts"
    file.write_text("1\n1\n")
    before = token_law(f"counts:{file}", 2).frequencies
    file.write_text("3\n1\n")
    assert not np.allclose(token_law(f"counts:{file}", 2).frequencies, before)


def test_counts_that_cannot_be_read(tmp_path):
    missing = tmp_path / "missing"
    assert_refused("--tokens", lambda: token_law(f"counts:{missing}", 1), "cannot be read")
    assert_refused("--tokens", lambda: token_law(f"counts:{tmp_path}", 1), "cannot be read")
    binary = tmp_path / "binary"
    binary.write_bytes(bytes(range(128, 256)))
    assert_refused("--tokens", lambda: token_law(f"counts:{binary}", 1), "not a text file")
    assert_refused("--tokens", lambda: token_law("counts:nul\0byte", 1), "cannot be read")


def test_vocabulary_larger_than_the_counts_file(tmp_path):
    file = tmp_path / "counts"
    file.write_text("2\n1\n")
    assert_refused("--vocab-size", lambda: token_law(f"counts:{file}", 3), "3", "at most 2")


NO_LAWS = (
    "zipf zipf: zipf:x zipf:-1 zipf:nan zipf:inf zipf:21 zipf:1:2 uniform:3 Uniform counts counts: "
    "corpus: :"
)


@pytest.mark.parametrize("name", [*NO_LAWS.split(), "", "uniform ", "\n"])
def test_law_names_that_mean_nothing(name):
    assert_refused("--tokens", lambda: check_law_name("--tokens", name))
    assert_refused("--tokens", lambda: token_law(name, 10))


@pytest.mark.parametrize("vocab_size", [0, -1, 2**27 + 1, 1.5, True])
def test_vocabularies_out_of_range(vocab_size):
    assert_refused("--vocab-size", lambda: token_law("uniform", vocab_size))


@given(st.text(max_size=30))
def test_any_law_name_is_a_law_or_an_input_error(name):
    error = refusal(lambda: check_law_name("--tokens", name))
    assert error is None or "\n" not in str(error)


@given(st.floats(0, 5), st.integers(1, 300))
def test_every_zipf_law_is_a_law(alpha, vocab_size):
    law = token_law(f"zipf:{alpha!r}", vocab_size)
    p = law.frequencies
    assert p.sum() == pytest.approx(1)
    assert np.all(np.diff(p) <= 0)
    # c_i^2 <= 1, and their average lies between 1/m and 1.
    assert np.all(law.effective_vocab_size >= 1 - 1e-12)
    assert 1 / vocab_size - 1e-12 <= law.mean_alignment_square <= 1 + 1e-12


@pytest.mark.parametrize("name", ["uniform", "zipf:1"])
def test_a_million_types_use_bounded_memory(name):
    tracemalloc.start()
    law = token_law(name, 1_000_000)
    assert law.mean_alignment_square > 0
    assert law.effective_vocab_size[-1] > law.effective_vocab_size[0] * 0.999
    assert law.zipf_exponent.value >= -1e-9
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6


class TestCorpus:
    """`corpus:PATH` on texts of a few hundred kilobytes."""

    def test_law_of_a_folder(self, text_folder):
        law = token_law(f"corpus:{text_folder}", 600)
        assert law.vocab_size == 600
        assert law.frequencies.sum() == pytest.approx(1)
        assert np.all(np.diff(law.frequencies) <= 0)
        assert law.frequencies[0] > 5 / 600

    def test_a_file_is_part_of_its_folder(self, text_folder):
        one = corpus_tokens(str(text_folder / "first.txt"), 300)
        whole = corpus_tokens(str(text_folder), 300)
        assert 2.5 * len(one.stream) < len(whole.stream) < 3.5 * len(one.stream)

    def test_ids_are_frequency_ranks(self, text_folder):
        tokens = corpus_tokens(str(text_folder), 400)
        assert tokens.counts.sum() == len(tokens.stream)
        assert np.all(np.diff(tokens.counts) <= 0)
        assert len(tokens.counts) == 400

    def test_merges_shorten_the_text(self, text_folder):
        lengths = [len(corpus_tokens(str(text_folder), size).stream) for size in (256, 400, 800)]
        assert lengths[0] > lengths[1] > lengths[2]
        characters = sum(len(file.read_text()) for file in text_folder.rglob("*") if file.is_file())
        assert lengths[0] == characters  # one token a byte without merges

    def test_cached_by_content(self, text_folder, cache_folder, monkeypatch):
        from dynsim.tokens import _corpus

        first = corpus_tokens(str(text_folder), 500)
        assert list(cache_folder.glob("bpe-*-500-*.npy"))
        assert not list(cache_folder.glob("*.tmp"))

        def never(*_):
            raise AssertionError("tokenised again")

        monkeypatch.setattr(_corpus, "_tokenise", never)
        again = corpus_tokens(str(text_folder), 500)
        assert np.array_equal(first.stream, again.stream)
        with pytest.raises(AssertionError, match="again"):
            corpus_tokens(str(text_folder), 501)

    def test_threads_that_ask_at_once_tokenise_once(self, text_folder, monkeypatch):
        from dynsim.tokens import _corpus

        passes = []
        tokenise, both = _corpus._tokenise, Barrier(2)

        def counted(documents, vocab_size):
            passes.append(vocab_size)
            time.sleep(0.2)  # the other thread has asked by now
            return tokenise(documents, vocab_size)

        def ask(_):
            both.wait()
            return corpus_tokens(str(text_folder), 510).stream

        monkeypatch.setattr(_corpus, "_tokenise", counted)
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(ask, range(2))
        assert passes == [510]
        assert np.array_equal(first, second)

    def test_changed_text_changes_the_law(self, tmp_path):
        file = tmp_path / "text"
        file.write_text("a rose is a rose is a rose " * 400)
        before = token_law(f"corpus:{file}", 260).frequencies
        file.write_text("every word of this line is used just once in it " * 400)
        after = token_law(f"corpus:{file}", 260).frequencies
        assert not np.allclose(before, after, rtol=0.01)

    def test_changed_text_changes_the_law_within_one_process(self, tmp_path):
        file = tmp_path / "text"
        file.write_text("a rose is a rose is a rose " * 400)
        before = token_law(f"corpus:{file}", 260).frequencies
        file.write_text("every word of this line is used just once in it " * 400)
        assert not np.allclose(before, token_law(f"corpus:{file}", 260).frequencies, rtol=0.01)

    def test_damaged_cache_is_made_again(self, text_folder, cache_folder):
        first = corpus_tokens(str(text_folder), 450).stream
        (cached,) = cache_folder.glob("bpe-*-450-*.npy")
        whole = cached.read_bytes()
        content = unsealed(whole)
        assert content is not None
        _, _, stream = content.partition(b"\n")
        other = np.load(io.BytesIO(stream))
        assert np.array_equal(other, first)
        buffer = io.BytesIO()
        np.save(buffer, other ^ 1)  # the tokens of another text, without a seal and under its seal
        of_another = sealed(b"bpe-of-another.npy\n" + stream)
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for damaged in (whole[:100], buffer.getvalue(), of_another, b"PK\3\4xx", bytes(flipped)):
            cached.write_bytes(damaged)
            assert np.array_equal(corpus_tokens(str(text_folder), 450).stream, first)
            assert cached.read_bytes() == whole

    def test_vocabularies_that_the_text_cannot_fill(self, tmp_path):
        file = tmp_path / "text"
        file.write_text("abab" * 10)
        name = f"corpus:{file}"
        assert_refused("--vocab-size", lambda: token_law(name, 255), "at least 256")
        assert_refused("--vocab-size", lambda: token_law(name, 5000), "at most", "fill")

    def test_paths_without_text(self, tmp_path):
        empty = tmp_path / "empty"
        empty.touch()
        folder = tmp_path / "folder"
        folder.mkdir()
        binary = tmp_path / "binary"
        binary.write_bytes(b"\xff\xfe\x80" * 100)
        for path, fragment in [
            (empty, "no text"),
            (folder, "no text"),
            (binary, "binary"),
            (tmp_path / "missing", "cannot be read"),
            (Path("nul\0byte"), ""),
        ]:
            assert_refused("--tokens", lambda at=path: token_law(f"corpus:{at}", 300), fragment)

    def test_bigram_rows_are_next_token_frequencies(self, text_folder):
        """Against a count in plain Python, with the rarer next tokens in one class."""
        tokens = corpus_tokens(str(text_folder / "first.txt"), 300)
        outputs = 5
        table = tokens.next_token_frequencies(outputs)
        assert table.shape == (300, outputs)
        assert table.sum(axis=1) == pytest.approx(np.ones(300))
        counted = np.zeros((300, outputs))
        stream = tokens.stream.tolist()
        for now, following in itertools.pairwise(stream):
            counted[now, min(following, outputs - 1)] += 1
        occurs = counted.sum(axis=1) > 0
        assert 0 < occurs.sum() < 300
        expected = counted[occurs] / counted[occurs].sum(axis=1, keepdims=True)
        assert table[occurs] == pytest.approx(expected)
        overall = counted.sum(axis=0) / counted.sum()
        assert table[~occurs] == pytest.approx(np.tile(overall, ((~occurs).sum(), 1)))

    def test_bigram_with_all_outputs_are_the_tokens(self, text_folder):
        tokens = corpus_tokens(str(text_folder / "first.txt"), 300)
        table = tokens.next_token_frequencies(300)
        merged = tokens.next_token_frequencies(5)
        assert table[:, :4] == pytest.approx(merged[:, :4])
        assert table[:, 4:].sum(axis=1) == pytest.approx(merged[:, 4])


@pytest.mark.parametrize("exponent", [0, 0.3, 0.5, 1, 1 + 1e-9, 1.2, 3, 60])
def test_sums_of_many_zipf_laws_at_once(exponent):
    """H_s(m) in constant time is the sum over all ranks; between integers it is continuous."""
    sizes = np.array([1, 2, 31, 32, 33, 1000, 300_000])
    sums = [np.sum(np.arange(1, size + 1.0) ** -exponent) for size in sizes]
    assert zipf_sum(exponent, sizes) == pytest.approx(sums, rel=1e-13)
    around = zipf_sum(exponent, np.array([32 - 1e-9, 32, 32 + 1e-9, 1000.5]))
    assert np.ptp(around[:3]) < 1e-8
    assert sums[5] <= around[3] <= sums[5] + 1001.0**-exponent


def test_a_convergent_zipf_sum_is_zeta():
    assert zipf_sum(2, 1e12) == pytest.approx(np.pi**2 / 6, rel=1e-11)
