"""Download files of a repository, resuming after broken connections and killed processes.

Every file is compared with the size and hash that the hub states before it gets its name.
"""

from __future__ import annotations

import importlib
import logging
import time
from pathlib import Path
from typing import BinaryIO

from empu import __version__
from empu.errors import DownloadError
from empu.store.progress import TransferProgress
from empu.store.pull.hub_client import TIMEOUT_S, RemoteFile, Repository, hub_library, translate_errors
from empu.system import durable

MAX_FAILURES = 5
"""Consecutive connections without a new byte after which a download gives up."""
PAUSE_S = 1.0
"""Pause before the second attempt in seconds; doubled before each further attempt."""


def download_file(repository: Repository, file: RemoteFile, target: Path, progress: TransferProgress) -> None:
    """Download one file to ``target``, unless it is there already; resume an earlier partial download.

    Raises :class:`~empu.errors.DownloadError` if the file is incomplete or differs from what the hub states.
    """
    folder = target.parent
    if target.is_file() and file.matches(target):
        return
    partial = target.with_name(f"{target.name}.{file.sha256 or file.blob}.part")
    with durable.explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    progress.start(file.name, file.size)
    _download(repository, file, partial, progress)
    progress.finish()
    if partial.stat().st_size < file.size:
        raise DownloadError(
            f"The download of {file.name} of {repository.name} broke off; the downloaded part is kept, so run the same "
            "command again to resume."
        )
    if not file.matches(partial):
        partial.unlink()
        raise DownloadError(
            f"{file.name} of {repository.name} does not have the size and hash that the hub states; nothing was added: "
            "run the command again."
        )
    with durable.explain_write_errors(folder):
        partial.replace(target)


def _download(repository: Repository, file: RemoteFile, partial: Path, progress: TransferProgress) -> None:
    """Append the missing bytes to ``partial``, over as many connections as needed."""
    client = importlib.import_module("httpx2")
    with durable.explain_write_errors(partial):
        writer = partial.open("ab")
    with writer, translate_errors(repository.name, repository.endpoint, repository.revision):
        progress.advance(writer.tell())
        failures = 0
        while (start := writer.tell()) < file.size:
            try:
                _append_response(repository, file, writer, progress)
            except client.TransportError as error:
                has_new_bytes = writer.tell() > start
                failures = 0 if has_new_bytes else failures + 1
                if failures >= MAX_FAILURES:
                    raise
                if not has_new_bytes:
                    time.sleep(PAUSE_S * 2 ** (failures - 1))
                logging.getLogger(__name__).info("%s: %s; resuming at byte %d", file.name, error, writer.tell())
                continue
            if writer.tell() == start:
                break  # an empty response; the caller finds the file incomplete


def _append_response(repository: Repository, file: RemoteFile, writer: BinaryIO, progress: TransferProgress) -> None:
    """Request the missing bytes over one connection and append them. Restart if the server ignores ranges."""
    library = hub_library()
    url = library.hf_hub_url(repository.name, file.name, revision=repository.commit, endpoint=repository.endpoint)
    headers = library.utils.build_hf_headers(library_name="empu", library_version=__version__)
    headers["Accept-Encoding"] = "identity"
    size = writer.tell()
    if size:
        headers["Range"] = f"bytes={size}-"
    with library.get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S) as response:
        library.utils.hf_raise_for_status(response)
        is_whole_file = response.status_code != 206
        length = response.headers.get("Content-Length")
        if is_whole_file and length is not None and length != str(file.size):
            raise DownloadError(
                f"{repository.endpoint} answered with something other than {file.name} ({length} bytes instead of "
                f"{file.size:,}), such as a sign-in page; the downloaded part is kept."
            )
        if size and is_whole_file:
            progress.advance(-size)
            writer.seek(0)
            writer.truncate()
            size = 0
        for chunk in response.iter_raw():  # chunks of any size, so that a broken connection loses nothing
            size += len(chunk)
            if size > file.size:
                raise DownloadError(
                    f"{file.name} of {repository.name} is longer than the hub states ({file.size:,} bytes); nothing "
                    "was added."
                )
            with durable.explain_write_errors(Path(writer.name)):
                writer.write(chunk)
            progress.advance(len(chunk))
