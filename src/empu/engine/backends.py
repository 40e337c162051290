"""The engines by name, and which one a machine gets."""

from __future__ import annotations

from collections.abc import Callable

from empu.checkpoint import Checkpoint
from empu.checkpoint.adapter import Adapter
from empu.engine.backend import Backend
from empu.errors import MissingDependencyError, UsageError


def _torch(checkpoint: Checkpoint, adapter: Adapter | None, threads: int | None, context: int | None) -> Backend:
    try:
        from empu.engine.torch_backend import open_torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError(
            "The torch engine needs PyTorch, which is not installed; install it with: pip install 'empu[torch]'."
        ) from error
    return open_torch(checkpoint, adapter=adapter, threads=threads, context=context)


Opener = Callable[[Checkpoint, Adapter | None, int | None, int | None], Backend]

ENGINES: dict[str, Opener] = {"torch": _torch}
"""Name -> what opens a checkpoint with (adapter, threads, context)."""


def open_backend(
    checkpoint: Checkpoint,
    *,
    adapter: Adapter | None = None,
    engine: str = "auto",
    threads: int | None = None,
    context: int | None = None,
) -> Backend:
    """The backend called ``engine``; "auto" takes the best one that this machine has."""
    if engine == "auto":
        engine = "torch"
    if engine not in ENGINES:
        raise UsageError(f"There is no engine {engine!r}; there are auto, {', '.join(ENGINES)}.")
    return ENGINES[engine](checkpoint, adapter, threads, context)
