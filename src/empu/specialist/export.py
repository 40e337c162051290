"""Export a specialist as a model of its own, and check the written files by replaying test rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from empu.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from empu.checkpoint.block_types import BLOCK_TYPES_BY_NAME, F32, BlockType
from empu.checkpoint.formats.gguf.writer import default_types, write_gguf
from empu.checkpoint.lora_adapter import read_adapter
from empu.data.rows import Row
from empu.engine.language_model import LanguageModel, open_model
from empu.errors import CheckpointError, UnsupportedError, UsageError
from empu.evals.likelihood import answer_logits
from empu.evals.prompting import with_task
from empu.members.files import read_summary
from empu.specialist.default_instruction import add_instruction_to_metadata
from empu.specialist.gguf_metadata import exported_metadata
from empu.specialist.hf_folder import write_folder
from empu.text import load_text_processor
from empu.text.task import Task, read_task
from empu.tune.encoding import encode_rows
from empu.tune.examples import PreferenceExample

ExportFormat = Literal["hf", "gguf"]

TENSOR_TYPES: dict[ExportFormat, tuple[str, ...]] = {
    "hf": ("BF16", "F16", "F32"),
    "gguf": ("Q8_0", "F16", "BF16", "F32", "Q4_1", "Q4_0"),
}
"""Tensor types of each format, the default first."""
MAX_CHANGED = {"F32": 0.0, "BF16": 0.02, "F16": 0.02, "Q8_0": 0.03, "Q4_1": 0.15, "Q4_0": 0.15}
"""Fraction of the replayed answers or tokens that rounding to a type may change."""
ALWAYS_ALLOWED_FROM = 10
"""Number of replayed answers or tokens from which one more may change, whatever the fraction."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written, and how many replayed answers or tokens stayed the same."""

    path: Path
    tensor_type: str
    replayed_unit: str
    """"answers" for classifiers; otherwise "tokens", each the most likely one at a position of a right answer."""
    num_replayed: int
    num_same: int
    omitted_members: tuple[str, ...] = ()
    """Members of the specialist that are not in the written files."""

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values, for ``--json``."""
        return {
            "path": str(self.path),
            "type": self.tensor_type,
            "replayed": self.replayed_unit,
            "asked": self.num_replayed,
            "same": self.num_same,
            "omitted_members": list(self.omitted_members),
        }


def export(
    base: Path,
    adapter: Path | None,
    export_format: ExportFormat,
    path: Path,
    rows: Sequence[Row],
    *,
    type_name: str | None = None,
    write_documents: Callable[[Path], None] | None = None,
) -> ExportResult:
    """Write the merged model to ``path`` and replay ``rows`` with it. Without ``adapter``, the model is ``base``.

    ``write_documents`` adds files to the written folder, or beside the written file, before it gets its name.

    Raises :class:`UsageError` for a type that the format does not have or a path that cannot be written, and
    :class:`CheckpointError` if more answers change than rounding explains. ``path`` does not exist then.
    """
    name = type_name or TENSOR_TYPES[export_format][0]
    if name not in TENSOR_TYPES[export_format]:
        choices = ", ".join(TENSOR_TYPES[export_format])
        raise UsageError(f"{export_format} files cannot have the type {name}; choose one of {choices}.")
    if path.exists():
        raise UsageError(f"{path} exists already; choose another path.")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder; create it first, or choose another path.")
    task = read_task(adapter or base)
    ensemble = read_summary(adapter or base)
    if task is not None and ensemble is not None:  # calibration and threshold of the task are for the whole
        task = replace(task, calibration=ensemble.calibration, threshold=None)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        written = Path(folder) / path.name
        with open_checkpoint(base) as checkpoint:
            text = load_text_processor(checkpoint.format, checkpoint.path, checkpoint.metadata)
            merged = _merged_tensors(checkpoint, adapter) if adapter is not None else checkpoint.tensor
            if export_format == "hf":
                write_folder(written, checkpoint, merged, text, task, BLOCK_TYPES_BY_NAME[name])
            else:
                metadata = exported_metadata(checkpoint.metadata, path.stem if adapter is not None else None)
                metadata = add_instruction_to_metadata(metadata, task, text.template)
                _write_gguf(written, checkpoint, merged, BLOCK_TYPES_BY_NAME[name], metadata)
        is_classifier = task is not None and task.kind == "label"
        replay, unit = (_replay_labels, "answers") if is_classifier else (_replay_tokens, "tokens")
        num_replayed, num_same = 0, 0
        if rows and task is not None:
            expected = replay(open_model(base, adapter=adapter, engine="torch"), task, rows)
            actual = replay(open_model(written, engine="torch"), task, rows)
            num_replayed = len(expected)
            num_same = sum(a == b for a, b in zip(expected, actual, strict=True))
        num_changed = num_replayed - num_same
        if num_changed > MAX_CHANGED[name] * num_replayed + min(1, num_replayed // ALWAYS_ALLOWED_FROM):
            raise CheckpointError(
                f"{num_changed} of {num_replayed} {unit} differ with the written files, more than rounding to {name} "
                "explains; nothing was kept. Try a finer --type."
            )
        if write_documents is not None:
            write_documents(written)
        for document in sorted(Path(folder).iterdir()):
            if document != written:
                document.replace(path.with_name(document.name))
        written.replace(path)
    return ExportResult(path, name, unit, num_replayed, num_same, ensemble.members if ensemble is not None else ())


def _merged_tensors(checkpoint: Checkpoint, adapter_folder: Path) -> Callable[[str], StoredTensor]:
    """Return a function from our name of a weight to its values with the adapter merged."""
    adapter = read_adapter(adapter_folder, checkpoint.config)

    def tensor(name: str) -> StoredTensor:
        stored = checkpoint.tensor(name)
        if name not in adapter.layers:
            return stored
        return StoredTensor(name, stored.shape, F32, adapter.merged(stored).reshape(-1).view(np.uint8))

    return tensor


def _write_gguf(
    path: Path,
    checkpoint: Checkpoint,
    tensors: Callable[[str], StoredTensor],
    block_type: BlockType,
    metadata: Mapping[str, Any],
) -> None:
    if checkpoint.format != "gguf":
        raise UnsupportedError(
            f"{checkpoint.path} is not a GGUF file, and its tokenizer cannot be written to one yet; "
            "export with --to hf."
        )
    write_gguf(path, checkpoint.config, tensors, type_for=default_types(block_type), metadata=metadata)


def _replay_labels(model: LanguageModel, task: Task, rows: Sequence[Row]) -> list[str]:
    """Return the label of each row."""
    return [best[0].label for best in with_task(model, task).classify([row.question() for row in rows])]


def _replay_tokens(model: LanguageModel, task: Task, rows: Sequence[Row]) -> list[int]:
    """Return the most likely token at each position of the right answers.

    Generated texts are not compared, because two that differ in one token differ in all that follow.
    """
    tokens = []
    for example in encode_rows(model.text, task, rows):
        if isinstance(example, PreferenceExample):
            example = example.completions()[0]
        tokens += answer_logits(model, example.prompt, example.completion).argmax(axis=1).tolist()
    return tokens
