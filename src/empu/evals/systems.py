"""The systems that a comparison evaluates: language models and baselines, each on the same test rows."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from empu.data.answer_schema import parse_object
from empu.data.prompts import answer_of, preference_of, question_of
from empu.data.rows import Row
from empu.engine.language_model import LanguageModel
from empu.engine.sampling import SamplingParams
from empu.evals.likelihood import answer_log_probability
from empu.evals.line_tagger import LINE_TAGGER, line_tagger
from empu.evals.metrics import accuracy, macro_f1, mean, token_f1
from empu.evals.prompting import with_task
from empu.ledger.records import Metric
from empu.text.prompt_encoding import encode_answer, encode_prompt
from empu.text.task import Task

EXACT_MATCH = "exact match"
PREFERS_CHOSEN = "finds the chosen answer likelier"
PREFERS_MORE_THAN_BASE = "more than its base"
"""Metric names as stored in the ledger; the web page translates them."""

TIMED_INPUTS = 20
"""Number of inputs that are answered one by one to measure latency."""

T = TypeVar("T")
OnRows = Callable[[int], None]
"""Called with the number of rows that were just answered."""

_MISSING = object()


@dataclass(frozen=True, slots=True)
class System:
    """One system: its answer to each test row, whether it is correct, its metrics and its cost."""

    name: str
    answers: tuple[str, ...]
    correct: tuple[bool, ...]
    metrics: Mapping[str, Metric]
    """The main metric first."""
    ms_per_answer: float
    size_bytes: int
    confidences: tuple[float, ...] = ()

    @property
    def main_metric(self) -> Metric:
        return next(iter(self.metrics.values()))


def evaluate_labels(
    name: str, model: LanguageModel, task: Task, rows: Sequence[Row], size_bytes: int, on_rows: OnRows = lambda n: None
) -> System:
    """Evaluate a language model as a classifier; it can only answer with the labels of the task."""
    classifier = with_task(model, task)
    predictions = []
    for best in classifier.classify([row.question() for row in rows]):
        predictions.append(best[0])
        on_rows(1)
    answers = [prediction.label for prediction in predictions]
    latency = median_latency_ms(lambda row: next(classifier.classify([row.question()])), rows)
    confidences = [prediction.confidence for prediction in predictions]
    return label_scores(name, rows, answers, latency, size_bytes, confidences)


def evaluate_texts(
    name: str, model: LanguageModel, task: Task, rows: Sequence[Row], size_bytes: int, on_rows: OnRows = lambda n: None
) -> System:
    """Evaluate greedy answers: exact match, and word overlap, or for JSON the exact match of each field."""
    answerer = with_task(model, task)
    answers, times = [], []
    max_tokens = 2 * max(len(encode_answer(model.text, answer_of(row))) for row in rows) + 16
    for row in rows:
        start = time.perf_counter()
        params = SamplingParams(temperature=0.0, max_tokens=max_tokens)
        answers.append(answerer.stream(question_of(task, row), params).completion.text.strip())
        times.append(1000 * (time.perf_counter() - start))
        on_rows(1)
    truth = [answer_of(row).strip() for row in rows]
    return _text_scores(name, task, truth, answers, statistics.median(times), size_bytes)


def evaluate_preferences(
    name: str, model: LanguageModel, task: Task, rows: Sequence[Row], size_bytes: int, on_rows: OnRows = lambda n: None
) -> System:
    """Evaluate which of two answers is more likely under a language model.

    The likelihood is the sum of the log-probabilities of the tokens. The confidences are differences of the two
    likelihoods, in nats.
    """
    times, margins = [], []
    for row in rows:
        start = time.perf_counter()
        pair = preference_of(task, row)
        prompt = encode_prompt(model.text, pair.prompt)
        chosen = answer_log_probability(model, prompt, encode_answer(model.text, pair.chosen))
        rejected = answer_log_probability(model, prompt, encode_answer(model.text, pair.rejected))
        times.append(1000 * (time.perf_counter() - start))
        margins.append(chosen - rejected)
        on_rows(1)
    correct = tuple(margin > 0 for margin in margins)
    answers = tuple("chosen" if right else "rejected" for right in correct)
    metrics = {PREFERS_CHOSEN: accuracy(correct)}
    return System(name, answers, correct, metrics, statistics.median(times), size_bytes, tuple(margins))


def with_gain_over_base(base: System, specialist: System) -> System:
    """Return the specialist with a second metric: how often it prefers the chosen answer more than its base does."""
    gains = [after > before for before, after in zip(base.confidences, specialist.confidences, strict=True)]
    return replace(specialist, metrics={**specialist.metrics, PREFERS_MORE_THAN_BASE: accuracy(gains)})


def line_tagger_baseline(task: Task, train: Sequence[Row], rows: Sequence[Row], *, seed: int = 0) -> System:
    """Return the baseline for JSON answers that keep to a schema."""
    assert task.schema is not None
    labelled = [(row.question(), parse_object(answer_of(row)) or {}) for row in train]
    extracted = line_tagger(labelled, [row.question() for row in rows], task.schema, seed=seed)
    answers = [json.dumps(fields, ensure_ascii=False) for fields in extracted.fields]
    truth = [answer_of(row) for row in rows]
    return _text_scores(LINE_TAGGER, task, truth, answers, extracted.ms_per_text, extracted.size_bytes)


def median_latency_ms(predict: Callable[[T], object], inputs: Sequence[T]) -> float:
    """Return the median time of one prediction, in ms, with one input at a time."""
    times = []
    for item in inputs[:TIMED_INPUTS]:
        start = time.perf_counter()
        predict(item)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def label_scores(
    name: str,
    rows: Sequence[Row],
    answers: Sequence[str],
    ms_per_answer: float,
    size_bytes: int,
    confidences: Sequence[float] = (),
) -> System:
    """Return the scores of one label for each row."""
    truth = [answer_of(row) for row in rows]
    correct = [a == b for a, b in zip(truth, answers, strict=True)]
    metrics = {"accuracy": accuracy(correct), "macro-F1": macro_f1(truth, answers)}
    return System(name, tuple(answers), tuple(correct), metrics, ms_per_answer, size_bytes, tuple(confidences))


def _text_scores(
    name: str, task: Task, truth: Sequence[str], answers: Sequence[str], ms_per_answer: float, size_bytes: int
) -> System:
    if task.schema is not None:
        correct, metrics = _json_scores(task.schema, truth, answers)
    else:
        correct = [a == b for a, b in zip(truth, answers, strict=True)]
        overlap = mean([token_f1(a, b) for a, b in zip(truth, answers, strict=True)])
        metrics = {EXACT_MATCH: accuracy(correct), "word overlap": overlap}
    return System(name, tuple(answers), tuple(correct), metrics, ms_per_answer, size_bytes)


def _json_scores(
    schema: Mapping[str, Any], truth: Sequence[str], answers: Sequence[str]
) -> tuple[list[bool], dict[str, Metric]]:
    """Return whether each answer is the same JSON object, with the metrics of the whole and of each field."""
    pairs = [(parse_object(a), parse_object(b)) for a, b in zip(truth, answers, strict=True)]
    correct = [a is not None and a == b for a, b in pairs]
    metrics = {EXACT_MATCH: accuracy(correct)}
    for key in schema["properties"]:
        equal = [a is not None and b is not None and a.get(key, _MISSING) == b.get(key, _MISSING) for a, b in pairs]
        metrics[key if key != EXACT_MATCH else f"field {key!r}"] = accuracy(equal)
    return correct, metrics
