"""The classifier behind a label specialist: its language model, alone or in a mixture with other members."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from empu.engine.label_search import BATCH_SIZE
from empu.engine.language_model import LabelPrediction, LanguageModel
from empu.errors import ConfigError
from empu.members.embeddings import TextEncoder
from empu.members.ensemble import Ensemble
from empu.members.files import read_ensemble
from empu.members.member import LANGUAGE_MODEL, FloatArray, mix
from empu.text.task import Task

MIN_PROBABILITY = 1e-6
"""Probabilities of the language model below this count as this."""


class LabelClassifier:
    """Classifies texts. Not thread-safe: one thread at a time."""

    def __init__(self, model: LanguageModel, ensemble: Ensemble | None = None, *, fast: bool = False) -> None:
        """``fast``: cheap members answer where they are sure.

        Raises :class:`ConfigError` for an ensemble of other labels.
        """
        self.model = model
        self.ensemble = ensemble
        self.fast = fast
        if ensemble is not None and ensemble.labels != self.task.labels:
            raise ConfigError("The members of the specialist have other labels than its task; tune it again.")

    @property
    def task(self) -> Task:
        """The task of the language model, which is one of labels."""
        assert self.model.task is not None
        return self.model.task

    def classify(self, texts: Sequence[str], *, count: int = 1) -> Iterator[list[LabelPrediction]]:
        """Yield the ``count`` most likely labels of each text, best first."""
        if self.ensemble is None:
            yield from self.model.classify(texts, count=count)
            return
        for start in range(0, len(texts), BATCH_SIZE):
            log_probabilities, is_whole = self._answer(self.ensemble, texts[start : start + BATCH_SIZE])
            for row, calibrate in zip(np.exp(log_probabilities), is_whole, strict=True):
                order = np.argsort(-row, kind="stable")[:count]
                confidence = self.task.confidence if calibrate else float
                yield [LabelPrediction(self.task.labels[i], confidence(float(row[i]))) for i in order]

    def table(self, name: str, texts: Sequence[str]) -> FloatArray:
        """(texts, labels): log-probabilities of one member."""
        if not texts:
            return np.zeros((0, len(self.task.labels)))
        if name == LANGUAGE_MODEL:
            return language_model_table(self.model, texts)
        assert self.ensemble is not None
        return self.ensemble.members[name].log_probabilities(texts)

    def _answer(self, ensemble: Ensemble, texts: Sequence[str]) -> tuple[FloatArray, list[bool]]:
        """Return (texts, labels) log-probabilities, and for each text whether the whole answered it."""
        answers = np.zeros((len(texts), len(ensemble.labels)))
        is_whole = [True] * len(texts)
        open_rows = np.arange(len(texts))
        tables: dict[str, FloatArray] = {}
        """Member -> its rows for ``open_rows``."""
        stages = [(stage.weights, stage.threshold) for stage in ensemble.cascade] if self.fast else []
        for weights, threshold in (*stages, (ensemble.weights, 0.0)):
            for name in weights:
                if name not in tables:
                    tables[name] = self.table(name, [texts[int(i)] for i in open_rows])
            mixed = mix(tables, weights)
            accepted = np.exp(mixed.max(axis=1)) >= threshold
            answers[open_rows[accepted]] = mixed[accepted]
            if threshold:
                for i in open_rows[accepted]:
                    is_whole[i] = False
            open_rows = open_rows[~accepted]
            tables = {name: table[~accepted] for name, table in tables.items()}
            if not len(open_rows):
                break
        return answers, is_whole


def language_model_table(
    model: LanguageModel, texts: Sequence[str], on_rows: Callable[[int], None] = lambda count: None
) -> FloatArray:
    """(texts, labels): log-probabilities of the language model alone."""
    rows = []
    for probabilities in model.label_distributions(texts):
        rows.append(np.log(np.maximum(probabilities, MIN_PROBABILITY)))
        on_rows(1)
    return np.stack(rows)


def open_classifier(
    model: LanguageModel,
    folder: Path,
    encoders: Callable[[], Sequence[TextEncoder]],
    *,
    fast: bool = False,
) -> LabelClassifier:
    """Return the classifier of a label specialist whose files are in ``folder``; see :func:`read_ensemble`."""
    return LabelClassifier(model, read_ensemble(folder, encoders), fast=fast)
