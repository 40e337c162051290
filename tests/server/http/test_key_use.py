"""`empu keys list` shows the last use of each key."""

from __future__ import annotations

from pathlib import Path

from empu.server.http.api_keys import ApiKeys


def test_the_last_use_of_a_key_is_noted_at_most_once_a_minute_in_a_private_file(tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path)
    keys.add("ana")
    keys.add("budi")
    assert keys.last_uses() == {}
    keys.note_use("ana")
    first = keys.use_path.stat().st_mtime_ns
    assert list(keys.last_uses()) == ["ana"]
    assert keys.use_path.stat().st_mode & 0o777 == 0o600
    keys.note_use("ana")
    keys.note_use("link")
    assert keys.use_path.stat().st_mtime_ns == first
    keys.note_use("budi")
    keys.revoke("ana")
    assert list(keys.last_uses()) == ["budi"]
    keys.use_path.write_text("damaged")
    assert ApiKeys(tmp_path).last_uses() == {}


def test_a_folder_that_cannot_be_written_fails_no_request(tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path)
    keys.add("ana")
    keys.use_path.mkdir()
    keys.note_use("ana")
