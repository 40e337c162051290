"""What a plain model does with the same rows: a linear classifier on counted words and letters, or on embeddings."""

from __future__ import annotations

import pickle
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from empu.embed.encoder import Encoder
from empu.errors import MissingDependencyError

T = TypeVar("T")


TIMED = 20
"""Questions that are asked one by one for the time of an answer."""


def ms_of_one(ask: Callable[[T], object], questions: Sequence[T]) -> float:
    """The median time of an answer, asked for by itself, in ms."""
    times = []
    for question in questions[:TIMED]:
        begun = time.perf_counter()
        ask(question)
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """Answers to the test rows and what they cost."""

    name: str
    answers: list[str]
    fit_s: float
    ms_per_answer: float
    size_bytes: int


def tfidf_logistic(train: Sequence[tuple[str, str]], questions: Sequence[str], *, seed: int = 0) -> BaselineResult:
    """TF-IDF of words (1 and 2) and of letters (2 to 5), then logistic regression: a strong, cheap classifier.

    ``train`` holds (text, label). Raises :class:`MissingDependencyError` without scikit-learn.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline, make_union
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "The linear baseline needs scikit-learn, which is not installed; install it with: pip install 'empu[tune]'."
        ) from error
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    has_words = any(map(words.build_analyzer(), (text for text, _ in train)))  # of two letters or more
    counted = make_union(words, letters) if has_words else letters
    model = make_pipeline(counted, LogisticRegression(C=10.0, max_iter=1000, random_state=seed))
    begun = time.perf_counter()
    model.fit([text for text, _ in train], [label for _, label in train])
    fitted = time.perf_counter()
    answers = [str(label) for label in model.predict(list(questions))]
    return BaselineResult(
        "TF-IDF + logistic regression",
        answers,
        fitted - begun,
        ms_of_one(lambda text: model.predict([text]), questions),
        len(pickle.dumps(model)),
    )


def embedding_logistic(
    train: Sequence[tuple[str, str]], questions: Sequence[str], encoder: Encoder, *, seed: int = 0
) -> BaselineResult:
    """A frozen encoder's vectors, then logistic regression. Texts beyond the encoder's context are cut.

    ``train`` holds (text, label). Raises :class:`MissingDependencyError` without scikit-learn.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "The linear baseline needs scikit-learn, which is not installed; install it with: pip install 'empu[tune]'."
        ) from error

    def vectors(texts: Sequence[str]) -> np.ndarray:
        ids = [encoder.encode(text) for text in texts]
        longest = encoder.shape.context
        cut = [one if len(one) <= longest else [*one[: longest - 1], one[-1]] for one in ids]
        return np.stack([found.vector for found in encoder.embed_ids(cut)])

    model = LogisticRegression(C=10.0, max_iter=1000, random_state=seed)
    begun = time.perf_counter()
    model.fit(vectors([text for text, _ in train]), [label for _, label in train])
    fitted = time.perf_counter()
    answers = [str(label) for label in model.predict(vectors(questions))]
    return BaselineResult(
        "frozen embeddings + logistic regression",
        answers,
        fitted - begun,
        ms_of_one(lambda text: model.predict(vectors([text])), questions),
        len(pickle.dumps(model)) + encoder.size_bytes,
    )
