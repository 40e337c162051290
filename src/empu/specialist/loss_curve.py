"""The loss of a training run, as data and as a chart."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from empu.ledger.records import Metric
from empu.tune.trainer import TrainResult

LOSS_CURVE_FOLDER = "run"
"""Folder beside the record of a specialist; not part of its identity."""


def write_loss_curve(result: TrainResult, accuracy: Metric | None, folder: Path) -> None:
    """Write ``curve.json`` and ``curve.png``: training loss per step and validation loss per epoch.

    ``accuracy`` is the validation accuracy of the best epoch, for classifiers.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "losses": result.losses,
        "dev_losses": result.dev_losses,
        "best_epoch": result.best_epoch,
        "dev_accuracy": dataclasses.asdict(accuracy) if accuracy is not None else None,
    }
    (folder / "curve.json").write_text(json.dumps(data) + "\n", "utf-8")
    figure = Figure(figsize=(7, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    window = max(1, len(result.losses) // 50)
    moving_mean = np.convolve(result.losses, np.ones(window) / window, mode="valid")
    axes.plot(range(window, window + len(moving_mean)), moving_mean, label=f"training rows, mean of {window} steps")
    epoch_ends = [result.steps * (i + 1) / len(result.dev_losses) for i in range(len(result.dev_losses))]
    if epoch_ends:
        axes.plot(epoch_ends, result.dev_losses, "o-", label="validation rows")
    axes.set(xlabel="step", ylabel="loss per completion token (nats)", ylim=(0, None))
    if accuracy is not None and epoch_ends:
        right = axes.twinx()
        best_end = epoch_ends[result.best_epoch or 0]
        error = [[accuracy.value - accuracy.low], [accuracy.high - accuracy.value]]
        right.errorbar([best_end], [accuracy.value], yerr=error, fmt="s", color="tab:green", label="accuracy, 95 %")
        right.set(ylabel="accuracy on the validation rows", ylim=(0, 1))
        right.legend(loc="lower right")
    axes.legend(loc="upper right")
    canvas.print_png(folder / "curve.png")  # type: ignore[no-untyped-call]
