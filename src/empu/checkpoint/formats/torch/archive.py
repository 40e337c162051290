"""``.pth`` files as ``torch.save`` writes them since PyTorch 1.6: a stored zip with one pickle and raw storages.

The archive is memory-mapped (``zip_index.py``). The pickle is interpreted by a machine that can only describe tensors
(``tensor_pickle.py``). A tensor is a slice of the mapping. Neither PyTorch nor Python's unpickler is involved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from empu.checkpoint.block_types import BF16, F16, F32, BlockType
from empu.checkpoint.formats.torch.tensor_pickle import PICKLE_LIMIT, Storage, TensorDescription, read_tensor_pickle
from empu.checkpoint.formats.torch.zip_index import Member, read_zip
from empu.errors import CheckpointError, UnsupportedError
from empu.system.files import ByteArray, map_file
from empu.system.quoting import quoted

STORAGE_TYPES: dict[str, BlockType] = {"FloatStorage": F32, "HalfStorage": F16, "BFloat16Storage": BF16}

_PICKLE = "/data.pkl"


@dataclass(frozen=True, slots=True)
class TorchTensor:
    """One tensor. Its values are at bytes ``start`` to ``end`` of the file, row by row."""

    name: str
    type: BlockType
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TorchFile:
    """An open file: its tensors by name, and the memory map that contains them."""

    path: Path
    tensors: Mapping[str, TorchTensor]
    mapped: ByteArray

    def bytes_of(self, name: str) -> ByteArray:
        """Return the raw bytes of one tensor, memory-mapped."""
        tensor = self.tensors[name]
        return self.mapped[tensor.start : tensor.end]


def read_torch_file(path: Path) -> TorchFile:
    """Open a file with a dict from names to tensors, without reading their values.

    Raises :class:`CheckpointError` for damaged and hostile files and for formats older than PyTorch 1.6.
    """
    mapped = map_file(path)
    if bytes(mapped[:4]) != b"PK\3\4":
        raise CheckpointError(
            f"{path} does not begin with a zip archive of torch.save at byte 0. Files older than PyTorch 1.6 and plain "
            "pickles are not opened, since reading them means running them; save it again with a current PyTorch."
        )
    members = read_zip(mapped, str(path))
    folder = _common_folder(members, path)
    _check_byte_order(members.get(f"{folder}/byteorder"), mapped, path)
    pickle = members[folder + _PICKLE]
    if pickle.size > PICKLE_LIMIT:
        raise CheckpointError(f"{path}: {pickle.name} has {pickle.size:,} bytes; at most {PICKLE_LIMIT:,} are read.")
    data = mapped[pickle.start : pickle.start + pickle.size].tobytes()
    descriptions = read_tensor_pickle(data, f"{path}: {pickle.name} (at byte {pickle.start:,})")
    tensors = {name: _locate(name, description, members, folder, path) for name, description in descriptions.items()}
    return TorchFile(path, tensors, mapped)


def _common_folder(members: Mapping[str, Member], path: Path) -> str:
    """Return the one folder that contains every member. torch.save names it after the file."""
    folders = {name.split("/", 1)[0] for name in members}
    if len(folders) != 1 or (folder := folders.pop()) + _PICKLE not in members:
        raise CheckpointError(f"{path} is a zip archive without a data.pkl; expected a file of torch.save.")
    return folder


def _check_byte_order(member: Member | None, mapped: ByteArray, path: Path) -> None:
    if member is not None and mapped[member.start : member.start + min(member.size, 16)].tobytes() != b"little":
        raise UnsupportedError(f"{path} was written on a big-endian machine; only little-endian files are read.")


def _locate(
    name: str, description: TensorDescription, members: Mapping[str, Member], folder: str, path: Path
) -> TorchTensor:
    """Find the values of a described tensor in the file."""
    storage = description.storage
    member = members.get(f"{folder}/data/{storage.key}")
    if member is None:
        raise CheckpointError(f"{path}: tensor {quoted(name)} refers to the storage {storage.key}, which is missing.")
    type_ = _block_type(name, storage, path)
    if member.size != storage.n_values * type_.block_bytes:
        raise CheckpointError(
            f"{path}: the storage of tensor {quoted(name)} at byte {member.start:,} has {member.size:,} bytes; "
            f"expected {storage.n_values:,} values of {type_.name}."
        )
    start = member.start + description.offset * type_.block_bytes
    return TorchTensor(name, type_, description.shape, start, start + math.prod(description.shape) * type_.block_bytes)


def _block_type(name: str, storage: Storage, path: Path) -> BlockType:
    try:
        return STORAGE_TYPES[storage.dtype]
    except KeyError:
        raise UnsupportedError(
            f"{path}: tensor {quoted(name)} has the type {storage.dtype}; Empu reads {', '.join(STORAGE_TYPES)}."
        ) from None
