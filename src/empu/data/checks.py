"""What is wrong with the rows, found before anything is spent on them. Nothing is left out without its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from empu.data.near_duplicates import Ints, Signatures, clusters
from empu.data.reader import Reading
from empu.data.rows import DataError, Rejected, Row
from empu.data.scan import KEY, CountTokens, Scan, is_labelled, scan

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Limits:
    """Where checks draw their lines."""

    max_tokens: int | None = None
    """Longest row, in tokens, as the token counter counts it."""
    near: float = 0.8
    """Jaccard similarity from which two texts count as near-duplicates."""
    min_rows: int = 10
    """Fewest usable rows to begin with."""
    min_class: int = 5
    """A class with fewer rows is pointed out."""
    drop_near_leaks: bool = True
    """Whether training rows that are near-duplicates of a given test row are left out, as those of the same wording
    always are."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome: which items of ``reading`` (and of ``test``, where given) are kept, and why others are not."""

    reading: Reading
    test: Reading | None
    scan: Scan
    test_scan: Scan | None
    kept: Mask
    test_kept: Mask
    clusters: Ints
    """For each item of the reading the smallest item that it is a near-duplicate of, directly or over others."""
    exclusions: tuple[Rejected, ...]
    near_pairs: int
    near_leaks: int = 0
    """Kept rows that are near-duplicates of rows of the test file; not 0 only where they were asked for."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Short name of a reason -> items left out for it."""

    def rows(self) -> Iterator[tuple[int, Row]]:
        """The kept rows with their item numbers; the files are read again.

        Raises :class:`~empu.data.rows.DataError` when they are not what they were.
        """
        return _again(self.reading, self.scan, self.kept)

    def test_rows(self) -> Iterator[Row]:
        """The kept rows of the test file, none where no such file was given."""
        if self.test is not None and self.test_scan is not None:
            yield from (row for _, row in _again(self.test, self.test_scan, self.test_kept))

    def class_sizes(self) -> dict[str, int]:
        """Label -> kept rows, largest first."""
        return _class_sizes(self.scan, self.kept)

    def test_class_sizes(self) -> dict[str, int]:
        """The same of the test file."""
        return {} if self.test_scan is None else _class_sizes(self.test_scan, self.test_kept)


def _class_sizes(scan: Scan, kept: Mask) -> dict[str, int]:
    names = list(scan.label_names)
    counts = Counter(scan.label_codes()[kept].tolist())
    return {names[code]: count for code, count in counts.most_common() if code >= 0}


def check(
    reading: Reading,
    test: Reading | None = None,
    count_tokens: CountTokens | None = None,
    limits: Limits | None = None,
) -> Checked:
    """Read everything once and judge it.

    Raises :class:`~empu.data.rows.DataError` when too few rows or only one class is left, and
    :class:`~empu.errors.MissingDependencyError` without the library for near-duplicates.
    """
    limits = limits or Limits()
    if test is not None and test.kind is not reading.kind:
        raise DataError(f"{test.path} holds {test.kind} rows and {reading.path} {reading.kind} rows; give two alike.")
    signatures = Signatures()
    labels: dict[str, int] = {}
    try:
        main = scan(reading, signatures, count_tokens, limits.max_tokens, labels)
        held = scan(test, signatures, count_tokens, limits.max_tokens, labels) if test is not None else None
        near = signatures.pairs(limits.near)
    finally:
        signatures.close()
    inside = near[near[:, 1] < len(main)]
    judged = _Judged(main)
    judged.unusable()
    judged.duplicates()
    if is_labelled(reading):
        judged.contradictions()
    near_leaks = 0
    if held is not None:
        near_leaks = judged.leaks(held, near, limits.drop_near_leaks)
    test_kept = np.ones(0 if held is None else len(held), dtype=bool)
    left_out = list(judged.left_out())
    if held is not None:
        test_kept[list(held.unusable)] = False
        left_out += list(held.unusable.values())
    checked = Checked(
        reading=reading,
        test=test,
        scan=main,
        test_scan=held,
        kept=judged.kept,
        test_kept=test_kept,
        clusters=clusters(len(main), inside),
        exclusions=tuple(left_out),
        near_pairs=int(judged.kept[inside].all(axis=1).sum()),
        near_leaks=near_leaks,
        reasons=judged.counts,
    )
    _enough(checked, limits)
    return checked


