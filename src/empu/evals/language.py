"""Tell English from Indonesian by frequent words, for scores by language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_ENGLISH = """
a the an and or but is are was were be been i my me we our you your it its this that of to in on for with from at by not
no do does did can could would will have has had what when where which how why if there they he she as don't can't isn't
i'm i've it's please
"""
_INDONESIAN = """
yang dan atau tapi tetapi adalah itu ini di ke dari untuk dengan pada saya aku kami kita anda kamu kak min nya tidak tak
nggak gak ga bukan belum sudah udah bisa apa kapan mana bagaimana gimana kenapa kalau jika ada akan mau harus lagi juga
sama seperti karena masih tolong mohon dong sih ya
"""
ENGLISH, INDONESIAN = frozenset(_ENGLISH.split()), frozenset(_INDONESIAN.split())
_WORDS = re.compile(r"[a-z']+")
MIN_ROWS, MIN_SHARE = 20, 0.9
"""Rows that each language needs, and the fraction of rows whose language has to be told."""


def guess_language(text: str) -> str | None:
    """Return "English" or "Indonesian", whichever has more frequent words in the text; ``None`` for a tie."""
    words = _WORDS.findall(text.lower())
    english, indonesian = (sum(word in frequent for word in words) for frequent in (ENGLISH, INDONESIAN))
    if english == indonesian:
        return None
    return "English" if english > indonesian else "Indonesian"


def group_by_language(texts: Sequence[str]) -> dict[str, list[int]]:
    """Return language -> indices of its texts, the most frequent language first.

    It is empty unless nearly all texts have a language and two languages have enough texts to be scored apart.
    """
    languages = [guess_language(text) for text in texts]
    counts = Counter(language for language in languages if language is not None)
    if len(counts) < 2 or min(counts.values()) < MIN_ROWS or counts.total() < MIN_SHARE * len(texts):
        return {}
    return {name: [i for i, language in enumerate(languages) if language == name] for name, _ in counts.most_common()}
