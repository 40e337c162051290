"""One pass over a reading, keeping a few numbers for each record and none of its text."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from empu.data import pii
from empu.data.near_duplicates import Ints, Signatures, normal
from empu.data.reader import Reading
from empu.data.rows import Kind, Rejected, Row

SAMPLE = 200
"""Rows that are looked at for a beginning which they share."""
PARAGRAPH = "\n\n"

CountTokens = Callable[[str], int]
SHOWN = 5
"""Masked examples of each kind of personal data that are kept."""

ID = 32
"""Bytes of a row id."""

KEY = 16
"""Bytes of each other digest that are kept; two million rows collide with a probability below 1e-26."""


@dataclass(slots=True)
class Scan:
    """What is known of each item of a reading, in its order; texts are not."""

    reading: Reading
    ids: bytearray = field(default_factory=bytearray)
    questions: bytearray = field(default_factory=bytearray)
    """Digest of what is asked, in normal form."""
    pairs: bytearray = field(default_factory=bytearray)
    """Digest of question and answer, in normal form."""
    labels: array[int] = field(default_factory=lambda: array("i"))
    numbers: array[int] = field(default_factory=lambda: array("q"))
    sources: array[int] = field(default_factory=lambda: array("i"))
    tokens: array[int] = field(default_factory=lambda: array("i"))
    label_names: dict[str, int] = field(default_factory=dict)
    source_names: dict[str, int] = field(default_factory=dict)
    unusable: dict[int, Rejected] = field(default_factory=dict)
    """Item -> why it gives no row."""
    personal_rows: Counter[str] = field(default_factory=Counter)
    personal_matches: Counter[str] = field(default_factory=Counter)
    personal_examples: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    def digests(self, which: bytearray) -> NDArray[Any]:
        """One of the digest columns as an array that can be compared and sorted."""
        return np.frombuffer(bytes(which), dtype=np.dtype(f"V{len(which) // max(1, len(self))}"))

    def label_codes(self) -> Ints:
        """For each item the number of its label; -1 where it has none."""
        return np.frombuffer(self.labels, dtype=np.int32).astype(np.int64)

    def place(self, item: int) -> str:
        """``FILE:N`` of an item."""
        return f"{self.source_of(item)}:{self.numbers[item]}"

    def source_of(self, item: int) -> str:
        """The path, as given, that an item came from."""
        return list(self.source_names)[self.sources[item]]

    def id_of(self, item: int) -> str:
        """An item's row id, in hex."""
        return bytes(self.ids[item * ID : (item + 1) * ID]).hex()


def scan(
    reading: Reading,
    signatures: Signatures,
    count_tokens: CountTokens | None,
    max_tokens: int | None,
    label_names: dict[str, int],
) -> Scan:
    """Read everything once. ``signatures`` gets one entry for each item; ``label_names`` grows, so that two readings
    can share it.
    """
    found = Scan(reading, label_names=label_names)
    beginning = _beginning(reading)
    for number, item in enumerate(reading.items()):
        found.numbers.append(item.number)
        found.sources.append(found.source_names.setdefault(item.source, len(found.source_names)))
        if isinstance(item, Row):
            _row(found, number, item, signatures, beginning, count_tokens, max_tokens)
        else:
            _no_row(found, number, item, signatures)
    return found


def _beginning(reading: Reading) -> str:
    """The first paragraph that at least half of the first rows share, such as an instruction: it says nothing of how
    alike two of them are. Empty where there is none.
    """
    rows = islice((item for item in reading.items() if isinstance(item, Row)), SAMPLE)
    begun = [row.wording().partition(PARAGRAPH) for row in rows]
    ((shared, count),) = Counter(first for first, _, rest in begun if rest.strip()).most_common(1) or [("", 0)]
    return shared + PARAGRAPH if 2 * count >= len(begun) > 0 else ""


def _row(
    found: Scan,
    number: int,
    row: Row,
    signatures: Signatures,
    beginning: str,
    count_tokens: CountTokens | None,
    limit: int | None,
) -> None:
    asked, whole = row.question(), row.whole()
    question = normal(asked) or asked
    wording = row.wording().removeprefix(beginning)
    answer = row.label or normal(whole)
    label = row.label
    found.ids += bytes.fromhex(row.id)
    found.questions += _digest(question)
    found.pairs += _digest(question + "\0" + answer)
    found.labels.append(-1 if label is None else found.label_names.setdefault(label, len(found.label_names)))
    signatures.add(question if wording == asked else normal(wording) or question)
    tokens = count_tokens(whole) if count_tokens is not None else 0
    found.tokens.append(tokens)
    if limit is not None and tokens > limit:
        reason = f"it is too long: {tokens:,} tokens, and {limit:,} fit"
        found.unusable[number] = Rejected(row.source, row.number, reason, row.id)
        return
    matches = list(pii.find(whole))
    found.personal_rows.update({match.kind for match in matches})
    for match in matches:
        found.personal_matches[match.kind] += 1
        examples = found.personal_examples.setdefault(match.kind, [])
        if len(examples) < SHOWN:
            examples.append(f"{match.masked} ({row.source}:{row.number})")


def _no_row(found: Scan, number: int, item: Rejected, signatures: Signatures) -> None:
    nothing = number.to_bytes(KEY, "big")
    found.ids += number.to_bytes(ID, "big")
    found.questions += nothing
    found.pairs += nothing
    found.labels.append(-1)
    found.tokens.append(0)
    found.unusable[number] = item
    signatures.add(f"\0{number}")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:KEY]


def is_labelled(reading: Reading) -> bool:
    """Whether rows carry a label out of a few."""
    return reading.kind is Kind.LABEL
