"""Token ids of prompts and answers, shared by tuning, evaluation and serving so that all three agree."""

from __future__ import annotations

from collections.abc import Sequence

from empu.text.base import Message, TextProcessor
from empu.text.templates.chat_encoding import encode_chat
from empu.text.templates.turns import end_of_turn_id


def encode_prompt(processor: TextProcessor, messages: list[Message]) -> list[int]:
    """Return the ids of a dialogue up to where the answer begins. See :func:`plain_prompt` for base models."""
    if processor.template is not None:
        return encode_chat(processor, messages)
    return processor.tokenizer.encode(plain_prompt(messages), add_bos=processor.add_bos)


def plain_prompt(messages: Sequence[Message]) -> str:
    """Return a dialogue as text for a model without a chat template: its contents, then a line break and an arrow."""
    return "\n".join(str(message["content"]) for message in messages) + "\n=>"


def encode_answer(processor: TextProcessor, answer: str) -> list[int]:
    """Return the ids of an answer, with the end-of-turn token."""
    lead = "" if processor.template is not None else " "
    return [*processor.tokenizer.encode(lead + answer), end_of_turn_id(processor)]


def readable_labels(labels: Sequence[str]) -> list[str]:
    """Return labels as they appear in an answer: ``card_arrival`` becomes ``card arrival``.

    Language models know plain words better. If two labels would become equal, all stay unchanged.
    """
    readable = [" ".join(label.replace("_", " ").replace("-", " ").split()) or label for label in labels]
    return readable if len(set(readable)) == len(readable) else list(labels)
