"""The store's folder: models by content, names beside them, and nothing anywhere else.

    EMPU_HOME (or ~/.empu)
      models/<id>/model.json      the record
      models/<id>/files/…         the files, unless they were linked
      models/<id>/LICENSE         its licence text, where there is one
      models/<id>/verified.json   which files were hashed in full, and how they looked then
      models/names/<name>         one line: the id that the name means
      cache/packed/<key>.bin      weights as an engine reads them; these may go at any time (packed.py)
      ledger.db                   the ledger, which the store does not open itself
      tmp/<key>/                  a pull in progress, locked by its process; resumed or swept later

A model's folder and a name each appear in one step (a rename, a link), so that a crash leaves a finished model or none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from empu.errors import StoreError, UsageError
from empu.ledger.hashing import FileId, hash_file, tagged
from empu.store import model_record
from empu.store.model_record import ModelRecord
from empu.store.pull.progress import Progress, Silent
from empu.system import durable
from empu.system.paths import user_path

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DEFAULT = "default"
"""The name that means one pinned model, and can mean no other."""
RUN = "tune-"
"""How the keys of runs begin."""
LEFTOVER_DAYS = 7
"""Broken pulls are kept this long for being resumed."""

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})")
_SETTLED_NS = 50_000_000
"""A file that changed less than this before it was hashed is hashed again next time, since file clocks are coarse."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One model of the store under one of its names (``None``: it has no name)."""

    name: str | None
    folder: Path
    record: ModelRecord

    @property
    def files_root(self) -> Path:
        """Folder that the names in the record are relative to."""
        return Path(self.record.linked_to) if self.record.linked_to else self.folder / "files"

    @property
    def path(self) -> Path:
        """What to open: the GGUF file, or the model's folder."""
        return self.files_root / self.record.entry if self.record.entry else self.files_root


@dataclass(frozen=True, slots=True)
class Added:
    """What :meth:`Store.add` found: whether the model was new, and whether the name was."""

    model: StoredModel
    new_model: bool
    new_name: bool


