"""File stamps: size, times and inode of a file, remembered so that an unchanged file is not hashed again."""

from __future__ import annotations

import os
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Self

SETTLE_NS = 50_000_000
"""File clocks are coarse: a file changed less than this long ago may change again and keep its stamp."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What the file system says about one file. Equal stamps mean equal content, for files that had settled."""

    size: int
    modified_ns: int
    changed_ns: int
    """Time of the last change of content or metadata, which no program can set."""
    inode: int

    @classmethod
    def of(cls, file: Path | int) -> Self:
        """Return the stamp of a path or an open file descriptor. Raises ``OSError``."""
        stat = os.fstat(file) if isinstance(file, int) else file.stat()
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

    @classmethod
    def from_json(cls, value: object) -> Self | None:
        """Return the stamp that :meth:`to_json` wrote; ``None`` for any other value."""
        if isinstance(value, list) and len(value) == 4 and all(type(number) is int for number in value):
            return cls(*value)
        return None

    def to_json(self) -> list[int]:
        """Return the stamp as a list of four integers."""
        return list(astuple(self))

    def is_settled(self) -> bool:
        """Return whether the last change is long enough ago for the next one to change the stamp."""
        return time.time_ns() - self.changed_ns > SETTLE_NS


def boot_id() -> str | None:
    """Return an identifier that changes with each start of the machine; ``None`` where the system has none.

    A stamp taken before its file was flushed to disk is valid only until the next start.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return None
