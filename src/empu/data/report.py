"""Report what reading, checking and splitting found, as text and as JSON."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Any

from empu.data.checks import CheckLimits
from empu.data.reader import DataTable
from empu.data.rows import Kind
from empu.data.splits import PARTS, Split
from empu.ledger.records import DEV, TEST, TRAIN

MAX_LISTED = 10
"""Lines of a list in the text form; the JSON form has all of them."""

MIN_ROWS_FOR_SHARES = 20
"""Shares of the parts are only compared with the requested ones from this many rows."""


@dataclass(frozen=True, slots=True)
class DataReport:
    """Everything that is said before tuning. Counts are of rows unless their names say otherwise."""

    path: str
    kind: str
    files: tuple[dict[str, Any], ...]
    skipped_files: tuple[tuple[str, str], ...]
    read: int
    kept: int
    parts: dict[str, int]
    uneven_parts: dict[str, float]
    """Part -> share of rows that was requested, where the share it has is far from that."""
    classes: dict[str, dict[str, int]]
    similar_labels: tuple[tuple[str, ...], ...]
    """Labels that differ only by case, spaces or invisible characters."""
    small_classes: dict[str, int]
    unseen_classes: tuple[str, ...]
    """Labels of the test or the development part that the training part lacks."""
    excluded: dict[str, int]
    """Category -> excluded records."""
    exclusions: tuple[dict[str, Any], ...]
    near_duplicate_pairs: int
    near_leaks: int
    """Training rows that are near-duplicates of rows of the test file and were asked for."""
    largest_group: int
    """Rows in the largest group of near-duplicates."""
    tokens: int
    longest_tokens: int
    pii: dict[str, dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """Return the report as lines of text, most important first."""
        return list(self._lines())

    def _lines(self) -> Iterator[str]:
        for file in self.files:
            yield f"{file['path']}: {file['format']}, {file['recognised']}"
            yield from (f"{file['path']}: {note}" for note in file["notes"])
        yield from (f"skipped file: {reason}" for _, reason in self.skipped_files)
        parts = ", ".join(f"{self.parts[part]:,} {part}" for part in PARTS)
        yield f"{self.read:,} records read, {self.kept:,} rows used: {parts}"
        if self.classes:
            sizes = [sum(counts.values()) for counts in self.classes.values()]
            spread = f"{min(sizes):,} to {max(sizes):,}" if min(sizes) < max(sizes) else f"{min(sizes):,}"
            yield f"{len(self.classes)} classes of {spread} rows"
        if self.tokens:
            yield f"{self.tokens:,} tokens, the longest row {self.longest_tokens:,}"
        yield from self._warnings()
        for kind, counts in self.pii.items():
            example = f", such as {counts['examples'][0]}" if counts["examples"] else ""
            where = f"{counts['matches']:,} x {kind} in {_counted(counts['rows'], 'row')}{example}"
            yield f"personal data: {where}; nothing was removed"
        for category, count in self.excluded.items():
            yield f"excluded: {_counted(count, 'row')}, {category}"
        for item in self.exclusions[:MAX_LISTED]:
            yield f"  {item['source']}:{item['number']}: {item['reason']}"
        if len(self.exclusions) > MAX_LISTED:
            more = len(self.exclusions) - MAX_LISTED
            yield f"  and {more:,} more, each with its reason, in the record of the data set"

    def _warnings(self) -> Iterator[str]:
        for labels in self.similar_labels[:MAX_LISTED]:
            names = " and ".join(f"{_visible(label)} ({self._class_rows(label):,} rows)" for label in labels)
            yield f"labels that look alike are separate classes: {names}; correct them if they mean the same"
        if self.small_classes:
            names = ", ".join(f"{name} {count}" for name, count in list(self.small_classes.items())[:MAX_LISTED])
            classes = _counted(len(self.small_classes), "class", "classes")
            yield f"few rows in {classes} ({names}); expect mistakes there"
        if self.unseen_classes:
            yield f"classes without training rows: {', '.join(self.unseen_classes[:MAX_LISTED])}"
        for part, share in self.uneven_parts.items():
            count = self.parts[part]
            yield (
                f"the {part} part has {count:,} of {self.kept:,} rows ({count / self.kept:.0%}) where {share:.0%} were "
                "meant, because classes are small or near-duplicates stay together"
            )
        if self.near_duplicate_pairs:
            yield (
                f"{_counted(self.near_duplicate_pairs, 'pair')} of near-duplicates, kept in the same part; the largest "
                f"group has {self.largest_group:,} rows"
            )
        if self.near_leaks:
            yield (
                f"{self.near_leaks:,} training rows are near-duplicates of rows of the test part, kept as requested; "
                "scores are too high by what they give away"
            )
        if self.largest_group * 5 > self.kept > 0:
            yield "more than a fifth of the rows are variants of one another, so scores say little about new rows"

    def _class_rows(self, label: str) -> int:
        return sum(self.classes.get(label, {}).values())


def _counted(count: int, singular: str, plural: str | None = None) -> str:
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def _visible(label: str) -> str:
    """Return a label in quotes with its invisible characters escaped."""
    shown = (c if c == " " or unicodedata.category(c)[0] not in "CZ" else f"\\u{ord(c):04x}" for c in label)
    return "'" + "".join(shown) + "'"


def similar_labels(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Group labels that differ only by case, spaces, width or invisible characters."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        text = unicodedata.normalize("NFKC", label).casefold()
        key = "".join(c for c in text if unicodedata.category(c)[0] not in "CZ" and c not in "_-")
        groups.setdefault(key, []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def build_report(split: Split, limits: CheckLimits | None = None) -> DataReport:
    """Combine what reading, checking and splitting found."""
    checked, limits = split.checked, limits or CheckLimits()
    scans = [scan for scan in (checked.scan, checked.test_scan) if scan is not None]
    sources = [data for data in (checked.data, checked.test) if data is not None]
    classes = split.class_counts() if checked.data.kind is Kind.LABEL else {}
    training_rows = {name: counts[TRAIN] for name, counts in classes.items()}
    excluded = dict(checked.reasons.most_common())
    between = len(split.exclusions) - len(checked.exclusions)
    if between:
        excluded["between two parts"] = between
    if checked.test_scan is not None and checked.test_scan.unusable:
        excluded["unusable in the test file"] = len(checked.test_scan.unusable)
    groups: dict[int, int] = {}
    for cluster in checked.clusters[checked.kept].tolist():
        groups[cluster] = groups.get(cluster, 0) + 1
    counts = split.counts()
    kept = (checked.kept, checked.test_kept)
    lengths = [list(compress(scan.tokens, used.tolist())) for scan, used in zip(scans, kept, strict=False)]
    return DataReport(
        path=checked.data.path,
        kind=str(checked.data.kind),
        files=tuple(_file(table) for data in sources for table in data.tables),
        skipped_files=tuple(skipped for data in sources for skipped in data.skipped),
        read=sum(map(len, scans)),
        kept=sum(counts.values()),
        parts=counts,
        uneven_parts=_uneven_parts(split, counts),
        classes=classes,
        similar_labels=tuple(similar_labels(classes)),
        small_classes={name: count for name, count in training_rows.items() if 0 < count < limits.min_class_rows},
        unseen_classes=tuple(name for name, count in training_rows.items() if not count),
        excluded=excluded,
        exclusions=tuple(dataclasses.asdict(item) for item in split.exclusions),
        near_duplicate_pairs=checked.near_duplicate_pairs,
        near_leaks=checked.near_leaks,
        largest_group=max(groups.values(), default=0),
        tokens=sum(map(sum, lengths)),
        longest_tokens=max((max(tokens, default=0) for tokens in lengths), default=0),
        pii={
            kind: {
                "rows": sum(scan.pii_rows[kind] for scan in scans),
                "matches": sum(scan.pii_matches[kind] for scan in scans),
                "examples": [example for scan in scans for example in scan.pii_examples.get(kind, [])],
            }
            for kind in sorted({kind for scan in scans for kind in scan.pii_rows})
        },
    )


def _uneven_parts(split: Split, counts: dict[str, int]) -> dict[str, float]:
    """Return the requested share of the held-out parts that have less than half or more than twice of it."""
    total = sum(counts.values())
    if total < MIN_ROWS_FOR_SHARES:
        return {}
    requested = {DEV: split.shares.dev}
    if split.checked.test is None:
        requested[TEST] = split.shares.test
    return {part: share for part, share in requested.items() if not share / 2 <= counts[part] / total <= 2 * share}


def _file(table: DataTable) -> dict[str, Any]:
    return {
        "path": table.source,
        "sha256": table.sha256,
        "bytes": table.size,
        "format": table.table.format,
        "encoding": table.table.encoding.name if table.table.encoding else None,
        "delimiter": table.table.delimiter,
        "columns": dict(table.columns.columns),
        "recognised": table.columns.line(),
        "notes": list(table.notes),
    }
