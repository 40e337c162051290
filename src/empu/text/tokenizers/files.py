"""Read tokenizer files, with a size limit; failures raise :class:`TokenizerError`."""

from __future__ import annotations

from pathlib import Path

from empu.errors import TokenizerError
from empu.system.files import read_bounded, refuse_lfs_pointer

_MAX_BYTES = 256 * 1024 * 1024


def read_vocabulary(path: Path) -> bytes:
    """Return the content of a tokenizer file. Raises :class:`TokenizerError`."""
    try:
        data = read_bounded(path, _MAX_BYTES)
        refuse_lfs_pointer(path, TokenizerError)
        return data
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror or error}).") from None


def read_utf8(path: Path) -> str:
    """Return the content of a text file. Raises :class:`TokenizerError`, also if it is not UTF-8."""
    try:
        return read_vocabulary(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is not UTF-8 text (byte {error.start:,}); fetch it again.") from None
