"""The types of a tokenizer.json: their frequencies by its scores, or in texts that it tokenises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError
from dynsim._text_files import NotText, decoded, json_document, unpacked

from ._texts import cut_runs, read_texts

CORPUS = ",corpus:"
NO_TOKENIZER = "must be a tokenizer.json of the tokenizers library, with a model and its vocab"
CHUNK = 256  # texts that are tokenised together

Floats = NDArray[np.float64]


def tokenizer_counts(detail: str) -> tuple[Floats, tuple[str, ...]]:
    """Counts or shares of the types of `FILE` or `FILE,corpus:PATH`, largest first, and notes.

    A type that never occurs, as those that are only added for control, counts 0. Raises
    `InputError` for a file that is no tokenizer.json, and for one without scores where no texts
    are given.
    """
    file, with_texts, path = detail.partition(CORPUS)
    text = _content(file)
    document = _document(file, text)
    if with_texts:
        return _in_texts(file, text, path)
    with _refusing_odd_types(file):
        return _by_scores(file, document), ()


def tokenizer_size(file: str) -> int:
    """How many types a tokenizer.json has: one more than its largest id."""
    document = _document(file, _content(file))
    with _refusing_odd_types(file):
        vocabulary = document["model"]["vocab"]
        own = (
            len(vocabulary)
            if isinstance(vocabulary, list)
            else max(vocabulary.values(), default=-1) + 1
        )
        return max([own, *(token["id"] + 1 for token in document.get("added_tokens") or ())])


@contextlib.contextmanager
def _refusing_odd_types(file: str) -> Iterator[None]:
    """Turns what comes of a document with other types than a tokenizer.json has into one line."""
    try:
        yield
    except (TypeError, KeyError, IndexError, AttributeError, OverflowError):
        raise InputError("tokens", f"tokenizer:{file}", NO_TOKENIZER) from None


def _content(file: str) -> str:
    name = f"tokenizer:{file}"
    try:
        path = Path(file)
        return decoded(unpacked(path / "tokenizer.json" if path.is_dir() else path))
    except NotText as error:
        raise InputError("tokens", name, f"must be a tokenizer.json, is {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError("tokens", name, f"the file cannot be read ({reason})") from None


def _document(file: str, text: str) -> dict[str, Any]:
    try:
        document = json_document(text)
        vocabulary = document["model"]["vocab"]
        if not isinstance(vocabulary, (dict, list)) or not vocabulary:
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise InputError("tokens", f"tokenizer:{file}", NO_TOKENIZER) from None
    return document


def _by_scores(file: str, document: dict[str, Any]) -> Floats:
    """exp(score) of a unigram model's pieces; 0 for those that stand for no text."""
    name = f"tokenizer:{file}"
    vocabulary = document["model"]["vocab"]
    add = f"name texts that it tokenises, as tokenizer:{file}{CORPUS}PATH"
    if not isinstance(vocabulary, list):
        kind = document["model"].get("type") or "this"
        raise InputError("tokens", name, f"a {kind} model holds no frequencies; {add}")
    try:
        scores = np.array([score for _, score in vocabulary], dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("tokens", name, "must hold a piece and a score for each type") from None
    pieces = [piece for piece, _ in vocabulary]
    special = {one["content"] for one in document.get("added_tokens") or () if one.get("special")}
    control = np.array([piece in special for piece in pieces]) | (scores >= 0)
    unknown = document["model"].get("unk_id")
    if unknown is not None:
        control[unknown] = True
    ordinary = scores[~control]
    if not ordinary.size or not np.all(np.isfinite(ordinary)):
        raise InputError("tokens", name, f"its scores are no log frequencies; {add}")
    steps = np.diff(np.sort(ordinary))
    if len(ordinary) > 2 and np.all(steps == 1):
        raise InputError("tokens", name, f"its scores are ranks, no log frequencies; {add}")
    shares = np.where(control, 0.0, np.exp(np.where(control, 0.0, scores)))
    known = set(pieces)
    added = sum(one["content"] not in known for one in document.get("added_tokens") or ())
    return np.sort(np.concatenate([shares, np.zeros(added)]))[::-1]


def _in_texts(file: str, text: str, path: str) -> tuple[Floats, tuple[str, ...]]:
    """How often the texts of `path` hold each type."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises no narrower class
        reason = str(error).splitlines()[0]
        raise InputError("tokens", f"tokenizer:{file}", f"cannot be used ({reason})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = read_texts(Path(path))
    documents, cut = cut_runs(texts.documents)
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    counts = np.zeros(size)
    for chunk in _chunks(documents):
        for encoding in tokenizer.encode_batch_fast(chunk, add_special_tokens=False):
            counts += np.bincount(np.asarray(encoding.ids, dtype=np.int64), minlength=size)
    if not counts.sum():
        raise InputError("tokens", f"corpus:{path}", "holds no token of this tokenizer")
    occur = int(np.count_nonzero(counts))
    told = f"{int(counts.sum())} tokens counted; {occur} of {size} types occur"
    return np.sort(counts)[::-1], (*texts.notes, *cut, told)


def _chunks(documents: Sequence[str]) -> Iterator[list[str]]:
    left = iter(documents)
    while chunk := list(islice(left, CHUNK)):
        yield chunk
