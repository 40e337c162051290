"""Dividing rows into a training, a development and a test part.

A row's part follows from a hash of its own wording, or of the smallest hash among its near-duplicates: not from its
place, not from a seed, not from how many rows there are. So a row keeps its part when rows are added, removed or
sorted, near-duplicates stay together, and each class is divided in about the same shares. Two things can still move a
row: a new near-duplicate whose hash is smaller, and a class so small that a part would be left without it. Where the
parts of an earlier data set are given, its rows keep them without exception.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from empu.data.checks import Checked
from empu.data.near_duplicates import Ints
from empu.data.rows import DataError, Rejected, Row
from empu.data.scan import KEY
from empu.ledger.records import DEV, TEST, TRAIN

PARTS = (TRAIN, DEV, TEST)
_TRAIN, _DEV, _TEST = range(3)
_OUT = -1


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the development and the test part; the test share does not count where a test file is given."""

    dev: float = 0.1
    test: float = 0.15


@dataclass(frozen=True, slots=True)
class Split:
    """Which kept row is in which part."""

    checked: Checked
    parts: NDArray[np.int8]
    """For each item of the reading its index in :data:`PARTS`, or -1."""
    exclusions: tuple[Rejected, ...]
    """Every row that is in no part: those of the checks, and those that stand between two parts."""

    def rows(self, part: str) -> Iterator[Row]:
        """The rows of one part in their order; the files are read again."""
        wanted = PARTS.index(part)
        if part == TEST and self.checked.test is not None:
            yield from self.checked.test_rows()
        else:
            yield from (row for item, row in self.checked.rows() if self.parts[item] == wanted)

    def all_rows(self) -> Iterator[tuple[Row, str]]:
        """Every row with its part, as a ledger writes them down."""
        for item, row in self.checked.rows():
            if self.parts[item] != _OUT:
                yield row, PARTS[self.parts[item]]
        yield from ((row, TEST) for row in self.checked.test_rows())

    def counts(self) -> dict[str, int]:
        """Part -> rows."""
        given = int(self.checked.test_kept.sum())
        return {
            part: int((self.parts == index).sum()) + (given if part == TEST else 0) for index, part in enumerate(PARTS)
        }

    def class_counts(self) -> dict[str, dict[str, int]]:
        """Label -> part -> rows; empty where rows have no labels."""
        scans = [(self.checked.scan.label_codes(), self.parts)]
        if self.checked.test_scan is not None:
            test = np.where(self.checked.test_kept, _TEST, _OUT).astype(np.int8)
            scans.append((self.checked.test_scan.label_codes(), test))
        table: dict[str, dict[str, int]] = {}
        for name, code in self.checked.scan.label_names.items():
            found = Counter[int]()
            for codes, parts in scans:
                found.update(parts[codes == code].tolist())
            if any(found[index] for index in range(len(PARTS))):
                table[name] = {part: found[index] for index, part in enumerate(PARTS)}
        return table


def split(checked: Checked, shares: Shares | None = None, earlier: Mapping[str, str] | None = None) -> Split:
    """Divide the kept rows.

    ``earlier`` (row id -> part) keeps rows where an earlier data set had them; a new row that is a near-duplicate of
    rows on both sides is then left out. Raises :class:`~empu.data.rows.DataError` when a part stays empty.
    """
    shares = shares or Shares()
    test_share = 0.0 if checked.test is not None else shares.test
    if min(shares.dev, test_share) < 0 or shares.dev + test_share >= 0.9:
        raise DataError(f"Shares of {shares.dev:g} and {test_share:g} leave too little to train on; give smaller ones.")
    kept = np.flatnonzero(checked.kept)
    parts = np.full(len(checked.kept), _OUT, dtype=np.int8)
    groups, places = _groups(checked, kept)
    group_parts = np.where(places < test_share, _TEST, np.where(places < test_share + shares.dev, _DEV, _TRAIN))
    _fill(group_parts, places, _strata(checked, kept, groups, len(places)), shares.dev > 0, test_share > 0)
    parts[kept] = group_parts[groups]
    between = _keep_earlier(checked, kept, groups, parts, earlier) if earlier else []
    result = Split(checked, parts, (*checked.exclusions, *between))
    _none_empty(result, shares.dev > 0)
    return result


def _groups(checked: Checked, kept: Ints) -> tuple[Ints, NDArray[np.float64]]:
    """For each kept item the number of its group of near-duplicates, and for each group its place in [0, 1)."""
    words = np.frombuffer(bytes(checked.scan.questions), dtype=">u8").reshape(-1, KEY // 8)[kept, 0].astype(np.uint64)
    _, groups = np.unique(checked.clusters[kept], return_inverse=True)
    smallest = np.full(int(groups.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, groups, words)
    return groups.astype(np.int64), _mix(smallest) / 2.0**64


def _mix(values: NDArray[np.uint64]) -> NDArray[Any]:
    """Spread numbers over all 64 bits (the finaliser of SplitMix64), since the smallest of several leans to zero."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _strata(checked: Checked, kept: Ints, groups: Ints, count: int) -> Ints:
    """For each group the label of its first row; one stratum for all where rows have no labels."""
    first = np.full(count, len(checked.kept), dtype=np.int64)
    np.minimum.at(first, groups, kept)
    return checked.scan.label_codes()[first]


def _fill(group_parts: Ints, places: NDArray[Any], strata: Ints, dev: bool, test: bool) -> None:
    """Give each class at least one group in each part, training first, where it has enough groups."""
    order = np.lexsort((places, strata))
    starts = np.flatnonzero(np.concatenate(([True], np.diff(strata[order]) != 0)))
    for members in np.split(order, starts[1:]):
        if not (group_parts[members] == _TRAIN).any():
            group_parts[members[-1]] = _TRAIN
        for part, wanted in ((_TEST, test), (_DEV, dev)):
            own = group_parts[members]
            if wanted and not (own == part).any() and (own == _TRAIN).sum() > 1:
                group_parts[members[own == _TRAIN][0]] = part


def _keep_earlier(
    checked: Checked, kept: Ints, groups: Ints, parts: NDArray[np.int8], earlier: Mapping[str, str]
) -> list[Rejected]:
    """Put rows where they were, and new ones with their near-duplicates; gives those that can be in no part."""
    known = {item: PARTS.index(earlier[row]) for item in kept.tolist() if (row := checked.scan.id_of(item)) in earlier}
    group_of = dict(zip(kept.tolist(), groups.tolist(), strict=True))
    taken: dict[int, set[int]] = {}
    for item, part in known.items():
        taken.setdefault(group_of[item], set()).add(part)
    between: list[Rejected] = []
    for item, group in group_of.items():
        before = taken.get(group, set())
        if item in known:
            parts[item] = known[item]
        elif len(before) == 1:
            parts[item] = next(iter(before))
        elif before:
            parts[item] = _OUT
            names = " and ".join(PARTS[part] for part in sorted(before))
            where = (checked.scan.source_of(item), checked.scan.numbers[item])
            between.append(
                Rejected(*where, f"it is a near-duplicate of rows in the parts {names}", checked.scan.id_of(item))
            )
    return between


def _none_empty(result: Split, dev: bool) -> None:
    counts = result.counts()
    empty = [part for part in PARTS if not counts[part] and (part != DEV or dev)]
    if empty:
        raise DataError(
            f"{result.checked.reading.path} leaves the {' and '.join(empty)} part empty, because too many of its rows "
            "are near-duplicates of each other; add rows that differ, or give a test file with --test."
        )
