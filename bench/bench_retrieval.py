"""Quality of search and quoted answers: recall of passages, evidence quoted, refusal of unanswerable questions.

.venv/bin/python bench/bench_retrieval.py [--encoder NAME] [--documents FOLDER] [--questions FILE.jsonl]

The default is the example company's handbook with its questions. Questions are JSON lines with ``question``,
``answerable``, ``lang``, ``file`` and ``evidence`` (a text that a right quotation contains). Prints a table by language
with Wilson intervals, and one line of JSON. With --fit it prints the logistic calibration of the answer score.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from empu.embed.text_encoder import installed_encoders
from empu.evals.metrics import accuracy
from empu.retrieval.answer import answer_question
from empu.retrieval.collection import Collections
from empu.retrieval.ingest import add_paths
from empu.store.store import Store

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "helpdesk"


class Silent:
    """Progress that is not shown."""

    def on_document(self, name: str, done: int, total: int) -> None:
        pass

    def should_stop(self) -> bool:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", help="name of an installed encoder, or 'none'; the first installed by default")
    parser.add_argument("--documents", type=Path, default=EXAMPLE / "handbook")
    parser.add_argument("--questions", type=Path, default=EXAMPLE / "questions.jsonl")
    parser.add_argument("--fit", action="store_true", help="fit the calibration of the answer score on these questions")
    options = parser.parse_args()
    encoders = {encoder.name: encoder for encoder in installed_encoders(Store.of_user().home)}
    name = options.encoder or next(iter(encoders), "none")
    encoder = None if name == "none" else encoders[name]
    questions = [json.loads(line) for line in options.questions.read_text(encoding="utf-8").splitlines()]
    counts: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    scores: list[tuple[float, bool]] = []
    with tempfile.TemporaryDirectory() as home, Collections(Path(home)).open("bench", create=True) as collection:
        start = time.perf_counter()
        report = add_paths(
            collection, [options.documents], encoder=encoder, licence="", added_by="bench", progress=Silent()
        )
        index_s = time.perf_counter() - start
        start = time.perf_counter()
        for row in questions:
            record(counts[row["lang"]], row, answer_question(collection, row["question"], encoder=encoder), scores)
        answer_ms = 1000 * (time.perf_counter() - start) / len(questions)
        passages = collection.counts()[1]
    print(f"encoder {name}; {len(report.added)} documents, {passages} passages indexed in {index_s:.1f} s;", end=" ")
    print(f"{answer_ms:.0f} ms per answer")
    result: dict[str, Any] = {"encoder": name, "index_s": index_s, "ms_per_answer": answer_ms}
    for language, metrics in sorted(counts.items()):
        for metric, values in metrics.items():
            share = accuracy(values)
            interval = f"{share.low:.1%} to {share.high:.1%}; {share.rows} questions"
            print(f"{language}  {metric:35} {share.value:6.1%}  ({interval})")
            result[f"{language} {metric}"] = share.value
    if options.fit:
        result["calibration"] = fit(scores)
    print(json.dumps(result))


def record(metrics: dict[str, list[bool]], row: dict[str, Any], answer: Any, scores: list[tuple[float, bool]]) -> None:
    if answer.quotes:
        scores.append((max(quote.score for quote in answer.quotes), row["answerable"]))
    if not row["answerable"]:
        metrics["refused, unanswerable"].append(answer.is_refused)
        return
    evidence = plain(row["evidence"])
    quoted = " ".join(plain(f"{quote.header or ''} {quote.text}") for quote in answer.quotes)
    metrics["recall@1 of the passage"].append(bool(answer.hits) and evidence in plain(answer.hits[0].passage.text))
    metrics["recall@5 of the passage"].append(any(evidence in plain(hit.passage.text) for hit in answer.hits[:5]))
    metrics["evidence quoted"].append(evidence in quoted)
    metrics["answered, answerable"].append(not answer.is_refused)


def plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def fit(scores: list[tuple[float, bool]]) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=100).fit([[score] for score, _ in scores], [answerable for _, answerable in scores])
    return round(float(model.coef_[0][0]), 2), round(float(model.intercept_[0]), 2)


if __name__ == "__main__":
    main()
