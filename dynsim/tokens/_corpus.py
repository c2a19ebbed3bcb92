"""Real token statistics: a byte-level BPE trained on text, cached by content."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError
from dynsim._files import read_file, sealed, unsealed, write_file
from dynsim._machine import free_bytes
from dynsim._summary import summary

from ._texts import cut_runs, read_texts
from ._unfilled import unfilled

BYTE_ALPHABET = 256
_NOT_LIBRARY_TEXT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
_TOKENISING = Lock()  # cells of a study that ask for the same text at once get it from one pass


@dataclass(frozen=True, eq=False)
class CorpusTokens:
    """A tokenised text; token ids are frequency ranks (0 the most frequent).

    **Fields:**

    - `stream`: the text as token ids, uint32 of shape (tokens,), documents one after another.
    - `vocab_size`: number of types m, some of which may not occur.
    - `notes`: what of the text was left out or cut, and why.
    """

    stream: NDArray[np.uint32]
    vocab_size: int
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return summary("Corpus tokens", vocab_size=self.vocab_size, tokens=len(self.stream))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How often each type occurs, shape (vocab_size,), non-increasing."""
        return np.bincount(self.stream, minlength=self.vocab_size)

    def next_token_frequencies(self, outputs: int) -> NDArray[np.float64]:
        """P(next token | token) over `outputs` classes, shape (vocab_size, outputs).

        Class k < outputs - 1 is the k-th most frequent token, the last class is every other
        token; with outputs = vocab_size the classes are the tokens. A type that never occurs
        (or only at the very end) gets the overall frequencies.
        """
        context = self.stream[:-1].astype(np.int64)
        following = np.minimum(self.stream[1:], outputs - 1).astype(np.int64)
        pairs = np.bincount(context * outputs + following, minlength=self.vocab_size * outputs)
        table = pairs.reshape(self.vocab_size, outputs).astype(np.float64)
        total = table.sum(axis=1, keepdims=True)
        return np.where(total > 0, table / np.maximum(total, 1), table.sum(axis=0) / total.sum())


def corpus_tokens(path: str | None, vocab_size: int) -> CorpusTokens:
    """Tokens of the text at `path` (default: the running Python's standard library).

    The tokeniser is a byte-level byte-pair encoding of `vocab_size` types, trained on that same
    text; runs of more than 200 letters or signs are cut. The result is cached under the user's
    cache folder by the text's content, so a second call is quick and a changed text is never
    mistaken for the old one.

    Raises `InputError` for a vocabulary below the 256 bytes or beyond what the text can fill,
    and for a path without readable text.

    **Example:**

    >>> from pathlib import Path
    >>> from dynsim.tokens import corpus_tokens
    >>> _ = Path("text.txt").write_text("one two three two one " * 200, encoding="utf-8")
    >>> tokens = corpus_tokens("text.txt", 260)
    >>> tokens.vocab_size, int(tokens.counts.sum()) == len(tokens.stream)
    (260, True)
    """
    if vocab_size < BYTE_ALPHABET:
        raise InputError(
            "vocab_size",
            vocab_size,
            f"must be at least {BYTE_ALPHABET}, the byte alphabet, for a corpus",
        )
    if path is None:
        return _library_tokens(vocab_size)
    texts = read_texts(Path(path))
    documents, cut = cut_runs(texts.documents)
    return replace(_tokens(documents, vocab_size), notes=texts.notes + cut)


@lru_cache(maxsize=8)
def _library_tokens(vocab_size: int) -> CorpusTokens:
    return _tokens(_standard_library(), vocab_size)


def _tokens(documents: Sequence[str], vocab_size: int) -> CorpusTokens:
    """Tokens of the documents, from the cache folder if they were tokenised before."""
    key = hashlib.sha256()
    for document in documents:
        key.update(hashlib.sha256(document.encode()).digest())
    cached = cache_folder() / f"bpe-{key.hexdigest()[:32]}-{vocab_size}-{_tokenizers_version()}.npy"
    with _TOKENISING:
        stream = _kept(cached)
        if stream is None:
            stream = _tokenise(documents, vocab_size)
            _save(cached, stream)
    return CorpusTokens(stream, vocab_size)


def cache_folder() -> Path:
    """Where tokenised texts are kept: `DYNSIM_CACHE` or the platform's cache folder."""
    import platformdirs

    return Path(os.environ.get("DYNSIM_CACHE") or platformdirs.user_cache_dir("dynsim"))


def _tokenizers_version() -> str:
    import tokenizers

    return tokenizers.__version__


@lru_cache(maxsize=1)
def _standard_library() -> tuple[str, ...]:
    root = Path(sysconfig.get_paths()["stdlib"])
    return tuple(
        file.read_text(encoding="utf-8", errors="replace")
        for file in sorted(root.rglob("*.py"))
        if not _NOT_LIBRARY_TEXT & set(file.relative_to(root).parts)
    )


def _tokenise(documents: Sequence[str], vocab_size: int) -> NDArray[np.uint32]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    reached = tokenizer.get_vocab_size()
    if reached < vocab_size:
        raise unfilled(
            vocab_size,
            reached,
            f"must be at most {reached}, all that byte-pair merges of this corpus can fill (more "
            "text fills more)",
        )
    encodings = tokenizer.encode_batch_fast(documents)
    ids = np.concatenate([np.asarray(encoding.ids, dtype=np.uint32) for encoding in encodings])
    if len(ids) < 2:
        raise InputError("tokens", "corpus", "the text must hold at least two tokens")
    order = np.argsort(-np.bincount(ids, minlength=vocab_size), kind="stable")
    rank = np.empty(vocab_size, dtype=np.uint32)
    rank[order] = np.arange(vocab_size, dtype=np.uint32)
    return rank[ids]


def _kept(path: Path) -> NDArray[np.uint32] | None:
    """The stream that was kept at `path`; None without one, or if it is damaged."""
    try:
        content = unsealed(read_file(path, free_bytes()))
    except OSError:
        return None
    name, _, stream = (content or b"").partition(b"\n")
    if name != path.name.encode():
        return None  # what another text or vocabulary was kept as
    return np.load(io.BytesIO(stream), allow_pickle=False)


def _save(path: Path, stream: NDArray[np.uint32]) -> None:
    """Keep `stream` at `path` in one move; a folder that cannot be written only costs time."""
    content = io.BytesIO()
    content.write(f"{path.name}\n".encode())
    np.save(content, stream)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, sealed(content.getvalue()))
