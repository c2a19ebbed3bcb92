"""Texts as people have them: compressed or not, in any encoding that can be told."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import unicodedata
import zlib
from pathlib import Path

ZSTD = b"\x28\xb5\x2f\xfd"
MARKS = (  # byte-order marks, the longer first
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
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
    data = path.read_bytes()
    try:
        if data.startswith(b"\x1f\x8b"):
            return gzip.decompress(data)
        if data.startswith(b"BZh"):
            return bz2.decompress(data)
        if data.startswith(b"\xfd7zXZ\x00"):
            return lzma.decompress(data)
        if data.startswith(ZSTD):
            return _zstd_unpacked(data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"the compressed file is damaged: {error}") from None
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

    return zstd.decompress(data)


def _by_zstandard(data: bytes) -> bytes:
    import zstandard  # type: ignore[import-not-found]

    return (
        zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    )


def _by_pyarrow(data: bytes) -> bytes:
    import pyarrow  # type: ignore[import-not-found]

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd") as stream:
        return stream.read()


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
