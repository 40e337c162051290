"""Records of the ledger as plain data classes, independent of how they are stored."""

from __future__ import annotations

import platform
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from empu.ledger.hashing import FileId
from empu.system.cpu import available_cpus, cpu_name

UNKNOWN = "unknown"
"""Value of a licence that nobody stated."""

TRAIN, DEV, TEST = "train", "dev", "test"
"""Splits of a data set: training, validation and test rows."""

NAME_FIELDS = frozenset({"label", "role"})
"""Fields whose strings are names, so that rows are not looked up by them."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that rows came from: its path as the user gave it, SHA-256 in hex, size in bytes."""

    path: str
    sha256: str
    size: int
    licence: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One row to record: its fields, its split, its file, and its number in that file."""

    fields: Mapping[str, Any]
    split: str
    source: SourceFile
    number: int


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One row that a data set excludes, and the reason. ``row_id`` is its id in hex, if the row could be read."""

    source: SourceFile
    number: int
    reason: str
    row_id: str | None = None


@dataclass(frozen=True, slots=True)
class TuningRun:
    """Everything that determines the weights of a run. ``row_order`` is the hash of the row ids in training order."""

    recipe: Mapping[str, Any]
    seed: int
    code_version: str
    base: str
    dataset: str | None
    row_order: str
    machine: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """One step of training: its number, its loss, and other measurements."""

    number: int
    loss: float
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """A model: its id (the hash of its files), its name, its parent, and its run (``None`` for a pulled model).

    ``disclosed`` is what its files and its source say about its training data; empty if they say nothing.
    """

    id: str
    name: str
    files: tuple[FileId, ...]
    parent: str | None = None
    run: str | None = None
    licence: str = UNKNOWN
    disclosed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its 95 % confidence interval and the number of rows behind it."""

    value: float
    low: float
    high: float
    rows: int
    unit: str = ""

    def percent(self) -> str:
        """Format a share with its interval."""
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass(frozen=True, slots=True)
class EvaluatedRow:
    """A model's answer to one row. ``correct`` is ``None`` where an answer is neither right nor wrong."""

    row_id: str
    answer: str
    correct: bool | None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of a model (by id), or of a baseline (by name), on one split of a data set."""

    model: str
    dataset: str | None
    split: str
    metrics: Mapping[str, Metric]
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DocumentEvent:
    """A document was added to a collection, updated, or removed. The ledger keeps its hash, never its text."""

    collection: str
    action: Literal["added", "updated", "removed"]
    address: str
    sha256: str
    """Of the file, in hex."""
    size: int
    """Bytes of the file."""
    licence: str
    added_by: str


def texts(value: object, name: str = "") -> Iterator[str]:
    """Yield the strings of a row that it is looked up by: all but labels and roles, at any depth."""
    if isinstance(value, str):
        if name not in NAME_FIELDS:
            yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts(inner, key)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner, name)


def this_machine() -> dict[str, Any]:
    """Describe the machine of a run or measurement: system, processor, cores, and versions of Python and SQLite."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": cpu_name(),
        "architecture": platform.machine(),
        "cores": available_cpus(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "sqlite": sqlite3.sqlite_version,
    }
