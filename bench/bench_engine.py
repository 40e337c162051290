"""Speed of the native engine beside other engines, on the same weights and threads, and its fraction of roofline.

    python bench/bench_engine.py MODEL.gguf --peer llama.cpp=PYTHON --peer llama.cpp:Q4_0=PYTHON --peer openvino=PYTHON
    python bench/bench_engine.py --preset llama-3-8b --peer llama.cpp=PYTHON --case prefill:128 --case decode:128

In every round and case the roofline, the engine and the peers are measured in turn, so that changes of the machine's
speed affect all of them. The table has medians over the rounds. A peer is a Python that has the engine installed (see
peers.py): llama.cpp (llama-cpp-python, built for this machine), openvino or transformers. With :TYPE it gets a copy of
the file with its 4-bit matrices (of Q8_0: all) in that type, since an engine may have a preferred one. Several
sequences have different lengths for the engine and llama.cpp; for openvino and transformers all have the longest
length. ``--save`` writes all measurements; docs/engine_picture.py draws them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from empu.engine.benchmark import Case, MachineInfo, Roofline, measure_rate
from models import requantise, write_random

CASES = (
    *(Case(False, context) for context in (128, 512, 2048)),
    *(Case(True, context) for context in (128, 1024, 4096)),
    *(Case(True, 128, num_sequences) for num_sequences in (4, 16, 32)),
)


@dataclass
class Contender:
    """One engine, and its tokens per second in every round of each case."""

    name: str
    measure_rate: Callable[[Case], float]
    rates: dict[Case, list[float]] = field(default_factory=dict)

    def median(self, case: Case) -> float:
        return statistics.median(self.rates[case])


class Peer:
    """Another engine in a process of its own."""

    def __init__(self, kind: str, python: str, model: Path, threads: int) -> None:
        command = [python, str(Path(__file__).with_name("peers.py")), kind, str(model), "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure_rate(self, case: Case) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([case.is_decode, case.lengths]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended with {self.process.wait()} at {case}")  # type: ignore[arg-type]
        return float(json.loads(answer))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def parse_case(text: str) -> Case:
    phase, context, *num_sequences = text.split(":")
    if phase not in ("prefill", "decode"):
        raise argparse.ArgumentTypeError(f"{text}: must begin with prefill or decode")
    return Case(phase == "decode", int(context), *map(int, num_sequences))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--preset", help="instead of a file: random weights with the shape of a preset of empu.config")
    parser.add_argument("--type", default="Q4_0", help="type of the random weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3, help="rounds")
    parser.add_argument("--kv", choices=["bf16", "q8"], default="bf16", help="the engine's KV cache type")
    parser.add_argument("--peer", action="append", default=[], metavar="KIND[:TYPE]=PYTHON")
    parser.add_argument(
        "--case", type=parse_case, action="append", metavar="prefill|decode:TOKENS[:SEQUENCES]", dest="cases"
    )
    parser.add_argument("--save", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if (options.model is None) == (options.preset is None):
        parser.error("give a model or --preset")
    with tempfile.TemporaryDirectory(prefix="bench_engine") as temporary:
        if options.preset:
            options.model = Path(temporary) / f"{options.preset}.{options.type}.gguf"
            write_random(options.model, options.preset, options.type)
        run(options, Path(temporary))


def run(options: argparse.Namespace, temporary: Path) -> None:
    from empu.checkpoint import open_checkpoint
    from empu.engine.backends.native import open_native
    from empu.engine.backends.options import BackendOptions

    with open_checkpoint(options.model) as checkpoint:
        backend = open_native(checkpoint, threads=options.threads, options=BackendOptions(kv_cache=options.kv))
    contenders = [Contender("empu", lambda case: measure_rate(backend, case))]
    peers = []
    for peer in options.peer:
        name, _, python = peer.partition("=")
        kind, _, type_name = name.partition(":")
        model = options.model
        if type_name:
            model = temporary / f"{options.model.stem}.{type_name}.gguf"
            requantise(options.model, model, type_name)
        peers.append(Peer(kind, python, model, options.threads))
        contenders.append(Contender(name, peers[-1].measure_rate))

    cases = [case for case in options.cases or CASES if case.max_length <= backend.config.context_length]
    rooflines: list[Roofline] = []
    fractions: dict[Case, list[float]] = {case: [] for case in cases}
    measure_rate(backend, Case(True, 16))  # warm-up
    for _ in range(options.runs):
        for case in cases:
            roofline = Roofline.measure(backend, options.threads)
            assert roofline is not None
            rooflines.append(roofline)
            for contender in contenders:
                contender.rates.setdefault(case, []).append(contender.measure_rate(case))
            fractions[case].append(contenders[0].rates[case][-1] / roofline.tokens_per_s(case, backend.config))
            print(case, *(f"{contender.name} {contender.rates[case][-1]:.1f}" for contender in contenders), flush=True)
    for process in peers:
        process.close()

    machine = MachineInfo.detect()
    bandwidth = Roofline.median(rooflines).bytes_per_s
    print(f"\n{options.model.name}, {machine.cpu}, {options.threads} threads, {backend.name}, {options.runs} rounds")
    print(f"memory {bandwidth / 1e9:.1f} GB/s; peers: tokens/s, and the engine's speed relative to the peer\n")
    print(f"{'tokens/s':28}{'empu':>8}{'roofline':>10}" + "".join(f"{peer.name:>20}" for peer in contenders[1:]))
    for case in cases:
        ours = contenders[0].median(case)
        row = f"{case!s:28}{ours:>8.1f}{statistics.median(fractions[case]):>10.0%}"
        print(row + "".join(f"{peer.median(case):>12.1f} {ours / peer.median(case):>6.1f}x" for peer in contenders[1:]))
    document = {
        "benchmark": "engine",
        "model": options.model.name,
        "threads": options.threads,
        "engine": backend.name,
        "kv": options.kv,
        "machine": machine.to_json(),
        "limits": [roofline.to_json() for roofline in rooflines],
        "cases": [
            {
                "what": str(case),
                **case.to_json(),
                "share": fractions[case],
                "tokens_per_s": {contender.name: contender.rates[case] for contender in contenders},
            }
            for case in cases
        ],
    }
    if options.save:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
