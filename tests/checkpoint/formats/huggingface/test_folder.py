"""Hugging Face folders: every family, sharded or not, and our folders opened by transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from empu.checkpoint import open_checkpoint
from empu.checkpoint.block_types import BF16, F16, F32, BlockType
from empu.checkpoint.formats.huggingface.writer import write_huggingface
from empu.errors import CheckpointError, EmpuError, UnsupportedError
from tests.parity.families import FAMILIES, transformers_model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=lambda dtype: dtype.name)
def test_what_we_write_transformers_opens_with_the_same_values(family: str, dtype: BlockType, tmp_path: Path) -> None:
    theirs = transformers_model(family)
    theirs.save_pretrained(tmp_path / "theirs")
    with open_checkpoint(tmp_path / "theirs") as checkpoint:
        write_huggingface(tmp_path / "ours", checkpoint.config, checkpoint.tensor, dtype=dtype, shard_bytes=60_000)
    assert (tmp_path / "ours" / "model.safetensors.index.json").is_file()
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    kind = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}[dtype.name]
    assert back.config.to_dict()["rope_parameters"] == theirs.config.to_dict()["rope_parameters"]
    for (name, want), (_, got) in zip(theirs.state_dict().items(), back.state_dict().items(), strict=True):
        assert torch.equal(want.to(kind).float(), got), name
    with open_checkpoint(tmp_path / "ours") as again:
        assert again.config == checkpoint.config
        assert np.array_equal(
            again.tensor("layers.0.attention.q.weight").float32(),
            dtype.unpack(again.tensor("layers.0.attention.q.weight").data).reshape(
                again.shape("layers.0.attention.q.weight")
            ),
        )


def edit(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
        {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
    ],
    ids=lambda changes: next(iter(changes)) + str(next(iter(changes.values())))[:12],
)
def test_other_architectures_are_refused(changes: dict[str, object], tmp_path: Path) -> None:
    transformers_model("Llama 3").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError):
        open_checkpoint(edit(tmp_path, **changes))


@pytest.mark.parametrize(
    "changes",
    [{"hidden_size": None}, {"hidden_size": 65}, {"num_hidden_layers": 4}, {"num_hidden_layers": 2}, {"vocab_size": 7}],
    ids=str,
)
def test_a_config_that_does_not_fit_is_reported(changes: dict[str, object], tmp_path: Path) -> None:
    transformers_model("Llama 3").save_pretrained(tmp_path)
    with pytest.raises(EmpuError) as caught:
        open_checkpoint(edit(tmp_path, **changes)).close()
    assert str(tmp_path) in str(caught.value)


def test_a_missing_shard_and_an_index_with_paths_are_refused(tmp_path: Path) -> None:
    transformers_model("Llama 3").save_pretrained(tmp_path, max_shard_size="50KB")
    index = tmp_path / "model.safetensors.index.json"
    first = sorted(tmp_path.glob("model-*.safetensors"))[0]
    first.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="lacks the shard"):
        open_checkpoint(tmp_path)
    (tmp_path / "elsewhere").rename(first)
    content = json.loads(index.read_text())
    content["weight_map"] = {name: "../" + file for name, file in content["weight_map"].items()}
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="expected a plain name"):
        open_checkpoint(tmp_path)
