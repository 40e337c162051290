"""How a run went, as data and as a picture."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from empu.ledger.records import Metric
from empu.tune.trainer import Outcome as Tuned

FOLDER = "run"
"""Beside the record of a specialist; not part of its identity."""


def loss_curve(tuned: Tuned, accuracy: Metric | None, folder: Path) -> None:
    """Write ``curve.json`` and ``curve.png`` into ``folder``: losses per step, losses of the development rows per
    epoch, and, for labels, the kept weights' accuracy on the development rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "losses": tuned.losses,
        "dev_losses": tuned.dev_losses,
        "best_epoch": tuned.best_epoch,
        "dev_accuracy": dataclasses.asdict(accuracy) if accuracy is not None else None,
    }
    (folder / "curve.json").write_text(json.dumps(data) + "\n", "utf-8")
    figure = Figure(figsize=(7, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    window = max(1, len(tuned.losses) // 50)
    smooth = np.convolve(tuned.losses, np.ones(window) / window, mode="valid")
    axes.plot(range(window, window + len(smooth)), smooth, label=f"training, mean of {window} steps")
    ends = [tuned.steps * (i + 1) / len(tuned.dev_losses) for i in range(len(tuned.dev_losses))]
    if ends:
        axes.plot(ends, tuned.dev_losses, "o-", label="development rows")
    axes.set(xlabel="step", ylabel="loss per answer token (nats)", ylim=(0, None))
    if accuracy is not None and ends:
        right = axes.twinx()
        at = ends[tuned.best_epoch or 0]
        error = [[accuracy.value - accuracy.low], [accuracy.high - accuracy.value]]
        right.errorbar([at], [accuracy.value], yerr=error, fmt="s", color="tab:green", label="accuracy, 95 %")
        right.set(ylabel="accuracy on the development rows", ylim=(0, 1))
        right.legend(loc="lower right")
    axes.legend(loc="upper right")
    canvas.print_png(folder / "curve.png")  # type: ignore[no-untyped-call]
