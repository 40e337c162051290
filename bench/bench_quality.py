"""What the native engine's arithmetic costs: its logits against float32 on the same unpacked weights.

    python bench/bench_quality.py MODEL.gguf [--text FILE ...] [--tokens 3072] [--peer PYTHON]

Text is read in windows of 512 tokens: by default prose, a table, notes and program code of this repository in equal
parts. Given are the mean KL divergence in nats, how often both have the same likeliest token, and both perplexities.
``--peer`` is a Python with llama-cpp-python, which is given the same windows. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
WINDOW = 512
TEXTS = (
    ["examples/helpdesk/handbook/*.md"],
    ["examples/helpdesk/tickets.csv"],
    ["docs/LOG.md", "docs/ARCHITECTURE.md"],
    ["src/empu/engine/*.py"],
)

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]


def windows(tokenizer: Any, texts: list[str], count: int) -> list[Tokens]:
    """About ``count`` tokens, in equal parts from the beginning of each text, cut into windows."""
    found = []
    for text in texts:
        ids = np.asarray(tokenizer.encode(text[: 8 * count]), dtype=np.int32)[: -(-count // len(texts))]
        found += [ids[start : start + WINDOW] for start in range(0, len(ids) - 1, WINDOW)]
    return found


def own_texts() -> list[str]:
    """Four kinds of text of this repository."""
    paths = ([path for pattern in part for path in sorted(ROOT.glob(pattern))] for part in TEXTS)
    return ["\n".join(path.read_text(encoding="utf-8") for path in part) for part in paths]


def logits(backend: Any, window: Tokens) -> Floats:
    """(T, V)"""
    from empu.engine.backends.protocol import Chunk, Want

    sequence = backend.allocate(len(window))
    (rows,) = backend.forward([Chunk(sequence, window, Want.ALL)])
    backend.release(sequence)
    return np.asarray(rows)


class Scores:
    """Sums over all windows of one engine against the reference."""

    def __init__(self) -> None:
        self.kl: list[float] = []
        self.same: list[bool] = []
        self.surprise: list[float] = []

    def add(self, reference: Floats, rows: Floats, window: Tokens) -> None:
        p, q = log_softmax(reference), log_softmax(rows)
        self.kl += (np.exp(p) * (p - q)).sum(axis=-1).tolist()
        self.same += (p.argmax(axis=-1) == q.argmax(axis=-1)).tolist()
        self.surprise += (-q[np.arange(len(window) - 1), window[1:]]).tolist()

    def result(self) -> dict[str, float]:
        return {
            "tokens": len(self.kl),
            "kl": float(np.mean(self.kl)),
            "kl_p99": float(np.quantile(self.kl, 0.99)),
            "top1": float(np.mean(self.same)),
            "perplexity": float(np.exp(np.mean(self.surprise))),
        }


def log_softmax(rows: Floats) -> npt.NDArray[np.float64]:
    """In double precision."""
    x = rows.astype(np.float64) - rows.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


def serve(model: Path) -> None:
    """As the peer: a line of token ids in, the name of a file with their logits out."""
    from llama_cpp import Llama

    llama = Llama(str(model), n_ctx=WINDOW, logits_all=True, verbose=False, n_batch=WINDOW)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logits.npy"
        for line in sys.stdin:
            ids = json.loads(line)
            llama.reset()
            llama.eval(ids)
            np.save(path, llama.scores[: len(ids)])
            print(path, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, action="append")
    parser.add_argument("--tokens", type=int, default=3072)
    parser.add_argument("--peer", help="a Python with llama-cpp-python")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.model)

    from empu.checkpoint import open_checkpoint
    from empu.engine.backends.native import open_native
    from empu.engine.backends.torch import open_torch
    from empu.text import load_text

    model = options.model
    texts = [path.read_text(encoding="utf-8") for path in options.text] if options.text else own_texts()
    with open_checkpoint(model) as checkpoint:
        tokenizer = load_text(checkpoint.format, checkpoint.path, checkpoint.metadata).tokenizer
        pieces = windows(tokenizer, texts, options.tokens)
        reference, native = open_torch(checkpoint), open_native(checkpoint)
        scores = {reference.name: Scores(), native.name: Scores()}
        peer = None
        if options.peer:
            command = [options.peer, __file__, str(model), "--serve"]
            peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            scores["llama.cpp"] = Scores()
        for window in pieces:
            expected = logits(reference, window)
            scores[reference.name].add(expected, expected, window)
            scores[native.name].add(expected, logits(native, window), window)
            if peer is not None and peer.stdin is not None and peer.stdout is not None:
                peer.stdin.write(json.dumps(window.tolist()) + "\n")
                peer.stdin.flush()
                scores["llama.cpp"].add(expected, np.load(peer.stdout.readline().strip()), window)
    if peer is not None:
        peer.communicate()
    results = {name: score.result() for name, score in scores.items()}
    print(f"{Path(model).name}, {len(texts)} texts, {sum(map(len, pieces)):,} tokens in windows of {WINDOW}")
    print(f"{'':28}{'mean KL':>10}{'99 %':>10}{'top-1':>9}{'perplexity':>12}")
    for name, result in results.items():
        kl, worst, top, perplexity = (result[key] for key in ("kl", "kl_p99", "top1", "perplexity"))
        print(f"{name:28}{kl:>10.5f}{worst:>10.4f}{top:>9.2%}{perplexity:>12.3f}")
    print(json.dumps(results))
    return None


if __name__ == "__main__":
    main()
