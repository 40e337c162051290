"""Results of a model on suites, kept on disk, so that a stopped evaluation goes on and a repeated one is instant.

One JSON Lines file for each model, engine and suite. A result belongs to the hash of its prompt and choices, so other
shots, other data or another prompt are other results. Only hashes, log-likelihoods and generated texts are stored. The
files can be deleted at any time.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from empu.system.durable import explain_write_errors

FOLDER = "evals"
"""Name of the folder in the store."""


class ResultCache:
    """Results by prompt hash. Additions are appended to the file at once; a torn last line is ignored."""

    def __init__(self, path: Path | None) -> None:
        """``None``: results are kept in memory only."""
        self.path = path
        self._results = {} if path is None else _read(path)
        self._file: BinaryIO | None = None

    def __enter__(self) -> ResultCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def get(self, key: str) -> Any:
        """Return a result; ``None`` if there is none."""
        return self._results.get(key)

    def add(self, key: str, result: Any) -> None:
        """Keep a result. Raises :class:`~empu.errors.StoreError` when the disk is full."""
        self._results[key] = result
        if self.path is None:
            return
        with explain_write_errors(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("ab", buffering=0)
            line = json.dumps({"key": key, "result": result}, ensure_ascii=False)
            self._file.write(b"\n" + line.encode("utf-8", "surrogatepass"))  # a torn line before stays alone


def cache_path(home: Path, model_id: str, engine: str, suite: str) -> Path:
    """Return the file for a model's results on a suite with an engine."""
    return home / FOLDER / model_id[:16] / re.sub(r"[^\w.-]", "_", engine) / f"{suite}.jsonl"


def _read(path: Path) -> dict[str, Any]:
    results: dict[str, Any] = {}
    if not path.is_file():
        return results
    for line in path.read_bytes().split(b"\n"):
        try:
            entry = json.loads(line)
            results[entry["key"]] = entry["result"]
        except (ValueError, KeyError, TypeError):
            continue  # torn by a crash: that row is computed again
    return results
