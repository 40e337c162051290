"""A user's data made ready: read, checked, divided, and said aloud."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from empu.checkpoint import open_checkpoint
from empu.data.check import Checked, Limits, check
from empu.data.read import Part, read_rows
from empu.data.rows import Kind, Rejected, Row
from empu.ledger.records import DEV, TEST, TRAIN, Exclusion, Member, Source
from empu.store.store import Store, StoredModel
from empu.text import load_text
from empu.text.base import Text

TEST_SHARE, DEV_SHARE = 0.15, 0.1
SHOWN = 5
"""Exclusions that are shown; the ledger has all."""
LONGEST = 2048
"""Tokens of one row, or half of the context where that is shorter."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows in their parts, and everything that was left out."""

    kind: Kind
    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    test: tuple[Row, ...]
    exclusions: tuple[Exclusion, ...]
    sources: dict[str, Source]
    licence: str
    lines: tuple[str, ...]
    """What was found, for people."""

    def members(self) -> Iterator[Member]:
        """Every kept row with its part and place, for the ledger."""
        for part, rows in ((TRAIN, self.train), (DEV, self.dev), (TEST, self.test)):
            for row in rows:
                yield Member(row.fields, part, self.sources[row.source], row.number)

    def said(self) -> str:
        """One sentence for the record of a model."""
        files = ", ".join(sorted(self.sources))
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
    seed: int = 0,
) -> Prepared:
    """Read ``data`` (and ``test``), leave out what cannot be used, divide the rest.

    Raises :class:`~empu.errors.EmpuError` when the files, their columns or too few rows do not allow tuning.
    """
    reading = read_rows(data, mapping)
    held = read_rows(test, mapping) if test is not None else None
    text, longest = _text_of(store, base)
    checked = check(
        reading,
        held,
        count_tokens=lambda words: len(text.tokenizer.encode(words)),
        limits=Limits(max_tokens=min(LONGEST, longest // 2)),
    )
    sources = {part.source: _source(part, licence) for source in (reading, held) if source for part in source.parts}
    train, dev, tested = _divide(checked, seed)
    return Prepared(
        kind=reading.kind,
        train=train,
        dev=dev,
        test=tested,
        exclusions=tuple(_exclusion(item, sources) for item in checked.exclusions),
        sources=sources,
        licence=licence,
        lines=tuple(_lines(checked, train, dev, tested, licence)),
    )


def _divide(checked: Checked, seed: int) -> tuple[tuple[Row, ...], tuple[Row, ...], tuple[Row, ...]]:
    """Training, development and test rows.

    A row's part follows from the hash of its near-duplicates' first member, so that it stays where it is when rows are
    added, and near-duplicates stay together. A given test file is the test part.
    """
    parts: dict[str, list[Row]] = {TRAIN: [], DEV: [], TEST: []}
    part_of: dict[int, str] = {}
    for item, row in checked.rows():
        cluster = int(checked.clusters[item])
        if cluster not in part_of:
            place = int.from_bytes(hashlib.sha256(f"{seed}/{row.id}".encode()).digest()[:8], "big") / 2**64
            held_out = 0.0 if checked.test is not None else TEST_SHARE
            part_of[cluster] = TEST if place < held_out else DEV if place < held_out + DEV_SHARE else TRAIN
        parts[part_of[cluster]].append(row)
    tested = tuple(checked.test_rows()) if checked.test is not None else tuple(parts[TEST])
    return tuple(parts[TRAIN]), tuple(parts[DEV]), tested


def _text_of(store: Store, base: str) -> tuple[Text, int]:
    """The base's tokenizer and its context length."""
    found = store.resolve(base)
    with open_checkpoint(found.path if isinstance(found, StoredModel) else found) as checkpoint:
        return load_text(checkpoint.format, checkpoint.path, checkpoint.metadata), checkpoint.config.context_length


def _source(part: Part, licence: str) -> Source:
    return Source(part.source, part.sha256, part.size, licence)


def _exclusion(item: Rejected, sources: dict[str, Source]) -> Exclusion:
    return Exclusion(sources[item.source], item.number, item.reason, item.row_id)


def _lines(
    checked: Checked, train: Sequence[Row], dev: Sequence[Row], test: Sequence[Row], licence: str
) -> Iterator[str]:
    """What a user should know before anything is spent."""
    yield from checked.reading.lines()
    if checked.test is not None:
        yield from checked.test.lines()
    items = len(checked.kept)
    if checked.reasons:
        why = ", ".join(f"{count:,} {reason}" for reason, count in checked.reasons.most_common())
        yield f"{items:,} rows read, {items - int(checked.kept.sum()):,} left out: {why}"
        yield from (f"  {item.source} row {item.number}: {item.reason}" for item in checked.exclusions[:SHOWN])
        if len(checked.exclusions) > SHOWN:
            yield f"  and {len(checked.exclusions) - SHOWN:,} more, each in the ledger with its reason"
    else:
        yield f"{items:,} rows read, none left out"
    if checked.near_pairs:
        yield f"{checked.near_pairs:,} pairs of near-duplicates; they stay together in one part"
    sizes = checked.class_sizes()
    if sizes:
        names = list(sizes)
        yield f"{len(sizes)} labels: from {names[0]} ({sizes[names[0]]:,} rows) to {names[-1]} ({sizes[names[-1]]:,})"
    for kind, count in checked.scan.personal_rows.most_common():
        shown = ", ".join(checked.scan.personal_examples.get(kind, ())[:3])
        yield f"personal data: {count:,} rows with {kind} ({shown}); they are used as they are"
    yield f"{len(train):,} rows to tune on, {len(dev):,} to steer by, {len(test):,} held out; their licence: {licence}"
