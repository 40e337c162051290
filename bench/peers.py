"""Other engines behind one interface. Each runs in its own Python, which does not need Empu.

    PYTHON bench/peers.py KIND MODEL.gguf --threads N

KIND is llama.cpp, openvino or transformers. A line of JSON on stdin is a case, (is_decode, tokens of each sequence).
The answer is a line on stdout: the tokens per second of prefill, or of decode after these tokens. No two cases begin
with the same tokens, since some engines cache prefixes.
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

DECODE_TOKENS, MAX_DECODE_S, MIN_DECODE_TOKENS = 48, 2.0, 4
"""As in empu.engine.benchmark."""


class Peer(Protocol):
    """Another engine."""

    def measure_rate(self, is_decode: bool, lengths: list[int]) -> float: ...


counter = itertools.count(1)


def unique_prompt(length: int, vocab_size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return token ids that share no prefix with any earlier prompt."""
    return (np.arange(length) * 7 + 11 * next(counter)) % vocab_size


def decode_rate(step: Callable[[int], None], num_sequences: int) -> float:
    """Return the tokens per second of ``step(num_done)``, which decodes one token of each sequence."""
    started_at = time.perf_counter()
    for num_done in range(DECODE_TOKENS):
        step(num_done)
        if num_done + 1 >= MIN_DECODE_TOKENS and time.perf_counter() - started_at > MAX_DECODE_S:
            break
    return num_sequences * (num_done + 1) / (time.perf_counter() - started_at)


class Llama:
    """llama.cpp by its C API, with the fastest config here: no flash attention, one cache per sequence."""

    def __init__(self, model: Path, threads: int) -> None:
        import llama_cpp as c

        self.c: Any = c
        self.log_callback = c.llama_log_callback(lambda level, text, data: None)
        c.llama_log_set(self.log_callback, None)
        c.llama_backend_init()
        parameters = c.llama_model_default_params()
        self.model = c.llama_model_load_from_file(str(model).encode(), parameters)
        self.vocab_size = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))
        self.threads = threads

    def measure_rate(self, is_decode: bool, lengths: list[int]) -> float:
        c = self.c
        parameters = c.llama_context_default_params()
        parameters.n_ctx = len(lengths) * (max(lengths) + DECODE_TOKENS + 16)
        parameters.n_batch = parameters.n_ubatch = 512
        parameters.n_seq_max = len(lengths)
        parameters.n_threads = parameters.n_threads_batch = self.threads
        parameters.kv_unified = False
        parameters.flash_attn_type = 0  # disabled
        handle = c.llama_init_from_model(self.model, parameters)
        batch = c.llama_batch_init(512, 0, 1)
        try:
            self._decode(handle, batch, [(1, 0, 0, True)])  # the first use builds the graph
            c.llama_memory_clear(c.llama_get_memory(handle), True)
            started_at = time.perf_counter()
            for sequence, length in enumerate(lengths):
                ids = unique_prompt(length, self.vocab_size)
                for start in range(0, length, 512):
                    part = range(start, min(start + 512, length))
                    self._decode(handle, batch, [(int(ids[i]), i, sequence, i == length - 1) for i in part])
            if not is_decode:
                return sum(lengths) / (time.perf_counter() - started_at)
            tokens = [1] * len(lengths)

            def step(num_done: int) -> None:
                entries = [(tokens[s], length + num_done, s, True) for s, length in enumerate(lengths)]
                self._decode(handle, batch, entries)
                tokens[:] = [self._most_likely(handle, s) for s in range(len(lengths))]

            return decode_rate(step, len(lengths))
        finally:
            c.llama_batch_free(batch)
            c.llama_free(handle)

    def _decode(self, handle: Any, batch: Any, entries: list[tuple[int, int, int, bool]]) -> None:
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, needs_logits) in enumerate(entries):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = needs_logits
        if self.c.llama_decode(handle, batch):
            raise SystemExit("llama.cpp failed to decode a batch")

    def _most_likely(self, handle: Any, index: int) -> int:
        logits = np.ctypeslib.as_array(self.c.llama_get_logits_ith(handle, index), shape=(self.vocab_size,))
        return int(logits.argmax())


class OpenVino:
    """OpenVINO GenAI, which opens the GGUF file itself. Times are its own: first token, then the others."""

    def __init__(self, model: Path, threads: int) -> None:
        import openvino
        import openvino_genai

        self.openvino: Any = openvino
        self.genai: Any = openvino_genai
        self.pipeline = openvino_genai.LLMPipeline(str(model), "CPU", INFERENCE_NUM_THREADS=threads)
        self.vocab_size = len(self.pipeline.get_tokenizer().get_vocab())

    def measure_rate(self, is_decode: bool, lengths: list[int]) -> float:
        config = self.genai.GenerationConfig()
        config.max_new_tokens = DECODE_TOKENS + 1 if is_decode else 1
        config.ignore_eos = True
        config.do_sample = False
        ids = np.stack([unique_prompt(max(lengths), self.vocab_size) for _ in lengths])
        inputs = self.genai.TokenizedInputs(self.openvino.Tensor(ids), self.openvino.Tensor(np.ones_like(ids)))
        metrics = self.pipeline.generate(inputs, config).perf_metrics
        first_token_s = metrics.get_ttft().mean / 1e3
        if not is_decode:
            return float(ids.size / first_token_s)
        return float(len(lengths) * DECODE_TOKENS / (metrics.get_generate_duration().mean / 1e3 - first_token_s))


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
        self.vocab_size = int(self.model.config.vocab_size)

    def measure_rate(self, is_decode: bool, lengths: list[int]) -> float:
        torch = self.torch
        ids = np.stack([unique_prompt(max(lengths), self.vocab_size) for _ in lengths])
        with torch.inference_mode():
            started_at = time.perf_counter()
            out = self.model(torch.from_numpy(ids), use_cache=True, logits_to_keep=1)
            if not is_decode:
                return ids.size / (time.perf_counter() - started_at)

            def step(num_done: int) -> None:
                nonlocal out
                tokens = out.logits[:, -1:].argmax(-1)
                out = self.model(tokens, use_cache=True, past_key_values=out.past_key_values)

            return decode_rate(step, len(lengths))


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
    results, sys.stdout = sys.stdout, sys.stderr  # keep the output of libraries out of the results
    peer: Peer = KINDS[options.kind](options.model, options.threads)
    for line in sys.stdin:
        print(json.dumps(peer.measure_rate(*json.loads(line))), file=results, flush=True)


if __name__ == "__main__":
    main()
