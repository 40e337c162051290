"""Reading files that others made: regular files only, and no more bytes than expected."""

from __future__ import annotations

import errno
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from empu.errors import CheckpointError, EmpuError
from empu.system.json import MAX_JSON_BYTES, JsonError, parse_json_object

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ByteArray: TypeAlias = "npt.NDArray[np.uint8]"

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""Beginning of the text that stands for a large file after `git clone` without git-lfs."""


def map_file(path: Path) -> ByteArray:
    """Memory-map a file for reading. Raises :class:`CheckpointError` when it is empty or cannot be read."""
    import numpy as np  # light commands read JSON files and need no arrays

    try:
        _check_regular(path)
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path} is empty; its download was probably cut off, so fetch it again.")
        refuse_lfs_pointer(path)
        return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    except OSError as error:
        raise CheckpointError(_cannot_be_read(path, error)) from error


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most ``max_bytes``. Raises ``OSError`` for any other."""
    _check_regular(path)
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes:,} bytes, which no file of its kind needs")
    return data


def load_json_object(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Return the JSON object in a file; see :func:`~empu.system.json.parse_json`.

    Raises ``OSError`` and :class:`~empu.system.json.JsonError`. Most callers want :func:`read_json_object`.
    """
    return parse_json_object(read_bounded(path, max_bytes), max_bytes=max_bytes)


def read_json_object(
    path: Path,
    error_type: type[EmpuError] = CheckpointError,
    *,
    remedy: str = "fetch it again",
    max_bytes: int = MAX_JSON_BYTES,
) -> dict[str, Any]:
    """Return the JSON object in a file. Raises ``error_type``, naming the file and the ``remedy``."""
    try:
        return load_json_object(path, max_bytes=max_bytes)
    except OSError as error:
        raise error_type(_cannot_be_read(path, error)) from error
    except JsonError as error:
        refuse_lfs_pointer(path, error_type)
        raise error_type(f"{path} is not usable JSON: {error}; {remedy}.") from error


def refuse_lfs_pointer(path: Path, error_type: type[EmpuError] = CheckpointError) -> None:
    """Raise ``error_type`` if the file is a Git LFS pointer instead of the file that it stands for."""
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise error_type(
                f"{path} is a Git LFS pointer, not the file itself: git-lfs did not fetch it; run `git lfs pull` in "
                f"{path.parent}, or fetch the file again."
            )


def _check_regular(path: Path) -> None:
    """Refuse pipes and devices, whose reads may block or never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")


def _cannot_be_read(path: Path, error: OSError) -> str:
    return f"{path} cannot be read ({error.strerror or error}); check that the file exists and that you may read it."
