"""The table of docs/SERVER.md says exactly what the types of the requests do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from empu.server.anthropic import protocol as anthropic_types
from empu.server.http.openapi import BODIES
from empu.server.openai import embeddings
from empu.server.openai import protocol as openai_types
from empu.server.openai import responses_protocol as responses_types

PAGE = Path(__file__).parents[2] / "docs" / "SERVER.md"
LISTS: dict[str, Any] = {
    "/v1/chat/completions": openai_types,
    "/v1/completions": openai_types,
    "/v1/responses": responses_types,
    "/v1/embeddings": embeddings,
    "/v1/messages": anthropic_types,
    "/v1/messages/count_tokens": anthropic_types,
}


def names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def row(path: str, body: type[BaseModel]) -> str:
    honoured = set(body.model_fields)
    ignored = set(LISTS[path].IGNORED)
    refused = set(LISTS[path].REFUSED) - honoured
    return f"| `{path}` | {names(honoured - ignored)} | {names(ignored)} | {names(refused)} |"


@pytest.mark.parametrize("path", BODIES)
def test_the_table_is_true(path: str) -> None:
    assert row(path, BODIES[path]) in PAGE.read_text(encoding="utf-8").splitlines()
