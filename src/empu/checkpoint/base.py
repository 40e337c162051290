"""What an opened checkpoint is, whatever its format: a config, named tensors in their stored type, and provenance.

Readers (``gguf.py``, ``huggingface.py``, ``meta.py``) subclass :class:`Checkpoint`; nobody outside this package needs
to know which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from empu.checkpoint.blocks import BlockType
from empu.checkpoint.tensor_names import expected_shapes
from empu.config import ModelConfig
from empu.errors import CheckpointError
from empu.system.json import shown

Format = Literal["gguf", "huggingface", "meta"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a checkpoint says of itself. ``None`` and "not disclosed" are answers: nothing here is guessed."""

    name: str | None = None
    licence: str | None = None
    """SPDX identifier or the name that the files give."""
    licence_text: str | None = None
    source: str | None = None
    """Where the files say that they come from: a repository, an address, an organisation."""
    base_models: tuple[str, ...] = ()
    training_data: str = "not disclosed"
    """Data sets that the files name, or "not disclosed"."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor as it lies on disk: raw bytes of ``type``, in our row order.

    ``shape`` is row-major (rows first), so a linear layer is ``(out, in)``. ``data`` is a flat ``uint8`` view,
    memory-mapped
    where the format allows it.
    """

    name: str
    shape: tuple[int, ...]
    type: BlockType
    data: npt.NDArray[np.uint8]

    def float32(self) -> npt.NDArray[np.float32]:
        """The values, unpacked to a fresh float32 array of ``shape``."""
        return self.type.unpack(self.data).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """How the tensors of a file differ from those its config asks for. Names are ours, shapes row-major."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    """(name, shape in the file, shape expected)"""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.wrong_shape)

    def sentence(self) -> str:
        """All differences on one line, long lists shortened with their count."""
        parts = []
        if self.missing:
            parts.append("missing " + _some(self.missing))
        if self.unexpected:
            parts.append("unexpected " + _some([shown(name) for name in self.unexpected]))
        if self.wrong_shape:
            parts.append("wrong shape " + _some([f"{n} {got} instead of {want}" for n, got, want in self.wrong_shape]))
        return "; ".join(parts)


@dataclass
class Checkpoint(ABC):
    """An open model. Use as a context manager, or call :meth:`close`; arrays already handed out stay valid."""

    path: Path
    format: Format
    files: tuple[Path, ...]
    """Every file that belongs to the model, tokenizer and config included, in a stable order."""
    config: ModelConfig
    metadata: Mapping[str, Any]
    """What the format carries beside tensors: GGUF key/values, ``config.json`` or ``params.json``."""
    provenance: Provenance = field(default_factory=Provenance)

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Our names of all tensors in the file, in file order."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Row-major shape of one tensor, without touching its bytes."""

    @abstractmethod
    def tensor(self, name: str) -> StoredTensor:
        """One tensor in its stored type and our row order. Raises :class:`CheckpointError` for an unknown name."""

    def stored_type(self, name: str) -> BlockType:
        """How one tensor is stored; the readers whose ``tensor`` may copy know it without touching its bytes."""
        return self.tensor(name).type

    def tensors(self) -> Iterator[StoredTensor]:
        """All tensors, one at a time."""
        for name in self.names():
            yield self.tensor(name)

    def mismatch(self) -> Mismatch:
        """The exact difference between what the config asks for and what the file holds; falsy when there is none."""
        wanted = expected_shapes(self.config)
        present = {name: self.shape(name) for name in self.names()}
        return Mismatch(
            missing=tuple(n for n in wanted if n not in present),
            unexpected=tuple(n for n in present if n not in wanted),
            wrong_shape=tuple((n, present[n], s) for n, s in wanted.items() if n in present and present[n] != s),
        )

    def check(self) -> None:
        """Raise :class:`CheckpointError` with the whole report unless the tensors are exactly those of the config."""
        if report := self.mismatch():
            raise CheckpointError(f"{self.path}: the tensors do not fit the configuration: {report.sentence()}.")

    def close(self) -> None:  # noqa: B027 - most readers hold nothing but memory maps
        """Release file handles."""

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _some(items: tuple[str, ...] | list[str], limit: int = 4) -> str:
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"
