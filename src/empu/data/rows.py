"""What a row is, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from empu.errors import EmpuError


class DataError(EmpuError):
    """A user's file cannot be used; the message names the file, the place in it, and what to do."""


class Kind(StrEnum):
    """What a row asks a model to learn; the value is how reports spell it."""

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
"""Kind -> the fields that each of its rows has. A preference may have a ``prompt`` besides."""


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row. ``number`` is how a person finds it in ``source``: see :class:`Raw`."""

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
        """What a model is given: the text, the prompt, or every message before the last answer."""
        if self.kind is Kind.LABEL:
            return str(self.fields["text"])
        if self.kind is Kind.MESSAGES:
            return "\n".join(str(message["content"]) for message in self.fields["messages"][:-1])
        return str(self.fields.get("prompt", "")) or str(self.fields.get("chosen", ""))

    def wording(self) -> str:
        """The question as near-duplicates are told by: without instructions that stand before many dialogues."""
        if self.kind is not Kind.MESSAGES:
            return self.question()
        said = (str(one["content"]) for one in self.fields["messages"][:-1] if one["role"] != "system")
        return "\n".join(said) or self.question()

    def whole(self) -> str:
        """All text of the row, for counting its length and for looking for personal data."""
        parts: list[str] = []
        for value in self.fields.values():
            parts += [str(message["content"]) for message in value] if isinstance(value, list) else [str(value)]
        return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that gave no row, and why."""

    source: str
    number: int
    reason: str
    row_id: str | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """A record as its file has it, before its columns mean anything.

    ``number`` is the line of a JSONL file, the item of a JSON array or Parquet file (from 1), and the row that a
    spreadsheet program shows for CSV and XLSX (the header is row 1). ``problem`` says why ``values`` is empty.
    """

    number: int
    values: Mapping[str, Any]
    problem: str | None = None
