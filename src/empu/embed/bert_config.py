"""Sizes of a BERT encoder, from ``config.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from empu.errors import CheckpointError, UnsupportedError
from empu.system.files import read_json_object
from empu.system.json_fields import get_float, required_int

_EXPECTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of a BERT encoder."""

    layers: int
    heads: int
    dim: int
    norm_eps: float
    context_length: int
    query_prefix: str = ""
    passage_prefix: str = ""
    """Text that stands before a query or a passage, as the encoder was trained (E5: ``query: ``)."""


def read_config(folder: Path) -> EncoderConfig:
    path = folder / "config.json"
    values = read_json_object(path)
    for key, expected in _EXPECTED.items():
        if values.get(key, expected) != expected:
            raise UnsupportedError(f"{folder}: {key} is {values[key]!r}; embeddings support only {expected!r}.")
    config = EncoderConfig(
        layers=required_int(values, "num_hidden_layers", str(path)),
        heads=required_int(values, "num_attention_heads", str(path)),
        dim=required_int(values, "hidden_size", str(path)),
        norm_eps=get_float(values, "layer_norm_eps", str(path)),
        # Not max_seq_length of sentence_bert_config.json, where sentence-transformers cuts a text without saying so.
        context_length=required_int(values, "max_position_embeddings", str(path)),
    )
    if config.heads < 1 or config.dim % config.heads or config.layers < 1 or config.context_length < 2:
        raise CheckpointError(f"{path} describes an impossible shape: {config}.")
    return config
