"""Unfinished tuning runs: progress and loss curve of the runs below the store's ``tmp`` folder.

    tmp/tune-<key>/run                       id of the run in the ledger
    tmp/tune-<key>/name                      name of the specialist to be
    tmp/tune-<key>/command                   shell command that resumes the run
    tmp/tune-<key>/plan.json                 number of epochs, and of examples in each
    tmp/tune-<key>/state/state.safetensors   checkpoint of the training state; its metadata holds the counters

A running run holds the lock on its folder. A stopped run leaves the folder, so that the same command resumes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from empu.checkpoint.formats.safetensors import read_safetensors
from empu.errors import CheckpointError, StoreError
from empu.ledger.ledger import Ledger
from empu.ledger.queries import RecordedRun
from empu.ledger.records import TRAIN
from empu.store.run_curve import LossCurve, build_curve
from empu.store.staging import RUN_PREFIX
from empu.store.store import Store
from empu.system.files import load_json_object
from empu.system.json import parse_json_object

PLAN_FILE = "plan.json"


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """An unfinished run and its progress. Times are in seconds; ``seconds_left`` is ``None`` before the first step."""

    id: str
    name: str | None
    """Name of the specialist to be."""
    command: str | None
    """Shell command that resumes the run."""
    is_running: bool
    started_at: str
    base: str
    method: str
    recipe: dict[str, Any]
    sources: dict[str, dict[str, int]]
    """Path -> split -> number of rows."""
    step: int
    steps: int
    epoch: int
    epochs: int
    tokens: int
    seconds: float
    seconds_left: float | None
    saved_at: str | None
    curve: LossCurve


class UnfinishedRuns:
    """The unfinished runs of a store. The rows of a data set never change, so they are counted once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sources: dict[str, dict[str, dict[str, int]]] = {}

    def list_runs(self) -> list[UnfinishedRun]:
        """Return the unfinished runs, newest first."""
        if not self._store.tmp_folder.is_dir() or not self._store.ledger_path.is_file():
            return []
        return sorted(self._read_runs(), key=lambda run: run.started_at, reverse=True)

    def _read_runs(self) -> Iterator[UnfinishedRun]:
        names = {model_id: name for name, model_id in self._store.names().items()}
        with Ledger.open(self._store.ledger_path) as ledger:
            for folder in self._store.tmp_folder.glob(f"{RUN_PREFIX}*"):
                try:
                    run = ledger.run((folder / "run").read_text("ascii").strip())
                    sources = self._sources_of(ledger, run.dataset)
                    yield _read_run(run, folder, names.get(run.base, run.base[:12]), sources)
                except (OSError, ValueError, StoreError):
                    continue  # not started yet, finished just now, or a run of another ledger

    def _sources_of(self, ledger: Ledger, dataset: str | None) -> dict[str, dict[str, int]]:
        if dataset is None:
            return {}
        if dataset not in self._sources:
            sources: dict[str, dict[str, int]] = {}
            for row in ledger.rows(dataset):
                splits = sources.setdefault(row.source.path, {})
                splits[row.split] = splits.get(row.split, 0) + 1
            self._sources[dataset] = sources
        return self._sources[dataset]


def _read_run(run: RecordedRun, folder: Path, base: str, sources: dict[str, dict[str, int]]) -> UnfinishedRun:
    recipe = run.recipe
    batch_size = int(recipe.get("batch_size", recipe.get("batch_rows", 1)))  # version 0.1.0 wrote batch_rows
    train_rows = sum(splits.get(TRAIN, 0) for splits in sources.values())
    steps_per_epoch = -(-_count_examples(folder / PLAN_FILE, train_rows) // max(1, batch_size))
    steps = steps_per_epoch * int(recipe["epochs"])
    if recipe.get("max_steps") is not None:
        steps = min(steps, int(recipe["max_steps"]))
    counters, saved_at = _read_counters(folder / "state" / "state.safetensors")
    step, seconds = int(counters.get("step", 0)), float(counters.get("seconds", 0.0))
    curve = build_curve(
        counters.get("losses", []), counters.get("dev_losses", []), counters.get("best_epoch"), steps_per_epoch
    )
    return UnfinishedRun(
        id=run.id,
        name=_read_text(folder / "name"),
        command=_read_text(folder / "command"),
        is_running=_is_locked(folder),
        started_at=run.started_at,
        base=base,
        method=str(recipe.get("method", "")),
        recipe=recipe,
        sources=sources,
        step=step,
        steps=steps,
        epoch=int(counters.get("epoch", 0)),
        epochs=int(recipe["epochs"]),
        tokens=int(counters.get("tokens", 0)),
        seconds=seconds,
        seconds_left=seconds / step * max(0, steps - step) if step else None,
        saved_at=saved_at,
        curve=curve,
    )


def _count_examples(plan_path: Path, train_rows: int) -> int:
    """Return the number of training examples: one for each row, or for each answer of a dialogue.

    Runs of older versions have no plan file; their number of rows is taken.
    """
    try:
        return int(load_json_object(plan_path)["examples"])
    except (OSError, ValueError, KeyError, TypeError):
        return train_rows


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8") or None
    except (OSError, ValueError):  # older versions wrote no such file
        return None


def _read_counters(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return the counters of the training state and the time when it was saved; empty before the first save."""
    try:
        saved_at = path.stat().st_mtime
        counters = parse_json_object(read_safetensors(path).metadata["counters"].encode())
    except (OSError, KeyError, ValueError, CheckpointError):
        return {}, None
    return counters, datetime.fromtimestamp(saved_at, UTC).isoformat(timespec="seconds")


def _is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock on a folder, where possible without taking the lock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        inode = os.fstat(descriptor).st_ino
        with contextlib.suppress(OSError):
            locks = (line.split() for line in Path("/proc/locks").read_text("ascii").splitlines())
            return any(fields[1] == "FLOCK" and fields[-3].endswith(f":{inode}") for fields in locks)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # system without /proc
        except BlockingIOError:
            return True
        return False
    finally:
        os.close(descriptor)
