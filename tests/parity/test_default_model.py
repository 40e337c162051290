"""The real default model: our greedy answers against transformers on the same file."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from empu.engine.backends.protocol import Chunk, Want
from empu.engine.language_model import LanguageModel, open_model
from empu.text.templates.chat_encoding import encode_chat
from tests.parity.prompts import PROMPTS

ANSWER_TOKENS = 64


@pytest.fixture(scope="module")
def ours(default_gguf: Path) -> LanguageModel:
    return open_model(default_gguf, engine="torch")


@pytest.fixture(scope="module")
def theirs(default_gguf: Path) -> Any:
    """transformers with its own reading of the file (``from_pretrained`` would ask for another package)."""
    import transformers

    load_gguf_checkpoint: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils").load_gguf_checkpoint
    with torch.device("meta"):
        config = transformers.LlamaConfig(**load_gguf_checkpoint(str(default_gguf))["config"])
        empty = transformers.LlamaForCausalLM(config)
    read = load_gguf_checkpoint(str(default_gguf), return_tensors=True, model_to_load=empty)
    model: Any = transformers.LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in read["tensors"].items()}, strict=False)
    assert missing == ["lm_head.weight"]
    assert not unexpected
    model.tie_weights()
    return model.eval()


def questions(model: LanguageModel) -> list[list[int]]:
    assert len(set(PROMPTS)) == 50
    return [encode_chat(model.text, [{"role": "user", "content": prompt}]) for prompt in PROMPTS]


def greedy(model: LanguageModel, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy answers to all prompts side by side; an answer ends with its end-of-turn token."""
    backend, ends = model.backend, model.text.tokenizer.eos_ids
    sequences = [backend.allocate(len(prompt) + ANSWER_TOKENS) for prompt in prompts]
    answers: list[list[int]] = [[] for _ in prompts]
    feed: dict[int, list[int]] = dict(enumerate(prompts))
    while feed:
        chunks = [Chunk(sequences[i], np.array(tokens, dtype=np.int32), Want.LAST) for i, tokens in feed.items()]
        for i, logits in zip(list(feed), backend.forward(chunks), strict=True):
            token = int(logits[-1].argmax())
            answers[i].append(token)
            feed[i] = [token]
            if token in ends or len(answers[i]) == ANSWER_TOKENS:
                del feed[i]
    return answers


def their_choices(model: Any, prompts: list[list[int]], answers: list[list[int]]) -> Iterator[tuple[list[int], float]]:
    """What transformers would choose at each place of our answers, and how far its logits at the last are from 0."""
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([[*prompt, *answer[:-1]]])
        with torch.inference_mode():
            logits = model(ids).logits[0, len(prompt) - 1 :]
        yield logits.argmax(-1).tolist(), float(logits.abs().max())


@pytest.mark.timeout(900)
def test_fifty_greedy_answers_equal_transformers(ours: LanguageModel, theirs: Any) -> None:
    """Each token of ours is transformers' own choice after the same tokens, so that the texts are the same."""
    prompts = questions(ours)
    answers = greedy(ours, prompts)
    assert sum(map(len, answers)) > 1500
    for prompt, answer, (choices, _) in zip(PROMPTS, answers, their_choices(theirs, prompts, answers), strict=True):
        assert answer == choices, prompt


def test_logits_equal_transformers(ours: LanguageModel, theirs: Any) -> None:
    tokens = np.array([token for prompt in questions(ours)[:8] for token in prompt], dtype=np.int32)
    sequence = ours.backend.allocate(len(tokens))
    (logits,) = ours.backend.forward([Chunk(sequence, tokens, Want.ALL)])
    ours.backend.release(sequence)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(tokens).long()[None]).logits[0].numpy()
    worst = np.abs(logits - expected).max()
    assert worst < 2e-3, worst  # 30 layers of float32 rounding on logits of magnitude 30
    print(f"worst difference {worst:.2e} of logits up to {np.abs(expected).max():.0f}")


def test_stream_and_side_by_side_give_the_same_text(ours: LanguageModel) -> None:
    from empu.engine.sampling import SamplingParams

    answers = greedy(ours, questions(ours)[:3])
    for prompt, answer in zip(PROMPTS, answers, strict=False):
        generation = ours.stream(
            [{"role": "user", "content": prompt}], SamplingParams(temperature=0.0, max_tokens=ANSWER_TOKENS)
        )
        pieces = list(generation)
        assert generation.completion.text == "".join(piece.text for piece in pieces)
        assert generation.completion.text == ours.text.tokenizer.decode(answer)
