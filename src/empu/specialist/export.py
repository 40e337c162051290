"""A specialist as a model of its own: merged weights in files that other programs open, proven by asking them again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from empu.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from empu.checkpoint.adapter import read_adapter
from empu.checkpoint.blocks import BY_NAME, F32, BlockType
from empu.checkpoint.formats.gguf.writer import usual_types, write_gguf
from empu.data.rows import Row
from empu.engine.language_model import LanguageModel, open_model
from empu.errors import CheckpointError, UnsupportedError, UsageError
from empu.evals.systems import answer_logits, replace_task
from empu.specialist.hf_folder import write_folder
from empu.text import load_text
from empu.text.task import Task, read_task
from empu.tune.encoding import examples_of

Form = Literal["hf", "gguf"]

TYPES: dict[Form, tuple[str, ...]] = {
    "hf": ("BF16", "F16", "F32"),
    "gguf": ("Q8_0", "F16", "BF16", "F32", "Q4_1", "Q4_0"),
}
"""Storage types of each form, the usual one first."""
ALLOWED_CHANGES = {"F32": 0.0, "BF16": 0.02, "F16": 0.02, "Q8_0": 0.03, "Q4_1": 0.15, "Q4_0": 0.15}
"""Share of what is replayed that rounding to a type may change."""
FEW = 10
"""Replayed answers of which one may change whatever the share."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and how many replayed answers stayed the same."""

    path: Path
    type: str
    replayed: str
    """What was held against each other: "answers" of a specialist for labels, "tokens" of right answers otherwise."""
    asked: int
    same: int


def export(
    base: Path, adapter: Path | None, form: Form, path: Path, rows: Sequence[Row], *, type_name: str | None = None
) -> Exported:
    """Write the merged model to ``path`` and ask it ``rows`` again. Without an ``adapter`` the model is ``base``.

    Raises :class:`UsageError` for a type that the form does not have or a place that cannot be, and
    :class:`CheckpointError` when more answers differ than rounding explains; ``path`` is not there then.
    """
    name = type_name or TYPES[form][0]
    if name not in TYPES[form]:
        raise UsageError(f"{form} files are not written in {name}; choose one of {', '.join(TYPES[form])}.")
    if path.exists():
        raise UsageError(f"{path} exists already; choose another place.")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder; make it first, or choose another place.")
    task = read_task(adapter or base)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as room:
        written = Path(room) / path.name
        with open_checkpoint(base) as checkpoint:
            text = load_text(checkpoint.format, checkpoint.path, checkpoint.metadata)
            merged = _merged(checkpoint, adapter) if adapter is not None else checkpoint.tensor
            if form == "hf":
                write_folder(written, checkpoint, merged, text, task, BY_NAME[name])
            else:
                _write_file(written, checkpoint, merged, BY_NAME[name], tuned=adapter is not None)
        answers = _labels if task is not None and task.kind == "label" else _likeliest
        replayed = "answers" if answers is _labels else "tokens"
        asked, same = 0, 0
        if rows and task is not None:
            expected = answers(open_model(base, adapter=adapter, engine="torch"), task, rows)
            got = answers(open_model(written, engine="torch"), task, rows)
            asked, same = len(expected), sum(a == b for a, b in zip(expected, got, strict=True))
        if asked - same > ALLOWED_CHANGES[name] * asked + min(1, asked // FEW):
            raise CheckpointError(
                f"{asked - same} of {asked} {replayed} are others in the written files, more than {name} explains; "
                "nothing was kept: try a finer --type."
            )
        written.replace(path)
    return Exported(path, name, replayed, asked, same)


def _merged(checkpoint: Checkpoint, folder: Path) -> Callable[[str], StoredTensor]:
    adapter = read_adapter(folder, checkpoint.config)

    def tensor(name: str) -> StoredTensor:
        stored = checkpoint.tensor(name)
        if name not in adapter.layers:
            return stored
        return StoredTensor(name, stored.shape, F32, adapter.merged(stored).reshape(-1).view(np.uint8))

    return tensor


def _write_file(
    path: Path, checkpoint: Checkpoint, tensors: Callable[[str], StoredTensor], type_: BlockType, *, tuned: bool
) -> None:
    if checkpoint.format != "gguf":
        raise UnsupportedError(
            f"{checkpoint.path} is no GGUF file, and its tokenizer is not written as one yet; export with --to hf."
        )
    metadata = about_file(checkpoint.metadata, path.stem if tuned else None)
    write_gguf(path, checkpoint.config, tensors, type_for=usual_types(type_), metadata=metadata)


_OF_THE_BASE = (
    *("name", "author", "organization", "version", "basename", "finetune", "description", "quantized_by"),
    *("uuid", "doi", "url", "repo_url", "base_model", "source"),
)
"""``general.*`` keys that would be said of another model."""


def about_file(metadata: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """What a file made from one with these metadata says of itself. ``name`` is the specialist's, whose base the other
    file then is; without one it is the same model.

    How the other file was quantised is left out: these weights are rounded anew.
    """
    general = {key.removeprefix("general."): value for key, value in metadata.items() if key.startswith("general.")}
    left_out = {"quantized_by"} if name is None else set(_OF_THE_BASE)
    kept = {f"general.{key}": value for key, value in general.items() if key.partition(".")[0] not in left_out}
    others = {k: v for k, v in metadata.items() if not k.startswith(("general.", "quantize."))}
    if name is None:
        return kept | others
    base = {
        f"general.base_model.0.{key}": general[key] for key in ("name", "organization", "repo_url") if key in general
    }
    return kept | {"general.name": name} | ({"general.base_model.count": 1} | base if base else {}) | others


def _labels(model: LanguageModel, task: Task, rows: Sequence[Row]) -> list[str]:
    """The label of each row."""
    return [found[0].label for found in replace_task(model, task).classify([row.question() for row in rows])]


def _likeliest(model: LanguageModel, task: Task, rows: Sequence[Row]) -> list[int]:
    """The likeliest token in each place of the right answers: of texts one that begins otherwise differs throughout."""
    asked = examples_of(model.text, task, rows)
    return [int(token) for one in asked for token in answer_logits(model, one.prompt, one.answer).argmax(axis=1)]
