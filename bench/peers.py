"""Other engines behind one interface, each in a Python of its own, which need not have Empu.

    PYTHON bench/peers.py KIND MODEL.gguf --threads N

KIND is llama.cpp, openvino or transformers. A line of JSON on stdin asks for a case, (write, tokens of each sequence):
tokens per second of reading them or, with write, of writing after them. The answer is a line on stdout. No two cases
begin with the same tokens, since some engines keep what they have read.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

WRITTEN, LONGEST_S, FEWEST = 48, 2.0, 4
"""As in empu.engine.benchmark."""


class Measured(Protocol):
    """Something that gives tokens per second for a case."""

    def rate(self, write: bool, lengths: list[int]) -> float: ...


counter = itertools.count(1)


def prompt(length: int, vocabulary: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Tokens that none before began with."""
    return (np.arange(length) * 7 + 11 * next(counter)) % vocabulary


def writing(step: Callable[[int], None], streams: int) -> float:
    """Tokens per second of ``step``, which writes one in each stream and is told how many came before."""
    begun = time.perf_counter()
    for written in range(WRITTEN):
        step(written)
        if written + 1 >= FEWEST and time.perf_counter() - begun > LONGEST_S:
            break
    return streams * (written + 1) / (time.perf_counter() - begun)


class Llama:
    """llama.cpp by its C interface, at its best here: no flash attention, one cache for each stream."""

    def __init__(self, model: Path, threads: int) -> None:
        import llama_cpp as c

        self.c: Any = c
        self.silence = c.llama_log_callback(lambda level, text, data: None)
        c.llama_log_set(self.silence, None)
        c.llama_backend_init()
        parameters = c.llama_model_default_params()
        self.model = c.llama_model_load_from_file(str(model).encode(), parameters)
        self.vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))
        self.threads = threads

    def rate(self, write: bool, lengths: list[int]) -> float:
        c = self.c
        parameters = c.llama_context_default_params()
        parameters.n_ctx = len(lengths) * (max(lengths) + WRITTEN + 16)
        parameters.n_batch = parameters.n_ubatch = 512
        parameters.n_seq_max = len(lengths)
        parameters.n_threads = parameters.n_threads_batch = self.threads
        parameters.kv_unified = False
        parameters.flash_attn_type = 0  # disabled
        handle = c.llama_init_from_model(self.model, parameters)
        batch = c.llama_batch_init(512, 0, 1)
        try:
            self._decode(handle, batch, [(1, 0, 0, True)])  # first use prepares the graph
            c.llama_memory_clear(c.llama_get_memory(handle), True)
            begun = time.perf_counter()
            for stream, length in enumerate(lengths):
                ids = prompt(length, self.vocabulary)
                for start in range(0, length, 512):
                    part = range(start, min(start + 512, length))
                    self._decode(handle, batch, [(int(ids[i]), i, stream, i == length - 1) for i in part])
            if not write:
                return sum(lengths) / (time.perf_counter() - begun)
            chosen = [1] * len(lengths)

            def step(written: int) -> None:
                entries = [(chosen[s], length + written, s, True) for s, length in enumerate(lengths)]
                self._decode(handle, batch, entries)
                chosen[:] = [self._likeliest(handle, s) for s in range(len(lengths))]

            return writing(step, len(lengths))
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


class OpenVino:
    """OpenVINO GenAI, which opens the GGUF file itself, by its own clock: the first token, then the others."""

    def __init__(self, model: Path, threads: int) -> None:
        import openvino
        import openvino_genai

        self.openvino: Any = openvino
        self.genai: Any = openvino_genai
        self.pipeline = openvino_genai.LLMPipeline(str(model), "CPU", INFERENCE_NUM_THREADS=threads)
        self.vocabulary = len(self.pipeline.get_tokenizer().get_vocab())

    def rate(self, write: bool, lengths: list[int]) -> float:
        settings = self.genai.GenerationConfig()
        settings.max_new_tokens = WRITTEN + 1 if write else 1
        settings.ignore_eos = True
        settings.do_sample = False
        ids = np.stack([prompt(max(lengths), self.vocabulary) for _ in lengths])
        given = self.genai.TokenizedInputs(self.openvino.Tensor(ids), self.openvino.Tensor(np.ones_like(ids)))
        times = self.pipeline.generate(given, settings).perf_metrics
        first = times.get_ttft().mean / 1e3
        if not write:
            return float(ids.size / first)
        return float(len(lengths) * WRITTEN / (times.get_generate_duration().mean / 1e3 - first))


class Transformers:
    """transformers on PyTorch, in float32."""

    def __init__(self, model: Path, threads: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        self.torch: Any = torch
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            str(model.parent), gguf_file=model.name, dtype=torch.float32
        )
        self.vocabulary = int(self.model.config.vocab_size)

    def rate(self, write: bool, lengths: list[int]) -> float:
        torch = self.torch
        ids = np.stack([prompt(max(lengths), self.vocabulary) for _ in lengths])
        with torch.inference_mode():
            begun = time.perf_counter()
            out = self.model(torch.from_numpy(ids), use_cache=True, logits_to_keep=1)
            if not write:
                return ids.size / (time.perf_counter() - begun)

            def step(written: int) -> None:
                nonlocal out
                chosen = out.logits[:, -1:].argmax(-1)
                out = self.model(chosen, use_cache=True, past_key_values=out.past_key_values)

            return writing(step, len(lengths))


KINDS: dict[str, type[Llama] | type[OpenVino] | type[Transformers]] = {
    "llama.cpp": Llama,
    "openvino": OpenVino,
    "transformers": Transformers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    engine: Measured = KINDS[options.kind](options.model, options.threads)
    for line in sys.stdin:
        print(json.dumps(engine.rate(*json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
