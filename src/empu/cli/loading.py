"""Resolve the MODEL argument of a command, check its files against their hashes, and load it."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from empu.cli import output
from empu.ledger.hashing import tagged
from empu.store.store import Store
from empu.store.stored_model import StoredModel

if TYPE_CHECKING:
    from empu.engine.language_model import LanguageModel
    from empu.members.classifier import LabelClassifier


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The files and the store entry behind a MODEL argument."""

    path: Path
    stored: StoredModel | None
    adapter: Path | None = None
    """Folder of the adapter, if MODEL is a specialist; ``path`` is then its base model."""
    weights: str | None = None
    """Store id of the model at ``path``; ``None`` outside the store. Its files match their recorded hashes."""

    def identity(self) -> dict[str, str | None]:
        """Return name, id and path for JSON. A model outside the store has no name and no id."""
        stored = self.stored
        return {
            "name": stored.name if stored else None,
            "id": tagged(stored.record.id) if stored else None,
            "path": str(self.stored.path if self.stored else self.path),
        }


def resolve_model(text: str) -> ResolvedModel:
    """Find MODEL. Files of a model in the store are checked against their recorded hashes."""
    store = Store.of_user()
    model = store.resolve(text)
    if isinstance(model, Path):
        return ResolvedModel(model, None)
    store.verify(model, output.progress())
    base = store.base_of(model)
    if base is None:
        return ResolvedModel(model.path, model, None, model.record.id)
    store.verify(base, output.progress())
    return ResolvedModel(base.path, model, model.path, base.record.id)


def open_resolved(
    resolved: ResolvedModel,
    *,
    engine: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    quant: str | None = None,
    kv: str = "bf16",
) -> LanguageModel:
    """Load a model for inference."""
    from empu.engine.backends.options import BackendOptions, WeightCacheLocation
    from empu.engine.language_model import open_model
    from empu.store import weight_cache_cleanup

    store = Store.of_user()
    source = weight_cache_cleanup.cache_source(resolved.weights) if resolved.weights is not None else None
    location = WeightCacheLocation(
        weight_cache_cleanup.cache_folder(store), source, output.message, partial(weight_cache_cleanup.clean_up, store)
    )
    return open_model(
        resolved.path,
        adapter=resolved.adapter,
        engine=engine,
        threads=threads,
        context_length=context,
        options=BackendOptions(weight_cache=location, quant=quant, kv_cache=kv),
    )


def open_resolved_classifier(resolved: ResolvedModel, model: LanguageModel, *, fast: bool = False) -> LabelClassifier:
    """Return the classifier of a label specialist: its open language model with its other members."""
    from empu.embed.text_encoder import installed_encoders
    from empu.members.classifier import open_classifier

    home = Store.of_user().home
    return open_classifier(model, resolved.adapter or resolved.path, lambda: installed_encoders(home), fast=fast)


def loading_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Select the options of :data:`~empu.cli.options.LOADING_OPTIONS` from a command's options."""
    return {name: options[name] for name in ("engine", "threads", "context", "quant", "kv")}


class Cancellable(Protocol):
    """Work that can be cancelled."""

    def cancel(self) -> None: ...


@contextmanager
def cancel_on_ctrl_c(work: Cancellable) -> Iterator[list[int]]:
    """Cancel ``work`` on Ctrl-C; a second Ctrl-C raises ``KeyboardInterrupt``.

    Yields a list that is empty until the first Ctrl-C.
    """
    presses: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> Any:
        if presses:
            raise KeyboardInterrupt
        presses.append(number)
        work.cancel()

    previous = signal.signal(signal.SIGINT, on_signal)
    try:
        yield presses
    finally:
        signal.signal(signal.SIGINT, previous)
