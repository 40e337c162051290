"""Map columns to fields: by their names first, by their content where names do not tell. Ambiguity is an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from empu.data.fields import BAD, GOOD, words
from empu.data.messages import KNOWN_KEYS, find_messages, transcript_messages
from empu.data.rows import REQUIRED, Kind
from empu.errors import UsageError

NAMES: dict[str, frozenset[str]] = {
    "text": words(
        "text body message utterance query sentence ticket comment review content description inquiry request email "
        "mail tweet teks pesan isi keluhan kalimat tiket komentar ulasan"
    ),
    "label": words(
        "label category class intent queue topic tag department sentiment labeltext labelname intentname kategori "
        "kelas antrian topik departemen sentimen maksud"
    ),
    "prompt": words("prompt question instruction input pertanyaan instruksi perintah"),
    "completion": words("completion response answer output reply target jawaban balasan tanggapan"),
    "messages": words("messages conversation conversations dialog dialogue contents chat turns percakapan"),
    "chosen": words("chosen accepted preferred preferredoutput chosenresponse"),
    "rejected": words("rejected dispreferred nonpreferredoutput rejectedresponse"),
    "context": words("context input passage document article paragraph background knowledge reference konteks"),
    "system": words("system systemprompt systemmessage sistem"),
    "history": words("history chathistory conversationhistory previousturns riwayat"),
    "verdict": words(
        "verdict label ktotag desirable isdesirable good isgood accepted isaccepted thumb thumbs thumbsup feedback "
        "correct iscorrect preferred ispreferred approved isapproved valid isvalid keep usable ok isok helpful "
        "ishelpful like liked upvoted positive ispositive winner iswinner "
        "safe issafe rating vote train include included penilaian"
    ),
}
"""Field -> column names that mean it, in lower case without spaces, hyphens and underscores."""

FIELDS = frozenset(NAMES)
NOT_COLUMNS = frozenset({"sheet", "header", "ignore"})
"""Settings of ``--map`` that are not fields."""

OPTIONAL: dict[Kind, tuple[str, ...]] = {
    Kind.LABEL: (),
    Kind.COMPLETION: ("context", "system", "history", "verdict"),
    Kind.MESSAGES: ("system", "verdict"),
    Kind.PREFERENCE: ("prompt", "context", "system", "history"),
}
"""Kind -> fields that its rows may have besides the required ones."""

MAX_LABEL_CHARS = 40
"""Labels are shorter than this on average; texts are longer than :data:`MIN_TEXT_CHARS`."""
MIN_TEXT_CHARS = 12

LOSSES: tuple[tuple[frozenset[str], str], ...] = (
    (NAMES["context"] | NAMES["system"] | NAMES["history"], "a part of the question that the model does not see"),
    (words("tools functions availabletools"), "the tools that answers may call, which the model does not see"),
    (words("image images audio video videos picture photo"), "pictures or sounds that the model does not see"),
    (
        words("score rating reward quality votes stars weight importance confidence"),
        "rows of any value are trained on alike",
    ),
    (words("split part fold subset partition"), "its parts are not used; give train and test files for that"),
)
"""Column names -> what is lost if such a column is not used."""

HOW = {
    Kind.LABEL: "--map text=COLUMN,label=COLUMN",
    Kind.COMPLETION: "--map prompt=COLUMN,completion=COLUMN",
}


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """What the columns of a table mean: field -> column, the reason, and the columns that are not used.

    Besides the fields of rows there are ``context`` (put below the prompt), ``system`` and ``history`` (put before it),
    ``verdict`` (rows marked as bad are excluded), and ``answers`` (the better and the worse answer as a list).
    """

    kind: Kind
    columns: Mapping[str, str]
    why: str
    unused: tuple[str, ...] = ()
    losses: Mapping[str, str] = field(default_factory=dict)
    """Unused column -> what is lost without it."""

    def line(self) -> str:
        """Return the mapping as one line of text."""
        parts = ", ".join(f"{name} = column {column!r}" for name, column in self.columns.items())
        unused = ", ".join(f"{name} ({self.losses[name]})" if name in self.losses else name for name in self.unused)
        return f"{parts} ({self.why})" + (f"; not used: {unused}" if unused else "")


def map_columns(
    columns: Sequence[str], sample: Sequence[Mapping[str, Any]], mapping: Mapping[str, str] | None, where: str
) -> ColumnMapping:
    """Return what the columns mean. ``mapping`` (field -> column) takes precedence; ``where`` is for messages.

    Raises :class:`~empu.errors.UsageError` if the columns have no meaning, or more than one.
    """
    table = _Table(tuple(columns), sample, where, (mapping or {}).get("ignore"))
    requested = {name: column for name, column in (mapping or {}).items() if name not in NOT_COLUMNS}
    table.check(requested)
    column_mapping = _by_names(table, requested) or _by_content(table, requested)
    if column_mapping is None:
        raise UsageError(table.no_meaning(requested))
    column_mapping = _adapt(table, column_mapping)
    repeated = [column for column in column_mapping.columns.values() if columns.count(column) > 1]
    if repeated:
        raise UsageError(f"{where} has more than one column {repeated[0]!r}; give each its own name.")
    used = set(column_mapping.columns.values())
    unused = [name for name in columns if name not in used]
    losses = {name: loss for name in unused if (loss := _loss(table, column_mapping.kind, name))}
    for key in _unused_message_keys(table, column_mapping):
        unused.append(key)
        losses[key] = "text of messages that the model does not see"
    return ColumnMapping(column_mapping.kind, column_mapping.columns, column_mapping.why, tuple(unused), losses)


class _Table:
    """The columns with some of their values."""

    def __init__(
        self, columns: tuple[str, ...], sample: Sequence[Mapping[str, Any]], where: str, ignored: str | None
    ) -> None:
        self.columns, self.sample, self.where, self.ignored = columns, sample, where, ignored
        if ignored is not None and ignored not in columns:
            raise UsageError(f"{where} has no column {ignored!r} to ignore; {self.list_columns()}.")

    def values(self, column: str) -> list[Any]:
        cells = (values.get(column) for values in self.sample)
        return [cell for cell in cells if cell is not None and cell != "" and cell != []]

    def check(self, requested: Mapping[str, str]) -> None:
        for name, column in requested.items():
            if name not in FIELDS:
                known = ", ".join(sorted(FIELDS))
                raise UsageError(
                    f"--map has no field {name!r}; the fields are {known}; ignore for a column that is not to be used; "
                    "header for the line of the column names, and sheet for a workbook."
                )
            if column not in self.columns:
                raise UsageError(f"{self.where} has no column {column!r}; {self.list_columns()}.")

    def list_columns(self) -> str:
        if not self.columns:
            return "it has no columns"
        names = ", ".join(repr(name) for name in self.columns[:30])
        return f"its columns are {names}" + (" and more" if len(self.columns) > 30 else "")

    def named(self, wanted: str) -> list[str]:
        """Return the columns whose name means ``wanted``; the exact name alone if there is one."""
        if wanted in self.columns and wanted != self.ignored:
            return [wanted]
        return [name for name in dict.fromkeys(self.columns) if _flat(name) in NAMES[wanted] and name != self.ignored]

    def is_label(self, column: str) -> bool:
        """Whether the values are names: short, and the same ones again and again."""
        values = [str(value) for value in self.values(column) if isinstance(value, str | int)]
        if len(values) < 4 or len(values) < len(self.values(column)):
            return False
        distinct = len(set(values))
        is_short = sum(map(len, values)) / len(values) <= MAX_LABEL_CHARS
        return is_short and 2 <= distinct <= max(2, len(values) // 2)

    def is_text(self, column: str) -> bool:
        """Whether the values are running text, most of them different."""
        values = self.values(column)
        if not values or not all(isinstance(value, str) for value in values):
            return False
        has_spaces = sum(" " in value.strip() for value in values) * 2 > len(values)
        is_long = sum(map(len, values)) / len(values) >= MIN_TEXT_CHARS
        return has_spaces and is_long and len(set(values)) * 2 > len(values)

    def holds_messages(self, column: str) -> bool:
        """Whether most values are messages."""
        values = self.values(column)
        return bool(values) and sum(find_messages(value) is not None for value in values) * 2 > len(values)

    def holds_conversations(self, column: str) -> bool:
        """Whether most values are lists of messages, and not one message each."""
        values = [value for value in self.values(column) if not isinstance(value, dict)]
        return bool(values) and self.holds_messages(column)

    def holds_pairs_of_texts(self, column: str) -> bool:
        """Whether all values are lists of two texts."""
        values = self.values(column)
        return bool(values) and all(
            isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)
            for value in values
        )

    def holds_verdicts(self, column: str) -> bool:
        """Whether all values say good or bad."""
        words = {str(value).strip().casefold() for value in self.values(column)}
        return bool(words) and words <= GOOD | BAD

    def holds_flags(self, column: str) -> bool:
        """Whether all values are true or false."""
        return all(isinstance(value, bool) for value in self.values(column))

    def holds_transcripts(self, column: str) -> bool:
        """Whether most values are turns in one text, ``Human: ... Assistant: ...``."""
        values = self.values(column)
        count = sum(isinstance(value, str) and transcript_messages(value) is not None for value in values)
        return count * 2 > len(values)

    def is_one_to_one(self, first: str, second: str) -> bool:
        pairs = {(str(values.get(first)), str(values.get(second))) for values in self.sample}
        return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})

    def no_meaning(self, requested: Mapping[str, str]) -> str:
        if not requested and self.has_no_header():
            return (
                f"{self.where} seems to have no header: its first line looks like a row; put a line such as text,label "
                "above it."
            )
        for column in self.named("messages"):
            if self.values(column) and not isinstance(self.values(column)[0], str):
                return (
                    f"{self.where} has a column {column!r} whose values are not messages with role and content; write "
                    'each as [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}].'
                )
        return (
            f"{self.where} does not say what to learn: {self.list_columns()}; say which they are with "
            f"{HOW[Kind.LABEL]} or {HOW[Kind.COMPLETION]}, or where the header is with --map header=LINE."
        )

    def has_no_header(self) -> bool:
        repeats = any(name in map(str, self.values(name)) for name in self.columns)
        return repeats or any(len(name) > 25 and name.count(" ") > 2 for name in self.columns)


def has_field_names(names: Sequence[str]) -> bool:
    """Whether column names mean all required fields of a kind of rows that has several."""
    flat = {_flat(name) for name in names}
    return any(len(fields) > 1 and all(flat & NAMES[name] for name in fields) for fields in REQUIRED.values())


def _flat(name: str) -> str:
    return "".join(char for char in name.casefold() if char not in " _-.")


def _single(table: _Table, name: str, candidates: list[str], kind: Kind) -> str | None:
    """Return the only candidate, ``None`` for none. Raises if there are more, unless they mean the same."""
    if len(candidates) > 1 and name == "label":
        named = [column for column in candidates if not all(str(value).isdigit() for value in table.values(column))]
        if named and all(table.is_one_to_one(candidates[0], other) for other in candidates[1:]):
            return named[0]
    if len(candidates) > 1:
        names = " and ".join(repr(column) for column in candidates)
        raise UsageError(
            f"{table.where} has more than one column that could be the {name} ({names}); say which with "
            f"{HOW.get(kind, f'--map {name}=COLUMN')}; {table.list_columns()}."
        )
    return candidates[0] if candidates else None


def _by_names(table: _Table, requested: Mapping[str, str]) -> ColumnMapping | None:
    """Return the first kind whose required fields all have a column by name, or by request."""
    why = "as requested" if requested else "by their names"
    for kind in (Kind.PREFERENCE, Kind.MESSAGES, Kind.COMPLETION, Kind.LABEL):
        required = REQUIRED[kind]
        if not set(requested) <= {*required, *OPTIONAL[kind]}:
            continue
        candidates = {name: [requested[name]] if name in requested else table.named(name) for name in required}
        if kind is Kind.MESSAGES and "messages" not in requested:
            candidates["messages"] = [column for column in candidates["messages"] if table.holds_messages(column)]
        if kind is Kind.PREFERENCE:  # "accepted" and "rejected" may hold true and false
            candidates = {
                name: [column for column in named if name in requested or not table.holds_flags(column)]
                for name, named in candidates.items()
            }
        if "prompt" in candidates and "prompt" not in requested:
            candidates["prompt"] = _without_context(candidates["prompt"])
        if not all(candidates.values()):
            continue
        chosen = {name: _single(table, name, named, kind) or "" for name, named in candidates.items()}
        if len(set(chosen.values())) < len(chosen):
            continue
        return ColumnMapping(kind, _with_optional(table, kind, chosen, requested), why)
    return None


def _without_context(prompts: list[str]) -> list[str]:
    """Return the candidates for a prompt; a column ``input`` beside an instruction is its context."""
    others = [column for column in prompts if _flat(column) != "input"]
    return others or prompts


def _with_optional(
    table: _Table, kind: Kind, chosen: Mapping[str, str], requested: Mapping[str, str]
) -> dict[str, str]:
    """Add the columns of optional fields."""
    columns = dict(chosen)
    for name in OPTIONAL[kind]:
        if name in requested:
            columns = {name: requested[name], **columns} if name == "prompt" else columns | {name: requested[name]}
            continue
        candidates = [column for column in table.named(name) if column not in columns.values()]
        if name == "prompt":
            candidates = _without_context(candidates)
            candidates += [c for c in table.named("messages") if c not in columns.values() and table.holds_messages(c)]
        if name == "verdict":
            candidates = [column for column in candidates if table.holds_verdicts(column)]
        if name == "context" and columns.get("prompt") is None and kind is not Kind.PREFERENCE:
            continue
        if candidates:
            columns = {name: candidates[0], **columns} if name == "prompt" else columns | {name: candidates[0]}
    return columns


def _adapt(table: _Table, column_mapping: ColumnMapping) -> ColumnMapping:
    """Return the mapping for prompts and completions that are conversations, or pairs of answers."""
    if column_mapping.kind is not Kind.COMPLETION:
        return column_mapping
    columns = dict(column_mapping.columns)
    completion = columns["completion"]
    if table.holds_pairs_of_texts(completion):
        del columns["completion"]
        columns.pop("verdict", None)
        return ColumnMapping(
            Kind.PREFERENCE,
            columns | {"answers": completion},
            f"{column_mapping.why}; each {completion!r} is a better and a worse answer",
        )
    prompt = columns["prompt"]
    has_dialogue = (
        table.holds_messages(prompt)
        or table.holds_transcripts(prompt)
        or any(table.values(columns[name]) for name in ("system", "history") if name in columns)
    )
    if has_dialogue:
        return ColumnMapping(Kind.MESSAGES, columns, column_mapping.why)
    return column_mapping


def _by_content(table: _Table, requested: Mapping[str, str]) -> ColumnMapping | None:
    """Return text and label by what the columns hold, or messages under any name."""
    columns = [column for column in dict.fromkeys(table.columns) if column != table.ignored]
    if not requested:
        conversations = [column for column in columns if table.holds_conversations(column)]
        if len(conversations) == 1:
            optional = _with_optional(table, Kind.MESSAGES, {"messages": conversations[0]}, {})
            return ColumnMapping(Kind.MESSAGES, optional, "it holds messages with roles")
    if not set(requested) <= {"text", "label"}:
        return None
    taken = set(requested.values())
    texts = [requested["text"]] if "text" in requested else table.named("text")
    labels = [requested["label"]] if "label" in requested else table.named("label")
    if not labels and not texts and table.has_no_header():
        return None
    texts = texts or [name for name in columns if name not in {*taken, *labels} and table.is_text(name)]
    labels = labels or [name for name in columns if name not in {*taken, *texts} and table.is_label(name)]
    if not texts or not labels:
        return None
    text = _single(table, "text", texts, Kind.LABEL)
    label = _single(table, "label", [name for name in labels if name != text], Kind.LABEL)
    if text is None or label is None:
        return None
    distinct = len(Counter(str(value) for value in table.values(label)))
    why = f"{label!r} holds {distinct} short values again and again, {text!r} holds running text"
    return ColumnMapping(Kind.LABEL, {"text": text, "label": label}, why)


def _loss(table: _Table, kind: Kind, column: str) -> str | None:
    """Return what is lost without a column, ``None`` if it seems to mean nothing to the model."""
    values = table.values(column)
    if not values or column == table.ignored:
        return None
    if kind is not Kind.LABEL and all(isinstance(value, bool) for value in values) and len(set(values)) > 1:
        count = sum(values)
        return (
            f"true in {count:,} rows and false in {len(values) - count:,}, which are trained on alike; if it says "
            f"which answers are good, add --map verdict={column}"
        )
    for names, loss in LOSSES:
        if _flat(column) in names and len({str(value) for value in values}) > 1 - (_flat(column) in LOSSES[0][0]):
            return loss
    if table.holds_messages(column):
        return "messages that the model does not see"
    if table.is_text(column):
        return "text that the model does not see"
    if table.is_label(column):
        return f"{len({str(value) for value in values})} values that the model does not see"
    return None


def _unused_message_keys(table: _Table, column_mapping: ColumnMapping) -> list[str]:
    """Return the keys of messages that hold text and are not used, such as ``messages[].reasoning_content``."""
    keys: dict[str, None] = {}
    for name in ("messages", "prompt", "completion", "chosen", "rejected"):
        for value in table.values(column_mapping.columns[name])[:100] if name in column_mapping.columns else ():
            for message in find_messages(value) or ():
                keys |= {
                    f"{column_mapping.columns[name]}[].{key}": None
                    for key, inner in message.items()
                    if key not in KNOWN_KEYS and isinstance(inner, str | list | dict) and inner
                }
    return list(keys)
