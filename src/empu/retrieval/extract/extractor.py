"""Extracts documents in a worker process, with limits on time, memory and pages."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from empu.retrieval.extract.document import DocumentError, ExtractedDocument, PlacedBlock

TIMEOUT_S = 120.0
MAX_PAGES = 3_000
_CHUNK_BYTES = 1 << 20


class Extractor:
    """A context manager around one worker process. A worker that hangs or crashes is replaced.

    Not thread-safe: one document at a time.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S, max_pages: int = MAX_PAGES) -> None:
        self.timeout_s = timeout_s
        self.max_pages = max_pages
        self._worker: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def __enter__(self) -> Extractor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def extract(self, path: Path) -> ExtractedDocument:
        """Extract one file. Raises :class:`DocumentError` with the reason if that fails."""
        worker = self._running()
        deadline = time.monotonic() + self.timeout_s
        request = json.dumps({"path": str(path.resolve()), "max_pages": self.max_pages})
        try:
            assert worker.stdin is not None
            worker.stdin.write(request.encode() + b"\n")
            worker.stdin.flush()
            header = json.loads(self._read_line(deadline))
            text = self._read(header["text_bytes"], deadline)
        except TimeoutError:
            self._kill()
            raise DocumentError(f"reading it took longer than {self.timeout_s:.0f} s") from None
        except (OSError, EOFError, ValueError):
            code = self._kill()
            raise DocumentError(f"it crashed the reader (exit status {code})") from None
        if "error" in header:
            raise DocumentError(header["error"])
        return ExtractedDocument(
            header["format"],
            header["title"],
            text,
            tuple(
                PlacedBlock(kind, start, end, page, tuple(names)) for kind, start, end, page, names in header["blocks"]
            ),
            header["pages"],
            tuple(header["warnings"]),
        )

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._worker is None or self._worker.poll() is not None:
            self._kill()
            self._worker = subprocess.Popen(
                [sys.executable, "-I", "-m", "empu.retrieval.extract.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the parent, which ends the worker itself
            )
        return self._worker

    def _kill(self) -> int | None:
        worker, self._worker = self._worker, None
        self._buffer = b""
        if worker is None:
            return None
        if worker.poll() is None:
            worker.kill()
        code = worker.wait()
        for stream in (worker.stdin, worker.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        return code

    def _read_line(self, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            self._fill(deadline)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _read(self, count: int, deadline: float) -> bytes:
        while len(self._buffer) < count:
            self._fill(deadline)
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _fill(self, deadline: float) -> None:
        stream: Any = self._worker.stdout if self._worker is not None else None
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
        data = os.read(stream.fileno(), _CHUNK_BYTES)
        if not data:
            raise EOFError
        self._buffer += data
