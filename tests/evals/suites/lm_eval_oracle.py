"""Runs lm-evaluation-harness on local files and prints, for each row, the prompt, log-likelihoods and scores.

A stand-alone program for the Python that has lm_eval; it imports nothing of this project. It reads a JSON document:
``{"model": folder, "limit": n, "tasks": [{"name", "yaml", "files": {split: path}, "shots"}]}``, ``yaml`` relative to
lm_eval's folder of tasks.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    lm_eval: Any = importlib.import_module("lm_eval")
    task_manager: Any = importlib.import_module("lm_eval.tasks").TaskManager

    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tasks_folder = Path(lm_eval.__file__).parent / "tasks"
    results: dict[str, object] = {}
    model = lm_eval.api.registry.get_model("hf")(
        pretrained=spec["model"], dtype="float32", device="cpu", batch_size=spec.get("batch_size", 8)
    )
    for task in spec["tasks"]:
        with tempfile.TemporaryDirectory() as folder:
            lines = [
                f"include: {tasks_folder / task['yaml']}",
                f"task: oracle_{task['name']}",
                "tag: null",
                "dataset_path: json",
                "dataset_name: null",
                f"dataset_kwargs: {json.dumps({'data_files': task['files']})}",
                *(f"{key}: {json.dumps(value)}" for key, value in task.get("settings", {}).items()),
            ]
            Path(folder, f"{task['name']}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
            started_at = time.perf_counter()
            found = lm_eval.simple_evaluate(
                model=model,
                tasks=[f"oracle_{task['name']}"],
                num_fewshot=task["shots"],
                limit=spec["limit"],
                log_samples=True,
                bootstrap_iters=0,
                task_manager=task_manager(include_path=folder, include_defaults=False),
            )
            seconds = time.perf_counter() - started_at
        rows = []
        for sample in found["samples"][f"oracle_{task['name']}"]:
            pairs = [_values(pair) for pair in _values(sample["arguments"])]
            row = {"prompt": pairs[0][0], "filter": sample.get("filter")}
            answers = sample["filtered_resps"]
            if isinstance(pairs[0][1], str):
                row |= {"continuations": [pair[1] for pair in pairs], "log_likelihoods": [float(a[0]) for a in answers]}
            else:
                row |= {"generated": sample["resps"][0][0]}
            row |= {name: sample[name] for name in ("acc", "acc_norm", "exact_match") if name in sample}
            rows.append(row)
        results[task["name"]] = {"rows": rows, "seconds": seconds}
    json.dump(results, sys.stdout, default=float)


def _values(arguments: Any) -> list[Any]:
    return list(arguments.values()) if isinstance(arguments, dict) else list(arguments)


if __name__ == "__main__":
    main()
