"""Runs ``empu eval`` and shows its report: a table, a verdict for each comparison, or one JSON document."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from empu.cli import output
from empu.cli.loading import ResolvedModel, loading_options, open_resolved, resolve_model
from empu.errors import CancelledError, ReportedError, UsageError
from empu.evals.harness import SuiteResult, check_model, run_suite
from empu.evals.power import plan
from empu.evals.result_cache import ResultCache, cache_path
from empu.evals.suites.base import PromptedRow, Suite
from empu.evals.suites.registry import SUITES, suite_by_name
from empu.evals.verdicts import PairedComparison, compare_paired, holm
from empu.ledger.hashing import content_id, hash_file, tagged
from empu.ledger.ledger import Ledger
from empu.ledger.records import Evaluation, this_machine
from empu.store.pull.path import describe_path
from empu.store.store import Store
from empu.system.paths import user_path

if TYPE_CHECKING:
    from empu.engine.language_model import LanguageModel

MESSAGE_INTERVAL_S = 15.0
PLANNED_DIFFERENCES = (0.01, 0.02, 0.03, 0.05)


@dataclass(frozen=True, slots=True)
class EvalRequest:
    """Options of ``empu eval``, checked."""

    models: tuple[str, ...]
    against: tuple[str, ...]
    suites: tuple[Suite, ...]
    data: Path
    limit: int | None
    shots: int | None
    margin: float
    loading: Mapping[str, Any]

    @classmethod
    def from_options(cls, models: Sequence[str], options: Mapping[str, Any]) -> EvalRequest:
        """Check the options. Raises :class:`~empu.errors.UsageError`."""
        if not models:
            raise UsageError("Name at least one model: empu eval MODEL --suite NAME --data PATH.")
        if not options["suites"]:
            raise UsageError("Name at least one suite with --suite; empu eval --list shows them.")
        if options["data"] is None:
            raise UsageError("Give the file or folder with the suite's data: --data PATH.")
        everyone = [*models, *options["against"]]
        if twice := next((name for name in everyone if everyone.count(name) > 1), None):
            raise UsageError(f"{twice} is named twice; name each model once.")
        suites = tuple(suite_by_name(name) for name in dict.fromkeys(options["suites"]))
        return cls(
            tuple(models),
            tuple(options["against"]),
            suites,
            user_path(options["data"]),
            options["limit"],
            options["shots"],
            options["margin"] / 100,
            loading_options(options),
        )

    def load_rows(self) -> dict[str, list[PromptedRow]]:
        """Read the rows of all suites, so that bad data are found before a model is loaded."""
        return {suite.name: suite.load(self.data, self.shots, self.limit) for suite in self.suites}


@dataclass(frozen=True, slots=True)
class ModelResult:
    """A model's result on a suite."""

    model: str
    identity: Mapping[str, Any]
    result: SuiteResult


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison of two models on a suite."""

    suite: str
    first: str
    second: str
    comparison: PairedComparison


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that ``empu eval`` found."""

    results: tuple[ModelResult, ...]
    verdicts: tuple[Verdict, ...]
    shots: Mapping[str, int]


def run(request: EvalRequest) -> Report:
    """Evaluate the models, one in memory at a time, and record the results."""
    rows = request.load_rows()
    resolved = {name: resolve_model(name) for name in (*request.models, *request.against)}
    results: list[ModelResult] = []
    for name, model in resolved.items():
        language_model = open_resolved(model, **request.loading)
        for suite in request.suites:
            check_model(name, language_model, suite)
        model_id = model.stored.record.id if model.stored is not None else describe_path(model.path).id
        for suite in request.suites:
            result = _run_suite(name, model_id, language_model, suite, rows[suite.name], request.loading)
            results.append(ModelResult(name, {**model.identity(), "id": tagged(model_id)}, result))
            _record(model, result, request)
        del language_model
    shots = {suite.name: suite.shots if request.shots is None else request.shots for suite in request.suites}
    return Report(tuple(results), tuple(_compare(request, results)), shots)


