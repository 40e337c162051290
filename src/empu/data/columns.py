"""Which column means what: by its name first, by its content where names say nothing, and never by a coin toss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from empu.data.fields import messages_in
from empu.data.rows import REQUIRED, Kind
from empu.errors import UsageError


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


NAMES: dict[str, frozenset[str]] = {
    "text": _names(
        "text body message utterance query sentence ticket comment review content description inquiry request email "
        "mail tweet teks pesan isi keluhan kalimat tiket komentar ulasan"
    ),
    "label": _names(
        "label category class intent queue topic tag department sentiment labeltext labelname intentname kategori "
        "kelas antrian topik departemen sentimen maksud"
    ),
    "prompt": _names("prompt question instruction input pertanyaan instruksi perintah"),
    "completion": _names("completion response answer output reply target jawaban balasan tanggapan"),
    "messages": _names("messages conversation conversations dialog dialogue percakapan"),
    "chosen": frozenset({"chosen", "accepted", "preferred"}),
    "rejected": frozenset({"rejected", "dispreferred"}),
}
"""Field -> column names that say so, in lower case and without spaces, hyphens and underscores."""

FIELDS = frozenset(NAMES)
LABEL_CHARS = 40
"""Labels are shorter than this on average; texts are longer than :data:`TEXT_CHARS`."""
TEXT_CHARS = 12

HOW = {
    Kind.LABEL: "--map text=COLUMN,label=COLUMN",
    Kind.COMPLETION: "--map prompt=COLUMN,completion=COLUMN",
}


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a table holds: field -> column, why, and the columns that are not used.

    ``context`` is a column that is put below the prompt where it is not empty.
    """

    kind: Kind
    columns: Mapping[str, str]
    why: str
    unused: tuple[str, ...] = field(default=())

    def line(self) -> str:
        """One line for people."""
        parts = ", ".join(f"{name} = column {column!r}" for name, column in self.columns.items())
        unused = f"; not used: {', '.join(self.unused)}" if self.unused else ""
        return f"{parts} ({self.why}){unused}"


def recognise(
    columns: Sequence[str], sample: Sequence[Mapping[str, Any]], mapping: Mapping[str, str] | None, where: str
) -> Recognised:
    """What the columns mean. ``mapping`` (field -> column) overrides what they seem to be; ``where`` is for messages.

    Raises :class:`~empu.errors.UsageError` when they mean nothing, or more than one thing.
    """
    table = _Table(tuple(columns), sample, where)
    said = {name: column for name, column in (mapping or {}).items() if name != "sheet"}
    table.check(said)
    found = _by_names(table, said) or _by_content(table, said)
    if found is None:
        raise UsageError(table.nothing(said))
    twice = [column for column in found.columns.values() if columns.count(column) > 1]
    if twice:
        raise UsageError(f"{where} has more than one column {twice[0]!r}; give each its own name.")
    used = set(found.columns.values())
    return Recognised(found.kind, found.columns, found.why, tuple(name for name in columns if name not in used))


class _Table:
    """The columns with some of their values."""

    def __init__(self, columns: tuple[str, ...], sample: Sequence[Mapping[str, Any]], where: str) -> None:
        self.columns, self.sample, self.where = columns, sample, where

    def values(self, column: str) -> list[Any]:
        found = (values.get(column) for values in self.sample)
        return [value for value in found if value is not None and value != ""]

    def check(self, said: Mapping[str, str]) -> None:
        for name, column in said.items():
            if name not in FIELDS:
                known = ", ".join(sorted(FIELDS))
                raise UsageError(f"--map knows no field {name!r}; the fields are {known}, and sheet for a workbook.")
            if column not in self.columns:
                raise UsageError(f"{self.where} has no column {column!r}; {self.listed()}.")

    def listed(self) -> str:
        if not self.columns:
            return "it has no columns"
        names = ", ".join(repr(name) for name in self.columns[:30])
        return f"its columns are {names}" + (" and more" if len(self.columns) > 30 else "")

    def named(self, wanted: str) -> list[str]:
        """The columns whose name says ``wanted``; the exact name alone where it stands there."""
        if wanted in self.columns:
            return [wanted]
        return [name for name in dict.fromkeys(self.columns) if _flat(name) in NAMES[wanted]]

    def is_label(self, column: str) -> bool:
        """Whether the values name something: short, and the same ones again and again."""
        values = [str(value) for value in self.values(column) if isinstance(value, str | int)]
        if len(values) < 4 or len(values) < len(self.values(column)):
            return False
        kinds = len(set(values))
        short = sum(map(len, values)) / len(values) <= LABEL_CHARS
        return short and 2 <= kinds <= max(2, len(values) // 2)

    def is_text(self, column: str) -> bool:
        """Whether the values are running text, most of them different."""
        values = self.values(column)
        if not values or not all(isinstance(value, str) for value in values):
            return False
        spaced = sum(" " in value.strip() for value in values) * 2 > len(values)
        long = sum(map(len, values)) / len(values) >= TEXT_CHARS
        return spaced and long and len(set(values)) * 2 > len(values)

    def one_to_one(self, one: str, other: str) -> bool:
        pairs = {(str(values.get(one)), str(values.get(other))) for values in self.sample}
        return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})

    def nothing(self, said: Mapping[str, str]) -> str:
        if not said and self.looks_headless():
            return (
                f"{self.where} seems to have no header: its first line looks like a row; put a line such as text,label "
                "above it."
            )
        return (
            f"{self.where} does not say what to learn: {self.listed()}; say which they are with {HOW[Kind.LABEL]} or "
            f"{HOW[Kind.COMPLETION]}."
        )

    def looks_headless(self) -> bool:
        again = any(name in map(str, self.values(name)) for name in self.columns)
        return again or any(len(name) > 25 and name.count(" ") > 2 for name in self.columns)


