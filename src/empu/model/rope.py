"""Rotary position embedding ("RoFormer", Su et al. 2021) on interleaved pairs, with Llama 3.1's frequency scaling.

Angles are computed in float32, as in the reference implementations: at long contexts their rounding is part of what the
models were trained with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from empu.config import LinearRopeScaling, ModelConfig, RopeScaling


def rope_frequencies(config: ModelConfig) -> Tensor:
    """(head_dim / 2,) float32: radians per position of each pair."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    scaling = config.rope_scaling
    if isinstance(scaling, LinearRopeScaling):
        return frequencies / scaling.factor
    return frequencies if scaling is None else _scale(frequencies, scaling)


def _scale(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1: divide low frequencies by ``factor``, keep high ones, interpolate between them."""
    wavelengths = 2 * math.pi / frequencies
    longest_kept = scaling.original_context / scaling.high_freq_factor
    shortest_scaled = scaling.original_context / scaling.low_freq_factor
    smooth = (scaling.original_context / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    interpolated = (1 - smooth) * frequencies / scaling.factor + smooth * frequencies
    scaled = torch.where(wavelengths > shortest_scaled, frequencies / scaling.factor, interpolated)
    return torch.where(wavelengths < longest_kept, frequencies, scaled)


def rope_cos_sin(frequencies: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (T, 1, head_dim / 2) float32, for integer ``positions`` (T,)."""
    angles = torch.outer(positions.to(torch.float32), frequencies.to(torch.float32))
    return angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (x0, x1) of ``x`` (T, heads, head_dim) by its angle; computed in float32."""
    x0, x1 = x.float().view(*x.shape[:-1], -1, 2).unbind(-1)
    rotated = torch.stack((x0 * cos - x1 * sin, x0 * sin + x1 * cos), dim=-1)
    return rotated.flatten(-2).type_as(x)
