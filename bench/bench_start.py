"""How much start time the weight cache saves.

    python bench/bench_start.py [--model FILE] [--preset llama-3.2-1b --type Q4_0] [--quant q4] [--runs 10]

Measures whole processes in turn: one that packs the weights, and one that maps them from the cache. Reports the time
until the weights are open, and until the first logits of a prompt of 8 tokens, both from the start of the process. With
``--preset`` the model has that shape and random weights, in a temporary GGUF file. The page cache is warm. Prints
medians; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from models import write_random

CHILD = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from empu.checkpoint import open_checkpoint
from empu.engine.backends.native import open_native
from empu.engine.backends.options import BackendOptions, WeightCacheLocation
from empu.engine.backends.protocol import Chunk

started_at, model, folder, quant = float(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] or None
location = WeightCacheLocation(Path(folder)) if folder else None
with open_checkpoint(model) as checkpoint:
    open_started_at = time.time()
    backend = open_native(checkpoint, context_length=64, options=BackendOptions(weight_cache=location, quant=quant))
    opened_at = time.time()
sequence = backend.allocate(16)
backend.forward([Chunk(sequence, np.arange(1, 9, dtype=np.int32))])
done_at = time.time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
times = {"weights_s": opened_at - open_started_at, "open_s": opened_at - started_at, "logits_s": done_at - started_at}
print(json.dumps({**times, "mib": peak}))
"""


def measure_start(model: Path, folder: str, quant: str) -> dict[str, float]:
    command = [sys.executable, "-c", CHILD, repr(time.time()), str(model), folder, quant]
    process = subprocess.run(command, check=True, capture_output=True, text=True)
    times: dict[str, float] = json.loads(process.stdout)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF file, or the folder of a model")
    parser.add_argument("--preset", help="instead of a model: a shape of empu.config.PRESETS")
    parser.add_argument("--type", default="Q4_0", help="type of its random weights")
    parser.add_argument("--quant", default="", help="round the weights at loading: q8 or q4")
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    if (options.model is None) == (options.preset is None):
        parser.error("give --model or --preset")

    with tempfile.TemporaryDirectory(prefix="bench_start") as temporary:
        model = options.model or Path(temporary) / "random.gguf"
        if options.preset:
            write_random(model, options.preset, options.type)
        time.sleep(0.1)
        folder = str(Path(temporary) / "packed")
        first = measure_start(model, folder, options.quant)
        modes = {"pack": "", "map": folder}
        runs: dict[str, list[dict[str, float]]] = {mode: [] for mode in modes}
        for attempt in range(options.runs + 1):
            for mode, cache_folder in modes.items():
                times = measure_start(model, cache_folder, options.quant)
                if attempt:
                    runs[mode].append(times)
        size = model.stat().st_size if model.is_file() else None
    print(f"{'start':16} {'weights s':>10} {'open s':>8} {'logits s':>9} {'peak MiB':>9}")
    print(f"{'pack and save':16} " + format_row({key: [value] for key, value in first.items()}))
    for mode, mode_runs in runs.items():
        print(f"{mode:16} " + format_row({key: [times[key] for times in mode_runs] for key in mode_runs[0]}))
    print(json.dumps({"benchmark": "start", "model_bytes": size, "first": first, "runs": runs}))


def format_row(times: dict[str, list[float]]) -> str:
    medians = {key: statistics.median(values) for key, values in times.items()}
    spread = max(times["logits_s"]) - min(times["logits_s"])
    return (
        f"{medians['weights_s']:>10.3f} {medians['open_s']:>8.3f} {medians['logits_s']:>9.3f} {medians['mib']:>9.0f}"
        f"   (spread of logits {spread:.3f})"
    )


if __name__ == "__main__":
    main()
