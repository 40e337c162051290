"""Tuning speed and memory against transformers + PEFT: the same rows, batches, rank, targets and weights.

    python bench/bench_tune.py DATA.csv [--rows 32] [--steps 6] [--rounds 3] [--rank 16] [--accuracy EPOCHS]

Each contender runs in its own process. They take turns of a few steps, so that changes of the machine's speed affect
all of them; a waiting one uses no processor. Tokens are those of the rows, prompt and answer: padding does not count,
and shared prefixes count in every row. With ``--accuracy`` all are then tuned for that many epochs, and classify the
same held-out rows with the adapter that they saved.
Prints a table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

TARGETS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj", "gate": "gate_proj", "up": "up_proj"}
CONTENDERS = ("empu int8", "empu bfloat16", "PEFT bfloat16", "PEFT float32")


def main() -> None:
    options = arguments()
    if options.worker:
        run_worker(options)
        return
    workers = {name: start_worker(options, name) for name in CONTENDERS if name in options.only.split(",")}
    rates: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(options.rounds):
        for name, worker in workers.items():
            rates[name].append(send(worker, {"steps": options.steps})["tokens_per_s"])
            print(f"{name}: {rates[name][-1]:,.0f} tokens/s", file=sys.stderr)
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, worker in workers.items():
            report = send(worker, {"finish": options.accuracy, "folder": f"{folder}/{name.replace(' ', '-')}"})
            results[name] = {
                "tokens_per_s": round(statistics.median(rates[name])),
                "best": round(max(rates[name])),
                "peak_mib": report["peak_mib"],
                **{key: report[key] for key in ("accuracy", "seconds") if key in report},
            }
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait()
    for name, row in results.items():
        print(f"{name:16}", *(f"{key} {value:>8,}" for key, value in row.items()))
    machine = platform.processor() or platform.machine()
    print(json.dumps({"machine": machine, "options": vars(options), "results": results}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--base", default="default")
    parser.add_argument("--rows", type=int, default=32, help="rows per step")
    parser.add_argument("--steps", type=int, default=6, help="steps per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--accuracy", type=int, default=0, metavar="EPOCHS")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="comma-separated contenders")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.data = str(options.data)
    return options


def start_worker(options: argparse.Namespace, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "TRANSFORMERS_VERBOSITY": "error"}
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert worker.stdout is not None
    if worker.stdout.readline().strip() != "ready":
        sys.exit(f"{name} did not start")
    return worker


def send(worker: subprocess.Popen[str], command: dict[str, Any]) -> dict[str, Any]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    print(json.dumps(command), file=worker.stdin, flush=True)
    line = worker.stdout.readline()
    if not line:
        sys.exit("a contender ended too early")
    report: dict[str, Any] = json.loads(line)
    return report


def run_worker(options: argparse.Namespace) -> None:
    """Run one contender: read commands, print reports."""
    import torch

    from empu.specialist.dataset import prepare_dataset
    from empu.specialist.plan import plan_tuning
    from empu.specialist.request import TuneRequest
    from empu.store.store import Store

    torch.set_num_threads(options.threads)
    store = Store.of_user()
    dataset = prepare_dataset(store, options.base, Path(options.data))
    precision = options.worker.rsplit(" ", 1)[1]
    request = TuneRequest("bench", base=options.base, rank=options.rank, threads=options.threads)
    request = replace(request, precision=precision if "empu" in options.worker else None)
    plan = plan_tuning(store, dataset, request)
    recipe = replace(plan.recipe, batch_size=options.rows)
    contender: Any = (EmpuContender if "empu" in options.worker else PeftContender)(plan, recipe, precision)
    batches = contender.batches()
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "steps" in command:
            tokens, seconds = 0, 0.0
            for _ in range(command["steps"]):
                rows = next(batches)
                started_at = time.perf_counter()
                contender.step(rows)
                seconds += time.perf_counter() - started_at
                tokens += sum(len(row) - 1 for row in rows)
            report: dict[str, Any] = {"tokens_per_s": tokens / seconds}
        else:
            report = {}
            if command["finish"]:
                report = contender.finish(dataset, command["finish"], Path(command["folder"]))
            report["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(json.dumps(report), flush=True)


class Contender:
    """Steps over the same batches in the same order."""

    def __init__(self, plan: Any, recipe: Any, precision: str) -> None:
        self.plan, self.recipe, self.precision = plan, recipe, precision
        self.load()

    def load(self) -> None:
        raise NotImplementedError

    def step(self, rows: Any, rate: float | None = None) -> None:
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    def batches(self, epochs: int | None = None) -> Iterator[list[Any]]:
        from empu.tune.batches import epoch_batches

        epoch = 0
        while epochs is None or epoch < epochs:
            for batch in epoch_batches(self.plan.train, self.recipe.batch_size, self.recipe.seed, epoch):
                yield [self.plan.train[i] for i in batch]
            epoch += 1

    def finish(self, dataset: Any, epochs: int, folder: Path) -> dict[str, Any]:
        """Tune from the start for some epochs, save the adapter, and score it on the held-out rows."""
        from empu.data.prompts import answer_of
        from empu.engine.language_model import open_model
        from empu.evals.prompting import with_task

        self.load()
        all_batches = list(self.batches(epochs))
        started_at = time.perf_counter()
        for step, rows in enumerate(all_batches):
            self.step(rows, replace(self.recipe, epochs=epochs).learning_rate_at(step, len(all_batches)))
        seconds = time.perf_counter() - started_at
        self.save(folder)
        model = with_task(open_model(self.plan.base.path, adapter=folder), self.plan.task)
        answers = [predictions[0].label for predictions in model.classify([row.question() for row in dataset.test])]
        num_correct = sum(answer == answer_of(row) for answer, row in zip(answers, dataset.test, strict=True))
        return {"accuracy": round(num_correct / len(answers), 4), "seconds": round(seconds, 1)}


class EmpuContender(Contender):
    """The trainer of Empu."""

    def load(self) -> None:
        from empu.checkpoint import open_checkpoint
        from empu.model.loading import build_transformer
        from empu.tune.objectives.select import objective_for
        from empu.tune.trainable import make_trainable
        from empu.tune.trainer import Trainer

        with open_checkpoint(self.plan.base.path) as checkpoint:
            model = build_transformer(
                checkpoint.config, ((tensor.name, tensor.float32()) for tensor in checkpoint.tensors())
            )
        objective = objective_for(self.recipe, self.plan.train)
        self.trainer = Trainer(make_trainable(model, self.recipe), objective, self.plan.train, [], self.recipe)

    def step(self, rows: Any, rate: float | None = None) -> None:
        self.trainer.train_step(rows, self.recipe.learning_rate if rate is None else rate)

    def save(self, folder: Path) -> None:
        from empu.specialist.saving import write_weights

        write_weights(
            folder,
            self.trainer.model,
            replace(self.plan, recipe_plan=replace(self.plan.recipe_plan, recipe=self.recipe)),
        )


class PeftContender(Contender):
    """transformers + PEFT as in their documentation, with a fused optimiser, on right-padded rows."""

    def load(self) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        path = next(self.plan.base.path.glob("*.gguf")) if self.plan.base.path.is_dir() else self.plan.base.path
        model: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=getattr(torch, self.precision)
        )
        model.config.use_cache = False
        torch.manual_seed(self.recipe.seed)
        config = LoraConfig(
            r=self.recipe.rank, lora_alpha=self.recipe.alpha, target_modules=[*TARGETS.values(), "down_proj"]
        )
        self.model: Any = get_peft_model(model, config)
        self.model.train()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=self.recipe.learning_rate, betas=(0.9, self.recipe.beta2), weight_decay=0.0, fused=True
        )

    def step(self, rows: Any, rate: float | None = None) -> None:
        import torch

        longest = max(len(row) for row in rows) - 1
        tokens = torch.zeros(len(rows), longest, dtype=torch.long)
        labels = torch.full((len(rows), longest), -100)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for i, row in enumerate(rows):
            # The logits at a position predict the next token, so labels are shifted by one position to the left.
            ids = [*row.prompt, *row.completion]
            tokens[i, : len(ids) - 1] = torch.tensor(ids[:-1])
            labels[i, len(row.prompt) - 1 : len(ids) - 1] = torch.tensor(row.completion)
            mask[i, : len(ids) - 1] = 1
        logits = self.model(input_ids=tokens, attention_mask=mask).logits
        loss: Any = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate if rate is None else rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)


if __name__ == "__main__":
    main()
