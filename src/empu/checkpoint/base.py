"""The interface of an opened checkpoint, whatever its format: a config, tensors in their stored type, provenance.

Each format's reader subclasses :class:`Checkpoint`. Code outside this package does not need to know which one it has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from empu.checkpoint.block_types import BlockType
from empu.checkpoint.tensor_names import expected_shapes
from empu.config import ModelConfig, ModelFormat
from empu.errors import CheckpointError
from empu.system.quoting import quoted


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the files say about the origin of a model. Nothing is guessed: ``None`` means that they do not say."""

    name: str | None = None
    licence: str | None = None
    """SPDX identifier, or the name that the files give."""
    licence_text: str | None = None
    source: str | None = None
    """Where the model comes from: a repository, a URL or an organisation."""
    base_models: tuple[str, ...] = ()
    training_data: str = "not disclosed"
    """The data sets that the files name, or "not disclosed"."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor as stored on disk: raw bytes of ``type``, in the canonical row order.

    ``shape`` is row-major, so a linear layer is ``(out, in)``. ``data`` is a flat ``uint8`` view, memory-mapped where
    the format allows it.
    """

    name: str
    shape: tuple[int, ...]
    type: BlockType
    data: npt.NDArray[np.uint8]

    def float32(self) -> npt.NDArray[np.float32]:
        """Return the values, unpacked to a new float32 array of ``shape``."""
        return self.type.unpack(self.data).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class TensorMismatch:
    """How the tensors of a file differ from those of its config. Names are canonical, shapes row-major."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    """(name, shape in the file, shape expected)"""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.wrong_shape)

    def summary(self) -> str:
        """Return all differences on one line, with long lists shortened."""
        parts = []
        if self.missing:
            parts.append("missing " + _first_few(self.missing))
        if self.unexpected:
            parts.append("unexpected " + _first_few([quoted(name) for name in self.unexpected]))
        if self.wrong_shape:
            shapes = [f"{name} {actual} instead of {expected}" for name, actual, expected in self.wrong_shape]
            parts.append("wrong shape " + _first_few(shapes))
        return "; ".join(parts)


@dataclass
class Checkpoint(ABC):
    """An open model. Use it as a context manager, or call :meth:`close`; returned arrays stay valid."""

    path: Path
    format: ModelFormat
    files: tuple[Path, ...]
    """Every file of the model, including tokenizer and config, in a stable order."""
    config: ModelConfig
    metadata: Mapping[str, Any]
    """What the format holds beside tensors: GGUF key/values, ``config.json`` or ``params.json``."""
    provenance: Provenance = field(default_factory=Provenance)

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Return the canonical names of all tensors, in file order."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Return the row-major shape of one tensor without reading its bytes."""

    @abstractmethod
    def tensor(self, name: str) -> StoredTensor:
        """Return one tensor in its stored type. Raises :class:`CheckpointError` for an unknown name."""

    def stored_type(self, name: str) -> BlockType:
        """Return the stored type of one tensor. Readers whose :meth:`tensor` copies override this."""
        return self.tensor(name).type

    def tensors(self) -> Iterator[StoredTensor]:
        """Yield all tensors, one at a time."""
        for name in self.names():
            yield self.tensor(name)

    def mismatch(self) -> TensorMismatch:
        """Compare the tensors of the file with those of the config. The result is falsy when they agree."""
        expected = expected_shapes(self.config)
        present = {name: self.shape(name) for name in self.names()}
        return TensorMismatch(
            missing=tuple(name for name in expected if name not in present),
            unexpected=tuple(name for name in present if name not in expected),
            wrong_shape=tuple(
                (name, present[name], shape)
                for name, shape in expected.items()
                if name in present and present[name] != shape
            ),
        )

    def check(self) -> None:
        """Raise :class:`CheckpointError` with all differences unless the tensors are exactly those of the config."""
        if mismatch := self.mismatch():
            raise CheckpointError(f"{self.path}: the tensors do not fit the config: {mismatch.summary()}.")

    def close(self) -> None:  # noqa: B027 - most readers hold nothing but memory maps
        """Release file handles."""

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _first_few(items: Sequence[str], limit: int = 4) -> str:
    listed = ", ".join(items[:limit])
    return listed if len(items) <= limit else f"{listed} and {len(items) - limit} more"
