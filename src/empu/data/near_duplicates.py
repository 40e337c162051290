"""Near-duplicates: texts that share most of their four-character pieces.

MinHash signatures (Broder 1997) come from the library rensa and wait in a temporary file; candidates share a band of
their signature (locality-sensitive hashing), and a candidate counts when the signatures agree in enough places.
With 21 bands of 6, a pair of Jaccard similarity 0.8 is found with probability 0.998, and one of 0.9 always but for 1
in 10 million; the estimate that decides has a standard error of 0.036 at 0.8.
"""

from __future__ import annotations

import importlib
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from empu.errors import MissingDependencyError

BANDS, BAND_ROWS = 21, 6
PLACES = BANDS * BAND_ROWS
PIECE = 4
SEED = 20_240_418
BATCH = 2048
ALL_PAIRS = 24
"""Up to so many candidates are compared each with each; of more, each with the first and with its neighbour."""

PIECES = 200_000
"""That many wait before signatures are made, long texts or not."""

_NOT_WORD = re.compile(r"[\W_]")
_SPACES = re.compile(r" {2,}")

Ints = NDArray[np.int64]


def normal(text: str) -> str:
    """A text without case, punctuation and spacing: what "the same wording" compares. Marks of letters, symbols and
    signs that change the meaning stay.
    """
    return _SPACES.sub(" ", _NOT_WORD.sub(_kept, unicodedata.normalize("NFC", text.casefold()))).strip()


def _kept(found: re.Match[str]) -> str:
    sign = found[0]
    if sign == "-":  # of a number, not between words
        number = found.string[found.end() : found.end() + 1].isdigit()
        return sign if number and not found.string[found.start() - 1 : found.start()].isalnum() else " "
    return sign if _means_something(sign) else " "


@lru_cache(maxsize=4096)
def _means_something(sign: str) -> bool:
    return sign in "#%" or unicodedata.category(sign)[0] in "MS"


def pieces(text: str) -> list[str]:
    """The different pieces of a normalised text."""
    return list({text[start : start + PIECE] for start in range(max(1, len(text) - PIECE + 1))})


class Signatures:
    """Collects a signature for each text that is added, in a file without a name. Close it."""

    def __init__(self) -> None:
        """Raises :class:`~empu.errors.MissingDependencyError` without the library rensa."""
        try:
            self._make: Any = importlib.import_module("rensa").RMinHash.digests_from_token_sets
        except ImportError as error:
            raise MissingDependencyError(
                "Finding near-duplicates needs the library rensa, which is not installed; `pip install 'empu[tune]'` "
                "installs it."
            ) from error
        self._file = tempfile.TemporaryFile(prefix="empu-near-")  # noqa: SIM115 (closed by close)
        self._waiting: list[list[str]] = []
        self._pieces = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, text: str) -> None:
        """Add a normalised text; its number is the count before it."""
        self._waiting.append(pieces(text))
        self._pieces += len(self._waiting[-1])
        self._count += 1
        if len(self._waiting) >= BATCH or self._pieces >= PIECES:
            self._flush()
            self._pieces = 0

    def close(self) -> None:
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            digests = np.asarray(self._make(self._waiting, PLACES, SEED), dtype=np.uint32)
            self._file.write(digests.tobytes())
            self._waiting.clear()

    def pairs(self, threshold: float) -> Ints:
        """Pairs (i < j) of near-duplicates, each once: an array of two columns."""
        self._flush()
        self._file.flush()
        if not self._count:
            return np.empty((0, 2), dtype=np.int64)
        all_places: Any = np.memmap(self._file, dtype=np.uint32, mode="r", shape=(self._count, PLACES))
        found: list[Ints] = []
        for band in range(BANDS):
            places = np.ascontiguousarray(all_places[:, band * BAND_ROWS : (band + 1) * BAND_ROWS])
            for candidates in _batched(_candidates(_keys(places))):
                agree = (all_places[candidates[:, 0]] == all_places[candidates[:, 1]]).mean(axis=1)
                near = candidates[agree >= threshold]
                if len(near):
                    found.append(near)
        if not found:
            return np.empty((0, 2), dtype=np.int64)
        return np.unique(np.concatenate(found), axis=0)


def _keys(places: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """One number for each row of a band (a multiplicative hash; a collision only costs a comparison)."""
    keys = np.zeros(len(places), dtype=np.uint64)
    for column in range(places.shape[1]):
        keys = (keys ^ places[:, column].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def _candidates(keys: NDArray[np.uint64]) -> Iterator[Ints]:
    """Pairs of rows with the same key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.append(starts[1:], len(keys))
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        rows = order[start:end].astype(np.int64)
        if len(rows) <= ALL_PAIRS:
            first, second = np.triu_indices(len(rows), k=1)
            yield np.stack([rows[first], rows[second]], axis=1)
        else:
            yield np.stack([np.full(len(rows) - 1, rows[0]), rows[1:]], axis=1)
            yield np.stack([rows[1:-1], rows[2:]], axis=1)


def _batched(pairs: Iterator[Ints]) -> Iterator[Ints]:
    """Small arrays together, large ones apart, so that comparing them takes few calls and little memory."""
    waiting: list[Ints] = []
    count = 0
    for some in pairs:
        waiting.append(some)
        count += len(some)
        if count >= 4 * BATCH:
            joined = np.concatenate(waiting)
            yield from np.array_split(joined, max(1, len(joined) // (8 * BATCH)))
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)


def clusters(count: int, pairs: Ints) -> Ints:
    """For each of ``count`` rows the smallest row that it is linked with, directly or over others."""
    parent = np.arange(count, dtype=np.int64)
    links = pairs
    while len(links):
        roots = parent[links]
        low, high = roots.min(axis=1), roots.max(axis=1)
        open_ = low != high
        if not open_.any():
            break
        np.minimum.at(parent, high[open_], low[open_])
        while not np.array_equal(parent, parent[parent]):
            parent = parent[parent]
        links = links[open_]
    return parent
