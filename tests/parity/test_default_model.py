"""The default model: our greedy answers against those of transformers, on the same file."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from empu.engine.backends.protocol import Chunk, LogitsNeeded
from empu.engine.language_model import LanguageModel, open_model
from empu.text.templates.chat_encoding import encode_chat
from tests.parity.prompts import PROMPTS

MAX_NEW_TOKENS = 64


@pytest.fixture(scope="module")
def ours(default_gguf: Path) -> LanguageModel:
    return open_model(default_gguf, engine="torch")


@pytest.fixture(scope="module")
def theirs(default_gguf: Path) -> Any:
    """The model in transformers, by its own GGUF reader (``from_pretrained`` would need another package)."""
    import transformers

    load_gguf_checkpoint: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils").load_gguf_checkpoint
    with torch.device("meta"):
        config = transformers.LlamaConfig(**load_gguf_checkpoint(str(default_gguf))["config"])
        empty = transformers.LlamaForCausalLM(config)
    loaded = load_gguf_checkpoint(str(default_gguf), return_tensors=True, model_to_load=empty)
    model: Any = transformers.LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in loaded["tensors"].items()}, strict=False)
    assert missing == ["lm_head.weight"]
    assert not unexpected
    model.tie_weights()
    return model.eval()


def encoded_prompts(model: LanguageModel) -> list[list[int]]:
    assert len(set(PROMPTS)) == 50
    return [encode_chat(model.text, [{"role": "user", "content": prompt}]) for prompt in PROMPTS]


def generate_greedy(model: LanguageModel, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy answers to all prompts in one batch; an answer ends with its end-of-turn token."""
    backend, ends = model.backend, model.text.tokenizer.eos_ids
    sequences = [backend.allocate(len(prompt) + MAX_NEW_TOKENS) for prompt in prompts]
    answers: list[list[int]] = [[] for _ in prompts]
    next_tokens: dict[int, list[int]] = dict(enumerate(prompts))
    while next_tokens:
        chunks = [
            Chunk(sequences[i], np.array(tokens, dtype=np.int32), LogitsNeeded.LAST)
            for i, tokens in next_tokens.items()
        ]
        for i, logits in zip(list(next_tokens), backend.forward(chunks), strict=True):
            token = int(logits[-1].argmax())
            answers[i].append(token)
            next_tokens[i] = [token]
            if token in ends or len(answers[i]) == MAX_NEW_TOKENS:
                del next_tokens[i]
    return answers


def argmax_of_transformers(model: Any, prompts: list[list[int]], answers: list[list[int]]) -> Iterator[list[int]]:
    """Yield the argmax of transformers at each position of our answers."""
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([[*prompt, *answer[:-1]]])
        with torch.inference_mode():
            logits = model(ids).logits[0, len(prompt) - 1 :]
        yield logits.argmax(-1).tolist()


@pytest.mark.timeout(900)
def test_fifty_greedy_answers_equal_transformers(ours: LanguageModel, theirs: Any) -> None:
    """Each of our tokens is the argmax of transformers after the same tokens, so the texts are equal."""
    prompts = encoded_prompts(ours)
    answers = generate_greedy(ours, prompts)
    assert sum(map(len, answers)) > 1500
    for prompt, answer, expected in zip(
        PROMPTS, answers, argmax_of_transformers(theirs, prompts, answers), strict=True
    ):
        assert answer == expected, prompt


def test_logits_equal_transformers(ours: LanguageModel, theirs: Any) -> None:
    tokens = np.array([token for prompt in encoded_prompts(ours)[:8] for token in prompt], dtype=np.int32)
    sequence = ours.backend.allocate(len(tokens))
    (logits,) = ours.backend.forward([Chunk(sequence, tokens, LogitsNeeded.ALL)])
    ours.backend.release(sequence)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(tokens).long()[None]).logits[0].numpy()
    worst = np.abs(logits - expected).max()
    assert worst < 2e-3, worst  # 30 layers of float32 rounding on logits of magnitude 30
    print(f"worst difference {worst:.2e} of logits up to {np.abs(expected).max():.0f}")


def test_streaming_and_batching_give_the_same_text(ours: LanguageModel) -> None:
    from empu.engine.sampling import SamplingParams

    answers = generate_greedy(ours, encoded_prompts(ours)[:3])
    for prompt, answer in zip(PROMPTS, answers, strict=False):
        generation = ours.stream(
            [{"role": "user", "content": prompt}], SamplingParams(temperature=0.0, max_tokens=MAX_NEW_TOKENS)
        )
        deltas = list(generation)
        assert generation.completion.text == "".join(delta.text for delta in deltas)
        assert generation.completion.text == ours.text.tokenizer.decode(answer)
