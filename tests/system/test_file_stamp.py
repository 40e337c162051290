"""File stamps change with the file and survive JSON."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from empu.system.file_stamp import SETTLE_NS, FileStamp, boot_id


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a")
    before = FileStamp.of(path)
    assert FileStamp.of(path) == before
    time.sleep(SETTLE_NS / 1e9)
    path.write_bytes(b"b")
    assert FileStamp.of(path) != before
    other = tmp_path / "other"
    other.write_bytes(b"b")
    assert FileStamp.of(other) != FileStamp.of(path)


def test_setting_the_modification_time_does_not_hide_a_change(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a")
    before = FileStamp.of(path)
    time.sleep(SETTLE_NS / 1e9)
    path.write_bytes(b"b")
    os.utime(path, ns=(before.modified_ns, before.modified_ns))
    after = FileStamp.of(path)
    assert after.modified_ns == before.modified_ns
    assert after != before


def test_an_open_file_has_the_stamp_of_its_path(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        assert FileStamp.of(file.fileno()) == FileStamp.of(path)


def test_a_new_file_settles(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a")
    assert not FileStamp.of(path).is_settled() or time.time_ns() - FileStamp.of(path).changed_ns > SETTLE_NS
    time.sleep(2 * SETTLE_NS / 1e9)
    assert FileStamp.of(path).is_settled()


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    stamp = FileStamp.of(path)
    stat = path.stat()
    assert stamp.to_json() == [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    assert FileStamp.from_json(stamp.to_json()) == stamp


@pytest.mark.parametrize("value", [None, {}, "abcd", [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, "4"], [1, 2, 3, True]])
def test_other_values_are_not_stamps(value: object) -> None:
    assert FileStamp.from_json(value) is None


def test_the_boot_id_stays_the_same() -> None:
    assert boot_id() == boot_id()
