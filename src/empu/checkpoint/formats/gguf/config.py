"""The keys of a Llama model in GGUF <-> :class:`ModelConfig`, and Llama 3.1's frequency factors.

Keys and their defaults are those of llama.cpp's ``llama`` architecture, which Mistral 7B files use too. A key that
llama.cpp requires is required here.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from empu.checkpoint.blocks import Floats
from empu.checkpoint.formats.gguf.container import GgufFile
from empu.config import LinearRopeScaling, ModelConfig, RopeScaling
from empu.errors import CheckpointError, ConfigError, UnsupportedError
from empu.system.json import shown

ROPE_FACTORS = "rope_freqs.weight"
"""The tensor of Llama 3.1's frequency scaling. It follows from the configuration, so it is not one of the weights."""

KEYS = {
    "n_layers": "llama.block_count",
    "dim": "llama.embedding_length",
    "n_heads": "llama.attention.head_count",
    "n_kv_heads": "llama.attention.head_count_kv",
    "ffn_dim": "llama.feed_forward_length",
    "vocab_size": "llama.vocab_size",
    "head_dim": "llama.attention.key_length",
    "context_length": "llama.context_length",
    "norm_eps": "llama.attention.layer_norm_rms_epsilon",
    "rope_theta": "llama.rope.freq_base",
    "sliding_window": "llama.attention.sliding_window",
}
"""Field of :class:`ModelConfig` -> the key that holds it."""

_SAME_AS_HEAD_DIM = ("llama.attention.value_length", "llama.rope.dimension_count")
_SCALING_TYPE, _LINEAR_FACTOR = "llama.rope.scaling.type", "llama.rope.scaling.factor"
_LOW, _HIGH = "llama.rope.scaling.low_freq_factor", "llama.rope.scaling.high_freq_factor"
_FACTOR = "llama.rope.scaling.freq_factor"
"""Keys of this project: what the frequency factors were made with. Files of others go without."""
_ORIGINAL_CONTEXT = "llama.rope.scaling.original_context_length"


