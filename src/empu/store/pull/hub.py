"""Repositories of a model hub: ``hf:ORG/NAME``, ``hf:ORG/NAME/file.gguf``, either with ``@revision``.

``huggingface_hub`` knows addresses, tokens, headers and errors; the files are streamed here, since a pull of many
gigabytes must go on after a broken connection or a killed process, and every byte is held against the hub's own hashes
before anything enters the store. What is fetched is config, tokenizer, safetensors and licence; never pickles or code.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from empu import __version__
from empu.checkpoint.formats.huggingface.config import read_config
from empu.checkpoint.formats.huggingface.folder import COMPANIONS, CONFIG, INDEX, WEIGHTS
from empu.checkpoint.model_card import PAPERS
from empu.errors import DownloadError, EmpuError, UsageError
from empu.ledger.hashing import CHUNK_BYTES
from empu.store.describe import Told
from empu.store.model_record import Source, Statement
from empu.store.pull.progress import Progress
from empu.system import durable
from empu.system.json import read_json_object

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

PREFIX = "hf:"
ATTEMPTS = 5
"""Connections tried in a row without a single new byte."""
PAUSE_S = 1.0
"""Before the second attempt; doubled after each."""
TIMEOUT_S = 30.0

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Address:
    """What ``hf:…`` names."""

    repository: str
    file: str | None = None
    """One GGUF file of the repository; ``None`` means the model that the repository is."""
    revision: str | None = None

    @classmethod
    def parse(cls, typed: str) -> Address:
        """Raises :class:`~empu.errors.UsageError` with the forms that there are."""
        path, _, revision = typed.removeprefix(PREFIX).partition("@")
        parts = path.split("/")
        repository, file = "/".join(parts[:2]), "/".join(parts[2:]) or None
        good_file = file is None or (file.endswith(".gguf") and _is_inside(file))
        if not _REPOSITORY.fullmatch(repository) or not good_file or (typed.count("@") == 1 and not revision):
            raise UsageError(
                f"{typed!r} is no address of a repository; write hf:ORG/NAME, hf:ORG/NAME@REVISION or "
                "hf:ORG/NAME/FILE.gguf."
            )
        return cls(repository, file, revision or None)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file as the hub describes it."""

    name: str
    size: int
    sha256: str | None
    """Of large files; small ones have only ``blob``."""
    blob: str | None
    """Git's SHA-1 of the file with its header."""

    def matches(self, path: Path) -> bool:
        """Whether the file at ``path`` has exactly the hub's bytes."""
        if path.stat().st_size != self.size:
            return False
        digest = hashlib.sha256() if self.sha256 else hashlib.sha1(usedforsecurity=False)
        if not self.sha256:
            digest.update(b"blob %d\0" % self.size)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest() == (self.sha256 or self.blob)


@dataclass(frozen=True, slots=True)
class Repository:
    """One commit of a repository: its files and what its card says."""

    address: Address
    endpoint: str
    commit: str
    files: dict[str, RemoteFile]
    told: Told

    def source(self, typed: str) -> Source:
        name = self.address.repository + (f"/{self.address.file}" if self.address.file else "")
        return Source(typed, "hub", f"{self.endpoint}/{name}", revision=self.commit)


def look_up(address: Address) -> Repository:
    """Ask the hub which commit is meant and which files it has. Raises :class:`~empu.errors.DownloadError`."""
    library = _library()
    endpoint = (os.environ.get("HF_ENDPOINT") or library.constants.ENDPOINT).rstrip("/")
    with _sentences(address, endpoint):
        api = library.HfApi(endpoint=endpoint, library_name="empu", library_version=__version__)
        info = api.model_info(address.repository, revision=address.revision, files_metadata=True, timeout=TIMEOUT_S)
    if not info.sha:
        raise DownloadError(f"{endpoint} does not say which commit {address.repository} is at; is it a model hub?")
    files = {}
    for sibling in info.siblings or ():
        sha256 = sibling.lfs.sha256 if sibling.lfs else None
        if not _is_inside(sibling.rfilename) or sibling.size is None or not (sha256 or sibling.blob_id):
            continue
        files[sibling.rfilename] = RemoteFile(sibling.rfilename, sibling.size, sha256, sibling.blob_id)
    return Repository(address, endpoint, info.sha, files, _told(info, address))


def fetch(repository: Repository, folder: Path, progress: Progress) -> None:
    """Fetch the model's files into ``folder``, going on where an earlier try stopped.

    Raises :class:`~empu.errors.DownloadError` when the model is not whole or a byte is wrong.
    """
    for file in _chosen(repository, folder, progress):
        _fetch_file(repository, file, folder / file.name, progress)


