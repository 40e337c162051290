"""GGUF files of our writer, opened by llama.cpp. It takes minutes to build, so it is not a test dependency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from empu.checkpoint import open_checkpoint
from empu.checkpoint.block_types import BLOCK_TYPES_BY_NAME
from empu.checkpoint.formats.gguf.writer import default_types, write_gguf


@pytest.mark.slow
@pytest.mark.parametrize("type_name", ["F32", "F16", "BF16", "Q8_0", "Q4_1", "Q4_0"])
def test_llama_cpp_computes_the_same_from_written_files(type_name: str, default_gguf: Path, tmp_path: Path) -> None:
    llama_cpp: Any = pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python (builds for minutes)")
    from empu.engine.backends.protocol import Chunk
    from empu.engine.backends.torch import open_torch

    path = tmp_path / "written.gguf"
    with open_checkpoint(default_gguf) as checkpoint:
        types = default_types(BLOCK_TYPES_BY_NAME[type_name])
        write_gguf(path, checkpoint.config, checkpoint.tensor, type_for=types, metadata=checkpoint.metadata)
    with open_checkpoint(path) as written:
        ours = open_torch(written)
    theirs = llama_cpp.Llama(str(path), n_ctx=256, n_threads=2, logits_all=True, verbose=False)
    tokens = theirs.tokenize(b"The capital of France is Paris, and the capital of Japan is", add_bos=False)
    theirs.eval(tokens)
    expected = np.array(theirs.scores[len(tokens) - 1])
    (got,) = ours.forward([Chunk(ours.allocate(256), np.array(tokens, dtype=np.int32))])
    assert int(got[-1].argmax()) == int(expected.argmax())
    correlation = np.corrcoef(got[-1], expected)[0, 1]
    assert correlation > 0.995
