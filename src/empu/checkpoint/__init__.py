"""Model files: bytes on disk -> (config, named tensors in their stored type, provenance). Needs numpy, never torch.

Open a model with :func:`open_checkpoint`. The format is detected from the content, not from the file's name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from empu.checkpoint.base import Checkpoint, Provenance, StoredTensor, TensorMismatch
from empu.checkpoint.formats.gguf.reader import is_gguf, open_gguf
from empu.checkpoint.formats.huggingface.reader import is_huggingface, open_huggingface
from empu.checkpoint.formats.meta.reader import is_meta, open_meta
from empu.errors import CheckpointError
from empu.system.files import refuse_lfs_pointer

__all__ = ["Checkpoint", "Provenance", "StoredTensor", "TensorMismatch", "open_checkpoint"]

READERS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Checkpoint]], ...] = (
    (is_gguf, open_gguf),
    (is_huggingface, open_huggingface),
    (is_meta, open_meta),
)
"""(detect, open) of each format, tried in this order."""


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a GGUF file, a Hugging Face folder or a Meta folder, and check its tensors against its config.

    Reads headers only: a 5 GB file opens in well under a second. Raises :class:`~empu.errors.CheckpointError` for
    damaged or hostile files and :class:`~empu.errors.UnsupportedError` for other architectures and tensor types.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; give a GGUF file, or the folder of a model.")
    if path.is_file():
        if not os.access(path, os.R_OK):
            raise CheckpointError(f"{path} cannot be read (Permission denied); give yourself the right to read it.")
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path} is empty; fetch it again.")
    for is_format, open_format in READERS:
        if is_format(path):
            checkpoint = open_format(path)
            checkpoint.check()
            return checkpoint
    if path.is_file():
        refuse_lfs_pointer(path)
    raise CheckpointError(
        f"{path} is not a model that Empu can open: expected a GGUF file, a folder with config.json and safetensors "
        "(Hugging Face), or a folder with params.json and consolidated.00.pth (Meta)."
    )