def _run_suite(
    name: str,
    model_id: str,
    model: LanguageModel,
    suite: Suite,
    rows: Sequence[PromptedRow],
    loading: Mapping[str, Any],
) -> SuiteResult:
    variant = [f"{key}-{loading[key]}" for key in ("quant", "context") if loading[key] is not None]
    if loading["kv"] != "bf16":
        variant.append(f"kv-{loading['kv']}")
    path = cache_path(Store.of_user().home, model_id, "_".join([model.backend.name, *variant]), suite.name)
    with ResultCache(path) as cache, RowProgress(f"{name}, {suite.name}", len(rows)) as progress:
        try:
            result = run_suite(model, suite, rows, cache, progress.advance)
        except KeyboardInterrupt:
            progress.close()
            output.message(
                f"Stopped at {progress.done:,} of {len(rows):,} rows of {suite.name}; they are saved, and the same "
                "command goes on from there."
            )
            raise ReportedError("Stopped.", CancelledError.exit_code) from None
    speed = f", {result.rows_per_second:.1f} rows/s" if result.rows_per_second else ""
    cached = len(rows) - result.num_computed
    output.message(
        f"{name}, {suite.name}: {result.num_computed:,} rows in {result.seconds:.1f} s{speed}"
        + (f"; {cached:,} from the cache" if cached else "")
        + (f"; {result.num_truncated:,} prompts were cut to fit the context" if result.num_truncated else "")
    )
    return result


def _compare(request: EvalRequest, results: Sequence[ModelResult]) -> Iterator[Verdict]:
    """Yield each model's comparison with each of ``--against``; p-values are adjusted over all of them."""
    found = {(entry.model, entry.result.suite.name): entry.result for entry in results}
    names: list[tuple[str, str, str]] = []
    comparisons: list[PairedComparison] = []
    for suite in request.suites:
        for first in request.models:
            for second in request.against:
                one, two = found[first, suite.name], found[second, suite.name]
                names.append((suite.name, first, second))
                comparisons.append(
                    compare_paired(
                        one.scores[suite.main_metric],
                        two.scores[suite.main_metric],
                        one.clusters,
                        margin=request.margin,
                    )
                )
    for (suite_name, first, second), comparison in zip(names, holm(comparisons), strict=True):
        yield Verdict(suite_name, first, second, comparison)


def _record(model: ResolvedModel, result: SuiteResult, request: EvalRequest) -> None:
    """Record the metrics in the ledger. Models outside the store have no record there.

    A specialist's card shows its latest evaluation, which must stay the comparison of its tuning.
    """
    if model.stored is None or model.stored.record.source.kind == "tuned":
        return
    suite = result.suite
    shots = suite.shots if request.shots is None else request.shots
    settings = {
        "suite": suite.name,
        "shots": shots,
        "engine": result.engine,
        "limit": request.limit,
        "rows": content_id(list(result.row_ids)),
        "files": [{"path": str(file), "sha256": hash_file(file)} for file in suite.data_files(request.data)],
        "source": suite.source,
        "licence": suite.licence,
    }
    metrics = {name: result.metric(name) for name in suite.metrics}
    with Ledger.open(Store.of_user().ledger_path) as ledger:
        ledger.add_evaluation(
            Evaluation(model.stored.record.id, None, f"suite {suite.name}", metrics, settings, this_machine())
        )


# Views


def show_report(request: EvalRequest, report: Report, as_json: bool) -> None:
    """Print the table and the verdicts."""
    if as_json:
        output.print_json(_document(request, report))
        return
    table = []
    for entry in report.results:
        result = entry.result
        for metric in result.suite.metrics:
            value = result.metric(metric)
            table.append(
                [
                    result.suite.name,
                    entry.model,
                    metric,
                    value.percent(),
                    f"{value.rows:,}",
                    str(report.shots[result.suite.name]),
                    result.engine,
                    f"{result.seconds:.1f}" if result.num_computed else "cached",
                ]
            )
    output.table(["suite", "model", "metric", "score (95 %)", "rows", "shots", "engine", "seconds"], table)
    for verdict in report.verdicts:
        sentence = verdict.comparison.sentence(verdict.first, verdict.second)
        click.echo(f"{verdict.suite}: {sentence}")
    if len(report.verdicts) > 1:
        click.echo(f"p-values are adjusted for {len(report.verdicts)} comparisons (Holm).")


