"""Split rows into a training, a development and a test part.

A row's part follows from a hash of its question, or from the smallest hash in its group of near-duplicates. It does not
follow from its position, a seed or the number of rows. So a row keeps its part when rows are added, removed or sorted;
near-duplicates stay together; and each class is divided in about the same shares. Three things can still move a row: a
new near-duplicate with a smaller hash, a class so small that a part would lack it, and a group of near-duplicates that
is larger than its class's share of a part, which is trained on. The parts of an earlier data set are always kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from empu.data.checks import CheckResult
from empu.data.near_duplicates import Ints
from empu.data.rows import DataError, ExcludedRecord, Row
from empu.data.scan import DIGEST_BYTES, has_labels
from empu.ledger.records import DEV, TEST, TRAIN

PARTS = (TRAIN, DEV, TEST)
_TRAIN, _DEV, _TEST = range(3)
_NO_PART = -1

MIN_GROUP_LIMIT = 2
"""A pair of near-duplicates may be held out however small its class is."""


@dataclass(frozen=True, slots=True)
class SplitShares:
    """Shares of the development and the test part. The test share is ignored if a test file is given."""

    dev: float = 0.1
    test: float = 0.15


@dataclass(frozen=True, slots=True)
class Split:
    """The part of each kept row."""

    checked: CheckResult
    parts: NDArray[np.int8]
    """For each record its index in :data:`PARTS`, or -1: (records,)."""
    exclusions: tuple[ExcludedRecord, ...]
    """Every record that is in no part: those of the checks, and those between two parts."""
    shares: SplitShares = SplitShares()

    def rows(self, part: str) -> Iterator[Row]:
        """Yield the rows of one part in order. The files are read again."""
        wanted = PARTS.index(part)
        if part == TEST and self.checked.test is not None:
            yield from self.checked.test_rows()
        else:
            yield from (row for index, row in self.checked.rows() if self.parts[index] == wanted)

    def all_rows(self) -> Iterator[tuple[Row, str]]:
        """Yield every row with its part."""
        for index, row in self.checked.rows():
            if self.parts[index] != _NO_PART:
                yield row, PARTS[self.parts[index]]
        yield from ((row, TEST) for row in self.checked.test_rows())

    def counts(self) -> dict[str, int]:
        """Return part -> rows."""
        from_test_file = int(self.checked.test_kept.sum())
        return {
            part: int((self.parts == i).sum()) + (from_test_file if part == TEST else 0) for i, part in enumerate(PARTS)
        }

    def class_counts(self) -> dict[str, dict[str, int]]:
        """Return label -> part -> rows; empty if rows have no labels."""
        scans = [(self.checked.scan.label_array(), self.parts)]
        if self.checked.test_scan is not None:
            test_parts = np.where(self.checked.test_kept, _TEST, _NO_PART).astype(np.int8)
            scans.append((self.checked.test_scan.label_array(), test_parts))
        table: dict[str, dict[str, int]] = {}
        for label, code in self.checked.scan.label_codes.items():
            counts = Counter[int]()
            for codes, parts in scans:
                counts.update(parts[codes == code].tolist())
            if any(counts[i] for i in range(len(PARTS))):
                table[label] = {part: counts[i] for i, part in enumerate(PARTS)}
        return table


def split_rows(
    checked: CheckResult, shares: SplitShares | None = None, earlier: Mapping[str, str] | None = None
) -> Split:
    """Split the kept rows.

    ``earlier`` (row id -> part) keeps rows in the parts of an earlier data set; a new row that is a near-duplicate of
    rows in two parts is then excluded. Raises :class:`~empu.data.rows.DataError` if a part is empty.
    """
    shares = shares or SplitShares()
    test_share = 0.0 if checked.test is not None else shares.test
    if min(shares.dev, test_share) < 0 or shares.dev + test_share >= 0.9:
        raise DataError(f"Shares of {shares.dev:g} and {test_share:g} leave too little to train on; give smaller ones.")
    kept = np.flatnonzero(checked.kept)
    parts = np.full(len(checked.kept), _NO_PART, dtype=np.int8)
    groups, hashes = _group_hashes(checked, kept)
    strata = _strata(checked, kept, groups, len(hashes))
    group_parts = np.where(hashes < test_share, _TEST, np.where(hashes < test_share + shares.dev, _DEV, _TRAIN))
    fits = _fitting_parts(groups, strata, {_DEV: shares.dev, _TEST: test_share})
    group_parts[~fits[np.arange(len(group_parts)), group_parts]] = _TRAIN
    _fill_empty_parts(group_parts, hashes, strata, fits, shares.dev > 0, test_share > 0)
    parts[kept] = group_parts[groups]
    between = _keep_earlier(checked, kept, groups, parts, earlier) if earlier else []
    result = Split(checked, parts, (*checked.exclusions, *between), shares)
    _check_parts(result, shares.dev > 0)
    return result


def _group_hashes(checked: CheckResult, kept: Ints) -> tuple[Ints, NDArray[np.float64]]:
    """Return the group of near-duplicates of each kept record, and the hash of each group in [0, 1)."""
    digests = np.frombuffer(bytes(checked.scan.near_questions), dtype=">u8").reshape(-1, DIGEST_BYTES // 8)
    first_words = digests[kept, 0].astype(np.uint64)
    _, groups = np.unique(checked.clusters[kept], return_inverse=True)
    smallest = np.full(int(groups.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, groups, first_words)
    return groups.astype(np.int64), _mix(smallest) / 2.0**64


def _mix(values: NDArray[np.uint64]) -> NDArray[Any]:
    """Spread numbers over all 64 bits (finaliser of SplitMix64), since the smallest of several tends to zero."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _strata(checked: CheckResult, kept: Ints, groups: Ints, count: int) -> Ints:
    """Return, for each group, the label code of its first row; one stratum for all if rows have no labels."""
    first = np.full(count, len(checked.kept), dtype=np.int64)
    np.minimum.at(first, groups, kept)
    return checked.scan.label_array()[first]


