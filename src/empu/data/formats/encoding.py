"""Which encoding a text file is in. A byte order mark or valid UTF-8 is evidence; all else is called a guess."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from empu.data.rows import DataError

CHUNK = 1 << 20
GZIP = b"\x1f\x8b"

BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True)
class Encoding:
    """``name`` as Python calls it; ``why`` says what spoke for it; ``mixed`` where some bytes do not fit."""

    name: str
    why: str
    mixed: bool = False


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked when it is gzip. Raises :class:`~empu.data.rows.DataError`."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            yield stream  # type: ignore[misc]
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); copy it again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check its name and rights.") from error


@contextmanager
def open_text(path: Path, encoding: Encoding) -> Iterator[TextIO]:
    """The file's text with its line ends as they are. Bytes that do not fit become lone surrogates, for the reader
    of rows to refuse one by one."""
    with open_bytes(path) as stream:
        errors = "surrogateescape" if encoding.name.startswith("utf-8") else "replace"
        yield io.TextIOWrapper(stream, encoding=encoding.name, errors=errors, newline="")


def detect(path: Path) -> Encoding:
    """Read the whole file once and say its encoding."""
    with open_bytes(path) as stream:
        start = stream.read(4096)
        for mark, name in BOMS:
            if start.startswith(mark):
                return _checked_bom(path, name)
        if b"\0" in start and (guess := _utf16(start)):
            return guess
    with open_bytes(path) as stream:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while chunk := stream.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            pass
        else:
            return Encoding("utf-8", "every byte is valid UTF-8")
    return _eight_bits(path)


def _checked_bom(path: Path, name: str) -> Encoding:
    if name == "utf-16":
        return Encoding(name, "it begins with a byte order mark")
    with open_bytes(path) as stream:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while chunk := stream.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return Encoding(name, "it begins with a byte order mark, but some bytes are not UTF-8", mixed=True)
    return Encoding(name, "it begins with a byte order mark and every byte is valid UTF-8")


def _utf16(start: bytes) -> Encoding | None:
    """UTF-16 without a mark: in most scripts that tables are written in, every other byte is often zero."""
    even, odd = start[0::2].count(0), start[1::2].count(0)
    half = max(1, len(start) // 2)
    if odd / half > 0.3 and even / half < 0.05:
        return Encoding("utf-16-le", "a guess: every second byte is zero")
    if even / half > 0.3 and odd / half < 0.05:
        return Encoding("utf-16-be", "a guess: every first byte is zero")
    return None


def _eight_bits(path: Path) -> Encoding:
    """A file that is not UTF-8 throughout: mostly UTF-8 with stray lines, or one of the old Western encodings."""
    good = bad = 0
    undefined = False
    with open_bytes(path) as stream:
        for line in stream:
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                good += 1
            except UnicodeDecodeError:
                bad += 1
                undefined = undefined or any(byte in line for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D))
    if good > bad:
        return Encoding("utf-8", f"most lines are valid UTF-8; those that are not ({bad}) are left out", mixed=True)
    if undefined:
        return Encoding("latin-1", "a guess: it is neither UTF-8 nor Windows-1252")
    return Encoding("cp1252", "a guess: it is not UTF-8 and every byte exists in Windows-1252")
