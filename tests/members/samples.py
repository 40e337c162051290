"""Labelled texts, a small encoder, and language models whose answers are known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from empu.engine.language_model import LanguageModel
from empu.text.task import Task

LABELS = ("delivery", "refund", "tool")
TEXTS = [f"I want my money back for order {i}, kak" for i in range(20)]
TEXTS += [f"the parcel number {i} never arrived; it's l8 & naïve" for i in range(20)]
TEXTS += [f"Bor listrik saya rusak {i} kali, tolong  diganti\tya" for i in range(20)]
TARGETS = np.array([1] * 20 + [0] * 20 + [2] * 20)
ODD_TEXTS = ["", " ", "a", "é", "?!", "kak kak kak", "日本語の文", "x" * 300, "İstanbul ẞ"]


class HashEncoder:
    """Vectors from the words of a text."""

    def __init__(self, encoder_id: str = "hash@1") -> None:
        self.id = encoder_id

    def encode_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> npt.NDArray[np.float32]:
        total = np.zeros(24)
        for word in text.lower().split() or [""]:
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
            total += np.random.default_rng(seed).standard_normal(24)
        return (total / np.linalg.norm(total)).astype(np.float32)


class ScriptedModel:
    """Stands in for a language model: a distribution for each text, and a count of the texts that it was asked."""

    def __init__(self, distributions: dict[str, Sequence[float]]) -> None:
        self.task = Task("label", "Name the category.", LABELS)
        self.asked: list[str] = []
        self._distributions = distributions

    def label_distributions(self, texts: Sequence[str]) -> Iterator[npt.NDArray[np.float64]]:
        for text in texts:
            self.asked.append(text)
            yield np.array(self._distributions.get(text, [1 / len(LABELS)] * len(LABELS)))


def as_language_model(model: Any) -> LanguageModel:
    return cast("LanguageModel", model)
