"""Linear classifier on TF-IDF of words (1- and 2-grams) and characters (2- to 5-grams within words).

The features are those of scikit-learn's ``TfidfVectorizer`` with ``sublinear_tf``, computed without it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from empu.members.member import TFIDF, FloatArray, LinearLayer

WORD_NGRAMS, CHARACTER_NGRAMS = (1, 2), (2, 5)
_WORD = re.compile(r"(?u)\b\w\w+\b")


def word_terms(text: str) -> Iterator[str]:
    """Yield the words of two characters or more, and each pair of neighbours."""
    words = _WORD.findall(text.lower())
    yield from words
    yield from (f"{first} {second}" for first, second in itertools.pairwise(words))


def character_terms(text: str) -> Iterator[str]:
    """Yield the n-grams of each word with a space on both sides. A word shorter than n counts once, for the first n."""
    low, high = CHARACTER_NGRAMS
    for word in text.lower().split():
        padded = f" {word} "
        for n in range(low, high + 1):
            yield from (padded[i : i + n] for i in range(max(1, len(padded) - n + 1)))
            if len(padded) <= n:
                break


class TfidfFeatures:
    """Vocabulary with inverse document frequencies: the terms of words first, then those of characters."""

    def __init__(self, words: Sequence[str], characters: Sequence[str], idf: npt.NDArray[np.float32]) -> None:
        self.words, self.characters, self.idf = tuple(words), tuple(characters), idf
        self._word_index = {term: i for i, term in enumerate(self.words)}
        self._character_index = {term: len(self.words) + i for i, term in enumerate(self.characters)}

    def __call__(self, text: str) -> tuple[npt.NDArray[np.int64], FloatArray]:
        """Return (indices, values) of the non-zero features. The two halves have length one each."""
        parts = (
            self._part(word_terms(text), self._word_index),
            self._part(character_terms(text), self._character_index),
        )
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _part(self, terms: Iterator[str], index: dict[str, int]) -> tuple[npt.NDArray[np.int64], FloatArray]:
        counts = Counter(index[term] for term in terms if term in index)
        indices = np.array(sorted(counts), dtype=np.int64)
        frequencies = np.array([counts[i] for i in sorted(counts)], dtype=np.float64)
        values: FloatArray = (1 + np.log(frequencies)) * self.idf[indices].astype(np.float64)
        norm = float(np.sqrt(np.square(values).sum()))
        return indices, values / norm if norm else values


class TfidfMember:
    """Member on TF-IDF features."""

    name = TFIDF

    def __init__(self, features: TfidfFeatures, layer: LinearLayer) -> None:
        self.features, self.layer = features, layer

    def log_probabilities(self, texts: Sequence[str]) -> FloatArray:
        return np.stack([self.layer(*self.features(text)) for text in texts])

    def settings(self) -> dict[str, Any]:
        return {"words": len(self.features.words), "characters": len(self.features.characters)}

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        return {"idf": self.features.idf, "weight": self.layer.weight, "bias": self.layer.bias}

    @property
    def size_bytes(self) -> int:
        terms = (*self.features.words, *self.features.characters)
        return sum(len(term) + 1 for term in terms) + sum(array.nbytes for array in self.tensors().values())
