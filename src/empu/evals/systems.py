"""The honest comparison: base, plain baseline and specialist on the same held-out rows."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from empu.data.answer_schema import object_of
from empu.data.rows import Row
from empu.embed.encoder import Encoder, package_folder
from empu.engine.backends.protocol import Chunk, Want
from empu.engine.language_model import LanguageModel
from empu.engine.sampling import SamplingParams
from empu.evals.baselines import embedding_logistic, ms_of_one, tfidf_logistic
from empu.evals.line_tagger import NAME as TAGGER
from empu.evals.line_tagger import line_tagger
from empu.evals.metrics import accuracy, macro_f1, mcnemar, mean, token_f1
from empu.evals.out_of_scope import Scope
from empu.ledger.records import Metric
from empu.text.task import Task, encode_answer, encode_question, log_odds
from empu.tune.encoding import answer_of, pair_of, question_of

SHOTS = 4
PRIOR = 1.0
"""How strongly calibration is drawn to leaving probabilities as they are."""

EXACT = "exact match"
ABSENT = object()
"""In place of a field that an answer lacks."""

PREFERS = "finds the chosen answer likelier"

OnRows = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class System:
    """One contestant: what it answered to each held-out row, and what an answer costs."""

    name: str
    answers: tuple[str, ...]
    correct: tuple[bool, ...]
    metrics: Mapping[str, Metric]
    ms_per_answer: float
    size_bytes: int
    confidences: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """All contestants on the same rows, the specialist last."""

    systems: tuple[System, ...]
    p_values: Mapping[str, float] = field(default_factory=dict)
    """Name of another contestant -> p of McNemar's test against the specialist."""
    scope: Scope | None = None
    """How well the specialist refuses what is out of scope, where there are such rows."""

    @property
    def specialist(self) -> System:
        return self.systems[-1]

    def sentence(self) -> str:
        """What a reader must know first; a loss is called a loss."""
        ours = self.specialist
        rivals = [(system, self.p_values.get(system.name, 1.0)) for system in self.systems[:-1]]
        if not rivals:
            return f"The specialist has {_main(ours).percent()}."
        surely = [(one, p) for one, p in rivals if p < 0.05 and _main(one).value > _main(ours).value]
        rival, p = max(surely or rivals, key=lambda found: (_main(found[0]).value, -found[1]))
        difference = _main(ours).value - _main(rival).value
        if p >= 0.05:
            return (
                f"The specialist, {_main(ours).percent()}, and the {rival.name}, {_main(rival).percent()}, cannot be "
                f"told apart on these {_main(ours).rows:,} rows (p = {p:.2g})."
            )
        if difference < 0:
            return (
                f"The {rival.name} wins: {_main(rival).percent()} against {_main(ours).percent()} of the specialist "
                f"(p = {p:.2g}); use it, or add rows and tune again."
            )
        return (
            f"The specialist wins: {_main(ours).percent()} against {_main(rival).percent()} of the {rival.name} "
            f"(p = {p:.2g})."
        )


def label_system(
    name: str, model: LanguageModel, task: Task, rows: Sequence[Row], size: int, on_rows: OnRows = lambda n: None
) -> System:
    """A language model's labels, chosen under the constraint of the task's labels."""
    asked = replace_task(model, task)
    verdicts = []
    for found in asked.classify([row.question() for row in rows]):
        verdicts.append(found[0])
        on_rows(1)
    truth = [answer_of(row) for row in rows]
    answers = [verdict.label for verdict in verdicts]
    ms = ms_of_one(lambda row: next(asked.classify([row.question()])), rows)
    return _labelled(name, truth, answers, ms, size, [verdict.confidence for verdict in verdicts])


def linear_systems(train: Sequence[Row], rows: Sequence[Row], *, seed: int = 0) -> Iterator[System]:
    """The labels of the plain baselines: one on counted words, and one on embeddings where an encoder is installed."""
    known = [(row.question(), answer_of(row)) for row in train]
    questions, truth = [row.question() for row in rows], [answer_of(row) for row in rows]
    results = [tfidf_logistic(known, questions, seed=seed)]
    if (folder := package_folder()) is not None:
        results.append(embedding_logistic(known, questions, Encoder(folder), seed=seed))
    for result in results:
        yield _labelled(result.name, truth, result.answers, result.ms_per_answer, result.size_bytes)