class _Judged:
    """Collects the reasons; the first reason stands."""

    def __init__(self, found: Scan) -> None:
        self.scan = found
        self.kept: Mask = np.ones(len(found), dtype=bool)
        self.counts: Counter[str] = Counter()
        self._reasons: dict[int, tuple[str, str]] = {}

    def drop(self, item: int, short: str, reason: str) -> None:
        if self.kept[item]:
            self.kept[item] = False
            self.counts[short] += 1
            self._reasons[item] = (short, reason)

    def left_out(self) -> Iterator[Rejected]:
        for item in sorted(self._reasons):
            known = self.scan.unusable.get(item)
            source, number = self.scan.source_of(item), self.scan.numbers[item]
            yield known or Rejected(source, number, self._reasons[item][1], self.scan.id_of(item))

    def unusable(self) -> None:
        for item, rejected in self.scan.unusable.items():
            short = "empty" if rejected.reason.endswith("is empty") else "unreadable"
            self.drop(item, "too long" if rejected.row_id else short, rejected.reason)

    def duplicates(self) -> None:
        """The same row, or the same but for case, punctuation and spacing: all but the first."""
        same_id = _first(self.scan.digests(self.scan.ids), self.kept)
        for item in np.flatnonzero(self.kept & (same_id != np.arange(len(same_id)))).tolist():
            self.drop(item, "duplicate", f"it is the same as {self.scan.place(int(same_id[item]))}")
        same_words = _first(self.scan.digests(self.scan.pairs), self.kept)
        for item in np.flatnonzero(self.kept & (same_words != np.arange(len(same_words)))).tolist():
            place = self.scan.place(int(same_words[item]))
            self.drop(item, "same wording", f"but for case, punctuation and spaces it is the same as {place}")

    def contradictions(self) -> None:
        """The same wording under different labels: which is right cannot be told, so none of them is kept."""
        first = _first(self.scan.digests(self.scan.questions), self.kept)
        groups: dict[int, list[int]] = {}
        for item in np.flatnonzero(self.kept & (first != np.arange(len(first)))).tolist():
            groups.setdefault(int(first[item]), [int(first[item])]).append(item)
        names = list(self.scan.label_names)
        for items in groups.values():
            for item in items:
                other = next(one for one in items if self.scan.labels[one] != self.scan.labels[item])
                here, there = names[self.scan.labels[item]], names[self.scan.labels[other]]
                reason = f"the same text is labelled {here!r} here and {there!r} in {self.scan.place(other)}"
                self.drop(item, "contradictory", reason)

    def leaks(self, test: Scan, near: Ints, drop_near: bool) -> int:
        """Drop rows that stand in the test file word for word, or nearly; gives how many of the latter were kept."""
        start, usable = len(self.scan), np.ones(len(test), dtype=bool)
        usable[list(test.unusable)] = False
        tested = {bytes(key): item for item, key in enumerate(_keys(test.questions)) if usable[item]}
        for item, key in enumerate(_keys(self.scan.questions)):
            if key in tested:
                self.drop(item, "in the test part", f"its text stands in the test part, {test.place(tested[key])}")
        cluster = clusters(start + len(test), near)  # over others too: of many alike not every pair was compared
        met: dict[int, int] = {}
        for other in np.flatnonzero(usable).tolist():
            met.setdefault(int(cluster[start + other]), other)
        together = [(item, met.get(int(cluster[item]))) for item in np.flatnonzero(self.kept).tolist()]
        leaks = [(item, other) for item, other in together if other is not None]
        if not drop_near:
            return len({item for item, _ in leaks})
        for item, other in leaks:
            reason = f"its text is a near-duplicate of a row of the test part, {test.place(other)}"
            self.drop(item, "near a row of the test part", reason)
        return 0


def _keys(column: bytearray) -> Iterator[bytes]:
    return (bytes(column[start : start + KEY]) for start in range(0, len(column), KEY))


def _first(digests: NDArray[np.void], among: Mask) -> Ints:
    """For each item the first item with the same digest; items outside ``among`` stand for themselves."""
    result = np.arange(len(digests), dtype=np.int64)
    chosen = np.flatnonzero(among)
    if len(chosen):
        _, first, inverse = np.unique(digests[chosen], return_index=True, return_inverse=True)
        result[chosen] = chosen[first[inverse]]
    return result


def _again(reading: Reading, found: Scan, kept: Mask) -> Iterator[tuple[int, Row]]:
    count = 0
    for item, row in enumerate(reading.items()):
        count += 1
        same = item < len(found) and row.number == found.numbers[item]
        if same and isinstance(row, Row):
            same = row.id == found.id_of(item)
        if not same:
            raise DataError(f"{row.source} changed while it was being used; start again.")
        if kept[item] and isinstance(row, Row):
            yield item, row
    if count != len(found):
        raise DataError(f"{reading.path} changed while it was being used; start again.")


def _enough(checked: Checked, limits: Limits) -> None:
    kept = int(checked.kept.sum())
    path = checked.reading.path
    if kept < limits.min_rows:
        why = ", ".join(f"{count:,} {reason}" for reason, count in checked.reasons.most_common())
        left_out = f" of {len(checked.kept):,} (left out: {why})" if why else ""
        raise DataError(
            f"{path} has {kept:,} usable rows{left_out}, and at least {limits.min_rows} are needed; add more."
        )
    if is_labelled(checked.reading):
        sizes = checked.class_sizes()
        if len(sizes) < 2:
            raise DataError(
                f"All {kept:,} usable rows of {path} have the label {next(iter(sizes))!r}; add another class."
            )
    if checked.test is not None and not checked.test_kept.any():
        raise DataError(f"The test part {checked.test.path} has no usable rows; give another file.")
