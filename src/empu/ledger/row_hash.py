"""Hashes that identify a row: of its content, and of each of its texts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from empu.ledger.hashing import content_id


def row_id(fields: Mapping[str, Any]) -> str:
    """Return the id of a row, in hex: the SHA-256 of the canonical JSON of its fields."""
    return content_id(dict(fields))


def row_digest(content: bytes) -> bytes:
    """Return the id of a row as 32 bytes, given its canonical JSON."""
    return hashlib.sha256(content).digest()


def text_digest(text: str) -> bytes:
    """Return the 32-byte digest of a text. White space is normalised, so that text copied from a screen matches."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).digest()
