"""Packed weights through the commands: written at the first start, mapped at the next, gone with their model."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cli.conftest import Run

ASK = ("hi there", "--raw", "--max-tokens", "2", "--seed", "0", "--engine", "native", "--json")


def test_a_stored_models_weights_go_with_it(empu: Run, home: Path, default_gguf: Path) -> None:
    assert empu("pull", str(default_gguf), "--name", "small").code == 0
    first = empu("run", "small", *ASK)
    assert first.code == 0, first.err
    (file,) = (home / "cache" / "packed").glob("*.bin")
    written = file.stat().st_mtime_ns
    again = empu("run", "small", *ASK)
    assert again.json["text"] == first.json["text"]
    assert file.stat().st_mtime_ns == written
    assert empu("models").code == 0
    assert file.exists()
    shutil.rmtree(next(path for path in (home / "models").iterdir() if len(path.name) == 64))
    shutil.rmtree(home / "models" / "names")
    assert empu("models").code == 0
    assert list((home / "cache" / "packed").iterdir()) == []


def test_a_file_outside_the_store_has_its_weights_there_too(empu: Run, home: Path, default_gguf: Path) -> None:
    outcome = empu("run", str(default_gguf), *ASK)
    assert outcome.code == 0, outcome.err
    assert len(list((home / "cache" / "packed").glob("*.bin"))) == 1


def test_a_store_that_cannot_be_written_is_one_warning(empu: Run, home: Path, default_gguf: Path) -> None:
    home.mkdir()
    (home / "cache").write_text("a file")
    outcome = empu("run", str(default_gguf), *ASK)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("not cached") == 1


def test_bits_that_the_weights_have_already_need_no_other_file(empu: Run, home: Path, default_gguf: Path) -> None:
    plain = empu("run", str(default_gguf), *ASK)
    small = empu("run", str(default_gguf), *ASK, "--quant", "q4", "--kv", "q8")
    assert (plain.code, small.code) == (0, 0), small.err
    assert len(list((home / "cache" / "packed").glob("*.bin"))) == 1
    for option, word in (("--quant", "q2"), ("--kv", "q4")):
        outcome = empu("run", str(default_gguf), *ASK, option, word)
        assert outcome.code == 2
        assert f"'{word}' is not one of" in outcome.json["error"]["message"]
