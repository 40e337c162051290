"""Staging folders below the store's ``tmp``: one for each pull or tuning run in progress, locked by its process."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from empu.errors import StoreError
from empu.system import durable

RUN_PREFIX = "tune-"
"""Prefix of the folders of tuning runs, which are never swept."""
STAGING_DAYS = 7
"""Days for which the folder of an interrupted pull is kept, so that the pull can be resumed."""


@contextmanager
def locked_folder(folder: Path, *, keep: bool) -> Iterator[Path]:
    """Hold the lock on a staging folder and delete the folder at the end; with ``keep``, not after an error."""
    busy = "Another empu process is fetching the same model; wait for it to finish, then run this command again."
    with durable.folder_lock(folder, timeout_s=0.0, busy_message=busy):
        try:
            yield folder
        except BaseException:
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        durable.remove_tree(folder)


def sweep(tmp_folder: Path) -> None:
    """Delete folders that interrupted pulls left more than :data:`STAGING_DAYS` ago, unless a process uses them."""
    oldest = time.time() - STAGING_DAYS * 86_400
    for folder in tmp_folder.iterdir():
        if folder.name.startswith(RUN_PREFIX):
            continue
        try:
            if folder.is_dir() and max(path.stat().st_mtime for path in (folder, *folder.iterdir())) < oldest:
                with durable.folder_lock(folder, timeout_s=0.0, busy_message=""):
                    shutil.rmtree(folder, ignore_errors=True)
        except (StoreError, FileNotFoundError):
            continue  # in use, or deleted by another process just now


def mark_used(folder: Path) -> None:
    """Update the time of a folder, so that a resumed pull is not swept."""
    os.utime(folder)
