"""``empu eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from empu.cli.options import LOADING_OPTIONS, Finite, apply_options
from empu.cli.output import json_option


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1)
@click.option("--suite", "suites", metavar="NAME", multiple=True, help="Suite to run; may be repeated.")
@click.option(
    "--data", metavar="PATH", type=click.Path(path_type=Path), help="File or folder with the suite's data files."
)
@click.option("--limit", metavar="N", type=click.IntRange(1), help="Rows of each suite; all by default.")
@click.option(
    "--shots", metavar="K", type=click.IntRange(0, 100), help="Few-shot examples; the suite's own by default."
)
@click.option(
    "--against", metavar="MODEL", multiple=True, help="Compare with this model on the same rows; may be repeated."
)
@click.option(
    "--margin",
    metavar="POINTS",
    type=Finite(0.0, 100.0, min_open=True),
    default=3.0,
    show_default=True,
    help="Differences up to so many points count as a tie.",
)
@click.option("--plan", is_flag=True, help="Say what the rows can show, and run nothing.")
@click.option("--list", "list_suites", is_flag=True, help="List the suites, and run nothing.")
@apply_options(LOADING_OPTIONS)
@json_option
def eval(models: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Evaluate models on public suites, and compare them on the same rows.

    Prompts and scores are those of lm-evaluation-harness. Results are cached in the store: after Ctrl-C the same
    command goes on, and repeated rows cost nothing. The engine is part of each result: torch computes in float32, the
    native engine in 8 bits.
    """
    from empu.cli import eval_view

    if options["list_suites"]:
        eval_view.show_suites(as_json)
        return
    request = eval_view.EvalRequest.from_options(models, options)
    if options["plan"]:
        eval_view.show_plan(request, as_json)
        return
    eval_view.show_report(request, eval_view.run(request), as_json)
