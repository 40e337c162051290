"""What is written into the ledger is found again from both ends."""

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
from empu.ledger.records import Exclusion, Member, Source, Step, texts, this_machine
from tests.ledger.writing import (
    BASE,
    HELP,
    MORE,
    digest,
    evaluation,
    exclusions,
    fields,
    members,
    model,
    outcomes,
    run,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "store" / "ledger.db")


def specialist(ledger: Ledger, name: str = "help", parent: str = BASE, source: Source = HELP, start: int = 0) -> str:
    dataset = ledger.add_dataset("text,label", members(12, source, start), exclusions(2), {"name": name})
    begun = ledger.start_run(run(dataset, parent))
    ledger.record_steps(begun, [Step(1, 2.0, {"tokens": 10}), Step(2, 1.0)])
    ledger.end_run(begun, "finished", {"best": 2})
    ledger.add_model(model(name, parent, begun))
    return dataset


def test_rows_come_back_in_order_with_their_places(ledger: Ledger) -> None:
    dataset = ledger.add_dataset("text,label", members(5000), exclusions(3))
    places = list(ledger.rows(dataset))
    assert [place.fields for place in places] == [fields(number) for number in range(5000)]
    assert [place.number for place in places] == list(range(2, 5002))
    assert {place.source for place in places} == {HELP}
    assert [place.row_id for place in places[:9]] == [content_id(fields(number)) for number in range(9)]
    assert [place.split for place in ledger.rows(dataset, "test")] == ["test"] * 1250
    assert [(one.number, one.reason) for one in ledger.left_out(dataset)] == [
        (900 + number, "the text is empty") for number in range(3)
    ]


def test_a_row_is_kept_once_however_often_it_is_used(ledger: Ledger) -> None:
    ledger.add_dataset("text,label", members(10))
    ledger.add_dataset("text,label", [*members(10), *members(10, MORE)])
    assert ledger._db.one("SELECT count(*) FROM row") == (10,)
    assert ledger._db.one("SELECT count(*) FROM member") == (30,)


def test_the_same_data_set_is_recorded_once_and_any_difference_is_another(ledger: Ledger) -> None:
    def one(count: int = 4, source: Source = HELP, left_out: int = 1, seed: int = 0) -> str:
        return ledger.add_dataset("text,label", members(count, source), exclusions(left_out), {"seed": seed})

    first = one()
    head = ledger.head()
    assert one() == first
    assert ledger.head() == head
    assert len({first, one(count=5), one(source=MORE), one(left_out=2), one(seed=1)}) == 5
    assert ledger.verify() == []


def test_a_row_leads_to_the_models_that_saw_it_by_id_place_and_text(ledger: Ledger) -> None:
    specialist(ledger)
    asked = [
        ledger.trace_row("sha256:" + content_id(fields(1))),
        ledger.trace_text("  Where is\nparcel 1? "),
        ledger.trace_place("data/help.csv", 3),
        ledger.trace_place("help.csv", 3),
    ]
    for trace in asked:
        assert trace.rows == (content_id(fields(1)),)
        assert trace.trained == ("help",)
        (seen,) = trace.sightings
        assert (seen.by, seen.split, seen.number, seen.source) == (digest("help"), "train", 3, HELP)
    assert ledger.trace_place("elp.csv", 3).rows == ()
    assert ledger.trace_text("parcel").rows == ()
    assert ledger.trace_text("Where is parcel 99?").sightings == ()


def test_rows_of_the_test_part_were_seen_but_not_trained_on(ledger: Ledger) -> None:
    specialist(ledger)
    trace = ledger.trace_place("help.csv", 5)
    assert [seen.split for seen in trace.sightings] == ["test"]
    assert trace.trained == ()


