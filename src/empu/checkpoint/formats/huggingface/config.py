"""``config.json`` of Hugging Face <-> :class:`ModelConfig`, and the names of what is not this architecture.

Absent keys mean what they mean in transformers (``LlamaConfig``, ``MistralConfig``); the numbers that make a shape must
be there. Rotary embedding is understood in both spellings: ``rope_theta`` and ``rope_scaling`` (transformers 4) and
``rope_parameters`` (transformers 5). Two spellings that disagree are refused.
"""

from __future__ import annotations

from typing import Any

from empu.checkpoint.blocks import BlockType
from empu.config import LinearRopeScaling, ModelConfig, RopeScaling
from empu.errors import CheckpointError, ConfigError, UnsupportedError
from empu.system.json import shown
from empu.system.json_fields import Json, block, flag, integer, number, optional_integer

ARCHITECTURES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}
"""model_type -> the one class of it that is this architecture."""

_DEFAULT_CONTEXT = {"llama": 2048, "mistral": 131_072}
_MISTRAL_KV_HEADS = 8
_MISTRAL_WINDOW = 4096
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_config(config: Json, where: str) -> ModelConfig:
    """The shape that a ``config.json`` describes.

    Raises :class:`UnsupportedError` naming what is not this architecture, :class:`CheckpointError` for a key that is
    missing, of the wrong type, out of range or contradicted by another.
    """
    try:
        return _read(config, where)
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from None


