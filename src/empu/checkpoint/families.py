"""The table of model families: how each format names them, and the defaults of values that their configs leave out.

A further family of this architecture is one more row. What all families share, such as the names of config keys, is in
``config.py`` of each format.
"""

from __future__ import annotations

from dataclasses import dataclass

from empu.config import ModelConfig

SUPPORTED_MODELS = "Llama 2 to 3.2 text, SmolLM, TinyLlama, Mistral 7B"
"""For error messages."""


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """One row of the table. Defaults are those of the family's config class in transformers."""

    model_type: str
    """``model_type`` in ``config.json``."""
    architecture: str
    """The transformers class with this architecture. Others of the same ``model_type`` are refused."""
    gguf_architecture: str
    """``general.architecture`` in a GGUF file, which is also the prefix of its keys."""
    default_context_length: int
    default_n_kv_heads: int | None = None
    """``None``: as many as attention heads."""
    has_sliding_window: bool = False
    """Whether ``sliding_window`` means anything; a Llama ignores it, as in transformers."""
    default_sliding_window: int | None = None


FAMILIES: tuple[ModelFamily, ...] = (
    ModelFamily("llama", "LlamaForCausalLM", "llama", default_context_length=2048),
    ModelFamily(
        "mistral",
        "MistralForCausalLM",
        "llama",
        default_context_length=131_072,
        default_n_kv_heads=8,
        has_sliding_window=True,
        default_sliding_window=4096,
    ),
)

BY_MODEL_TYPE: dict[str, ModelFamily] = {family.model_type: family for family in FAMILIES}
GGUF_ARCHITECTURES: frozenset[str] = frozenset(family.gguf_architecture for family in FAMILIES)


def family_for(config: ModelConfig) -> ModelFamily:
    """Return the first family that can express ``config``."""
    needs_window = config.sliding_window is not None
    return next(family for family in FAMILIES if family.has_sliding_window or not needs_window)
