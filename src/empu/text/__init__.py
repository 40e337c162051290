"""Tokenizers, chat templates and messages: what a model file says about text, made usable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from empu.text.base import Text

Format = Literal["gguf", "huggingface", "meta"]


def load_text(format: Format, path: Path, metadata: Mapping[str, Any]) -> Text:
    """The tokenizer and chat template of a model.

    ``path`` is a GGUF file or a folder (or a file of weights in it); ``metadata`` the key-values of the GGUF file, or
    the ``config.json`` or ``params.json`` of the folder. Raises :class:`~empu.errors.TokenizerError` for what is
    missing or broken and :class:`~empu.errors.UnsupportedError` for kinds of vocabularies that Empu does not know.
    """
    if format == "gguf":
        from empu.text.load_gguf import load_gguf

        return load_gguf(path, metadata)
    if format == "huggingface":
        from empu.text.load_folder import load_huggingface

        return load_huggingface(path, metadata)
    from empu.text.load_folder import load_meta

    return load_meta(path)
