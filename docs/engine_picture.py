"""Draws the README's picture of speed from what bench/bench_engine.py saved.

.venv/bin/python docs/engine_picture.py RESULT.json PICTURE.svg
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

SHOWN = {
    (False, 512, 1): "prefill 512",
    (True, 128, 1): "decode after 128",
    (True, 128, 16): "decode after 128, 16 sequences",
}
"""(decode, tokens of context, sequences) of the cases in the picture -> their titles."""
OURS, OTHERS, INK = "#c2410c", "#94a3b8", "#334155"


def main() -> None:
    source, picture = map(Path, sys.argv[1:3])
    found = json.loads(source.read_text(encoding="utf-8"))
    cases = {(case["write"], case["context"], case["streams"]): case for case in found["cases"]}
    names = list(found["cases"][0]["tokens_per_s"])
    pyplot.rcParams.update({"svg.hashsalt": "empu", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure, axes = pyplot.subplots(1, len(SHOWN), figsize=(11, 0.62 + 0.36 * len(names)), sharey=True)
    for axis, (key, title) in zip(axes, SHOWN.items(), strict=True):
        draw(axis, title, cases[key], names)
    axes[0].set_yticks(range(len(names)), [spelled(name) for name in names])
    axes[0].invert_yaxis()
    figure.tight_layout(w_pad=2.5)
    figure.savefig(picture, metadata={"Date": None}, transparent=False)


def draw(axis: Any, title: str, case: dict[str, Any], names: list[str]) -> None:
    """One case: a bar for each engine with its tokens per second."""
    rates = [statistics.median(case["tokens_per_s"][name]) for name in names]
    axis.barh(range(len(names)), rates, color=[OURS, *[OTHERS] * (len(names) - 1)], height=0.68)
    for place, rate in enumerate(rates):
        axis.text(rate + max(rates) * 0.015, place, f"{rate:,.0f}", va="center", fontsize=9, color=INK)
    axis.set_title(f"{title}: tokens/s", fontsize=10, loc="left", color=INK)
    axis.set_xlim(0, max(rates) * 1.18)
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    for side in axis.spines.values():
        side.set_visible(False)


def spelled(name: str) -> str:
    kind, _, type_ = name.partition(":")
    return kind.capitalize() if kind == "empu" else f"{kind}, {type_}" if type_ else kind


if __name__ == "__main__":
    main()
