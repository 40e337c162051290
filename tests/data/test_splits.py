"""Parts are stratified, stable when rows are added, and never divide near-duplicates."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from empu.data.checks import check_rows
from empu.data.dataset_record import record_dataset
from empu.data.reader import read_rows
from empu.data.report import build_report
from empu.data.rows import DataError
from empu.data.splits import Split, SplitShares, split_rows
from empu.ledger.ledger import Ledger
from tests.data.generated_rows import rows, sentence, write

pytest.importorskip("rensa")

Pairs = list[tuple[str, str]]


def split_file(path: Path, pairs: Pairs, **settings: object) -> Split:
    return split_rows(check_rows(read_rows(write(path, pairs))), **settings)  # type: ignore[arg-type]


def part_of_text(result: Split) -> dict[str, str]:
    return {str(row.fields["text"]): part for row, part in result.all_rows()}


def test_every_kept_row_is_in_one_part_and_shares_are_near(tmp_path: Path) -> None:
    result = split_file(tmp_path / "rows.csv", list(rows(3000)))
    counts = result.counts()
    assert sum(counts.values()) == 3000
    assert 370 < counts["test"] < 530
    assert 230 < counts["dev"] < 370
    assert [len(list(result.rows(part))) for part in ("train", "dev", "test")] == list(counts.values())
    for label, parts in result.class_counts().items():
        assert 100 < parts["test"] < 200, label


def test_rows_keep_their_part_when_rows_are_added_removed_and_shuffled(tmp_path: Path) -> None:
    pairs = list(rows(900))
    before = part_of_text(split_file(tmp_path / "rows.csv", pairs))
    other = [*pairs[100:], *rows(400, seed=7)]
    random.Random(3).shuffle(other)
    after = part_of_text(split_file(tmp_path / "other.csv", other))
    assert [text for text in before if text in after and before[text] != after[text]] == []


def test_near_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    chance = random.Random(2)
    families = [(sentence(chance, 30), f"class {number % 3}") for number in range(150)]
    pairs = [(f"{text} {tail}", label) for text, label in families for tail in ("", "a", "b")]
    where = part_of_text(split_file(tmp_path / "rows.csv", [(text.strip(), label) for text, label in pairs]))
    for text, _ in families:
        assert len({where[f"{text} {tail}".strip()] for tail in ("", "a", "b")}) == 1


def test_small_classes_reach_every_part_and_training_first(tmp_path: Path) -> None:
    small = [(text, f"small {number}") for number, (text, _) in enumerate(rows(8, seed=4))]
    three = [(text, "three") for text, _ in rows(3, seed=5)]
    counts = split_file(tmp_path / "rows.csv", [*rows(300), *small, *three]).class_counts()
    assert counts["three"] == {"train": 1, "dev": 1, "test": 1}
    assert all(counts[f"small {number}"]["train"] == 1 for number in range(8))


def test_rows_of_an_earlier_data_set_keep_their_parts_without_exception(tmp_path: Path) -> None:
    pairs = list(rows(200))
    first = split_file(tmp_path / "rows.csv", pairs)
    earlier = {row.id: part for row, part in first.all_rows()}
    swapped = {row: {"train": "test", "test": "train"}.get(part, part) for row, part in earlier.items()}
    again = split_file(tmp_path / "more.csv", [*pairs, *rows(50, seed=8)], earlier=swapped)
    assert {row.id: part for row, part in again.all_rows() if row.id in swapped} == swapped


def test_a_new_row_between_two_parts_is_left_out_and_named(tmp_path: Path) -> None:
    chance = random.Random(4)
    words = sentence(chance, 40).split()
    one = " ".join(words)
    other = " ".join([*words[:36], "w", "x", "y", "z"])
    bridge = " ".join([*words[:38], "y", "z"])
    base = [*rows(60), (one, "class 0"), (other, "class 0")]
    earlier = {row.id: part for row, part in split_file(tmp_path / "rows.csv", base).all_rows()}
    ids = [row.id for row in read_rows(tmp_path / "rows.csv").rows()]
    earlier |= {ids[60]: "train", ids[61]: "test"}
    result = split_file(tmp_path / "more.csv", [*base, (bridge, "class 0")], earlier=earlier)
    assert [record.reason for record in result.exclusions] == [
        "it is a near-duplicate of rows in the parts train and test"
    ]
    assert build_report(result).excluded == {"between two parts": 1}


def test_a_given_test_file_is_the_whole_test_part(tmp_path: Path) -> None:
    train = read_rows(write(tmp_path / "train.csv", rows(200)))
    test = read_rows(write(tmp_path / "held.csv", rows(30, seed=6)))
    result = split_rows(check_rows(train, test))
    assert result.counts()["test"] == 30
    assert {row.source for row in result.rows("test")} == {str(tmp_path / "held.csv")}


def test_data_that_cannot_be_divided_is_a_sentence(tmp_path: Path) -> None:
    text = sentence(random.Random(1), 40)
    alike = [(f"{text} {number}", f"class {number % 2}") for number in range(30)]
    with pytest.raises(DataError, match="part empty, because too many of its rows are near-duplicates"):
        split_file(tmp_path / "rows.csv", alike)
    with pytest.raises(DataError, match="leave too little to train on"):
        split_file(tmp_path / "rows.csv", list(rows(60)), shares=SplitShares(0.5, 0.5))


def test_the_report_is_json_and_lines(tmp_path: Path) -> None:
    pairs = [*rows(60), ("call +62 812-3456-7890", "class 0"), ("", "class 1"), ("only one of these", "rare")]
    report = build_report(split_file(tmp_path / "rows.csv", pairs))
    assert json.loads(json.dumps(report.to_dict()))["excluded"] == {"empty": 1}
    text = "\n".join(report.lines())
    assert "63 records read, 62 rows used" in text
    assert "1 x phone in 1 row, such" in text
    assert f"{tmp_path / 'rows.csv'}:63: the text is empty" in text
    assert report.small_classes == {"rare": 1}


def test_the_ledger_gets_every_row_with_its_place_part_and_reason(tmp_path: Path) -> None:
    pairs = list(rows(60))
    result = split_file(tmp_path / "rows.csv", [*pairs, pairs[0]])
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        dataset = record_dataset(ledger, result, "CC0-1.0", {"near": 0.8})
        places = list(ledger.rows(dataset))
        assert [(place.fields["text"], place.number) for place in places] == [
            (text, number) for number, (text, _) in enumerate(pairs, 2)
        ]
        assert [place.split for place in places] == [part for _, part in result.all_rows()]
        assert {place.source.licence for place in places} == {"CC0-1.0"}
        (excluded,) = ledger.excluded_rows(dataset)
        assert (excluded.number, excluded.reason) == (62, f"it is the same as {tmp_path / 'rows.csv'}:2")
        assert record_dataset(ledger, result, "CC0-1.0", {"near": 0.8}) == dataset
        assert ledger.verify() == []
