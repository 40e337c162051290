"""The transformer's layers and their gradients in the compiled engine, for training adapters on CPUs.

Products with frozen weights run in 8 bits by groups of 32, forward and backward; adapters, norms and attention run in
float32. Embedding, last norm, output layer and loss stay in PyTorch.
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
from empu.model.attention import SequenceBatch
from empu.model.packed_documents import PackedDocuments
from empu.model.rope import rope_cos_sin
from empu.model.transformer import Block, Transformer
from empu.tune.lora import TARGET_MODULES, LoraConfig, LoraLayer


def supports_native(config: ModelConfig) -> bool:
    """Return whether every layer of this shape divides into the groups that the compiled engine multiplies."""
    sizes = (config.dim, config.q_dim, config.kv_dim, config.ffn_dim)
    return all(size % 32 == 0 for size in sizes) and config.head_dim % 16 == 0


class NativeTransformer(Transformer):
    """A :class:`Transformer` whose layers run compiled. Its layer modules hold norms and adapters only."""

    def __init__(
        self, model: Transformer, tuner: _native.LoraTransformer, lora_parameters: Sequence[nn.Parameter]
    ) -> None:
        with torch.device("meta"):
            super().__init__(model.config)
        self.embedding, self.layers, self.norm, self.output = model.embedding, model.layers, model.norm, model.output
        self.rope_frequencies = model.rope_frequencies
        self._tuner = tuner
        self._lora_parameters = list(lora_parameters)
        self._forward_count = 0

    def run_layers(self, x_tc: Tensor, positions: Tensor, sequences: SequenceBatch) -> Tensor:
        """(T, C) float32: the residual stream after the last layer."""
        if not isinstance(sequences, PackedDocuments):
            raise UsageError("The compiled layers only run packed documents; use the torch engine for anything else.")
        tables = rope_cos_sin(self.rope_frequencies, positions)
        cosines, sines = (table.squeeze(1).repeat_interleave(2, -1) for table in tables)
        sines[:, ::2].neg_()
        layout = (cosines.numpy(), sines.numpy(), sequences.prefix, sequences.lengths)
        out: Tensor = _Layers.apply(x_tc.float(), self, layout, torch.is_grad_enabled(), *self._lora_parameters)  # type: ignore[no-untyped-call]
        return out


class _Layers(torch.autograd.Function):
    """All layers as one node: activations stay in the compiled engine, which returns the adapters' gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        model: NativeTransformer,
        layout: tuple[Any, ...],
        keep_activations: bool,
        *lora_parameters: Tensor,
    ) -> Tensor:
        out = torch.empty_like(x)
        parameters = torch.cat([parameter.detach().flatten() for parameter in lora_parameters])
        cosines, sines, prefix, lengths = layout
        model._forward_count += 1
        ctx.model, ctx.forward_count = model, model._forward_count
        ctx.shapes = [parameter.shape for parameter in lora_parameters]
        model._tuner.forward(
            x.detach().numpy(),
            cosines,
            sines,
            prefix,
            lengths,
            parameters.numpy(),
            save_for_backward=keep_activations,
            out=out.numpy(),
        )
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.forward_count != ctx.model._forward_count:
            raise RuntimeError(
                "Another forward pass has run since; the compiled layers keep the activations of the last pass only."
            )
        gradients = torch.empty(ctx.model._tuner.num_parameters)
        ctx.model._tuner.backward(grads[0].float().contiguous().numpy(), gradients.numpy())
        parts = torch.split_with_sizes(gradients, [shape.numel() for shape in ctx.shapes])
        views = [part.view(shape) for part, shape in zip(parts, ctx.shapes, strict=True)]
        return None, None, None, None, *views


def attach_native(
    model: Transformer,
    lora: LoraConfig,
    *,
    dtype: torch.dtype = torch.float32,
    quantised: bool = True,
    threads: int | None = None,
    instructions: str = "",
) -> NativeTransformer:
    """Do what :func:`~empu.tune.lora.attach_lora` does, with compiled layers. ``model`` is used up.

    ``dtype`` is the type of embedding and output layer. With ``quantised`` false the products with frozen weights run
    in float32, which is slower and serves as the reference in tests. ``instructions`` as in
    :class:`~empu.engine.backends.native.NativeBackend`. Raises :class:`~empu.errors.UsageError` for a configuration
    that cannot be used, and for layers that do not divide into groups.
    """
    lora.check()
    config = model.config
    if not supports_native(config):
        raise UsageError(
            "This model's layers do not divide into groups of 32, which 8-bit training needs; leave out --precision."
        )
    try:
        tuner = _native.LoraTransformer(
            n_layers=config.n_layers,
            dim=config.dim,
            n_heads=config.n_heads,
            n_kv_heads=config.n_kv_heads,
            head_dim=config.head_dim,
            ffn_dim=config.ffn_dim,
            norm_eps=config.norm_eps,
            rank=lora.rank,
            lora_scale=lora.scale,
            has_adapter=[target in lora.targets for target in TARGET_MODULES],
            quantised=quantised,
            threads=threads or min(torch.get_num_threads(), _native.max_threads),
            instruction_set=instructions,
        )
    except _native.Error as error:
        raise UsageError(str(error)) from None
    generator = torch.Generator().manual_seed(lora.seed)
    model.requires_grad_(False)
    parameters: list[nn.Parameter] = []
    for layer, block in enumerate(model.layers):
        assert isinstance(block, Block)
        tuner.set_norms(layer, _float32_array(block.attention_norm.weight), _float32_array(block.ffn_norm.weight))
        for half in (block.attention, block.feed_forward):
            for name, linear in list(half.named_children()):
                assert isinstance(linear, nn.Linear)
                tuner.set_weight(layer, TARGET_MODULES.index(name), _float32_array(linear.weight))
                if name in lora.targets:
                    adapter = LoraLayer(linear.out_features, linear.in_features, lora, generator)
                    parameters += [adapter.lora_a, adapter.lora_b]
                    setattr(half, name, adapter)
                else:
                    setattr(half, name, nn.Identity())
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return NativeTransformer(model, tuner, parameters)


def _float32_array(weight: Tensor) -> np.ndarray:
    array: np.ndarray = weight.detach().float().contiguous().flatten().numpy()
    return array
