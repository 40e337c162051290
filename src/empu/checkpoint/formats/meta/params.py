"""Meta's ``params.json`` -> :class:`ModelConfig`: what it says, what follows from it, and what it leaves unsaid."""

from __future__ import annotations

from empu.config import PRESETS, ModelConfig, RopeScaling
from empu.errors import CheckpointError, ConfigError, UnsupportedError
from empu.system.json_fields import Json, flag, integer, number, optional_integer

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
"""Keys of params.json that make another model -> what that model is."""

_LLAMA_2_THETA = 10_000.0
_SHAPES_OF_3_2 = {
    (shape.dim, shape.n_layers, shape.n_heads, shape.n_kv_heads)
    for shape in (PRESETS["llama-3.2-1b"], PRESETS["llama-3.2-3b"])
}


def read_params(params: Json, embedding_rows: int | None, where: str) -> ModelConfig:
    """The shape that ``params.json`` describes, for a model whose embedding has ``embedding_rows`` rows.

    Llama 2 leaves the vocabulary out or says -1; the embedding knows. A Meta folder always holds its output matrix, so
    nothing is ever tied. Raises :class:`UnsupportedError` and :class:`CheckpointError` naming the key.
    """
    for key, what in _UNSUPPORTED.items():
        if params.get(key) not in (None, False, -1):
            raise UnsupportedError(f"{where}: {key} says that this is {what}.")
    dim, n_heads = integer(params, "dim", where), integer(params, "n_heads", where)
    if n_heads < 1 or dim % n_heads:
        raise CheckpointError(f"{where}: dim {dim} is not a multiple of n_heads {n_heads}.")
    n_kv_heads = optional_integer(params, "n_kv_heads", where)
    try:
        config = ModelConfig(
            n_layers=integer(params, "n_layers", where),
            dim=dim,
            n_heads=n_heads,
            n_kv_heads=n_heads if n_kv_heads is None else n_kv_heads,
            head_dim=optional_integer(params, "head_dim", where) or dim // n_heads,
            ffn_dim=_ffn_dim(params, dim, where),
            vocab_size=_vocab_size(params, embedding_rows, where),
            norm_eps=number(params, "norm_eps", where, default=1e-5),
            rope_theta=number(params, "rope_theta", where, default=_LLAMA_2_THETA),
            sliding_window=optional_integer(params, "sliding_window", where),
        )
        scaling = _rope_scaling(params, config, where)
        return config.replace(rope_scaling=scaling, context_length=_context_length(config.rope_theta, scaling))
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _ffn_dim(params: Json, dim: int, where: str) -> int:
    """``hidden_dim`` where it is said, as Mistral does, else two thirds of four times ``dim``, times the multiplier,
    rounded up (``FeedForward`` in Meta's ``model.py``).
    """
    if (stated := optional_integer(params, "hidden_dim", where)) is not None:
        return stated
    multiple_of = optional_integer(params, "multiple_of", where) or 256
    multiplier = number(params, "ffn_dim_multiplier", where, default=1.0)
    if not (0 < multiplier <= 64 and 0 < multiple_of <= 1 << 20 and 0 < dim <= 1 << 20):
        raise CheckpointError(f"{where}: dim, multiple_of or ffn_dim_multiplier is out of range.")
    hidden = int(multiplier * int(2 * (4 * dim) / 3))
    return multiple_of * ((hidden + multiple_of - 1) // multiple_of)


def _vocab_size(params: Json, embedding_rows: int | None, where: str) -> int:
    stated = optional_integer(params, "vocab_size", where)
    if stated is not None and stated != -1:
        return stated
    if embedding_rows is None:
        raise CheckpointError(f"{where}: vocab_size is missing, and so is the embedding that would tell it.")
    return embedding_rows


def _rope_scaling(params: Json, config: ModelConfig, where: str) -> RopeScaling | None:
    """Llama 3.1's scaling where ``use_scaled_rope`` asks for it.

    The file does not say by which factor. Meta's reference code has 8 for all models, Meta's own Hugging Face releases
    of Llama 3.2 1B and 3B have 32, and those are what others serve; so the two shapes of Llama 3.2 get 32 here and all
    others 8. A key ``rope_scaling_factor`` (which Llama 4's files have) overrules both.
    """
    if not flag(params, "use_scaled_rope", where):
        return None
    shape = (config.dim, config.n_layers, config.n_heads, config.n_kv_heads)
    usual = RopeScaling(factor=32.0 if shape in _SHAPES_OF_3_2 else 8.0)
    return RopeScaling(
        factor=number(params, "rope_scaling_factor", where, default=usual.factor),
        high_freq_factor=number(params, "rope_high_freq_factor", where, default=usual.high_freq_factor),
    )


def _context_length(theta: float, scaling: RopeScaling | None) -> int:
    """Tokens of context, which the file leaves unsaid: 131,072 with scaled rope (3.1, 3.2), else 8,192 for Llama 3
    and 4,096 for Llama 2, which the base of the rotation tells apart.
    """
    if scaling is not None:
        return 131_072
    return 4096 if theta == _LLAMA_2_THETA else 8192
