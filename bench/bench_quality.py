"""Quality cost of the native engine's arithmetic: its logits against float32 on the same unpacked weights.

    python bench/bench_quality.py MODEL.gguf [--text FILE ...] [--tokens 3072] [--peer PYTHON]

Texts are split into windows of 512 tokens: by default equal parts of prose, a table, notes and code of this repository.
Reports the mean KL divergence in nats, how often the most likely token is the same, and both perplexities. ``--peer``
is a Python with llama-cpp-python, which gets the same windows. The last line is JSON.
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
    ["bench/texts/notes.md"],
    ["bench/texts/code.txt"],
)

FloatArray = npt.NDArray[np.float32]
TokenArray = npt.NDArray[np.int32]


def windows(tokenizer: Any, texts: list[str], count: int) -> list[TokenArray]:
    """Return about ``count`` tokens in windows, in equal parts from the beginning of each text."""
    result = []
    for text in texts:
        ids = np.asarray(tokenizer.encode(text[: 8 * count]), dtype=np.int32)[: -(-count // len(texts))]
        result += [ids[start : start + WINDOW] for start in range(0, len(ids) - 1, WINDOW)]
    return result


def repository_texts() -> list[str]:
    """Return four kinds of text of this repository."""
    paths = ([path for pattern in part for path in sorted(ROOT.glob(pattern))] for part in TEXTS)
    return ["\n".join(path.read_text(encoding="utf-8") for path in part) for part in paths]


def logits(backend: Any, window: TokenArray) -> FloatArray:
    """(T, V) logits of one window."""
    from empu.engine.backends.protocol import Chunk, LogitsNeeded

    sequence = backend.allocate(len(window))
    (rows,) = backend.forward([Chunk(sequence, window, LogitsNeeded.ALL)])
    backend.release(sequence)
    return np.asarray(rows)


class Scores:
    """Scores of one engine against the reference, over all windows."""

    def __init__(self) -> None:
        self.kl: list[float] = []
        self.same_argmax: list[bool] = []
        self.token_losses: list[float] = []

    def add(self, reference: FloatArray, rows: FloatArray, window: TokenArray) -> None:
        p, q = log_softmax(reference), log_softmax(rows)
        self.kl += (np.exp(p) * (p - q)).sum(axis=-1).tolist()
        self.same_argmax += (p.argmax(axis=-1) == q.argmax(axis=-1)).tolist()
        self.token_losses += (-q[np.arange(len(window) - 1), window[1:]]).tolist()

    def result(self) -> dict[str, float]:
        return {
            "tokens": len(self.kl),
            "kl": float(np.mean(self.kl)),
            "kl_p99": float(np.quantile(self.kl, 0.99)),
            "top1": float(np.mean(self.same_argmax)),
            "perplexity": float(np.exp(np.mean(self.token_losses))),
        }


def log_softmax(rows: FloatArray) -> npt.NDArray[np.float64]:
    """Log-softmax over the last axis, in float64."""
    x = rows.astype(np.float64) - rows.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


def serve_peer(model: Path) -> None:
    """Run as the peer: read lines of token ids, print the name of a file with their logits."""
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
        return serve_peer(options.model)

    from empu.checkpoint import open_checkpoint
    from empu.engine.backends.native import open_native
    from empu.engine.backends.torch import open_torch
    from empu.text import load_text_processor

    model = options.model
    texts = [path.read_text(encoding="utf-8") for path in options.text] if options.text else repository_texts()
    with open_checkpoint(model) as checkpoint:
        tokenizer = load_text_processor(checkpoint.format, checkpoint.path, checkpoint.metadata).tokenizer
        text_windows = windows(tokenizer, texts, options.tokens)
        reference, native = open_torch(checkpoint), open_native(checkpoint)
        scores = {reference.name: Scores(), native.name: Scores()}
        peer = None
        if options.peer:
            command = [options.peer, __file__, str(model), "--serve"]
            peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            scores["llama.cpp"] = Scores()
        for window in text_windows:
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
    print(f"{Path(model).name}, {len(texts)} texts, {sum(map(len, text_windows)):,} tokens in windows of {WINDOW}")
    print(f"{'':28}{'mean KL':>10}{'99 %':>10}{'top-1':>9}{'perplexity':>12}")
    for name, result in results.items():
        kl, worst, top, perplexity = (result[key] for key in ("kl", "kl_p99", "top1", "perplexity"))
        print(f"{name:28}{kl:>10.5f}{worst:>10.4f}{top:>9.2%}{perplexity:>12.3f}")
    print(json.dumps(results))
    return None


if __name__ == "__main__":
    main()
