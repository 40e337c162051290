"""A whole model as a Hugging Face folder: weights, the base's tokenizer and template, and the task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from empu.checkpoint import Checkpoint, StoredTensor
from empu.checkpoint.blocks import BlockType
from empu.checkpoint.formats.huggingface.folder import COMPANIONS, write_huggingface
from empu.errors import UnsupportedError
from empu.text.base import Text
from empu.text.task import TASK_FILE, Task, end_of_turn
from empu.text.tokenizers.hf_tokenizer import FastTokenizer


def write_folder(
    path: Path,
    checkpoint: Checkpoint,
    tensors: Callable[[str], StoredTensor],
    text: Text,
    task: Task | None,
    dtype: BlockType,
) -> None:
    """Write the folder ``path`` whole or not at all. Raises :class:`UnsupportedError` for a base whose tokenizer cannot
    be written in the library's format.
    """
    files = tokenizer_files(checkpoint, text)
    ends = sorted(text.tokenizer.eos_ids)
    files["generation_config.json"] = _json({"eos_token_id": ends, "bos_token_id": text.tokenizer.bos_id})
    if task is not None:
        files[TASK_FILE] = _json(task.to_json())
    more = {"bos_token_id": text.tokenizer.bos_id, "eos_token_id": end_of_turn(text)}
    write_huggingface(path, checkpoint.config, tensors, dtype=dtype, files=files, extra_config=more)


def tokenizer_files(checkpoint: Checkpoint, text: Text) -> dict[str, bytes]:
    """The base's own files where it is a folder; otherwise the same tokenizer in the library's format.

    Raises :class:`UnsupportedError` where there is no such format for it.
    """
    if checkpoint.format == "huggingface":
        names = [name for name in COMPANIONS if name not in ("generation_config.json", TASK_FILE, "README.md")]
        folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
        return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    tokenizer = text.tokenizer
    if not isinstance(tokenizer, FastTokenizer):
        raise UnsupportedError(
            f"{checkpoint.path} has a SentencePiece or tiktoken vocabulary, which is not written as tokenizer.json "
            "yet; export with --to gguf, or tune from a Hugging Face folder."
        )
    names_by_id = {i: name for name, i in tokenizer.special_tokens.items()}
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": text.add_bos,
        "eos_token": names_by_id[end_of_turn(text)],
    }
    if tokenizer.bos_id in names_by_id:
        settings["bos_token"] = names_by_id[tokenizer.bos_id]
    template = checkpoint.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        settings["chat_template"] = template
    form = tokenizer.to_json(add_bos=text.add_bos)
    return {"tokenizer.json": form.encode("utf-8"), "tokenizer_config.json": _json(settings)}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")
