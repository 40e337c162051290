"""Tool calls of Mistral: one JSON array."""

from __future__ import annotations

import hashlib

from empu.serving.tools.dialect import ToolDialect


def short_call_id(call_id: str) -> str:
    """Return nine letters or digits, the only form of an id that Mistral's templates accept."""
    return hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:9]


MISTRAL = ToolDialect(is_native=True, opening="[", separator=", ", closing="]", convert_call_id=short_call_id)
