"""A company's own rules about licences (``policy.toml``), and the answers that it gave about itself.

    purpose = "commercial"             # or "non-commercial"
    allow = ["Apache-2.0", "MIT"]      # nothing else is used, if given
    deny = ["CC-BY-NC-4.0", "unknown"] # never used
    share_alike = "note"               # or "refuse"

Answers are recorded once per store in ``trust/answers.json``, with the time and the clause that asked.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from empu.errors import StoreError, UsageError
from empu.system import durable
from empu.system.files import load_json_object, read_bounded
from empu.system.json import JsonError
from empu.trust.licence_terms import all_licences, licence_id

POLICY_FILE = "policy.toml"
PURPOSES = ("commercial", "non-commercial")
SHARE_ALIKE = ("note", "refuse")
MAX_POLICY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules of one company. The default has none."""

    purpose: str | None = None
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    share_alike: str = "note"
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """Facts about the operator that licences depend on: question -> answer."""

    values: Mapping[str, str] = field(default_factory=dict)


def read_policy(home: Path, path: Path | None = None) -> Policy:
    """Return the policy at ``path``, or that of the store, or an empty one.

    Raises :class:`~empu.errors.UsageError` for a file that is missing, damaged or has unknown keys.
    """
    chosen = path or home / POLICY_FILE
    if path is None and not chosen.exists():
        return Policy()
    try:
        fields = tomllib.loads(read_bounded(chosen, MAX_POLICY_BYTES).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"The policy {chosen} cannot be read ({error.strerror or error}).") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"The policy {chosen} is not valid TOML ({error}); fix it and try again.") from error
    unknown = sorted(set(fields) - {"purpose", "allow", "deny", "share_alike"})
    if unknown:
        raise UsageError(
            f"The policy {chosen} has the unknown key {unknown[0]!r}; use purpose, allow, deny and share_alike."
        )
    for key, choices in (("purpose", PURPOSES), ("share_alike", SHARE_ALIKE)):
        if key in fields and fields[key] not in choices:
            raise UsageError(f"The policy {chosen} has {key} = {fields[key]!r}; use {' or '.join(choices)}.")
    return Policy(
        purpose=fields.get("purpose"),
        allow=_licence_list(chosen, fields, "allow") if "allow" in fields else None,
        deny=_licence_list(chosen, fields, "deny"),
        share_alike=fields.get("share_alike", "note"),
        path=chosen,
    )


def _licence_list(path: Path, fields: dict[str, Any], key: str) -> tuple[str, ...]:
    names = fields.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f'The policy {path} has {key} = {names!r}; write a list of licence ids, such as ["MIT"].')
    return tuple(licence_id(name) for name in names)


def answers_file(home: Path) -> Path:
    """Return the file of the recorded answers."""
    return home / "trust" / "answers.json"


def read_answers(home: Path) -> Answers:
    """Return the recorded answers; none if nothing was asked yet. Raises :class:`~empu.errors.StoreError`."""
    path = answers_file(home)
    if not path.exists():
        return Answers()
    try:
        return Answers({key: str(record["answer"]) for key, record in load_json_object(path).items()})
    except (OSError, JsonError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and answer the questions again.") from error


def record_answer(home: Path, question: str, answer: str) -> None:
    """Record an answer with the time. Raises :class:`~empu.errors.UsageError` for an unknown question or answer."""
    choices = question_choices(question)
    if answer not in choices:
        raise UsageError(f"The answer to {question} is {' or '.join(choices)}, not {answer!r}.")
    path = answers_file(home)
    records = load_json_object(path) if path.exists() else {}
    records[question] = {"answer": answer, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    with durable.explain_write_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write_atomically(path, (json.dumps(records, indent=2, sort_keys=True) + "\n").encode())


def question_choices(question: str) -> tuple[str, ...]:
    """Return the valid answers to a question. Raises :class:`~empu.errors.UsageError` for an unknown one."""
    if question == "purpose":
        return PURPOSES
    licences = [licence.id for licence in all_licences().values() if _has_user_limit(licence.id)]
    names = [monthly_users_question(name) for name in licences]
    if question not in names:
        raise UsageError(f"{question!r} is not a question; the questions are purpose, {', '.join(names)}.")
    return ("yes", "no")


def monthly_users_question(licence: str) -> str:
    """Return the name of the question whether the company has more monthly users than a licence allows."""
    return f"{licence}:over-user-limit"


def _has_user_limit(licence: str) -> bool:
    return any(term.kind == "monthly_users" for term in all_licences()[licence].terms)
