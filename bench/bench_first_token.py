"""Time to the first token of ``empu run``, and its parts.

    python bench/bench_first_token.py [--model default] [--runs 5] [--peer PYTHON MODEL.gguf]

Measures whole processes from outside (wall clock, peak resident memory): an empty Python, Python with numpy, Python
with torch, and ``empu run MODEL … --max-tokens 1`` with each engine. With ``--peer`` also llama.cpp on the same
question, by a Python that has llama-cpp-python. They run in turn, so that changes of the machine's speed affect all of
them. Prints a table of medians; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

PROMPT = "What is the capital of France?"
LLAMA = """
import sys
from llama_cpp import Llama
model = Llama(sys.argv[1], n_ctx=2048, verbose=False)
messages = [{"role": "user", "content": sys.argv[2]}]
for chunk in model.create_chat_completion(messages, max_tokens=1, temperature=0.2, seed=0, stream=True):
    pass
"""


@dataclass
class Case:
    """One command, with the time and memory of its runs."""

    name: str
    command: list[str]
    seconds: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)
    reports: list[dict[str, object]] = field(default_factory=list)

    def run(self) -> None:
        started = time.perf_counter()
        process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        self.seconds.append(time.perf_counter() - started)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(self.command)} failed with status {process.returncode}")
        self.peak_mib.append(usage.ru_maxrss / 1024)
        if output.strip():
            self.reports.append(json.loads(output))

    def summary(self) -> dict[str, object]:
        return {
            "case": self.name,
            "seconds": round(statistics.median(self.seconds), 3),
            "seconds_min": round(min(self.seconds), 3),
            "seconds_max": round(max(self.seconds), 3),
            "peak_mib": round(statistics.median(self.peak_mib), 1),
            "timings": self.reports[-1].get("timings") if self.reports else None,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="a name in the store, or a path")
    parser.add_argument("--runs", type=int, default=5, help="measured runs of each command, after a warm-up")
    parser.add_argument("--engines", nargs="+", default=["native", "torch"], help="engines to time")
    parser.add_argument("--peer", nargs=2, metavar=("PYTHON", "MODEL.gguf"), help="also measure llama.cpp")
    options = parser.parse_args()

    python = [sys.executable, "-c"]
    cases = [
        Case("python, empty", [*python, "pass"]),
        Case("python, import numpy", [*python, "import numpy"]),
        Case("python, import torch", [*python, "import torch"]),
    ]
    for engine in options.engines:
        command = [sys.executable, "-m", "empu", "run", options.model, PROMPT, "--max-tokens", "1", "--seed", "0"]
        cases.append(Case(f"empu run, {engine} engine", [*command, "--engine", engine, "--json"]))
    if options.peer is not None:
        cases.append(Case("llama.cpp, its Python package", [options.peer[0], "-c", LLAMA, options.peer[1], PROMPT]))

    for attempt in range(options.runs + 1):
        for case in cases:
            case.run()
            if attempt == 0:
                case.seconds.clear()
                case.peak_mib.clear()

    print(f"{'case':34} {'median s':>9} {'min':>7} {'max':>7} {'peak MiB':>9}")
    for case in cases:
        row = case.summary()
        print(
            f"{row['case']:34} {row['seconds']:>9} {row['seconds_min']:>7} {row['seconds_max']:>7} {row['peak_mib']:>9}"
        )
    document = {
        "benchmark": "first_token",
        "machine": {"processor": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "runs": options.runs,
        "results": [case.summary() for case in cases],
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
