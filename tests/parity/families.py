"""Tiny models of every family with random weights, built by transformers and by Meta's code, for comparing logits.

The shapes keep what distinguishes the families: head counts, RoPE theta and scaling, tied output, sliding window.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

SMALL_CONFIG: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _scaled_rope(factor: float) -> dict[str, Any]:
    return {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,  # small, so that short texts cover all three ranges of wavelengths
    }


def _plain_rope(theta: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta}


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama 2": ("llama", {"num_key_value_heads": 8, "rope_parameters": _plain_rope(10_000.0), "rms_norm_eps": 1e-6}),
    "Llama 3": ("llama", {"rope_parameters": _plain_rope(500_000.0)}),
    "Llama 3.1": ("llama", {"rope_parameters": _scaled_rope(8.0)}),
    "Llama 3.2": ("llama", {"rope_parameters": _scaled_rope(32.0), "tie_word_embeddings": True}),
    "SmolLM2": (
        "llama",
        {
            "hidden_size": 72,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "rope_parameters": _plain_rope(100_000.0),
            "tie_word_embeddings": True,
        },
    ),
    "TinyLlama": ("llama", {"num_key_value_heads": 4, "rope_parameters": _plain_rope(10_000.0)}),
    "Mistral 7B v0.1": ("mistral", {"head_dim": 16, "sliding_window": 24, "rope_parameters": _plain_rope(10_000.0)}),
    "Mistral 7B v0.3": ("mistral", {"head_dim": 16, "sliding_window": None, "rope_parameters": _plain_rope(1e6)}),
    "linear scaling": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
}
"""Family -> (model type in transformers, differences from SMALL_CONFIG)."""


def transformers_model(family: str, seed: int = 0) -> Any:
    """A random model of ``family`` in float32, with weights large enough for attention to be far from uniform."""
    import transformers

    model_type, changes = FAMILIES[family]
    config_class, model_class = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    }[model_type]
    config = config_class(**{**SMALL_CONFIG, **changes})
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = model_class(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0.0, 0.15)
    return model.eval()


@contextmanager
def single_process_group() -> Iterator[None]:
    """The process group that Meta's reference code needs: a single member, no network."""
    import fairscale.nn.model_parallel.initialize as parallel

    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        parallel.initialize_model_parallel(1)
        yield
    finally:
        parallel.destroy_model_parallel()
        torch.distributed.destroy_process_group()


META_FAMILIES: dict[str, dict[str, Any]] = {
    "Llama 3": {"use_scaled_rope": False},
    "Llama 3.1": {"use_scaled_rope": True},
}
_META_PARAMS: dict[str, Any] = {
    "dim": 64,
    "n_layers": 3,
    "n_heads": 8,
    "n_kv_heads": 2,
    "vocab_size": 320,
    "multiple_of": 16,
    "ffn_dim_multiplier": 1.3,
    "norm_eps": 1e-5,
    "rope_theta": 500_000.0,
}


def meta_model(family: str, folder: Path, *, context_length: int = 256, seed: int = 0) -> Any:
    """Meta's transformer with random weights, also saved to ``folder`` in Meta's format.

    Needs :func:`single_process_group`.
    """
    from llama_models.llama3.args import ModelArgs
    from llama_models.llama3.model import Transformer

    params = {**_META_PARAMS, **META_FAMILIES[family]}
    torch.manual_seed(seed)
    model = Transformer(ModelArgs(**params, max_batch_size=1, max_seq_len=context_length))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0.0, 0.15)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    torch.save(model.state_dict(), folder / "consolidated.00.pth")
    return model.eval()
