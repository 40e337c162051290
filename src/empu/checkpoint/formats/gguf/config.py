"""Model config in GGUF keys <-> :class:`ModelConfig`, and the frequency factors of Llama 3.1.

Keys and their defaults are those of llama.cpp's ``llama`` architecture, which Mistral 7B files use too. A key that
llama.cpp requires is required here.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from empu.checkpoint.block_types import FloatArray
from empu.checkpoint.families import GGUF_ARCHITECTURES, SUPPORTED_MODELS, family_for
from empu.checkpoint.formats.gguf.container import GgufFile
from empu.config import LinearRopeScaling, ModelConfig, RopeScaling
from empu.errors import CheckpointError, ConfigError, UnsupportedError
from empu.system.quoting import quoted

ROPE_FACTORS = "rope_freqs.weight"
"""The tensor with the frequency factors of Llama 3.1. It follows from the config, so it does not count as a weight."""

KEYS = {
    "n_layers": "block_count",
    "dim": "embedding_length",
    "n_heads": "attention.head_count",
    "n_kv_heads": "attention.head_count_kv",
    "ffn_dim": "feed_forward_length",
    "vocab_size": "vocab_size",
    "head_dim": "attention.key_length",
    "context_length": "context_length",
    "norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
    "sliding_window": "attention.sliding_window",
}
"""Field of :class:`ModelConfig` -> GGUF key, without the prefix that names the architecture."""

_SAME_AS_HEAD_DIM = ("attention.value_length", "rope.dimension_count")
_SCALING_TYPE = "rope.scaling.type"
_LINEAR_FACTOR = "rope.scaling.factor"
_OLD_LINEAR_FACTOR = "rope.scale_linear"
_ORIGINAL_CONTEXT = "rope.scaling.original_context_length"
_FREQ_FACTOR = "rope.scaling.freq_factor"
_LOW_FREQ_FACTOR = "rope.scaling.low_freq_factor"
_HIGH_FREQ_FACTOR = "rope.scaling.high_freq_factor"
"""Only Empu writes these three: the parameters from which the frequency factors were computed."""


def read_config(file: GgufFile) -> ModelConfig:
    """Return the config of a GGUF file. The output matrix is tied when the file has none.

    Raises :class:`UnsupportedError` for another architecture, and :class:`CheckpointError` for a key that is missing,
    of the wrong type or out of range.
    """
    return _ConfigReader(file).read()


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Return the keys that :func:`read_config` reads back as ``config``, with floats rounded to float32.

    The frequency factors of a :class:`RopeScaling` are a tensor; see :func:`rope_factors`.
    """
    architecture = family_for(config).gguf_architecture
    values: dict[str, Any] = {key: getattr(config, field) for field, key in KEYS.items()}
    values = {key: value for key, value in values.items() if value is not None}
    values |= {key: float(values[key]) for key in (KEYS["norm_eps"], KEYS["rope_theta"])}
    values |= dict.fromkeys(_SAME_AS_HEAD_DIM, config.head_dim)
    if isinstance(config.rope_scaling, LinearRopeScaling):
        values |= {_SCALING_TYPE: "linear", _LINEAR_FACTOR: float(config.rope_scaling.factor)}
    elif config.rope_scaling is not None:
        values |= {
            _ORIGINAL_CONTEXT: config.rope_scaling.original_context,
            _FREQ_FACTOR: float(config.rope_scaling.factor),
            _LOW_FREQ_FACTOR: float(config.rope_scaling.low_freq_factor),
            _HIGH_FREQ_FACTOR: float(config.rope_scaling.high_freq_factor),
        }
    return {"general.architecture": architecture} | {f"{architecture}.{key}": value for key, value in values.items()}


