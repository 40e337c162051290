"""What is read as an adapter, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from empu.checkpoint.adapter import CONFIG, WEIGHTS, Adapter, LowRank, read_adapter, write_adapter
from empu.checkpoint.blocks import F32
from empu.checkpoint.formats.safetensors import Planned, write_safetensors
from empu.config import ModelConfig
from empu.errors import CheckpointError, EmpuError, UnsupportedError

TINY = ModelConfig(
    vocab_size=32, dim=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, ffn_dim=32, context_length=64
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    low = LowRank(np.ones((2, 16), np.float32), np.ones((16, 2), np.float32))
    write_adapter(tmp_path, Adapter(2, 4.0, {"layers.0.attention.q.weight": low}), TINY)
    return tmp_path


def test_what_was_written_is_read_again(folder: Path) -> None:
    adapter = read_adapter(folder, TINY)
    assert (adapter.rank, adapter.scale, list(adapter.layers)) == (2, 2.0, ["layers.0.attention.q.weight"])


@pytest.mark.parametrize(
    ("setting", "kind", "sentence"),
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
def test_settings_that_mean_more_than_two_matrices(
    folder: Path, setting: dict[str, Any], kind: type[EmpuError], sentence: str
) -> None:
    about = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**about, **setting}))
    with pytest.raises(kind, match=sentence):
        read_adapter(folder, TINY)


def test_a_norm_has_no_matrix_to_adapt(folder: Path) -> None:
    data = np.ones((2, 16), np.float32)
    name = "base_model.model.model.layers.0.input_layernorm.lora_A.weight"
    write_safetensors(folder / WEIGHTS, [Planned(name, F32, data.shape, lambda: data.reshape(-1).view(np.uint8))], {})
    with pytest.raises(CheckpointError, match="no matrix of that name"):
        read_adapter(folder, TINY)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    low = LowRank(np.ones((2, 16), np.float32), np.full((16, 2), np.nan, np.float32))
    write_adapter(tmp_path, Adapter(2, 4.0, {"layers.0.attention.q.weight": low}), TINY)
    with pytest.raises(CheckpointError, match=r"q_proj\.lora_B\.weight' holds a number that is not finite"):
        read_adapter(tmp_path, TINY)
