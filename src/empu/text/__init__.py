"""Tokenizers, chat templates and messages, loaded from what a model file says about text."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from empu.config import ModelFormat
from empu.text.base import TextProcessor


def load_text_processor(format: ModelFormat, path: Path, metadata: Mapping[str, Any]) -> TextProcessor:
    """Load the tokenizer and chat template of a model.

    ``path`` is a GGUF file, a folder or a weight file in one. ``metadata`` is the key/values of the GGUF file, or the
    ``config.json`` or ``params.json`` of the folder. Raises :class:`~empu.errors.TokenizerError` for what is missing or
    broken and :class:`~empu.errors.UnsupportedError` for unknown kinds of vocabularies.
    """
    if format == "gguf":
        from empu.text.load_gguf import load_gguf

        return _stop_at_end_of_turn(load_gguf(path, metadata))
    if format == "huggingface":
        from empu.text.load_huggingface import load_huggingface

        return _stop_at_end_of_turn(load_huggingface(path, metadata))
    from empu.text.load_meta import load_meta

    return load_meta(path)


def _stop_at_end_of_turn(processor: TextProcessor) -> TextProcessor:
    """Let the token that the template writes behind an answer end answers, also where no file declares it."""
    from empu.text.templates.jinja import JinjaTemplate

    tokenizer, template = processor.tokenizer, processor.template
    if not isinstance(template, JinjaTemplate):
        return processor
    names = (name for name, token in tokenizer.special_tokens.items() if token in tokenizer.eos_ids)
    if not any(map(template.mentions, names)):  # rendering takes a moment, and is rarely needed
        from empu.errors import ConfigError
        from empu.text.templates.turns import end_of_turn_id

        with contextlib.suppress(ConfigError):
            tokenizer.eos_ids |= {end_of_turn_id(processor)}
    return processor
