"""A tuned adapter into the store: PEFT's files, the task beside them, and a record that names the base."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from empu import __version__
from empu.checkpoint.adapter import Adapter, LowRank, write_adapter
from empu.config import ModelConfig
from empu.ledger.hashing import FileId, hash_file, tagged
from empu.model.transformer import Transformer
from empu.store.records import Disclosure, Licence, ModelRecord, Source
from empu.store.store import StoredModel
from empu.text.task import TASK_FILE, Task
from empu.tune.lora import adapters
from empu.tune.recipe import Recipe

IDENTITY_FILE = "specialist.json"


def adapter_of(model: Transformer, recipe: Recipe, base: str) -> Adapter:
    """The adapters of a tuned model as arrays."""
    layers = {name: LowRank(_array(layer.lora_a), _array(layer.lora_b)) for name, layer in adapters(model)}
    return Adapter(recipe.rank, recipe.alpha, layers, base)


def write_specialist(
    folder: Path, adapter: Adapter, config: ModelConfig, task: Task, identity: Mapping[str, Any]
) -> tuple[FileId, ...]:
    """Write a specialist's files into an empty ``folder`` and hash them. ``identity`` says what determined them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_adapter(folder, adapter, config)
    for name, content in ((TASK_FILE, task.to_json()), (IDENTITY_FILE, dict(identity))):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n", "utf-8")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return tuple(FileId(path.name, path.stat().st_size, hash_file(path)) for path in files)


def record_of(
    name: str, base: StoredModel, config: ModelConfig, adapter: Adapter, files: tuple[FileId, ...], rows_said: str
) -> ModelRecord:
    """The store's record of a specialist. Its licence is the base's: what is built on it stays under it."""
    licence = dataclasses.replace(base.record.licence, text_file=None)
    return ModelRecord(
        files=tuple(sorted(files)),
        format="adapter",
        architecture=base.record.architecture,
        config=dataclasses.asdict(config),
        parameters=sum(low.a.size + low.b.size for low in adapter.layers.values()),
        tensor_types={"F32": 2 * len(adapter.layers)},
        licence=Licence(
            licence.id, licence.title, licence.note, f"its base, {base.record.title or tagged(base.record.id)}"
        ),
        source=Source(f"empu tune --name {name}", "tuned", tagged(base.record.id)),
        disclosure=Disclosure(rows_said, base.record.disclosure.statements),
        added_at=datetime.now(UTC).isoformat(timespec="seconds"),
        empu_version=__version__,
        pulled_as=name,
        title=name,
        base_models=(base.name or base.record.title or tagged(base.record.id),),
        base=base.record.id,
    )


def _array(parameter: Any) -> np.ndarray:
    array: np.ndarray = parameter.detach().cpu().float().numpy()
    return array
