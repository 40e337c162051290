"""Meta's ``params.json`` -> :class:`ModelConfig`, including the values that the file implies or leaves out."""

from __future__ import annotations

from empu.config import PRESETS, ModelConfig, RopeScaling
from empu.errors import CheckpointError, ConfigError, UnsupportedError
from empu.system.json_fields import Json, get_bool, get_float, optional_int, required_int

_UNSUPPORTED = {
    "quantization_args": "a quantised model; take the unquantised files, or a GGUF file",
    "lora_args": "a quantised model with adapters; take the unquantised files, or a GGUF file",
    "vision_chunk_size": "a vision model; Empu reads text models",
    "vision_model": "a vision model; Empu reads text models",
    "vision_args": "a vision model; Empu reads text models",
    "moe_args": "a mixture of experts; Empu reads dense models",
    "moe": "a mixture of experts; Empu reads dense models",
    "use_qk_norm": "a model with normalised queries and keys, as Llama 4",
    "nope_layer_interval": "a model with layers that lack rotary embedding, as Llama 4",
}
"""Key of ``params.json`` that another architecture has -> what that is."""

_LLAMA_2_THETA = 10_000.0
_LLAMA_3_2_SHAPES = {
    (config.dim, config.n_layers, config.n_heads, config.n_kv_heads)
    for config in (PRESETS["llama-3.2-1b"], PRESETS["llama-3.2-3b"])
}


def read_params(params: Json, embedding_rows: int | None, where: str) -> ModelConfig:
    """Return the model config of ``params.json``. ``where`` begins the error messages.

    Llama 2 leaves the vocabulary size out or writes -1; then it is ``embedding_rows``. A Meta folder always has its
    output matrix, so the output is never tied. Raises :class:`UnsupportedError` and :class:`CheckpointError` naming the
    key.
    """
    for key, description in _UNSUPPORTED.items():
        if params.get(key) not in (None, False, -1):
            raise UnsupportedError(f"{where}: {key} says that this is {description}.")
    dim, n_heads = required_int(params, "dim", where), required_int(params, "n_heads", where)
    if n_heads < 1 or dim % n_heads:
        raise CheckpointError(f"{where}: dim {dim} is not a multiple of n_heads {n_heads}.")
    n_kv_heads = optional_int(params, "n_kv_heads", where)
    try:
        config = ModelConfig(
            n_layers=required_int(params, "n_layers", where),
            dim=dim,
            n_heads=n_heads,
            n_kv_heads=n_heads if n_kv_heads is None else n_kv_heads,
            head_dim=optional_int(params, "head_dim", where) or dim // n_heads,
            ffn_dim=_ffn_dim(params, dim, where),
            vocab_size=_vocab_size(params, embedding_rows, where),
            norm_eps=get_float(params, "norm_eps", where, default=1e-5),
            rope_theta=get_float(params, "rope_theta", where, default=_LLAMA_2_THETA),
            sliding_window=optional_int(params, "sliding_window", where),
        )
        scaling = _rope_scaling(params, config, where)
        return config.replace(rope_scaling=scaling, context_length=_context_length(config.rope_theta, scaling))
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _ffn_dim(params: Json, dim: int, where: str) -> int:
    """Return ``hidden_dim`` if present, as in Mistral's files. Otherwise two thirds of four times ``dim``, times the
    multiplier, rounded up (``FeedForward`` in Meta's ``model.py``).
    """
    if (stated := optional_int(params, "hidden_dim", where)) is not None:
        return stated
    multiple_of = optional_int(params, "multiple_of", where) or 256
    multiplier = get_float(params, "ffn_dim_multiplier", where, default=1.0)
    if not (0 < multiplier <= 64 and 0 < multiple_of <= 1 << 20 and 0 < dim <= 1 << 20):
        raise CheckpointError(f"{where}: dim, multiple_of or ffn_dim_multiplier is out of range.")
    hidden = int(multiplier * int(2 * (4 * dim) / 3))
    return multiple_of * ((hidden + multiple_of - 1) // multiple_of)


def _vocab_size(params: Json, embedding_rows: int | None, where: str) -> int:
    stated = optional_int(params, "vocab_size", where)
    if stated is not None and stated != -1:
        return stated
    if embedding_rows is None:
        raise CheckpointError(f"{where}: vocab_size is missing, and there is no embedding to take it from.")
    return embedding_rows


def _rope_scaling(params: Json, config: ModelConfig, where: str) -> RopeScaling | None:
    """Return Llama 3.1's scaling if ``use_scaled_rope`` is set.

    The file leaves the factor out. Meta's reference code uses 8 for all models, but Meta's Hugging Face releases of
    Llama 3.2 1B and 3B, which everyone serves, have 32. So the two shapes of Llama 3.2 get 32 and all others 8. The key
    ``rope_scaling_factor``, which files of Llama 4 have, overrides both.
    """
    if not get_bool(params, "use_scaled_rope", where):
        return None
    shape = (config.dim, config.n_layers, config.n_heads, config.n_kv_heads)
    default = RopeScaling(factor=32.0 if shape in _LLAMA_3_2_SHAPES else 8.0)
    return RopeScaling(
        factor=get_float(params, "rope_scaling_factor", where, default=default.factor),
        high_freq_factor=get_float(params, "rope_high_freq_factor", where, default=default.high_freq_factor),
    )


def _context_length(theta: float, scaling: RopeScaling | None) -> int:
    """Return the context length, which the file leaves out.

    It is 131,072 with scaled rope (Llama 3.1 and 3.2), otherwise 8,192 for Llama 3 and 4,096 for Llama 2. Their rope
    theta tells these two apart.
    """
    if scaling is not None:
        return 131_072
    return 4096 if theta == _LLAMA_2_THETA else 8192
