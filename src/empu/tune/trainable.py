"""Make a loaded model trainable as a recipe says."""

from __future__ import annotations

import torch

from empu.model.transformer import Transformer
from empu.tune.lora import attach_lora
from empu.tune.native import attach_native
from empu.tune.recipe import Recipe


def make_trainable(model: Transformer, recipe: Recipe) -> Transformer:
    """Return a loaded float32 model (changed in place) with adapters, or with every weight trainable."""
    if recipe.method == "full":
        return model.requires_grad_(True)
    dtype = torch.bfloat16 if recipe.precision == "bfloat16" or has_fast_bfloat16() else torch.float32
    if recipe.precision == "int8":
        return attach_native(model, recipe.lora, dtype=dtype, threads=recipe.threads)
    return attach_lora(model, recipe.lora, dtype=torch.float32 if recipe.precision == "float32" else dtype)


def has_fast_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 in hardware."""
    capability = torch.cpu.get_capabilities()
    return bool(capability.get("avx512_bf16") or capability.get("amx_bf16"))
