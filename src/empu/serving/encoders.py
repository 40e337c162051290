"""The embedding models that a server answers with: opened when first asked for, used by one thread of their own."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from empu.embed.encoder import INSTALL, PACKAGE_MODEL, Embedded, Encoder
from empu.errors import BusyError, PromptTooLongError
from empu.serving.errors import ProblemError

MAX_TOKENS = 65_536
"""In one request."""
MAX_WAITING = 32
"""Requests at once; more are told to come back."""

_Asked = tuple[Future[list[Embedded]], Callable[[], list[Embedded]]]


class Encoders:
    """Names and open encoders."""

    def __init__(self, find: Callable[[], Iterable[tuple[str, Path]]] = lambda: ()) -> None:
        """``find`` gives the name and the folder of each encoder."""
        self._find = find
        self._open: dict[str, Encoder] = {}
        self._waiting = 0
        self._asked: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def names(self) -> list[str]:
        """Those that can be asked for."""
        return [name for name, _ in self._find()]

    async def embed(self, name: str, texts: list[str] | list[list[int]]) -> list[Embedded]:
        """Raises :class:`ProblemError` (404) where there is none, :class:`BusyError` for too many requests at once."""
        if self._waiting >= MAX_WAITING:
            raise BusyError(self._waiting)
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._begin(partial(self._embed, name, texts)))
        except PromptTooLongError as error:
            raise PromptTooLongError(error.prompt_tokens, error.limit, "shorten it") from None
        finally:
            self._waiting -= 1

    def _begin(self, work: Callable[[], list[Embedded]]) -> Future[list[Embedded]]:
        """A daemon's work: what waits takes no thread from others, and nothing waits for it when the process ends."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="empu-encoders", daemon=True)
            self._thread.start()
        future: Future[list[Embedded]] = Future()
        self._asked.put((future, work))
        return future

    def _work(self) -> None:
        while True:
            future, work = self._asked.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)

    def _embed(self, name: str, texts: list[str] | list[list[int]]) -> list[Embedded]:
        encoder = self._encoder(name)
        ids = [encoder.encode(text) if isinstance(text, str) else text for text in texts]
        if (total := sum(map(len, ids))) > MAX_TOKENS:
            message = f"input has {total:,} tokens and at most {MAX_TOKENS:,} are taken at once; send less."
            raise ProblemError(400, message, param="input", code="invalid_value")
        return encoder.embed_ids(ids)

    def _encoder(self, name: str) -> Encoder:
        if name not in self._open:
            folder = dict(self._find()).get(name)
            if folder is None:
                message = (
                    f"There is no embedding model called {name!r} here; install one with `{INSTALL}` and ask for "
                    f"{PACKAGE_MODEL!r}, or put a folder of BERT's form under `embeddings` in the store."
                )
                raise ProblemError(404, message, param="model", code="model_not_found")
            self._open[name] = Encoder(folder)
        return self._open[name]
