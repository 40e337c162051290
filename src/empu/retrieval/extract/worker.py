"""The process that extracts documents: ``python -m empu.retrieval.extract.worker``, driven by :class:`Extractor`.

Document parsers meet hostile files, so they run apart: with a memory limit, without the right to write files, and
without network. One request is a line of JSON on stdin; one answer is a line of JSON on stdout, followed by the text.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, BinaryIO

MEMORY_BYTES = 3 << 30
"""Address space of the worker."""

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def main() -> None:
    """Answer requests until stdin ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the protocol
    _confine()
    from empu.retrieval.extract.document import DocumentError
    from empu.retrieval.extract.formats import extract

    for line in requests:
        request = json.loads(line)
        try:
            document = extract(Path(request["path"]), request["max_pages"])
        except DocumentError as error:
            _answer(answers, {"error": str(error)}, b"")
            continue
        except MemoryError:
            _answer(answers, {"error": "reading it needs too much memory"}, b"")
            continue
        except RecursionError:
            _answer(answers, {"error": "its structure is nested too deeply"}, b"")
            continue
        except Exception as error:  # a library's own error: the document is named, and the next one is read
            _answer(answers, {"error": f"it cannot be read ({type(error).__name__}: {error})"[:300]}, b"")
            continue
        header = {
            "format": document.format,
            "title": document.title,
            "pages": document.pages,
            "warnings": document.warnings,
            "blocks": [[b.kind, b.start, b.end, b.page, b.headings] for b in document.blocks],
        }
        _answer(answers, header, document.text)


def _answer(stream: BinaryIO, header: dict[str, Any], text: bytes) -> None:
    line = json.dumps(header | {"text_bytes": len(text)}).encode("utf-8", "replace")
    stream.write(line + b"\n" + text)
    stream.flush()


def _confine() -> None:
    """Limit memory, forbid writing files, and cut the network off as far as the system allows."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or user namespaces are switched off
        ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET)

    def forbid(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
            raise PermissionError("documents are read without network")

    sys.addaudithook(forbid)


if __name__ == "__main__":
    main()
