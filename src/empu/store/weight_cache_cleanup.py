"""Deletion of cached weights in ``cache/packed`` whose model is gone or changed, or that exceed a size limit.

For each model that it opened, the engine writes ``<key>.bin`` and a note ``<key>.json``. The note says where the
weights came from; its modification time is the time of their last use. All files here can be deleted at any time; the
next start is then slower.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empu.store.store import Store
from empu.system.file_stamp import FileStamp
from empu.system.files import load_json_object

MAX_CACHE_BYTES = 32 << 30
"""Limit on all files together. The last used file stays whatever its size."""
_INCOMPLETE_S = 3600.0
"""Age in seconds up to which a file without a note is kept: a process may be writing it."""


def cache_folder(store: Store) -> Path:
    """Return the folder of cached weights."""
    return store.home / "cache" / "packed"


def cache_source(model_id: str) -> dict[str, Any]:
    """Return the source that notes give for a model of the store."""
    return {"model": model_id}


@dataclass(frozen=True, slots=True)
class CachedWeights:
    """One file of cached weights."""

    path: Path
    size: int
    used_at: float
    """Time of the last use, in seconds since 1970."""
    source: Mapping[str, Any]

    def delete(self) -> None:
        """Delete the file and its note. Processes that have mapped the file keep their pages."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".json").unlink(missing_ok=True)


def cached_weights(store: Store) -> list[CachedWeights]:
    """Return all cached weights, the last used first."""
    return sorted(_list_files(cache_folder(store)), key=lambda file: -file.used_at)


def clean_up(store: Store, max_bytes: int = MAX_CACHE_BYTES) -> int:
    """Delete weights of missing or changed models, incomplete files, and the least recently used beyond ``max_bytes``.

    Return the number of bytes freed. Stops at the first file that cannot be deleted.
    """
    freed = total = 0
    try:
        for file in cached_weights(store):
            total += file.size
            if _is_orphan(store, file.source) or (total > max_bytes and total > file.size):
                total -= file.size
                freed += file.size
                file.delete()
        _delete_incomplete(cache_folder(store))
    except OSError:
        return freed
    return freed


def _list_files(folder: Path) -> Iterator[CachedWeights]:
    for note_path in folder.glob("*.json"):
        try:
            note = load_json_object(note_path)
            size = note_path.with_suffix(".bin").stat().st_size
            used_at = note_path.stat().st_mtime
        except (OSError, ValueError):
            continue
        if isinstance(note.get("source"), dict):
            yield CachedWeights(note_path.with_suffix(".bin"), size, used_at, note["source"])


def _is_orphan(store: Store, source: Mapping[str, Any]) -> bool:
    """Return whether the model of a note is gone, or its files outside the store changed."""
    if "model" in source:
        return not (store.models_folder / str(source["model"]) / "model.json").is_file()
    files = source.get("files")
    if not isinstance(files, dict):
        return True
    return any(_stamp(Path(path)) != FileStamp.from_json(stamp) for path, stamp in files.items())


def _stamp(path: Path) -> FileStamp | None:
    try:
        return FileStamp.of(path)
    except OSError:
        return None


def _delete_incomplete(folder: Path) -> None:
    complete = {file.path.stem for file in _list_files(folder)}
    for path in folder.glob("*"):
        if path.stem not in complete and time.time() - path.stat().st_mtime > _INCOMPLETE_S:
            path.unlink(missing_ok=True)
