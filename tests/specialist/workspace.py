"""A store of its own, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.specialist.samples import small_base

RECIPE_OPTIONS = (
    *("--base", "tiny", "--precision", "float32", "--rank", "4", "--threads", "1"),
    *("--learning-rate", "0.005"),
)


class Workspace:
    """A folder with a store. Each command is a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def start(self, *args: str, before_exec: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        """Start a command without waiting."""
        env = {**os.environ, "EMPU_HOME": str(self.folder / "home"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "empu", *args]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=env, cwd=self.folder, stdout=pipe, stderr=pipe, text=True, preexec_fn=before_exec
        )

    def empu(self, *args: str, exit_code: int = 0, before_exec: Callable[[], None] | None = None) -> tuple[str, str]:
        """Run a command; return stdout and stderr."""
        process = self.start(*args, before_exec=before_exec)
        out, err = process.communicate(timeout=300)
        assert process.returncode == exit_code, err
        return out, err

    def json(self, *args: str) -> dict[str, Any]:
        """Run a command with ``--json``; return its document."""
        document: dict[str, Any] = json.loads(self.empu(*args, "--json")[0])
        return document

    def weights(self, name: str) -> bytes:
        """Return the files of the trained weights, one after the other."""
        files = sorted(Path(self.json("show", name)["path"]).glob("*.safetensors"))
        assert files
        return b"".join(file.read_bytes() for file in files)

    def with_rows(self, name: str, content: str) -> Workspace:
        """Add the small base model to the store and write a file of rows."""
        self.empu("pull", str(small_base(self.folder / "base")), "--name", "tiny")
        (self.folder / name).write_text(content)
        return self