def rope_factors(config: ModelConfig, scaling: RopeScaling) -> FloatArray:
    """Return the divisor of each rotary frequency, (head_dim / 2,), as stored in ``rope_freqs.weight``."""
    frequencies = config.rope_theta ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
    rotations = scaling.original_context * frequencies / (2 * np.pi)  # of each pair over the original context
    with np.errstate(all="ignore"):  # the parameters of a file may be extreme
        smooth = (rotations - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        smooth = np.clip(smooth, 0, 1)
        return (1 / ((1 - smooth) / scaling.factor + smooth)).astype(np.float32)


class _ConfigReader:
    """Reads and checks the config keys of one file."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self._architecture = self._text("general.architecture")
        if self._architecture not in GGUF_ARCHITECTURES:
            raise UnsupportedError(
                f"{file.where('general.architecture')} is {quoted(self._architecture)}; Empu opens the Llama family: "
                f"{SUPPORTED_MODELS}."
            )

    def read(self) -> ModelConfig:
        file = self._file
        self._refuse_variants()
        n_heads, dim = self._int(self._key("n_heads")), self._int(self._key("dim"))
        if n_heads < 1 or (self._key("head_dim") not in file.metadata and dim % n_heads):
            raise CheckpointError(
                f"{file.where(self._key('n_heads'))} is {n_heads:,}, which does not divide the embedding length "
                f"{dim:,}; the file is damaged."
            )
        head_dim = self._head_dim(dim // n_heads)
        try:
            config = ModelConfig(
                n_layers=self._int(self._key("n_layers")),
                dim=dim,
                n_heads=n_heads,
                n_kv_heads=self._int(self._key("n_kv_heads"), n_heads),
                ffn_dim=self._int(self._key("ffn_dim")),
                vocab_size=self._int(self._key("vocab_size"), self._embedding_rows()),
                head_dim=head_dim,
                context_length=self._int(self._key("context_length")),
                norm_eps=self._float(self._key("norm_eps")),
                rope_theta=self._float(self._key("rope_theta"), 10_000.0),
                rope_scaling=self._linear_scaling(),
                tie_embeddings="output.weight" not in file.tensors,
                sliding_window=self._int(self._key("sliding_window"), 0) or None,
            )
            if ROPE_FACTORS in file.tensors:
                config = config.replace(rope_scaling=self._frequency_scaling(config))
        except ConfigError as error:
            keys = [self._key(field) for field in KEYS if re.search(rf"\b{field}\b", str(error))]
            found = [f"{key} at byte {file.offsets[key]:,}" for key in keys if key in file.offsets]
            where = ", ".join(found) or f"keys {self._prefixed('*')}"
            raise CheckpointError(f"{file.path}: {where}: {error}") from error
        return config

    def _refuse_variants(self) -> None:
        """Refuse files that are not one whole, dense model."""
        file = self._file
        kind = self._text("general.type", "model")
        if kind != "model":
            raise UnsupportedError(f"{file.where('general.type')} is {quoted(kind)}; Empu opens whole models.")
        n_parts = file.metadata.get("split.count", 1)
        if type(n_parts) is not int or n_parts > 1:
            raise UnsupportedError(
                f"{file.where('split.count')} says that this is one part of a split model; join the parts with "
                "llama.cpp's gguf-split --merge first."
            )
        key = self._prefixed("expert_count")
        if n_experts := self._int(key, 0):
            raise UnsupportedError(
                f"{file.where(key)} is {n_experts:,}: a mixture of experts; Empu opens dense models."
            )

    def _head_dim(self, default: int) -> int:
        head_dim = self._int(self._key("head_dim"), default)
        for key in map(self._prefixed, _SAME_AS_HEAD_DIM):
            if (value := self._int(key, head_dim)) != head_dim:
                raise UnsupportedError(
                    f"{self._file.where(key)} is {value:,} and the heads have {head_dim:,} elements; Empu's Llama "
                    "rotates whole heads and has keys and values of the same length."
                )
        return head_dim

    def _embedding_rows(self) -> int | None:
        embedding = self._file.tensors.get("token_embd.weight")
        return None if embedding is None else embedding.shape[0]

    def _linear_scaling(self) -> LinearRopeScaling | None:
        """Return the linear scaling, with llama.cpp's defaults: type linear, and a factor of 0 or 1 scales nothing."""
        key = self._prefixed(_SCALING_TYPE)
        kind = self._text(key, "linear")
        if kind == "none":
            return None
        if kind != "linear":
            raise UnsupportedError(
                f"{self._file.where(key)} is {quoted(kind)}; Empu has none, linear and the frequency factors of "
                f"Llama 3.1 ({ROPE_FACTORS})."
            )
        old_factor = self._float(self._prefixed(_OLD_LINEAR_FACTOR), 1.0)
        factor = self._float(self._prefixed(_LINEAR_FACTOR), old_factor)
        return None if factor in (0.0, 1.0) else LinearRopeScaling(factor)

    def _frequency_scaling(self, config: ModelConfig) -> RopeScaling | None:
        """Return the scaling that produces the frequency factors in the file; ``None`` when all factors are 1.

        Files of Empu name its parameters. For others they are Llama 3.1's, with the largest frequency factor as the
        scaling factor (8 in Llama 3.1, 32 in 3.2).
        """
        file = self._file
        tensor = file.tensors[ROPE_FACTORS]
        where = f"{file.path}: {ROPE_FACTORS} at byte {tensor.start:,}"
        if tensor.shape != (config.head_dim // 2,):
            raise CheckpointError(f"{where} has the shape {tensor.shape}; expected ({config.head_dim // 2},).")
        if config.rope_scaling is not None:
            raise UnsupportedError(f"{where} is combined with linear scaling; Empu supports one of the two.")
        stored = tensor.type.unpack(file.data[tensor.start : tensor.end])
        default = RopeScaling()
        if self._prefixed(_FREQ_FACTOR) not in file.metadata and bool((stored == 1).all()):
            return None
        scaling = RopeScaling(
            factor=self._float(self._prefixed(_FREQ_FACTOR), float(stored.max())),
            low_freq_factor=self._float(self._prefixed(_LOW_FREQ_FACTOR), default.low_freq_factor),
            high_freq_factor=self._float(self._prefixed(_HIGH_FREQ_FACTOR), default.high_freq_factor),
            original_context=self._int(self._prefixed(_ORIGINAL_CONTEXT), default.original_context),
        )
        expected = rope_factors(config, scaling)
        is_close = np.abs(stored - expected) <= 1e-3 * expected  # float32 errors grow in the interpolated part
        if not is_close.all():
            first = int(np.argmin(is_close))
            raise UnsupportedError(
                f"{where} holds other factors than Llama 3.1's scaling by {scaling.factor:g} (number {first} is "
                f"{stored[first]:g} instead of {expected[first]:g}); Empu does not support them."
            )
        return scaling

    def _key(self, field: str) -> str:
        """Return the full GGUF key of a field of :class:`ModelConfig`."""
        return self._prefixed(KEYS[field])

    def _prefixed(self, key: str) -> str:
        return f"{self._architecture}.{key}"

    def _text(self, key: str, default: str | None = None) -> str:
        value = self._file.metadata.get(key, default)
        if isinstance(value, str):
            return value
        raise self._wrong_type(key, value, "a string")

    def _int(self, key: str, default: int | None = None) -> int:
        value = self._file.metadata.get(key, default)
        if type(value) is int:
            return value
        raise self._wrong_type(key, value, "a whole number")

    def _float(self, key: str, default: float | None = None) -> float:
        """Return a number. A float32 becomes its shortest decimal: 1e-5 instead of 9.99999974737875e-06."""
        value = self._file.metadata.get(key, default)
        if type(value) is int:
            return float(value)
        if type(value) is not float:
            raise self._wrong_type(key, value, "a number")
        return float(str(np.float32(value))) if math.isfinite(value) and _is_float32(value) else value

    def _wrong_type(self, key: str, value: object, expected: str) -> CheckpointError:
        if value is None:
            return CheckpointError(f"{self._file.where(key)} is missing; the model cannot be known without it.")
        kinds = {bool: "true or false", str: "a string", int: "a whole number", float: "a fraction"}
        kind = kinds.get(type(value), "an array")
        return CheckpointError(f"{self._file.where(key)} is {kind}; expected {expected}.")


def _is_float32(value: float) -> bool:
    return abs(value) <= float(np.finfo(np.float32).max) and float(np.float32(value)) == value