def _document(request: EvalRequest, report: Report) -> dict[str, Any]:
    def as_dict(entry: ModelResult) -> dict[str, Any]:
        result = entry.result
        metrics = {name: result.metric(name) for name in result.suite.metrics}
        return {
            "model": dict(entry.identity),
            "suite": result.suite.name,
            "shots": report.shots[result.suite.name],
            "engine": result.engine,
            "metrics": {
                name: {"value": metric.value, "low": metric.low, "high": metric.high}
                for name, metric in metrics.items()
            },
            "rows": len(result.row_ids),
            "computed_rows": result.num_computed,
            "truncated_rows": result.num_truncated,
            "seconds": result.seconds,
            "rows_per_second": result.rows_per_second,
            "row_set": tagged(content_id(list(result.row_ids))),
        }

    return {
        "results": [as_dict(entry) for entry in report.results],
        "comparisons": [
            {
                "suite": verdict.suite,
                "model": verdict.first,
                "against": verdict.second,
                "difference": verdict.comparison.difference,
                "low": verdict.comparison.low,
                "high": verdict.comparison.high,
                "p_value": verdict.comparison.p_value,
                "adjusted_p_value": verdict.comparison.adjusted_p,
                "test": verdict.comparison.test,
                "margin": verdict.comparison.margin,
                "outcome": verdict.comparison.outcome.value,
                "more_rows": verdict.comparison.more_rows if verdict.comparison.outcome.value == "undecided" else None,
                "sentence": verdict.comparison.sentence(verdict.first, verdict.second),
            }
            for verdict in report.verdicts
        ],
        "machine": this_machine(),
    }


def show_suites(as_json: bool) -> None:
    """Print the table of suites."""
    if as_json:
        output.print_json(
            [
                {"name": s.name, "about": s.about, "shots": s.shots, "source": s.source, "licence": s.licence}
                for s in SUITES.values()
            ]
        )
        return
    output.table(
        ["suite", "about", "shots", "source", "licence"],
        [[s.name, s.about, str(s.shots), s.source, s.licence] for s in SUITES.values()],
    )


def show_plan(request: EvalRequest, as_json: bool) -> None:
    """Print, for each suite, which differences its rows can show, and how many rows smaller ones need."""
    documents = []
    for name, rows in request.load_rows().items():
        plans = {difference: plan(len(rows), difference, request.margin) for difference in PLANNED_DIFFERENCES}
        if as_json:
            documents.append(
                {
                    "suite": name,
                    "rows": len(rows),
                    "plan": [
                        {
                            "discordant": entry.discordant,
                            "detectable": entry.detectable,
                            "rows_for_tie": entry.for_tie,
                            "rows_needed": {
                                str(difference): entries[i].needed or None for difference, entries in plans.items()
                            },
                        }
                        for i, entry in enumerate(plans[PLANNED_DIFFERENCES[0]])
                    ],
                }
            )
            continue
        click.echo(
            f"{name}: {len(rows):,} rows. At 80 % power they show, by the share of rows on which two models differ:"
        )
        output.table(
            [
                "rows that differ",
                "smallest difference",
                *(f"rows for {100 * difference:.0f} points" for difference in PLANNED_DIFFERENCES),
                f"rows for a tie within {100 * request.margin:.0f}",
            ],
            [
                [
                    f"{100 * entry.discordant:.0f} %",
                    f"{100 * entry.detectable:.1f} points" if entry.detectable < 1 else "none",
                    *(f"{entries[i].needed:,}" if entries[i].needed else "impossible" for entries in plans.values()),
                    f"{entry.for_tie:,}",
                ]
                for i, entry in enumerate(plans[PLANNED_DIFFERENCES[0]])
            ],
        )
    if as_json:
        output.print_json(documents)


class RowProgress:
    """Rows done, rows per second and time left: a line that rewrites itself on a terminal, some lines elsewhere."""

    def __init__(self, what: str, total: int) -> None:
        self.done = 0
        self._what = what
        self._total = total
        self._started_at = self._shown_at = time.monotonic()
        self._first: int | None = None
        self._on_terminal = output.is_terminal(sys.stderr)

    def __enter__(self) -> RowProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def advance(self, count: int) -> None:
        """Count rows. The first call tells how many the cache had."""
        self.done += count
        if self._first is None:
            self._first = count
        now = time.monotonic()
        if now - self._shown_at < (0.2 if self._on_terminal else MESSAGE_INTERVAL_S):
            return
        self._shown_at = now
        speed = (self.done - self._first) / (now - self._started_at)
        left = f", {(self._total - self.done) / speed:,.0f} s left" if speed else ""
        line = f"{self._what}: {self.done:,} of {self._total:,} rows, {speed:.1f} rows/s{left}"
        if self._on_terminal:
            sys.stderr.write(f"\r\x1b[2K{line}")
            sys.stderr.flush()
        else:
            output.message(line)

    def close(self) -> None:
        """Remove the line."""
        if self._on_terminal:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
