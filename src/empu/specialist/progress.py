"""How the pipeline reports what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from empu.errors import CancelledError
from empu.tune.trainer import TrainProgress


class ProgressListener(Protocol):
    """Shows progress to the user and knows whether to stop."""

    def message(self, text: str) -> None:
        """Show one line."""

    def on_step(self, progress: TrainProgress) -> None:
        """Called after each training step."""

    def on_answers(self, system: str, done: int, total: int) -> None:
        """Called while a system answers rows."""

    def should_stop(self) -> bool:
        """Return whether the user asked to stop."""


def row_counter(listener: ProgressListener, system: str, total: int) -> Callable[[int], None]:
    """Return a callback that reports progress, and raises :class:`CancelledError` if the user asked to stop."""
    done = 0

    def on_rows(count: int) -> None:
        nonlocal done
        if listener.should_stop():
            raise CancelledError("Stopped during the evaluation. Run the same command again to resume.")
        done += count
        listener.on_answers(system, done, total)

    return on_rows
