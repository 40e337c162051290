"""Speed of text encoders on the same token ids with the same threads, in alternation, with the cosine to float32.

    bench/bench_encoder.py FOLDER... [--threads N] [--rounds N] [--openvino SITE_PACKAGES] [--documents FOLDER...]

FOLDER holds an encoder. Texts are the tickets of examples/helpdesk, and passages of 900 characters of its handbook.
Peers run on the same weights in float32, in batches of 32 texts of similar length; OpenVINO also with its own choice
of precision, and with 8-bit weights (nncf). With --documents, also recall@1 of the native and the numpy encoder on
collections with ``passages.jsonl`` and ``qa.jsonl``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empu.embed.encoder import Encoder
from empu.embed.native_encoder import NativeEncoder
from empu.embed.numpy_encoder import NumpyEncoder
from empu.embed.weights import open_weights, tensor
from empu.system.cpu import cpu_name

ROOT = Path(__file__).resolve().parent.parent
BATCH_SIZE = 32
NUMPY_TEXTS = 8
"""The numpy encoder is slow: it is timed on this many of the texts."""

Ids = list[list[int]]
Vectors = np.ndarray[Any, np.dtype[np.float32]]
Run = Callable[[Ids], Vectors]


def helpdesk_texts() -> dict[str, list[str]]:
    with (ROOT / "examples" / "helpdesk" / "tickets.csv").open(encoding="utf-8") as file:
        tickets = [row["text"] for row in csv.DictReader(file)]
    pages = sorted((ROOT / "examples" / "helpdesk" / "handbook").rglob("*.md"))
    handbook = " ".join(page.read_text(encoding="utf-8") for page in pages) or " ".join(tickets)
    passages = [handbook[start : start + 900] for start in range(0, len(handbook) - 900, 900)]
    return {"tickets": tickets[:128], "passages": passages[:32]}


def padded_batches(ids: Ids, run_batch: Callable[[Any, Any], Any]) -> Vectors:
    """Run texts of similar length together; mean pooling over the tokens that are not padding."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    vectors: list[Any] = [None] * len(ids)
    for start in range(0, len(order), BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        width = max(len(ids[i]) for i in chosen)
        tokens, mask = np.zeros((len(chosen), width), np.int64), np.zeros((len(chosen), width), np.int64)
        for row, i in enumerate(chosen):
            tokens[row, : len(ids[i])], mask[row, : len(ids[i])] = ids[i], 1
        hidden = np.asarray(run_batch(tokens, mask))
        means = (hidden * mask[:, :, None]).sum(axis=1)
        for row, i in enumerate(chosen):
            vectors[i] = means[row] / np.linalg.norm(means[row])
    return np.stack(vectors)


def torch_bert(folder: Path) -> Any:
    """The encoder's weights, unpacked to float32, in transformers' BERT."""
    import torch
    from transformers import BertConfig, BertModel

    keys = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "max_position_embeddings",
            "layer_norm_eps")  # fmt: skip
    values = json.loads((folder / "config.json").read_text())
    weights = open_weights(folder)
    sizes = {key: values[key] for key in keys}
    vocab_size = weights.stored("embeddings.word_embeddings.weight")[1][0]
    types = weights.stored("embeddings.token_type_embeddings.weight")[1][0]
    model: Any = BertModel(BertConfig(vocab_size=vocab_size, type_vocab_size=types, **sizes), add_pooling_layer=False)
    state = {name: torch.from_numpy(tensor(weights, name).copy()) for name in model.state_dict() if "LayerNorm" in name
             or name.endswith(("weight", "bias"))}  # fmt: skip
    model.load_state_dict(state, strict=False)
    return model.eval()


def transformers_run(model: Any) -> Run:
    import torch

    def run_batch(tokens: Any, mask: Any) -> Any:
        with torch.inference_mode():
            return model(input_ids=torch.from_numpy(tokens), attention_mask=torch.from_numpy(mask)).last_hidden_state

    return lambda ids: padded_batches(ids, run_batch)