class Store:
    """The models under one folder. Reading needs no lock; writers take turns."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.models = home / "models"
        self.names_folder = self.models / "names"
        self.tmp = home / "tmp"
        self.ledger_path = home / "ledger.db"

    @classmethod
    def of_user(cls) -> Store:
        """``EMPU_HOME``, or ``~/.empu``."""
        home = user_path(os.environ.get("EMPU_HOME") or "~/.empu").absolute()
        if home.exists() and not home.is_dir():
            raise StoreError(f"The store {home} is no folder; set EMPU_HOME to one, or to where one may be made.")
        return cls(home)

    # Asking

    def names(self) -> dict[str, str]:
        """Name -> id, in alphabetical order."""
        return {path.name: self._named(path) for path in self._name_files()}

    def all(self, damaged: Callable[[str], None] | None = None) -> list[StoredModel]:
        """Every name with its model, then the models without a name.

        Raises :class:`~empu.errors.StoreError` for one whose record cannot be read, or leaves it out and says so to
        ``damaged``.
        """
        found: list[StoredModel] = []
        tried: set[str] = set()

        def take(name: str | None, place: Path | str) -> None:
            try:
                identity = self._named(place) if isinstance(place, Path) else place
                tried.add(identity)
                found.append(self._load(name, identity))
            except StoreError as error:
                if damaged is None:
                    raise
                damaged(f"{name or str(place)[:12]} is left out: {error}")

        for path in self._name_files():
            take(path.name, path)
        for identity in sorted(set(self._ids()) - tried):
            take(None, identity)
        return found

    def named(self, name: str) -> StoredModel | None:
        """The model of that name."""
        identity = self.meaning(name)
        return self._load(name, identity) if identity is not None else None

    def meaning(self, name: str) -> str | None:
        """The id that ``name`` stands for now; ``None`` for no name of the store."""
        path = self.names_folder / name
        return self._named(path) if NAME.fullmatch(name) and path.is_file() else None

    def find(self, text: str) -> StoredModel | None:
        """The model of that name, or whose id begins so (at least 8 hex digits, ``sha256:`` in front or not)."""
        if (model := self.named(text)) is not None:
            return model
        if not (match := _ID.fullmatch(text)):
            return None
        matches = [identity for identity in self._ids() if identity.startswith(match[1])]
        if len(matches) > 1:
            raise UsageError(
                f"{len(matches)} models in the store have ids that begin with {match[1]}; give more of it."
            )
        if not matches:
            return None
        name = next((name for name, identity in self.names().items() if identity == matches[0]), None)
        return self._load(name, matches[0])

    def resolve(self, text: str) -> StoredModel | Path:
        """What a user means by MODEL: a name or id in the store, otherwise a path that exists.

        Raises :class:`~empu.errors.StoreError` when it is neither. Never fetches.
        """
        looks_like_path = "/" in text or text.startswith((".", "~"))
        if not looks_like_path and (model := self.find(text)) is not None:
            return model
        path = user_path(text)
        if text and path.exists():
            return path
        if text == DEFAULT:
            raise StoreError("The default model is not in the store yet; fetch it once with: empu pull default")
        if text.startswith("hf:"):
            raise StoreError(f"{text} names a repository, not a model here; fetch it first with: empu pull {text}")
        if looks_like_path:
            raise StoreError(f"{text} does not exist; give a GGUF file, the folder of a model, or a name in the store.")
        known = ", ".join(list(self.names())[:6])
        here = f"it has {known}" if known else "it is empty, and `empu pull default` brings the first one"
        raise StoreError(f"No model in the store is called {text!r} and no such path exists; {here}.")

    def base_of(self, model: StoredModel) -> StoredModel | None:
        """The model that ``model`` is an adapter of; ``None`` for a model that stands alone.

        Raises :class:`~empu.errors.StoreError` when it is gone.
        """
        if model.record.base is None:
            return None
        if (base := self.find(model.record.base)) is None:
            raise StoreError(
                f"{model.name or model.record.id[:12]} is tuned from {tagged(model.record.base[:12])}…, which is not "
                "in the store any more; pull that model again."
            )
        return base

    def verify(self, model: StoredModel, progress: Progress | None = None) -> None:
        """Make sure that every byte is the recorded one: by hash the first time and whenever a file looks touched
        (size, times, inode), otherwise by those looks.

        Raises :class:`~empu.errors.StoreError` naming the file.
        """
        progress = progress or Silent()
        seen = self._seen(model)
        looks: dict[str, list[int]] = {}
        for file in model.record.files:
            look = self._look(model, file)
            settled = time.time_ns() - look[2] > _SETTLED_NS
            if seen.get(file.name) != look:
                progress.start(f"checking {file.name}", file.size)
                digest = hash_file(model.files_root / file.name, progress.advance)
                progress.finish()
                if digest != file.sha256:
                    raise StoreError(
                        f"{model.files_root / file.name} changed since it was recorded: its SHA-256 is {digest[:16]}…, "
                        f"not {file.sha256[:16]}…; {self._remedy(model)}."
                    )
            if settled and self._look(model, file) == look:
                looks[file.name] = look
        if looks != seen and os.access(model.folder, os.W_OK):
            with durable.writing(model.folder):
                durable.write_atomically(model.folder / "verified.json", json.dumps(looks).encode())

    # Adding

    @contextmanager
    def staging(self, key: str, *, keep: bool = False) -> Iterator[Path]:
        """A folder inside the store for one pull, held by this process, and deleted at its end.

        With ``keep`` a pull that fails leaves it, so that the next one with the same ``key`` goes on from there; it is
        swept after a week, unless its key says that it is a run's.
        """
        folder = self.tmp / key
        with durable.writing(self.home):
            for needed in (self.home, self.models, self.names_folder, self.tmp, folder):
                needed.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.utime(folder)  # one that was left long ago is in use again
        self._sweep()
        busy = "Another empu process is fetching the same model; wait until it is done and run this command again."
        with durable.folder_lock(folder, wait_s=0.0, busy=busy):
            try:
                yield folder
            except BaseException:
                if not keep:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            durable.remove_tree(folder)

    def add(
        self,
        staged: Path,
        record: ModelRecord,
        name: str,
        licence_text: str | None = None,
        *,
        replace: bool = False,
        move_name: bool = False,
    ) -> Added:
        """Take a staged model (``staged``/files/… unless linked) into the store and give it ``name``.

        A model that is there already stays as it is, unless ``replace`` says that its files were found damaged. Raises
        :class:`~empu.errors.StoreError` when the name means another model; nothing has changed then. With ``move_name``
        the name leaves that model, which stays under its id.
        """
        check_name(name)
        target = self.models / record.id
        with self._writer():
            if not move_name:
                self.check_free(name, record.id)
            is_new = not (target / "model.json").exists()
            if is_new or replace:
                with durable.writing(self.home):
                    if record.licence.text_file and licence_text is not None:
                        (staged / record.licence.text_file).write_text(licence_text, encoding="utf-8")
                    (staged / "model.json").write_bytes(model_record.write(record))
                    self._protect(staged)
                    durable.flush_tree(staged)
                    if target.exists():
                        target.rename(staged.parent / "replaced")
                    staged.rename(target)
                    durable.flush_folder(self.models)
            with durable.writing(self.home):
                meaning = f"{record.id}\n".encode()
                new_name = durable.create_once(self.names_folder / name, meaning)
                if not new_name and move_name:
                    durable.write_atomically(self.names_folder / name, meaning)
        return Added(self._load(name, record.id), is_new or replace, new_name)

    def name_again(self, model: StoredModel, name: str) -> Added:
        """Give a model of the store another name."""
        check_name(name)
        with self._writer():
            self.check_free(name, model.record.id)
            with durable.writing(self.home):
                new_name = durable.create_once(self.names_folder / name, f"{model.record.id}\n".encode())
        return Added(self._load(name, model.record.id), False, new_name)

    def check_free(self, name: str, identity: str | None, remedy: str = "choose another one with --name") -> None:
        """Raise unless ``name`` is free or means ``identity`` already."""
        path = self.names_folder / name
        if path.is_file() and (taken := self._named(path)) != identity:
            raise StoreError(
                f"The name {name!r} already means another model ({tagged(taken[:12])}…) and keeps its meaning; "
                f"{remedy}."
            )

    # Inside

    @contextmanager
    def _writer(self) -> Iterator[None]:
        with durable.folder_lock(self.models, wait_s=60.0, busy=f"Another empu process keeps {self.models} locked."):
            yield

    def _name_files(self) -> list[Path]:
        if not self.names_folder.is_dir():
            return []
        return sorted(path for path in self.names_folder.iterdir() if NAME.fullmatch(path.name))

    def _ids(self) -> list[str]:
        if not self.models.is_dir():
            return []
        return sorted(p.name for p in self.models.iterdir() if len(p.name) == 64 and (p / "model.json").is_file())

    def _load(self, name: str | None, identity: str) -> StoredModel:
        folder = self.models / identity
        record = model_record.read(folder / "model.json")
        if record.id != identity:
            raise StoreError(f"{folder / 'model.json'} describes another model; delete {folder} and pull it again.")
        return StoredModel(name, folder, record)

    def _named(self, path: Path) -> str:
        try:
            identity = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{path} cannot be read ({error}); delete it and pull the model again.") from error
        if not re.fullmatch("[0-9a-f]{64}", identity):
            raise StoreError(f"{path} is damaged: it should hold a model's id; delete it and pull the model again.")
        return identity

    def _seen(self, model: StoredModel) -> dict[str, list[int]]:
        """Looks at the last full check. A missing or damaged note only means that everything is hashed again."""
        try:
            data = json.loads((model.folder / "verified.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}

    def _look(self, model: StoredModel, file: FileId) -> list[int]:
        path = model.files_root / file.name
        try:
            stat = path.stat()
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror}); {self._remedy(model)}.") from error
        if stat.st_size != file.size:
            raise StoreError(
                f"{path} has {stat.st_size:,} bytes and {file.size:,} were recorded; {self._remedy(model)}."
            )
        return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]

    def _remedy(self, model: StoredModel) -> str:
        if model.record.linked_to:
            return "put the recorded file back, or pull the changed one under another name"
        return f"bring it back with: empu pull {model.record.source.typed}"

    def _protect(self, staged: Path) -> None:
        for path in (staged / "files").rglob("*"):
            if path.is_file():
                path.chmod(0o444)

    def _sweep(self) -> None:
        """Delete what broken pulls left long ago, unless their process still runs. Runs that were stopped stay."""
        oldest = time.time() - LEFTOVER_DAYS * 86_400
        for folder in self.tmp.iterdir():
            if folder.name.startswith(RUN):
                continue
            try:
                if folder.is_dir() and max(path.stat().st_mtime for path in (folder, *folder.iterdir())) < oldest:
                    with durable.folder_lock(folder, wait_s=0.0, busy=""):
                        shutil.rmtree(folder, ignore_errors=True)
            except (StoreError, FileNotFoundError):
                continue  # in use, or swept by another process just now


def check_name(name: str) -> None:
    """Raise :class:`~empu.errors.UsageError` unless ``name`` can be the name of a model."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a model's name; use up to 64 small letters, digits, '.', '_' and '-', beginning with "
            "a letter or digit."
        )


def name_from(text: str) -> str:
    """A valid name made from a file or repository name."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", text.casefold()).strip("-._")
    return slug[:64].rstrip("-._") or "model"
