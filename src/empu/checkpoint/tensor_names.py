"""Tensor names: the table that maps the canonical name of each tensor to its GGUF, Hugging Face and Meta name.

Each row also gives the tensor's shape and how the formats store it: whether Hugging Face permutes its rows for rotary
embedding, and along which axis Meta splits it over ``consolidated.NN.pth`` files.

The canonical row order of query and key matrices is Meta's: the two elements that one rotation turns are neighbours
(x0, x1), (x2, x3), … GGUF ``llama`` files keep it. Hugging Face stores the first elements of all pairs of a head,
then the second ones. :func:`permute_rows` and :func:`unpermute_rows` convert between the two orders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from empu.config import ModelConfig, ModelFormat
from empu.system.files import ByteArray

Shape = tuple[int, ...]
Heads = Literal["query", "key"]


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One row of the table. ``{i}`` in a name stands for the layer number."""

    name: str
    gguf: str
    huggingface: str
    meta: str
    shape: Callable[[ModelConfig], Shape]
    permuted: Heads | None = None
    """Whose head count governs the row permutation of Hugging Face; ``None`` where rows are not permuted."""
    meta_split: int | None = None
    """Axis along which Meta splits the tensor over several files; ``None`` where every file has a copy."""


TENSORS: tuple[TensorRow, ...] = (
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


@dataclass(frozen=True, slots=True)
class ExpectedTensor:
    """One row of the table, filled in for one layer of one config."""

    name: str
    stored_name: str
    shape: Shape
    row: TensorRow


def expected_tensors(config: ModelConfig, format: ModelFormat) -> Iterator[ExpectedTensor]:
    """Yield every tensor of ``config`` with its name in ``format``, in table order. A tied output is left out."""
    opening = [row for row in TENSORS if row.name == "embedding.weight"]
    repeated = [row for row in TENSORS if "{i}" in row.name]
    closing = [row for row in TENSORS if "{i}" not in row.name and row.name != "embedding.weight"]
    for row in opening:
        yield _fill(row, None, config, format)
    for i in range(config.n_layers):
        for row in repeated:
            yield _fill(row, i, config, format)
    for row in closing:
        if row.name == "output.weight" and config.tie_embeddings:
            continue
        yield _fill(row, None, config, format)


def expected_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return the row-major shape of every tensor of ``config`` by canonical name."""
    return {tensor.name: tensor.shape for tensor in expected_tensors(config, "meta")}


def canonical_name(stored_name: str, format: ModelFormat) -> tuple[str, TensorRow] | None:
    """Return the canonical name and table row of a tensor by its name in ``format``; ``None`` if it is not listed."""
    for pattern, row in _PATTERNS[format]:
        if match := pattern.fullmatch(stored_name):
            layer = match.groupdict().get("i")
            return (row.name if layer is None else row.name.replace("{i}", layer)), row
    return None


def permute_rows(
    array: npt.NDArray[np.generic], n_heads: int
) -> npt.NDArray[np.generic]:  # rows: (heads, pairs, 2) -> (heads, 2, pairs)
    """Convert a query or key matrix (rows first) from the canonical row order to Hugging Face's."""
    rows = array.shape[0]
    return array.reshape(n_heads, rows // n_heads // 2, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def unpermute_rows(
    array: npt.NDArray[np.generic], n_heads: int
) -> npt.NDArray[np.generic]:  # rows: (heads, 2, pairs) -> (heads, pairs, 2)
    """Convert Hugging Face's row order to the canonical one; the inverse of :func:`permute_rows`."""
    rows = array.shape[0]
    return array.reshape(n_heads, 2, rows // n_heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def reorder_rows(data: ByteArray, shape: Shape, n_heads: int, reorder: Callable[[Any, int], Any]) -> ByteArray:
    """Apply :func:`permute_rows` or :func:`unpermute_rows` to the raw bytes of a matrix of any value type."""
    rows = data.reshape(shape[0], -1)
    return np.ascontiguousarray(reorder(rows, n_heads)).reshape(-1)


def permuted_heads(row: TensorRow, config: ModelConfig) -> int | None:
    """Return the number of heads of the Hugging Face permutation of ``row``; ``None`` where it is not permuted."""
    if row.permuted is None:
        return None
    return config.n_heads if row.permuted == "query" else config.n_kv_heads


def _fill(row: TensorRow, layer: int | None, config: ModelConfig, format: ModelFormat) -> ExpectedTensor:
    def with_layer(name: str) -> str:
        return name if layer is None else name.replace("{i}", str(layer))

    return ExpectedTensor(with_layer(row.name), with_layer(getattr(row, format)), row.shape(config), row)


def _patterns(format: ModelFormat) -> list[tuple[re.Pattern[str], TensorRow]]:
    return [
        (re.compile(re.escape(getattr(row, format)).replace(r"\{i\}", r"(?P<i>0|[1-9][0-9]{0,3})")), row)
        for row in TENSORS
    ]


_PATTERNS: dict[ModelFormat, list[tuple[re.Pattern[str], TensorRow]]] = {
    format: _patterns(format) for format in get_args(ModelFormat)
}
