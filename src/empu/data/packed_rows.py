"""A sequence of rows in little memory: fields are stored as JSON, and each row is rebuilt when it is accessed."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from empu.data.rows import Kind, Row

_ID_BYTES = 32


class PackedRows(Sequence[Row]):
    """Rows in order, at about 70 bytes each besides their text."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._fields = bytearray()
        self._ends = array("q", [0])
        self._ids = bytearray()
        self._numbers = array("q")
        self._origins = array("i")
        self._origin_codes: dict[tuple[Kind, str], int] = {}
        self._origin_names: list[tuple[Kind, str]] = []
        for row in rows:
            self.append(row)

    def append(self, row: Row) -> None:
        """Append a row."""
        origin = (row.kind, row.source)
        code = self._origin_codes.setdefault(origin, len(self._origin_names))
        if code == len(self._origin_names):
            self._origin_names.append(origin)
        self._fields += json.dumps(dict(row.fields)).encode("ascii")
        self._ends.append(len(self._fields))
        self._ids += bytes.fromhex(row.id)
        self._numbers.append(row.number)
        self._origins.append(code)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        kind, source = self._origin_names[self._origins[i]]
        fields = json.loads(self._fields[self._ends[i] : self._ends[i + 1]])
        return Row(kind, fields, source, self._numbers[i], self._id_of(i))

    def ids(self) -> Iterator[str]:
        """Yield the row ids in order without rebuilding the rows."""
        return (self._id_of(i) for i in range(len(self)))

    def _id_of(self, i: int) -> str:
        return self._ids[i * _ID_BYTES : (i + 1) * _ID_BYTES].hex()

    def sources(self) -> set[str]:
        """Return the files that the rows came from."""
        return {source for _, source in self._origin_names}
