"""The native engine beside other engines, on the same weights and threads, and its share of the machine's limit.

    python bench/bench_engine.py MODEL.gguf --peer llama.cpp=PYTHON --peer llama.cpp:Q4_0=PYTHON --peer openvino=PYTHON
    python bench/bench_engine.py --preset llama-3-8b --peer llama.cpp=PYTHON --case read:128 --case write:128

In every round and case the machine's limits, the engine and the peers are measured in turn, so that a change of the
machine's speed meets all of them alike; the table has medians over the rounds. A peer is a Python that has it (see
peers.py): llama.cpp (llama-cpp-python, built for this machine), openvino or transformers. With :TYPE it gets a copy of
the file with its 4-bit matrices (of Q8_0: all) in that type, since an engine may have a favourite. Several sequences
are of mixed lengths for the engine and llama.cpp, of one length, the longest, for openvino and transformers.
``--save`` keeps everything that was measured; docs/engine_picture.py draws it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from empu.engine.benchmark import Case, Limits, Machine, rate
from models import copy_as, write_random

CASES = (
    *(Case(False, context) for context in (128, 512, 2048)),
    *(Case(True, context) for context in (128, 1024, 4096)),
    *(Case(True, 128, streams) for streams in (4, 16, 32)),
)


@dataclass
class Contender:
    """One engine, and its tokens per second in every round of each case."""

    name: str
    rate: Callable[[Case], float]
    rates: dict[Case, list[float]] = field(default_factory=dict)

    def middle(self, case: Case) -> float:
        return statistics.median(self.rates[case])


class Peer:
    """Another engine in a process of its own."""

    def __init__(self, kind: str, python: str, model: Path, threads: int) -> None:
        command = [python, str(Path(__file__).with_name("peers.py")), kind, str(model), "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def rate(self, case: Case) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([case.write, case.lengths]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended with {self.process.wait()} at {case}")  # type: ignore[arg-type]
        return float(json.loads(answer))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def as_case(text: str) -> Case:
    what, context, *streams = text.split(":")
    if what not in ("read", "write"):
        raise argparse.ArgumentTypeError(f"{text}: begins with neither read nor write")
    return Case(what == "write", int(context), *map(int, streams))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--preset", help="instead of a file: random weights in a shape of empu.config.PRESETS")
    parser.add_argument("--type", default="Q4_0", help="of the random weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kv", choices=["bf16", "q8"], default="bf16", help="the engine's cache")
    parser.add_argument("--peer", action="append", default=[], metavar="KIND[:TYPE]=PYTHON")
    parser.add_argument("--case", type=as_case, action="append", metavar="read|write:TOKENS[:STREAMS]", dest="cases")
    parser.add_argument("--save", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if (options.model is None) == (options.preset is None):
        parser.error("give a model or --preset")
    with tempfile.TemporaryDirectory(prefix="bench_engine") as temporary:
        if options.preset:
            options.model = Path(temporary) / f"{options.preset}.{options.type}.gguf"
            write_random(options.model, options.preset, options.type)
        measure(options, Path(temporary))


def measure(options: argparse.Namespace, temporary: Path) -> None:
    from empu.checkpoint import open_checkpoint
    from empu.engine.backends.native import open_native
    from empu.engine.backends.storage import Storage

    with open_checkpoint(options.model) as checkpoint:
        backend = open_native(checkpoint, threads=options.threads, storage=Storage(kv=options.kv))
    contenders = [Contender("empu", lambda case: rate(backend, case))]
    peers = []
    for peer in options.peer:
        name, _, python = peer.partition("=")
        kind, _, type_ = name.partition(":")
        model = options.model
        if type_:
            model = temporary / f"{options.model.stem}.{type_}.gguf"
            copy_as(options.model, model, type_)
        peers.append(Peer(kind, python, model, options.threads))
        contenders.append(Contender(name, peers[-1].rate))

    cases = [case for case in options.cases or CASES if case.longest <= backend.config.context_length]
    limits: list[Limits] = []
    shares: dict[Case, list[float]] = {case: [] for case in cases}
    rate(backend, Case(True, 16))
    for _ in range(options.runs):
        for case in cases:
            limit = Limits.of(backend, options.threads)
            assert limit is not None
            limits.append(limit)
            for contender in contenders:
                contender.rates.setdefault(case, []).append(contender.rate(case))
            shares[case].append(contenders[0].rates[case][-1] / limit.tokens_per_s(case, backend.config))
            print(case, *(f"{contender.name} {contender.rates[case][-1]:.1f}" for contender in contenders), flush=True)
    for process in peers:
        process.close()

    machine = Machine.here()
    bandwidth = statistics.median(limit.bytes_per_s for limit in limits)
    print(f"\n{options.model.name}, {machine.cpu}, {options.threads} threads, {backend.name}, {options.runs} rounds")
    print(f"memory {bandwidth / 1e9:.1f} GB/s; columns of peers: tokens/s, and how many times as fast the engine is\n")
    print(f"{'tokens/s':28}{'empu':>8}{'limit':>7}" + "".join(f"{peer.name:>20}" for peer in contenders[1:]))
    for case in cases:
        mine = contenders[0].middle(case)
        row = f"{case!s:28}{mine:>8.1f}{statistics.median(shares[case]):>7.0%}"
        print(row + "".join(f"{peer.middle(case):>12.1f} {mine / peer.middle(case):>6.1f}x" for peer in contenders[1:]))
    document = {
        "benchmark": "engine",
        "model": options.model.name,
        "threads": options.threads,
        "engine": backend.name,
        "kv": options.kv,
        "machine": dataclasses.asdict(machine),
        "limits": [dataclasses.asdict(limit) for limit in limits],
        "cases": [
            {
                "what": str(case),
                **dataclasses.asdict(case),
                "share": shares[case],
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
