"""One pass over the records of data files that keeps a few numbers for each record and none of its text."""

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
from empu.data.near_duplicates import Ints, MinHashSignatures, duplicate_text, near_duplicate_text
from empu.data.reader import DataFiles
from empu.data.rows import ExcludedRecord, Kind, Row

SAMPLE_ROWS = 200
"""Number of rows that are searched for a common first paragraph."""
PARAGRAPH = "\n\n"

CountTokens = Callable[[str], int]
FindProblem = Callable[[Row], str | None]
"""Returns why a row cannot be used with the base model; ``None`` if it can."""
REFUSED = "refused by the chat template"
"""Category of rows that the base model's chat template does not take."""
MAX_EXAMPLES = 5
"""Masked examples of each kind of personal data that are kept."""

ID_BYTES = 32
DIGEST_BYTES = 16
"""The probability that any two of two million digests are equal is below 1e-26."""


@dataclass(slots=True)
class Scan:
    """What is kept of each record, in the order of the files."""

    data: DataFiles
    ids: bytearray = field(default_factory=bytearray)
    """Row ids, :data:`ID_BYTES` each."""
    questions: bytearray = field(default_factory=bytearray)
    """Digest of each question, without case and white space."""
    answers: bytearray = field(default_factory=bytearray)
    """Digest of question and answer, without case and white space."""
    near_questions: bytearray = field(default_factory=bytearray)
    """Digest of each question, without case, white space and punctuation; its split follows from it."""
    labels: array[int] = field(default_factory=lambda: array("i"))
    numbers: array[int] = field(default_factory=lambda: array("q"))
    sources: array[int] = field(default_factory=lambda: array("i"))
    tokens: array[int] = field(default_factory=lambda: array("i"))
    label_codes: dict[str, int] = field(default_factory=dict)
    source_codes: dict[str, int] = field(default_factory=dict)
    unusable: dict[int, ExcludedRecord] = field(default_factory=dict)
    """Record index -> why it is not a row."""
    pii_rows: Counter[str] = field(default_factory=Counter)
    pii_matches: Counter[str] = field(default_factory=Counter)
    pii_examples: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    def digests(self, column: bytearray) -> NDArray[Any]:
        """Return one of the digest columns as an array that can be compared and sorted: (records,)."""
        return np.frombuffer(bytes(column), dtype=np.dtype(f"V{len(column) // max(1, len(self))}"))

    def label_array(self) -> Ints:
        """Return the label code of each record, -1 where it has none: (records,)."""
        return np.frombuffer(self.labels, dtype=np.int32).astype(np.int64)

    def place_of(self, index: int) -> str:
        """Return ``FILE:N`` of a record."""
        return f"{self.source_of(index)}:{self.numbers[index]}"

    def source_of(self, index: int) -> str:
        """Return the path, as given, that a record came from."""
        return list(self.source_codes)[self.sources[index]]

    def id_of(self, index: int) -> str:
        """Return a record's row id, in hex."""
        return bytes(self.ids[index * ID_BYTES : (index + 1) * ID_BYTES]).hex()


def scan_rows(
    data: DataFiles,
    signatures: MinHashSignatures,
    count_tokens: CountTokens | None,
    max_tokens: int | None,
    label_codes: dict[str, int],
    find_problem: FindProblem | None = None,
) -> Scan:
    """Read everything once.

    ``signatures`` gets one entry for each record. ``label_codes`` is extended, so that two scans can share it.
    """
    scan = Scan(data, label_codes=label_codes)
    shared_start = _shared_first_paragraph(data)
    for index, record in enumerate(data.records()):
        scan.numbers.append(record.number)
        scan.sources.append(scan.source_codes.setdefault(record.source, len(scan.source_codes)))
        if isinstance(record, Row):
            _add_row(scan, index, record, signatures, shared_start, count_tokens, max_tokens, find_problem)
        else:
            _add_excluded(scan, index, record, signatures)
    return scan


def _shared_first_paragraph(data: DataFiles) -> str:
    """Return the first paragraph that at least half of the first rows share, such as an instruction, or ``""``.

    It says nothing about how similar two of these rows are.
    """
    rows = islice((record for record in data.records() if isinstance(record, Row)), SAMPLE_ROWS)
    split_texts = [row.text_to_compare().partition(PARAGRAPH) for row in rows]
    starts = Counter(first for first, _, rest in split_texts if rest.strip())
    ((shared, count),) = starts.most_common(1) or [("", 0)]
    return shared + PARAGRAPH if 2 * count >= len(split_texts) > 0 else ""


def _add_row(
    scan: Scan,
    index: int,
    row: Row,
    signatures: MinHashSignatures,
    shared_start: str,
    count_tokens: CountTokens | None,
    max_tokens: int | None,
    find_problem: FindProblem | None,
) -> None:
    question, full_text, label = row.question(), row.full_text(), row.label
    question_key = duplicate_text(question) or question
    near_key = near_duplicate_text(question) or question
    to_compare = row.text_to_compare().removeprefix(shared_start)
    scan.ids += bytes.fromhex(row.id)
    scan.questions += _digest(question_key)
    scan.answers += _digest(question_key + "\0" + (label or duplicate_text(full_text)))
    scan.near_questions += _digest(near_key)
    scan.labels.append(-1 if label is None else scan.label_codes.setdefault(label, len(scan.label_codes)))
    signatures.add(near_key if to_compare == question else near_duplicate_text(to_compare) or near_key)
    tokens = count_tokens(full_text) if count_tokens is not None else 0
    scan.tokens.append(tokens)
    if max_tokens is not None and tokens > max_tokens:
        reason = f"it is too long: {tokens:,} tokens, and {max_tokens:,} fit"
        scan.unusable[index] = ExcludedRecord(row.source, row.number, reason, row.id, "too long")
        return
    if find_problem is not None and (problem := find_problem(row)) is not None:
        scan.unusable[index] = ExcludedRecord(row.source, row.number, problem, row.id, REFUSED)
        return
    matches = list(pii.find_pii(full_text))
    scan.pii_rows.update({match.kind for match in matches})
    for match in matches:
        scan.pii_matches[match.kind] += 1
        examples = scan.pii_examples.setdefault(match.kind, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(f"{match.masked} ({row.source}:{row.number})")


def _add_excluded(scan: Scan, index: int, record: ExcludedRecord, signatures: MinHashSignatures) -> None:
    unique = index.to_bytes(DIGEST_BYTES, "big")
    scan.ids += index.to_bytes(ID_BYTES, "big")
    scan.questions += unique
    scan.answers += unique
    scan.near_questions += unique
    scan.labels.append(-1)
    scan.tokens.append(0)
    scan.unusable[index] = record
    signatures.add(f"\0{index}")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:DIGEST_BYTES]


def has_labels(data: DataFiles) -> bool:
    """Return whether the rows are labelled texts."""
    return data.kind is Kind.LABEL
