"""Model files: bytes on disk -> (config, named tensors in their stored type, provenance). Needs numpy, never torch.

:func:`open_checkpoint` is the one call; the format is recognised by what the bytes are, not by what the file is called.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from empu.checkpoint.base import Checkpoint, Format, Mismatch, Provenance, StoredTensor
from empu.checkpoint.formats.gguf import reader as gguf
from empu.checkpoint.formats.huggingface import folder as huggingface
from empu.checkpoint.formats.meta import folder as meta
from empu.errors import CheckpointError

__all__ = ["Checkpoint", "Format", "Mismatch", "Provenance", "StoredTensor", "open_checkpoint"]

READERS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Checkpoint]], ...] = (
    (gguf.is_mine, gguf.open_gguf),
    (huggingface.is_mine, huggingface.open_huggingface),
    (meta.is_mine, meta.open_meta),
)
"""(is this mine?, open it) for each format, asked in this order."""


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a GGUF file, a Hugging Face folder or a Meta folder and check it against its own configuration.

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
    for is_mine, open_it in READERS:
        if is_mine(path):
            checkpoint = open_it(path)
            checkpoint.check()
            return checkpoint
    raise CheckpointError(
        f"{path} is no model that Empu opens: expected a GGUF file, a folder with config.json and safetensors "
        "(Hugging Face), or a folder with params.json and consolidated.00.pth (Meta)."
    )
