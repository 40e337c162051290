"""Sign an export, and verify one: the signature, every file, and that the card's figures are the ledger's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empu.errors import UsageError
from empu.ledger.hashing import canonical_json, hash_file
from empu.store.store import Store
from empu.system import durable
from empu.system.files import read_bounded
from empu.trust import dsse
from empu.trust.card import card_figures, figure_lines
from empu.trust.dsse import STATEMENT_TYPE, SignatureError
from empu.trust.facts import LEDGER_HEAD, Facts, read_facts
from empu.trust.gate import Decision
from empu.trust.release import CARD, DOCUMENTS, ENVELOPE, document_path
from empu.trust.signing_key import key_id, signing_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PREDICATE_TYPE = "urn:empu:export:v1"


@dataclass(frozen=True, slots=True)
class VerifiedExport:
    """An export that verified."""

    path: Path
    key: str
    files: int
    facts: Facts
    ledger: str
    """How far the figures were compared: ``this store's ledger`` or ``the signed facts``."""

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "path": str(self.path),
            "key": self.key,
            "files": self.files,
            "model": self.facts["name"],
            "id": self.facts["id"],
            "compared_with": self.ledger,
        }


def sign_export(exported: Path, home: Path, facts: Facts, decision: Decision) -> Path:
    """Write the envelope of an export, signed with the store's key, and return its path."""
    names = sorted(_file_names(exported))
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": hash_file(_file(exported, name))}} for name in names],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"facts": facts, "licences": decision.to_json()},
    }
    path = document_path(exported, ENVELOPE)
    with durable.explain_write_errors(path):
        path.write_bytes(dsse.sign(statement, signing_key(home)))
    return path


def verify_export(exported: Path, key: Ed25519PublicKey, store: Store | None = None) -> VerifiedExport:
    """Verify a signed export. With a ``store`` that has the model, compare the figures with its ledger too.

    Raises :class:`SignatureError` for the first thing that is not as it was signed.
    """
    envelope = document_path(exported, ENVELOPE)
    if not envelope.is_file():
        raise UsageError(f"{exported} is not signed: there is no {envelope.name}; export it with --sign.")
    try:
        data = read_bounded(envelope, dsse.MAX_ENVELOPE_BYTES)
    except OSError as error:
        raise SignatureError(f"{envelope} cannot be read ({error.strerror or error}).") from error
    statement = dsse.verify(data, key)
    subjects, facts = _content(statement)
    names = set(_file_names(exported))
    if missing := sorted(set(subjects) - names):
        raise SignatureError(f"{missing[0]} was signed and is missing from {exported}.")
    if added := sorted(names - set(subjects)):
        raise SignatureError(f"{added[0]} in {exported} was not signed.")
    for name in sorted(subjects):
        if hash_file(_file(exported, name)) != subjects[name]:
            raise SignatureError(f"{name} in {exported} changed after it was signed.")
    card = document_path(exported, CARD).read_text(encoding="utf-8")
    if card_figures(card) != [line for line in figure_lines(facts) if line]:
        raise SignatureError(f"The figures of {CARD} are not those of the signed facts from the ledger.")
    compared = "the signed facts"
    if store is not None and (model := store.find(str(facts["id"]))) is not None:
        if _comparable(read_facts(store, model)) != _comparable(facts):
            raise SignatureError("The signed facts are not those of this store's ledger.")
        compared = "this store's ledger"
    return VerifiedExport(exported, key_id(key), len(subjects), facts, compared)


def _content(statement: dsse.Statement) -> tuple[dict[str, str], Facts]:
    """Return name -> SHA-256, and the facts of a statement."""
    try:
        if statement["predicateType"] != PREDICATE_TYPE:
            raise SignatureError(f"The signed statement is about something else ({statement['predicateType']}).")
        subjects = {str(subject["name"]): str(subject["digest"]["sha256"]) for subject in statement["subject"]}
        facts = statement["predicate"]["facts"]
        facts["id"], facts["name"], figure_lines(facts)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SignatureError(f"The signed statement is incomplete ({error}).") from error
    return subjects, facts


def _comparable(facts: Facts) -> bytes:
    """Return the facts without what changes later: the head of the ledger, and the name of the model."""
    kept = {key: value for key, value in facts.items() if key not in (LEDGER_HEAD, "name")}
    systems = [{**e, "system": ""} if e["is_this_model"] else e for e in facts["evaluations"]]
    return canonical_json({**kept, "evaluations": systems})


def _file_names(exported: Path) -> Iterator[str]:
    """Yield the names of the files of an export, without the envelope. Links are refused."""
    if exported.is_dir():
        files = [path for path in exported.rglob("*") if path.is_symlink() or not path.is_dir()]
    else:
        documents = [document_path(exported, name) for name in DOCUMENTS]
        files = [exported, *(path for path in documents if path.exists())]
    for path in files:
        if path.is_symlink() or not path.is_file():
            raise SignatureError(f"{path} is not a regular file; remove it.")
        if path != document_path(exported, ENVELOPE):
            yield path.relative_to(exported if exported.is_dir() else exported.parent).as_posix()


def _file(exported: Path, name: str) -> Path:
    return (exported if exported.is_dir() else exported.parent) / name
