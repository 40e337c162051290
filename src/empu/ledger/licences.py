"""Table of known model licences, recognised by their text or by name.

It identifies licences and gives no legal advice. A licence outside the table keeps the name that its files give.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownLicence:
    """One licence of the table."""

    id: str
    """SPDX identifier if there is one, otherwise the identifier that model hubs use."""
    title: str
    open_source: bool
    """Whether the Open Source Initiative approved it."""
    note: str
    """One sentence on what the licence allows or requires."""
    phrases: tuple[str, ...]
    """Phrases of its text in lower case with single spaces; a text that contains all of them has this licence."""
    aliases: tuple[str, ...] = ()
    """Other spellings found in metadata."""


_COMMUNITY = "Custom terms: attribution, an acceptable-use policy and a limit on very large services apply."

LICENCES: tuple[KnownLicence, ...] = (
    KnownLicence(
        "Apache-2.0",
        "Apache License 2.0",
        True,
        "Commercial use and changes are allowed; keep the notices.",
        ("apache license", "version 2.0, january 2004"),
        ("apache 2.0", "apache2", "apache license, version 2.0"),
    ),
    KnownLicence(
        "MIT",
        "MIT License",
        True,
        "Commercial use and changes are allowed; keep the notice.",
        ("permission is hereby granted, free of charge", 'the software is provided "as is"'),
        ("expat",),
    ),
    KnownLicence("llama3.3", "Llama 3.3 Community License", False, _COMMUNITY, ("llama 3.3 community license",)),
    KnownLicence("llama3.2", "Llama 3.2 Community License", False, _COMMUNITY, ("llama 3.2 community license",)),
    KnownLicence("llama3.1", "Llama 3.1 Community License", False, _COMMUNITY, ("llama 3.1 community license",)),
    KnownLicence("llama3", "Meta Llama 3 Community License", False, _COMMUNITY, ("meta llama 3 community license",)),
    KnownLicence("llama2", "Llama 2 Community License", False, _COMMUNITY, ("llama 2 community license",)),
    KnownLicence(
        "CC-BY-NC-4.0",
        "Creative Commons Attribution-NonCommercial 4.0",
        False,
        "No commercial use.",
        ("attribution-noncommercial 4.0 international",),
        ("cc by-nc 4.0",),
    ),
    KnownLicence(
        "CC-BY-4.0",
        "Creative Commons Attribution 4.0",
        False,
        "Commercial use and changes are allowed with attribution.",
        ("creative commons attribution 4.0 international",),
        ("cc by 4.0",),
    ),
    KnownLicence(
        "OpenRAIL",
        "Open Responsible AI Licence",
        False,
        "Use restrictions apply and must be passed on.",
        ("open rail",),
        ("bigscience-openrail-m", "creativeml-openrail-m"),
    ),
)


def identify(text: str) -> KnownLicence | None:
    """Return the licence with this text; ``None`` if the table does not have it."""
    normalised = re.sub(r"\s+", " ", text).casefold()
    return next((licence for licence in LICENCES if all(phrase in normalised for phrase in licence.phrases)), None)


def find_by_name(name: str) -> KnownLicence | None:
    """Return the licence with this id, title or alias; ``None`` if there is none. Case is ignored."""
    wanted = name.strip().casefold()
    for licence in LICENCES:
        if wanted in (licence.id.casefold(), licence.title.casefold(), *licence.aliases):
            return licence
    return None
