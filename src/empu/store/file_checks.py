"""Check that the files of a stored model are unchanged: by hash at first, by file stamp afterwards."""

from __future__ import annotations

import json
import os

from empu.errors import StoreError
from empu.ledger.hashing import FileId, hash_file
from empu.store.progress import TransferProgress
from empu.store.stored_model import StoredModel
from empu.system import durable
from empu.system.file_stamp import FileStamp
from empu.system.files import load_json_object

STAMPS_FILE = "verified.json"
"""File name -> stamp of the file when it was last hashed in full; beside ``model.json``."""


def check_files(model: StoredModel, progress: TransferProgress) -> None:
    """Check every file of a model. Hash the files whose stamp changed since the last check.

    Raises :class:`~empu.errors.StoreError` that names the first changed file.
    """
    verified = _read_stamps(model)
    stamps: dict[str, FileStamp] = {}
    for file in model.record.files:
        stamp = _stamp(model, file)
        is_settled = stamp.is_settled()
        if verified.get(file.name) != stamp:
            _check_hash(model, file, progress)
        if is_settled and _stamp(model, file) == stamp:
            stamps[file.name] = stamp
    if stamps != verified and os.access(model.folder, os.W_OK):
        data = json.dumps({name: stamp.to_json() for name, stamp in stamps.items()}).encode()
        with durable.explain_write_errors(model.folder):
            durable.write_atomically(model.folder / STAMPS_FILE, data)


def _read_stamps(model: StoredModel) -> dict[str, FileStamp]:
    """Return the stamps of the last check. If they cannot be read, every file is hashed again."""
    try:
        stamps = load_json_object(model.folder / STAMPS_FILE)
    except (OSError, ValueError):
        return {}
    parsed = {name: FileStamp.from_json(value) for name, value in stamps.items()}
    return {name: stamp for name, stamp in parsed.items() if stamp is not None}


def _stamp(model: StoredModel, file: FileId) -> FileStamp:
    path = model.files_folder / file.name
    try:
        stamp = FileStamp.of(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); {_remedy(model)}.") from error
    if stamp.size != file.size:
        raise StoreError(f"{path} has {stamp.size:,} bytes, but {file.size:,} were recorded; {_remedy(model)}.")
    return stamp


def _check_hash(model: StoredModel, file: FileId, progress: TransferProgress) -> None:
    path = model.files_folder / file.name
    progress.start(f"checking {file.name}", file.size)
    digest = hash_file(path, progress.advance)
    progress.finish()
    if digest != file.sha256:
        raise StoreError(
            f"{path} changed since it was recorded: its SHA-256 is {digest[:16]}…, not {file.sha256[:16]}…; "
            f"{_remedy(model)}."
        )


def _remedy(model: StoredModel) -> str:
    if model.record.linked_to:
        return "restore the recorded file, or pull the changed one under another name"
    return f"restore it with: empu pull {model.record.source.typed}"
