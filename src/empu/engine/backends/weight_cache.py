"""Packed weights kept on disk, so that the next start maps them instead of packing again.

One file for each model, quantisation and layout: a line of JSON padded to a page, then the matrices end to end as the
kernels read them (``native/src/matrix.hpp``). Which matrices, in which order and of which size follows from the
checkpoint, so nothing in the file says where to look. Beside it lies a note of where the weights came from and of how
the file looked when its hash was last known to be right. A file that is not exactly what it should be is packed anew.

Packing is as fast as a disk, so nobody waits for the disk: until the machine starts again the file's looks are enough,
and after that it is hashed once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from empu.checkpoint import Checkpoint
from empu.engine import _native
from empu.engine.backends.storage import PackedPlace
from empu.errors import EmpuError
from empu.system import durable

_MAGIC = "empu packed weights"
_HEADER_BYTES = 4096
_CHUNK_BYTES = 4 << 20
_HUGE_PAGE_BYTES = 2 << 20
_LEAST_BYTES = 8 << 20
"""Smaller models are packed faster than they are looked up."""
_LARGE_BYTES = 500_000_000
_SPARE_BYTES = 1 << 30
"""Of the disk, which a file must leave free."""
_SETTLED_NS = 50_000_000
"""File clocks are coarse: a source that changed less than this ago may change again and look the same."""


@dataclass(frozen=True, slots=True)
class MatrixPlan:
    """One matrix of the model: ``kind`` is ``q4``, ``q4-symmetric``, ``q8`` or ``float32``."""

    name: str
    kind: str
    rows: int
    cols: int

    @property
    def bytes(self) -> int:
        """Its size in memory and in the file."""
        return _native.matrix_bytes(self.kind, self.rows, self.cols)


class PackedFile:
    """The file of one model's packed weights, there or not."""

    def __init__(self, place: PackedPlace, source: Mapping[str, Any], plan: Sequence[MatrixPlan]) -> None:
        self._place, self._source, self._plan = place, source, plan
        self.payload_bytes = sum(matrix.bytes for matrix in plan)
        kinds = [[m.name, m.kind, m.rows, m.cols] for m in plan]
        identity = {"layout": _native.layout_version, "source": source, "matrices": kinds}
        self.key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.path = place.folder / f"{self.key}.bin"
        self.note = place.folder / f"{self.key}.json"

    @classmethod
    def of(cls, place: PackedPlace, checkpoint: Checkpoint, plan: Sequence[MatrixPlan]) -> PackedFile | None:
        """``None`` where the weights are too few to be worth it, or the model's files have only just changed."""
        source = place.source if place.source is not None else _looks(checkpoint.files)
        found = None if source is None else cls(place, source, plan)
        return found if found is not None and found.payload_bytes >= _LEAST_BYTES else None

    def map_into(self, model: _native.Model) -> bool:
        """Give ``model`` its matrices out of the file; ``False``, and nothing done, where there is no good file."""
        try:
            if not self.path.is_file():  # opening a pipe would wait for ever
                return False
            with self.path.open("rb") as file:
                if not self._is_good(file):
                    return False
                mapped, offset = _native.FileMemory(file.fileno()), _HEADER_BYTES
                for matrix in self._plan:
                    model.map(matrix.name, matrix.kind, matrix.rows, matrix.cols, mapped, offset)
                    offset += matrix.bytes
        except (OSError, _native.Error):
            return False
        return True

    def keep(self, model: _native.Model) -> None:
        """Write the matrices of ``model``. What prevents it is one warning: the model is open all the same."""
        folder = self._place.folder
        try:
            with durable.writing(folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                free = shutil.disk_usage(folder).free
            if free < self.payload_bytes + _SPARE_BYTES:
                raise EmpuError(
                    f"{free / 2**30:.1f} GiB are free under {folder}; {self.payload_bytes / 2**30:.1f} GiB, and "
                    f"{_SPARE_BYTES / 2**30:.0f} to spare, are needed."
                )
            if self.payload_bytes >= _LARGE_BYTES:
                self._place.tell(f"Writing {self.payload_bytes / 1e9:.1f} GB of packed weights, for quick starts …")
            boot = _boot()
            with durable.replacing(self.path, flush=boot is None) as file:
                self._write(file, model)
            with durable.writing(folder):
                self._write_note(_look(self.path.stat()), boot)
            self._place.tidy()
        except EmpuError as error:
            self._place.tell(f"The packed weights are not kept, so the next start takes as long: {error}")

    def _write(self, file: BinaryIO, model: _native.Model) -> None:
        digest = hashlib.sha256()
        pages = _HugePages(file)
        pages.write(memoryview(bytes(_HEADER_BYTES)))
        with ThreadPoolExecutor(1) as beside:
            for matrix in self._plan:
                packed = model.packed(matrix.name)
                if packed.size != matrix.bytes:
                    raise EmpuError(f"{matrix.name} was packed in another form than planned.")
                hashed = beside.submit(digest.update, packed.data)
                pages.write(packed.data)
                hashed.result()
        pages.flush()
        file.seek(0)
        file.write(json.dumps(self._header(digest.hexdigest())).encode().ljust(_HEADER_BYTES, b"\0"))

    def _header(self, sha256: str) -> dict[str, Any]:
        return {"what": _MAGIC, "key": self.key, "bytes": self.payload_bytes, "sha256": sha256}

    def _is_good(self, file: BinaryIO) -> bool:
        """Whether the open file holds what its name says: by hash, or by how it looked when that was last right."""
        stat = os.fstat(file.fileno())
        if stat.st_size != _HEADER_BYTES + self.payload_bytes:
            return False
        try:
            header = json.loads(file.read(_HEADER_BYTES).rstrip(b"\0"))
            sha256 = str(header["sha256"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        if header != self._header(sha256):
            return False
        look = _look(stat)
        if self._is_noted(look):
            _touch(self.note)
            return True
        if _hash_rest(file) != sha256 or _look(os.fstat(file.fileno())) != look:
            return False
        with suppress(OSError):  # a folder that cannot be written: hashed again next time
            os.fsync(file.fileno())
            self._write_note(look, None)
        return True

    def _is_noted(self, look: list[int]) -> bool:
        try:
            note = json.loads(self.note.read_text(encoding="utf-8")) if self.note.is_file() else None
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(note, dict) and note.get("look") == look and note.get("boot", "") in (None, _boot())

    def _write_note(self, look: list[int], boot: str | None) -> None:
        """``boot``: the note holds only until the machine starts again; ``None``: the disk has the file."""
        note = {"source": self._source, "look": look, "boot": boot}
        durable.write_atomically(self.note, json.dumps(note).encode())


class _HugePages:
    """Writes a file so that Linux keeps it, and maps it for every process, in huge pages: that much at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._page = memoryview(bytearray(_HUGE_PAGE_BYTES))
        self._filled = 0

    def write(self, data: memoryview) -> None:
        while len(data):
            taken = min(len(data), _HUGE_PAGE_BYTES - self._filled)
            self._page[self._filled : self._filled + taken] = data[:taken]
            self._filled += taken
            data = data[taken:]
            if self._filled == _HUGE_PAGE_BYTES:
                self.flush()

    def flush(self) -> None:
        self._file.write(self._page[: self._filled])
        self._filled = 0


def _hash_rest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _look(stat: os.stat_result) -> list[int]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _looks(files: Sequence[Path]) -> dict[str, Any] | None:
    """Paths and looks of a model's files; ``None`` when one is missing or was changed a moment ago."""
    looks = {}
    for path in files:
        try:
            look = _look(path.stat())
        except OSError:
            return None
        if time.time_ns() - max(look[1], look[2]) < _SETTLED_NS:
            return None
        looks[str(path.absolute())] = look
    return {"files": looks}


def _boot() -> str | None:
    """What is another one after each start of the machine; ``None`` where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _touch(path: Path) -> None:
    """The note's time says when the weights were last used."""
    with suppress(OSError):
        os.utime(path)
