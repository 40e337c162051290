"""Check rows before time is spent on tuning: unusable, duplicate, contradictory and leaking rows are excluded.

Each excluded row has its reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from empu.data.near_duplicates import Ints, MinHashSignatures, clusters
from empu.data.reader import DataFiles
from empu.data.rows import DataError, ExcludedRecord, Row
from empu.data.scan import DIGEST_BYTES, REFUSED, CountTokens, FindProblem, Scan, has_labels, scan_rows

Mask = NDArray[np.bool_]

ADVICE = {
    "unreadable": "correct these rows, or name the columns with --map FIELD=COLUMN",
    "empty": "fill these cells, or name other columns with --map FIELD=COLUMN",
    "too long": "shorten these rows",
    REFUSED: "correct these rows, or tune another --base",
    "duplicate": "add rows that differ",
    "same text": "add rows that differ",
    "contradictory": "give each text one label",
    "marked as bad": "add rows with good answers",
    "not to be learnt": "add rows with answers to learn",
    "hidden": "show these rows in the sheet and save it, or add others",
    "in the test part": "remove these rows from the test file, or add others",
    "near a row of the test part": "give a test file that differs more, or add --keep-near-duplicates",
}
"""Category of excluded rows -> what the user can do."""

MAX_REASON_CHARS = 200
_VALUES = re.compile(r"'[^']*'|\S+:\d+|[\d,.]*\d")
"""Parts of a reason that differ from row to row."""


@dataclass(frozen=True, slots=True)
class CheckLimits:
    """Thresholds of the checks."""

    max_tokens: int | None = None
    """Longest row, in tokens."""
    near_duplicate_similarity: float = 0.8
    """Jaccard similarity from which two texts count as near-duplicates."""
    min_rows: int = 10
    """Fewest usable rows."""
    min_class_rows: int = 5
    """The report warns about classes with fewer training rows."""
    drop_near_leaks: bool = True
    """Whether to exclude training rows that are near-duplicates of a row of the test file. Rows with the same text are
    always excluded."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Which records of ``data`` (and of ``test``, where given) are used, and why others are not."""

    data: DataFiles
    test: DataFiles | None
    scan: Scan
    test_scan: Scan | None
    kept: Mask
    test_kept: Mask
    clusters: Ints
    """For each record the smallest record of its group of near-duplicates."""
    exclusions: tuple[ExcludedRecord, ...]
    near_duplicate_pairs: int
    near_leaks: int = 0
    """Training rows that are near-duplicates of rows of the test file; 0 unless they were asked for."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Category -> excluded records."""

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the rows that are kept with their record index. The files are read again.

        Raises :class:`~empu.data.rows.DataError` if they have changed.
        """
        return _reread(self.data, self.scan, self.kept)

    def test_rows(self) -> Iterator[Row]:
        """Yield the rows that are kept of the test file, if one was given."""
        if self.test is not None and self.test_scan is not None:
            yield from (row for _, row in _reread(self.test, self.test_scan, self.test_kept))

    def class_sizes(self) -> dict[str, int]:
        """Return label -> kept rows, largest first."""
        return _class_sizes(self.scan, self.kept)

    def test_class_sizes(self) -> dict[str, int]:
        """Return label -> kept rows of the test file, largest first."""
        return {} if self.test_scan is None else _class_sizes(self.test_scan, self.test_kept)


def _class_sizes(scan: Scan, kept: Mask) -> dict[str, int]:
    names = list(scan.label_codes)
    counts = Counter(scan.label_array()[kept].tolist())
    return {names[code]: count for code, count in counts.most_common() if code >= 0}


def check_rows(
    data: DataFiles,
    test: DataFiles | None = None,
    count_tokens: CountTokens | None = None,
    limits: CheckLimits | None = None,
    find_problem: FindProblem | None = None,
) -> CheckResult:
    """Read everything once and decide which rows are used. ``find_problem`` knows what the base model cannot take.

    Raises :class:`~empu.data.rows.DataError` if too few rows or only one class remain, and
    :class:`~empu.errors.MissingDependencyError` without the library for near-duplicates.
    """
    limits = limits or CheckLimits()
    if test is not None and test.kind is not data.kind:
        raise DataError(f"{test.path} holds {test.kind} rows and {data.path} {data.kind} rows; give two of one kind.")
    signatures = MinHashSignatures()
    label_codes: dict[str, int] = {}
    try:
        settings = (signatures, count_tokens, limits.max_tokens, label_codes, find_problem)
        scan = scan_rows(data, *settings)
        test_scan = scan_rows(test, *settings) if test else None
        near_pairs = signatures.pairs(limits.near_duplicate_similarity)
    finally:
        signatures.close()
    pairs_in_data = near_pairs[near_pairs[:, 1] < len(scan)]
    exclusions = _Exclusions(scan)
    exclusions.add_unusable()
    exclusions.add_duplicates()
    if has_labels(data):
        exclusions.add_contradictions()
    near_leaks = 0
    if test_scan is not None:
        near_leaks = exclusions.add_leaks(test_scan, near_pairs, limits.drop_near_leaks)
    test_kept = np.ones(0 if test_scan is None else len(test_scan), dtype=bool)
    excluded = list(exclusions.records())
    if test_scan is not None:
        test_kept[list(test_scan.unusable)] = False
        excluded += list(test_scan.unusable.values())
    result = CheckResult(
        data=data,
        test=test,
        scan=scan,
        test_scan=test_scan,
        kept=exclusions.kept,
        test_kept=test_kept,
        clusters=clusters(len(scan), pairs_in_data),
        exclusions=tuple(excluded),
        near_duplicate_pairs=int(exclusions.kept[pairs_in_data].all(axis=1).sum()),
        near_leaks=near_leaks,
        reasons=exclusions.counts,
    )
    _check_enough(result, limits)
    return result


class _Exclusions:
    """Collects excluded records; the first reason of a record stays."""

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.kept: Mask = np.ones(len(scan), dtype=bool)
        self.counts: Counter[str] = Counter()
        self._excluded: dict[int, ExcludedRecord] = {}

    def exclude(self, index: int, category: str, reason: str) -> None:
        source, number = self.scan.source_of(index), self.scan.numbers[index]
        self._add(index, ExcludedRecord(source, number, reason, self.scan.id_of(index), category))

    def _add(self, index: int, record: ExcludedRecord) -> None:
        if self.kept[index]:
            self.kept[index] = False
            self.counts[record.category] += 1
            self._excluded[index] = record

    def records(self) -> Iterator[ExcludedRecord]:
        return (self._excluded[index] for index in sorted(self._excluded))

    def add_unusable(self) -> None:
        for index, record in self.scan.unusable.items():
            self._add(index, record)

    def add_duplicates(self) -> None:
        """Exclude all but the first of rows that are the same, or the same but for case and white space."""
        first_same_id = _first_equal(self.scan.digests(self.scan.ids), self.kept)
        for index in np.flatnonzero(self.kept & (first_same_id != np.arange(len(first_same_id)))).tolist():
            self.exclude(index, "duplicate", f"it is the same as {self.scan.place_of(int(first_same_id[index]))}")
        first_same_text = _first_equal(self.scan.digests(self.scan.answers), self.kept)
        for index in np.flatnonzero(self.kept & (first_same_text != np.arange(len(first_same_text)))).tolist():
            place = self.scan.place_of(int(first_same_text[index]))
            self.exclude(index, "same text", f"but for case and spaces it is the same as {place}")

    def add_contradictions(self) -> None:
        """Exclude rows of the same text with different labels: nobody can tell which label is right."""
        first = _first_equal(self.scan.digests(self.scan.questions), self.kept)
        groups: dict[int, list[int]] = {}
        for index in np.flatnonzero(self.kept & (first != np.arange(len(first)))).tolist():
            groups.setdefault(int(first[index]), [int(first[index])]).append(index)
        names = list(self.scan.label_codes)
        for indices in groups.values():
            for index in indices:
                other = next(i for i in indices if self.scan.labels[i] != self.scan.labels[index])
                here, there = names[self.scan.labels[index]], names[self.scan.labels[other]]
                reason = f"the same text is labelled {here!r} here and {there!r} in {self.scan.place_of(other)}"
                self.exclude(index, "contradictory", reason)

    def add_leaks(self, test: Scan, near_pairs: Ints, drop_near: bool) -> int:
        """Exclude rows whose text is in the test file; return how many near-duplicates of test rows are kept."""
        start, usable = len(self.scan), np.ones(len(test), dtype=bool)
        usable[list(test.unusable)] = False
        test_keys = {bytes(key): i for i, key in enumerate(_digest_list(test.questions)) if usable[i]}
        for index, key in enumerate(_digest_list(self.scan.questions)):
            if key in test_keys:
                place = test.place_of(test_keys[key])
                self.exclude(index, "in the test part", f"its text is in the test part, {place}")
        # Clusters and not only pairs: of many similar rows not every pair was compared.
        cluster = clusters(start + len(test), near_pairs)
        test_row_of: dict[int, int] = {}
        for test_index in np.flatnonzero(usable).tolist():
            test_row_of.setdefault(int(cluster[start + test_index]), test_index)
        candidates = [(index, test_row_of.get(int(cluster[index]))) for index in np.flatnonzero(self.kept).tolist()]
        leaks = [(index, test_index) for index, test_index in candidates if test_index is not None]
        if not drop_near:
            return len({index for index, _ in leaks})
        for index, test_index in leaks:
            reason = f"its text is a near-duplicate of a row of the test part, {test.place_of(test_index)}"
            self.exclude(index, "near a row of the test part", reason)
        return 0


def _digest_list(column: bytearray) -> Iterator[bytes]:
    return (bytes(column[start : start + DIGEST_BYTES]) for start in range(0, len(column), DIGEST_BYTES))


def _first_equal(digests: NDArray[np.void], among: Mask) -> Ints:
    """Return, for each record, the first record with the same digest; records outside ``among`` map to themselves."""
    result = np.arange(len(digests), dtype=np.int64)
    chosen = np.flatnonzero(among)
    if len(chosen):
        _, first, inverse = np.unique(digests[chosen], return_index=True, return_inverse=True)
        result[chosen] = chosen[first[inverse]]
    return result


def _reread(data: DataFiles, scan: Scan, kept: Mask) -> Iterator[tuple[int, Row]]:
    count = 0
    for index, record in enumerate(data.records()):
        count += 1
        is_same = index < len(scan) and record.number == scan.numbers[index]
        if is_same and isinstance(record, Row):
            is_same = record.id == scan.id_of(index)
        if not is_same:
            raise DataError(f"{record.source} changed while it was being used; start again.")
        if kept[index] and isinstance(record, Row):
            yield index, record
    if count != len(scan):
        raise DataError(f"{data.path} changed while it was being used; start again.")


def _check_enough(result: CheckResult, limits: CheckLimits) -> None:
    kept = int(result.kept.sum())
    path = result.data.path
    if kept < limits.min_rows:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in result.reasons.most_common())
        total = f" of {len(result.kept):,} (excluded: {counts})" if counts else ""
        why = _commonest_reason(result) if counts else "add more"
        raise DataError(f"{path} has {kept:,} usable rows{total}, and at least {limits.min_rows} are needed; {why}.")
    if has_labels(result.data):
        sizes = result.class_sizes()
        if len(sizes) < 2:
            raise DataError(
                f"All {kept:,} usable rows of {path} have the label {next(iter(sizes))!r}; add another class."
            )
    if result.test is not None and not result.test_kept.any():
        raise DataError(
            f"The test part {result.test.path} has no usable rows; {_first_test_problem(result)}give another file."
        )


def _commonest_reason(result: CheckResult) -> str:
    """Return the reason that most excluded records share, its first record, and what to do."""
    groups: dict[str, list[ExcludedRecord]] = {}
    for record in result.exclusions:
        if record.source in result.scan.source_codes:
            groups.setdefault(_VALUES.sub("…", record.reason), []).append(record)
    records = max(groups.values(), key=len)
    first = records[0]
    advice = "" if ";" in first.reason else f"; {ADVICE.get(first.category, 'add more')}"
    reason = first.reason if len(first.reason) <= MAX_REASON_CHARS else first.reason[:MAX_REASON_CHARS] + "…"
    return f"row {first.number:,}, the first of {len(records):,} alike: {reason}{advice}"


def _first_test_problem(result: CheckResult) -> str:
    if result.test_scan is None or not result.test_scan.unusable:
        return ""
    first = next(iter(result.test_scan.unusable.values()))
    return f"row {first.number}: {first.reason}; "
