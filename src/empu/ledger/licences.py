"""Licences of model files: which one a text or a name is, and what a user must know before relying on it.

Recognises; does not advise. What is not in the table is reported under the name that the files give, or as unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Licence:
    """One licence that models of this family come under."""

    id: str
    """SPDX identifier where there is one, otherwise the identifier that model registries use."""
    title: str
    open_source: bool
    """Whether the Open Source Initiative lists it."""
    note: str
    """One sentence for the person who asks "may we use this?"."""
    marks: tuple[str, ...]
    """Phrases of its text, in lower case with single spaces; all of them must occur."""
    names: tuple[str, ...] = ()
    """Other spellings found in metadata."""


_COMMUNITY = "Custom terms: attribution, an acceptable-use policy and a limit on very large services apply."

TABLE: tuple[Licence, ...] = (
    Licence(
        "Apache-2.0",
        "Apache License 2.0",
        True,
        "Commercial use and changes are allowed; keep the notices.",
        ("apache license", "version 2.0, january 2004"),
        ("apache 2.0", "apache2", "apache license, version 2.0"),
    ),
    Licence(
        "MIT",
        "MIT License",
        True,
        "Commercial use and changes are allowed; keep the notice.",
        ("permission is hereby granted, free of charge", 'the software is provided "as is"'),
        ("expat",),
    ),
    Licence("llama3.3", "Llama 3.3 Community License", False, _COMMUNITY, ("llama 3.3 community license",)),
    Licence("llama3.2", "Llama 3.2 Community License", False, _COMMUNITY, ("llama 3.2 community license",)),
    Licence("llama3.1", "Llama 3.1 Community License", False, _COMMUNITY, ("llama 3.1 community license",)),
    Licence("llama3", "Meta Llama 3 Community License", False, _COMMUNITY, ("meta llama 3 community license",)),
    Licence("llama2", "Llama 2 Community License", False, _COMMUNITY, ("llama 2 community license",)),
    Licence(
        "CC-BY-NC-4.0",
        "Creative Commons Attribution-NonCommercial 4.0",
        False,
        "No commercial use.",
        ("attribution-noncommercial 4.0 international",),
        ("cc by-nc 4.0",),
    ),
    Licence(
        "CC-BY-4.0",
        "Creative Commons Attribution 4.0",
        False,
        "Commercial use and changes are allowed with attribution.",
        ("creative commons attribution 4.0 international",),
        ("cc by 4.0",),
    ),
    Licence(
        "OpenRAIL",
        "Open Responsible AI Licence",
        False,
        "Use restrictions apply and must be passed on.",
        ("open rail",),
        ("bigscience-openrail-m", "creativeml-openrail-m"),
    ),
)


def identify(text: str) -> Licence | None:
    """The licence whose text this is; ``None`` when it is none of the table."""
    flat = re.sub(r"\s+", " ", text).casefold()
    return next((licence for licence in TABLE if all(mark in flat for mark in licence.marks)), None)


def by_name(name: str) -> Licence | None:
    """The licence that metadata call ``name``; exact spellings only, case and surrounding spaces aside."""
    wanted = name.strip().casefold()
    for licence in TABLE:
        if wanted in (licence.id.casefold(), licence.title.casefold(), *licence.names):
            return licence
    return None
