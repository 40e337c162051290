"""A killed writer leaves every acknowledged transaction, each transaction whole or absent, and a ledger that verifies.

SIGKILL shows what a dying process can do. It does not show a loss of power; for that the ledger relies on
``synchronous=EXTRA``, whose setting is checked here.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from empu.errors import StoreError
from empu.ledger.ledger import Ledger
from tests.ledger.writing import check, one_round

ROOT = Path(__file__).resolve().parent.parent.parent


def kill_many(folder: Path, kills: int, seed: int) -> int:
    """Rounds that were there at the end. The killing runs in its own process, which has no threads to fork over."""
    command = [sys.executable, "-m", "tests.ledger.writing", str(folder), str(kills), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_killed_writer_leaves_whole_transactions(tmp_path: Path) -> None:
    assert kill_many(tmp_path, kills=40, seed=1) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_kills(tmp_path: Path, seed: int) -> None:
    assert kill_many(tmp_path, kills=50, seed=100 + seed) > 0


def test_settings_that_make_a_commit_durable(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        asked = {name: ledger._db.one(f"PRAGMA {name}")[0] for name in ("journal_mode", "synchronous", "secure_delete")}
    assert asked == {"journal_mode": "delete", "synchronous": 3, "secure_delete": 1}


def test_a_full_disk_is_a_sentence_and_nothing_is_half_written(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        one_round(ledger, 0)
        (pages,) = ledger._db.one("PRAGMA page_count")
        for room in range(1, 4):
            ledger._db.execute(f"PRAGMA max_page_count={pages + room}")
            with pytest.raises(StoreError, match="no room left"):
                one_round(ledger, 1)
            check(ledger, acknowledged=1, full=True)
        ledger._db.execute(f"PRAGMA max_page_count={pages + 1000}")
        one_round(ledger, 1)
        check(ledger, acknowledged=2, full=True)


def test_a_failing_disk_is_a_sentence_and_nothing_is_half_written(tmp_path: Path) -> None:
    """Writes beyond a limit on file sizes fail in the system call itself, at a later place each time."""
    program = """
import resource, signal, sys
from pathlib import Path
from empu.errors import StoreError
from empu.ledger.ledger import Ledger
from tests.ledger.writing import check, one_round
path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Ledger.open(path) as ledger:
    one_round(ledger, 0)
size, failed, done = path.stat().st_size, 0, 1
for limit in range(4096, size + 40 * 4096, 4096):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with Ledger.open(path) as ledger:
            one_round(ledger, done)
            done += 1
    except StoreError as error:
        failed += 1
        assert "recorded" in str(error) or "cannot be" in str(error), str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with Ledger.open(path) as ledger:
        check(ledger, done, full=limit % 32768 == 0)
    if done > 2:
        break
print(failed)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "ledger.db")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10
