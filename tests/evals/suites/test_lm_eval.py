"""Suites against lm-evaluation-harness: the same prompts, log-likelihoods within 0.001, the same scores.

Slow, and skipped where lm_eval is not installed. It may be in another environment:
``EMPU_LM_EVAL_PYTHON=/path/to/python pytest -m slow tests/evals/suites``. ``EMPU_LM_EVAL_ROWS`` sets the rows.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from empu.engine.language_model import LanguageModel, open_model
from empu.evals.harness import run_suite
from empu.evals.result_cache import ResultCache
from empu.evals.suites.base import GenerationSuite, MultipleChoiceSuite
from empu.evals.suites.registry import SUITES
from empu.specialist.export import export
from tests.evals.suites import published

TOLERANCE = 1e-3
ROWS = int(os.environ.get("EMPU_LM_EVAL_ROWS", "20"))
TIMEOUT_S = 3000


@dataclass(frozen=True)
class Task:
    """A suite, and the reference's task for it."""

    suite: str
    yaml: str
    records: Callable[[Path, str], published.Records]
    files: Mapping[str, str]
    """Split of the reference -> split of the records."""
    shots: int = 0
    group: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


NO_TRAIN = {"training_split": None}
NO_TRAIN_NO_DEV = {"training_split": None, "validation_split": None}
BOTH = {"test": "test", "dev": "dev"}
TASKS = (
    Task("arc_challenge", "arc/arc_challenge.yaml", published.arc, {"test": "test"}, settings=NO_TRAIN_NO_DEV),
    Task("hellaswag", "hellaswag/hellaswag.yaml", published.hellaswag, {"validation": "test"}, settings=NO_TRAIN),
    Task("piqa", "piqa/piqa.yaml", published.piqa, {"validation": "test"}, settings=NO_TRAIN),
    Task("openbookqa", "openbookqa/openbookqa.yaml", published.openbookqa, {"test": "test"}, settings=NO_TRAIN_NO_DEV),
    Task("mmlu", "mmlu/default/mmlu_anatomy.yaml", published.mmlu("anatomy"), BOTH, shots=5),
    Task("truthfulqa_mc1", "truthfulqa/truthfulqa_mc1.yaml", published.truthfulqa, {"validation": "test"}),
    Task("truthfulqa_mc2", "truthfulqa/truthfulqa_mc2.yaml", published.truthfulqa, {"validation": "test"}),
    Task("copal_id", "copal_id/standard.yaml", published.copal_id, {"test": "test"}),
    Task(
        "global_mmlu_lite_id",
        "global_mmlu/default/id/global_mmlu_id_stem.yaml",
        published.global_mmlu("id"),
        BOTH,
        shots=2,
        group="STEM",
    ),
    Task(
        "mgsm_en",
        "mgsm/direct/mgsm_direct_en.yaml",
        published.mgsm("en"),
        {"test": "test"},
        settings=NO_TRAIN,
    ),
)


@pytest.fixture(scope="module")
def lm_eval_python() -> str:
    if importlib.util.find_spec("lm_eval") is not None:
        return sys.executable
    python = os.environ.get("EMPU_LM_EVAL_PYTHON")
    if python is None:
        pytest.skip("lm_eval is not installed; EMPU_LM_EVAL_PYTHON may name a Python that has it")
    return python


@pytest.fixture(scope="module")
def exported_folder(default_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model in float32, for transformers."""
    folder = tmp_path_factory.mktemp("model") / "hf"
    export(default_gguf, None, "hf", folder, [], type_name="F32")
    return folder


@pytest.fixture(scope="module")
def model(default_gguf: Path) -> LanguageModel:
    return open_model(default_gguf, engine="torch")


def run_reference(python: str, model: Path, task: Task, files: Mapping[str, str], folder: Path) -> dict[str, Any]:
    spec = {
        "model": str(model),
        "limit": ROWS,
        "tasks": [
            {
                "name": task.suite,
                "yaml": task.yaml,
                "files": dict(files),
                "shots": task.shots,
                "settings": dict(task.settings),
            }
        ],
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    done = subprocess.run(
        [python, str(Path(__file__).with_name("lm_eval_oracle.py")), str(folder / "spec.json")],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)[task.suite]
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.suite)
def test_prompts_and_log_likelihoods_equal_the_reference(
    task: Task, lm_eval_python: str, exported_folder: Path, model: LanguageModel, shared_data: Path, tmp_path: Path
) -> None:
    files = {
        split: str(published.write_jsonl(tmp_path / f"{split}.jsonl", task.records(shared_data / "eval", own)))
        for split, own in task.files.items()
    }
    reference = run_reference(lm_eval_python, exported_folder, task, files, tmp_path)
    compare(model, task, Path(next(iter(files.values()))), reference)


def compare(model: LanguageModel, task: Task, path: Path, reference: Mapping[str, Any]) -> dict[str, float]:
    """Compare every row. Return the largest difference of a log-likelihood, our seconds and theirs."""
    suite = SUITES[task.suite]
    rows = [row for row in suite.load(path, task.shots) if task.group in (None, row.question.group)]
    cache = ResultCache(None)
    worst, where = 0.0, ""
    theirs = reference["rows"]
    if isinstance(suite, GenerationSuite):  # the reference lists each row once for each of its filters
        theirs = [row for row in theirs if row["filter"] == theirs[0]["filter"]]
    rows = rows[: len(theirs)]
    result = run_suite(model, suite, rows, cache)
    for i, (row, other) in enumerate(zip(rows, theirs, strict=True)):
        assert row.prompt == other["prompt"], f"row {i}"
        ours = cache.get(suite.request_hash(row))
        if isinstance(suite, MultipleChoiceSuite):
            assert suite.continuations(row.question) == other["continuations"]
            difference = float(np.abs(np.array(ours) - np.array(other["log_likelihoods"])).max())
            if difference > worst:
                worst, where = difference, f"row {i}: {ours} and {other['log_likelihoods']}"
            for metric in suite.metrics:
                expected = other["acc" if metric == "mc2" else metric]
                assert result.scores[metric][i] == pytest.approx(expected, abs=2e-3), f"{metric}, row {i}"
        else:
            assert ours.strip() == other["generated"].strip(), f"row {i}"
    assert worst <= TOLERANCE, where
    return {
        "worst": worst,
        "seconds": result.seconds,
        "reference_seconds": reference["seconds"],
        "rows": len(rows),
        **{metric: sum(result.scores[metric]) / len(rows) for metric in suite.metrics},
    }
