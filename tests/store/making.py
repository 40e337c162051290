"""Small stored things for tests: records and staged folders of files that are not models."""

from __future__ import annotations

import hashlib
from pathlib import Path

from empu.ledger.hashing import FileId
from empu.store.model_record import Disclosure, Licence, ModelRecord, Source, Statement
from empu.store.store import Added, Store


def made_record(files: dict[str, bytes], *, linked_to: str | None = None, typed: str = "somewhere") -> ModelRecord:
    """A record of ``files``."""
    ids = [FileId(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()]
    return ModelRecord(
        files=tuple(sorted(ids)),
        format="gguf",
        architecture="llama",
        config={"n_layers": 2},
        parameters=123,
        tensor_types={"F32": 2, "Q4_0": 1},
        licence=Licence("MIT", "MIT License", "note", "its file LICENSE", "LICENSE"),
        source=Source(typed, "path", "/elsewhere", None, None),
        disclosure=Disclosure("not disclosed", (Statement("a friend", "books"),)),
        added_at="2026-01-01T00:00:00+00:00",
        empu_version="0.1.0",
        pulled_as="small",
        title="Small",
        base_models=("base/one",),
        entry=next(iter(files)),
        linked_to=linked_to,
    )


def put(store: Store, name: str, files: dict[str, bytes], *, replace: bool = False) -> Added:
    """Bring ``files`` into the store under ``name``."""
    with store.staging("test") as folder:
        staged = folder / "model"
        for file, data in files.items():
            path = staged / "files" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return store.add(staged, made_record(files), name, "the text", replace=replace)


def everything_below(folder: Path) -> list[str]:
    """All paths below ``folder``, for comparing before and after."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