def _read(config: Json, where: str) -> ModelConfig:
    model_type = _model_type(config, where)
    _refuse_variants(config, where)
    heads = integer(config, "num_attention_heads", where)
    dim = integer(config, "hidden_size", where)
    head_dim = optional_integer(config, "head_dim", where)
    if head_dim is None:
        if heads < 1 or dim % heads:
            raise CheckpointError(f"{where}: hidden_size {dim} is not a multiple of num_attention_heads {heads}.")
        head_dim = dim // heads
    kv_heads = optional_integer(config, "num_key_value_heads", where)
    if kv_heads is None:
        absent_in_mistral = model_type == "mistral" and "num_key_value_heads" not in config
        kv_heads = _MISTRAL_KV_HEADS if absent_in_mistral else heads
    context = optional_integer(config, "max_position_embeddings", where)
    if context is None:
        context = _DEFAULT_CONTEXT[model_type]
    theta, scaling = _read_rope(config, context, where)
    return ModelConfig(
        n_layers=integer(config, "num_hidden_layers", where),
        dim=dim,
        n_heads=heads,
        n_kv_heads=kv_heads,
        head_dim=head_dim,
        ffn_dim=integer(config, "intermediate_size", where),
        vocab_size=integer(config, "vocab_size", where),
        context_length=context,
        norm_eps=number(config, "rms_norm_eps", where, default=1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        tie_embeddings=flag(config, "tie_word_embeddings", where),
        sliding_window=_window(config, model_type, where),
    )


def write_config(config: ModelConfig, dtype: BlockType) -> dict[str, Any]:
    """A ``config.json`` that transformers 4 and 5 both read back as ``config``."""
    model_type = "llama" if config.sliding_window is None else "mistral"
    scaling = _write_scaling(config)
    result: dict[str, Any] = {
        "architectures": [ARCHITECTURES[model_type]],
        "model_type": model_type,
        "hidden_size": config.dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling,
        "rope_parameters": {"rope_theta": config.rope_theta, **(scaling or {"rope_type": "default"})},
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": _DTYPES[dtype.name],
        "dtype": _DTYPES[dtype.name],
    }
    if config.sliding_window is not None:
        result["sliding_window"] = config.sliding_window
    return result


def _model_type(config: Json, where: str) -> str:
    model_type = config.get("model_type")
    architectures = config.get("architectures") or []
    names = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        found = f"the model is {shown(model_type)}" if isinstance(model_type, str) else "the model has no model_type"
        raise UnsupportedError(
            f"{where}: {found}; Empu opens {' and '.join(ARCHITECTURES)} models (Llama 2 to 3.2 "
            "text, SmolLM, TinyLlama, Mistral 7B)."
        )
    if names and ARCHITECTURES[model_type] not in names:
        raise UnsupportedError(
            f"{where}: the architecture is {shown(names[0])}; of {model_type} models, Empu opens "
            f"{ARCHITECTURES[model_type]}."
        )
    return model_type


def _refuse_variants(config: Json, where: str) -> None:
    """Switches that make another model of the same name."""
    for key in ("quantization_config", "compression_config"):
        if (value := config.get(key)) is not None:
            method = value.get("quant_method") if isinstance(value, dict) else None
            raise UnsupportedError(
                f"{where}: {key} says that the weights are quantised by {shown(str(method or 'an unnamed method'))}; "
                "give the unquantised folder, or a GGUF file."
            )
    for key in ("attention_bias", "mlp_bias"):
        if flag(config, key, where):
            raise UnsupportedError(f"{where}: {key} is true; Empu's Llama has no biases.")
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise UnsupportedError(f"{where}: hidden_act is {shown(str(activation))}; Empu's Llama has silu.")
    if config.get("partial_rotary_factor") not in (None, 1):
        raise UnsupportedError(f"{where}: partial_rotary_factor is set; Empu's Llama rotates whole heads.")
    layer_types = config.get("layer_types")
    if isinstance(layer_types, list) and any(kind != layer_types[0] for kind in layer_types):
        raise UnsupportedError(f"{where}: layer_types differ from layer to layer; Empu's Llama has one kind.")


def _window(config: Json, model_type: str, where: str) -> int | None:
    """Mistral's sliding window; a Llama has none whatever its config says, as in transformers."""
    if model_type != "mistral":
        return None
    if "sliding_window" not in config:
        return _MISTRAL_WINDOW
    return optional_integer(config, "sliding_window", where)


def _read_rope(config: Json, context: int, where: str) -> tuple[float, RopeScaling | LinearRopeScaling | None]:
    """(theta, scaling), from whichever spellings are there; transformers' default theta is 10,000."""
    outer = number(config, "rope_theta", where, default=10_000.0)
    found = [
        (
            number(spelling, "rope_theta", f"{where}: {key}", default=outer),
            _scaling(spelling, context, f"{where}: {key}"),
        )
        for key in ("rope_scaling", "rope_parameters")
        if (spelling := block(config, key, where))
    ]
    if config.get("rope_theta") is not None and config.get("rope_scaling") is None:
        found += [(outer, found[0][1] if found else None)]  # transformers 4 says theta outside
    if not found:
        return outer, None
    if any(other != found[0] for other in found):
        raise CheckpointError(
            f"{where}: rope_theta, rope_scaling and rope_parameters contradict each other; keep the one that is meant."
        )
    return found[0]


def _scaling(rope: Json, context: int, where: str) -> RopeScaling | LinearRopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("partial_rotary_factor") not in (None, 1):
        raise UnsupportedError(f"{where}: partial_rotary_factor is set; Empu's Llama rotates whole heads.")
    if kind == "default":
        if any(isinstance(value, dict) for value in rope.values()):
            raise UnsupportedError(f"{where} differs from layer to layer; Empu's Llama has one rotary embedding.")
        return None
    if kind == "linear":
        return LinearRopeScaling(number(rope, "factor", where))
    if kind == "llama3":
        original = optional_integer(rope, "original_max_position_embeddings", where)
        return RopeScaling(
            factor=number(rope, "factor", where),
            low_freq_factor=number(rope, "low_freq_factor", where),
            high_freq_factor=number(rope, "high_freq_factor", where),
            original_context=context if original is None else original,
        )
    raise UnsupportedError(f"{where}: the type is {shown(str(kind))}; Empu has default, linear and llama3.")


def _write_scaling(config: ModelConfig) -> dict[str, Any] | None:
    scaling = config.rope_scaling
    if scaling is None:
        return None
    if isinstance(scaling, LinearRopeScaling):
        return {"rope_type": "linear", "factor": scaling.factor}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_context,
    }
