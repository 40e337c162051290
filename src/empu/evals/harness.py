"""Run a suite on a model: cached results, new ones row by row, and metrics with intervals.

Multiple choice is scored by log-likelihood (:mod:`~empu.evals.choice_scoring`); generation is greedy. The prompt is
plain text, without the chat template, as in lm-evaluation-harness without ``--apply_chat_template``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from empu.engine.language_model import LanguageModel
from empu.engine.sampling import SamplingParams
from empu.errors import UsageError
from empu.evals.choice_scoring import ChoiceScorer, encode_row
from empu.evals.intervals import mean_with_interval
from empu.evals.result_cache import ResultCache
from empu.evals.suites.base import GenerationSuite, MultipleChoiceSuite, PromptedRow, Suite
from empu.ledger.records import Metric

OnRows = Callable[[int], None]
"""Called with the number of rows that were just answered."""
ROWS_PER_ROUND = 256
"""Rows that are split into tokens at once."""


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """A model's results on the rows of a suite."""

    suite: Suite
    engine: str
    row_ids: tuple[str, ...]
    """Hash of each row's request, see :meth:`Suite.request_hash`."""
    clusters: tuple[str, ...]
    scores: dict[str, tuple[float, ...]]
    """Metric -> score of each row."""
    num_computed: int
    """Rows that this run computed; the others came from the cache."""
    num_truncated: int
    """Computed rows whose prompt lost tokens because it did not fit the context."""
    seconds: float
    """Time for the computed rows."""

    def metric(self, name: str | None = None) -> Metric:
        """Return a metric, by default the main one, with its 95 % interval."""
        return mean_with_interval(self.scores[name or self.suite.main_metric], self.clusters)

    @property
    def rows_per_second(self) -> float | None:
        """Speed of the computed rows; ``None`` if all came from the cache."""
        return self.num_computed / self.seconds if self.num_computed and self.seconds else None


def run_suite(
    model: LanguageModel,
    suite: Suite,
    rows: Sequence[PromptedRow],
    cache: ResultCache,
    on_rows: OnRows = lambda count: None,
) -> SuiteResult:
    """Evaluate a model. Interrupted, it can be called again: rows in the cache are not computed again."""
    check_model("This model", model, suite)
    keys = [suite.request_hash(row) for row in rows]
    missing = {key: row for key, row in zip(keys, rows, strict=True) if cache.get(key) is None}
    on_rows(len(rows) - len(missing))
    started_at = time.perf_counter()
    num_truncated = 0
    for key, result, was_truncated in _compute(model, suite, missing):
        cache.add(key, result)
        num_truncated += was_truncated
        on_rows(1)
    seconds = time.perf_counter() - started_at
    scored = [suite.score(row.question, cache.get(key)) for key, row in zip(keys, rows, strict=True)]
    return SuiteResult(
        suite,
        model.backend.name,
        tuple(keys),
        tuple(row.question.cluster or key for key, row in zip(keys, rows, strict=True)),
        {metric: tuple(row[metric] for row in scored) for metric in suite.metrics},
        len(missing),
        num_truncated,
        seconds if missing else 0.0,
    )


def check_model(name: str, model: LanguageModel, suite: Suite) -> None:
    """Raise :class:`~empu.errors.UsageError` for a label specialist on a suite that needs generated text."""
    if isinstance(suite, GenerationSuite) and model.task is not None and model.task.kind == "label":
        raise UsageError(
            f"{name} is a specialist that predicts labels and generates no text, so {suite.name} cannot score it; "
            "choose a multiple-choice suite, or evaluate its base."
        )


def _compute(model: LanguageModel, suite: Suite, rows: dict[str, PromptedRow]) -> Iterator[tuple[str, Any, bool]]:
    """Yield (key, result, was truncated) of each row."""
    if isinstance(suite, MultipleChoiceSuite):
        yield from _score_choices(model, suite, rows)
    elif isinstance(suite, GenerationSuite):
        params = SamplingParams(temperature=0.0, max_tokens=suite.max_tokens, stop=suite.stop)
        # Without its task, so that a specialist continues text like any other model.
        plain = LanguageModel(
            model.backend, model.text, checkpoint_path=model.checkpoint_path, context_length=model.context_length
        )
        for key, row in rows.items():
            completion = plain.stream(row.prompt, params, truncate=True).completion
            yield key, completion.text, completion.dropped_tokens > 0
    else:
        raise TypeError(f"{type(suite).__name__} is no kind of suite")


def _score_choices(
    model: LanguageModel, suite: MultipleChoiceSuite, rows: dict[str, PromptedRow]
) -> Iterator[tuple[str, Any, bool]]:
    keys = list(rows)
    with ChoiceScorer(model.backend) as scorer:
        for start in range(0, len(keys), ROWS_PER_ROUND):
            part = keys[start : start + ROWS_PER_ROUND]
            encoded = [
                encode_row(model.text, rows[key].prompt, suite.continuations(rows[key].question), model.context_length)
                for key in part
            ]
            for key, row, scores in zip(part, encoded, scorer.score(encoded), strict=True):
                yield key, scores, row.truncated
