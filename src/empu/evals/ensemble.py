"""Evaluate a mixture on test rows: the whole, each member alone, what each adds, and the fast mode."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from empu.data.prompts import answer_of
from empu.data.rows import Row
from empu.evals.language import group_by_language
from empu.evals.metrics import accuracy
from empu.evals.systems import System, label_scores, median_latency_ms
from empu.ledger.records import Metric
from empu.members.classifier import LabelClassifier, language_model_table
from empu.members.ensemble import Ensemble
from empu.members.member import LANGUAGE_MODEL, TITLES, FloatArray, Member, mix

NAMES = {LANGUAGE_MODEL: "the language model", "tfidf": "TF-IDF", "embeddings": "embeddings"}


@dataclass(frozen=True, slots=True)
class EnsembleReport:
    """What the members of a specialist are worth on the test rows."""

    weights: Mapping[str, float]
    gains: Mapping[str, float]
    """Member -> accuracy of the whole minus that of the others without it."""
    fast: System | None
    """The fast mode, if it has a stage before the whole."""
    answers_per_s: float
    fast_answers_per_s: float
    language_model_answers_per_s: float
    languages: Mapping[str, Mapping[str, Metric]]
    """Language -> system -> accuracy; empty where rows are not of two languages."""
    out_of_fold: Mapping[str, float]
    """Members -> accuracy on the training rows by cross-validation; empty with many validation rows."""
    training_rows: int

    def sentences(self) -> list[str]:
        """Return the report as sentences."""
        added = ", ".join(f"{NAMES[name]} {100 * gain:+.1f}" for name, gain in self.gains.items())
        lines = [f"What each member adds, in points of accuracy on the test rows: {added}."] if added else []
        if self.fast is not None:
            lines.append(
                f"With --fast: {self.fast.main_metric.percent()} at {self.fast_answers_per_s:,.1f} answers/s; with "
                f"--accuracy {self.answers_per_s:,.1f} answers/s, the language model alone "
                f"{self.language_model_answers_per_s:,.1f} answers/s."
            )
        for language, scores in self.languages.items():
            best = ", ".join(f"{name} {100 * metric.value:.1f} %" for name, metric in scores.items())
            rows = next(iter(scores.values())).rows
            lines.append(f"{language} ({rows:,} test rows, language guessed from frequent words): {best}.")
        if self.out_of_fold:
            parts = ", ".join(
                f"{' + '.join(NAMES[name] for name in names.split('+'))} {100 * value:.1f} %"
                for names, value in self.out_of_fold.items()
            )
            lines.append(
                f"5-fold cross-validation of the cheap members on {self.training_rows:,} training rows, since the "
                f"held-out rows are few: {parts}."
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "weights": dict(self.weights),
            "gains": dict(self.gains),
            "fast": {
                "metrics": {name: dataclasses.asdict(metric) for name, metric in self.fast.metrics.items()},
                "ms_per_answer": self.fast.ms_per_answer,
                "answers_per_s": self.fast_answers_per_s,
            }
            if self.fast is not None
            else None,
            "answers_per_s": self.answers_per_s,
            "language_model_answers_per_s": self.language_model_answers_per_s,
            "languages": {
                language: {name: dataclasses.asdict(metric) for name, metric in scores.items()}
                for language, scores in self.languages.items()
            },
            "out_of_fold": dict(self.out_of_fold),
            "sentences": self.sentences(),
        }


def evaluate_member(member: Member, labels: Sequence[str], rows: Sequence[Row]) -> System:
    """Evaluate one member beside the language model."""
    questions = [row.question() for row in rows]
    table = member.log_probabilities(questions)
    latency = median_latency_ms(lambda text: member.log_probabilities([text]), questions)
    return _system(TITLES[member.name], table, labels, rows, latency, member.size_bytes)


def evaluate_ensemble(
    name: str,
    classifier: LabelClassifier,
    rows: Sequence[Row],
    size_bytes: int,
    on_rows: Callable[[int], None] = lambda count: None,
) -> tuple[System, list[System], EnsembleReport]:
    """Return the whole, each member alone (the cheap ones first), and the report."""
    ensemble = classifier.ensemble
    assert ensemble is not None
    labels, questions = ensemble.labels, [row.question() for row in rows]
    tables: dict[str, FloatArray] = {}
    seconds: dict[str, float] = {}
    for member_name in (*ensemble.members, LANGUAGE_MODEL):
        start = time.perf_counter()
        if member_name == LANGUAGE_MODEL:
            tables[member_name] = language_model_table(classifier.model, questions, on_rows)
        else:
            tables[member_name] = ensemble.members[member_name].log_probabilities(questions)
        seconds[member_name] = time.perf_counter() - start

    latency = median_latency_ms(lambda text: next(classifier.classify([text])), questions)
    whole = _system(name, mix(tables, ensemble.weights), labels, rows, latency, size_bytes, classifier)
    alone = [
        _system(
            TITLES[member_name],
            tables[member_name],
            labels,
            rows,
            median_latency_ms(_answer_alone(classifier, member_name), questions),
            ensemble.members[member_name].size_bytes if member_name != LANGUAGE_MODEL else size_bytes,
        )
        for member_name in tables
    ]
    fast, fast_seconds = _evaluate_fast(classifier, rows, size_bytes)
    report = EnsembleReport(
        ensemble.weights,
        _gains(ensemble, tables, whole, rows),
        fast,
        len(rows) / max(1e-9, sum(seconds[member_name] for member_name in ensemble.weights)),
        len(rows) / max(1e-9, fast_seconds),
        len(rows) / max(1e-9, seconds[LANGUAGE_MODEL]),
        _by_language([whole, *alone], questions),
        ensemble.fitted_on.get("out_of_fold_accuracy", {}),
        int(ensemble.fitted_on.get("training_rows", 0)),
    )
    return whole, alone, report


def _answer_alone(classifier: LabelClassifier, name: str) -> Callable[[str], object]:
    return lambda text: classifier.table(name, [text])


def _evaluate_fast(classifier: LabelClassifier, rows: Sequence[Row], size_bytes: int) -> tuple[System | None, float]:
    """Return the fast mode's scores and its seconds for all rows."""
    ensemble = classifier.ensemble
    assert ensemble is not None
    if not ensemble.cascade:
        return None, 0.0
    fast = LabelClassifier(classifier.model, ensemble, fast=True)
    questions = [row.question() for row in rows]
    start = time.perf_counter()
    best = [ranked[0] for ranked in fast.classify(questions)]
    seconds = time.perf_counter() - start
    latency = median_latency_ms(lambda text: next(fast.classify([text])), questions)
    answers, confidences = [item.label for item in best], [item.confidence for item in best]
    return label_scores("fast", rows, answers, latency, size_bytes, confidences), seconds


