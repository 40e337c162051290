"""Runs that are not finished: what ``empu tune`` has put under the store's ``tmp`` until now.

    tmp/tune-<key>/run                       the run's id in the ledger
    tmp/tune-<key>/name                      what the specialist will be called
    tmp/tune-<key>/command                   what a shell is told to go on
    tmp/tune-<key>/plan.json                 its epochs, and the examples in each
    tmp/tune-<key>/state/state.safetensors   where it stands, in the file's metadata; written anew every half minute

A run that goes on holds its folder's lock; one that was stopped leaves the folder for the same command to go on from.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from empu.checkpoint.formats.safetensors import read_safetensors
from empu.errors import CheckpointError, StoreError
from empu.ledger.ledger import Ledger
from empu.ledger.queries import RunRecord
from empu.ledger.records import TRAIN
from empu.store.store import RUN, Store

PLAN_FILE = "plan.json"
MOST_POINTS = 600
"""Points of a curve; longer ones are given as means of neighbours."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Losses over steps: ``steps[i]`` is the last step that ``losses[i]`` is the mean of, counted from 1."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    dev_steps: list[int] = field(default_factory=list)
    dev_losses: list[float] = field(default_factory=list)
    best_epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """An unfinished run and how far it is. Times in seconds; ``seconds_left`` is ``None`` before the first step."""

    id: str
    name: str | None
    """What the specialist will be called."""
    command: str | None
    """What a shell is told to go on."""
    is_running: bool
    started_at: str
    base: str
    method: str
    recipe: dict[str, Any]
    sources: dict[str, dict[str, int]]
    """Path -> part -> rows."""
    step: int
    steps: int
    epoch: int
    epochs: int
    tokens: int
    seconds: float
    seconds_left: float | None
    saved_at: str | None
    curve: Curve


class Runs:
    """The runs of a store that are not done. What a data set consists of never changes, so it is counted once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sources: dict[str, dict[str, dict[str, int]]] = {}

    def unfinished(self) -> list[Progress]:
        """Newest first."""
        if not self._store.tmp.is_dir() or not self._store.ledger_path.is_file():
            return []
        return sorted(self._each(), key=lambda run: run.started_at, reverse=True)

    def _each(self) -> Iterator[Progress]:
        names = {identity: name for name, identity in self._store.names().items()}
        with Ledger.open(self._store.ledger_path) as ledger:
            for folder in self._store.tmp.glob(f"{RUN}*"):
                try:
                    run = ledger.run((folder / "run").read_text("ascii").strip())
                    sources = self._sources_of(ledger, run.dataset)
                    yield _progress(run, folder, names.get(run.base, run.base[:12]), sources)
                except (OSError, ValueError, StoreError):
                    continue  # not begun yet, finished just now, or not a run of this ledger

    def _sources_of(self, ledger: Ledger, dataset: str | None) -> dict[str, dict[str, int]]:
        if dataset is None:
            return {}
        if dataset not in self._sources:
            sources: dict[str, dict[str, int]] = {}
            for place in ledger.rows(dataset):
                parts = sources.setdefault(place.source.path, {})
                parts[place.split] = parts.get(place.split, 0) + 1
            self._sources[dataset] = sources
        return self._sources[dataset]


def curve_of(
    losses: list[float], dev_losses: list[float], best_epoch: int | None = None, per_epoch: int | None = None
) -> Curve:
    """A curve of at most :data:`MOST_POINTS` points. Without ``per_epoch`` the epochs share the steps equally."""
    size = max(1, -(-len(losses) // MOST_POINTS))
    parts = [losses[i : i + size] for i in range(0, len(losses), size)]
    ends = [min(i + size, len(losses)) for i in range(0, len(losses), size)]
    each = per_epoch or (len(losses) // len(dev_losses) if dev_losses else 0)
    marks = [min((i + 1) * each, len(losses)) for i in range(len(dev_losses))]
    return Curve(ends, [sum(part) / len(part) for part in parts], marks, dev_losses, best_epoch)


def _progress(run: RunRecord, folder: Path, base: str, sources: dict[str, dict[str, int]]) -> Progress:
    rows = sum(parts.get(TRAIN, 0) for parts in sources.values())
    recipe = run.recipe
    per_epoch = -(-_examples(folder / PLAN_FILE, rows) // max(1, int(recipe["batch_rows"])))
    steps = per_epoch * int(recipe["epochs"])
    if recipe.get("max_steps") is not None:
        steps = min(steps, int(recipe["max_steps"]))
    counters, saved_at = _counters(folder / "state" / "state.safetensors")
    step, seconds = int(counters.get("step", 0)), float(counters.get("seconds", 0.0))
    curve = curve_of(counters.get("losses", []), counters.get("dev_losses", []), counters.get("best_epoch"), per_epoch)
    return Progress(
        id=run.id,
        name=_word(folder / "name"),
        command=_word(folder / "command"),
        is_running=_held(folder),
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


def _examples(path: Path, rows: int) -> int:
    """A dialogue gives one for each of its answers; a run that an older version began says nothing of it."""
    try:
        return int(json.loads(path.read_bytes())["examples"])
    except (OSError, ValueError, KeyError, TypeError):
        return rows


def _word(path: Path) -> str | None:
    try:
        return path.read_text("utf-8") or None
    except (OSError, ValueError):  # one that an older version began
        return None


def _counters(path: Path) -> tuple[dict[str, Any], str | None]:
    """The counters beside the weights; none before the first are written."""
    try:
        saved = path.stat().st_mtime
        counters = json.loads(read_safetensors(path).metadata["counters"])
    except (OSError, KeyError, ValueError, CheckpointError):
        return {}, None
    return counters, datetime.fromtimestamp(saved, UTC).isoformat(timespec="seconds")


def _held(folder: Path) -> bool:
    """Whether a process works in the folder. Asked without taking the lock, so that nobody is kept from it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        inode = os.fstat(handle).st_ino
        with contextlib.suppress(OSError):
            held = (line.split() for line in Path("/proc/locks").read_text("ascii").splitlines())
            return any(words[1] == "FLOCK" and words[-3].endswith(f":{inode}") for words in held)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # systems without /proc
        except BlockingIOError:
            return True
        return False
    finally:
        os.close(handle)
