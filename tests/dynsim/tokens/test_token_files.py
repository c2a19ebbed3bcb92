"""Counts, texts and tokenizers from files as people have them."""

from __future__ import annotations

import bz2
import gzip
import json
import time

import numpy as np
import pytest
from helpers import assert_refused

from dynsim import token_law
from dynsim.tokens import corpus_tokens, read_counts
from dynsim.tokens._texts import LONGEST_RUN, cut_runs

COUNTS = {"the": 50, "of": 30, "2023": 15, "new york": 4, "#": 1}
SORTED = [50.0, 30, 15, 4, 1]


def lines(form: str) -> str:
    return "\n".join(form.format(word=word, count=count) for word, count in COUNTS.items()) + "\n"


TEXTS = {
    "bare": lines("{count}"),
    "marked": "\ufeff" + lines("{count}"),
    "word first": lines("{word} {count}"),
    "count first, as uniq -c writes": lines("{count:7d} {word}"),
    "tabs": lines("{word}\t{count}"),
    "tabs, count first": lines("{count}\t{word}"),
    "commas": lines('"{word}",{count}'),
    "table": "token,id,count\n"
    + "".join(f'"{w}",{i},{c}\n' for i, (w, c) in enumerate(COUNTS.items())),
    "rank and count": "\n".join(f"{rank} {count}" for rank, count in enumerate(SORTED, 1)),
    "object": json.dumps(COUNTS),
    "object inside": json.dumps({"counts": COUNTS}),
    "list": json.dumps(list(COUNTS.values())),
    "pairs": json.dumps([[word, count] for word, count in COUNTS.items()]),
    "rows": json.dumps([{"word": word, "count": count} for word, count in COUNTS.items()]),
    "rows a line": "\n".join(json.dumps({"word": w, "count": c}) for w, c in COUNTS.items()),
    "blanks and commas as words": " 50\n, 30\n\t15\nthe 4\n1 1\n".replace("\t", "  "),
}


@pytest.mark.parametrize("form", TEXTS)
def test_counts_in_every_form(tmp_path, form):
    file = tmp_path / "counts"
    file.write_text(TEXTS[form], encoding="utf-8")
    assert read_counts(file).tolist() == SORTED


def test_thousands_of_counts(tmp_path):
    """Commas part two columns where every line has one."""
    for text, counts in (
        ("1,234,567\n12,345\n17\n", [1234567, 12345, 17]),
        ('word,count\nthe,"1,234"\nof,"2"\n', [1234, 2]),
        ('the,"1,234"\nof,2\n', [1234, 2]),
        ("1,300\n2,200\n3,100\n", [300, 200, 100]),
    ):
        (tmp_path / "counts").write_text(text, encoding="utf-8")
        assert read_counts(tmp_path / "counts").tolist() == counts


def test_a_tokenizer_given_as_counts_is_named_as_one(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 1}}}))
    assert_refused("tokens", lambda: read_counts(tmp_path / "t.json"), "name it as tokenizer:")


def test_counts_of_arrays_tables_and_packed_texts(tmp_path):
    array = np.array(SORTED[::-1])
    np.save(tmp_path / "a.npy", array.astype(np.int64))
    np.savez(tmp_path / "b.npz", counts=array, other=array[:2])
    text = lines("{word} {count}")
    (tmp_path / "c.gz").write_bytes(gzip.compress(text.encode("utf-16")))
    (tmp_path / "d.bz2").write_bytes(bz2.compress(text.encode()))
    for file in sorted(tmp_path.iterdir()):
        assert read_counts(file).tolist() == SORTED
    np.save(tmp_path / "e.npy", array.reshape(1, 5))
    assert_refused("tokens", lambda: read_counts(tmp_path / "e.npy"), "shape (1, 5)")


def test_counts_of_parquet_and_zstd(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pd = pytest.importorskip("pandas")
    pd.DataFrame({"token": list(COUNTS), "count": SORTED}).to_parquet(tmp_path / "a.parquet")
    with pyarrow.CompressedOutputStream(str(tmp_path / "b.zst"), "zstd") as stream:
        stream.write(lines("{count}").encode())
    for file in tmp_path.iterdir():
        assert read_counts(file).tolist() == SORTED


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("5 7\n3 2\n", "which is the count cannot be told"),
        ("the 5\nof many\n", "line 2"),
        ("a,b\n1,2\n3,4\n", "several columns of numbers: a, b"),
        ('{"a": "many"}', "one number a word, not 'many'"),
        ("1,5\n0,3\nx,y,z\n", "line 3"),
    ],
)
def test_counts_that_cannot_be_told(tmp_path, text, fragment):
    file = tmp_path / "counts"
    file.write_text(text)
    assert_refused("tokens", lambda: read_counts(file), "counts:", fragment)


def test_a_counts_file_has_its_own_number_of_types(tmp_path):
    """By default all; fewer say what is left out; one in a hundred more are rows of padding."""
    file = tmp_path / "counts"
    counts = np.floor(1e6 / np.arange(1, 501))
    file.write_text("\n".join(f"{count:.0f}" for count in counts))
    name = f"counts:{file}"
    assert token_law(name).vocab_size == 500
    assert token_law(name).notes == ()
    cut = token_law(name, 100)
    share = counts[100:].sum() / counts.sum()
    assert cut.notes == (f"400 of 500 types left out, {share:.2%} of the tokens",)
    padded = token_law(name, 505)
    assert "5 of 505 rows are padding" in padded.notes[0]
    assert np.array_equal(padded.frequencies[:500], token_law(name).frequencies)
    assert not padded.frequencies[500:].any()
    assert_refused("vocab_size", lambda: token_law(name, 506), "at most 500")
    assert_refused("vocab_size", lambda: token_law("zipf:1"), "is missing")


