"""Write a model as a Hugging Face folder: weights, the tokenizer and chat template of its base, and the task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from empu.checkpoint import Checkpoint, StoredTensor
from empu.checkpoint.block_types import BlockType
from empu.checkpoint.formats.huggingface.reader import COMPANION_FILES
from empu.checkpoint.formats.huggingface.writer import write_huggingface
from empu.errors import UnsupportedError
from empu.specialist.default_instruction import add_instruction_to_files
from empu.text.base import TextProcessor
from empu.text.task import TASK_FILE, Task
from empu.text.templates.turns import end_of_turn_id
from empu.text.tokenizers.hf_tokenizer import HuggingFaceTokenizer


def write_folder(
    path: Path,
    checkpoint: Checkpoint,
    tensors: Callable[[str], StoredTensor],
    text: TextProcessor,
    task: Task | None,
    dtype: BlockType,
) -> None:
    """Write the folder ``path`` whole or not at all.

    Raises :class:`UnsupportedError` if the tokenizer cannot be written as ``tokenizer.json``.
    """
    files = tokenizer_files(checkpoint, text)
    eos_ids = sorted(text.tokenizer.eos_ids)
    files["generation_config.json"] = _json_bytes({"eos_token_id": eos_ids, "bos_token_id": text.tokenizer.bos_id})
    if task is not None:
        files[TASK_FILE] = _json_bytes(task.to_json())
        add_instruction_to_files(files, task, text.template)
    extra_config = {"bos_token_id": text.tokenizer.bos_id, "eos_token_id": end_of_turn_id(text)}
    write_huggingface(path, checkpoint.config, tensors, dtype=dtype, files=files, extra_config=extra_config)


def tokenizer_files(checkpoint: Checkpoint, text: TextProcessor) -> dict[str, bytes]:
    """Return the tokenizer files of a Hugging Face folder, or the same tokenizer as ``tokenizer.json``.

    Raises :class:`UnsupportedError` if the tokenizer cannot be written as ``tokenizer.json``.
    """
    if checkpoint.format == "huggingface":
        names = [name for name in COMPANION_FILES if name not in ("generation_config.json", TASK_FILE, "README.md")]
        folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
        return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    tokenizer = text.tokenizer
    if not isinstance(tokenizer, HuggingFaceTokenizer):
        raise UnsupportedError(
            f"{checkpoint.path} has a SentencePiece or tiktoken tokenizer, which cannot be written as "
            "tokenizer.json yet; export with --to gguf, or tune from a Hugging Face folder."
        )
    names_by_id = {token_id: name for name, token_id in tokenizer.special_tokens.items()}
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": text.add_bos,
        "eos_token": names_by_id[end_of_turn_id(text)],
    }
    if tokenizer.bos_id in names_by_id:
        settings["bos_token"] = names_by_id[tokenizer.bos_id]
    template = checkpoint.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        settings["chat_template"] = template
    tokenizer_json = tokenizer.to_json(add_bos=text.add_bos).encode("utf-8")
    return {"tokenizer.json": tokenizer_json, "tokenizer_config.json": _json_bytes(settings)}


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")