def test_models_made_from_a_model_saw_its_rows_too(ledger: Ledger) -> None:
    specialist(ledger)
    specialist(ledger, "child", digest("help"), MORE, start=50)
    specialist(ledger, "grandchild", digest("child"), MORE, start=70)
    trace = ledger.trace_place("help.csv", 3)
    assert trace.trained == ("help", "child", "grandchild")
    assert {seen.by for seen in trace.sightings} == {digest("help")}
    assert [one.name for one in ledger.lineage("grandchild")] == ["grandchild", "child", "help"]
    assert dict(ledger.sources("child")) == {
        MORE: {"train": 6, "dev": 3, "test": 3},
        HELP: {"train": 6, "dev": 3, "test": 3},
    }


def test_rows_that_were_left_out_are_traced_to_their_reason(ledger: Ledger) -> None:
    dataset = specialist(ledger)
    trace = ledger.trace_place("help.csv", 901)
    assert trace.sightings == ()
    assert [(one.dataset, one.reason) for one in trace.left_out] == [(dataset, "the text is empty")]
    duplicate = Exclusion(HELP, 950, "the same as row 2", content_id(fields(0)))
    ledger.add_dataset("text,label", members(1), [duplicate])
    assert [one.number for one in ledger.trace_text("Where is parcel 0?").left_out] == [950]


def test_what_is_not_known_is_said(ledger: Ledger) -> None:
    specialist(ledger, source=MORE)
    assert ledger.unknowns("help") == [
        "help was made from 000000000000, which this ledger does not know.",
        "The licence of more.jsonl is not known.",
        "help was not evaluated.",
    ]
    begun = ledger.start_run(run(None, digest("help")))
    ledger.add_model(model("vague", digest("help"), begun, licence="unknown"))
    assert ledger.unknowns("vague")[:3] == [
        "The licence of vague is not known.",
        "The rows that vague was tuned on were not recorded.",
        "The run of vague did not record its end.",
    ]
    ledger.add_model(model("pulled"))
    assert "Nothing is disclosed about the data that pulled was trained on." in ledger.unknowns("pulled")


def test_a_run_that_broke_counts_each_step_once(ledger: Ledger) -> None:
    begun = ledger.start_run(run(None))
    ledger.record_steps(begun, [Step(1, 5.0), Step(2, 4.0), Step(3, 3.0)])
    ledger.resume_run(begun, 2, {"cores": 4})
    ledger.record_steps(begun, [Step(3, 3.5)])
    ledger.record_steps(begun, [Step(4, 2.0)])
    assert [(step.number, step.loss) for step in ledger.steps(begun)] == [(1, 5.0), (2, 4.0), (3, 3.5), (4, 2.0)]
    with pytest.raises(StoreError, match=r"Step 4 of run .* comes after step 4"):
        ledger.record_steps(begun, [Step(4, 1.0)])
    ledger.end_run(begun, "finished")
    assert (ledger.run(begun).status, ledger.run(begun).attempts) == ("finished", 2)
    with pytest.raises(StoreError, match=r"ended \(finished\)"):
        ledger.record_steps(begun, [Step(5, 1.0)])
    assert ledger.verify() == []


def test_scores_and_outcomes_are_kept(ledger: Ledger) -> None:
    dataset = specialist(ledger)
    ledger.add_evaluation(evaluation(digest("help"), dataset), outcomes(12))
    (score,) = ledger.scores(digest("help"), dataset)
    assert (score.metrics["accuracy"].low, score.split) == (0.8, "test")
    assert ledger._db.one("SELECT count(*), sum(correct) FROM outcome") == (3, 3)
    assert ledger.verify() == []


def test_an_outcome_of_a_row_that_is_not_there_undoes_the_evaluation(ledger: Ledger) -> None:
    dataset = specialist(ledger)
    with pytest.raises(StoreError, match="refused a step"):
        ledger.add_evaluation(evaluation(digest("help"), dataset), outcomes(400))
    assert ledger.scores(digest("help")) == []


