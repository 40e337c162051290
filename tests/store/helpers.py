"""Helpers for the tests of the store: records and stored models whose files are arbitrary bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from empu.ledger.hashing import FileId
from empu.store.model_record import Disclosure, LicenceInfo, ModelRecord, ModelSource, Statement
from empu.store.store import AddResult, Store


def make_record(files: dict[str, bytes], *, linked_to: str | None = None, typed: str = "somewhere") -> ModelRecord:
    """Return a record of ``files``."""
    ids = [FileId(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()]
    return ModelRecord(
        files=tuple(sorted(ids)),
        format="gguf",
        architecture="llama",
        config={"n_layers": 2},
        parameters=123,
        tensor_types={"F32": 2, "Q4_0": 1},
        licence=LicenceInfo("MIT", "MIT License", "note", "its file LICENSE", "LICENSE"),
        source=ModelSource(typed, "path", "/elsewhere", None, None),
        disclosure=Disclosure("not disclosed", (Statement("a friend", "books"),)),
        added_at="2026-01-01T00:00:00+00:00",
        empu_version="0.1.0",
        pulled_as="small",
        title="Small",
        base_models=("base/one",),
        entry=next(iter(files)),
        linked_to=linked_to,
    )


def add_model(store: Store, name: str, files: dict[str, bytes], *, replace: bool = False) -> AddResult:
    """Add a model with these files to the store under ``name``."""
    with store.staging("test") as folder:
        staged = folder / "model"
        for file, data in files.items():
            path = staged / "files" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return store.add(staged, make_record(files), name, "the text", replace=replace)


def paths_below(folder: Path) -> list[str]:
    """Return all paths below ``folder``, to compare before and after."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