def read_config(file: GgufFile) -> ModelConfig:
    """The shape that a file describes; a tied output is one that the file leaves out.

    Raises :class:`UnsupportedError` for what is not this architecture, :class:`CheckpointError` for a key that is
    missing, of the wrong type or out of range.
    """
    _refuse_others(file)
    heads, dim = _integer(file, KEYS["n_heads"]), _integer(file, KEYS["dim"])
    if heads < 1 or (KEYS["head_dim"] not in file.metadata and dim % heads):
        raise CheckpointError(
            f"{file.where(KEYS['n_heads'])} is {heads:,}, which does not divide the embedding length {dim:,}; the file "
            "is damaged."
        )
    head_dim = _integer(file, KEYS["head_dim"], dim // heads)
    for key in _SAME_AS_HEAD_DIM:
        if (value := _integer(file, key, head_dim)) != head_dim:
            raise UnsupportedError(
                f"{file.where(key)} is {value:,} and the heads have {head_dim:,} elements; Empu's Llama rotates whole "
                "heads and has keys and values of one length."
            )
    try:
        config = ModelConfig(
            n_layers=_integer(file, KEYS["n_layers"]),
            dim=dim,
            n_heads=heads,
            n_kv_heads=_integer(file, KEYS["n_kv_heads"], heads),
            ffn_dim=_integer(file, KEYS["ffn_dim"]),
            vocab_size=_integer(file, KEYS["vocab_size"], _embedding_rows(file)),
            head_dim=head_dim,
            context_length=_integer(file, KEYS["context_length"]),
            norm_eps=_number(file, KEYS["norm_eps"]),
            rope_theta=_number(file, KEYS["rope_theta"], 10_000.0),
            rope_scaling=_linear_scaling(file),
            tie_embeddings="output.weight" not in file.tensors,
            sliding_window=_integer(file, KEYS["sliding_window"], 0) or None,
        )
        return config.replace(rope_scaling=_frequency_scaling(file, config)) if ROPE_FACTORS in file.tensors else config
    except ConfigError as error:
        meant = [key for field, key in KEYS.items() if key in file.offsets and re.search(rf"\b{field}\b", str(error))]
        places = ", ".join(f"{key} at byte {file.offsets[key]:,}" for key in meant) or "keys llama.*"
        raise CheckpointError(f"{file.path}: {places}: {error}") from error


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The keys that :func:`read_config` reads back as ``config``, but for numbers finer than float32.

    The frequency factors of a :class:`RopeScaling` are a tensor; see :func:`rope_factors`.
    """
    held = {key: getattr(config, field) for field, key in KEYS.items()}
    keys: dict[str, Any] = {"general.architecture": "llama"}
    keys |= {key: value for key, value in held.items() if value is not None}
    keys |= {key: float(held[key]) for key in (KEYS["norm_eps"], KEYS["rope_theta"])}
    keys |= dict.fromkeys(_SAME_AS_HEAD_DIM, config.head_dim)
    if isinstance(config.rope_scaling, LinearRopeScaling):
        keys |= {_SCALING_TYPE: "linear", _LINEAR_FACTOR: float(config.rope_scaling.factor)}
    elif config.rope_scaling is not None:
        keys |= {
            _ORIGINAL_CONTEXT: config.rope_scaling.original_context,
            _FACTOR: float(config.rope_scaling.factor),
            _LOW: float(config.rope_scaling.low_freq_factor),
            _HIGH: float(config.rope_scaling.high_freq_factor),
        }
    return keys


def rope_factors(config: ModelConfig, scaling: RopeScaling) -> Floats:
    """(head_dim / 2,): what ``scaling`` divides each frequency by; ``rope_freqs.weight`` holds it."""
    frequencies = config.rope_theta ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
    turns = scaling.original_context * frequencies / (2 * np.pi)  # of each pair over the original context
    with np.errstate(all="ignore"):  # parameters from a file may be as extreme as they like
        kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        kept = np.clip(kept, 0, 1)
        return (1 / ((1 - kept) / scaling.factor + kept)).astype(np.float32)


def _refuse_others(file: GgufFile) -> None:
    """Valid files that are not one whole dense Llama model."""
    architecture = _text(file, "general.architecture")
    if architecture != "llama":
        raise UnsupportedError(
            f"{file.where('general.architecture')} is {shown(architecture)}; Empu opens the Llama family: Llama 2 to "
            "3.2 text, SmolLM, TinyLlama, Mistral 7B."
        )
    kind = _text(file, "general.type", "model")
    if kind != "model":
        raise UnsupportedError(f"{file.where('general.type')} is {shown(kind)}; Empu opens whole models.")
    parts = file.metadata.get("split.count", 1)
    if type(parts) is not int or parts > 1:
        raise UnsupportedError(
            f"{file.where('split.count')} says that this is one part of a split model; join the parts with llama.cpp's "
            "gguf-split --merge first."
        )
    if experts := _integer(file, "llama.expert_count", 0):
        raise UnsupportedError(
            f"{file.where('llama.expert_count')} is {experts:,}: a mixture of experts; Empu opens dense models."
        )


def _text(file: GgufFile, key: str, default: str | None = None) -> str:
    value = file.metadata.get(key, default)
    if isinstance(value, str):
        return value
    raise _wrong(file, key, value, "a string")


def _integer(file: GgufFile, key: str, default: int | None = None) -> int:
    value = file.metadata.get(key, default)
    if type(value) is int:
        return value
    raise _wrong(file, key, value, "a whole number")


def _number(file: GgufFile, key: str, default: float | None = None) -> float:
    """A number. One in float32 is taken as the shortest decimal that means it: 1e-5, not 9.99999974737875e-06."""
    value = file.metadata.get(key, default)
    if type(value) is int:
        return float(value)
    if type(value) is not float:
        raise _wrong(file, key, value, "a number")
    return float(str(np.float32(value))) if math.isfinite(value) and _is_float32(value) else value


def _is_float32(value: float) -> bool:
    return abs(value) <= float(np.finfo(np.float32).max) and float(np.float32(value)) == value


def _wrong(file: GgufFile, key: str, value: object, expected: str) -> CheckpointError:
    if value is None:
        return CheckpointError(f"{file.where(key)} is missing; the model cannot be known without it.")
    kinds = {bool: "true or false", str: "a string", int: "a whole number", float: "a fraction"}
    kind = kinds.get(type(value), "an array")
    return CheckpointError(f"{file.where(key)} is {kind}; expected {expected}.")


def _embedding_rows(file: GgufFile) -> int | None:
    embedding = file.tensors.get("token_embd.weight")
    return None if embedding is None else embedding.shape[0]


def _linear_scaling(file: GgufFile) -> LinearRopeScaling | None:
    """As llama.cpp has it: the type is linear where none is named, and a factor of 0 or 1 scales nothing."""
    kind = _text(file, _SCALING_TYPE, "linear")
    if kind == "none":
        return None
    if kind != "linear":
        raise UnsupportedError(
            f"{file.where(_SCALING_TYPE)} is {shown(kind)}; Empu has none, linear and the frequency "
            f"factors of Llama 3.1 ({ROPE_FACTORS})."
        )
    old = _number(file, "llama.rope.scale_linear", 1.0)
    factor = _number(file, _LINEAR_FACTOR, old)
    return None if factor in (0.0, 1.0) else LinearRopeScaling(factor)


def _frequency_scaling(file: GgufFile, config: ModelConfig) -> RopeScaling | None:
    """The scaling that gives the factors in the file: its own where it says so, else Llama 3.1's parameters with the
    largest factor as the whole one (8 in Llama 3.1, 32 in 3.2). ``None`` where all factors are 1.
    """
    place = file.tensors[ROPE_FACTORS]
    where = f"{file.path}: {ROPE_FACTORS} at byte {place.start:,}"
    if place.shape != (config.head_dim // 2,):
        raise CheckpointError(f"{where} has the shape {place.shape}; expected ({config.head_dim // 2},).")
    if config.rope_scaling is not None:
        raise UnsupportedError(f"{where} stands beside linear scaling; Empu computes the one or the other.")
    stored = place.type.unpack(file.data[place.start : place.end])
    known = RopeScaling()
    if _FACTOR not in file.metadata and bool((stored == 1).all()):
        return None
    scaling = RopeScaling(
        factor=_number(file, _FACTOR, float(stored.max())),
        low_freq_factor=_number(file, _LOW, known.low_freq_factor),
        high_freq_factor=_number(file, _HIGH, known.high_freq_factor),
        original_context=_integer(file, _ORIGINAL_CONTEXT, known.original_context),
    )
    expected = rope_factors(config, scaling)
    equal = np.abs(stored - expected) <= 1e-3 * expected  # made in float32, which the interpolation magnifies
    if not equal.all():
        first = int(np.argmin(equal))
        raise UnsupportedError(
            f"{where} holds other factors than Llama 3.1's scaling by {scaling.factor:g} (number {first} is "
            f"{stored[first]:g} instead of {expected[first]:g}); Empu does not compute these."
        )
    return scaling
