"""Strict JSON: everything that could be read in two ways, or without limits, is refused with its reason."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from empu.errors import CheckpointError, ConfigError
from empu.system.files import load_json_object, read_json_object
from empu.system.json import JsonDepthError, JsonError, parse_json, parse_json_object


def test_ordinary_documents_are_parsed() -> None:
    text = '{"a": [1, -2.5, 1e3, true, null, "é \\ud83d\\ude00"], "b": {}}'
    assert parse_json(text.encode()) == {"a": [1, -2.5, 1000.0, True, None, "é 😀"], "b": {}}
    assert parse_json(b"7") == 7


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value at character 0"),
        (b"{} {}", "Extra data at character 3"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8 text"),
        (b'{"a": "\xed\xa0\x80"}', "byte 7 is not UTF-8 text"),
        (rb'{"a": "\ud800"}', "half of a surrogate pair"),
        (rb'{"\udc00": 1}', "half of a surrogate pair"),
        (b'{"a": 1, "b": 2, "a": 1}', "the key 'a' occurs twice in one object"),
        (rb'[{"x": {"a": 1, "\u0061": 2}}]', "the key 'a' occurs twice in one object"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "the number '1e999' is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number is too long"),
        (b'{"a": "\n"}', "Invalid control character at character 7"),
    ],
)
def test_ambiguous_documents_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(JsonError, match=message):
        parse_json(data)


@pytest.mark.parametrize("depth", [5, 100, 100_000])
@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_limited(depth: int, start: bytes, end: bytes) -> None:
    with pytest.raises(JsonDepthError, match="nested more than 4 levels deep"):
        parse_json(start * depth + b"1" + end * depth, max_depth=4)
    assert parse_json(start * 4 + b"1" + end * 4, max_depth=4)


def test_size_is_limited() -> None:
    assert parse_json(b'"abc"', max_bytes=5) == "abc"
    with pytest.raises(JsonError, match="more than 4 bytes"):
        parse_json(b'"abc"', max_bytes=4)


def test_minus_zero_is_not_an_integer() -> None:
    value = parse_json(b"-0")
    assert type(value) is float
    assert math.copysign(1, value) == -1


def test_many_different_keys_are_parsed_in_linear_time() -> None:
    keys = ",".join(f'"{i}":0' for i in range(200_000))
    assert len(parse_json(f"{{{keys}}}".encode())) == 200_000


@pytest.mark.parametrize("data", [b"[]", b"null", b'"a"', b"1.5", b"true"])
def test_only_objects_are_accepted_where_one_is_expected(data: bytes) -> None:
    with pytest.raises(JsonError, match=r"it holds .*; expected an object"):
        parse_json_object(data)


def test_files_are_read_with_the_callers_error(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(FileNotFoundError):
        load_json_object(path)
    with pytest.raises(CheckpointError, match=r"x\.json cannot be read"):
        read_json_object(path)
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_json_object(tmp_path)
    path.write_bytes(b'{"a": 1}')
    assert read_json_object(path) == {"a": 1}
    with pytest.raises(CheckpointError, match="more than 4 bytes"):
        read_json_object(path, max_bytes=4)
    path.write_bytes(b'{"a": 1, "a": 2}')
    with pytest.raises(ConfigError, match=r"x\.json is not usable JSON: the key 'a' occurs twice .*; write it again\."):
        read_json_object(path, ConfigError, remedy="write it again")
