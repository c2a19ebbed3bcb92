"""Texts as people have them: compressed or not, in any encoding that can be told."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import unicodedata
import zlib
from pathlib import Path
from typing import Any

from ._files import most_bytes, read_file

ZSTD = b"\x28\xb5\x2f\xfd"
MARKS = (  # byte-order marks, the longer first
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
PACKED = (  # how a compressed file begins, and what reads it
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)
SAMPLE = 4096  # bytes that tell UTF-16 without a mark
MOSTLY_ZERO, HARDLY_ZERO = 0.3, 0.05  # shares of zeros among its high and its low bytes
WRONG = ("Cc", "Cf", "Cn", "Co")  # controls, marks, and what has no meaning
MOST_WRONG = 0.05


class NotText(ValueError):
    """Bytes that are no text in an encoding that can be told; the message says why."""


def unpacked(path: Path) -> bytes:
    """The content of a file, decompressed if it begins as gzip, bzip2, xz or zstd files do.

    Raises `OSError` for a file that cannot be read, `ValueError` for one that is damaged or whose
    format needs a package that is missing.
    """
    data = read_file(path)
    try:
        for start, opened in PACKED:
            if data.startswith(start):
                return _bounded(opened(io.BytesIO(data)))
        if data.startswith(ZSTD):
            return _zstd_unpacked(data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"the compressed file is damaged: {error}") from None
    return data


def _bounded(stream: Any) -> bytes:
    """What a stream holds. Raises `ValueError` for more than fits the memory."""
    most = most_bytes()
    data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it unpacks to more than the {most / 2**30:.2g} GiB that fit the memory")
    return data


def _zstd_unpacked(data: bytes) -> bytes:
    """By whichever package can: the standard library from Python 3.14 on, zstandard, or pyarrow."""
    for way in (_by_standard_library, _by_zstandard, _by_pyarrow):
        try:
            return way(data)
        except ImportError:
            continue
    raise ValueError("needs a package to read zstd: pip install zstandard")


def _by_standard_library(data: bytes) -> bytes:
    from compression import zstd  # type: ignore[import-not-found]

    return _bounded(zstd.ZstdFile(io.BytesIO(data)))


def _by_zstandard(data: bytes) -> bytes:
    import zstandard  # type: ignore[import-not-found]

    reader = zstandard.ZstdDecompressor().stream_reader
    return _bounded(reader(io.BytesIO(data), read_across_frames=True))


def _by_pyarrow(data: bytes) -> bytes:
    import pyarrow  # type: ignore[import-not-found]

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd") as stream:
        return _bounded(stream)


def json_document(text: str) -> Any:
    """The JSON document of a text. Raises `ValueError` for none, also where it is nested without
    end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", text, 0) from None


def decoded(data: bytes, encoding: str | None = None) -> str:
    """The text of bytes in `encoding`, or in one that can be told.

    That is UTF-8, UTF-16 or UTF-32 with a byte-order mark, or UTF-8 or UTF-16 without one. A mark
    is no part of the text. Raises `NotText` for everything else and `LookupError` for an encoding
    that does not exist.
    """
    try:
        if encoding is not None:
            return data.decode(encoding).removeprefix("\ufeff")
        for mark, marked in MARKS:
            if data.startswith(mark):
                return _plausible(data.decode(marked))
        if b"\0" in data[:SAMPLE]:
            return _plausible(data.decode(_wide(data)))
        return data.decode("utf-8")
    except UnicodeDecodeError:
        named = encoding or "UTF-8 or UTF-16"
        raise NotText(f"not {named} text") from None


def _plausible(text: str) -> str:
    """The text. Raises `NotText` for one full of controls and marks, as decoded binaries are."""
    sample = text[:SAMPLE]
    wrong = sum(unicodedata.category(one) in WRONG and one not in "\t\n\r\f" for one in sample)
    if wrong > MOST_WRONG * len(sample):
        raise NotText("binary data")
    return text


def _wide(data: bytes) -> str:
    """UTF-16 of one byte order, by where its zeros are. Raises `NotText` for zeros elsewhere."""
    sample = data[:SAMPLE]
    even, odd = (sample[first::2].count(0) / max(len(sample[first::2]), 1) for first in (0, 1))
    if odd > MOSTLY_ZERO and even < HARDLY_ZERO:
        return "utf-16-le"
    if even > MOSTLY_ZERO and odd < HARDLY_ZERO:
        return "utf-16-be"
    raise NotText("binary data")