def fetch_file(repository: Repository, target: Path, progress: Progress) -> None:
    """Fetch the one file that the address names to ``target``, and the repository's licence beside it."""
    assert repository.address.file is not None, "the address names no file"
    for paper in _papers(repository):
        _fetch_file(repository, paper, target.parent / paper.name, progress)
    _fetch_file(repository, _one(repository, repository.address.file), target, progress)


def _chosen(repository: Repository, folder: Path, progress: Progress) -> Iterator[RemoteFile]:
    """Config, tokenizer and papers first, then the weights: one file, or those that the index lists.

    The config is read before any of the rest is fetched, so that what is not ours to open costs a kilobyte.
    """
    if CONFIG not in repository.files or not {INDEX, WEIGHTS} & set(repository.files):
        raise DownloadError(_no_model(repository))
    _fetch_file(repository, repository.files[CONFIG], folder / CONFIG, progress)
    read_config(read_json_object(folder / CONFIG), f"{CONFIG} of {repository.address.repository}")
    yield from (repository.files[name] for name in COMPANIONS if name in repository.files)
    yield from _papers(repository)
    if WEIGHTS in repository.files:
        yield repository.files[WEIGHTS]
        return
    _fetch_file(repository, repository.files[INDEX], folder / INDEX, progress)
    yield from (_one(repository, name) for name in _shards(folder / INDEX, repository))


def _fetch_file(repository: Repository, file: RemoteFile, target: Path, progress: Progress) -> None:
    folder = target.parent
    if target.is_file() and file.matches(target):
        return
    partial = target.with_name(f"{target.name}.{file.sha256 or file.blob}.part")
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    progress.start(file.name, file.size)
    _stream(repository, file, partial, progress)
    progress.finish()
    if partial.stat().st_size < file.size:
        raise DownloadError(
            f"{file.name} of {repository.address.repository} broke off; what came is kept, so run the same command "
            "again to go on."
        )
    if not file.matches(partial):
        partial.unlink()
        raise DownloadError(
            f"{file.name} of {repository.address.repository} did not arrive as the hub describes it (hash or size is "
            "wrong); nothing was added: run the command again."
        )
    with durable.writing(folder):
        partial.replace(target)


def _stream(repository: Repository, file: RemoteFile, partial: Path, progress: Progress) -> None:
    """Bring ``partial`` to the file's size, asking only for what is missing, over as many connections as it takes."""
    library, client = _library(), importlib.import_module("httpx2")
    url = library.hf_hub_url(
        repository.address.repository, file.name, revision=repository.commit, endpoint=repository.endpoint
    )
    headers = library.utils.build_hf_headers(library_name="empu", library_version=__version__)
    headers["Accept-Encoding"] = "identity"
    with durable.writing(partial):
        writer = partial.open("ab")
    with writer, _sentences(repository.address, repository.endpoint):
        have = writer.tell()
        progress.advance(have)
        failures = 0
        while have < file.size:
            before = have
            try:
                ranged = {**headers, "Range": f"bytes={have}-"} if have else headers
                with library.get_session().stream("GET", url, headers=ranged, timeout=TIMEOUT_S) as response:
                    library.utils.hf_raise_for_status(response)
                    whole = response.status_code != 206
                    length = response.headers.get("Content-Length")
                    if whole and length is not None and length != str(file.size):
                        raise DownloadError(
                            f"{repository.endpoint} answered with something else than {file.name} ({length} bytes, not "
                            f"{file.size:,}), such as a page to sign in on; what came before is kept."
                        )
                    if have and whole:  # it comes again from its beginning
                        progress.advance(-have)
                        have = _cut(writer)
                    for chunk in response.iter_raw():  # as it comes: a break loses nothing
                        have += len(chunk)
                        if have > file.size:
                            break
                        with durable.writing(partial):
                            writer.write(chunk)
                        progress.advance(len(chunk))
                if have > file.size:
                    raise DownloadError(
                        f"{file.name} of {repository.address.repository} is longer than the hub says ({file.size:,} "
                        "bytes); nothing was added."
                    )
            except client.TransportError as error:
                failures = 0 if have > before else failures + 1
                if failures >= ATTEMPTS:
                    raise
                if have == before:
                    time.sleep(PAUSE_S * 2 ** (failures - 1))
                logging.getLogger(__name__).info("%s: %s; going on at byte %d", file.name, error, have)
                continue
            if have == before:
                break  # an answer without a byte: the check of size and hash says the rest


def _cut(writer: Any) -> int:
    writer.seek(0)
    writer.truncate()
    return 0


