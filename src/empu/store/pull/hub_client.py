"""Queries to a model hub through ``huggingface_hub``: the files of a repository, its model card, and error messages.

``huggingface_hub`` handles addresses, tokens, headers and errors. Its caches are not used; the user's saved token is.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from empu import __version__
from empu.errors import DownloadError, EmpuError
from empu.ledger.hashing import CHUNK_BYTES
from empu.store.describe import SourceMetadata
from empu.store.model_record import Statement

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file as the hub describes it."""

    name: str
    size: int
    sha256: str | None
    """Hash of a large file; a small file has only ``blob``."""
    blob: str | None
    """Git's SHA-1 of the file with its header."""

    def matches(self, path: Path) -> bool:
        """Return whether the file at ``path`` has the size and hash that the hub states."""
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
    """One commit of a repository: its files and the metadata of its model card."""

    name: str
    revision: str | None
    """Revision that was asked for."""
    commit: str
    endpoint: str
    files: dict[str, RemoteFile]
    metadata: SourceMetadata
    dataset_statements: tuple[Statement, ...]
    """What the model card says about the training data."""

    def file(self, name: str) -> RemoteFile:
        """Return a file by name. Raises :class:`~empu.errors.DownloadError` if the repository does not have it."""
        if name not in self.files:
            raise DownloadError(f"hf:{self.name} has no file {name}{self.gguf_hint(' but ')}.")
        return self.files[name]

    def gguf_hint(self, lead: str) -> str:
        """Return ``lead`` and the names of the GGUF files; empty if there are none."""
        names = sorted(name for name in self.files if name.endswith(".gguf"))
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return f"{lead}{', '.join(names[:5])}{more}" if names else ""


def query_repository(name: str, revision: str | None) -> Repository:
    """Ask the hub for the commit of a revision and its files. Raises :class:`~empu.errors.DownloadError`."""
    library = hub_library()
    endpoint = (os.environ.get("HF_ENDPOINT") or library.constants.ENDPOINT).rstrip("/")
    with translate_errors(name, endpoint, revision):
        api = library.HfApi(endpoint=endpoint, library_name="empu", library_version=__version__)
        info = api.model_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
    if not info.sha:
        raise DownloadError(f"{endpoint} does not state the commit of {name}; check that it is a model hub.")
    files = {}
    for sibling in info.siblings or ():
        sha256 = sibling.lfs.sha256 if sibling.lfs else None
        if not stays_inside(sibling.rfilename) or sibling.size is None or not (sha256 or sibling.blob_id):
            continue
        files[sibling.rfilename] = RemoteFile(sibling.rfilename, sibling.size, sha256, sibling.blob_id)
    return Repository(name, revision, info.sha, endpoint, files, *_read_card(info))


def stays_inside(name: str) -> bool:
    """Return whether a file name from the hub stays inside the folder that it is joined to."""
    path = PurePosixPath(name)
    return bool(name) and "\\" not in name and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def hub_library() -> Any:
    """Import ``huggingface_hub`` without its telemetry, update checks and progress bars.

    The library reads these settings when it is imported. If it was imported before, the telemetry setting is changed.
    """
    for setting in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_UPDATE_CHECK", "HF_HUB_DISABLE_XET"):
        os.environ.setdefault(setting, "1")
    constants: Any = importlib.import_module("huggingface_hub.constants")
    constants.HF_HUB_DISABLE_TELEMETRY = True
    return importlib.import_module("huggingface_hub")


@contextmanager
def translate_errors(name: str, endpoint: str, revision: str | None) -> Iterator[None]:
    """Convert errors of the hub and of the network into :class:`~empu.errors.DownloadError`."""
    library, client = hub_library(), importlib.import_module("httpx2")
    what = f"hf:{name}"
    try:
        yield
    except EmpuError:
        raise
    except library.errors.GatedRepoError as error:
        raise DownloadError(
            f"{what} is gated: accept its terms on its page at {endpoint}/{name}, then run `hf auth login` (or set "
            "HF_TOKEN to a token that may read it) and pull again."
        ) from error
    except library.errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"{what} is not on {endpoint}, or is private; check the spelling, and for a private repository run "
            "`hf auth login` or set HF_TOKEN."
        ) from error
    except library.errors.RevisionNotFoundError as error:
        raise DownloadError(f"{what} has no revision {revision!r}; check its branches and tags.") from error
    except library.errors.EntryNotFoundError as error:
        raise DownloadError(f"A file of {what} is missing on {endpoint}; try again, or report it there.") from error
    except library.errors.OfflineModeIsEnabled as error:
        raise DownloadError(
            f"{what} cannot be downloaded while HF_HUB_OFFLINE is set; unset it and pull again."
        ) from error
    except library.errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = "check your token (HF_TOKEN, or `hf auth login`)" if status in (401, 403) else "try again later"
        raise DownloadError(f"{endpoint} answered {status} for {what}; {advice}.") from error
    except (client.TransportError, client.InvalidURL, client.DecodingError) as error:
        raise DownloadError(
            f"{endpoint} cannot be reached or the connection broke ({type(error).__name__}); the downloaded part is "
            "kept, so check the network and run the same command again to resume."
        ) from error
    except (ValueError, KeyError, TypeError) as error:  # the answer is not the JSON of a hub
        raise DownloadError(f"{endpoint} did not answer as a model hub does ({error}); check HF_ENDPOINT.") from error


def _read_card(info: ModelInfo) -> tuple[SourceMetadata, tuple[Statement, ...]]:
    """Return the metadata of the model card, and its statements about the training data."""
    card: dict[str, Any] = info.card_data.to_dict() if info.card_data is not None else {}  # type: ignore[no-untyped-call]
    author = f"the card of {info.id}"
    licence = card.get("license_name") if card.get("license") == "other" else card.get("license")
    name = licence if isinstance(licence, str) and licence else None
    metadata = SourceMetadata(
        licence=name,
        licence_from=author if name else None,
        base_models=_strings(card.get("base_model")),
        title=info.id.split("/")[-1],
    )
    datasets = _strings(card.get("datasets"))
    return metadata, (Statement(author, "data sets: " + ", ".join(datasets)),) if datasets else ()


def _strings(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
