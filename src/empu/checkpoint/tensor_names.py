"""The one page where three dialects meet: our tensor name <-> GGUF, Hugging Face and Meta name.

Each row says the tensor's shape in config terms and how the format stores it: whether Hugging Face permuted its rows
for rotary embedding, and along which axis Meta splits it over ``consolidated.NN.pth`` files.

Our canonical row order of query and key matrices is Meta's: the two elements that one rotation turns stand side by side
(x0, x1), (x2, x3), … GGUF ``llama`` files keep it. Hugging Face stores the first elements of all pairs of a head,
then the second ones; :func:`permute_rows` and :func:`unpermute_rows` are the two directions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from empu.config import ModelConfig

Shape = tuple[int, ...]
Heads = Literal["query", "key"]


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One line of the table. ``{i}`` in a name stands for the layer number."""

    name: str
    gguf: str
    huggingface: str
    meta: str
    shape: Callable[[ModelConfig], Shape]
    permuted: Heads | None = None
    """Whose head count governs the row permutation of the Hugging Face form; ``None`` where rows are plain."""
    meta_split: int | None = None
    """Axis along which Meta splits the tensor over several files; ``None`` where every file repeats it."""


TABLE: tuple[TensorRow, ...] = (
    TensorRow(
        "embedding.weight",
        "token_embd.weight",
        "model.embed_tokens.weight",
        "tok_embeddings.weight",
        lambda c: (c.vocab_size, c.dim),
        meta_split=1,
    ),
    TensorRow(
        "layers.{i}.attention_norm.weight",
        "blk.{i}.attn_norm.weight",
        "model.layers.{i}.input_layernorm.weight",
        "layers.{i}.attention_norm.weight",
        lambda c: (c.dim,),
    ),
    TensorRow(
        "layers.{i}.attention.q.weight",
        "blk.{i}.attn_q.weight",
        "model.layers.{i}.self_attn.q_proj.weight",
        "layers.{i}.attention.wq.weight",
        lambda c: (c.q_dim, c.dim),
        permuted="query",
        meta_split=0,
    ),
    TensorRow(
        "layers.{i}.attention.k.weight",
        "blk.{i}.attn_k.weight",
        "model.layers.{i}.self_attn.k_proj.weight",
        "layers.{i}.attention.wk.weight",
        lambda c: (c.kv_dim, c.dim),
        permuted="key",
        meta_split=0,
    ),
    TensorRow(
        "layers.{i}.attention.v.weight",
        "blk.{i}.attn_v.weight",
        "model.layers.{i}.self_attn.v_proj.weight",
        "layers.{i}.attention.wv.weight",
        lambda c: (c.kv_dim, c.dim),
        meta_split=0,
    ),
    TensorRow(
        "layers.{i}.attention.o.weight",
        "blk.{i}.attn_output.weight",
        "model.layers.{i}.self_attn.o_proj.weight",
        "layers.{i}.attention.wo.weight",
        lambda c: (c.dim, c.q_dim),
        meta_split=1,
    ),
    TensorRow(
        "layers.{i}.ffn_norm.weight",
        "blk.{i}.ffn_norm.weight",
        "model.layers.{i}.post_attention_layernorm.weight",
        "layers.{i}.ffn_norm.weight",
        lambda c: (c.dim,),
    ),
    TensorRow(
        "layers.{i}.feed_forward.gate.weight",
        "blk.{i}.ffn_gate.weight",
        "model.layers.{i}.mlp.gate_proj.weight",
        "layers.{i}.feed_forward.w1.weight",
        lambda c: (c.ffn_dim, c.dim),
        meta_split=0,
    ),
    TensorRow(
        "layers.{i}.feed_forward.up.weight",
        "blk.{i}.ffn_up.weight",
        "model.layers.{i}.mlp.up_proj.weight",
        "layers.{i}.feed_forward.w3.weight",
        lambda c: (c.ffn_dim, c.dim),
        meta_split=0,
    ),
    TensorRow(
        "layers.{i}.feed_forward.down.weight",
        "blk.{i}.ffn_down.weight",
        "model.layers.{i}.mlp.down_proj.weight",
        "layers.{i}.feed_forward.w2.weight",
        lambda c: (c.dim, c.ffn_dim),
        meta_split=1,
    ),
    TensorRow(
        "norm.weight",
        "output_norm.weight",
        "model.norm.weight",
        "norm.weight",
        lambda c: (c.dim,),
    ),
    TensorRow(
        "output.weight",
        "output.weight",
        "lm_head.weight",
        "output.weight",
        lambda c: (c.vocab_size, c.dim),
        meta_split=0,
    ),
)

