"""Detect the encoding of a text file. A byte order mark or valid UTF-8 is evidence; everything else is a guess."""

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

from empu.data.formats import letters
from empu.data.rows import DataError
from empu.errors import UsageError

SUPPORTED = "CSV, TSV, JSON, JSONL, Parquet or XLSX"
CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
SAMPLE_BYTES = 64 << 10
"""Bytes of lines that are not ASCII from which a legacy encoding is guessed."""
MIN_LATIN_SCORE = 0.7
"""A sparse text of this score is read as Windows-1252 if nothing else fits better."""

BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """``name`` is Python's name of the codec; ``why`` is the evidence; ``mixed`` says that some bytes do not fit."""

    name: str
    why: str
    mixed: bool = False


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file's bytes, decompressed if it is gzip. Raises :class:`~empu.data.rows.DataError`."""
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == GZIP_MAGIC
        with gzip.open(path, "rb") if is_gzip else path.open("rb") as stream:
            yield stream  # type: ignore[misc]
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); copy it again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check its name and rights.") from error


@contextmanager
def open_text(path: Path, encoding: Encoding) -> Iterator[TextIO]:
    """Open a file's text with its line ends as they are.

    Bytes that do not fit become lone surrogates (UTF-8) or U+FFFD, and the rows that hold them are excluded.
    """
    with open_bytes(path) as stream:
        errors = "surrogateescape" if encoding.name.startswith("utf-8") else "replace"
        yield io.TextIOWrapper(stream, encoding=encoding.name, errors=errors, newline="")


def named_encoding(name: str) -> Encoding:
    """Return the encoding that the user names. Raises :class:`~empu.errors.UsageError` for an unknown one."""
    try:
        codec = codecs.lookup(name)
        if not getattr(codec, "_is_text_encoding", True):
            raise LookupError(name)
    except (LookupError, ValueError):
        raise UsageError(
            f"--encoding is {name!r}, which is unknown; give a name such as utf-8, cp1252, cp1251, gb18030, big5, "
            "shift_jis or euc_kr."
        ) from None
    return Encoding(codec.name, "as requested")


def detect_encoding(path: Path) -> Encoding:
    """Read the whole file once and return its encoding.

    Raises :class:`~empu.data.rows.DataError` if only a poor guess is possible.
    """
    with open_bytes(path) as stream:
        start = stream.read(4096)
        for mark, name in BOMS:
            if start.startswith(mark):
                return _check_bom(path, name)
        if b"\0" in start and (guess := _guess_utf16(start)):
            return guess
        if b"\0" in start and sum(byte < 32 and byte not in b"\t\r\n\f" for byte in start) * 10 > len(start):
            raise DataError(f"{path} is not a text file; give a {SUPPORTED} file.")
    if _is_utf8(path):
        return Encoding("utf-8", "every byte is valid UTF-8")
    return _guess_legacy(path)


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_bytes(path) as stream:
        try:
            while chunk := stream.read(CHUNK_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _check_bom(path: Path, name: str) -> Encoding:
    if name != "utf-8-sig":
        return Encoding(name, "it begins with a byte order mark")
    if not _is_utf8(path):
        return Encoding(name, "it begins with a byte order mark, but some bytes are not UTF-8", mixed=True)
    return Encoding(name, "it begins with a byte order mark and every byte is valid UTF-8")


def _guess_utf16(start: bytes) -> Encoding | None:
    """UTF-16 without a mark: every other byte is often zero, or the text is plausible only when it is read so."""
    half = max(1, len(start) // 2)
    even, odd = start[0::2].count(0) / half, start[1::2].count(0) / half
    if odd > 0.3 and even < 0.05:
        return Encoding("utf-16-le", "a guess: every second byte is zero")
    if even > 0.3 and odd < 0.05:
        return Encoding("utf-16-be", "a guess: every first byte is zero")
    for name in ("utf-16-le", "utf-16-be"):
        try:
            text = start[: len(start) // 2 * 2].decode(name)
        except UnicodeDecodeError:
            continue
        if ("\n" in text or "\r" in text) and sum(char.isalpha() or char.isspace() for char in text) > 0.7 * len(text):
            return Encoding(name, "a guess: its characters are letters when they are read so")
    return None


def _guess_legacy(path: Path) -> Encoding:
    """A file that is not UTF-8 throughout: mostly UTF-8 with damaged lines, or a legacy encoding."""
    valid = invalid = 0
    sample = bytearray()
    with open_bytes(path) as stream:
        for line in stream:
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                valid += 1
            except UnicodeDecodeError:
                invalid += 1
                if len(sample) < SAMPLE_BYTES:
                    sample += line[:SAMPLE_BYTES]
    if valid > invalid:
        return Encoding("utf-8", f"most lines are valid UTF-8; the {invalid} others are excluded", mixed=True)
    guess = letters.best_guess(bytes(sample))
    if guess is not None:
        return Encoding(guess.encoding, f"a guess by its letters, {guess.language}; --encoding names another")
    ranked = [g for g in letters.guesses(bytes(sample)) if g.encoding in ("cp1252", "latin-1")]
    if ranked and ranked[0].score >= MIN_LATIN_SCORE:
        return Encoding(ranked[0].encoding, "a guess: it is not UTF-8; --encoding names another")
    raise DataError(
        f"{path} is not UTF-8, and its encoding cannot be told from its letters; name it with --encoding, such as "
        "--encoding cp1252, cp1251, gb18030, big5, shift_jis or euc_kr."
    )
