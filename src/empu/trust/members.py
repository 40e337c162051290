"""What a specialist asks beside its language model, read from its own files: the members of its mixture.

An export holds the language model alone, so its card must give that system's scores, and not those of the mixture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from empu.errors import StoreError
from empu.ledger.records import UNKNOWN
from empu.store.stored_model import StoredModel
from empu.system.files import load_json_object
from empu.system.json import JsonError

MEMBERS_FILE = "members.json"
LANGUAGE_MODEL_ALONE = "language model alone"
"""Name of the language model without the other members, as evaluations record it."""


@dataclass(frozen=True, slots=True)
class MemberList:
    """Names of the members beside the language model, and the text encoder that one of them asks."""

    names: tuple[str, ...] = ()
    encoder: str | None = None
    encoder_licence: str = UNKNOWN


def read_members(home: Path, model: StoredModel) -> MemberList:
    """Return the members of a specialist; none for a language model alone."""
    if not any(file.name == MEMBERS_FILE for file in model.record.files):
        return MemberList()
    path = model.files_folder / MEMBERS_FILE
    try:
        members = load_json_object(path)["members"]
        encoder = next((fields["encoder"] for fields in members.values() if "encoder" in fields), None)
        return MemberList(tuple(sorted(members)), encoder, _encoder_licence(home, encoder))
    except (OSError, JsonError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error}); tune the specialist again.") from error


def _encoder_licence(home: Path, encoder: str | None) -> str:
    """Return the licence recorded beside an encoder in the store. Nothing is guessed for others."""
    if encoder is None:
        return UNKNOWN
    source = home / "embeddings" / encoder.partition("@")[0] / "source.json"
    try:
        return str(load_json_object(source).get("licence") or UNKNOWN)
    except (OSError, JsonError):
        return UNKNOWN
