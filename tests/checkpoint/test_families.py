"""The table of model families: every row can be written and read back in the formats that name families."""

from __future__ import annotations

import pytest

from empu.checkpoint.block_types import F32
from empu.checkpoint.families import BY_MODEL_TYPE, FAMILIES, ModelFamily, family_for
from empu.checkpoint.formats.gguf.config import write_config as write_gguf_config
from empu.checkpoint.formats.huggingface.config import read_config, write_config
from empu.config import ModelConfig, preset

TINY = preset("tiny")


def config_of(family: ModelFamily) -> ModelConfig:
    return TINY.replace(sliding_window=16) if family.has_sliding_window else TINY


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_a_family_names_itself_in_what_is_written(family: ModelFamily) -> None:
    config = config_of(family)
    assert family_for(config) is family
    written = write_config(config, F32)
    assert BY_MODEL_TYPE[written["model_type"]] is family
    assert written["architectures"] == [family.architecture]
    assert read_config(written, "config.json") == config
    assert write_gguf_config(config)["general.architecture"] == family.gguf_architecture


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_absent_keys_take_the_defaults_of_the_family(family: ModelFamily) -> None:
    config = write_config(config_of(family), F32)
    for key in ("num_key_value_heads", "max_position_embeddings", "sliding_window"):
        config.pop(key, None)
    config["num_attention_heads"] = 8
    read = read_config(config, "config.json")
    assert read.n_kv_heads == (family.default_n_kv_heads or 8)
    assert read.context_length == family.default_context_length
    assert read.sliding_window == family.default_sliding_window
