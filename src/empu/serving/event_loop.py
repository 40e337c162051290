"""Carries updates from a scheduler's thread to the asyncio event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class EventLoopBridge:
    """Puts updates into asyncio queues from another thread, with one wake-up call for all that are pending."""

    def __init__(self) -> None:
        """Bind to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._pending: deque[tuple[asyncio.Queue[Any], Any]] = deque()
        self._is_scheduled = False

    def put(self, queue: asyncio.Queue[Any], update: object) -> None:
        """Put ``update`` into ``queue``. Call it from the scheduler's thread.

        Raises ``RuntimeError`` if the event loop is closed.
        """
        self._pending.append((queue, update))
        if not self._is_scheduled:
            self._is_scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                self._is_scheduled = False
                raise

    def _deliver(self) -> None:
        self._is_scheduled = False  # reset first: an update that is put from here on schedules a new call
        while self._pending:
            queue, update = self._pending.popleft()
            queue.put_nowait(update)
