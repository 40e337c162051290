"""Suites on a tiny model: metrics, the cache, interruption, and models that cannot be scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from empu.engine.backends.torch import TorchBackend
from empu.engine.language_model import LanguageModel
from empu.errors import UsageError
from empu.evals.harness import run_suite
from empu.evals.result_cache import ResultCache, cache_path
from empu.evals.suites.base import PromptedRow
from empu.evals.suites.registry import SUITES
from empu.text.base import TextProcessor
from empu.text.task import Task
from tests.engine.byte_tokenizer import ByteTokenizer
from tests.tune.samples import tiny_model

PIQA, MGSM = SUITES["piqa"], SUITES["mgsm_en"]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return language_model()


def language_model(task: Task | None = None) -> LanguageModel:
    return LanguageModel(
        TorchBackend(tiny_model()),
        TextProcessor(ByteTokenizer(), None, add_bos=True),
        checkpoint_path=Path("tiny"),
        context_length=256,
        task=task,
    )


@pytest.fixture
def rows(tmp_path: Path) -> list[PromptedRow]:
    records = [{"goal": f"goal {i}", "sol1": "push", "sol2": f"pull {i}", "label": i % 2} for i in range(6)]
    path = tmp_path / "valid.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return PIQA.load(path)


def test_results_are_metrics_of_each_row(model: LanguageModel, rows: list[PromptedRow]) -> None:
    result = run_suite(model, PIQA, rows, ResultCache(None))
    assert result.engine == "torch-cpu-float32"
    assert result.num_computed == len(rows)
    assert set(result.scores) == {"acc", "acc_norm"}
    assert result.metric().rows == len(rows)
    assert result.metric("acc_norm").value == sum(result.scores["acc_norm"]) / len(rows)
    assert result.rows_per_second is not None


def test_cached_rows_are_not_computed_again(model: LanguageModel, rows: list[PromptedRow], tmp_path: Path) -> None:
    path = cache_path(tmp_path, "a" * 64, model.backend.name, "piqa")
    with ResultCache(path) as cache:
        first = run_suite(model, PIQA, rows[:4], cache)
    with ResultCache(path) as cache:
        second = run_suite(model, PIQA, rows, cache)
    assert (first.num_computed, second.num_computed) == (4, 2)
    assert second.scores["acc"][:4] == first.scores["acc"]
    with ResultCache(path) as cache:
        third = run_suite(model, PIQA, rows, cache)
    assert (third.num_computed, third.rows_per_second, third.scores) == (0, None, second.scores)


def test_an_interrupted_run_goes_on_where_it_stopped(
    model: LanguageModel, rows: list[PromptedRow], tmp_path: Path
) -> None:
    path = tmp_path / "cache.jsonl"
    seen: list[int] = []

    def stop_after_three(count: int) -> None:
        seen.append(count)
        if sum(seen) == 3:
            raise KeyboardInterrupt

    with ResultCache(path) as cache, pytest.raises(KeyboardInterrupt):
        run_suite(model, PIQA, rows, cache, stop_after_three)
    with ResultCache(path) as cache:
        assert run_suite(model, PIQA, rows, cache).num_computed == len(rows) - 3


def test_a_torn_line_costs_one_row(model: LanguageModel, rows: list[PromptedRow], tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    with ResultCache(path) as cache:
        run_suite(model, PIQA, rows, cache)
    path.write_bytes(path.read_bytes()[:-5])
    with ResultCache(path) as cache:
        assert run_suite(model, PIQA, rows, cache).num_computed == 1
    with ResultCache(path) as cache:
        assert run_suite(model, PIQA, rows, cache).num_computed == 0


def test_generated_answers_stop_at_the_suites_words(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "mgsm_en.tsv"
    path.write_text("How many?\t3\n")
    cache = ResultCache(None)
    (row,) = MGSM.load(path)
    result = run_suite(model, MGSM, [row], cache)
    text = cache.get(MGSM.request_hash(row))
    assert isinstance(text, str)
    assert "Question:" not in text
    assert result.metric("exact_match").value == 0.0


def test_a_label_specialist_is_scored_by_choices_only(rows: list[PromptedRow], tmp_path: Path) -> None:
    specialist = language_model(Task(kind="label", instruction="", labels=("a", "b")))
    assert run_suite(specialist, PIQA, rows[:1], ResultCache(None)).num_computed == 1
    path = tmp_path / "mgsm_en.tsv"
    path.write_text("How many?\t3\n")
    with pytest.raises(UsageError, match=r"predicts labels and generates no text, so mgsm_en cannot score it"):
        run_suite(specialist, MGSM, MGSM.load(path), ResultCache(None))


def test_clusters_are_the_passages_of_rows(model: LanguageModel, tmp_path: Path) -> None:
    def lines() -> Iterator[str]:
        yield "premise,choice1,choice2,question,idx,label"
        for i in range(4):
            yield f"Premise {i // 2}.,Satu {i},Dua,cause,{i},0"

    path = tmp_path / "test.csv"
    path.write_text("\n".join(lines()))
    suite = SUITES["copal_id"]
    result = run_suite(model, suite, suite.load(path), ResultCache(None))
    assert len(set(result.clusters)) == 2
