"""What packed weights on disk save at a start.

    python bench/bench_start.py [--model FILE] [--preset llama-3.2-1b --type Q4_0] [--quant q4] [--runs 10]

Times whole processes in turn, one that packs the weights and one that maps them from the file that an earlier start
left: until the weights are open, and until the first logits of a prompt of 8 tokens, both from the start of the
process. With ``--preset`` the model has that shape and random weights, written to a temporary GGUF file. The disk is
warm: every file has just been read. Prints medians; the last line is JSON.
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
from empu.engine.backends.protocol import Chunk
from empu.engine.backends.native import open_native
from empu.engine.backends.storage import PackedPlace, Storage

begun, model, folder, quant = float(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] or None
place = PackedPlace(Path(folder)) if folder else None
with open_checkpoint(model) as checkpoint:
    opening = time.time()
    backend = open_native(checkpoint, context=64, storage=Storage(packed=place, quant=quant))
    opened = time.time()
held = backend.allocate(16)
backend.forward([Chunk(held, np.arange(1, 9, dtype=np.int32))])
done = time.time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"weights_s": opened - opening, "open_s": opened - begun, "logits_s": done - begun, "mib": peak}))
"""


def start(model: Path, folder: str, quant: str) -> dict[str, float]:
    command = [sys.executable, "-c", CHILD, repr(time.time()), str(model), folder, quant]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF file, or the folder of a model")
    parser.add_argument("--preset", help="instead of a model: a shape of empu.config.PRESETS")
    parser.add_argument("--type", default="Q4_0", help="of its random weights")
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
        first = start(model, folder, options.quant)
        ways = {"packs": "", "maps": folder}
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for attempt in range(options.runs + 1):
            for way, where in ways.items():
                found = start(model, where, options.quant)
                if attempt:
                    runs[way].append(found)
        size = model.stat().st_size if model.is_file() else None
    print(f"{'start':16} {'weights s':>10} {'open s':>8} {'logits s':>9} {'peak MiB':>9}")
    print(f"{'packs and keeps':16} " + row({key: [value] for key, value in first.items()}))
    for way, found_ in runs.items():
        print(f"{way:16} " + row({key: [one[key] for one in found_] for key in found_[0]}))
    print(json.dumps({"benchmark": "start", "model_bytes": size, "first": first, "runs": runs}))


def row(figures: dict[str, list[float]]) -> str:
    middle = {key: statistics.median(values) for key, values in figures.items()}
    spread = max(figures["logits_s"]) - min(figures["logits_s"])
    return (
        f"{middle['weights_s']:>10.3f} {middle['open_s']:>8.3f} {middle['logits_s']:>9.3f} {middle['mib']:>9.0f}"
        f"   (spread of logits {spread:.3f})"
    )


if __name__ == "__main__":
    main()