def _library() -> Any:
    """``huggingface_hub`` without its telemetry, update checks and progress bars.

    It reads these settings when it is imported; where another program part did that before, the one that decides what
    is told is set again. Its caches are never used, and the user's saved token is.
    """
    for setting in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_UPDATE_CHECK", "HF_HUB_DISABLE_XET"):
        os.environ.setdefault(setting, "1")
    constants: Any = importlib.import_module("huggingface_hub.constants")
    constants.HF_HUB_DISABLE_TELEMETRY = True
    return importlib.import_module("huggingface_hub")


@contextmanager
def _sentences(address: Address, endpoint: str) -> Iterator[None]:
    """Turns the hub's errors into the sentence that helps."""
    library, client = _library(), importlib.import_module("httpx2")
    what = PREFIX + address.repository
    try:
        yield
    except EmpuError:
        raise
    except library.errors.GatedRepoError as error:
        raise DownloadError(
            f"{what} is gated: accept its terms on its page at {endpoint}/{address.repository}, then run `hf auth "
            "login` (or set HF_TOKEN to a token that may read it) and pull again."
        ) from error
    except library.errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"{what} is not on {endpoint}, or is private; check the spelling, and for a private repository run "
            "`hf auth login` or set HF_TOKEN."
        ) from error
    except library.errors.RevisionNotFoundError as error:
        raise DownloadError(f"{what} has no revision {address.revision!r}; check its branches and tags.") from error
    except library.errors.EntryNotFoundError as error:
        raise DownloadError(f"A file of {what} is missing on {endpoint}; try again, or report it there.") from error
    except library.errors.OfflineModeIsEnabled as error:
        raise DownloadError(
            f"{what} cannot be fetched while HF_HUB_OFFLINE is set; unset it and pull again."
        ) from error
    except library.errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = "check your token (HF_TOKEN, or `hf auth login`)" if status in (401, 403) else "try again later"
        raise DownloadError(f"{endpoint} answered {status} for {what}; {advice}.") from error
    except (client.TransportError, client.InvalidURL, client.DecodingError) as error:
        raise DownloadError(
            f"{endpoint} cannot be reached or broke off ({type(error).__name__}); what came is kept, so check the "
            "network and run the same command again to go on."
        ) from error
    except (ValueError, KeyError, TypeError) as error:  # an answer that is not the hub's JSON
        raise DownloadError(f"{endpoint} did not answer as a model hub does ({error}); check HF_ENDPOINT.") from error


def _papers(repository: Repository) -> list[RemoteFile]:
    """Licence, notice and policy."""
    return [file for name, file in repository.files.items() if any(paper.fullmatch(name) for paper in PAPERS)]


def _one(repository: Repository, name: str) -> RemoteFile:
    try:
        return repository.files[name]
    except KeyError:
        raise DownloadError(
            f"hf:{repository.address.repository} has no file {name}{_gguf_hint(repository, ' but ')}."
        ) from None


def _shards(index: Path, repository: Repository) -> list[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DownloadError(f"{INDEX} of {repository.address.repository} is damaged ({error}).") from error
    if not all(isinstance(name, str) and name.endswith(".safetensors") and _is_inside(name) for name in names):
        raise DownloadError(f"{INDEX} of {repository.address.repository} names files that are not safetensors.")
    return sorted(names)


def _no_model(repository: Repository) -> str:
    hint = _gguf_hint(repository, "; it has ")
    return f"hf:{repository.address.repository} has no config.json with safetensors{hint}" + (
        f": pull one with hf:{repository.address.repository}/FILE.gguf." if hint else "; choose another repository."
    )


def _gguf_hint(repository: Repository, lead: str) -> str:
    found = sorted(name for name in repository.files if name.endswith(".gguf"))
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"{lead}{', '.join(found[:5])}{more}" if found else ""


def _told(info: ModelInfo, address: Address) -> Told:
    """Licence, base and, for a single file, data sets as the repository's card has them. A folder brings its card."""
    card: dict[str, Any] = info.card_data.to_dict() if info.card_data is not None else {}  # type: ignore[no-untyped-call]
    who = f"the card of {info.id}"
    datasets = _strings(card.get("datasets"))
    statements = (Statement(who, "data sets: " + ", ".join(datasets)),) if datasets and address.file else ()
    licence = card.get("license_name") if card.get("license") == "other" else card.get("license")
    name = licence if isinstance(licence, str) and licence else None
    return Told(
        licence=name,
        licence_from=who if name else None,
        base_models=_strings(card.get("base_model")),
        statements=statements,
        title=info.id.split("/")[-1],
    )


def _strings(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _is_inside(name: str) -> bool:
    """Whether a file name from outside stays inside the folder that it is joined to."""
    path = PurePosixPath(name)
    return bool(name) and "\\" not in name and "\0" not in name and not path.is_absolute() and ".." not in path.parts
