"""Baselines for classification: logistic regression on TF-IDF features, or on frozen text embeddings."""

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

TIMED_INPUTS = 20
"""Number of inputs that are predicted one by one to measure latency."""


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """Predicted labels of the test rows, and their cost."""

    name: str
    answers: list[str]
    fit_s: float
    ms_per_answer: float
    size_bytes: int


def tfidf_logistic(train: Sequence[tuple[str, str]], questions: Sequence[str], *, seed: int = 0) -> BaselineResult:
    """Classify with logistic regression on TF-IDF of word 1- and 2-grams and character 2- to 5-grams.

    ``train`` holds (text, label). Raises :class:`MissingDependencyError` without scikit-learn.
    """
    require_sklearn()
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    has_words = any(map(words.build_analyzer(), (text for text, _ in train)))  # words of two characters or more
    features = make_union(words, characters) if has_words else characters
    model = make_pipeline(features, LogisticRegression(C=10.0, max_iter=1000, random_state=seed))
    start = time.perf_counter()
    model.fit([text for text, _ in train], [label for _, label in train])
    fit_s = time.perf_counter() - start
    answers = [str(label) for label in model.predict(list(questions))]
    return BaselineResult(
        "TF-IDF + logistic regression",
        answers,
        fit_s,
        median_latency_ms(lambda text: model.predict([text]), questions),
        len(pickle.dumps(model)),
    )


def embedding_logistic(
    train: Sequence[tuple[str, str]], questions: Sequence[str], encoder: Encoder, *, seed: int = 0
) -> BaselineResult:
    """Classify with logistic regression on embeddings by a frozen encoder. Texts beyond its context are truncated.

    ``train`` holds (text, label). Raises :class:`MissingDependencyError` without scikit-learn.
    """
    require_sklearn()
    from sklearn.linear_model import LogisticRegression

    def vectors(texts: Sequence[str]) -> np.ndarray:
        ids = [encoder.encode(text) for text in texts]
        limit = encoder.config.context_length
        truncated = [tokens if len(tokens) <= limit else [*tokens[: limit - 1], tokens[-1]] for tokens in ids]
        return np.stack([embedding.vector for embedding in encoder.embed_ids(truncated)])

    model = LogisticRegression(C=10.0, max_iter=1000, random_state=seed)
    start = time.perf_counter()
    model.fit(vectors([text for text, _ in train]), [label for _, label in train])
    fit_s = time.perf_counter() - start
    answers = [str(label) for label in model.predict(vectors(questions))]
    return BaselineResult(
        "frozen embeddings + logistic regression",
        answers,
        fit_s,
        median_latency_ms(lambda text: model.predict(vectors([text])), questions),
        len(pickle.dumps(model)) + encoder.size_bytes,
    )


def median_latency_ms(predict: Callable[[T], object], inputs: Sequence[T]) -> float:
    """Return the median time of one prediction, in ms, with one input at a time."""
    times = []
    for item in inputs[:TIMED_INPUTS]:
        start = time.perf_counter()
        predict(item)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def require_sklearn() -> None:
    """Raise :class:`MissingDependencyError` if scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "The baselines need scikit-learn, which is not installed; install it with: pip install 'empu[tune]'."
        ) from error
