"""Reading a user's file or folder as rows, one at a time.

Reading knows formats and columns. Whether the rows are any good is the business of :mod:`empu.data.checks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from empu.data import columns
from empu.data.columns import Recognised
from empu.data.fields import UnusableError, build
from empu.data.formats import recognition
from empu.data.formats.recognition import Table
from empu.data.rows import DataError, Kind, Rejected, Row
from empu.errors import EmpuError, MissingDependencyError
from empu.ledger.hashing import content_id, hash_file
from empu.system.paths import user_path

SAMPLE_ROWS = 1000
"""Records of each file that its columns are recognised from."""


@dataclass(frozen=True, slots=True)
class Part:
    """One table of a reading. ``source`` is its path as the user gave it, and ``#SHEET`` in a workbook with several."""

    source: str
    table: Table
    recognised: Recognised
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read from where. Nothing is kept in memory: each call of :meth:`items` reads the files again."""

    path: str
    kind: Kind
    parts: tuple[Part, ...]
    skipped: tuple[tuple[str, str], ...]
    """Files that give no rows: path as given, and a sentence that says why."""

    def items(self) -> Iterator[Row | Rejected]:
        """Every record of every file in order, as a row or as the reason why it is none.

        Raises :class:`~empu.data.rows.DataError` when a file breaks off in the middle.
        """
        for part in self.parts:
            yield from _items(part)

    def rows(self) -> Iterator[Row]:
        """The records that are rows."""
        return (item for item in self.items() if isinstance(item, Row))

    def lines(self) -> list[str]:
        """What was found, for people."""
        said = []
        for part in self.parts:
            said.append(f"{part.source}: {part.table.format}, {part.recognised.line()}")
            said.extend(f"{part.source}: {note}" for note in part.table.notes)
        said.extend(f"left out: {reason}" for _, reason in self.skipped)
        return said

    def check_unchanged(self) -> None:
        """Raise :class:`~empu.data.rows.DataError` when a file is not the one that was opened."""
        for part in self.parts:
            if part.table.file.stat().st_size != part.size or hash_file(part.table.file) != part.sha256:
                raise DataError(f"{part.source} changed while it was being used; start again.")


def read_rows(path: Path | str, mapping: Mapping[str, str] | None = None) -> Reading:
    """Open a file, or every file below a folder.

    ``mapping`` says which column is which field (``{"text": "body"}``), and which ``sheet`` of a workbook. In a folder,
    files that cannot be used are named in ``skipped``; a single file that cannot be used raises
    :class:`~empu.data.rows.DataError`, :class:`~empu.errors.UsageError` when its columns are unclear, or
    :class:`~empu.errors.MissingDependencyError`.
    """
    root = user_path(path)
    parts: list[Part] = []
    skipped: list[tuple[str, str]] = []
    for file in recognition.listed(root):
        given = str(path) if file == root else f"{str(path).rstrip('/')}/{file.relative_to(root).as_posix()}"
        try:
            parts.extend(_open(file, given, mapping))
        except MissingDependencyError:
            raise
        except EmpuError as error:
            if file == root:
                raise
            skipped.append((given, str(error)))
    if not parts:
        _, first = skipped[0]
        raise DataError(f"None of the {len(skipped)} files below {path} can be used; the first: {first}")
    kind = Counter(part.recognised.kind for part in parts).most_common(1)[0][0]
    for part in parts:
        if part.recognised.kind is not kind:
            reason = f"{part.source} holds {part.recognised.kind} rows and most other files {kind} rows."
            skipped.append((part.source, reason))
    return Reading(str(path), kind, tuple(part for part in parts if part.recognised.kind is kind), tuple(skipped))


def held_out(reading: Reading) -> tuple[Reading, Reading | None]:
    """A folder's files that are named as its test part, apart from the rest; ``None`` where there are none.

    A file counts as a test part when its name begins with "test" and another's begins with "train".
    """
    test = tuple(part for part in reading.parts if _named(part, "test"))
    if not test or not any(_named(part, "train") for part in reading.parts):
        return reading, None
    rest = tuple(part for part in reading.parts if not _named(part, "test"))
    return replace(reading, parts=rest), replace(reading, parts=test, skipped=())


def _named(part: Part, start: str) -> bool:
    return part.table.file.name.casefold().startswith(start)


def _open(file: Path, given: str, mapping: Mapping[str, str] | None) -> list[Part]:
    tables = recognition.recognise(file, (mapping or {}).get("sheet"))
    sha256, size = hash_file(file), file.stat().st_size
    return [
        Part(
            f"{given}#{table.sheet}" if len(tables) > 1 else given,
            table,
            _recognised(table, given, mapping),
            sha256,
            size,
        )
        for table in tables
    ]


def _recognised(table: Table, given: str, mapping: Mapping[str, str] | None) -> Recognised:
    raws = list(islice(table.records(), SAMPLE_ROWS))
    sample = [raw.values for raw in raws if raw.problem is None]
    if not sample:
        if raws:
            raise DataError(f"{given} holds no usable rows; row {raws[0].number}: {raws[0].problem}.")
        raise DataError(f"{given} holds no rows; put some below its header, or inside its brackets.")
    names = table.columns or tuple(dict.fromkeys(name for values in sample for name in values))
    return columns.recognise(names, sample, mapping, given)


def _items(part: Part) -> Iterator[Row | Rejected]:
    recognised, kind = part.recognised, part.recognised.kind
    exact = part.table.encoding is None or part.table.encoding.name.startswith("utf-8")
    for raw in part.table.records():
        if raw.problem is not None:
            yield Rejected(part.source, raw.number, raw.problem)
            continue
        try:
            fields = build(kind, recognised.columns, raw.values, exact)
            yield Row(kind, fields, part.source, raw.number, content_id(fields))
        except UnusableError as error:
            yield Rejected(part.source, raw.number, str(error))
        except ValueError as error:
            yield Rejected(part.source, raw.number, f"it cannot be written as JSON ({error})")
