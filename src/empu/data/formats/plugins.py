"""Readers that installed packages add through the entry point group ``empu.readers`` (docs/PLUGINS.md).

A reader is an object with ``name``, ``matches(path, start)`` and ``records(path)``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

from empu.data.formats.cells import json_value
from empu.data.formats.table import CandidateFile, Table
from empu.data.rows import DataError, RawRecord
from empu.errors import EmpuError

GROUP = "empu.readers"


class Reader(Protocol):
    """What an installed package provides to read files of one more format."""

    name: str

    def matches(self, path: Path, start: bytes) -> bool:
        """Whether the file is of this format. ``start`` is its first 4,096 bytes."""

    def records(self, path: Path) -> Iterable[Mapping[str, Any]]:
        """Yield one mapping of column names to values for each record."""


class PluginFormat:
    """A reader of an installed package as a format."""

    def __init__(self, reader: Reader, package: str) -> None:
        self.reader, self.package = reader, package
        self.name = str(reader.name)

    def matches(self, file: CandidateFile) -> bool:
        try:
            return bool(self.reader.matches(file.path, file.start))
        except Exception as error:
            raise self._failure(file.path, error) from error

    def open(self, file: CandidateFile) -> list[Table]:
        path = file.path
        notes = (f"read by the plug-in {self.package}",)
        return [Table(path, self.name, lambda columns: self._records(path, columns), notes=notes)]

    def _records(self, path: Path, columns: Collection[str] | None) -> Iterator[RawRecord]:
        try:
            for number, values in enumerate(self.reader.records(path), 1):
                yield RawRecord(number, json_value(dict(values)))
        except EmpuError:
            raise
        except Exception as error:
            raise self._failure(path, error) from error

    def _failure(self, path: Path, error: Exception) -> DataError:
        problem = f"{type(error).__name__}: {error}"[:200]
        return DataError(f"{path} cannot be read by the plug-in {self.package} ({problem}); update or uninstall it.")


def plugin_formats() -> list[PluginFormat]:
    """Return the formats of installed packages. Raises :class:`~empu.data.rows.DataError` if one cannot be loaded."""
    return [_load(entry) for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)]


def _load(entry: EntryPoint) -> PluginFormat:
    package = entry.dist.name if entry.dist is not None else entry.name
    try:
        reader = entry.load()
        return PluginFormat(reader, package)
    except Exception as error:
        raise DataError(
            f"The reader {entry.name!r} of the plug-in {package} cannot be loaded ({type(error).__name__}: {error}); "
            "update or uninstall it."
        ) from error
