"""A row, independent of the file format that it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from empu.errors import EmpuError


class DataError(EmpuError):
    """A data file cannot be used; the message names the file, the place in it, and what to do."""


class Kind(StrEnum):
    """The kind of a row; the value names its fields, as reports show them."""

    LABEL = "text,label"
    COMPLETION = "prompt,completion"
    MESSAGES = "messages"
    PREFERENCE = "chosen,rejected"


REQUIRED: dict[Kind, tuple[str, ...]] = {
    Kind.LABEL: ("text", "label"),
    Kind.COMPLETION: ("prompt", "completion"),
    Kind.MESSAGES: ("messages",),
    Kind.PREFERENCE: ("chosen", "rejected"),
}
"""Kind -> the fields that each of its rows has. A preference may also have a ``prompt``."""


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row. ``number`` is its position in ``source``: see :class:`RawRecord`."""

    kind: Kind
    fields: Mapping[str, Any]
    source: str
    number: int
    id: str
    """SHA-256, in hex, of the canonical JSON of ``fields``."""

    @property
    def label(self) -> str | None:
        """The label of a labelled row."""
        return str(self.fields["label"]) if self.kind is Kind.LABEL else None

    def question(self) -> str:
        """Return what a model is given: the text, the prompt, or every message before the last answer."""
        if self.kind is Kind.LABEL:
            return str(self.fields["text"])
        if self.kind is Kind.MESSAGES:
            return "\n".join(str(message["content"]) for message in self.fields["messages"][:-1])
        chosen = self.fields.get("chosen")
        if isinstance(chosen, list):
            return "\n".join(str(message["content"]) for message in chosen[:-1])
        return str(self.fields.get("prompt", "")) or str(chosen or "")

    def text_to_compare(self) -> str:
        """Return the text that near-duplicates are found by: the question without system messages."""
        messages = self.fields.get("messages" if self.kind is Kind.MESSAGES else "chosen")
        if not isinstance(messages, list):
            return self.question()
        return "\n".join(str(m["content"]) for m in messages[:-1] if m["role"] != "system") or self.question()

    def full_text(self) -> str:
        """Return all text of the row, to count its tokens and to look for personal data."""
        parts: list[str] = []
        for value in self.fields.values():
            parts += [str(message["content"]) for message in value] if isinstance(value, list) else [str(value)]
        return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class ExcludedRecord:
    """A record that is not used, and why."""

    source: str
    number: int
    reason: str
    row_id: str | None = None
    category: str = "unreadable"
    """Short name of the reason, under which such records are counted."""


@dataclass(frozen=True, slots=True)
class UnreadableCell:
    """In place of a cell that cannot be read; ``problem`` follows the name of its field in a sentence."""

    problem: str


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as its file has it, before its columns have a meaning.

    ``number`` is the line of a text file (CSV, TSV, JSONL) on which the record begins, the item of a JSON array or a
    Parquet file (from 1), and the row of a sheet. ``problem`` says why ``values`` is empty.
    """

    number: int
    values: Mapping[str, Any]
    problem: str | None = None
    category: str = "unreadable"
    """Short name of the problem."""
