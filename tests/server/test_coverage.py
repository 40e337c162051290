"""The table of docs/SERVER.md lists exactly what the request types do with each property."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from empu.server.http.request_model import RequestBody
from empu.server.openapi import BODIES

PAGE = Path(__file__).parents[2] / "docs" / "SERVER.md"


def code_list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def table_row(path: str, body: type[RequestBody]) -> str:
    return f"| `{path}` | {code_list(body.model_fields)} | {code_list(body.ignored)} | {code_list(body.refused)} |"


@pytest.mark.parametrize("path", BODIES)
def test_the_table_of_properties_is_true(path: str) -> None:
    assert table_row(path, BODIES[path]) in PAGE.read_text(encoding="utf-8").splitlines()
