"""Tiny models with random weights, preset ``tiny`` and one token per byte, by the writers of other projects."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from empu.checkpoint.tensor_names import expected_tensors
from empu.config import preset


def tiny_folder(folder: Path, *, shards: int = 1, seed: int = 0) -> dict[str, bytes]:
    """Write a Hugging Face folder; return file name -> bytes."""
    config = preset("tiny")
    rng = np.random.default_rng(seed)
    tensors = {
        tensor.stored_name: rng.standard_normal(tensor.shape, dtype=np.float32) * 0.05
        for tensor in expected_tensors(config, "huggingface")
    }
    folder.mkdir(parents=True, exist_ok=True)
    names = list(tensors)
    shard_names = {
        f"model-{i + 1:05}-of-{shards:05}.safetensors" if shards > 1 else "model.safetensors": names[i::shards]
        for i in range(shards)
    }
    for file, names_in_shard in shard_names.items():
        save_file({name: tensors[name] for name in names_in_shard}, folder / file, metadata={"format": "pt"})
    if shards > 1:
        weight_map = {name: file for file, names_in_shard in shard_names.items() for name in names_in_shard}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config_json = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": config.n_layers,
        "hidden_size": config.dim,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn_dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config_json))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def tiny_gguf(path: Path, *, seed: int = 0, licence: str | None = "mit") -> bytes:
    """Write a GGUF file of F32 tensors; return its bytes."""
    config = preset("tiny")
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    if licence is not None:
        writer.add_license(licence)
    writer.add_block_count(config.n_layers)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.dim)
    writer.add_feed_forward_length(config.ffn_dim)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab_size)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*alphabet, "ab"])
    writer.add_token_types([1] * (len(alphabet) + 1))
    writer.add_token_merges(["a b"])
    for tensor in expected_tensors(config, "gguf"):
        writer.add_tensor(tensor.stored_name, rng.standard_normal(tensor.shape, dtype=np.float32) * 0.05)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()
