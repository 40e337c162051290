"""Records of the ledger are found from the model and from the row."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empu.errors import StoreError
from empu.ledger.hashing import content_id
from empu.ledger.ledger import Ledger
from empu.ledger.migrations import MIGRATIONS
from empu.ledger.records import DatasetRow, Exclusion, SourceFile, TrainingStep, texts, this_machine
from tests.ledger.writer import (
    BASE,
    HELP,
    MORE,
    dataset_rows,
    digest,
    evaluated_rows,
    evaluation,
    exclusions,
    fields,
    model,
    run,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "store" / "ledger.db")


def specialist(
    ledger: Ledger, name: str = "help", parent: str = BASE, source: SourceFile = HELP, start: int = 0
) -> str:
    dataset = ledger.add_dataset("text,label", dataset_rows(12, source, start), exclusions(2), {"name": name})
    run_id = ledger.start_run(run(dataset, parent))
    ledger.record_steps(run_id, [TrainingStep(1, 2.0, {"tokens": 10}), TrainingStep(2, 1.0)])
    ledger.end_run(run_id, "finished", {"best": 2})
    ledger.add_model(model(name, parent, run_id))
    return dataset


def test_rows_are_returned_in_order_with_their_sources(ledger: Ledger) -> None:
    dataset = ledger.add_dataset("text,label", dataset_rows(5000), exclusions(3))
    rows = list(ledger.rows(dataset))
    assert [row.fields for row in rows] == [fields(number) for number in range(5000)]
    assert [row.number for row in rows] == list(range(2, 5002))
    assert {row.source for row in rows} == {HELP}
    assert [row.row_id for row in rows[:9]] == [content_id(fields(number)) for number in range(9)]
    assert [row.split for row in ledger.rows(dataset, "test")] == ["test"] * 1250
    assert [(row.number, row.reason) for row in ledger.excluded_rows(dataset)] == [
        (900 + number, "the text is empty") for number in range(3)
    ]


def test_row_is_stored_once_however_often_it_is_used(ledger: Ledger) -> None:
    ledger.add_dataset("text,label", dataset_rows(10))
    ledger.add_dataset("text,label", [*dataset_rows(10), *dataset_rows(10, MORE)])
    assert ledger._db.fetch_one("SELECT count(*) FROM row") == (10,)
    assert ledger._db.fetch_one("SELECT count(*) FROM member") == (30,)


def test_same_data_set_is_recorded_once_and_any_difference_makes_another(ledger: Ledger) -> None:
    def add(count: int = 4, source: SourceFile = HELP, excluded: int = 1, seed: int = 0) -> str:
        return ledger.add_dataset("text,label", dataset_rows(count, source), exclusions(excluded), {"seed": seed})

    first = add()
    head = ledger.head()
    assert add() == first
    assert ledger.head() == head
    assert len({first, add(count=5), add(source=MORE), add(excluded=2), add(seed=1)}) == 5
    assert ledger.verify() == []


def test_row_is_traced_to_its_models_by_id_position_and_text(ledger: Ledger) -> None:
    specialist(ledger)
    traces = [
        ledger.trace_row("sha256:" + content_id(fields(1))),
        ledger.trace_text("  Where is\nparcel 1? "),
        ledger.trace_position("data/help.csv", 3),
        ledger.trace_position("help.csv", 3),
    ]
    for trace in traces:
        assert trace.row_ids == (content_id(fields(1)),)
        assert trace.trained_models == ("help",)
        (use,) = trace.occurrences
        assert (use.by, use.split, use.number, use.source) == (digest("help"), "train", 3, HELP)
    assert ledger.trace_position("elp.csv", 3).row_ids == ()
    assert ledger.trace_text("parcel").row_ids == ()
    assert ledger.trace_text("Where is parcel 99?").occurrences == ()


def test_test_rows_occur_but_are_not_trained_on(ledger: Ledger) -> None:
    specialist(ledger)
    trace = ledger.trace_position("help.csv", 5)
    assert [use.split for use in trace.occurrences] == ["test"]
    assert trace.trained_models == ()


def test_descendants_of_a_model_inherit_its_rows(ledger: Ledger) -> None:
    specialist(ledger)
    specialist(ledger, "child", digest("help"), MORE, start=50)
    specialist(ledger, "grandchild", digest("child"), MORE, start=70)
    trace = ledger.trace_position("help.csv", 3)
    assert trace.trained_models == ("help", "child", "grandchild")
    assert {use.by for use in trace.occurrences} == {digest("help")}
    assert [model.name for model in ledger.lineage("grandchild")] == ["grandchild", "child", "help"]
    assert dict(ledger.sources("child")) == {
        MORE: {"train": 6, "dev": 3, "test": 3},
        HELP: {"train": 6, "dev": 3, "test": 3},
    }


def test_excluded_rows_are_traced_to_their_reason(ledger: Ledger) -> None:
    dataset = specialist(ledger)
    trace = ledger.trace_position("help.csv", 901)
    assert trace.occurrences == ()
    assert [(row.dataset, row.reason) for row in trace.excluded_rows] == [(dataset, "the text is empty")]
    duplicate = Exclusion(HELP, 950, "the same as row 2", content_id(fields(0)))
    ledger.add_dataset("text,label", dataset_rows(1), [duplicate])
    assert [row.number for row in ledger.trace_text("Where is parcel 0?").excluded_rows] == [950]


def missing_sentences(ledger: Ledger, name: str) -> list[str]:
    return [fact.sentence() for fact in ledger.missing_facts(name)]


def test_missing_facts_are_listed(ledger: Ledger) -> None:
    specialist(ledger, source=MORE)
    assert missing_sentences(ledger, "help") == [
        "help was made from 000000000000, which this ledger does not know.",
        "The licence of more.jsonl is not known.",
        "help was not evaluated.",
    ]
    run_id = ledger.start_run(run(None, digest("help")))
    ledger.add_model(model("vague", digest("help"), run_id, licence="unknown"))
    assert missing_sentences(ledger, "vague")[:3] == [
        "The licence of vague is not known.",
        "The rows that vague was tuned on were not recorded.",
        "The end of the run of vague was not recorded.",
    ]
    ledger.add_model(model("pulled"))
    assert "Nothing is disclosed about the data that pulled was trained on." in missing_sentences(ledger, "pulled")


def test_resumed_run_counts_each_step_once(ledger: Ledger) -> None:
    run_id = ledger.start_run(run(None))
    ledger.record_steps(run_id, [TrainingStep(1, 5.0), TrainingStep(2, 4.0), TrainingStep(3, 3.0)])
    ledger.resume_run(run_id, 2, {"cores": 4})
    ledger.record_steps(run_id, [TrainingStep(3, 3.5)])
    ledger.record_steps(run_id, [TrainingStep(4, 2.0)])
    assert [(step.number, step.loss) for step in ledger.steps(run_id)] == [(1, 5.0), (2, 4.0), (3, 3.5), (4, 2.0)]
    with pytest.raises(StoreError, match=r"Step 4 of run .* comes after step 4"):
        ledger.record_steps(run_id, [TrainingStep(4, 1.0)])
    ledger.end_run(run_id, "finished")
    assert (ledger.run(run_id).status, ledger.run(run_id).attempts) == ("finished", 2)
    with pytest.raises(StoreError, match=r"ended \(finished\)"):
        ledger.record_steps(run_id, [TrainingStep(5, 1.0)])
    assert ledger.verify() == []


def test_evaluations_are_recorded_with_their_rows(ledger: Ledger) -> None:
    dataset = specialist(ledger)
    ledger.add_evaluation(evaluation(digest("help"), dataset), evaluated_rows(12))
    (recorded,) = ledger.evaluations(digest("help"), dataset)
    assert (recorded.metrics["accuracy"].low, recorded.split) == (0.8, "test")
    assert ledger._db.fetch_one("SELECT count(*), sum(correct) FROM outcome") == (3, 3)
    assert ledger.verify() == []


def test_evaluation_with_an_unknown_row_is_rolled_back(ledger: Ledger) -> None:
    dataset = specialist(ledger)
    with pytest.raises(StoreError, match="rejected a statement"):
        ledger.add_evaluation(evaluation(digest("help"), dataset), evaluated_rows(400))
    assert ledger.evaluations(digest("help")) == []


def test_models_are_found_by_name_and_by_id_prefix(ledger: Ledger) -> None:
    ledger.add_model(model("one"))
    ledger.add_model(model("one"))
    assert ledger.model("one") == ledger.model(digest("one")[:8]) == ledger.model("sha256:" + digest("one"))
    assert ledger._db.fetch_one("SELECT count(*) FROM model") == (1,)
    for name in ("two", "*", digest("one")[:7], "????????", "f" * 64):
        with pytest.raises(StoreError, match="has no model"):
            ledger.model(name)


def test_error_inside_a_transaction_rolls_it_back(ledger: Ledger) -> None:
    def fail() -> None:
        with ledger.transaction():
            specialist(ledger)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert ledger.verify() == []
    assert ledger._db.fetch_one("SELECT (SELECT count(*) FROM source) + (SELECT count(*) FROM entry)") == (0,)
    specialist(ledger)
    assert ledger.verify() == []


def test_errors_name_unknown_runs_and_data_sets(ledger: Ledger) -> None:
    with pytest.raises(StoreError, match="has no data set 111111111111"):
        ledger.start_run(run("1" * 64))
    with pytest.raises(StoreError, match="has no run 222222222222"):
        ledger.record_steps("2" * 64, [TrainingStep(1, 1.0)])
    with pytest.raises(StoreError, match="is not a row id"):
        ledger.trace_row("parcel")


def test_second_writer_waits_and_error_names_the_first(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    program = (
        "import sys, time; from pathlib import Path; from empu.ledger.ledger import Ledger\n"
        "with Ledger.open(Path(sys.argv[1])) as ledger, ledger.transaction():\n"
        "    print('locked', flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with Ledger.open(path, timeout_s=0.1) as ledger:
            assert ledger.head() == "0" * 64  # readers are not blocked
            with pytest.raises(StoreError, match=rf"locked by process {other.pid} for more than 0.1 s"):
                ledger.add_model(model("one"))
            other.stdin.write("\n")
            other.stdin.flush()
            assert other.wait() == 0
            ledger.add_model(model("one"))
            assert ledger.verify() == []


def test_two_writers_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    program = (
        "import sys; from pathlib import Path; from empu.ledger.ledger import Ledger\n"
        "from tests.ledger.writer import model\n"
        "with Ledger.open(Path(sys.argv[1])) as ledger:\n"
        "    for number in range(25): ledger.add_model(model(f'{sys.argv[2]}-{number}'))\n"
    )
    root = Path(__file__).resolve().parent.parent.parent
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), name], cwd=root) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    with Ledger.open(path) as ledger:
        assert ledger._db.fetch_one("SELECT count(*) FROM model") == (50,)
        assert ledger.verify() == []


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"x" * 5000, b"name,value\n" * 500])
def test_file_that_is_not_a_ledger_raises_store_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is not a ledger|is damaged"):
        Ledger.open(path)
    assert path.read_bytes() == content


def test_newer_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreError, match="written by a newer Empu"):
        Ledger.open(path)


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "deep" / "ledger.db").close()
    assert (tmp_path / "deep" / "ledger.db").stat().st_mode & 0o777 == 0o600


def test_texts_are_all_strings_except_labels_and_roles() -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "label": "c", "n": 1}
    assert list(texts(row)) == ["a", "b"]


def test_this_machine_reports_versions() -> None:
    assert this_machine()["sqlite"] == sqlite3.sqlite_version
    assert this_machine()["cores"] >= 1


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.text(max_size=5), st.text(max_size=20), min_size=1, max_size=3),
            st.sampled_from(["train", "dev", "test"]),
            st.integers(1, 2**40),
        ),
        max_size=20,
    )
)
def test_any_rows_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[dict[str, str], str, int]]
) -> None:
    with Ledger.open(tmp_path_factory.mktemp("ledger") / "ledger.db") as ledger:
        dataset = ledger.add_dataset("any", [DatasetRow(row, split, HELP, number) for row, split, number in rows])
        assert [(row.fields, row.split, row.number) for row in ledger.rows(dataset)] == rows
        assert ledger.verify() == []


def test_many_rows_are_written_in_bounded_memory_and_time(ledger: Ledger) -> None:
    import tracemalloc

    tracemalloc.start()
    start = time.monotonic()
    dataset = ledger.add_dataset("text,label", dataset_rows(30_000))
    seconds = time.monotonic() - start
    (_, peak) = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ledger._db.fetch_one("SELECT count(*) FROM member") == (30_000,)
    assert len(dataset) == 64
    assert peak < 8 << 20, f"{peak / 2**20:.1f} MiB of Python objects for 30,000 rows"
    assert seconds < 30