def _flat(name: str) -> str:
    return "".join(char for char in name.casefold() if char not in " _-.")


def _single(table: _Table, name: str, candidates: list[str], kind: Kind) -> str | None:
    """The one candidate; ``None`` for none. Raises when there are more, unless they say the same."""
    if len(candidates) > 1 and name == "label":
        spelt = [one for one in candidates if not all(str(value).isdigit() for value in table.values(one))]
        if spelt and all(table.one_to_one(candidates[0], other) for other in candidates[1:]):
            return spelt[0]
    if len(candidates) > 1:
        names = " and ".join(repr(one) for one in candidates)
        raise UsageError(
            f"{table.where} has more than one column that could be the {name} ({names}); say which with "
            f"{HOW.get(kind, f'--map {name}=COLUMN')}; {table.listed()}."
        )
    return candidates[0] if candidates else None


def _by_names(table: _Table, said: Mapping[str, str]) -> Recognised | None:
    """The kind whose fields all have a column by name, or by what the user said."""
    why = "as you said" if said else "by their names"
    flat = {_flat(column): column for column in table.columns}
    for kind in (Kind.PREFERENCE, Kind.MESSAGES, Kind.COMPLETION, Kind.LABEL):
        needed = REQUIRED[kind]
        if said and not set(said) <= {*needed, "prompt" if kind is Kind.PREFERENCE else needed[0]}:
            continue
        options = {name: [said[name]] if name in said else table.named(name) for name in needed}
        if kind is Kind.MESSAGES:
            options = {name: [c for c in found if name in said or _holds(table, c)] for name, found in options.items()}
        context: dict[str, str] = {}
        if kind is Kind.COMPLETION and "prompt" not in said and {"instruction", "input"} <= set(flat):
            options["prompt"], context = [flat["instruction"]], {"context": flat["input"]}
        if all(options.values()):
            chosen = {name: _single(table, name, found, kind) or "" for name, found in options.items()}
            if len(set(chosen.values())) < len(chosen):
                continue
            if kind is Kind.PREFERENCE and (prompt := said.get("prompt") or next(iter(table.named("prompt")), None)):
                chosen = {"prompt": prompt, **chosen}
            return Recognised(kind, {**chosen, **context}, why)
    return None


def _holds(table: _Table, column: str) -> bool:
    values = table.values(column)
    return bool(values) and sum(messages_in(value) is not None for value in values) * 2 > len(values)


def _by_content(table: _Table, said: Mapping[str, str]) -> Recognised | None:
    """Text and label by what the columns hold, each at least partly; or messages under any name."""
    columns = list(dict.fromkeys(table.columns))
    if not said:
        talks = [column for column in columns if _holds(table, column)]
        if len(talks) == 1:
            return Recognised(Kind.MESSAGES, {"messages": talks[0]}, "it holds messages with roles")
    if not set(said) <= {"text", "label"}:
        return None
    taken = set(said.values())
    texts = [said["text"]] if "text" in said else table.named("text")
    labels = [said["label"]] if "label" in said else table.named("label")
    if not labels and not texts and table.looks_headless():
        return None
    texts = texts or [name for name in columns if name not in {*taken, *labels} and table.is_text(name)]
    labels = labels or [name for name in columns if name not in {*taken, *texts} and table.is_label(name)]
    if not texts or not labels:
        return None
    text = _single(table, "text", texts, Kind.LABEL)
    label = _single(table, "label", [name for name in labels if name != text], Kind.LABEL)
    if text is None or label is None:
        return None
    kinds = len(Counter(str(value) for value in table.values(label)))
    why = f"{label!r} holds {kinds} short values again and again, {text!r} holds running text"
    return Recognised(Kind.LABEL, {"text": text, "label": label}, why)