def text_system(
    name: str, model: LanguageModel, task: Task, rows: Sequence[Row], size: int, on_rows: OnRows = lambda n: None
) -> System:
    """A language model's greedy answers: exact match, and overlap of words, or for JSON each field's exact match."""
    asked = replace_task(model, task)
    answers, times = [], []
    longest = 2 * max(len(encode_answer(model.text, answer_of(row))) for row in rows) + 16
    for row in rows:
        begun = time.perf_counter()
        params = SamplingParams(temperature=0.0, max_tokens=longest)
        answers.append(asked.stream(question_of(task, row), params).completion.text.strip())
        times.append(1000 * (time.perf_counter() - begun))
        on_rows(1)
    return _texts(name, task, [answer_of(row).strip() for row in rows], answers, statistics.median(times), size)


def _texts(name: str, task: Task, truth: Sequence[str], answers: Sequence[str], ms: float, size: int) -> System:
    if task.schema is not None:
        pairs = [(object_of(a), object_of(b)) for a, b in zip(truth, answers, strict=True)]
        correct = [a is not None and a == b for a, b in pairs]
        metrics = {EXACT: accuracy(correct)}
        for key in task.schema["properties"]:
            same = [a is not None and b is not None and a.get(key, ABSENT) == b.get(key, ABSENT) for a, b in pairs]
            metrics[key if key != EXACT else f"field {key!r}"] = accuracy(same)
    else:
        correct = [a == b for a, b in zip(truth, answers, strict=True)]
        metrics = {
            EXACT: accuracy(correct),
            "word overlap": mean([token_f1(a, b) for a, b in zip(truth, answers, strict=True)]),
        }
    return System(name, tuple(answers), tuple(correct), metrics, ms, size)


def tagger_system(task: Task, train: Sequence[Row], rows: Sequence[Row], *, seed: int = 0) -> System:
    """The plain baseline's fields, for answers within a schema."""
    assert task.schema is not None
    asked = [(row.question(), object_of(answer_of(row)) or {}) for row in train]
    found = line_tagger(asked, [row.question() for row in rows], task.schema, seed=seed)
    answers = [json.dumps(fields, ensure_ascii=False) for fields in found.fields]
    truth = [answer_of(row) for row in rows]
    return _texts(TAGGER, task, truth, answers, found.ms_per_text, found.size_bytes)


def preference_system(
    name: str, model: LanguageModel, task: Task, rows: Sequence[Row], size: int, on_rows: OnRows = lambda n: None
) -> System:
    """Which of two answers a language model finds likelier, by the sum of its tokens' log-probabilities. Confidences
    are the differences, in nats.
    """
    times, differences = [], []
    for row in rows:
        begun = time.perf_counter()
        pair = pair_of(model.text, task, row)
        chosen, rejected = (_log_probability(model, side.prompt, side.answer) for side in pair.sides())
        times.append(1000 * (time.perf_counter() - begun))
        differences.append(chosen - rejected)
        on_rows(1)
    correct = tuple(difference > 0 for difference in differences)
    answers = tuple("chosen" if right else "rejected" for right in correct)
    metrics = {PREFERS: accuracy(correct)}
    return System(name, answers, correct, metrics, statistics.median(times), size, tuple(differences))


def with_gain(base: System, ours: System) -> System:
    """The specialist with a second metric: on how many pairs it leans to the chosen answer more than its base does."""
    more = [after > before for before, after in zip(base.confidences, ours.confidences, strict=True)]
    return replace(ours, metrics={**ours.metrics, "more than its base": accuracy(more)})


def answer_logits(model: LanguageModel, prompt: Sequence[int], answer: Sequence[int]) -> NDArray[np.float32]:
    """(tokens of the answer, vocabulary): what a model expects in each place of a given answer."""
    ids = np.array([*prompt, *answer[:-1]], dtype=np.int32)
    sequence = model.backend.allocate(len(ids))
    try:
        if len(prompt) > 1:
            model.backend.forward([Chunk(sequence, ids[: len(prompt) - 1], Want.NONE)])
        (logits,) = model.backend.forward([Chunk(sequence, ids[len(prompt) - 1 :], Want.ALL)])
    finally:
        model.backend.release(sequence)
    return logits


