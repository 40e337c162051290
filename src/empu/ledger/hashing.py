"""Content hashes: a file is identified by the SHA-256 of its bytes, a model by the hash of its list of files.

All structured data is hashed through :func:`canonical_json`, so that equal content has equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from empu.errors import StoreError

CHUNK_BYTES = 4 << 20
PREFIX = "sha256:"
"""Prefix that names the hash algorithm wherever an id is shown or written."""

OnBytes = Callable[[int], None]
"""Callback that receives the number of bytes processed since the last call."""


@dataclass(frozen=True, slots=True, order=True)
class FileId:
    """One file of a model: its relative name with forward slashes, size in bytes and SHA-256 in hex."""

    name: str
    size: int
    sha256: str


def canonical_json(value: object) -> bytes:
    """Encode ``value`` as canonical JSON: sorted keys, no spaces, unescaped UTF-8.

    Raises :class:`ValueError` for NaN and infinities, :class:`TypeError` for types that JSON lacks.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def content_id(value: object) -> str:
    """Return the SHA-256, in hex, of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def model_id(files: Iterable[FileId]) -> str:
    """Return the id of a model, in hex: the hash of its sorted list of (name, size, SHA-256).

    The origin is not part of it, so the same files pulled twice are the same model.
    """
    return content_id([{"name": f.name, "sha256": f.sha256, "size": f.size} for f in sorted(files)])


def hash_file(path: Path, on_bytes: OnBytes | None = None) -> str:
    """Return the SHA-256 of a file, in hex. Raises :class:`~empu.errors.StoreError` when it cannot be read."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                if on_bytes is not None:
                    on_bytes(count)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); check the disk and its permissions.") from error
    return digest.hexdigest()


def tagged(digest: str) -> str:
    """Return a digest with its algorithm, as ids are shown and written: ``sha256:…``."""
    return PREFIX + digest
