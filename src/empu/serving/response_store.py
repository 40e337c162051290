"""Stored responses, by which a client continues a dialogue without sending it again. Kept in memory, bounded."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from empu.text.base import Message

MAX_RESPONSES = 1000
MAX_BYTES = 64 << 20
"""Of all stored responses together, written as JSON."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response with the dialogue that led to it."""

    owner: str
    document: dict[str, Any]
    """The response as it was sent; ``output`` is the list of its items."""
    messages: Sequence[Message]
    """The dialogue, the answer included, without instructions."""
    size: int


class ResponseStore:
    """Responses of all owners. The oldest are dropped when there are too many; each owner sees only its own."""

    def __init__(self, max_responses: int = MAX_RESPONSES, max_bytes: int = MAX_BYTES) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()
        self._size = 0

    def add(self, owner: str, document: dict[str, Any], messages: Sequence[Message]) -> None:
        """Store a response under ``document["id"]``."""
        size = len(json.dumps([document, list(messages)]))
        self._responses[document["id"]] = StoredResponse(owner, document, messages, size)
        self._size += size
        while len(self._responses) > self._max_responses or self._size > self._max_bytes:
            self._size -= self._responses.popitem(last=False)[1].size

    def get(self, owner: str, response_id: str) -> StoredResponse | None:
        """Return a response of ``owner``."""
        stored = self._responses.get(response_id)
        return stored if stored is not None and stored.owner == owner else None

    def delete(self, owner: str, response_id: str) -> bool:
        """Delete a response. Returns whether ``owner`` had it."""
        if self.get(owner, response_id) is None:
            return False
        self._size -= self._responses.pop(response_id).size
        return True

    def find_item(self, owner: str, item_id: str) -> dict[str, Any] | None:
        """Return an output item of one of ``owner``'s responses."""
        for stored in reversed(self._responses.values()):
            if stored.owner == owner:
                for item in stored.document["output"]:
                    if item["id"] == item_id:
                        found: dict[str, Any] = item
                        return found
        return None
