"""The Llama transformer, as "The Llama 3 Herd of Models" (2024) and Meta's reference code have it.

Pre-norm blocks of grouped-query attention with rotary embedding, and SwiGLU; no biases. The whole of Llama 2, 3, 3.1,
3.2, SmolLM, TinyLlama and Mistral 7B is this page with other numbers. Parameters are called as in
``checkpoint/names.py``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from empu.config import ModelConfig
from empu.model.attention import Attend
from empu.model.rope import inverse_frequencies, rotate, rotation


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, the quotient in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scaled: Tensor = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return scaled.type_as(x) * self.weight


class Attention(nn.Module):
    """Grouped-query attention."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.q = nn.Linear(config.dim, config.q_dim, bias=False)
        self.k = nn.Linear(config.dim, config.kv_dim, bias=False)
        self.v = nn.Linear(config.dim, config.kv_dim, bias=False)
        self.o = nn.Linear(config.q_dim, config.dim, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        q, k, v = (project(x).view(len(x), -1, self.head_dim) for project in (self.q, self.k, self.v))
        met = attend(self.layer, rotate(q, *turn), rotate(k, *turn), v)
        out: Tensor = self.o(met.flatten(-2))
        return out


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.up = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class Block(nn.Module):
    """One layer: each half reads the normalised stream and adds to it."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(config, layer)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        x = x + self.attention(self.attention_norm(x), turn, attend)
        out: Tensor = x + self.feed_forward(self.ffn_norm(x))
        return out


class Transformer(nn.Module):
    """Token ids (T,) at positions (T,) -> logits. All sequences of a batch lie end to end; ``attend`` knows them."""

    frequencies: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # Neither a random draw here nor the frequencies' division happens on torch's "meta" device: there each first
        # imports the compiler of PyTorch, which takes seconds.
        table = torch.empty(config.vocab_size, config.dim)
        self.embedding = nn.Embedding(config.vocab_size, config.dim, _weight=table)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.output = None if config.tie_embeddings else nn.Linear(config.dim, config.vocab_size, bias=False)
        with torch.device("cpu"):
            self.register_buffer("frequencies", inverse_frequencies(config), persistent=False)

    def hidden(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """(T, dim): the stream after the last norm."""
        return self.hidden_of(self.embedding(tokens), positions, attend)

    def hidden_of(self, x: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """The same from embedded tokens (T, dim)."""
        out: Tensor = self.norm(self.run(x, positions, attend))
        return out

    def run(self, x: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """(T, dim): the stream after the last layer, from the embedded tokens (T, dim)."""
        turn = rotation(self.frequencies, positions)
        for block in self.layers:
            x = block(x, turn, attend)
        return x

    @property
    def output_weight(self) -> Tensor:
        """(vocab_size, dim): the output layer's, which may be the embedding's."""
        return self.embedding.weight if self.output is None else self.output.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, vocab_size) float32 from (N, dim)."""
        return F.linear(hidden.to(self.output_weight.dtype), self.output_weight).float()

    def forward(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """(T, vocab_size) float32."""
        return self.logits(self.hidden(tokens, positions, attend))
