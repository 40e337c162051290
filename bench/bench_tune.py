"""Tuning speed and memory against transformers + PEFT: the same rows, batches, rank, targets and weights.

    python bench/bench_tune.py DATA.csv [--rows 32] [--steps 6] [--rounds 3] [--rank 16] [--accuracy EPOCHS]

Each contestant lives in a process of its own; they take turns of some steps, so that a change of the machine's speed
meets all alike, and wait without a processor in between. Tokens are those of the rows, prompt and answer, padding and
shared beginnings not counted twice or left out: both are given the same rows. With ``--accuracy`` all are then tuned
for that many epochs, and every adapter, PEFT's read from the files that it wrote, answers the same held-out rows.
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
CONTESTANTS = ("empu int8", "empu bfloat16", "PEFT bfloat16", "PEFT float32")


def main() -> None:
    options = arguments()
    if options.worker:
        work(options)
        return
    begun = {name: start(options, name) for name in CONTESTANTS if name in options.only.split(",")}
    paces: dict[str, list[float]] = {name: [] for name in begun}
    for _ in range(options.rounds):
        for name, child in begun.items():
            paces[name].append(ask(child, {"steps": options.steps})["tokens_per_s"])
            print(f"{name}: {paces[name][-1]:,.0f} tokens/s", file=sys.stderr)
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, child in begun.items():
            report = ask(child, {"finish": options.accuracy, "folder": f"{folder}/{name.replace(' ', '-')}"})
            results[name] = {
                "tokens_per_s": round(statistics.median(paces[name])),
                "best": round(max(paces[name])),
                "peak_mib": report["peak_mib"],
                **{key: report[key] for key in ("accuracy", "seconds") if key in report},
            }
            assert child.stdin is not None
            child.stdin.close()
            child.wait()
    for name, row in results.items():
        print(f"{name:16}", *(f"{key} {value:>8,}" for key, value in row.items()))
    machine = platform.processor() or platform.machine()
    print(json.dumps({"machine": machine, "options": vars(options), "results": results}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--base", default="default")
    parser.add_argument("--rows", type=int, default=32, help="rows of one step")
    parser.add_argument("--steps", type=int, default=6, help="steps of one turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--accuracy", type=int, default=0, metavar="EPOCHS")
    parser.add_argument("--only", default=",".join(CONTESTANTS), help="contestants, with commas between")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.data = str(options.data)
    return options


def start(options: argparse.Namespace, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "TRANSFORMERS_VERBOSITY": "error"}
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    if child.stdout.readline().strip() != "ready":
        sys.exit(f"{name} did not start")
    return child


def ask(child: subprocess.Popen[str], order: dict[str, Any]) -> dict[str, Any]:
    assert child.stdin is not None
    assert child.stdout is not None
    print(json.dumps(order), file=child.stdin, flush=True)
    line = child.stdout.readline()
    if not line:
        sys.exit("a contestant ended before its time")
    report: dict[str, Any] = json.loads(line)
    return report


def work(options: argparse.Namespace) -> None:
    """One contestant: reads orders, prints reports."""
    import torch

    from empu.specialist.dataset import prepare_rows
    from empu.specialist.plan import Wishes, make_ready
    from empu.store.store import Store

    torch.set_num_threads(options.threads)
    store = Store.of_user()
    prepared = prepare_rows(store, options.base, Path(options.data))
    precision = options.worker.rsplit(" ", 1)[1]
    wishes = Wishes("bench", base=options.base, rank=options.rank, threads=options.threads)
    ready = make_ready(store, prepared, replace(wishes, precision=precision if "empu" in options.worker else None))
    recipe = replace(ready.plan.recipe, batch_rows=options.rows)
    contestant: Any = (Ours if "empu" in options.worker else Theirs)(ready, recipe, precision)
    batches = contestant.batches()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "steps" in order:
            tokens, seconds = 0, 0.0
            for _ in range(order["steps"]):
                rows = next(batches)
                begun = time.perf_counter()
                contestant.step(rows)
                seconds += time.perf_counter() - begun
                tokens += sum(len(row) - 1 for row in rows)
            report: dict[str, Any] = {"tokens_per_s": tokens / seconds}
        else:
            report = {}
            if order["finish"]:
                report = contestant.finish(prepared, order["finish"], Path(order["folder"]))
            report["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(json.dumps(report), flush=True)


class Contestant:
    """Steps over the same batches in the same order."""

    def __init__(self, ready: Any, recipe: Any, precision: str) -> None:
        self.ready, self.recipe, self.precision = ready, recipe, precision
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
            for batch in epoch_batches(self.ready.train, self.recipe.batch_rows, self.recipe.seed, epoch):
                yield [self.ready.train[i] for i in batch]
            epoch += 1

    def finish(self, prepared: Any, epochs: int, folder: Path) -> dict[str, Any]:
        """Tune anew for some epochs, write the adapter, and answer the held-out rows."""
        from empu.engine.language_model import open_model
        from empu.evals.systems import replace_task
        from empu.tune.encoding import answer_of

        self.load()
        whole = list(self.batches(epochs))
        begun = time.perf_counter()
        for step, rows in enumerate(whole):
            self.step(rows, replace(self.recipe, epochs=epochs).rate(step, len(whole)))
        seconds = time.perf_counter() - begun
        self.save(folder)
        model = replace_task(open_model(self.ready.base.path, adapter=folder), self.ready.task)
        answers = [found[0].label for found in model.classify([row.question() for row in prepared.test])]
        right = sum(answer == answer_of(row) for answer, row in zip(answers, prepared.test, strict=True))
        return {"accuracy": round(right / len(answers), 4), "seconds": round(seconds, 1)}


class Ours(Contestant):
    """The trainer of this project."""

    def load(self) -> None:
        from empu.checkpoint import open_checkpoint
        from empu.model.loading import build
        from empu.tune.plan import prepare
        from empu.tune.trainer import Trainer

        with open_checkpoint(self.ready.base.path) as checkpoint:
            model = build(checkpoint.config, ((tensor.name, tensor.float32()) for tensor in checkpoint.tensors()))
        self.trainer = Trainer(prepare(model, self.recipe), self.ready.train, [], self.recipe)

    def step(self, rows: Any, rate: float | None = None) -> None:
        self.trainer._step(rows, self.recipe.learning_rate if rate is None else rate)

    def save(self, folder: Path) -> None:
        from empu.specialist.saving import write_weights

        write_weights(
            folder, self.trainer.model, replace(self.ready, plan=replace(self.ready.plan, recipe=self.recipe))
        )


class Theirs(Contestant):
    """transformers + PEFT as their documentation has them, with a fused optimiser, on rows padded on the right."""

    def load(self) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        path = next(self.ready.base.path.glob("*.gguf")) if self.ready.base.path.is_dir() else self.ready.base.path
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
            # What is read at a place answers the next one: labels stand one place to the left of their tokens.
            whole = [*row.prompt, *row.answer]
            tokens[i, : len(whole) - 1] = torch.tensor(whole[:-1])
            labels[i, len(row.prompt) - 1 : len(whole) - 1] = torch.tensor(row.answer)
            mask[i, : len(whole) - 1] = 1
        logits = self.model(input_ids=tokens, attention_mask=mask).logits
        loss: Any = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate if rate is None else rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)


if __name__ == "__main__":
    main()
