"""A model of the store: its record, its folder, and one of its names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from empu.store.model_record import ModelRecord


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model of the store under one of its names; ``None`` if it has no name."""

    name: str | None
    folder: Path
    record: ModelRecord

    @property
    def files_folder(self) -> Path:
        """Folder that the file names of the record are relative to."""
        return Path(self.record.linked_to) if self.record.linked_to else self.folder / "files"

    @property
    def path(self) -> Path:
        """Path to open: the GGUF file, or the folder of the model."""
        return self.files_folder / self.record.entry if self.record.entry else self.files_folder
