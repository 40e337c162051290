"""Find near-duplicates: texts that share most of their character shingles.

MinHash signatures (Broder 1997) come from the library rensa and are kept in a temporary file. Candidate pairs share a
band of their signatures (locality-sensitive hashing). A candidate counts if enough hashes of the signatures agree.
With 21 bands of 6, a pair of Jaccard similarity 0.8 is found with probability 0.998, and one of 0.9 with probability
1 - 1e-7. The similarity is estimated with a standard error of 0.036 at 0.8.
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
NUM_HASHES = BANDS * BAND_ROWS
SHINGLE_CHARS = 4
SEED = 20_240_418
BATCH_TEXTS = 2048
MAX_ALL_PAIRS = 24
"""Up to this many texts of one bucket are all compared with each other; of more, each with the first and the next."""

BATCH_SHINGLES = 200_000
"""Signatures are computed once this many shingles are waiting."""

_NOT_WORD = re.compile(r"[\W_]")
_WORD = re.compile(r"[^\W_]")
_SPACES = re.compile(r"\s+")
_SENTENCE_MARKS = frozenset(".,;:!?…·•\"'`´“”‘’„«»‹›()[]{}¡¿。、，！？；：「」『』（）")
_DASHES = frozenset("-–—‐‑‒―")

Ints = NDArray[np.int64]


def duplicate_text(text: str) -> str:
    """Return the text by which duplicates and contradictions are found: case and white space do not count."""
    return _SPACES.sub(" ", unicodedata.normalize("NFC", text.casefold())).strip()


def near_duplicate_text(text: str) -> str:
    """Return the text by which near-duplicates are found: case, white space and punctuation do not count.

    Symbols that carry meaning stay: combining marks, currency and mathematical signs, and words made of symbols
    alone, such as ``:)`` and ``*``.
    """
    words = unicodedata.normalize("NFC", text.casefold()).split()
    kept = (_strip_punctuation(word, words[i + 1] if i + 1 < len(words) else "") for i, word in enumerate(words))
    return _SPACES.sub(" ", " ".join(kept)).strip()


def _strip_punctuation(word: str, following: str) -> str:
    if _WORD.search(word):
        return _NOT_WORD.sub(_keep_symbol, word)
    if set(word) <= _SENTENCE_MARKS:
        return " "
    if set(word) <= _DASHES and not following[:1].isdigit():  # a dash between words, not a minus sign
        return " "
    return word


def _keep_symbol(match: re.Match[str]) -> str:
    symbol = match[0]
    if symbol == "-":  # the sign of a number, not a hyphen
        is_number = match.string[match.end() : match.end() + 1].isdigit()
        return symbol if is_number and not match.string[match.start() - 1 : match.start()].isalnum() else " "
    return symbol if _has_meaning(symbol) else " "


@lru_cache(maxsize=4096)
def _has_meaning(symbol: str) -> bool:
    return symbol in "#%" or unicodedata.category(symbol)[0] in "MS"


def shingles(text: str) -> list[str]:
    """Return the distinct character shingles of a text."""
    return list({text[start : start + SHINGLE_CHARS] for start in range(max(1, len(text) - SHINGLE_CHARS + 1))})


class MinHashSignatures:
    """MinHash signatures of texts, kept in a temporary file that ``close`` deletes."""

    def __init__(self) -> None:
        """Raise :class:`~empu.errors.MissingDependencyError` if the library rensa is not installed."""
        try:
            self._make: Any = importlib.import_module("rensa").RMinHash.digests_from_token_sets
        except ImportError as error:
            raise MissingDependencyError(
                "Finding near-duplicates needs the library rensa, which is not installed; `pip install 'empu[tune]'` "
                "installs it."
            ) from error
        self._file = tempfile.TemporaryFile(prefix="empu-near-")  # noqa: SIM115 (closed by `close`)
        self._waiting: list[list[str]] = []
        self._waiting_shingles = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, text: str) -> None:
        """Add a normalised text. Its index is the number of texts added before it."""
        self._waiting.append(shingles(text))
        self._waiting_shingles += len(self._waiting[-1])
        self._count += 1
        if len(self._waiting) >= BATCH_TEXTS or self._waiting_shingles >= BATCH_SHINGLES:
            self._flush()
            self._waiting_shingles = 0

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            digests = np.asarray(self._make(self._waiting, NUM_HASHES, SEED), dtype=np.uint32)
            self._file.write(digests.tobytes())
            self._waiting.clear()

    def pairs(self, threshold: float) -> Ints:
        """Return the pairs (i < j) of near-duplicates, each once: (pairs, 2)."""
        self._flush()
        self._file.flush()
        if not self._count:
            return np.empty((0, 2), dtype=np.int64)
        hashes: Any = np.memmap(self._file, dtype=np.uint32, mode="r", shape=(self._count, NUM_HASHES))
        near_pairs: list[Ints] = []
        for band in range(BANDS):
            band_hashes = np.ascontiguousarray(hashes[:, band * BAND_ROWS : (band + 1) * BAND_ROWS])
            for candidates in _batched(_candidates(_band_keys(band_hashes))):
                similarity = (hashes[candidates[:, 0]] == hashes[candidates[:, 1]]).mean(axis=1)
                near = candidates[similarity >= threshold]
                if len(near):
                    near_pairs.append(near)
        if not near_pairs:
            return np.empty((0, 2), dtype=np.int64)
        return np.unique(np.concatenate(near_pairs), axis=0)


def _band_keys(hashes: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Hash each row of a band to one number. A collision only costs a comparison."""
    keys = np.zeros(len(hashes), dtype=np.uint64)
    for column in range(hashes.shape[1]):
        keys = (keys ^ hashes[:, column].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def _candidates(keys: NDArray[np.uint64]) -> Iterator[Ints]:
    """Yield pairs of rows with the same key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.append(starts[1:], len(keys))
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        rows = order[start:end].astype(np.int64)
        if len(rows) <= MAX_ALL_PAIRS:
            first, second = np.triu_indices(len(rows), k=1)
            yield np.stack([rows[first], rows[second]], axis=1)
        else:
            yield np.stack([np.full(len(rows) - 1, rows[0]), rows[1:]], axis=1)
            yield np.stack([rows[1:-1], rows[2:]], axis=1)


def _batched(pairs: Iterator[Ints]) -> Iterator[Ints]:
    """Join small arrays and split large ones, so that comparing them takes few calls and little memory."""
    waiting: list[Ints] = []
    count = 0
    for array in pairs:
        waiting.append(array)
        count += len(array)
        if count >= 4 * BATCH_TEXTS:
            joined = np.concatenate(waiting)
            yield from np.array_split(joined, max(1, len(joined) // (8 * BATCH_TEXTS)))
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)


def clusters(count: int, pairs: Ints) -> Ints:
    """Return, for each of ``count`` rows, the smallest row of its connected component."""
    parent = np.arange(count, dtype=np.int64)
    links = pairs
    while len(links):
        roots = parent[links]
        low, high = roots.min(axis=1), roots.max(axis=1)
        changed = low != high
        if not changed.any():
            break
        np.minimum.at(parent, high[changed], low[changed])
        while not np.array_equal(parent, parent[parent]):
            parent = parent[parent]
        links = links[changed]
    return parent
