"""One server for all tests of a module; tests that disturb it start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.running_server import RunningServer, start_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with tiny models."""
    server = start_server(tmp_path_factory.mktemp("home"))
    yield server
    server.stop()
