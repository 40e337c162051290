"""Many rows in little memory: their fields as JSON end to end, and each row made when it is asked for."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from empu.data.rows import Kind, Row

_DIGEST = 32


class PackedRows(Sequence[Row]):
    """Rows in their order, in about 70 bytes each besides their own text. Equal rows come back as they went in."""

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
        """Add a row at the end."""
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
        place = range(len(self))[index]
        kind, source = self._origin_names[self._origins[place]]
        fields = json.loads(self._fields[self._ends[place] : self._ends[place + 1]])
        return Row(kind, fields, source, self._numbers[place], self._id_of(place))

    def ids(self) -> Iterator[str]:
        """The ids in order, without making the rows."""
        return (self._id_of(place) for place in range(len(self)))

    def _id_of(self, place: int) -> str:
        return self._ids[place * _DIGEST : (place + 1) * _DIGEST].hex()

    def sources(self) -> set[str]:
        """The files that the rows came from."""
        return {source for _, source in self._origin_names}
