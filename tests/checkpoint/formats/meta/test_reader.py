"""Meta folders: one file, or several files split as Meta splits them, and invalid folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from empu.checkpoint import open_checkpoint
from empu.checkpoint.tensor_names import expected_tensors
from empu.config import ModelConfig
from empu.errors import CheckpointError

CONFIG = ModelConfig(
    n_layers=2, dim=32, n_heads=4, n_kv_heads=4, head_dim=8, ffn_dim=96, vocab_size=64, rope_theta=500_000.0
)
PARAMS = {"dim": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "vocab_size": 64, "multiple_of": 32,
          "ffn_dim_multiplier": 1.0, "norm_eps": 1e-5, "rope_theta": 500000.0}  # fmt: skip


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {tensor.stored_name: torch.randn(tensor.shape).bfloat16() for tensor in expected_tensors(CONFIG, "meta")}


def write(folder: Path, shards: int, whole: dict[str, torch.Tensor]) -> Path:
    """Split tensors along the axes of the name table, as fairscale's layers do."""
    folder.mkdir()
    axes = {tensor.stored_name: tensor.row.meta_split for tensor in expected_tensors(CONFIG, "meta")}
    for number in range(shards):
        part = {}
        for name, tensor in whole.items():
            axis = axes[name]
            part[name] = tensor if axis is None else tensor.chunk(shards, axis)[number].clone()
        part["rope.freqs"] = torch.ones(4)  # old releases contain it; it follows from params.json
        torch.save(part, folder / f"consolidated.{number:02}.pth")
    (folder / "params.json").write_text(json.dumps(PARAMS))
    return folder


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_shards_are_joined(shards: int, tmp_path: Path) -> None:
    whole = weights()
    with open_checkpoint(write(tmp_path / "model", shards, whole)) as checkpoint:
        assert checkpoint.format == "meta"
        assert checkpoint.config == CONFIG.replace(context_length=checkpoint.config.context_length)
        for tensor in expected_tensors(CONFIG, "meta"):
            got = checkpoint.tensor(tensor.name)
            assert got.type.name == "BF16"
            assert np.array_equal(got.float32(), whole[tensor.stored_name].float().numpy()), tensor.name


def test_a_missing_shard_and_a_missing_tensor_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", 4, weights())
    (folder / "consolidated.02.pth").unlink()
    with pytest.raises(CheckpointError, match=r"consolidated"):
        open_checkpoint(folder)
    incomplete = weights()
    del incomplete["layers.1.attention.wq.weight"]
    with pytest.raises(CheckpointError, match=r"missing layers\.1\.attention\.q\.weight"):
        open_checkpoint(write(tmp_path / "less", 1, incomplete))


@pytest.mark.parametrize(
    ("key", "value"), [("dim", None), ("dim", "32"), ("n_heads", 0), ("n_layers", -1), ("norm_eps", "x")]
)
def test_invalid_params_are_named(key: str, value: object, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", 1, weights())
    (folder / "params.json").write_text(json.dumps({**PARAMS, key: value}))
    with pytest.raises(CheckpointError, match=key):
        open_checkpoint(folder)


def test_additional_keys_of_mistral(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", 1, weights())
    params = {key: value for key, value in PARAMS.items() if key not in ("multiple_of", "ffn_dim_multiplier")}
    (folder / "params.json").write_text(json.dumps({**params, "hidden_dim": 96, "head_dim": 8, "sliding_window": 16}))
    with open_checkpoint(folder) as checkpoint:
        assert (checkpoint.config.ffn_dim, checkpoint.config.sliding_window) == (96, 16)
