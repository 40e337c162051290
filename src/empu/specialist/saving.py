"""A tuned model into the store: its weights, the task beside them, and a record that names the base.

Adapters are PEFT's files beside their base; a model tuned in full is a Hugging Face folder of its own, in bfloat16.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from empu import __version__
from empu.checkpoint import StoredTensor, open_checkpoint
from empu.checkpoint.adapter import Adapter, LowRank, write_adapter
from empu.checkpoint.blocks import BF16, F32
from empu.checkpoint.tensor_names import expected
from empu.ledger.hashing import FileId, hash_file, tagged
from empu.model.transformer import Transformer
from empu.specialist.hf_folder import write_folder
from empu.store.model_record import Disclosure, Licence, ModelRecord, Source
from empu.store.store import RUN, Store, StoredModel
from empu.store.unfinished_runs import PLAN_FILE
from empu.system.durable import replacing
from empu.text.task import TASK_FILE, Task
from empu.tune.lora import adapters

if TYPE_CHECKING:
    from empu.specialist.plan import Ready

IDENTITY_FILE = "specialist.json"
TUNED = "tuned"
"""The kind of source of a model that was made here."""


def write_weights(folder: Path, model: Transformer, ready: Ready) -> None:
    """Write what was tuned into ``folder``, which does not exist yet."""
    recipe = ready.plan.recipe
    if recipe.method == "full":
        with open_checkpoint(ready.base.path) as base:
            write_folder(folder, base, _tensors(model), ready.text, None, BF16)
        return
    folder.mkdir(parents=True)
    layers = {name: LowRank(_array(layer.lora_a), _array(layer.lora_b)) for name, layer in adapters(model)}
    said = ready.base.record.title or tagged(ready.base.record.id)
    write_adapter(folder, Adapter(recipe.rank, recipe.alpha, layers, said), ready.config)


def write_notes(folder: Path, task: Task, ready: Ready) -> None:
    """Write, or write anew, the task beside the weights and what determined them."""
    recipe = ready.plan.recipe.to_json()
    said = {"base": ready.base.record.id, "identity": ready.identity, "asked": ready.asked, "recipe": recipe}
    for name, content in ((TASK_FILE, task.to_json()), (IDENTITY_FILE, said)):
        with replacing(folder / name) as file:
            file.write((json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode())


def files_of(folder: Path) -> tuple[FileId, ...]:
    """Every file of a specialist with its hash."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return tuple(FileId(path.name, path.stat().st_size, hash_file(path)) for path in files)


def record_of(name: str, ready: Ready, files: tuple[FileId, ...], rows_said: str) -> ModelRecord:
    """The store's record of a specialist. Its licence is the base's: what is built on it stays under it."""
    base, full = ready.base.record, ready.plan.recipe.method == "full"
    said = base.title or tagged(base.id)
    matrices = sum(1 for _ in expected(ready.config, "huggingface")) if full else 2 * len(ready.plan.recipe.targets)
    return ModelRecord(
        files=tuple(sorted(files)),
        format="huggingface" if full else "adapter",
        architecture=base.architecture,
        config=dataclasses.asdict(ready.config),
        parameters=ready.plan.trainable,
        tensor_types={"BF16": matrices} if full else {"F32": matrices * ready.config.n_layers},
        licence=Licence(base.licence.id, base.licence.title, base.licence.note, f"its base, {said}"),
        source=Source(f"empu tune --name {name}", TUNED, tagged(base.id)),
        disclosure=Disclosure(rows_said, base.disclosure.statements),
        added_at=datetime.now(UTC).isoformat(timespec="seconds"),
        empu_version=__version__,
        pulled_as=name,
        title=name,
        base_models=(ready.base.name or said,),
        base=None if full else base.id,
    )


def room_of(asked: str) -> str:
    """The key of a run's folder while it is not finished."""
    return f"{RUN}{asked[:16]}"


def finished(store: Store, name: str, asked: str) -> StoredModel | None:
    """The model of that name, if it came out of a run of what is asked."""
    model = store.named(name)
    if model is None or model.record.source.kind != TUNED:
        return None
    said = _said(model)
    return model if said.get("asked", said.get("identity")) == asked else None


def epochs_before(store: Store, name: str, asked: str) -> int | None:
    """The epochs of a run of what is asked, finished or not; ``None`` where none was begun."""
    if (model := finished(store, name, asked)) is not None:
        return int(_said(model)["recipe"]["epochs"])
    try:
        return int(json.loads((store.tmp / room_of(asked) / PLAN_FILE).read_bytes())["epochs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _said(model: StoredModel) -> Mapping[str, Any]:
    """What determined a specialist's weights, as :func:`write_notes` wrote it; empty where it cannot be read."""
    try:
        said: Mapping[str, Any] = json.loads((model.path / IDENTITY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said


def _tensors(model: Transformer) -> Any:
    parameters = dict(model.named_parameters())

    def tensor(name: str) -> StoredTensor:
        array = np.ascontiguousarray(_array(parameters[name]))
        return StoredTensor(name, array.shape, F32, array.reshape(-1).view(np.uint8))

    return tensor


def _array(parameter: nn.Parameter) -> np.ndarray:
    array: np.ndarray = parameter.detach().cpu().float().numpy()
    return array
