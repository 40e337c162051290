"""What a suite is: how its rows are read, how a row becomes a prompt, and how an answer is scored.

Prompts are those of lm-evaluation-harness 0.4, character by character, so that figures can be compared. A suite knows
texts only: no model, no tokens. Its data are files of the user; they are not part of the project.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from empu.errors import UsageError
from empu.evals.suites.files import find_files, read_records
from empu.ledger.hashing import content_id

SHOT_DELIMITER = "\n\n"
SHOT_SEED = 1234
"""Seed of lm-evaluation-harness for random few-shot examples."""

Record = Mapping[str, Any]
"""One row as it is in the data file: field -> value."""


@dataclass(frozen=True, slots=True)
class Question:
    """One row of a suite, as text."""

    text: str
    """The question as the prompt shows it, up to where the answer begins."""
    target: str
    """The right answer as a few-shot example shows it."""
    choices: tuple[str, ...] = ()
    """The answers to score, for multiple choice."""
    correct: tuple[int, ...] = ()
    """Indices of the right choices."""
    group: str = ""
    """Rows of one group (a subject) share the description and the few-shot examples."""
    cluster: str = ""
    """Rows with the same value share a passage or document, so they are not independent. Empty: independent."""


@dataclass(frozen=True, slots=True)
class PromptedRow:
    """A question with its complete prompt."""

    question: Question
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Suite(ABC):
    """A suite. Presets state what differs from these defaults."""

    name: str
    about: str
    source: str
    """Where the data come from."""
    licence: str
    """Licence of the data, as their publisher states it."""
    fields: str
    """The fields of a row, for messages."""
    parse: Callable[[Record], Question]
    """Convert a record. May raise KeyError, IndexError, TypeError, ValueError or AttributeError for another shape."""
    files: tuple[str, ...]
    """Patterns of data files in a folder, the preferred one first."""
    folders: tuple[str, ...] = ()
    """Names of a sub-folder that holds the files."""
    shot_files: tuple[str, ...] = ()
    """Patterns of files with few-shot examples."""
    read: Callable[[Path], Iterable[Record]] = read_records
    shots: int = 0
    """Number of few-shot examples by default."""
    first_shots: bool = False
    """Whether the first examples are taken; otherwise they are drawn for each row."""
    describe: Callable[[str], str] = field(default=lambda group: "")
    """Group -> text before the examples."""
    delimiter: str = " "
    """Text between a question and its answer."""
    metrics: tuple[str, ...] = ("acc",)
    """Names of the metrics, the main one first."""

    @property
    def main_metric(self) -> str:
        return self.metrics[0]

    def load(self, path: Path, shots: int | None = None, limit: int | None = None) -> list[PromptedRow]:
        """Read the rows in ``path`` (a file or a folder) and build their prompts.

        ``limit`` takes the first rows; with groups, the first rows of each group in turn. Raises
        :class:`~empu.errors.UsageError` for files that are missing or have another shape.
        """
        shots = self.shots if shots is None else shots
        rows = self._read_all(self.data_files(path))
        examples: list[Question] = []
        if shots:
            if not self.shot_files:
                raise UsageError(f"The suite {self.name} has no few-shot examples; use --shots 0.")
            found = find_files(path, self.folders, self.shot_files)
            if not found:
                raise UsageError(
                    f"{path} has no few-shot examples for {self.name} ({' or '.join(self.shot_files)}); add them, or "
                    "use --shots 0."
                )
            examples = self._read_all(found)
        return _take(self._with_prompts(rows, examples, shots), limit)

    def data_files(self, path: Path) -> list[Path]:
        """Return ``path`` if it is a file, otherwise the data files in it. Raises UsageError when there are none."""
        if path.is_file():
            return [path]
        found = find_files(path, self.folders, self.files)
        if not found:
            raise UsageError(f"{path} has no data of the suite {self.name}; it looks for {' or '.join(self.files)}.")
        return found

    def request_hash(self, row: PromptedRow) -> str:
        """SHA-256 of everything that the model is asked for a row, in hex."""
        return content_id({"prompt": row.prompt, **self.request(row.question)})

    @abstractmethod
    def request(self, question: Question) -> dict[str, Any]:
        """Return what the model is asked beside the prompt, as JSON."""

    @abstractmethod
    def score(self, question: Question, result: Any) -> dict[str, float]:
        """Return metric -> score from 0 to 1 for what the model gave."""

    def _read_all(self, files: Sequence[Path]) -> list[Question]:
        questions = []
        for file in files:
            for number, record in enumerate(self.read(file), 1):
                try:
                    questions.append(self.parse(record))
                except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                    problem = f"the field {error} is missing" if isinstance(error, KeyError) else "has another shape"
                    raise UsageError(
                        f"{file}, row {number}: {problem}; a row of {self.name} has {self.fields}."
                    ) from None
        if not questions:
            raise UsageError(f"{', '.join(map(str, files))} has no rows.")
        return questions

    def _with_prompts(
        self, rows: Sequence[Question], examples: Sequence[Question], shots: int
    ) -> Iterator[PromptedRow]:
        pools: dict[str, list[Question]] = defaultdict(list)
        for example in examples:
            pools[example.group].append(example)
        generators: dict[str, random.Random] = {}
        for row in rows:
            pool = pools[row.group]
            if len(pool) < shots:
                of_group = f" of {row.group}" if row.group else ""
                raise UsageError(
                    f"There are {len(pool)} few-shot examples{of_group} and {shots} are needed; lower --shots."
                )
            generator = generators.setdefault(row.group, random.Random(SHOT_SEED))
            chosen = pool[:shots] if self.first_shots else generator.sample(pool, shots)
            shown = "".join(shot.text + self.delimiter + shot.target + SHOT_DELIMITER for shot in chosen)
            yield PromptedRow(row, self.describe(row.group) + shown + row.text)


@dataclass(frozen=True, kw_only=True)
class MultipleChoiceSuite(Suite):
    """Every choice is scored by its log-likelihood after the prompt; the highest is the model's answer."""

    def continuations(self, question: Question) -> list[str]:
        """Return the texts to score."""
        return [self.delimiter + choice for choice in question.choices]

    def request(self, question: Question) -> dict[str, Any]:
        return {"continuations": self.continuations(question)}

    def score(self, question: Question, result: Sequence[float]) -> dict[str, float]:
        """``result``: a log-likelihood for each choice.

        ``acc`` takes the highest, ``acc_norm`` the highest per character of the choice, ``mc2`` the probability of all
        right choices together.
        """
        scores = np.asarray(result, dtype=np.float64)
        lengths = np.array([len(choice) for choice in question.choices], dtype=np.float64)
        found: dict[str, float] = {}
        for metric in self.metrics:
            if metric == "mc2":
                probabilities = np.exp(scores - scores.max())
                found[metric] = float(probabilities[list(question.correct)].sum() / probabilities.sum())
            else:
                values = scores / np.maximum(lengths, 1) if metric == "acc_norm" else scores
                found[metric] = float(int(np.argmax(values)) in question.correct)
        return found


