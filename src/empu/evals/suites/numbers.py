"""Numbers in generated answers: how they are found and compared, as lm-evaluation-harness does."""

from __future__ import annotations

import re
from collections.abc import Callable

INVALID = "[invalid]"
"""What stands for an answer without a number."""
_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")


def last_number(text: str) -> str:
    """Return the last number of the text."""
    found = _NUMBER.findall(text)
    return next((part for part in found[-1] if part), INVALID).strip() if found else INVALID


def first_match(pattern: str) -> Callable[[str], str]:
    """Return a function that gives the first match of the pattern's group."""
    compiled = re.compile(pattern)

    def extract(text: str) -> str:
        found = compiled.findall(text)
        return str(found[0]).strip() if found else INVALID

    return extract
