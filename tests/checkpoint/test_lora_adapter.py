"""LoRA adapters in PEFT's format: a round trip, and unsupported or invalid adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from empu.checkpoint.block_types import F32
from empu.checkpoint.formats.safetensors import PendingTensor, write_safetensors
from empu.checkpoint.lora_adapter import CONFIG, WEIGHTS, LoraAdapter, LoraWeights, read_adapter, write_adapter
from empu.config import ModelConfig
from empu.errors import CheckpointError, EmpuError, UnsupportedError

TINY = ModelConfig(
    vocab_size=32, dim=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, ffn_dim=32, context_length=64
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lora = LoraWeights(np.ones((2, 16), np.float32), np.ones((16, 2), np.float32))
    write_adapter(tmp_path, LoraAdapter(2, 4.0, {"layers.0.attention.q.weight": lora}), TINY)
    return tmp_path


def test_a_written_adapter_is_read_back(folder: Path) -> None:
    adapter = read_adapter(folder, TINY)
    assert (adapter.rank, adapter.scale, list(adapter.layers)) == (2, 2.0, ["layers.0.attention.q.weight"])


@pytest.mark.parametrize(
    ("options", "error_type", "message"),
    [
        ({"use_dora": True}, UnsupportedError, "it sets use_dora"),
        ({"alora_invocation_tokens": [1, 2]}, UnsupportedError, "alora_invocation_tokens"),
        ({"rank_pattern": {"q_proj": 4}, "lora_bias": True}, UnsupportedError, "rank_pattern and lora_bias"),
        ({"init_lora_weights": "pissa_niter_4"}, UnsupportedError, "changes the base's weights"),
        ({"bias": "all"}, UnsupportedError, "without biases"),
        ({"lora_alpha": float("inf")}, CheckpointError, "Infinity"),
        ({"lora_alpha": 10**400}, CheckpointError, "lora_alpha"),
        ({"lora_alpha": True}, CheckpointError, "lora_alpha"),
        ({"r": 0}, CheckpointError, "r is missing"),
    ],
)
def test_unsupported_options_are_refused(
    folder: Path, options: dict[str, Any], error_type: type[EmpuError], message: str
) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **options}))
    with pytest.raises(error_type, match=message):
        read_adapter(folder, TINY)


def test_an_adapter_of_a_norm_is_refused(folder: Path) -> None:
    data = np.ones((2, 16), np.float32)
    name = "base_model.model.model.layers.0.input_layernorm.lora_A.weight"
    write_safetensors(
        folder / WEIGHTS, [PendingTensor(name, F32, data.shape, lambda: data.reshape(-1).view(np.uint8))], {}
    )
    with pytest.raises(CheckpointError, match="the base has no such matrix"):
        read_adapter(folder, TINY)


def test_infinite_values_are_refused(tmp_path: Path) -> None:
    lora = LoraWeights(np.ones((2, 16), np.float32), np.full((16, 2), np.nan, np.float32))
    write_adapter(tmp_path, LoraAdapter(2, 4.0, {"layers.0.attention.q.weight": lora}), TINY)
    with pytest.raises(CheckpointError, match=r"q_proj\.lora_B\.weight' holds a number that is not finite"):
        read_adapter(tmp_path, TINY)
