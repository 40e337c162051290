"""What a run shows of its speed, and the room that it needs."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from empu.errors import CheckpointError
from empu.tune.recipe import Recipe
from empu.tune.trainer import SPEED_WINDOW_STEPS, Trainer
from empu.tune.training_state import Counters, check_disk_space


def test_a_slow_spell_before_a_restart_does_not_slow_the_time_left() -> None:
    recent = deque([(9.0, 10)] + [(0.5, 280)] * SPEED_WINDOW_STEPS, maxlen=SPEED_WINDOW_STEPS)
    counters = Counters(step=60, tokens=20_000, seconds=5_000.0)  # most of them slow, in an earlier process
    trainer: Any = SimpleNamespace(
        counters=counters, _recent_steps=recent, steps=100, recipe=Recipe(), train=range(1000)
    )
    progress = Trainer._progress(trainer, 1.0, 0.001, None)
    assert progress.tokens_per_s == pytest.approx(560)
    assert progress.seconds_left == pytest.approx(20)
    assert progress.seconds == 5_000.0


def test_a_run_whose_checkpoints_do_not_fit_is_refused_before_its_first_step(tmp_path: Path) -> None:
    check_disk_space(tmp_path, 1000)
    with pytest.raises(CheckpointError, match="the checkpoints of this run need"):
        check_disk_space(tmp_path, 10**15)
