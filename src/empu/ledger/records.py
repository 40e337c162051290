"""What the ledger writes down, as plain records. None of them knows how it is stored."""

from __future__ import annotations

import platform
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from empu.ledger.hashing import FileId
from empu.system.cpu import cpu_name, processors

UNKNOWN = "unknown"
"""What stands where nobody said: a licence, most often."""

TRAIN, DEV, TEST = "train", "dev", "test"
"""The parts of a data set."""

NOT_TEXT = frozenset({"label", "role"})
"""Fields whose strings name something and are not looked up as a row's text."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that rows came from: its path as the user gave it, SHA-256 in hex, size in bytes."""

    path: str
    sha256: str
    size: int
    licence: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class Member:
    """One row of a data set: its fields, its part, and the place where a person finds it."""

    fields: Mapping[str, Any]
    split: str
    source: Source
    number: int


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One row that was left out, and why. ``row_id`` is its id in hex, where it could be read at all."""

    source: Source
    number: int
    reason: str
    row_id: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What determines the weights that a run gives. ``row_order`` is the hash of the ids in the order of training."""

    recipe: Mapping[str, Any]
    seed: int
    code_version: str
    base: str
    dataset: str | None
    row_order: str
    machine: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of training: its number, its loss, and what else was measured."""

    number: int
    loss: float
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A model: the hash of its files, its name, what it was made from and by which run (``None`` for what was pulled).

    ``disclosed`` is what its files and its source say of its training data; empty when they say nothing.
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
    """A score with its 95 % interval and the number of rows that it stands on."""

    value: float
    low: float
    high: float
    rows: int
    unit: str = ""

    def percent(self) -> str:
        """A share with its interval, for people."""
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model answered to one row. ``correct`` is ``None`` where right and wrong do not apply."""

    row_id: str
    answer: str
    correct: bool | None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of a model, or of a baseline under its name, on one part of a data set."""

    model: str
    dataset: str | None
    split: str
    metrics: Mapping[str, Metric]
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]


def texts(value: object, name: str = "") -> Iterator[str]:
    """The strings of a row by which people look it up: all but labels and roles, at any depth."""
    if isinstance(value, str):
        if name not in NOT_TEXT:
            yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts(inner, key)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner, name)


def this_machine() -> dict[str, Any]:
    """What a run or a measurement was made on: system, processor, cores, and the versions of Python and SQLite."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": cpu_name(),
        "architecture": platform.machine(),
        "cores": processors(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "sqlite": sqlite3.sqlite_version,
    }