@dataclass(frozen=True, kw_only=True)
class GenerationSuite(Suite):
    """The model generates greedily until a stop string; extracted answers are compared with the right one."""

    stop: tuple[str, ...] = ()
    max_tokens: int = 256
    extract: Mapping[str, Callable[[str], str]]
    """Metric -> function that extracts the answer from the generated text."""
    normalise: Callable[[str], str] = str.strip

    def request(self, question: Question) -> dict[str, Any]:
        return {"stop": list(self.stop), "max_tokens": self.max_tokens}

    def score(self, question: Question, result: str) -> dict[str, float]:
        """``result``: the generated text."""
        target = self.normalise(question.target)
        return {metric: float(self.normalise(self.extract[metric](result)) == target) for metric in self.metrics}


def _take(rows: Iterable[PromptedRow], limit: int | None) -> list[PromptedRow]:
    """Return the first rows; with groups, the first of each group, then the second of each, in file order."""
    if limit is None:
        return list(rows)
    ranked: list[tuple[int, int, PromptedRow]] = []
    ranks: dict[str, int] = defaultdict(int)
    for position, row in enumerate(rows):
        ranked.append((ranks[row.question.group], position, row))
        ranks[row.question.group] += 1
    ranked.sort(key=lambda entry: entry[:2])
    return [row for _, _, row in sorted(ranked[:limit], key=lambda entry: entry[1])]
