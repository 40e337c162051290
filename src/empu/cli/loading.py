"""From the word MODEL on a command line to a model that can answer: find it, check every byte, open it."""

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
from empu.store.store import Store, StoredModel

if TYPE_CHECKING:
    from empu.engine.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class Located:
    """What MODEL named."""

    path: Path
    stored: StoredModel | None
    adapter: Path | None = None
    """The folder of a specialist; ``path`` is its base then."""
    weights: str | None = None
    """Id of the model of the store whose files ``path`` are, checked against their hashes."""

    def identity(self) -> dict[str, str | None]:
        """For JSON. A model outside the store has no recorded id."""
        stored = self.stored
        return {
            "name": stored.name if stored else None,
            "id": tagged(stored.record.id) if stored else None,
            "path": str(self.stored.path if self.stored else self.path),
        }


def locate(text: str) -> Located:
    """Find MODEL; a model of the store is checked against its recorded hashes."""
    store = Store.of_user()
    found = store.resolve(text)
    if isinstance(found, Path):
        return Located(found, None)
    store.verify(found, output.progress())
    base = store.base_of(found)
    if base is None:
        return Located(found.path, found, None, found.record.id)
    store.verify(base, output.progress())
    return Located(base.path, found, found.path, base.record.id)


def open_located(
    located: Located,
    *,
    engine: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    quant: str | None = None,
    kv: str = "bf16",
) -> LanguageModel:
    """Open a model for answering."""
    from empu.engine.backends.storage import PackedPlace, Storage
    from empu.engine.language_model import open_model
    from empu.store import weight_cache

    store = Store.of_user()
    source = weight_cache.source(located.weights) if located.weights is not None else None
    place = PackedPlace(weight_cache.folder(store), source, output.say, partial(weight_cache.tidy, store))
    return open_model(
        located.path,
        adapter=located.adapter,
        engine=engine,
        threads=threads,
        context=context,
        storage=Storage(packed=place, quant=quant, kv=kv),
    )


def opening(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of :data:`~empu.cli.options.OPENING` among those that a command was given."""
    return {name: given[name] for name in ("engine", "threads", "context", "quant", "kv")}


class Cancellable(Protocol):
    """Work that can be asked to stop."""

    def cancel(self) -> None: ...


@contextmanager
def stopped_by_ctrl_c(work: Cancellable) -> Iterator[list[int]]:
    """Ctrl-C asks ``work`` to stop after its current token; a second one interrupts at once.

    Yields a list that is not empty once that happened.
    """
    presses: list[int] = []

    def on_press(number: int, frame: FrameType | None) -> Any:
        if presses:
            raise KeyboardInterrupt
        presses.append(number)
        work.cancel()

    before = signal.signal(signal.SIGINT, on_press)
    try:
        yield presses
    finally:
        signal.signal(signal.SIGINT, before)
