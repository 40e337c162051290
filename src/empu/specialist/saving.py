"""Save a specialist: its weights, the task beside them, and the record for the store.

A LoRA specialist is PEFT files beside its base model. A fully tuned specialist is a Hugging Face folder of its own, in
bfloat16.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch import nn

from empu import __version__
from empu.checkpoint import StoredTensor, open_checkpoint
from empu.checkpoint.block_types import BF16, F32
from empu.checkpoint.lora_adapter import LoraAdapter, LoraWeights, write_adapter
from empu.checkpoint.tensor_names import expected_tensors
from empu.ledger.hashing import FileId, hash_file, tagged
from empu.model.transformer import Transformer
from empu.specialist.existing_runs import IDENTITY_FILE, TUNED
from empu.specialist.hf_folder import write_folder
from empu.specialist.plan import TunePlan
from empu.store.model_record import Disclosure, LicenceInfo, ModelRecord, ModelSource
from empu.system.durable import atomic_file
from empu.text.task import TASK_FILE, Task
from empu.tune.lora import lora_layers


def write_weights(folder: Path, model: Transformer, plan: TunePlan) -> None:
    """Write the trained adapter or full model to ``folder``, which does not exist yet."""
    if plan.recipe.method == "full":
        with open_checkpoint(plan.base.path) as base:
            write_folder(folder, base, _float32_tensors(model), plan.text, None, BF16)
        return
    folder.mkdir(parents=True)
    layers = {name: LoraWeights(_array(layer.lora_a), _array(layer.lora_b)) for name, layer in lora_layers(model)}
    base_name = plan.base.record.title or tagged(plan.base.record.id)
    write_adapter(folder, LoraAdapter(plan.recipe.rank, plan.recipe.alpha, layers, base_name), plan.config)


def write_task_and_identity(folder: Path, task: Task, plan: TunePlan) -> None:
    """Write, or overwrite, the task and the identity of the run beside the weights."""
    identity = {
        "base": plan.base.record.id,
        "identity": plan.identity,
        "asked": plan.request_key,
        "recipe": plan.recipe.to_json(),
    }
    for name, content in ((TASK_FILE, task.to_json()), (IDENTITY_FILE, identity)):
        with atomic_file(folder / name) as file:
            file.write((json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode())


def hash_files(folder: Path) -> tuple[FileId, ...]:
    """Return every file of a specialist with its hash."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return tuple(FileId(path.name, path.stat().st_size, hash_file(path)) for path in files)


def model_record(name: str, plan: TunePlan, files: tuple[FileId, ...], disclosure: str) -> ModelRecord:
    """Return the store's record of a specialist. Its licence is that of its base model, from which it is derived."""
    base, is_full = plan.base.record, plan.recipe.method == "full"
    base_name = base.title or tagged(base.id)
    if is_full:
        tensor_types = {"BF16": sum(1 for _ in expected_tensors(plan.config, "huggingface"))}
    else:
        tensor_types = {"F32": 2 * len(plan.recipe.targets) * plan.config.n_layers}
    return ModelRecord(
        files=tuple(sorted(files)),
        format="huggingface" if is_full else "adapter",
        architecture=base.architecture,
        config=dataclasses.asdict(plan.config),
        parameters=plan.recipe_plan.trainable_parameters,
        tensor_types=tensor_types,
        licence=LicenceInfo(base.licence.id, base.licence.title, base.licence.note, f"its base, {base_name}"),
        source=ModelSource(f"empu tune --name {name}", TUNED, tagged(base.id)),
        disclosure=Disclosure(disclosure, base.disclosure.statements),
        added_at=datetime.now(UTC).isoformat(timespec="seconds"),
        empu_version=__version__,
        pulled_as=name,
        title=name,
        base_models=(plan.base.name or base_name,),
        base=None if is_full else base.id,
    )


def _float32_tensors(model: Transformer) -> Callable[[str], StoredTensor]:
    """Return a function that maps the canonical name of a weight to its values."""
    parameters = dict(model.named_parameters())

    def tensor(name: str) -> StoredTensor:
        array = np.ascontiguousarray(_array(parameters[name]))
        return StoredTensor(name, array.shape, F32, array.reshape(-1).view(np.uint8))

    return tensor


def _array(parameter: nn.Parameter) -> np.ndarray:
    array: np.ndarray = parameter.detach().cpu().float().numpy()
    return array
