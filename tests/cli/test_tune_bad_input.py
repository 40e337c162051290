"""What cannot be tuned on: one sentence each, and nothing left in the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome, Run
from tests.specialist.samples import labelled_csv, small_base

GOOD = labelled_csv(40)


@pytest.fixture
def base(empu: Run, home: Path, tmp_path: Path) -> Path:
    """A store with one model."""
    assert empu("pull", str(small_base(tmp_path / "base")), "--name", "tiny").code == 0
    return home


@pytest.fixture
def tune(empu: Run, base: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """``empu tune`` on bytes in a file, which must not leave a trace."""

    def run(name: str, content: bytes, *more: str) -> Outcome:
        (tmp_path / name).write_bytes(content)
        before = traces(base)
        done = empu("tune", str(tmp_path / name), "--name", "it", "--base", "tiny", *more)
        assert done.code in (1, 2)
        assert done.err.strip().splitlines()[-1].endswith(".")
        assert "Traceback" not in done.err
        assert traces(base) == before
        return done

    return run


def traces(home: Path) -> set[str]:
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.name != "verified.json"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(300), "photo.png"),
        ("program.csv", b"\x7fELF" + bytes(range(256)) * 4, "program.csv"),
        ("empty.csv", b"", "is empty"),
        ("three.csv", b"text,label\nfirst words,a\nsecond thing,b\nthird place,a\n", "has 3 usable rows"),
        ("one.csv", GOOD.replace(",blue\n", ",red\n").encode(), "add another class"),
        ("broken.jsonl", b'{"text": "a", "label": "b"\n' * 20, "broken.jsonl"),
        ("columns.csv", b"one,two\n1,2\n3,4\n", "does not say what to learn"),
    ],
)
def test_each_bad_file_is_one_sentence(tune: Callable[..., Outcome], name: str, content: bytes, words: str) -> None:
    assert words in tune(name, content).err


def test_mixed_encodings_are_named_by_row(tune: Callable[..., Outcome]) -> None:
    lines = [f"caf\u00e9 number {i},a\n".encode("latin-1" if i == 7 else "utf-8") for i in range(9)]
    said = tune("mixed.csv", b"text,label\n" + b"".join(lines)).err
    assert "mixed.csv" in said


def test_rows_longer_than_the_context_are_named_with_their_length(tune: Callable[..., Outcome]) -> None:
    long = "".join(f"{'word ' * 4000}{i},{'ab'[i % 2]}\n" for i in range(12))
    said = tune("long.csv", f"text,label\n{long}".encode()).err
    assert "too long" in said
    assert "has 0 usable rows" in said


def test_a_name_that_is_taken_is_refused_before_anything_is_spent(tune: Callable[..., Outcome], empu: Run) -> None:
    assert "cannot be a model's name" in tune("good.csv", GOOD.encode(), "--name", "No Name").err
    assert "belongs to another model already" in tune("good.csv", GOOD.encode(), "--name", "tiny").err


def test_a_base_that_changed_on_disk_is_refused(tune: Callable[..., Outcome], base: Path) -> None:
    (file,) = base.glob("models/*/files/*.safetensors")
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    assert "changed since it was recorded" in tune("good.csv", GOOD.encode()).err


def test_wishes_that_cannot_be_are_refused(tune: Callable[..., Outcome]) -> None:
    assert "--budget is 'soon'" in tune("good.csv", GOOD.encode(), "--budget", "soon").err
    assert "--map is 'text'" in tune("good.csv", GOOD.encode(), "--map", "text").err
    assert "No row has the label 'c'" in tune("good.csv", GOOD.encode(), "--out-of-scope", "c").err


def test_a_missing_file_and_a_base_that_is_not_there(empu: Run, base: Path, tmp_path: Path) -> None:
    done = empu("tune", str(tmp_path / "none.csv"), "--name", "it", "--base", "tiny")
    assert "none.csv" in done.err
    (tmp_path / "good.csv").write_text(GOOD)
    done = empu("tune", str(tmp_path / "good.csv"), "--name", "it", "--base", "nobody")
    assert "No model in the store is called 'nobody'" in done.err


def test_preferences_without_a_prompt_are_named_by_row(tune: Callable[..., Outcome]) -> None:
    rows = [{"chosen": f"answer {i} is good", "rejected": f"reply {i * 7} is bad"} for i in range(30)]
    said = tune("pairs.jsonl", "\n".join(map(json.dumps, rows)).encode()).err
    assert "has no prompt that both answers follow" in said
