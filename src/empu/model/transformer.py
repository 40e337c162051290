"""The Llama transformer, as in "The Llama 3 Herd of Models" (2024) and Meta's reference code.

Pre-norm blocks of grouped-query attention with rotary embedding, and SwiGLU; no biases. Llama 2, 3, 3.1, 3.2, SmolLM,
TinyLlama and Mistral 7B are this page with other sizes. Parameters have the names of ``checkpoint/tensor_names.py``.

Shape letters: T tokens of the batch, H query heads, K key/value heads, D head_dim, C model width (``config.dim``).
All sequences of a batch lie end to end along T; a :class:`~empu.model.attention.SequenceBatch` tells them apart.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from empu.config import ModelConfig
from empu.model.attention import SequenceBatch
from empu.model.rope import apply_rope, rope_cos_sin, rope_frequencies

CosSin = tuple[Tensor, Tensor]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, the quotient in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        normalised: Tensor = x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + self.eps)
        return normalised.type_as(x) * self.weight


class Attention(nn.Module):
    """Grouped-query attention: project, split heads, rotate, update cache, attend, project back."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.q = nn.Linear(config.dim, config.q_dim, bias=False)
        self.k = nn.Linear(config.dim, config.kv_dim, bias=False)
        self.v = nn.Linear(config.dim, config.kv_dim, bias=False)
        self.o = nn.Linear(config.q_dim, config.dim, bias=False)

    def forward(self, x_tc: Tensor, rope: CosSin, sequences: SequenceBatch) -> Tensor:
        q, k, v = self.q(x_tc), self.k(x_tc), self.v(x_tc)
        q_thd, k_tkd, v_tkd = (split_heads(x, self.head_dim) for x in (q, k, v))
        q_thd, k_tkd = apply_rope(q_thd, *rope), apply_rope(k_tkd, *rope)
        kv = sequences.update_cache(self.layer, k_tkd, v_tkd)
        out_thd = sequences.attend(q_thd, kv)
        out_tc: Tensor = self.o(out_thd.flatten(-2))
        return out_tc


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """(T, heads * D) -> (T, heads, D)"""
    return x.view(len(x), -1, head_dim)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.up = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, config.dim, bias=False)

    def forward(self, x_tc: Tensor) -> Tensor:
        out_tc: Tensor = self.down(F.silu(self.gate(x_tc)) * self.up(x_tc))
        return out_tc


class Block(nn.Module):
    """One layer: attention and feed-forward, each on the normalised residual stream and added to it."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(config, layer)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(self, x_tc: Tensor, rope: CosSin, sequences: SequenceBatch) -> Tensor:
        x_tc = x_tc + self.attention(self.attention_norm(x_tc), rope, sequences)
        out_tc: Tensor = x_tc + self.feed_forward(self.ffn_norm(x_tc))
        return out_tc


class Transformer(nn.Module):
    """Token ids (T,) at positions (T,) -> logits (T, vocab_size)."""

    rope_frequencies: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # On torch's "meta" device, random initialisation and the division in rope_frequencies would each first import
        # PyTorch's compiler, which takes seconds. So neither happens there.
        table = torch.empty(config.vocab_size, config.dim)
        self.embedding = nn.Embedding(config.vocab_size, config.dim, _weight=table)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.output = None if config.tie_embeddings else nn.Linear(config.dim, config.vocab_size, bias=False)
        with torch.device("cpu"):
            self.register_buffer("rope_frequencies", rope_frequencies(config), persistent=False)

    def forward(self, tokens: Tensor, positions: Tensor, sequences: SequenceBatch) -> Tensor:
        """Logits (T, vocab_size) in float32."""
        return self.logits(self.hidden_states(tokens, positions, sequences))

    def hidden_states(self, tokens: Tensor, positions: Tensor, sequences: SequenceBatch) -> Tensor:
        """(T, C): the residual stream after the last norm."""
        return self.hidden_states_from_embeddings(self.embedding(tokens), positions, sequences)

    def hidden_states_from_embeddings(self, x_tc: Tensor, positions: Tensor, sequences: SequenceBatch) -> Tensor:
        """Like :meth:`hidden_states`, from embedded tokens (T, C)."""
        out_tc: Tensor = self.norm(self.run_layers(x_tc, positions, sequences))
        return out_tc

    def run_layers(self, x_tc: Tensor, positions: Tensor, sequences: SequenceBatch) -> Tensor:
        """(T, C): the residual stream after the last layer, from embedded tokens (T, C)."""
        rope = rope_cos_sin(self.rope_frequencies, positions)
        for block in self.layers:
            x_tc = block(x_tc, rope, sequences)
        return x_tc

    @property
    def output_weight(self) -> Tensor:
        """(vocab_size, C): weight of the output layer, which may be the embedding's."""
        return self.embedding.weight if self.output is None else self.output.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (N, vocab_size) in float32, from hidden states (N, C)."""
        return F.linear(hidden.to(self.output_weight.dtype), self.output_weight).float()
