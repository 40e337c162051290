"""One server for all tests of a module; those that disturb it start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.serving import Running, start


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Tiny models, a key."""
    server = start(tmp_path_factory.mktemp("home"))
    yield server
    server.stop()