def openvino_runs(model: Any, threads: int, site_packages: str) -> dict[str, Run]:
    sys.path.append(site_packages)
    import openvino as ov
    import torch

    example = {name: torch.ones((2, 8), dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        float32 = ov.convert_model(model, example_input=example)
    models = {"openvino float32": (float32, {"INFERENCE_PRECISION_HINT": "f32"}), "openvino default": (float32, {})}
    try:
        import nncf

        with torch.inference_mode():
            copied = ov.convert_model(model, example_input=example)
        models["openvino int8 weights"] = (nncf.compress_weights(copied, mode=nncf.CompressWeightsMode.INT8_SYM), {})
    except Exception as error:
        print(f"no 8-bit weights for OpenVINO: {error}", file=sys.stderr)
    core, runs = ov.Core(), {}

    def run_of(compiled: Any) -> Run:
        return lambda ids: padded_batches(
            ids, lambda tokens, mask: compiled({"input_ids": tokens, "attention_mask": mask})[0]
        )

    for name, (converted, options) in models.items():
        options = {"INFERENCE_NUM_THREADS": str(threads), "PERFORMANCE_HINT": "LATENCY", **options}
        runs[name] = run_of(core.compile_model(converted, "CPU", options))
    return runs


def measure(runs: dict[str, Run], ids: Ids, reference: Vectors, rounds: int) -> list[dict[str, Any]]:
    """Each engine in turn, several times: median and best texts per second, and the cosine to ``reference``."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    cosines: dict[str, Vectors] = {}
    for turn in range(rounds + 1):  # the first one warms up
        for name, run in runs.items():
            part = ids[:NUMPY_TEXTS] if name == "numpy" else ids
            start = time.perf_counter()
            vectors = run(part)
            if turn:
                seconds[name].append((time.perf_counter() - start) / len(part))
            cosines[name] = (vectors * reference[: len(part)]).sum(axis=1)
    return [
        {
            "engine": name,
            "texts_per_s": round(1 / statistics.median(seconds[name]), 1),
            "best_texts_per_s": round(1 / min(seconds[name]), 1),
            "cosine_mean": round(float(cosines[name].mean()), 6),
            "cosine_worst": round(float(cosines[name].min()), 6),
        }
        for name in runs
    ]


def recall_at_1(encoder: Encoder, documents: Path) -> tuple[float, int]:
    """The fraction of answerable questions whose nearest passage is theirs."""
    passages = [json.loads(line) for line in (documents / "passages.jsonl").open(encoding="utf-8")]
    rows = [json.loads(line) for line in (documents / "qa.jsonl").open(encoding="utf-8")]
    questions = [row for row in rows if row["answerable"]]

    def embed(texts: list[str]) -> Vectors:
        return np.stack([embedding.vector for embedding in encoder.embed(texts, truncate=True)])

    matrix = embed([encoder.config.passage_prefix + passage["text"] for passage in passages])
    nearest = (embed([encoder.config.query_prefix + row["question"] for row in questions]) @ matrix.T).argmax(axis=1)
    hits = [passages[i]["id"] in row["passage_ids"] for i, row in zip(nearest, questions, strict=True)]
    return statistics.mean(hits), len(hits)


def bench_folder(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    encoder = Encoder(folder)
    weights = open_weights(folder)
    native, oracle = (
        NativeEncoder(encoder.config, weights, threads=arguments.threads),
        NumpyEncoder(encoder.config, weights),
    )
    model = torch_bert(folder)
    runs: dict[str, Run] = {
        "empu": native.embed_ids,
        "numpy": oracle.embed_ids,
        "transformers": transformers_run(model),
    }
    if arguments.openvino:
        runs |= openvino_runs(model, arguments.threads, arguments.openvino)
    result: dict[str, Any] = {"encoder": str(folder), "instruction_set": native.instruction_set, "texts": {}}
    for kind, texts in helpdesk_texts().items():
        ids = encoder.encode_batch(texts, truncate=True)
        start = time.perf_counter()
        encoder.encode_batch(texts)
        tokenizer_rate = len(texts) / (time.perf_counter() - start)
        reference = runs["transformers"](ids)
        rows = measure(runs, ids, reference, arguments.rounds)
        tokens = statistics.mean(map(len, ids))
        print(
            f"\n{folder.name}, {kind}: {len(ids)} texts of {tokens:.0f} tokens; tokenizer {tokenizer_rate:.0f} texts/s"
        )
        for row in rows:
            print(f"{row['engine']:24} {row['texts_per_s']:8.1f} texts/s (best {row['best_texts_per_s']:8.1f})"
                  f"   cosine {row['cosine_mean']:.5f}, worst {row['cosine_worst']:.5f}")  # fmt: skip
        peers = [row for row in rows if row["engine"] not in ("empu", "numpy")]
        ratio = rows[0]["texts_per_s"] / max(row["texts_per_s"] for row in peers)
        print(f"empu / best peer: {ratio:.2f}", flush=True)
        result["texts"][kind] = {"tokens": round(tokens, 1), "rows": rows, "ratio_to_best_peer": round(ratio, 2)}
    return result


def bench_recall(folder: Path, documents: Sequence[Path]) -> list[dict[str, Any]]:
    results = []
    for collection in documents:
        row: dict[str, Any] = {"collection": collection.name}
        for backend in ("native", "numpy"):
            row[backend], row["questions"] = recall_at_1(Encoder(folder, backend=backend), collection)
        print(f"{folder}, {collection.name}: recall@1 native {row['native']:.4f}, numpy {row['numpy']:.4f} "
              f"({row['questions']} questions)", flush=True)  # fmt: skip
        results.append(row)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--openvino", default="")
    parser.add_argument("--documents", nargs="*", type=Path, default=[])
    parser.add_argument("--only-recall", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"cpu": cpu_name(), "threads": arguments.threads, "load": os.getloadavg()}
    if not arguments.only_recall:
        import torch

        torch.set_num_threads(arguments.threads)
        results["speed"] = [bench_folder(folder, arguments) for folder in arguments.folders]
    if arguments.documents:
        results["recall"] = {str(folder): bench_recall(folder, arguments.documents) for folder in arguments.folders}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