def _gains(
    ensemble: Ensemble, tables: Mapping[str, FloatArray], whole: System, rows: Sequence[Row]
) -> dict[str, float]:
    truth = [answer_of(row) for row in rows]
    gains = {}
    for name, weights in ensemble.without.items():
        answers = [ensemble.labels[i] for i in mix(tables, weights).argmax(axis=1)]
        others = sum(a == b for a, b in zip(truth, answers, strict=True)) / len(truth)
        gains[name] = whole.main_metric.value - others
    return gains


def _by_language(systems: Sequence[System], questions: Sequence[str]) -> dict[str, dict[str, Metric]]:
    return {
        language: {system.name: accuracy([system.correct[i] for i in indices]) for system in systems}
        for language, indices in group_by_language(questions).items()
    }


def _system(
    name: str,
    table: FloatArray,
    labels: Sequence[str],
    rows: Sequence[Row],
    ms_per_answer: float,
    size_bytes: int,
    calibrated_by: LabelClassifier | None = None,
) -> System:
    confidences = [float(p) for p in np.exp(table.max(axis=1))]
    if calibrated_by is not None:
        confidences = [calibrated_by.task.confidence(p) for p in confidences]
    answers = [labels[i] for i in table.argmax(axis=1)]
    return label_scores(name, rows, answers, ms_per_answer, size_bytes, confidences)
