"""What the user asks for: a specialist with these settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from empu.specialist.existing_runs import TUNED
from empu.store.names import check_name
from empu.store.store import Store
from empu.tune.recipe import Method, Precision


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """Settings of ``empu tune``; ``None`` leaves the choice to the plan."""

    name: str
    base: str = "default"
    method: Method = "lora"
    rank: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    precision: Precision | None = None
    seed: int = 0
    threads: int | None = None
    engine: str = "auto"
    """Inference engine for calibration and comparison."""
    members: str = "auto"
    """Members of a label specialist: names with commas, or ``auto``."""
    compare: bool = True
    budget: float | None = None
    """Longest training time in seconds, kept to by fewer epochs."""
    replace: bool = False
    """Whether ``name`` may move from the specialist that has it now."""
    policy: Path | None = None
    """The company's licence policy; that of the store by default."""
    command: str | None = None
    """Shell command that starts this run, and resumes it after a stop."""


def check_request(store: Store, request: TuneRequest) -> None:
    """Raise :class:`~empu.errors.EmpuError` for a name that no specialist can have.

    This is cheap, so it runs before the rows are read.
    """
    check_name(request.name)
    existing = store.find_by_name(request.name)
    if existing is not None and existing.record.source.kind != TUNED:
        store.check_name_free(request.name, None)