def _fitting_parts(groups: Ints, strata: Ints, shares: Mapping[int, float]) -> NDArray[np.bool_]:
    """Return whether a group is no larger than its class's share of each part: (groups, parts)."""
    sizes = np.bincount(groups, minlength=len(strata))
    fits = np.ones((len(strata), len(PARTS)), dtype=bool)
    _, stratum = np.unique(strata, return_inverse=True)
    rows = np.bincount(stratum, weights=sizes)
    for part, share in shares.items():
        fits[:, part] = sizes <= np.maximum(MIN_GROUP_LIMIT, np.ceil(share * rows))[stratum]
    return fits


def _fill_empty_parts(
    group_parts: Ints, hashes: NDArray[Any], strata: Ints, fits: NDArray[np.bool_], dev: bool, test: bool
) -> None:
    """Give each class at least one group in each part, training first, if it has enough groups that fit."""
    order = np.lexsort((hashes, strata))
    starts = np.flatnonzero(np.concatenate(([True], np.diff(strata[order]) != 0)))
    for members in np.split(order, starts[1:]):
        if not (group_parts[members] == _TRAIN).any():
            group_parts[members[-1]] = _TRAIN
        for part, wanted in ((_TEST, test), (_DEV, dev)):
            own = group_parts[members]
            if wanted and not (own == part).any() and (own == _TRAIN).sum() > 1:
                movable = members[(own == _TRAIN) & fits[members, part]]
                if len(movable):
                    group_parts[movable[0]] = part


def _keep_earlier(
    checked: CheckResult, kept: Ints, groups: Ints, parts: NDArray[np.int8], earlier: Mapping[str, str]
) -> list[ExcludedRecord]:
    """Put rows where they were, and new ones with their near-duplicates; return those that can be in no part."""
    known = {i: PARTS.index(earlier[row_id]) for i in kept.tolist() if (row_id := checked.scan.id_of(i)) in earlier}
    group_of = dict(zip(kept.tolist(), groups.tolist(), strict=True))
    parts_of_group: dict[int, set[int]] = {}
    for index, part in known.items():
        parts_of_group.setdefault(group_of[index], set()).add(part)
    between: list[ExcludedRecord] = []
    for index, group in group_of.items():
        earlier_parts = parts_of_group.get(group, set())
        if index in known:
            parts[index] = known[index]
        elif len(earlier_parts) == 1:
            parts[index] = next(iter(earlier_parts))
        elif earlier_parts:
            parts[index] = _NO_PART
            names = " and ".join(PARTS[part] for part in sorted(earlier_parts))
            reason = f"it is a near-duplicate of rows in the parts {names}"
            source, number = checked.scan.source_of(index), checked.scan.numbers[index]
            between.append(
                ExcludedRecord(source, number, reason, checked.scan.id_of(index), category="between two parts")
            )
    return between


def _check_parts(split: Split, dev: bool) -> None:
    counts = split.counts()
    empty = [part for part in PARTS if not counts[part] and (part != DEV or dev)]
    if empty:
        raise DataError(
            f"{split.checked.data.path} leaves the {' and '.join(empty)} part empty, because {_why_empty(split)}, or "
            "give a test file with --test."
        )


def _why_empty(split: Split) -> str:
    checked = split.checked
    kept = int(checked.kept.sum())
    groups = len(np.unique(checked.clusters[checked.kept]))
    sizes = checked.class_sizes()
    if has_labels(checked.data) and sizes and max(sizes.values()) == 1:
        return "each label has one row and that row is trained on; add rows of the same labels"
    if 2 * groups <= kept:
        return (
            "too many of its rows are near-duplicates of each other, and such rows stay together; add rows that differ"
        )
    if has_labels(checked.data):
        return f"its {len(sizes):,} labels have too few rows that differ ({kept:,} in all); add rows of the same labels"
    return f"it has only {kept:,} rows; add rows"
