"""A specialist as a model of its own: merged weights in files that other programs open, proven by asking them again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from empu.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from empu.checkpoint.adapter import read_adapter
from empu.checkpoint.blocks import BY_NAME, F32, BlockType
from empu.checkpoint.gguf_write import usual_types, write_gguf
from empu.engine.language_model import LanguageModel, Verdict, open_model
from empu.errors import CheckpointError, UnsupportedError, UsageError
from empu.specialist.folders import write_folder
from empu.specialist.scoring import replace_task
from empu.text import load_text
from empu.text.task import Task, read_task

Form = Literal["hf", "gguf"]

TYPES: dict[Form, tuple[str, ...]] = {
    "hf": ("BF16", "F16", "F32"),
    "gguf": ("Q8_0", "F16", "BF16", "F32", "Q4_1", "Q4_0"),
}
"""Storage types of each form, the usual one first."""
ALLOWED_CHANGES = {"F32": 0.0, "BF16": 0.02, "F16": 0.02, "Q8_0": 0.03, "Q4_1": 0.15, "Q4_0": 0.15}
"""Share of the replayed answers that rounding to a type may change."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and how many replayed answers stayed the same."""

    path: Path
    type: str
    asked: int
    same: int


def export(
    base: Path, adapter: Path | None, form: Form, path: Path, questions: Sequence[str], *, type_name: str | None = None
) -> Exported:
    """Write the merged model to ``path`` and ask it ``questions`` again. Without an ``adapter`` the model is ``base``.

    Raises :class:`UsageError` for a type that the form does not have, and :class:`CheckpointError` when more answers
    differ than rounding explains; the files are then removed.
    """
    name = type_name or TYPES[form][0]
    if name not in TYPES[form]:
        raise UsageError(f"{form} files are not written in {name}; choose one of {', '.join(TYPES[form])}.")
    if path.exists():
        raise UsageError(f"{path} exists already; choose another place.")
    task = read_task(adapter or base)
    with open_checkpoint(base) as checkpoint:
        text = load_text(checkpoint.format, checkpoint.path, checkpoint.metadata)
        merged = _merged(checkpoint, adapter) if adapter is not None else checkpoint.tensor
        if form == "hf":
            write_folder(path, checkpoint, merged, text, task, BY_NAME[name])
        else:
            _write_file(path, checkpoint, merged, BY_NAME[name])
    asked, same = _replay(base, adapter, path, questions, task)
    if asked and asked - same > ALLOWED_CHANGES[name] * asked + 1:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise CheckpointError(
            f"{asked - same} of {asked} stored questions got another answer from the written files, more than {name} "
            "explains; nothing was kept: try a finer --type."
        )
    return Exported(path, name, asked, same)


def _merged(checkpoint: Checkpoint, folder: Path) -> Callable[[str], StoredTensor]:
    adapter = read_adapter(folder, checkpoint.config)

    def tensor(name: str) -> StoredTensor:
        stored = checkpoint.tensor(name)
        if name not in adapter.layers:
            return stored
        return StoredTensor(name, stored.shape, F32, adapter.merged(stored).reshape(-1).view(np.uint8))

    return tensor


def _write_file(path: Path, checkpoint: Checkpoint, tensors: Callable[[str], StoredTensor], type_: BlockType) -> None:
    if checkpoint.format != "gguf":
        raise UnsupportedError(
            f"{checkpoint.path} is no GGUF file, and its tokenizer is not written as one yet; export with --to hf."
        )
    write_gguf(path, checkpoint.config, tensors, type_for=usual_types(type_), metadata=checkpoint.metadata)


def _replay(
    base: Path, adapter: Path | None, written: Path, questions: Sequence[str], task: Task | None
) -> tuple[int, int]:
    """Questions asked of the specialist and of the written files, and how many answers agree."""
    if not questions or task is None or task.kind != "label":
        return 0, 0
    expected = _labels(open_model(base, adapter=adapter, engine="torch"), task, questions)
    got = _labels(open_model(written, engine="torch"), task, questions)
    return len(questions), sum(a.label == b.label for a, b in zip(expected, got, strict=True))


def _labels(model: LanguageModel, task: Task, questions: Sequence[str]) -> list[Verdict]:
    return [found[0] for found in replace_task(model, task).classify(questions)]