def _log_probability(model: LanguageModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Sum over the answer's tokens, in nats."""
    wide = answer_logits(model, prompt, answer).astype(np.float64)
    top = wide.max(axis=1, keepdims=True)
    normaliser = top[:, 0] + np.log(np.exp(wide - top).sum(axis=1))
    return float((wide[np.arange(len(answer)), list(answer)] - normaliser).sum())


def compare(systems: Sequence[System]) -> Comparison:
    """Put contestants side by side; the specialist comes last."""
    ours = systems[-1]
    p_values = {system.name: mcnemar(ours.correct, system.correct) for system in systems[:-1]}
    return Comparison(tuple(systems), p_values)


def few_shot(task: Task, train: Sequence[Row]) -> Task:
    """The task with rows as examples: the shortest of the first rows, of different labels as far as they go."""
    chosen: dict[str, Row] = {}
    for row in sorted(train[:500], key=lambda row: len(row.question())):
        chosen.setdefault(answer_of(row) if task.kind == "label" else row.id, row)
        if len(chosen) == SHOTS:
            break
    return replace(task, shots=tuple((row.question(), answer_of(row)) for row in chosen.values()))


def base_task(task: Task) -> Task:
    """The task as a model that was not tuned has to be asked: with the labels spelled out."""
    if task.kind != "label":
        return task
    listed = ", ".join(task.labels)
    return replace(task, instruction=f"Name the category of the message. The categories are: {listed}.")


def fits(model: LanguageModel, task: Task, rows: Sequence[Row]) -> bool:
    """Whether the longest question with this task's examples fits half of the context."""
    longest = max(rows, key=lambda row: len(row.question()))
    return len(encode_question(model.text, task.messages(longest.question()))) <= model.context // 2


def calibrate(confidences: Sequence[float], correct: Sequence[bool]) -> tuple[float, float] | None:
    """(slope, intercept) of Platt's scaling (1999) on held-out rows, by damped Newton steps with a weak prior.

    The slope stays within 0.02 and 3 and the intercept within -8 and 8, so that a confidence is always a number and
    never turns the order of two probabilities round. ``None`` where the rows do not say: fewer than 30, or all right or
    all wrong.
    """
    y = np.array(correct, dtype=np.float64)
    if len(y) < 30 or y.min() == y.max():
        return None
    x = np.stack([np.array([log_odds(p) for p in confidences]), np.ones(len(y))], axis=1)
    weights, prior = np.array([1.0, 0.0]), np.array([1.0, 0.0])
    for _ in range(200):
        p = 1 / (1 + np.exp(-x @ weights))
        gradient = x.T @ (p - y) + PRIOR * (weights - prior)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + PRIOR * np.eye(2)
        step = np.clip(np.linalg.solve(hessian, gradient), -0.25, 0.25)
        before, weights = weights, np.clip(weights - step, [0.02, -8.0], [3.0, 8.0])
        if float(np.abs(weights - before).max()) < 1e-9:
            break
    return float(weights[0]), float(weights[1])


def replace_task(model: LanguageModel, task: Task) -> LanguageModel:
    """The same open model, asked another way."""
    return LanguageModel(
        model.backend, model.text, checkpoint_path=model.checkpoint_path, context=model.context, task=task
    )


def table(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """Rows for people: name, each metric with its interval, ms per answer."""
    columns = list(comparison.specialist.metrics)
    for system in comparison.systems:
        scores = tuple(system.metrics[name].percent() if name in system.metrics else "" for name in columns)
        yield (system.name, *scores, f"{system.ms_per_answer:.1f} ms", _size(system.size_bytes))


def _labelled(
    name: str,
    truth: Sequence[str],
    answers: Sequence[str],
    ms: float,
    size: int,
    confidences: Sequence[float] = (),
) -> System:
    correct = [a == b for a, b in zip(truth, answers, strict=True)]
    metrics = {"accuracy": accuracy(correct), "macro-F1": macro_f1(truth, answers)}
    return System(name, tuple(answers), tuple(correct), metrics, ms, size, tuple(confidences))


def _main(system: System) -> Metric:
    return next(iter(system.metrics.values()))


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
