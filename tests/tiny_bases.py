"""Tiny Hugging Face folders with byte tokenizers, sound and faulty, for tests that need no knowledge of language."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from empu.checkpoint.tensor_names import expected_tensors
from empu.config import preset

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRICT = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must take turns') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""No system messages, and turns that alternate, as in Mistral 7B Instruct v0.1 and v0.2."""
SPECIAL_TOKENS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"


def write_base(
    folder: Path, template: str = CHATML, *, eos: str | None = "<|im_end|>", missing_rows: int = 0, **config: object
) -> Path:
    """Write a random model. ``missing_rows``: by how many tokens the tokenizer is larger than the model."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_TOKENS])
    tokenizer.save(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size() - missing_rows
    model = dataclasses.replace(preset("tiny"), vocab_size=size, context_length=1024)
    chance = np.random.default_rng(0)
    tensors = {
        tensor.stored_name: chance.standard_normal(tensor.shape, dtype=np.float32) * 0.05
        for tensor in expected_tensors(model, "huggingface")
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    described = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": model.n_layers,
        "hidden_size": model.dim,
        "num_attention_heads": model.n_heads,
        "num_key_value_heads": model.n_kv_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.ffn_dim,
        "vocab_size": size,
        "max_position_embeddings": 1024,
        "rms_norm_eps": model.norm_eps,
        "rope_theta": model.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": tokenizer.token_to_id("<s>"),
        "eos_token_id": None if eos is None else tokenizer.token_to_id(eos),
    }
    (folder / "config.json").write_text(json.dumps(described | config))
    settings = {"bos_token": "<s>", "eos_token": eos, "add_bos_token": False, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