def test_models_are_found_by_name_and_by_the_start_of_their_id(ledger: Ledger) -> None:
    ledger.add_model(model("one"))
    ledger.add_model(model("one"))
    assert ledger.model("one") == ledger.model(digest("one")[:8]) == ledger.model("sha256:" + digest("one"))
    assert ledger._db.one("SELECT count(*) FROM model") == (1,)
    for name in ("two", "*", digest("one")[:7], "????????", "f" * 64):
        with pytest.raises(StoreError, match="has no model"):
            ledger.model(name)


def test_an_error_inside_a_transaction_undoes_all_of_it(ledger: Ledger) -> None:
    class BoomError(Exception):
        pass

    def broken() -> None:
        with ledger.transaction():
            specialist(ledger)
            raise BoomError

    with pytest.raises(BoomError):
        broken()
    assert ledger.verify() == []
    assert ledger._db.one("SELECT (SELECT count(*) FROM source) + (SELECT count(*) FROM entry)") == (0,)
    specialist(ledger)
    assert ledger.verify() == []


def test_unknown_runs_and_data_sets_are_named(ledger: Ledger) -> None:
    with pytest.raises(StoreError, match="has no data set 111111111111"):
        ledger.start_run(run("1" * 64))
    with pytest.raises(StoreError, match="has no run 222222222222"):
        ledger.record_steps("2" * 64, [Step(1, 1.0)])
    with pytest.raises(StoreError, match="is no row id"):
        ledger.trace_row("parcel")


def test_a_second_writer_waits_and_is_told_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    program = (
        "import sys, time; from pathlib import Path; from empu.ledger.ledger import Ledger\n"
        "with Ledger.open(Path(sys.argv[1])) as ledger, ledger.transaction():\n"
        "    print('mine', flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with Ledger.open(path, wait_s=0.1) as ledger:
            assert ledger.head() == "0" * 64  # reading goes on
            with pytest.raises(StoreError, match=rf"written by process {other.pid} since more than 0.1 s"):
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
        "from tests.ledger.writing import model\n"
        "with Ledger.open(Path(sys.argv[1])) as ledger:\n"
        "    for number in range(25): ledger.add_model(model(f'{sys.argv[2]}-{number}'))\n"
    )
    root = Path(__file__).resolve().parent.parent.parent
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), name], cwd=root) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    with Ledger.open(path) as ledger:
        assert ledger._db.one("SELECT count(*) FROM model") == (50,)
        assert ledger.verify() == []


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"x" * 5000, b"name,value\n" * 500])
def test_a_file_that_is_no_ledger_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is not a ledger|is damaged"):
        Ledger.open(path)
    assert path.read_bytes() == content


def test_a_newer_ledger_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreError, match="written by a newer Empu"):
        Ledger.open(path)


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "deep" / "ledger.db").close()
    assert (tmp_path / "deep" / "ledger.db").stat().st_mode & 0o777 == 0o600


def test_texts_are_all_strings_but_labels_and_roles() -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "label": "c", "n": 1}
    assert list(texts(row)) == ["a", "b"]


def test_this_machine_names_its_versions() -> None:
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
def test_any_rows_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[dict[str, str], str, int]]
) -> None:
    with Ledger.open(tmp_path_factory.mktemp("ledger") / "ledger.db") as ledger:
        dataset = ledger.add_dataset("any", [Member(row, split, HELP, number) for row, split, number in rows])
        assert [(place.fields, place.split, place.number) for place in ledger.rows(dataset)] == rows
        assert ledger.verify() == []


def test_many_rows_are_written_in_bounded_memory_and_reasonable_time(ledger: Ledger) -> None:
    import tracemalloc

    tracemalloc.start()
    began = time.monotonic()
    dataset = ledger.add_dataset("text,label", members(30_000))
    seconds = time.monotonic() - began
    (_, peak) = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ledger._db.one("SELECT count(*) FROM member") == (30_000,)
    assert len(dataset) == 64
    assert peak < 8 << 20, f"{peak / 2**20:.1f} MiB of Python objects for 30,000 rows"
    assert seconds < 30
