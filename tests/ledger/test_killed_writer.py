"""A killed writer leaves every acknowledged transaction, each complete or absent, and a ledger that verifies.

SIGKILL simulates a dying process, not a power failure. For a power failure, the ledger relies on ``synchronous=EXTRA``;
the test checks that setting.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from empu.errors import StoreError
from empu.ledger.ledger import Ledger
from tests.ledger.writer import check, write_round

ROOT = Path(__file__).resolve().parent.parent.parent


def kill_many(folder: Path, kills: int, seed: int) -> int:
    """Return the number of rounds at the end. Runs in a process of its own, which has no threads when it forks."""
    command = [sys.executable, "-m", "tests.ledger.writer", str(folder), str(kills), str(seed)]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    return int(completed.stdout)


def test_killed_writer_leaves_complete_transactions(tmp_path: Path) -> None:
    assert kill_many(tmp_path, kills=40, seed=1) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_kills(tmp_path: Path, seed: int) -> None:
    assert kill_many(tmp_path, kills=50, seed=100 + seed) > 0


def test_commits_are_durable_by_their_settings(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        settings = {
            name: ledger._db.fetch_one(f"PRAGMA {name}")[0] for name in ("journal_mode", "synchronous", "secure_delete")
        }
    assert settings == {"journal_mode": "delete", "synchronous": 3, "secure_delete": 1}


def test_full_disk_raises_store_error_and_leaves_complete_transactions(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        write_round(ledger, 0)
        (pages,) = ledger._db.fetch_one("PRAGMA page_count")
        for free_pages in range(1, 4):
            ledger._db.execute(f"PRAGMA max_page_count={pages + free_pages}")
            with pytest.raises(StoreError, match="no room left"):
                write_round(ledger, 1)
            check(ledger, acknowledged=1, full=True)
        ledger._db.execute(f"PRAGMA max_page_count={pages + 1000}")
        write_round(ledger, 1)
        check(ledger, acknowledged=2, full=True)


def test_failed_writes_raise_store_error_and_leave_complete_transactions(tmp_path: Path) -> None:
    """A limit on the file size makes write calls fail, at a later position each time."""
    program = """
import resource, signal, sys
from pathlib import Path
from empu.errors import StoreError
from empu.ledger.ledger import Ledger
from tests.ledger.writer import check, write_round
path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Ledger.open(path) as ledger:
    write_round(ledger, 0)
size, failures, rounds = path.stat().st_size, 0, 1
for limit in range(4096, size + 40 * 4096, 4096):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with Ledger.open(path) as ledger:
            write_round(ledger, rounds)
            rounds += 1
    except StoreError as error:
        failures += 1
        assert "recorded" in str(error) or "cannot be" in str(error), str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with Ledger.open(path) as ledger:
        check(ledger, rounds, full=limit % 32768 == 0)
    if rounds > 2:
        break
print(failures)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "ledger.db")]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    assert int(completed.stdout) >= 10
