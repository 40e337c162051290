"""Commands run in this process, with a store and a home of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from empu.cli.main import cli
from tests.store.tiny_models import tiny_gguf


@dataclass(frozen=True)
class Outcome:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """stdout, which must be exactly one JSON document."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


Run = Callable[..., Outcome]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store."""
    monkeypatch.setenv("EMPU_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("EMPU_DEBUG", raising=False)
    return tmp_path / "home"


@pytest.fixture
def empu(home: Path) -> Run:
    """The command line."""

    def run(*words: str, input: str | None = None) -> Outcome:
        result = CliRunner().invoke(cli, list(words), input=input, prog_name="empu")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The smallest model, outside the store."""
    tiny_gguf(tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"
