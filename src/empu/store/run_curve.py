"""Loss curve of a run, thinned to a number of points that a page can draw."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_POINTS = 600
"""Limit on the points of a curve. In a longer one, each point is the mean of neighbouring steps."""


@dataclass(frozen=True, slots=True)
class LossCurve:
    """Losses over steps. ``losses[i]`` is a mean of training losses; ``steps[i]`` is its last step, counted from 1."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    dev_steps: list[int] = field(default_factory=list)
    dev_losses: list[float] = field(default_factory=list)
    best_epoch: int | None = None


def build_curve(
    losses: list[float], dev_losses: list[float], best_epoch: int | None = None, steps_per_epoch: int | None = None
) -> LossCurve:
    """Build a curve of at most :data:`MAX_POINTS` points from training losses per step and validation losses per epoch.

    Without ``steps_per_epoch``, all epochs are taken to have the same number of steps.
    """
    size = max(1, -(-len(losses) // MAX_POINTS))
    groups = [losses[i : i + size] for i in range(0, len(losses), size)]
    ends = [min(i + size, len(losses)) for i in range(0, len(losses), size)]
    per_epoch = steps_per_epoch or (len(losses) // len(dev_losses) if dev_losses else 0)
    dev_steps = [min((i + 1) * per_epoch, len(losses)) for i in range(len(dev_losses))]
    return LossCurve(ends, [sum(group) / len(group) for group in groups], dev_steps, dev_losses, best_epoch)
