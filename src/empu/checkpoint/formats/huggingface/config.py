"""``config.json`` of Hugging Face <-> :class:`ModelConfig`. Other architectures are refused by name.

Absent keys mean what they mean in transformers (``LlamaConfig``, ``MistralConfig``); the numbers that make a shape must
be present. Rotary embedding is read in both notations: ``rope_theta`` and ``rope_scaling`` (transformers 4) and
``rope_parameters`` (transformers 5). Two notations that contradict each other are refused.
"""

from __future__ import annotations

from typing import Any

from empu.checkpoint.block_types import BlockType
from empu.checkpoint.families import BY_MODEL_TYPE, SUPPORTED_MODELS, ModelFamily, family_for
from empu.config import LinearRopeScaling, ModelConfig, RopeScaling
from empu.errors import CheckpointError, ConfigError, UnsupportedError
from empu.system.json_fields import Json, get_bool, get_float, optional_int, optional_object, required_int
from empu.system.quoting import quoted

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_config(config: Json, where: str) -> ModelConfig:
    """Return the model config of a ``config.json``. ``where`` begins the error messages.

    Raises :class:`UnsupportedError` for another architecture, and :class:`CheckpointError` for a key that is missing,
    of the wrong type, out of range or contradicted by another.
    """
    try:
        return _read(config, where)
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from None


def _read(config: Json, where: str) -> ModelConfig:
    family = _model_family(config, where)
    _refuse_variants(config, where)
    n_heads = required_int(config, "num_attention_heads", where)
    dim = required_int(config, "hidden_size", where)
    head_dim = optional_int(config, "head_dim", where)
    if head_dim is None:
        if n_heads < 1 or dim % n_heads:
            raise CheckpointError(f"{where}: hidden_size {dim} is not a multiple of num_attention_heads {n_heads}.")
        head_dim = dim // n_heads
    n_kv_heads = optional_int(config, "num_key_value_heads", where)
    if n_kv_heads is None:
        is_absent = "num_key_value_heads" not in config
        n_kv_heads = family.default_n_kv_heads if is_absent and family.default_n_kv_heads is not None else n_heads
    context_length = optional_int(config, "max_position_embeddings", where)
    if context_length is None:
        context_length = family.default_context_length
    theta, scaling = _read_rope(config, context_length, where)
    return ModelConfig(
        n_layers=required_int(config, "num_hidden_layers", where),
        dim=dim,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        ffn_dim=required_int(config, "intermediate_size", where),
        vocab_size=required_int(config, "vocab_size", where),
        context_length=context_length,
        norm_eps=get_float(config, "rms_norm_eps", where, default=1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        tie_embeddings=get_bool(config, "tie_word_embeddings", where),
        sliding_window=_sliding_window(config, family, where),
    )


def write_config(config: ModelConfig, dtype: BlockType) -> dict[str, Any]:
    """Return a ``config.json`` that transformers 4 and 5 both read back as ``config``."""
    family = family_for(config)
    scaling = _write_scaling(config)
    result: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
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


def _model_family(config: Json, where: str) -> ModelFamily:
    model_type = config.get("model_type")
    family = BY_MODEL_TYPE.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        found = f"the model is {quoted(model_type)}" if isinstance(model_type, str) else "the model has no model_type"
        raise UnsupportedError(
            f"{where}: {found}; Empu opens {' and '.join(BY_MODEL_TYPE)} models ({SUPPORTED_MODELS})."
        )
    architectures = config.get("architectures") or []
    names = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    if names and family.architecture not in names:
        raise UnsupportedError(
            f"{where}: the architecture is {quoted(names[0])}; of {family.model_type} models, Empu opens "
            f"{family.architecture}."
        )
    return family


def _refuse_variants(config: Json, where: str) -> None:
    """Refuse settings that make another architecture of the same model_type."""
    for key in ("quantization_config", "compression_config"):
        if (value := config.get(key)) is not None:
            method = value.get("quant_method") if isinstance(value, dict) else None
            raise UnsupportedError(
                f"{where}: {key} says that the weights are quantised by {quoted(str(method or 'an unnamed method'))}; "
                "give the unquantised folder, or a GGUF file."
            )
    for key in ("attention_bias", "mlp_bias"):
        if get_bool(config, key, where):
            raise UnsupportedError(f"{where}: {key} is true; Empu's Llama has no biases.")
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise UnsupportedError(f"{where}: hidden_act is {quoted(str(activation))}; Empu's Llama has silu.")
    if config.get("partial_rotary_factor") not in (None, 1):
        raise UnsupportedError(f"{where}: partial_rotary_factor is set; Empu's Llama rotates whole heads.")
    layer_types = config.get("layer_types")
    if isinstance(layer_types, list) and any(kind != layer_types[0] for kind in layer_types):
        raise UnsupportedError(f"{where}: layer_types differ from layer to layer; Empu's Llama has one kind.")


def _sliding_window(config: Json, family: ModelFamily, where: str) -> int | None:
    if not family.has_sliding_window:
        return None
    if "sliding_window" not in config:
        return family.default_sliding_window
    return optional_int(config, "sliding_window", where)


def _read_rope(config: Json, context_length: int, where: str) -> tuple[float, RopeScaling | LinearRopeScaling | None]:
    """Return (theta, scaling) from whichever notations are present. The default theta of transformers is 10,000."""
    outer_theta = get_float(config, "rope_theta", where, default=10_000.0)
    readings = [
        (
            get_float(notation, "rope_theta", f"{where}: {key}", default=outer_theta),
            _scaling(notation, context_length, f"{where}: {key}"),
        )
        for key in ("rope_scaling", "rope_parameters")
        if (notation := optional_object(config, key, where))
    ]
    if config.get("rope_theta") is not None and config.get("rope_scaling") is None:
        readings += [(outer_theta, readings[0][1] if readings else None)]  # transformers 4 has theta outside
    if not readings:
        return outer_theta, None
    if any(reading != readings[0] for reading in readings):
        raise CheckpointError(
            f"{where}: rope_theta, rope_scaling and rope_parameters contradict each other; keep the one that is meant."
        )
    return readings[0]


def _scaling(rope: Json, context_length: int, where: str) -> RopeScaling | LinearRopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("partial_rotary_factor") not in (None, 1):
        raise UnsupportedError(f"{where}: partial_rotary_factor is set; Empu's Llama rotates whole heads.")
    if kind == "default":
        if any(isinstance(value, dict) for value in rope.values()):
            raise UnsupportedError(f"{where} differs from layer to layer; Empu's Llama has one rotary embedding.")
        return None
    if kind == "linear":
        return LinearRopeScaling(get_float(rope, "factor", where))
    if kind == "llama3":
        original = optional_int(rope, "original_max_position_embeddings", where)
        return RopeScaling(
            factor=get_float(rope, "factor", where),
            low_freq_factor=get_float(rope, "low_freq_factor", where),
            high_freq_factor=get_float(rope, "high_freq_factor", where),
            original_context=context_length if original is None else original,
        )
    raise UnsupportedError(f"{where}: the type is {quoted(str(kind))}; Empu has default, linear and llama3.")


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
