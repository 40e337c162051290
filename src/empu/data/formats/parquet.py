"""Parquet, through pyarrow, which comes with the extra ``tune``."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from empu.data.formats.cells import import_library, json_value
from empu.data.formats.table import CandidateFile, Table
from empu.data.rows import DataError, RawRecord, UnreadableCell

BATCH_ROWS = 1024


class ParquetFormat:
    """Parquet: recognised by its first bytes."""

    name = "parquet"

    def matches(self, file: CandidateFile) -> bool:
        return file.start.startswith(b"PAR1")

    def open(self, file: CandidateFile) -> list[Table]:
        path = file.path
        with _open_parquet(path) as parquet:
            columns = tuple(str(name) for name in parquet.schema_arrow.names)
            classes = _class_names(parquet.schema_arrow)
        notes = [
            f"the names of {column!r} are from the file's metadata ({len(names)})" for column, names in classes.items()
        ]
        return [
            Table(path, self.name, lambda wanted: read_parquet(path, wanted), columns=columns, notes=tuple(notes)),
        ]


@contextmanager
def _open_parquet(path: Path) -> Iterator[Any]:
    """Open a Parquet file. Raises :class:`~empu.data.rows.DataError` if it is damaged."""
    arrow, parquet = import_library("pyarrow", path), import_library("pyarrow.parquet", path)
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (arrow.ArrowException, OSError, ValueError) as error:
        first_line = (str(error).splitlines() or [""])[0][:120]
        raise DataError(f"{path} is a damaged Parquet file ({first_line}); write it again.") from error


def read_parquet(path: Path, columns: Collection[str] | None = None) -> Iterator[RawRecord]:
    """Yield the records of a Parquet file. Only ``columns`` are read, ``None`` reads all."""
    with _open_parquet(path) as file:
        classes = _class_names(file.schema_arrow)
        wanted = None if columns is None else [name for name in file.schema_arrow.names if name in columns]
        number = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
            names = batch.schema.names
            values = [_values(column) for column in batch.columns]
            values = [_named(column, classes.get(name)) for name, column in zip(names, values, strict=True)]
            for cells in zip(*values, strict=True):
                number += 1
                yield RawRecord(number, {name: json_value(cell) for name, cell in zip(names, cells, strict=True)})


def _values(column: Any) -> list[Any]:
    """Return a column in Python's types, or as text where these do not hold it, as with nanoseconds."""
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except (ValueError, OverflowError):
        pass
    try:
        numbers = column.cast("int64") if str(column.type).startswith("duration") else column
        return numbers.cast("string").to_pylist()  # type: ignore[no-any-return]
    except (ValueError, OverflowError, NotImplementedError) as error:
        return [UnreadableCell(f"holds {column.type}, which cannot be read ({type(error).__name__})")] * len(column)


def _class_names(schema: Any) -> dict[str, Sequence[str]]:
    """Return column -> names of its classes, from the metadata that the library ``datasets`` writes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        classes = {name: _names_of(feature) for name, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {name: names for name, names in classes.items() if names}


def _names_of(feature: Any) -> Sequence[str] | None:
    if isinstance(feature, list) and feature:
        return _names_of(feature[0])
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") in ("Sequence", "List", "LargeList"):
        return _names_of(feature.get("feature"))
    names = feature.get("names")
    is_class = feature.get("_type") == "ClassLabel"
    return names if is_class and isinstance(names, list) and all(isinstance(n, str) for n in names) else None


def _named(values: list[Any], names: Sequence[str] | None) -> list[Any]:
    """Replace class numbers by their names; -1, which marks rows without a label, by ``None``."""
    if names is None:
        return values

    def name_of(value: Any) -> Any:
        if isinstance(value, list):
            return [name_of(inner) for inner in value]
        if isinstance(value, int) and not isinstance(value, bool):
            return names[value] if 0 <= value < len(names) else None
        return value

    return [name_of(value) for value in values]
