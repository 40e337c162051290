"""How the pipeline reports what it does."""

from __future__ import annotations

from typing import Protocol

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
