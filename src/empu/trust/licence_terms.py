"""Licences as data: what each grants and asks for, every term with its clause. Read from ``licences/*.toml``.

The recognition of a licence by its text or name is in :mod:`empu.ledger.licences`; both use the same ids.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from empu.ledger.licences import find_by_name
from empu.ledger.records import UNKNOWN

Action = Literal["pull", "tune", "export", "serve"]
Role = Literal["base", "rows", "teacher"]
TermKind = Literal[
    "non_commercial",
    "monthly_users",
    "outputs_no_other_models",
    "licence_copy",
    "notice",
    "keep_notices",
    "state_changes",
    "attribution",
    "display",
    "name_prefix",
    "use_policy",
    "pass_on",
    "share_alike",
    "no_endorsement",
    "note",
]
LIMITS: frozenset[TermKind] = frozenset({"non_commercial", "monthly_users", "outputs_no_other_models"})
"""Terms that can refuse an action. The others are obligations."""

ACTIONS: tuple[Action, ...] = get_args(Action)
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a licence."""

    kind: TermKind
    clause: str
    text: str
    when: tuple[Action, ...]
    roles: tuple[Role, ...]
    """The parts of a model that the term reaches: its base, its rows, or the teacher that wrote its rows."""
    value: str = ""
    """Sentence to show, prefix of the name, number of users, or address of a policy."""


@dataclass(frozen=True, slots=True)
class LicenceTerms:
    """One licence: its grant, its terms, and where its text stands."""

    id: str
    title: str
    category: str
    """``software``, ``content``, ``database`` or ``model``."""
    source: str
    grant: str
    grant_clause: str
    terms: tuple[Term, ...]
    family: str = ""
    """Models of one family may be improved with each other's outputs, where a licence forbids that for others."""


@cache
def all_licences() -> Mapping[str, LicenceTerms]:
    """Return id -> licence, in alphabetical order."""
    licences: dict[str, LicenceTerms] = {}
    for file in resources.files("empu.trust.licences").iterdir():
        if file.name.endswith(".toml"):
            for fields in tomllib.loads(file.read_text("utf-8"))["licence"]:
                licence = _licence(fields)
                assert licence.id not in licences, f"{licence.id} is described twice"
                licences[licence.id] = licence
    return dict(sorted(licences.items(), key=lambda item: item[0].casefold()))


def terms_of(name: str) -> LicenceTerms | None:
    """Return the terms of a licence by id, title or alias; ``None`` if the table lacks it."""
    known = find_by_name(name)
    return all_licences().get(known.id if known is not None else name)


def licence_id(name: str | None) -> str:
    """Return the id of a licence as stated: the table's spelling if it has it, ``unknown`` if nobody stated one."""
    if name is None or not name.strip() or name.strip().casefold() in (UNKNOWN, "other", "none", "noassertion"):
        return UNKNOWN
    known = find_by_name(name)
    return known.id if known is not None else name.strip()


def _licence(fields: dict[str, Any]) -> LicenceTerms:
    terms = tuple(
        Term(
            kind=term["kind"],
            clause=term["clause"],
            text=term["text"],
            when=tuple(term["when"]),
            roles=tuple(term.get("roles", ROLES)),
            value=term.get("value", ""),
        )
        for term in fields.get("term", ())
    )
    for term in terms:
        assert term.kind in get_args(TermKind), f"{fields['id']}: unknown term {term.kind}"
        assert set(term.when) <= set(ACTIONS), f"{fields['id']}: unknown action in {term.when}"
        assert set(term.roles) <= set(ROLES), f"{fields['id']}: unknown role in {term.roles}"
    grant = fields["grant"]
    return LicenceTerms(
        id=fields["id"],
        title=fields["title"],
        category=fields["category"],
        source=fields["source"],
        grant=grant["text"],
        grant_clause=grant["clause"],
        terms=terms,
        family=fields.get("family", ""),
    )
