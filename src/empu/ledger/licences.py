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
    KnownLicence(
        "BSD-3-Clause",
        "BSD 3-Clause License",
        True,
        "Commercial use and changes are allowed; keep the notice, and do not use the authors' names to endorse.",
        ("redistributions of source code must retain the above copyright", "to endorse or promote products"),
        ("bsd-3", "new bsd license"),
    ),
    KnownLicence(
        "BSD-2-Clause",
        "BSD 2-Clause License",
        True,
        "Commercial use and changes are allowed; keep the notice.",
        ("redistributions of source code must retain the above copyright",),
        ("bsd-2", "simplified bsd license"),
    ),
    KnownLicence("llama4", "Llama 4 Community License", False, _COMMUNITY, ("llama 4 community license",)),
    KnownLicence("llama3.3", "Llama 3.3 Community License", False, _COMMUNITY, ("llama 3.3 community license",)),
    KnownLicence("llama3.2", "Llama 3.2 Community License", False, _COMMUNITY, ("llama 3.2 community license",)),
    KnownLicence("llama3.1", "Llama 3.1 Community License", False, _COMMUNITY, ("llama 3.1 community license",)),
    KnownLicence("llama3", "Meta Llama 3 Community License", False, _COMMUNITY, ("meta llama 3 community license",)),
    KnownLicence("llama2", "Llama 2 Community License", False, _COMMUNITY, ("llama 2 community license",)),
    KnownLicence(
        "gemma",
        "Gemma Terms of Use",
        False,
        "Custom terms: a notice and a prohibited-use policy apply and must be passed on.",
        ("gemma terms of use",),
    ),
    KnownLicence(
        "tongyi-qianwen-research",
        "Tongyi Qianwen Research License Agreement",
        False,
        "No commercial use, and no use of outputs to improve other models.",
        ("tongyi qianwen research license agreement",),
    ),
    KnownLicence(
        "tongyi-qianwen",
        "Tongyi Qianwen License Agreement",
        False,
        "Custom terms: a notice, a limit on very large services, no use of outputs to improve other models.",
        ("tongyi qianwen license agreement",),
    ),
    KnownLicence(
        "qwen-research",
        "Qwen Research License Agreement",
        False,
        "No commercial use; a notice and an attribution apply.",
        ("qwen research license agreement",),
    ),
    KnownLicence(
        "qwen",
        "Qwen License Agreement",
        False,
        "Custom terms: a notice, an attribution and a limit on very large services apply.",
        ("qwen license agreement",),
    ),
    KnownLicence(
        "mrl",
        "Mistral AI Research License",
        False,
        "Research use only; distribution by companies is excluded.",
        ("mistral ai research license",),
        ("mistral-research", "mrl-0.1"),
    ),
    KnownLicence(
        "CC0-1.0",
        "Creative Commons Zero 1.0",
        False,
        "All rights are waived.",
        ("cc0 1.0 universal",),
        ("cc0", "cc0 1.0"),
    ),
    KnownLicence(
        "CC-BY-NC-SA-4.0",
        "Creative Commons Attribution-NonCommercial-ShareAlike 4.0",
        False,
        "No commercial use; shared adaptations keep the licence.",
        ("attribution-noncommercial-sharealike 4.0 international",),
        ("cc by-nc-sa 4.0",),
    ),
    KnownLicence(
        "CC-BY-SA-4.0",
        "Creative Commons Attribution-ShareAlike 4.0",
        False,
        "Commercial use and changes are allowed with attribution; shared adaptations keep the licence.",
        ("attribution-sharealike 4.0 international",),
        ("cc by-sa 4.0",),
    ),
    KnownLicence(
        "CC-BY-SA-3.0",
        "Creative Commons Attribution-ShareAlike 3.0",
        False,
        "Commercial use and changes are allowed with attribution; shared adaptations keep the licence.",
        ("attribution-sharealike 3.0 unported",),
        ("cc by-sa 3.0",),
    ),
    KnownLicence(
        "CC-BY-3.0",
        "Creative Commons Attribution 3.0",
        False,
        "Commercial use and changes are allowed with attribution.",
        ("attribution 3.0 unported",),
        ("cc by 3.0",),
    ),
    KnownLicence(
        "ODbL-1.0",
        "Open Data Commons Open Database License 1.0",
        False,
        "Commercial use is allowed with attribution; derivative databases keep the licence.",
        ("open database license (odbl)",),
        ("odbl",),
    ),
    KnownLicence(
        "ODC-By-1.0",
        "Open Data Commons Attribution License 1.0",
        False,
        "Commercial use is allowed with attribution.",
        ("open data commons attribution license",),
        ("odc-by",),
    ),
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
        ("openrail-m", "bigscience-openrail-m", "bigcode-openrail-m", "creativeml-openrail-m"),
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
