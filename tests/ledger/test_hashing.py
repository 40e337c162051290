"""Models are identified by content: equal files have equal ids, and one changed byte changes the id."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empu.errors import StoreError
from empu.ledger.hashing import FileId, canonical_json, hash_file, model_id, tagged

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_canonical_json_round_trips(value: object) -> None:
    # hypothesis generates no unpaired surrogates from st.text(); they cannot be encoded
    encoded = canonical_json(value)
    assert json.loads(encoded) == value
    assert canonical_json(json.loads(encoded)) == encoded


def test_key_order_does_not_change_the_bytes() -> None:
    assert canonical_json({"b": 1, "a": [True, None]}) == canonical_json({"a": [True, None], "b": 1})
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_rejected(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"x": value})


def test_file_hash_equals_hashlib_and_reports_every_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000  # more than two chunks
    path = tmp_path / "file"
    path.write_bytes(data)
    counts: list[int] = []
    assert hash_file(path, counts.append) == hashlib.sha256(data).hexdigest()
    assert sum(counts) == len(data)
    assert len(counts) > 2


def test_error_names_the_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing-here cannot be read"):
        hash_file(tmp_path / "nothing-here")


def test_model_id_depends_on_names_sizes_and_hashes_but_not_on_order() -> None:
    first, second = FileId("a", 1, "0" * 64), FileId("b", 2, "1" * 64)
    identity = model_id([first, second])
    assert identity == model_id([second, first])
    others = [
        [first],
        [first, FileId("c", 2, "1" * 64)],
        [first, FileId("b", 3, "1" * 64)],
        [first, FileId("b", 2, "2" * 64)],
    ]
    assert len({identity, *(model_id(files) for files in others)}) == len(others) + 1


def test_model_id_is_pinned() -> None:
    """Ids are stored in models and receipts, so this one may never change."""
    expected = hashlib.sha256(b'[{"name":"a","sha256":"' + b"0" * 64 + b'","size":1}]').hexdigest()
    assert model_id([FileId("a", 1, "0" * 64)]) == expected
    assert tagged(expected) == f"sha256:{expected}"
