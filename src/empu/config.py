"""Model hyper-parameters: one frozen dataclass for the Llama family, and presets for well-known models.

Knows nothing of files, tensors or frameworks. Llama 2, 3, 3.1, 3.2 (text), SmolLM, TinyLlama and Mistral differ only in
the values of its fields.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from empu.errors import ConfigError

ModelFormat = Literal["gguf", "huggingface", "meta"]
"""The file formats that models come in."""


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3.1's frequency scaling ("The Llama 3 Herd of Models", section 3.4; Meta's ``apply_scaling``).

    Frequencies whose wavelength is above ``original_context / low_freq_factor`` are divided by ``factor``. Those below
    ``original_context / high_freq_factor`` stay as they are. Those between are interpolated.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192

    def __post_init__(self) -> None:
        for name in ("factor", "low_freq_factor", "high_freq_factor"):
            value = getattr(self, name)
            if not (_is_real(value) and 0 < value <= 1e6):
                raise ConfigError(f"RoPE scaling {name} is {value!r}; expected a number above 0 and at most 1e6.")
        if not self.high_freq_factor > self.low_freq_factor:
            raise ConfigError(
                f"RoPE scaling high_freq_factor ({self.high_freq_factor}) must be above low_freq_factor "
                f"({self.low_freq_factor})."
            )
        _check_int("RoPE scaling original_context", self.original_context, 1, 1 << 24)


@dataclass(frozen=True, slots=True)
class LinearRopeScaling:
    """Position interpolation: every frequency is divided by ``factor`` (Hugging Face ``rope_type: linear``)."""

    factor: float

    def __post_init__(self) -> None:
        if not (_is_real(self.factor) and 0 < self.factor <= 1e6):
            raise ConfigError(f"RoPE scaling factor is {self.factor!r}; expected a number above 0 and at most 1e6.")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Hyper-parameters of one model. Lengths count elements; ``context_length`` counts tokens.

    Raises :class:`~empu.errors.ConfigError` when a field is out of range or two fields contradict each other.
    """

    n_layers: int
    dim: int
    n_heads: int
    n_kv_heads: int
    ffn_dim: int
    vocab_size: int
    head_dim: int
    context_length: int = 8192
    norm_eps: float = 1e-5
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | LinearRopeScaling | None = None
    tie_embeddings: bool = False
    sliding_window: int | None = None

    def __post_init__(self) -> None:
        _check_int("n_layers", self.n_layers, 1, 1024)
        _check_int("dim", self.dim, 2, 1 << 17)
        _check_int("n_heads", self.n_heads, 1, 4096)
        _check_int("n_kv_heads", self.n_kv_heads, 1, 4096)
        _check_int("ffn_dim", self.ffn_dim, 1, 1 << 20)
        _check_int("vocab_size", self.vocab_size, 1, 1 << 22)
        _check_int("head_dim", self.head_dim, 2, 1024)
        _check_int("context_length", self.context_length, 1, 1 << 24)
        if self.n_heads % self.n_kv_heads:
            raise ConfigError(f"n_heads ({self.n_heads}) is not a multiple of n_kv_heads ({self.n_kv_heads}).")
        if self.head_dim % 2:
            raise ConfigError(f"head_dim is {self.head_dim}; rotary embedding needs an even number.")
        if not (_is_real(self.norm_eps) and 0 <= self.norm_eps < 1):
            raise ConfigError(f"norm_eps is {self.norm_eps!r}; expected a number from 0 to 1.")
        if not (_is_real(self.rope_theta) and 1 <= self.rope_theta <= 1e12):
            raise ConfigError(f"rope_theta is {self.rope_theta!r}; expected a number from 1 to 1e12.")
        if self.sliding_window is not None:
            _check_int("sliding_window", self.sliding_window, 1, 1 << 24)

    @property
    def kv_dim(self) -> int:
        """Number of elements of all key heads (or all value heads) of one position in one layer."""
        return self.n_kv_heads * self.head_dim

    @property
    def q_dim(self) -> int:
        """Number of elements of all query heads of one position in one layer."""
        return self.n_heads * self.head_dim

    def parameter_count(self) -> int:
        """Return the number of parameters; a tied output matrix counts once."""
        attention = self.dim * (2 * self.q_dim + 2 * self.kv_dim)
        layer = attention + 3 * self.dim * self.ffn_dim + 2 * self.dim
        embeddings = self.vocab_size * self.dim * (1 if self.tie_embeddings else 2)
        return self.n_layers * layer + embeddings + self.dim

    def kv_bytes_per_token(self, bytes_per_value: int = 2) -> int:
        """Return the bytes of KV cache that one token occupies over all layers."""
        return 2 * self.n_layers * self.kv_dim * bytes_per_value

    def flops_per_token(self, context: int = 0) -> int:
        """Return the floating-point operations (2 per multiply-add) of a forward pass of one token.

        ``context`` is the number of tokens that it attends to.
        """
        matrices = self.parameter_count() - self.dim * (2 * self.n_layers + 1)
        if not self.tie_embeddings:
            matrices -= self.vocab_size * self.dim  # the input embedding is a look-up
        return 2 * matrices + 4 * self.n_layers * self.q_dim * context

    def replace(self, **changes: object) -> ModelConfig:
        """Return a copy with some fields changed and checked again."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def _is_real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{name} is {value!r}; expected a whole number from {low:,} to {high:,}.")


_LLAMA_3_8B = ModelConfig(
    n_layers=32, dim=4096, n_heads=32, n_kv_heads=8, head_dim=128, ffn_dim=14336, vocab_size=128_256
)

PRESETS: dict[str, ModelConfig] = {
    "llama-3-8b": _LLAMA_3_8B,
    "llama-3-70b": _LLAMA_3_8B.replace(n_layers=80, dim=8192, n_heads=64, ffn_dim=28672),
    "llama-3.1-8b": _LLAMA_3_8B.replace(context_length=131_072, rope_scaling=RopeScaling()),
    "llama-3.2-1b": _LLAMA_3_8B.replace(
        n_layers=16,
        dim=2048,
        head_dim=64,
        ffn_dim=8192,
        context_length=131_072,
        tie_embeddings=True,
        rope_scaling=RopeScaling(factor=32.0),
    ),
    "llama-3.2-3b": _LLAMA_3_8B.replace(
        n_layers=28,
        dim=3072,
        n_heads=24,
        ffn_dim=8192,
        context_length=131_072,
        tie_embeddings=True,
        rope_scaling=RopeScaling(factor=32.0),
    ),
    "smollm2-135m": ModelConfig(
        n_layers=30,
        dim=576,
        n_heads=9,
        n_kv_heads=3,
        head_dim=64,
        ffn_dim=1536,
        vocab_size=49_152,
        rope_theta=100_000.0,
        tie_embeddings=True,
    ),
    "tiny": ModelConfig(
        n_layers=2,
        dim=64,
        n_heads=4,
        n_kv_heads=2,
        head_dim=16,
        ffn_dim=96,
        vocab_size=320,
        context_length=256,
        rope_theta=10_000.0,
    ),
}
"""Configs by exact name. A variant lists only what differs from its base."""


def preset(name: str) -> ModelConfig:
    """Return the config called ``name``. Raises :class:`~empu.errors.ConfigError` listing the known names."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ConfigError(f"No preset is called {name!r}; there are {', '.join(PRESETS)}.") from None
