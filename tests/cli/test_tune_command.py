"""The command that a stopped run is told with: what was typed, for a shell in any folder."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from empu.cli.commands.tune import shell_command, tune


def test_the_command_that_goes_on_is_the_one_that_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "our rows"
    folder.mkdir()
    monkeypatch.chdir(folder)
    typed = ["more rows.csv", "--name", "it", "--map", "text=body,label=queue", "--epochs", "3", "--no-compare"]
    with tune.make_context("tune", [*typed]) as context:
        command = shell_command(context)
    there, _, asked = command.partition(" && ")
    assert shlex.split(there) == ["cd", str(folder)]
    words = shlex.split(asked)
    assert words[:3] == ["empu", "tune", "more rows.csv"]
    assert sorted(words[2:]) == sorted(typed)
    with tune.make_context("tune", words[2:]) as again:
        assert again.params == context.params