@pytest.fixture
def folder(tmp_path):
    """A folder with a text, the same text packed, and what is no text or not to be read."""
    text = "\n".join(" ".join(f"word{i * j % 97}" for j in range(12)) for i in range(200))
    inside = tmp_path / "texts"
    (inside / ".git").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (inside / "a.txt").write_text(text)
    (inside / "b.txt.gz").write_bytes(gzip.compress(text.encode()))
    (inside / "c.txt").write_text("naïve " + text, encoding="latin-1")
    (inside / "d.bin").write_bytes(bytes(range(256)) * 4)
    (inside / "e.txt").write_bytes(text.encode("utf-16"))
    (inside / ".git" / "message").write_text("not part of it")
    (tmp_path / "elsewhere" / "f.txt").write_text(text)
    (inside / "more").symlink_to("../elsewhere")
    return inside


def test_a_corpus_says_what_it_left_out(folder):
    one = corpus_tokens(str(folder / "a.txt"), 300)
    whole = corpus_tokens(str(folder), 300)
    assert len(whole.stream) == 3 * len(one.stream)  # plain, packed, and in another encoding
    assert whole.notes == (
        "3 files read",
        "1 left out, hidden: .git",
        "1 left out, folder behind a link: more",
        "1 left out, not UTF-8 or UTF-16 text: c.txt",
        "1 left out, binary data: d.bin",
    )
    assert token_law(f"corpus:{folder}", 300).notes == whole.notes
    for name in ("a.txt", "b.txt.gz", "e.txt"):
        (folder / name).unlink()
    complaint = "it holds 2 files, none of it text that can be read"
    assert_refused("tokens", lambda: corpus_tokens(str(folder), 300), complaint, "c.txt")
    latin = str(folder / "c.txt")
    assert_refused("tokens", lambda: corpus_tokens(latin, 300), "not UTF-8", "iconv")


def test_a_text_without_blanks_is_cut(tmp_path, random):
    letters = np.array([chr(0x4E00 + k) for k in range(200)])
    text = "".join(random.choice(letters, 20_000))
    (tmp_path / "text").write_text(text, encoding="utf-8")
    began = time.perf_counter()
    tokens = corpus_tokens(str(tmp_path / "text"), 400)
    assert time.perf_counter() - began < 20
    assert tokens.notes == (
        f"1 run of more than {LONGEST_RUN} letters or signs cut into pieces of {LONGEST_RUN}",
    )
    pieces, _ = cut_runs((text, "words " * 500, " " * 999))
    assert "".join(pieces) == text + "words " * 500 + " " * 999
    assert max(map(len, pieces)) == 3000  # words are left as they are
    assert sorted(set(map(len, pieces)))[:2] == [199, 200]


def unigram(scores: dict[str, float], **more) -> str:
    model = {"type": "Unigram", "unk_id": 0, "vocab": [list(one) for one in scores.items()]}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model, **more})


def test_scores_of_a_unigram_model_are_log_frequencies(tmp_path):
    file = tmp_path / "tokenizer.json"
    shares = np.array([0.5, 0.3, 0.2])
    scores = {"<unk>": 0.0, "</s>": 0.0, **dict(zip("abc", np.log(shares), strict=True))}
    file.write_text(unigram(scores))
    law = token_law(f"tokenizer:{file}")
    assert law.frequencies == pytest.approx([0.5, 0.3, 0.2, 0, 0])
    assert token_law(f"tokenizer:{tmp_path}").vocab_size == 5  # the folder of a model
    file.write_text(unigram({"<unk>": 0.0, "a": -1.0, "b": -2.0, "c": -3.0}))
    name = f"tokenizer:{file}"
    assert_refused("tokens", lambda: token_law(name), "ranks", f"{file},corpus:PATH")
    for text in ("{}", "[]", "no JSON", '{"model": {"vocab": {}}}'):
        file.write_text(text)
        assert_refused("tokens", lambda: token_law(name), "tokenizer.json")


def test_a_tokenizer_counts_the_tokens_of_texts(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"a": 0, "rose": 1, "is": 2, "never": 3}
    tokenizer = Tokenizer(models.WordLevel(words))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=64)
    file, text = tmp_path / "tokenizer.json", tmp_path / "text"
    tokenizer.save(str(file))
    text.write_text("a rose is a rose is a rose")
    law = token_law(f"tokenizer:{file},corpus:{text}")
    assert law.frequencies == pytest.approx(np.array([3, 3, 2, 0]) / 8)
    assert law.notes == ("8 tokens counted; 3 of 4 types occur",)
    assert_refused("tokens", lambda: token_law(f"tokenizer:{file}"), "WordLevel", ",corpus:PATH")
    assert_refused("vocab_size", lambda: token_law(f"tokenizer:{file},corpus:{text}", 5), "most 4")
