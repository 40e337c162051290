"""What was found in the data, for people and for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Any

from empu.data.checks import Limits
from empu.data.reader import Part
from empu.data.rows import Kind
from empu.data.splits import PARTS, Split

SHOWN = 10
"""Lines of a list that people are shown; the JSON form has all of them."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is said before tuning. Counts are of rows unless their names say otherwise."""

    path: str
    kind: str
    files: tuple[dict[str, Any], ...]
    skipped_files: tuple[tuple[str, str], ...]
    read: int
    kept: int
    parts: dict[str, int]
    classes: dict[str, dict[str, int]]
    thin_classes: dict[str, int]
    unseen_classes: tuple[str, ...]
    """Labels of the test or the development part that the training part lacks."""
    left_out: dict[str, int]
    exclusions: tuple[dict[str, Any], ...]
    near_pairs: int
    near_leaks: int
    """Training rows that are near-duplicates of rows of the test file and were asked for all the same."""
    largest_group: int
    """Rows in the largest group of near-duplicates."""
    tokens: int
    longest_tokens: int
    personal: dict[str, dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """The report for people, most important first."""
        return list(self._lines())

    def _lines(self) -> Iterator[str]:
        for file in self.files:
            yield f"{file['path']}: {file['format']}, {file['recognised']}"
            yield from (f"{file['path']}: {note}" for note in file["notes"])
        yield from (f"left out: {reason}" for _, reason in self.skipped_files)
        parts = ", ".join(f"{self.parts[part]:,} {part}" for part in PARTS)
        yield f"{self.read:,} records read, {self.kept:,} rows used: {parts}"
        if self.classes:
            sizes = [sum(counts.values()) for counts in self.classes.values()]
            spread = f"{min(sizes):,} to {max(sizes):,}" if min(sizes) < max(sizes) else f"{min(sizes):,}"
            yield f"{len(self.classes)} classes of {spread} rows"
        if self.tokens:
            yield f"{self.tokens:,} tokens, the longest row {self.longest_tokens:,}"
        yield from self._warnings()
        for found, counts in self.personal.items():
            example = f", such as {counts['examples'][0]}" if counts["examples"] else ""
            where = f"{counts['matches']:,} x {found} in {_counted(counts['rows'], 'row')}{example}"
            yield f"personal data: {where}; nothing was removed"
        for reason, count in self.left_out.items():
            yield f"left out: {_counted(count, 'row')}, {reason}"
        for one in self.exclusions[:SHOWN]:
            yield f"  {one['source']}:{one['number']}: {one['reason']}"
        if len(self.exclusions) > SHOWN:
            yield f"  and {len(self.exclusions) - SHOWN:,} more, each with its reason, in the record of the data set"

    def _warnings(self) -> Iterator[str]:
        if self.thin_classes:
            names = ", ".join(f"{name} {count}" for name, count in list(self.thin_classes.items())[:SHOWN])
            yield f"few rows in {_counted(len(self.thin_classes), 'class', 'classes')} ({names}); expect mistakes there"
        if self.unseen_classes:
            yield f"classes of held-out rows alone, which no row trains: {', '.join(self.unseen_classes[:SHOWN])}"
        if self.near_pairs:
            yield (
                f"{_counted(self.near_pairs, 'pair')} of near-duplicates, kept on the same side; the largest group has "
                f"{self.largest_group:,} rows"
            )
        if self.near_leaks:
            yield (
                f"{self.near_leaks:,} training rows are near-duplicates of rows of the test part, kept as asked; "
                "scores flatter the model by what they give away"
            )
        if self.largest_group * 5 > self.kept > 0:
            yield "more than a fifth of the rows are variants of one another, so scores say little about new rows"


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def report(split: Split, limits: Limits | None = None) -> Report:
    """Put together what reading, checking and splitting found."""
    checked, limits = split.checked, limits or Limits()
    scans = [scan for scan in (checked.scan, checked.test_scan) if scan is not None]
    readings = [reading for reading in (checked.reading, checked.test) if reading is not None]
    classes = split.class_counts() if checked.reading.kind is Kind.LABEL else {}
    trained = {name: counts["train"] for name, counts in classes.items()}
    left_out = dict(checked.reasons.most_common())
    between = len(split.exclusions) - len(checked.exclusions)
    if between:
        left_out["between two parts"] = between
    if checked.test_scan is not None and checked.test_scan.unusable:
        left_out["unusable in the test file"] = len(checked.test_scan.unusable)
    groups: dict[int, int] = {}
    for cluster in checked.clusters[checked.kept].tolist():
        groups[cluster] = groups.get(cluster, 0) + 1
    counts = split.counts()
    kept = (checked.kept, checked.test_kept)
    lengths = [list(compress(scan.tokens, used.tolist())) for scan, used in zip(scans, kept, strict=False)]
    return Report(
        path=checked.reading.path,
        kind=str(checked.reading.kind),
        files=tuple(_file(part) for reading in readings for part in reading.parts),
        skipped_files=tuple(skipped for reading in readings for skipped in reading.skipped),
        read=sum(map(len, scans)),
        kept=sum(counts.values()),
        parts=counts,
        classes=classes,
        thin_classes={name: count for name, count in trained.items() if 0 < count < limits.min_class},
        unseen_classes=tuple(name for name, count in trained.items() if not count),
        left_out=left_out,
        exclusions=tuple(dataclasses.asdict(one) for one in split.exclusions),
        near_pairs=checked.near_pairs,
        near_leaks=checked.near_leaks,
        largest_group=max(groups.values(), default=0),
        tokens=sum(map(sum, lengths)),
        longest_tokens=max((max(tokens, default=0) for tokens in lengths), default=0),
        personal={
            kind: {
                "rows": sum(scan.personal_rows[kind] for scan in scans),
                "matches": sum(scan.personal_matches[kind] for scan in scans),
                "examples": [example for scan in scans for example in scan.personal_examples.get(kind, [])],
            }
            for kind in sorted({kind for scan in scans for kind in scan.personal_rows})
        },
    )


def _file(part: Part) -> dict[str, Any]:
    return {
        "path": part.source,
        "sha256": part.sha256,
        "bytes": part.size,
        "format": part.table.format,
        "encoding": part.table.encoding.name if part.table.encoding else None,
        "delimiter": part.table.delimiter,
        "columns": dict(part.recognised.columns),
        "recognised": part.recognised.line(),
        "notes": list(part.table.notes),
    }
