"""The engines by name, and which one a machine gets."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from empu.checkpoint import Checkpoint
from empu.engine.backends.protocol import Backend
from empu.engine.backends.storage import AS_IT_IS, Storage
from empu.errors import MissingDependencyError, UsageError


def _torch(checkpoint: Checkpoint, threads: int | None, context: int | None, storage: Storage) -> Backend:
    try:
        from empu.engine.backends.torch import open_torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError(
            "The torch engine needs PyTorch, which is not installed; install it with: pip install 'empu[torch]'."
        ) from error
    storage.refuse("torch")
    return open_torch(checkpoint, threads=threads, context=context)


def _native(checkpoint: Checkpoint, threads: int | None, context: int | None, storage: Storage) -> Backend:
    try:
        from empu.engine.backends.native import open_native
    except ImportError as error:
        raise MissingDependencyError(
            "The native engine was not built with this installation; install a C++20 compiler (Debian: apt install "
            "g++) and install Empu again, or use --engine torch."
        ) from error
    return open_native(checkpoint, threads=threads, context=context, storage=storage)


def best() -> str:
    """The engine that "auto" means here: torch where there is an NVIDIA GPU, otherwise native where it was built."""
    if importlib.util.find_spec("empu.engine._native") is None:
        return "torch"
    has_gpu = Path("/dev/nvidiactl").exists() and importlib.util.find_spec("torch") is not None
    return "torch" if has_gpu else "native"


Opener = Callable[[Checkpoint, int | None, int | None, Storage], Backend]

ENGINES: dict[str, Opener] = {"native": _native, "torch": _torch}
"""Name -> what opens a checkpoint with (threads, context, storage)."""


def open_backend(
    checkpoint: Checkpoint,
    *,
    engine: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    storage: Storage = AS_IT_IS,
) -> Backend:
    """The backend called ``engine``; "auto" takes the best one that this machine has."""
    if engine == "auto":
        engine = best()
    if engine not in ENGINES:
        raise UsageError(f"There is no engine {engine!r}; there are auto, {', '.join(ENGINES)}.")
    return ENGINES[engine](checkpoint, threads, context, storage)
