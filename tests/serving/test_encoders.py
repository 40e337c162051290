"""The service that runs encoders in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from empu.errors import QueueFullError
from empu.serving.encoders import MAX_PENDING, EncoderService
from empu.serving.errors import RequestError
from tests.embed.test_encoder import save_tiny_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder")
    save_tiny_encoder(path)
    return path


def test_pending_requests_hold_no_thread_of_the_default_pool(folder: Path) -> None:
    gate = threading.Event()

    def list_encoders() -> list[tuple[str, Path]]:
        assert gate.wait(20)
        return [("ours", folder)]

    async def embed_many() -> int:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        encoders = EncoderService(list_encoders)
        tasks = [asyncio.create_task(encoders.embed("ours", ["cat"])) for _ in range(MAX_PENDING)]
        await asyncio.sleep(0)
        unrelated = await asyncio.wait_for(asyncio.to_thread(lambda: 7), 10)
        for task in tasks[1:5]:
            task.cancel()
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 4
        return unrelated

    assert asyncio.run(embed_many()) == 7


def test_too_many_pending_requests_are_refused() -> None:
    async def embed_many() -> list[Any]:
        encoders = EncoderService()
        tasks = [encoders.embed("nobody", ["cat"]) for _ in range(MAX_PENDING + 3)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    kinds = [type(result) for result in asyncio.run(embed_many())]
    assert kinds == [RequestError] * MAX_PENDING + [QueueFullError] * 3
