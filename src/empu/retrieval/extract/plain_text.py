"""Plain text: paragraphs are separated by blank lines. Form feeds separate pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from empu.retrieval.extract.document import Block


def read_plain_text(text: str) -> Iterator[Block]:
    """Yield the paragraphs of a text."""
    pages = text.split("\f")
    for number, page in enumerate(pages, 1):
        for paragraph in re.split(r"\n[ \t]*\n", page):
            yield Block("paragraph", paragraph, page=number if len(pages) > 1 else None)
