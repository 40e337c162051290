"""Speed and arithmetic of the native engine on one machine, beside the limit of its memory and, if asked, llama.cpp.

    python bench/bench_engine.py MODEL.gguf [--threads 2] [--runs 5] [--peer PYTHON]

Every round measures the memory, the engine and the peer in turn, so that a change of the machine's speed meets all of
them alike; the table gives medians over the rounds. ``--peer`` is a Python with llama-cpp-python (built
for this machine); it runs as a process of its own and is given the same tokens. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

DECODED = 48
CASES = (
    ("prefill", 128, 1),
    ("prefill", 512, 1),
    ("decode", 128, 1),
    ("decode", 512, 1),
    ("decode", 1024, 1),
    ("decode", 128, 8),
    ("decode", 128, 16),
)
"""(what, context, streams)"""


class Measured(Protocol):
    """Something that gives tokens per second for a case."""

    def rate(self, what: str, context: int, streams: int) -> float: ...


class Ours:
    """The native engine."""

    def __init__(self, model: Path, threads: int) -> None:
        from empu.checkpoint import open_checkpoint
        from empu.engine.native_backend import open_native

        self.backend = open_native(open_checkpoint(model), threads=threads)
        self.vocabulary = self.backend.config.vocab_size

    def rate(self, what: str, context: int, streams: int) -> float:
        from empu.engine.backend import Chunk

        backend = self.backend
        sequences = [backend.allocate(context + DECODED) for _ in range(streams)]
        prompts = [tokens(context, self.vocabulary, i) for i in range(streams)]
        try:
            begun = time.perf_counter()
            out = backend.forward([Chunk(s, prompt) for s, prompt in zip(sequences, prompts, strict=True)])
            if what == "prefill":
                return streams * context / (time.perf_counter() - begun)
            begun = time.perf_counter()
            for _ in range(DECODED):
                chosen = [np.array([rows[0].argmax()], dtype=np.int32) for rows in out]
                out = backend.forward([Chunk(s, token) for s, token in zip(sequences, chosen, strict=True)])
            return streams * DECODED / (time.perf_counter() - begun)
        finally:
            for sequence in sequences:
                backend.release(sequence)


class Peer:
    """llama.cpp in another process, which runs this same file."""

    def __init__(self, python: str, model: Path, threads: int) -> None:
        command = [python, __file__, str(model), "--threads", str(threads), "--serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def rate(self, what: str, context: int, streams: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([what, context, streams]) + "\n")
        self.process.stdin.flush()
        return float(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


class Llama:
    """llama.cpp by its C interface, at its best here: no flash attention, one cache for each stream."""

    def __init__(self, model: Path, threads: int) -> None:
        import llama_cpp as c

        self.c: Any = c
        c.llama_backend_init()
        parameters = c.llama_model_default_params()
        self.model = c.llama_model_load_from_file(str(model).encode(), parameters)
        self.vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))
        self.threads = threads

    def rate(self, what: str, context: int, streams: int) -> float:
        c = self.c
        parameters = c.llama_context_default_params()
        parameters.n_ctx = streams * (context + DECODED + 16)
        parameters.n_batch = parameters.n_ubatch = 512
        parameters.n_seq_max = streams
        parameters.n_threads = parameters.n_threads_batch = self.threads
        parameters.kv_unified = False
        parameters.flash_attn_type = 0  # disabled
        handle = c.llama_init_from_model(self.model, parameters)
        batch = c.llama_batch_init(512, 0, 1)
        try:
            self._decode(handle, batch, [(1, 0, 0, True)])  # first use prepares the graph
            c.llama_memory_clear(c.llama_get_memory(handle), True)
            begun = time.perf_counter()
            for stream in range(streams):
                prompt = tokens(context, self.vocabulary, stream)
                for start in range(0, context, 512):
                    part = range(start, min(start + 512, context))
                    self._decode(handle, batch, [(int(prompt[i]), i, stream, i == context - 1) for i in part])
            if what == "prefill":
                return streams * context / (time.perf_counter() - begun)
            chosen = [1] * streams
            begun = time.perf_counter()
            for step in range(DECODED):
                self._decode(handle, batch, [(chosen[s], context + step, s, True) for s in range(streams)])
                chosen = [self._likeliest(handle, s) for s in range(streams)]
            return streams * DECODED / (time.perf_counter() - begun)
        finally:
            c.llama_batch_free(batch)
            c.llama_free(handle)

    def _decode(self, handle: Any, batch: Any, entries: list[tuple[int, int, int, bool]]) -> None:
        batch.n_tokens = len(entries)
        for i, (token, position, stream, wanted) in enumerate(entries):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = stream
            batch.logits[i] = wanted
        if self.c.llama_decode(handle, batch):
            raise SystemExit("llama.cpp refused a batch")

    def _likeliest(self, handle: Any, index: int) -> int:
        logits = np.ctypeslib.as_array(self.c.llama_get_logits_ith(handle, index), shape=(self.vocabulary,))
        return int(logits.argmax())


def tokens(count: int, vocabulary: int, seed: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Random ids, the same for all who are measured."""
    return np.random.default_rng(seed).integers(0, vocabulary, count).astype(np.int32)


def serve(model: Path, threads: int) -> None:
    """Answer cases from stdin with rates on stdout."""
    llama = Llama(model, threads)
    for line in sys.stdin:
        print(json.dumps(llama.rate(*json.loads(line))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peer", help="a Python with llama-cpp-python")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.model, options.threads)

    from empu.engine import _native
    from empu.engine.measure import Machine

    ours = Ours(options.model, options.threads)
    peer = Peer(options.peer, options.model, options.threads) if options.peer else None
    size = options.model.stat().st_size
    bandwidths: list[float] = []
    rates: dict[str, dict[str, list[float]]] = {name(*case): {"empu": [], "llama.cpp": []} for case in CASES}
    for _ in range(options.runs):
        for case in CASES:
            bandwidths.append(_native.read_bandwidth(size, options.threads, 8))
            rates[name(*case)]["empu"].append(ours.rate(*case))
            if peer is not None:
                rates[name(*case)]["llama.cpp"].append(peer.rate(*case))
    if peer is not None:
        peer.close()

    bandwidth = statistics.median(bandwidths)
    limit = bandwidth / size
    machine = Machine.here()
    print(f"{machine.cpu}, {options.threads} threads, {ours.backend.name}, {options.runs} rounds, {options.model.name}")
    print(f"reading {size / 1e6:.0f} MB: {bandwidth / 1e9:.1f} GB/s, at most {limit:.0f} tokens/s for one stream\n")
    print(f"{'tokens/s':28}{'empu':>8}{'best':>8}{'of limit':>10}{'llama.cpp':>11}{'ratio':>7}")
    for case in CASES:
        mine, theirs = rates[name(*case)].values()
        middle = statistics.median(mine)
        share = f"{middle / limit:.0%}" if case[0] == "decode" and case[2] == 1 else ""
        beside = f"{statistics.median(theirs):.0f}" if theirs else ""
        ratio = f"{middle / statistics.median(theirs):.1f}" if theirs else ""
        print(f"{name(*case):28}{middle:>8.0f}{max(mine):>8.0f}{share:>10}{beside:>11}{ratio:>7}")
    print(json.dumps({"threads": options.threads, "bandwidth": bandwidths, "rates": rates, "cpu": machine.cpu}))
    return None


def name(what: str, context: int, streams: int) -> str:
    return f"{what} {'of' if what == 'prefill' else 'after'} {context}" + (f", {streams} streams" * (streams > 1))


if __name__ == "__main__":
    main()