Dialect = Literal["gguf", "huggingface", "meta"]


@dataclass(frozen=True, slots=True)
class NamedTensor:
    """One row of the table for one layer of one config."""

    name: str
    foreign: str
    shape: Shape
    row: TensorRow


def expected(config: ModelConfig, dialect: Dialect) -> Iterator[NamedTensor]:
    """Every tensor that ``config`` has, in table order, with its name in ``dialect``. A tied output is left out."""
    layers = range(config.n_layers)
    opening = [row for row in TABLE if row.name == "embedding.weight"]
    repeated = [row for row in TABLE if "{i}" in row.name]
    closing = [row for row in TABLE if "{i}" not in row.name and row.name != "embedding.weight"]
    for row in opening:
        yield _fill(row, None, config, dialect)
    for i in layers:
        for row in repeated:
            yield _fill(row, i, config, dialect)
    for row in closing:
        if row.name == "output.weight" and config.tie_embeddings:
            continue
        yield _fill(row, None, config, dialect)


def expected_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Our name -> row-major shape for every tensor of ``config``."""
    return {tensor.name: tensor.shape for tensor in expected(config, "meta")}


def our_name(foreign: str, dialect: Dialect) -> tuple[str, TensorRow] | None:
    """Our name and table row of a tensor called ``foreign`` in ``dialect``; ``None`` when the table has no such
    tensor.
    """
    for pattern, row in _PATTERNS[dialect]:
        if match := pattern.fullmatch(foreign):
            layer = match.groupdict().get("i")
            return (row.name if layer is None else row.name.replace("{i}", layer)), row
    return None


def permute_rows(
    array: npt.NDArray[np.generic], n_heads: int
) -> npt.NDArray[np.generic]:  # rows: (heads, pairs, 2) -> (heads, 2, pairs)
    """Our row order -> Hugging Face's, for a query or key matrix with ``n_heads`` heads (rows first)."""
    rows = array.shape[0]
    return array.reshape(n_heads, rows // n_heads // 2, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def unpermute_rows(
    array: npt.NDArray[np.generic], n_heads: int
) -> npt.NDArray[np.generic]:  # rows: (heads, 2, pairs) -> (heads, pairs, 2)
    """Hugging Face's row order -> ours; the inverse of :func:`permute_rows`."""
    rows = array.shape[0]
    return array.reshape(n_heads, 2, rows // n_heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def permuted_heads(row: TensorRow, config: ModelConfig) -> int | None:
    """Number of heads that governs the Hugging Face permutation of ``row``; ``None`` where rows are plain."""
    if row.permuted is None:
        return None
    return config.n_heads if row.permuted == "query" else config.n_kv_heads


def _fill(row: TensorRow, layer: int | None, config: ModelConfig, dialect: Dialect) -> NamedTensor:
    def numbered(name: str) -> str:
        return name if layer is None else name.replace("{i}", str(layer))

    return NamedTensor(numbered(row.name), numbered(getattr(row, dialect)), row.shape(config), row)


def _patterns(dialect: Dialect) -> list[tuple[re.Pattern[str], TensorRow]]:
    return [
        (re.compile(re.escape(getattr(row, dialect)).replace(r"\{i\}", r"(?P<i>0|[1-9][0-9]{0,3})")), row)
        for row in TABLE
    ]


_PATTERNS: dict[Dialect, list[tuple[re.Pattern[str], TensorRow]]] = {
    dialect: _patterns(dialect) for dialect in ("gguf", "huggingface", "meta")
}
