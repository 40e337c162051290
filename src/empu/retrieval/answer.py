"""Answers a question with sentences quoted from documents, or refuses when none answers it.

Every quotation is a byte range of a document's text, so it cannot be false in form. A sentence's score is its cosine to
the question, plus half the share of the question's words that it has (weighted by rarity), plus the cosine of its
passage. A logistic function of the best score, fitted for each encoder, says how likely the question has an answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from empu.retrieval.collection import Collection, StoredPassage
from empu.retrieval.search import Hit, TextEncoder, search
from empu.retrieval.sentences import Sentence, split_sentences

PASSAGES = 5
"""Passages whose sentences are scored."""
MAX_SENTENCES = 3
COVERAGE_WEIGHT, PASSAGE_WEIGHT = 0.5, 1.0
MARGIN = 0.2
"""A further sentence is quoted if its score is at most this much below the best one."""
MIN_CONFIDENCE = 0.5

CALIBRATIONS: Mapping[str, tuple[float, float]] = {
    "all-minilm-l6-v2": (4.64, -5.85),
    "multilingual-e5-small": (18.19, -33.97),
}
"""Encoder name -> (slope, intercept): confidence = 1 / (1 + exp(-(slope * score + intercept)))."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence of a document."""

    passage: StoredPassage
    start: int
    end: int
    """Byte range in the document's text."""
    text: str
    header: str | None
    """The header row, if the sentence is a row of a table."""
    score: float


@dataclass(frozen=True, slots=True)
class QuotedAnswer:
    """The quotations that answer a question, in the order of the documents' text."""

    quotes: tuple[Quote, ...]
    is_refused: bool
    """Whether the best quotation is too unlikely to answer the question; ``quotes`` then holds the closest ones."""
    confidence: float | None
    """Probability that the best quotation answers the question; ``None`` for an encoder without calibration."""
    hits: tuple[Hit, ...]
    """The passages that were found, best first."""


def answer_question(
    collection: Collection,
    question: str,
    *,
    encoder: TextEncoder | None,
    passages: int = PASSAGES,
    max_sentences: int = MAX_SENTENCES,
) -> QuotedAnswer:
    """Quote the sentences that answer ``question``."""
    hits = search(collection, question, encoder=encoder, count=passages)
    if not hits:
        return QuotedAnswer((), True, 0.0, ())
    candidates = [
        (hit, sentence)
        for hit in hits
        for sentence in _answering(split_sentences(hit.passage.text))
        if sentence.text not in hit.passage.headings
    ]
    if not candidates:
        return QuotedAnswer((), True, 0.0, tuple(hits))
    scores = _scores(question, candidates, encoder)
    best = int(np.argmax(scores))
    chosen = _neighbours(candidates, scores, best, max_sentences)
    quotes = tuple(_quote(*candidates[i], float(scores[i])) for i in chosen)
    confidence = _confidence(float(scores[best]), encoder)
    refused = confidence is not None and confidence < MIN_CONFIDENCE
    return QuotedAnswer(quotes, refused, confidence, tuple(hits))


def _answering(sentences: Iterable[Sentence]) -> list[Sentence]:
    """Sentences without titles and header rows, which answer nothing themselves."""
    listed = list(sentences)
    headers = {sentence.header for sentence in listed}
    return [sentence for sentence in listed if sentence.text not in headers and not sentence.looks_like_title]


def _scores(question: str, candidates: Sequence[tuple[Hit, Sentence]], encoder: TextEncoder | None) -> np.ndarray:
    words = list(dict.fromkeys(_WORD.findall(question.lower())))
    sentence_words = [set(_WORD.findall(sentence.text.lower())) for _, sentence in candidates]
    frequency = {word: sum(word in found for found in sentence_words) for word in words}
    rarity = {word: math.log(1 + len(candidates) / (1 + frequency[word])) for word in words}
    total = sum(rarity.values()) or 1.0
    coverage = np.array([sum(rarity[word] for word in words if word in found) / total for found in sentence_words])
    if encoder is None:
        passage = np.array([hit.score for hit, _ in candidates])
        return np.asarray(COVERAGE_WEIGHT * coverage + PASSAGE_WEIGHT * passage)
    vector = encoder.encode_queries([question])[0]
    texts = [f"{sentence.header or ''}\n{sentence.text}".strip() for _, sentence in candidates]
    cosine = encoder.encode_passages(texts) @ vector
    passage = np.array([hit.cosine if hit.cosine is not None else 0.0 for hit, _ in candidates])
    return np.asarray(cosine + COVERAGE_WEIGHT * coverage + PASSAGE_WEIGHT * passage)


def _neighbours(
    candidates: Sequence[tuple[Hit, Sentence]], scores: np.ndarray, best: int, max_sentences: int
) -> list[int]:
    """The best sentence, and further good ones of the same passage, in the order of the text."""
    passage = candidates[best][0].passage.id
    same = [i for i, (hit, _) in enumerate(candidates) if hit.passage.id == passage and i != best]
    same.sort(key=lambda i: -float(scores[i]))
    good = [i for i in same if scores[i] >= scores[best] - MARGIN]
    return sorted([best, *good[: max_sentences - 1]])


def _quote(hit: Hit, sentence: Sentence, score: float) -> Quote:
    start = hit.passage.start + sentence.start
    return Quote(hit.passage, start, hit.passage.start + sentence.end, sentence.text, sentence.header, score)


def _confidence(score: float, encoder: TextEncoder | None) -> float | None:
    if encoder is None:
        return None
    calibration = CALIBRATIONS.get(encoder.id.partition("@")[0])
    if calibration is None:
        return None
    slope, intercept = calibration
    return 1 / (1 + math.exp(-(slope * score + intercept)))
