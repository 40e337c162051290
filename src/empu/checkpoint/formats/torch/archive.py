"""``.pth`` files as ``torch.save`` writes them since PyTorch 1.6: a stored zip with one pickle and raw storages.

The archive is mapped (``zipmap.py``), the pickle is read by a machine that can only describe tensors
(``tensorpickle.py``), and a tensor is a slice of the map. PyTorch is not involved, and no unpickler either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from empu.checkpoint.blocks import BF16, F16, F32, BlockType
from empu.checkpoint.formats.torch.tensor_pickle import PICKLE_LIMIT, Description, Storage, read_tensor_pickle
from empu.checkpoint.formats.torch.zip_index import Member, read_zip
from empu.errors import CheckpointError, UnsupportedError
from empu.system.json import Bytes, map_file, shown

STORAGE_TYPES: dict[str, BlockType] = {"FloatStorage": F32, "HalfStorage": F16, "BFloat16Storage": BF16}

_PICKLE = "/data.pkl"


@dataclass(frozen=True, slots=True)
class TorchTensor:
    """One tensor: the bytes ``start`` to ``end`` of the file are its values, row by row."""

    name: str
    type: BlockType
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TorchFile:
    """An open file: its tensors by name, and the map they point into."""

    path: Path
    tensors: Mapping[str, TorchTensor]
    mapped: Bytes

    def bytes_of(self, name: str) -> Bytes:
        """The raw bytes of one tensor, still memory-mapped."""
        tensor = self.tensors[name]
        return self.mapped[tensor.start : tensor.end]


def read_torch_file(path: Path) -> TorchFile:
    """Open a file that holds a dict from names to tensors, without touching their values.

    Raises :class:`CheckpointError` for a damaged or hostile file and for the formats before PyTorch 1.6.
    """
    mapped = map_file(path)
    if bytes(mapped[:4]) != b"PK\3\4":
        raise CheckpointError(
            f"{path} is not the zip format of torch.save at byte 0; files older than PyTorch 1.6 and plain pickles are "
            "not opened, since reading those means running them: save it again with a current PyTorch."
        )
    members = read_zip(mapped, str(path))
    folder = _folder(members, path)
    _check_byte_order(members.get(f"{folder}/byteorder"), mapped, path)
    pickle = members[folder + _PICKLE]
    if pickle.size > PICKLE_LIMIT:
        raise CheckpointError(f"{path}: {pickle.name} has {pickle.size:,} bytes; at most {PICKLE_LIMIT:,} are read.")
    data = mapped[pickle.start : pickle.start + pickle.size].tobytes()
    described = read_tensor_pickle(data, f"{path}: {pickle.name} (at byte {pickle.start:,})")
    tensors = {name: _place(name, what, members, folder, path) for name, what in described.items()}
    return TorchFile(path, tensors, mapped)


def _folder(members: Mapping[str, Member], path: Path) -> str:
    """The one folder in which every member lies; torch.save names it after the file."""
    folders = {name.split("/", 1)[0] for name in members}
    if len(folders) != 1 or (folder := folders.pop()) + _PICKLE not in members:
        raise CheckpointError(f"{path} is a zip archive without a data.pkl; expected a file of torch.save.")
    return folder


def _check_byte_order(member: Member | None, mapped: Bytes, path: Path) -> None:
    if member is not None and mapped[member.start : member.start + min(member.size, 16)].tobytes() != b"little":
        raise UnsupportedError(f"{path} was written on a big-endian machine; only little-endian files are read.")


def _place(name: str, what: Description, members: Mapping[str, Member], folder: str, path: Path) -> TorchTensor:
    """Where in the file the values of a described tensor are."""
    storage = what.storage
    member = members.get(f"{folder}/data/{storage.key}")
    if member is None:
        raise CheckpointError(f"{path}: tensor {shown(name)} lies in the storage {storage.key}, which is not there.")
    kind = _type(name, storage, path)
    if member.size != storage.values * kind.block_bytes:
        raise CheckpointError(
            f"{path}: the storage of tensor {shown(name)} at byte {member.start:,} has {member.size:,} bytes; expected "
            f"{storage.values:,} values of {kind.name}."
        )
    start = member.start + what.offset * kind.block_bytes
    return TorchTensor(name, kind, what.shape, start, start + math.prod(what.shape) * kind.block_bytes)


def _type(name: str, storage: Storage, path: Path) -> BlockType:
    try:
        return STORAGE_TYPES[storage.kind]
    except KeyError:
        raise UnsupportedError(
            f"{path}: tensor {shown(name)} has the type {storage.kind}; Empu reads {', '.join(STORAGE_TYPES)}."
        ) from None
