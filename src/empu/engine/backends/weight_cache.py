"""Cache of packed weights on disk: the next start maps them instead of packing again.

Each model, quantisation and layout has one file: a JSON header padded to a page, then the matrices end to end in the
layout of the kernels (``native/src``). Names, order and sizes of the matrices follow from the checkpoint, so the
file has no index. A sidecar file records the source of the weights, and the file's stamp when its hash was last
verified. A file that fails a check is packed again.

Packing is as fast as a disk, so a write does not wait for the disk to flush. Until the machine restarts, the stamp is
proof enough; after a restart the file is hashed once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from empu.checkpoint import Checkpoint
from empu.engine import _native
from empu.engine.backends.options import WeightCacheLocation
from empu.errors import EmpuError
from empu.system import durable
from empu.system.file_stamp import FileStamp, boot_id
from empu.system.files import load_json_object
from empu.system.json import JsonError, parse_json_object

_MAGIC = "empu packed weights"
_HEADER_BYTES = 4096
_HASH_CHUNK_BYTES = 4 << 20
_HUGE_PAGE_BYTES = 2 << 20
_MIN_BYTES = 8 << 20
"""Smaller models are packed faster than a cache file is found."""
_ANNOUNCE_BYTES = 500_000_000
"""Writing this much takes so long that the user is told."""
_RESERVED_DISK_BYTES = 1 << 30
"""Disk space that must stay free."""


@dataclass(frozen=True, slots=True)
class MatrixSpec:
    """Name, packed format and shape of one matrix; ``format`` is ``q4``, ``q4-symmetric``, ``q8`` or ``float32``."""

    name: str
    format: str
    rows: int
    cols: int

    @property
    def size_bytes(self) -> int:
        """Size in memory and in the file."""
        return _native.matrix_bytes(self.format, self.rows, self.cols)


class WeightCacheFile:
    """The cache file of one model, whether or not it exists."""

    def __init__(self, location: WeightCacheLocation, source: Mapping[str, Any], specs: Sequence[MatrixSpec]) -> None:
        self._location, self._source, self._specs = location, source, specs
        self.payload_bytes = sum(spec.size_bytes for spec in specs)
        matrices = [[spec.name, spec.format, spec.rows, spec.cols] for spec in specs]
        identity = {"layout": _native.layout_version, "source": source, "matrices": matrices}
        self.key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.path = location.folder / f"{self.key}.bin"
        self.sidecar_path = location.folder / f"{self.key}.json"

    @classmethod
    def for_checkpoint(
        cls, location: WeightCacheLocation, checkpoint: Checkpoint, specs: Sequence[MatrixSpec]
    ) -> WeightCacheFile | None:
        """Return ``None`` where caching does not pay, or the checkpoint's files have changed a moment ago."""
        source = location.source if location.source is not None else _stamps(checkpoint.files)
        if source is None:
            return None
        cache_file = cls(location, source, specs)
        return cache_file if cache_file.payload_bytes >= _MIN_BYTES else None

    def map_into(self, model: _native.Model) -> bool:
        """Map the matrices of ``model`` from the file. Return ``False``, and do nothing, without a valid file."""
        try:
            if not self.path.is_file():  # opening a pipe would block
                return False
            with self.path.open("rb") as file:
                if not self._is_valid(file):
                    return False
                mapped, offset = _native.MappedFile(file.fileno()), _HEADER_BYTES
                for spec in self._specs:
                    model.map(spec.name, spec.format, spec.rows, spec.cols, mapped, offset)
                    offset += spec.size_bytes
        except (OSError, _native.Error):
            return False
        return True

    def save(self, model: _native.Model) -> None:
        """Write the matrices of ``model``. A failure is only a message: the model works without the cache."""
        folder, on_message = self._location.folder, self._location.on_message
        try:
            with durable.explain_write_errors(folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                free = shutil.disk_usage(folder).free
            if free < self.payload_bytes + _RESERVED_DISK_BYTES:
                raise EmpuError(
                    f"{folder} has {free / 2**30:.1f} GiB free; the cache needs {self.payload_bytes / 2**30:.1f} GiB, "
                    f"and {_RESERVED_DISK_BYTES / 2**30:.0f} GiB to spare."
                )
            if self.payload_bytes >= _ANNOUNCE_BYTES:
                on_message(f"Writing {self.payload_bytes / 1e9:.1f} GB of packed weights, for faster starts …")
            boot = boot_id()
            with durable.atomic_file(self.path, flush=boot is None) as file:
                self._write(file, model)
            with durable.explain_write_errors(folder):
                self._write_sidecar(FileStamp.of(self.path), boot)
            self._location.on_added()
        except EmpuError as error:
            on_message(f"The packed weights were not cached, so the next start takes as long as this one: {error}")

    def _write(self, file: BinaryIO, model: _native.Model) -> None:
        digest = hashlib.sha256()
        writer = _HugePageWriter(file)
        writer.write(memoryview(bytes(_HEADER_BYTES)))
        with ThreadPoolExecutor(1) as hash_thread:
            for spec in self._specs:
                packed = model.packed_bytes(spec.name)
                if packed.size != spec.size_bytes:
                    raise EmpuError(f"{spec.name} was packed in another format than planned.")
                hashed = hash_thread.submit(digest.update, packed.data)
                writer.write(packed.data)
                hashed.result()
        writer.flush()
        file.seek(0)
        file.write(json.dumps(self._header(digest.hexdigest())).encode().ljust(_HEADER_BYTES, b"\0"))

    def _header(self, sha256: str) -> dict[str, Any]:
        return {"what": _MAGIC, "key": self.key, "bytes": self.payload_bytes, "sha256": sha256}

    def _is_valid(self, file: BinaryIO) -> bool:
        """Return whether the open file has the expected content: by its stamp, or else by its hash."""
        stamp = FileStamp.of(file.fileno())
        if stamp.size != _HEADER_BYTES + self.payload_bytes:
            return False
        try:
            header = parse_json_object(file.read(_HEADER_BYTES).rstrip(b"\0"))
            sha256 = str(header["sha256"])
        except (JsonError, KeyError):
            return False
        if header != self._header(sha256):
            return False
        if self._is_verified(stamp):
            _touch(self.sidecar_path)
            return True
        if _hash_rest(file) != sha256 or FileStamp.of(file.fileno()) != stamp:
            return False
        with suppress(OSError):  # in a read-only folder the file is hashed at each start
            os.fsync(file.fileno())
            self._write_sidecar(stamp, None)
        return True

    def _is_verified(self, stamp: FileStamp) -> bool:
        """Return whether the sidecar says that a file with this stamp had the right hash."""
        try:
            sidecar = load_json_object(self.sidecar_path)
        except (OSError, JsonError):
            return False
        return FileStamp.from_json(sidecar.get("look")) == stamp and sidecar.get("boot", "") in (None, boot_id())

    def _write_sidecar(self, stamp: FileStamp, boot: str | None) -> None:
        """``boot``: the stamp is proof until the machine restarts; ``None``: for ever, since the disk has the file."""
        sidecar = {"source": self._source, "look": stamp.to_json(), "boot": boot}
        durable.write_atomically(self.sidecar_path, json.dumps(sidecar).encode())


class _HugePageWriter:
    """Writes in units of huge pages, so that Linux caches the file in them and maps it in them for every process."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._page = memoryview(bytearray(_HUGE_PAGE_BYTES))
        self._filled = 0

    def write(self, data: memoryview) -> None:
        while len(data):
            count = min(len(data), _HUGE_PAGE_BYTES - self._filled)
            self._page[self._filled : self._filled + count] = data[:count]
            self._filled += count
            data = data[count:]
            if self._filled == _HUGE_PAGE_BYTES:
                self.flush()

    def flush(self) -> None:
        self._file.write(self._page[: self._filled])
        self._filled = 0


def _hash_rest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_HASH_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _stamps(files: Sequence[Path]) -> dict[str, Any] | None:
    """Return paths and stamps of a model's files; ``None`` when one is missing or changed a moment ago."""
    stamps = {}
    for path in files:
        try:
            stamp = FileStamp.of(path)
        except OSError:
            return None
        if not stamp.is_settled():
            return None
        stamps[str(path.absolute())] = stamp.to_json()
    return {"files": stamps}


def _touch(path: Path) -> None:
    """Set the file's time to now. The sidecar's time says when the weights were last used."""
    with suppress(OSError):
        os.utime(path)
