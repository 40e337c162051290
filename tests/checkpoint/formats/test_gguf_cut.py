"""A GGUF file that was cut anywhere in its header says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.checkpoint import open_checkpoint
from empu.errors import CheckpointError
from tests.store.tiny_models import tiny_gguf


@pytest.mark.parametrize("size", [10, 30, 60, 200, 400, 1500, 3000, 6000, 20_000])
def test_a_cut_file_is_to_be_fetched_again(tmp_path: Path, size: int) -> None:
    content = tiny_gguf(tmp_path / "whole.gguf")
    (tmp_path / "cut.gguf").write_bytes(content[:size])
    with pytest.raises(CheckpointError, match="fetch it again"):
        open_checkpoint(tmp_path / "cut.gguf")
