"""The store: models identified by content, and the names that users give them.

    EMPU_HOME (or ~/.empu)
      models/<id>/model.json      the record
      models/<id>/files/…         the files, unless they are linked
      models/<id>/LICENSE         the licence text, if there is one
      models/<id>/verified.json   stamps of the files at their last full check (file_checks.py)
      models/names/<name>         one line: the id of the named model
      cache/packed/<key>.bin      weights in the layout of an engine; deletable at any time (weight_cache_cleanup.py)
      ledger.db                   the ledger, which the store itself does not open
      tmp/<key>/                  a pull or tuning run in progress (staging.py)

A model's folder and a name each appear in one atomic step, so a crash leaves a complete model or none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from empu.errors import StoreError, UsageError
from empu.ledger.hashing import tagged
from empu.store import model_record, staging
from empu.store.file_checks import check_files
from empu.store.model_record import ModelRecord
from empu.store.names import DEFAULT_NAME, NAME_PATTERN, check_name
from empu.store.progress import SilentProgress, TransferProgress
from empu.store.stored_model import StoredModel
from empu.system import durable
from empu.system.paths import user_path

MAX_NAMES_SHOWN = 6
WRITER_TIMEOUT_S = 60.0

_ID_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})")
_ID = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class AddResult:
    """Result of adding a model or a name: the model, and what of it was new."""

    model: StoredModel
    is_new_model: bool
    is_new_name: bool


class Store:
    """The models below one folder. Readers take no lock; writers take turns."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.models_folder = home / "models"
        self.names_folder = self.models_folder / "names"
        self.tmp_folder = home / "tmp"
        self.ledger_path = home / "ledger.db"

    @classmethod
    def of_user(cls) -> Store:
        """Return the store at ``EMPU_HOME``, or at ``~/.empu``."""
        home = user_path(os.environ.get("EMPU_HOME") or "~/.empu").absolute()
        if home.exists() and not home.is_dir():
            raise StoreError(f"The store {home} is not a folder; set EMPU_HOME to a folder or to a new path.")
        return cls(home)

    # Queries

    def names(self) -> dict[str, str]:
        """Return name -> id, in alphabetical order."""
        return {path.name: _read_name(path) for path in self._name_files()}

    def list_models(self, on_damaged: Callable[[str], None] | None = None) -> list[StoredModel]:
        """Return every named model, then the models without a name.

        A model whose record cannot be read raises :class:`~empu.errors.StoreError`. With ``on_damaged``, it is skipped
        and ``on_damaged`` receives the message.
        """
        models: list[StoredModel] = []
        tried: set[str] = set()
        for path in self._name_files():
            with _skip_damaged(path.name, on_damaged):
                model_id = _read_name(path)
                tried.add(model_id)
                models.append(self._load(path.name, model_id))
        for model_id in sorted(set(self._ids()) - tried):
            with _skip_damaged(model_id[:12], on_damaged):
                models.append(self._load(None, model_id))
        return models

    def find_by_name(self, name: str) -> StoredModel | None:
        """Return the model with this name."""
        model_id = self.id_of_name(name)
        return self._load(name, model_id) if model_id is not None else None

    def id_of_name(self, name: str) -> str | None:
        """Return the id of the model with this name; ``None`` if the store has no such name."""
        path = self.names_folder / name
        return _read_name(path) if NAME_PATTERN.fullmatch(name) and path.is_file() else None

    def find(self, text: str) -> StoredModel | None:
        """Return the model with this name, or whose id starts with it (at least 8 hex digits, ``sha256:`` allowed)."""
        if (model := self.find_by_name(text)) is not None:
            return model
        if not (match := _ID_PREFIX.fullmatch(text)):
            return None
        matches = [model_id for model_id in self._ids() if model_id.startswith(match[1])]
        if len(matches) > 1:
            raise UsageError(
                f"{len(matches)} models in the store have ids that start with {match[1]}; give more digits."
            )
        if not matches:
            return None
        name = next((name for name, model_id in self.names().items() if model_id == matches[0]), None)
        return self._load(name, matches[0])

    def resolve(self, text: str) -> StoredModel | Path:
        """Resolve a MODEL argument: a name or id in the store, otherwise an existing path. Never downloads.

        Raises :class:`~empu.errors.StoreError` if it is neither.
        """
        looks_like_path = "/" in text or text.startswith((".", "~"))
        if not looks_like_path and (model := self.find(text)) is not None:
            return model
        path = user_path(text)
        if text and path.exists():
            return path
        if text == DEFAULT_NAME:
            raise StoreError("The default model is not in the store yet; fetch it once with: empu pull default")
        if text.startswith("hf:"):
            raise StoreError(f"{text} is a repository, not a model in the store; fetch it first with: empu pull {text}")
        if looks_like_path:
            raise StoreError(f"{text} does not exist; give a GGUF file, the folder of a model, or a name in the store.")
        known = ", ".join(list(self.names())[:MAX_NAMES_SHOWN])
        hint = f"the store has {known}" if known else "the store is empty; add a first model with: empu pull default"
        raise StoreError(f"No model in the store is called {text!r} and no such path exists; {hint}.")

    def base_of(self, model: StoredModel) -> StoredModel | None:
        """Return the base model of an adapter; ``None`` for a complete model.

        Raises :class:`~empu.errors.StoreError` if the base is not in the store.
        """
        if model.record.base is None:
            return None
        if (base := self.find(model.record.base)) is None:
            raise StoreError(
                f"The base model of {model.name or model.record.id[:12]}, {tagged(model.record.base[:12])}…, is not in "
                "the store any more; pull it again."
            )
        return base

    def verify(self, model: StoredModel, progress: TransferProgress | None = None) -> None:
        """Check that the files of a model are the recorded ones; see :func:`~empu.store.file_checks.check_files`."""
        check_files(model, progress or SilentProgress())

    # Adding

    @contextmanager
    def staging(self, key: str, *, keep: bool = False) -> Iterator[Path]:
        """Create and lock a staging folder for one pull or run, and delete it at the end.

        With ``keep``, the folder stays after an error, so that the next call with the same ``key`` resumes. It is swept
        after a week, unless it belongs to a tuning run.
        """
        folder = self.tmp_folder / key
        with durable.explain_write_errors(self.home):
            for needed in (self.home, self.models_folder, self.names_folder, self.tmp_folder, folder):
                needed.mkdir(mode=0o700, parents=True, exist_ok=True)
            staging.mark_used(folder)
        staging.sweep(self.tmp_folder)
        with staging.locked_folder(folder, keep=keep):
            yield folder

    def add(
        self,
        staged: Path,
        record: ModelRecord,
        name: str,
        licence_text: str | None = None,
        *,
        replace: bool = False,
        move_name: bool = False,
    ) -> AddResult:
        """Move a staged model (``staged``/files/… unless linked) into the store and give it ``name``.

        A model that the store has already stays unchanged, unless ``replace`` says that its files are damaged. Raises
        :class:`~empu.errors.StoreError`, and changes nothing, if another model has the name. With ``move_name``, the
        name moves to the new model and the other one stays under its id.
        """
        check_name(name)
        target = self.models_folder / record.id
        with self._write_lock():
            if not move_name:
                self.check_name_free(name, record.id)
            is_new = not (target / "model.json").exists()
            if is_new or replace:
                with durable.explain_write_errors(self.home):
                    if record.licence.text_file and licence_text is not None:
                        (staged / record.licence.text_file).write_text(licence_text, encoding="utf-8")
                    (staged / "model.json").write_bytes(model_record.write(record))
                    _make_files_read_only(staged)
                    durable.fsync_tree(staged)
                    if target.exists():
                        target.rename(staged.parent / "replaced")
                    staged.rename(target)
                    durable.fsync_folder(self.models_folder)
            is_new_name = self._write_name(name, record.id, replace=move_name)
        return AddResult(self._load(name, record.id), is_new or replace, is_new_name)

    def add_name(self, model: StoredModel, name: str) -> AddResult:
        """Give a model of the store another name."""
        check_name(name)
        with self._write_lock():
            self.check_name_free(name, model.record.id)
            is_new_name = self._write_name(name, model.record.id)
        return AddResult(self._load(name, model.record.id), False, is_new_name)

    def check_name_free(self, name: str, model_id: str | None, remedy: str = "choose another one with --name") -> None:
        """Raise :class:`~empu.errors.StoreError` if ``name`` belongs to a model other than ``model_id``."""
        path = self.names_folder / name
        if path.is_file() and (taken := _read_name(path)) != model_id:
            raise StoreError(
                f"The name {name!r} belongs to another model already ({tagged(taken[:12])}…), and names do not change; "
                f"{remedy}."
            )

    # Helpers

    @contextmanager
    def _write_lock(self) -> Iterator[None]:
        busy = f"Another empu process has locked {self.models_folder}; wait for it to finish, then try again."
        with durable.folder_lock(self.models_folder, timeout_s=WRITER_TIMEOUT_S, busy_message=busy):
            yield

    def _write_name(self, name: str, model_id: str, *, replace: bool = False) -> bool:
        """Write the file of a name. Return whether the name is new."""
        content = f"{model_id}\n".encode()
        with durable.explain_write_errors(self.home):
            is_new = durable.create_exclusively(self.names_folder / name, content)
            if replace and not is_new:
                durable.write_atomically(self.names_folder / name, content)
        return is_new

    def _name_files(self) -> list[Path]:
        if not self.names_folder.is_dir():
            return []
        return sorted(path for path in self.names_folder.iterdir() if NAME_PATTERN.fullmatch(path.name))

    def _ids(self) -> list[str]:
        if not self.models_folder.is_dir():
            return []
        folders = self.models_folder.iterdir()
        return sorted(path.name for path in folders if len(path.name) == 64 and (path / "model.json").is_file())

    def _load(self, name: str | None, model_id: str) -> StoredModel:
        folder = self.models_folder / model_id
        record = model_record.read(folder / "model.json")
        if record.id != model_id:
            raise StoreError(f"{folder / 'model.json'} describes another model; delete {folder} and pull it again.")
        return StoredModel(name, folder, record)


@contextmanager
def _skip_damaged(label: str, on_damaged: Callable[[str], None] | None) -> Iterator[None]:
    """Report an error of the block to ``on_damaged``; raise it if that is ``None``."""
    try:
        yield
    except StoreError as error:
        if on_damaged is None:
            raise
        on_damaged(f"{label} is skipped: {error}")


def _read_name(path: Path) -> str:
    """Return the id in the file of a name."""
    try:
        model_id = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); delete it and pull the model again.") from error
    if not _ID.fullmatch(model_id):
        raise StoreError(f"{path} is damaged: it must hold the id of a model; delete it and pull the model again.")
    return model_id


def _make_files_read_only(staged: Path) -> None:
    for path in (staged / "files").rglob("*"):
        if path.is_file():
            path.chmod(0o444)
