"""A user's data made ready: read, checked, divided, and said aloud."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from empu.checkpoint import open_checkpoint
from empu.data.checks import Limits, check
from empu.data.dataset_record import record
from empu.data.packed_rows import PackedRows
from empu.data.reader import Reading, held_out, read_rows
from empu.data.report import Report, report
from empu.data.rows import Kind, Row
from empu.data.splits import Split, split
from empu.errors import UsageError
from empu.evals.out_of_scope import label_out_of_scope
from empu.ledger.ledger import Ledger
from empu.ledger.records import DEV, TEST, TRAIN
from empu.store.store import Store, StoredModel
from empu.text import load_text
from empu.text.base import Text

LONGEST = 2048
"""Tokens of one row, or half of the context where that is shorter."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows in their parts, and everything that was found."""

    kind: Kind
    train: PackedRows
    dev: PackedRows
    test: PackedRows
    split: Split
    report: Report
    licence: str
    outside: tuple[Row, ...] = ()
    """Out-of-scope rows that may choose a threshold; like those of ``outside_test`` they are in no other part."""
    outside_test: tuple[Row, ...] = ()

    def lines(self) -> list[str]:
        """What was found, for people."""
        said = [*self.report.lines(), f"licence of the rows: {self.licence}"]
        if aside := (*self.outside, *self.outside_test):
            said.append(
                f"{len(aside):,} rows are out of scope ({aside[0].label}): not tuned on; {len(self.outside):,} may "
                f"choose the confidence below which no label is given, {len(self.outside_test):,} measure it"
            )
        return said

    def record(self, ledger: Ledger, identity: str) -> str:
        """Write every row with its part and place, and every exclusion with its reason; gives the data set's id."""
        return record(ledger, self.split, self.licence, {"identity": identity}, self._served_as())

    def _served_as(self) -> Iterator[tuple[Row, str]]:
        """Each row and its part. Nothing is tuned on rows out of scope: at most they choose a threshold."""
        none = {row.label for row in (*self.outside, *self.outside_test)}
        for row, part in self.split.all_rows():
            yield row, DEV if part == TRAIN and row.label in none else part

    def said(self) -> str:
        """One sentence for the record of a model."""
        files = ", ".join(sorted(set().union(*(part.sources() for part in (self.train, self.dev, self.test)))))
        return (
            f"tuned on {len(self.train):,} rows of {files} (licence: {self.licence}), recorded one by one in the ledger"
        )


def prepare_rows(
    store: Store,
    base: str,
    data: Path,
    *,
    test: Path | None = None,
    mapping: dict[str, str] | None = None,
    licence: str = "unknown",
    keep_near_duplicates: bool = False,
    out_of_scope: str | None = None,
) -> Prepared:
    """Read ``data`` (and ``test``), leave out what cannot be used, divide the rest.

    In a folder with files whose names begin with "train" and "test", the latter are the test part. Rows that an earlier
    data set in the ledger had from files of the same path keep their parts. Raises
    :class:`~empu.errors.EmpuError` when the files, their columns or too few rows do not allow tuning.
    """
    reading = read_rows(data, mapping)
    reading, held = held_out(reading) if test is None else (reading, read_rows(test, mapping))
    text, longest = _text_of(store, base)
    limits = Limits(max_tokens=min(LONGEST, longest // 2), drop_near_leaks=not keep_near_duplicates)
    checked = check(reading, held, count_tokens=lambda words: len(text.tokenizer.encode(words)), limits=limits)
    divided = split(checked, earlier=_earlier(store, reading, held))
    if out_of_scope is not None and reading.kind is not Kind.LABEL:
        raise UsageError(f"--out-of-scope is for rows with labels, and {data} has none; leave it out.")
    labels = {**checked.class_sizes(), **checked.test_class_sizes()}
    none = label_out_of_scope(labels, out_of_scope) if reading.kind is Kind.LABEL else None
    parts = {part: PackedRows() for part in (TRAIN, DEV, TEST)}
    aside: dict[str, list[Row]] = {part: [] for part in (TRAIN, DEV, TEST)}
    for row, part in divided.all_rows():
        if none is not None and row.label == none:
            aside[part].append(row)
        else:
            parts[part].append(row)
    return Prepared(
        kind=reading.kind,
        train=parts[TRAIN],
        dev=parts[DEV],
        test=parts[TEST],
        split=divided,
        report=report(divided, limits),
        licence=licence,
        outside=(*aside[TRAIN], *aside[DEV]),
        outside_test=tuple(aside[TEST]),
    )


def _earlier(store: Store, reading: Reading, held: Reading | None) -> Mapping[str, str]:
    """Row id -> part in the newest data set from these files. Where a test file is given now, nothing else is test;
    where none is given, a data set that had one does not say how to divide.
    """
    if not store.ledger_path.is_file():
        return {}
    with Ledger.open(store.ledger_path) as ledger:
        found = ledger.newest_parts([part.source for part in reading.parts])
    if held is not None:
        return {row: part for row, part in found.items() if part != TEST}
    return found if TEST in found.values() else {}


def _text_of(store: Store, base: str) -> tuple[Text, int]:
    """The base's tokenizer and its context length."""
    found = store.resolve(base)
    with open_checkpoint(found.path if isinstance(found, StoredModel) else found) as checkpoint:
        return load_text(checkpoint.format, checkpoint.path, checkpoint.metadata), checkpoint.config.context_length
