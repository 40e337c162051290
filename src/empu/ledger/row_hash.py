"""How a row is found again: by the hash of its content, or by the hash of one of its texts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from empu.ledger.hashing import content_id


def row_id(fields: Mapping[str, Any]) -> str:
    """What a row is, in hex: SHA-256 of the canonical JSON of its fields."""
    return content_id(dict(fields))


def row_digest(content: bytes) -> bytes:
    """A row's id as 32 bytes, from its canonical JSON."""
    return hashlib.sha256(content).digest()


def text_digest(text: str) -> bytes:
    """32 bytes for a text; white space does not matter, so that a text copied from a screen is found."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).digest()
