"""The engines by name, and the default for this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from empu.checkpoint import Checkpoint
from empu.engine.backends.options import DEFAULT_OPTIONS, BackendOptions
from empu.engine.backends.protocol import Backend
from empu.errors import MissingDependencyError, UsageError


def open_backend(
    checkpoint: Checkpoint,
    *,
    engine: str = "auto",
    threads: int | None = None,
    context_length: int | None = None,
    options: BackendOptions = DEFAULT_OPTIONS,
) -> Backend:
    """Open a checkpoint with an engine of :data:`ENGINES`; "auto" takes :func:`default_engine`."""
    if engine == "auto":
        engine = default_engine()
    if engine not in ENGINES:
        raise UsageError(f"There is no engine {engine!r}; choose from auto, {', '.join(ENGINES)}.")
    return ENGINES[engine](checkpoint, threads, context_length, options)


def default_engine() -> str:
    """Return the engine that "auto" means: torch with an NVIDIA GPU, otherwise native where it is built."""
    if importlib.util.find_spec("empu.engine._native") is None:
        return "torch"
    has_gpu = Path("/dev/nvidiactl").exists() and importlib.util.find_spec("torch") is not None
    return "torch" if has_gpu else "native"


def _open_native(
    checkpoint: Checkpoint, threads: int | None, context_length: int | None, options: BackendOptions
) -> Backend:
    try:
        from empu.engine.backends.native import open_native
    except ImportError as error:
        raise MissingDependencyError(
            "The native engine was not built with this installation; install a C++20 compiler (Debian: apt install "
            "g++) and install Empu again, or use --engine torch."
        ) from error
    return open_native(checkpoint, threads=threads, context_length=context_length, options=options)


def _open_torch(
    checkpoint: Checkpoint, threads: int | None, context_length: int | None, options: BackendOptions
) -> Backend:
    try:
        from empu.engine.backends.torch import open_torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError(
            "The torch engine needs PyTorch, which is not installed; install it with: pip install 'empu[torch]'."
        ) from error
    options.require_defaults("torch")
    return open_torch(checkpoint, threads=threads, context_length=context_length)


OpenFunction = Callable[[Checkpoint, int | None, int | None, BackendOptions], Backend]

ENGINES: dict[str, OpenFunction] = {"native": _open_native, "torch": _open_torch}
"""Name -> function that opens a checkpoint with (threads, context_length, options)."""
