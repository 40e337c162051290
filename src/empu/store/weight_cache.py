"""The folder of packed weights, ``cache/packed``: which of its files may stay.

The engine writes there, for each model that it opened, ``<key>.bin`` and beside it ``<key>.json``: where the weights
came from, and the time of its last use as the time of the file. Everything here can be deleted at any moment; it only
makes the next start slower.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empu.store.store import Store

LIMIT_BYTES = 32 << 30
"""Of all files together; the newest one stays whatever its size."""
_UNNOTED_S = 3600.0
"""A file without its note, or one half written, is left alone so long: somebody may be writing it."""


def folder(store: Store) -> Path:
    """Where they lie."""
    return store.home / "cache" / "packed"


def source(model_id: str) -> dict[str, Any]:
    """What the note of a model of the store says."""
    return {"model": model_id}


@dataclass(frozen=True, slots=True)
class Kept:
    """One file of packed weights."""

    path: Path
    size: int
    used: float
    """When, in seconds since 1970."""
    source: Mapping[str, Any]

    def remove(self) -> None:
        """Away with it and its note; processes that have it mapped keep their pages."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".json").unlink(missing_ok=True)


def kept(store: Store) -> list[Kept]:
    """All of them, the last used first."""
    return sorted(_listed(folder(store)), key=lambda one: -one.used)


def tidy(store: Store, limit: int = LIMIT_BYTES) -> int:
    """Remove the weights of models that are gone or changed, what broken writes left, and the longest unused beyond
    ``limit`` bytes; gives the bytes freed. A folder that cannot be written stays as it is.
    """
    freed = room = 0
    try:
        for one in kept(store):
            room += one.size
            if _is_orphan(store, one.source) or (room > limit and room > one.size):
                room -= one.size
                freed += one.size
                one.remove()
        _remove_leftovers(folder(store))
    except OSError:
        return freed
    return freed


def _listed(folder: Path) -> Iterator[Kept]:
    for note in folder.glob("*.json"):
        try:
            read = json.loads(note.read_text(encoding="utf-8"))
            stat = note.with_suffix(".bin").stat()
            used = note.stat().st_mtime
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(read, dict) and isinstance(read.get("source"), dict):
            yield Kept(note.with_suffix(".bin"), stat.st_size, used, read["source"])


def _is_orphan(store: Store, source: Mapping[str, Any]) -> bool:
    if "model" in source:
        return not (store.models / str(source["model"]) / "model.json").is_file()
    files = source.get("files")
    if not isinstance(files, dict):
        return True
    return any(_look(Path(path)) != look for path, look in files.items())


def _look(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _remove_leftovers(folder: Path) -> None:
    noted = {one.path.stem for one in _listed(folder)}
    for path in folder.glob("*"):
        if path.stem not in noted and time.time() - path.stat().st_mtime > _UNNOTED_S:
            path.unlink(missing_ok=True)
