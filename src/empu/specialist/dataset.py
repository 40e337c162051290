"""Read, check and split the user's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from empu.checkpoint import open_checkpoint
from empu.data.checks import CheckLimits, check_rows
from empu.data.dataset_record import record_dataset
from empu.data.packed_rows import PackedRows
from empu.data.reader import DataFiles, read_rows, separate_test_files
from empu.data.report import DataReport, build_report
from empu.data.rows import Kind, Row
from empu.data.splits import Split, split_rows
from empu.errors import UsageError
from empu.evals.out_of_scope import find_out_of_scope_label
from empu.ledger.ledger import Ledger
from empu.ledger.records import DEV, TEST, TRAIN
from empu.store.store import Store
from empu.store.stored_model import StoredModel
from empu.text import load_text_processor
from empu.text.base import TextProcessor
from empu.tune.encoding import template_problem

MAX_ROW_TOKENS = 2048
"""Longest row, or half of the context if that is shorter."""


@dataclass(frozen=True, slots=True)
class PreparedDataset:
    """Rows by split, with the report of the checks."""

    kind: Kind
    train: PackedRows
    dev: PackedRows
    """Validation rows."""
    test: PackedRows
    split: Split
    report: DataReport
    licence: str
    out_of_scope: tuple[Row, ...] = ()
    """Out-of-scope rows that may choose the threshold. Like those of ``out_of_scope_test`` they are in no split."""
    out_of_scope_test: tuple[Row, ...] = ()
    """Out-of-scope rows that measure the threshold."""

    def lines(self) -> list[str]:
        """Return the report as lines for the user."""
        lines = [*self.report.lines(), f"licence of the rows: {self.licence}"]
        if rows := (*self.out_of_scope, *self.out_of_scope_test):
            lines.append(
                f"{len(rows):,} rows are out of scope ({rows[0].label}) and not trained on: {len(self.out_of_scope):,} "
                f"to choose the confidence threshold, {len(self.out_of_scope_test):,} to measure it"
            )
        return lines

    def record(self, ledger: Ledger, identity: str) -> str:
        """Record every row with its split, and every excluded row with its reason; return the id of the dataset."""
        return record_dataset(ledger, self.split, self.licence, {"identity": identity}, self._recorded_splits())

    def _recorded_splits(self) -> Iterator[tuple[Row, str]]:
        """Yield each row and its split. Out-of-scope rows of the training split are recorded as validation rows."""
        labels = {row.label for row in (*self.out_of_scope, *self.out_of_scope_test)}
        for row, split in self.split.all_rows():
            yield row, DEV if split == TRAIN and row.label in labels else split

    def disclosure(self) -> str:
        """Return the training data in one sentence, for the record of the model."""
        files = ", ".join(sorted(set().union(*(rows.sources() for rows in (self.train, self.dev, self.test)))))
        return (
            f"tuned on {len(self.train):,} rows of {files} (licence: {self.licence}), recorded one by one in the ledger"
        )


def prepare_dataset(
    store: Store,
    base: str,
    data: Path,
    *,
    test: Path | None = None,
    mapping: dict[str, str] | None = None,
    encoding: str | None = None,
    licence: str = "unknown",
    keep_near_duplicates: bool = False,
    out_of_scope: str | None = None,
) -> PreparedDataset:
    """Read ``data`` (and ``test``), exclude rows that cannot be used, and split the others.

    In a folder, files whose names begin with "test" are the test split if others begin with "train". Rows that an
    earlier dataset of the ledger read from the same paths keep their splits. Raises :class:`~empu.errors.EmpuError` if
    the files, their columns or too few rows make tuning impossible.
    """
    files = read_rows(data, mapping, encoding=encoding)
    files, test_files = (
        separate_test_files(files)
        if test is None
        else (
            files,
            read_rows(test, mapping, encoding=encoding),
        )
    )
    text, context_length = _open_tokenizer(store, base)
    limits = CheckLimits(max_tokens=min(MAX_ROW_TOKENS, context_length // 2), drop_near_leaks=not keep_near_duplicates)
    checked = check_rows(
        files,
        test_files,
        count_tokens=lambda row_text: len(text.tokenizer.encode(row_text)),
        limits=limits,
        find_problem=lambda row: template_problem(text, row),
    )
    split = split_rows(checked, earlier=_earlier_splits(store, files, test_files))
    if out_of_scope is not None and files.kind is not Kind.LABEL:
        raise UsageError(f"--out-of-scope is for labelled rows, and {data} has no labels; leave it out.")
    labels = {**checked.class_sizes(), **checked.test_class_sizes()}
    out_of_scope_label = find_out_of_scope_label(labels, out_of_scope) if files.kind is Kind.LABEL else None
    in_scope = {name: PackedRows() for name in (TRAIN, DEV, TEST)}
    rejected: dict[str, list[Row]] = {name: [] for name in (TRAIN, DEV, TEST)}
    for row, name in split.all_rows():
        if out_of_scope_label is not None and row.label == out_of_scope_label:
            rejected[name].append(row)
        else:
            in_scope[name].append(row)
    return PreparedDataset(
        kind=files.kind,
        train=in_scope[TRAIN],
        dev=in_scope[DEV],
        test=in_scope[TEST],
        split=split,
        report=build_report(split, limits),
        licence=licence,
        out_of_scope=(*rejected[TRAIN], *rejected[DEV]),
        out_of_scope_test=tuple(rejected[TEST]),
    )


def _earlier_splits(store: Store, files: DataFiles, test_files: DataFiles | None) -> Mapping[str, str]:
    """Return row id -> split in the newest dataset from these files.

    If there is a test file now, no other row is a test row. If there is none now but the earlier dataset had one, its
    splits do not apply.
    """
    if not store.ledger_path.is_file():
        return {}
    with Ledger.open(store.ledger_path) as ledger:
        splits = ledger.newest_splits([table.source for table in files.tables])
    if test_files is not None:
        return {row_id: split for row_id, split in splits.items() if split != TEST}
    return splits if TEST in splits.values() else {}


def _open_tokenizer(store: Store, base: str) -> tuple[TextProcessor, int]:
    """Return the tokenizer of the base model and its context length."""
    model = store.resolve(base)
    with open_checkpoint(model.path if isinstance(model, StoredModel) else model) as checkpoint:
        text = load_text_processor(checkpoint.format, checkpoint.path, checkpoint.metadata)
        return text, checkpoint.config.context_length
