"""The native encoder against the numpy one, which is its oracle, on random shapes and on the real models."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import BertConfig, BertModel

from empu.embed.bert_config import EncoderConfig, read_config
from empu.embed.discovery import find_encoders
from empu.embed.encoder import Encoder
from empu.embed.native_encoder import NativeEncoder
from empu.embed.numpy_encoder import NumpyEncoder
from empu.embed.weights import open_weights
from empu.engine import _native
from empu.errors import CheckpointError
from tests.embed.test_encoder import TEXTS, save_tiny_encoder

FloatArray = npt.NDArray[np.float32]

TICKETS = Path(__file__).resolve().parents[2] / "examples" / "helpdesk" / "tickets.csv"
POSITIONS = 140
SHAPES = [(32, 4, 64, 1), (96, 12, 32, 2), (64, 1, 96, 3), (160, 5, 320, 2), (128, 2, 512, 2), (192, 6, 160, 1)]
"""Width, heads, width of the feed-forward layer, layers."""
LENGTHS = [1, 2, 3, 17, 64, 65, 128, 129, 140, 5, 31]


def save_random_bert(folder: Path, dim: int, heads: int, ffn_dim: int, layers: int) -> EncoderConfig:
    torch.manual_seed(dim + heads)
    config = BertConfig(
        vocab_size=50, hidden_size=dim, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=ffn_dim,
        max_position_embeddings=POSITIONS, initializer_range=0.1,
    )  # fmt: skip
    model: Any = BertModel(config, add_pooling_layer=False)
    for parameter in model.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter, parameter.detach().mean().item(), 0.1)
    model.save_pretrained(folder)
    return read_config(folder)


def random_texts(lengths: list[int]) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 50, length).tolist() for length in lengths]


def check_cosines(vectors: FloatArray, expected: FloatArray, minimum: float) -> None:
    cosines = (vectors * expected).sum(axis=1)
    assert cosines.min() > minimum, f"cosine: mean {cosines.mean():.6f}, worst {cosines.min():.6f}"


@pytest.mark.parametrize(("dim", "heads", "ffn_dim", "layers"), SHAPES)
def test_random_shapes_agree_with_numpy(tmp_path: Path, dim: int, heads: int, ffn_dim: int, layers: int) -> None:
    config, weights = save_random_bert(tmp_path, dim, heads, ffn_dim, layers), open_weights(tmp_path)
    texts = random_texts(LENGTHS)
    native, oracle = NativeEncoder(config, weights), NumpyEncoder(config, weights)
    check_cosines(native.embed_ids(texts), oracle.embed_ids(texts), 0.999)


def test_vectors_have_the_same_bits_in_any_batch_with_any_threads_and_instructions(tmp_path: Path) -> None:
    config, weights = save_random_bert(tmp_path, 96, 3, 128, 2), open_weights(tmp_path)
    texts = random_texts(LENGTHS * 2)
    alone = NativeEncoder(config, weights, threads=1)
    expected = np.concatenate([alone.embed_ids([text]) for text in texts])
    for threads in (1, 2, 3):
        encoder = NativeEncoder(config, weights, threads=threads)
        np.testing.assert_array_equal(encoder.embed_ids(texts), expected)
        np.testing.assert_array_equal(encoder.embed_ids(texts[::-1])[::-1], expected)
        np.testing.assert_array_equal(encoder.embed_ids(texts[8:9]), expected[8:9])
    for instruction_set in _native.available_instruction_sets():
        encoder = NativeEncoder(config, weights, instruction_set=instruction_set)
        oracle = NativeEncoder(config, weights, instruction_set=_native.reference_instruction_set(instruction_set))
        np.testing.assert_array_equal(encoder.embed_ids(texts[:6]), oracle.embed_ids(texts[:6]))


def test_invalid_ids_and_lengths_are_refused_by_the_engine_itself(tmp_path: Path) -> None:
    config, weights = save_random_bert(tmp_path, 32, 4, 64, 1), open_weights(tmp_path)
    encoder = NativeEncoder(config, weights)
    for ids, message in (
        ([3, -1], "vocabulary"),
        ([50], "vocabulary"),
        ([0] * 141, "at most 140"),
        ([], "without any"),
    ):
        with pytest.raises(CheckpointError, match=message):
            encoder.embed_ids([ids])
    assert encoder.embed_ids([]).shape == (0, 32)


def test_other_shapes_run_in_numpy(tmp_path: Path) -> None:
    save_tiny_encoder(tmp_path)
    assert Encoder(tmp_path).backend == "native"
    save_tiny_encoder(tmp_path, dim=24)
    assert Encoder(tmp_path).backend == "numpy"
    assert len(Encoder(tmp_path).embed(TEXTS)) == len(TEXTS)


def test_real_encoders_agree_with_numpy() -> None:
    encoders = dict(find_encoders(Path.home() / ".empu"))
    if not encoders:
        pytest.skip("no encoder is installed")
    with TICKETS.open(encoding="utf-8") as file:
        tickets = [row["text"] for row in csv.DictReader(file)]
    texts = [*tickets[:20], " ".join(tickets[20:40])]
    for folder in encoders.values():
        native, oracle = Encoder(folder), Encoder(folder, backend="numpy")
        vectors, expected = (np.stack([e.vector for e in x.embed(texts, truncate=True)]) for x in (native, oracle))
        check_cosines(vectors, expected, 0.999)
