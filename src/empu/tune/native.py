"""The transformer's layers and their gradients in the compiled engine, for adapters beside frozen weights on CPUs.

Frozen products run in 8 bits by groups of 32, forward and back; the adapters, norms and attention in float32.
Embedding, last norm, output layer and loss stay in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from empu.config import ModelConfig
from empu.engine import _native
from empu.errors import UsageError
from empu.model.attention import Attend, Packed
from empu.model.rope import rotation
from empu.model.transformer import Block, Transformer
from empu.tune.lora import TARGETS, Adapter, check_adapters


def fits(config: ModelConfig) -> bool:
    """Whether every layer of this shape divides into the groups that the compiled engine multiplies."""
    sizes = (config.dim, config.q_dim, config.kv_dim, config.ffn_dim)
    return all(size % 32 == 0 for size in sizes) and config.head_dim % 16 == 0


class NativeTransformer(Transformer):
    """A :class:`Transformer` whose layers run compiled; their modules hold norms and adapters only."""

    def __init__(self, model: Transformer, tuner: _native.Tuner, adapters: Sequence[nn.Parameter]) -> None:
        with torch.device("meta"):
            super().__init__(model.config)
        self.embedding, self.layers, self.norm, self.output = model.embedding, model.layers, model.norm, model.output
        self.frequencies = model.frequencies
        self._tuner = tuner
        self._adapters = list(adapters)
        self._pass = 0

    def run(self, x: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """(T, dim) float32: the stream after the last layer."""
        if not isinstance(attend, Packed):
            raise UsageError("Compiled layers run packed documents only; use the torch engine for anything else.")
        cosines, sines = (table.squeeze(1).repeat_interleave(2, -1) for table in rotation(self.frequencies, positions))
        sines[:, ::2].neg_()
        places = (cosines.numpy(), sines.numpy(), attend.prefix, attend.lengths)
        out: Tensor = _Layers.apply(x.float(), self, places, torch.is_grad_enabled(), *self._adapters)  # type: ignore[no-untyped-call]
        return out


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, native: NativeTransformer, places: tuple[Any, ...], keep: bool, *adapters: Tensor
    ) -> Tensor:
        out = torch.empty_like(x)
        parameters = torch.cat([adapter.detach().flatten() for adapter in adapters])
        cosines, sines, prefix, lengths = places
        native._pass += 1
        ctx.native, ctx.number, ctx.shapes = native, native._pass, [adapter.shape for adapter in adapters]
        native._tuner.forward(
            x.detach().numpy(), cosines, sines, prefix, lengths, parameters.numpy(), keep=keep, out=out.numpy()
        )
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.number != ctx.native._pass:
            raise RuntimeError("another pass has run since; compiled layers keep what is needed for one")
        gradients = torch.empty(ctx.native._tuner.parameters)
        ctx.native._tuner.back(grads[0].float().contiguous().numpy(), gradients.numpy())
        parts = torch.split_with_sizes(gradients, [shape.numel() for shape in ctx.shapes])
        views = [part.view(shape) for part, shape in zip(parts, ctx.shapes, strict=True)]
        return None, None, None, None, *views


def attach_native(
    model: Transformer,
    *,
    rank: int,
    alpha: float,
    targets: Sequence[str] = TARGETS,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    rounded: bool = True,
    threads: int | None = None,
    instructions: str = "",
) -> NativeTransformer:
    """What :func:`~empu.tune.lora.attach` does, compiled; ``model`` is used up.

    ``dtype`` is the type of embedding and output layer; ``rounded`` false keeps the frozen products in float32,
    which is slower and what the rounded ones are compared with. ``instructions`` as in
    :class:`~empu.engine.backends.native.NativeBackend`. Raises :class:`~empu.errors.UsageError` for unknown targets, a
    rank below 1, or layers that do not divide into groups.
    """
    check_adapters(rank, targets)
    config = model.config
    if not fits(config):
        raise UsageError(
            "This model's layers do not divide into groups of 32, which 8-bit tuning needs; drop --precision."
        )
    try:
        tuner = _native.Tuner(
            layers=config.n_layers,
            dim=config.dim,
            heads=config.n_heads,
            kv_heads=config.n_kv_heads,
            head_dim=config.head_dim,
            ffn_dim=config.ffn_dim,
            norm_eps=config.norm_eps,
            rank=rank,
            scale=alpha / rank,
            adapted=[target in targets for target in TARGETS],
            rounded=rounded,
            threads=threads or min(torch.get_num_threads(), _native.most_threads),
            ops=instructions,
        )
    except _native.Error as error:
        raise UsageError(str(error)) from None
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    parameters: list[nn.Parameter] = []
    for layer, block in enumerate(model.layers):
        assert isinstance(block, Block)
        tuner.set_norms(layer, _numbers(block.attention_norm.weight), _numbers(block.ffn_norm.weight))
        for half in (block.attention, block.feed_forward):
            for name, linear in list(half.named_children()):
                assert isinstance(linear, nn.Linear)
                tuner.set_weight(layer, TARGETS.index(name), _numbers(linear.weight))
                if name in targets:
                    adapter = Adapter((linear.out_features, linear.in_features), rank, alpha, generator)
                    parameters += [adapter.lora_a, adapter.lora_b]
                    setattr(half, name, adapter)
                else:
                    setattr(half, name, nn.Identity())
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return NativeTransformer(model, tuner, parameters)


def _numbers(weight: Tensor) -> np.ndarray:
    array: np.ndarray = weight.detach().float().contiguous().flatten().numpy()
    return array
