"""``empu tune``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from empu.cli.options import ENGINES, THREADS, Finite, refuse_given
from empu.cli.output import json_option


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the specialist in the store.")
@click.option("--replace", is_flag=True, help="Let NAME leave the specialist that has it; that one stays under its id.")
@click.option("--base", metavar="MODEL", default="default", show_default=True, help="The model to tune.")
@click.option("--map", "mapping", metavar="FIELD=COLUMN,…", help="Which column is what: text=body,label=queue.")
@click.option(
    "--test", type=click.Path(path_type=Path), help="File of held-out rows; otherwise a part of DATA is held out."
)
@click.option(
    "--keep-near-duplicates",
    is_flag=True,
    help="Tune also on rows that are near-duplicates of rows of --test; otherwise they are left out and counted.",
)
@click.option(
    "--out-of-scope", metavar="LABEL", help="Label of rows that belong to none; recognised by names such as 'oos'."
)
@click.option("--licence", default="unknown", show_default=True, help="Licence of the rows, for the ledger.")
@click.option("--method", type=click.Choice(["lora", "full"]), default="lora", show_default=True, help="What changes.")
@click.option("--rank", metavar="N", type=click.IntRange(1, 1024), help="Size of the adapters.")
@click.option("--epochs", metavar="N", type=click.IntRange(1, 1000), help="Times that each row is seen.")
@click.option("--learning-rate", metavar="X", type=Finite(0.0, 1.0, min_open=True), help="Highest step size.")
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16", "int8"]), help="How products are computed while tuning."
)
@click.option("--budget", metavar="TIME", help="Keep to this time: 90s, 10m, 2h. Fewer epochs, never fewer rows.")
@click.option("--seed", metavar="N", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--threads", metavar="N", type=THREADS, help="CPU threads.")
@click.option(
    "--engine",
    metavar="NAME",
    type=ENGINES,
    default="auto",
    show_default=True,
    help="What computes the comparison: auto, native, torch.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Say what would happen and how long it takes, and stop.")
@click.option("--no-compare", is_flag=True, help="Leave out the comparison on the held-out rows.")
@json_option
def tune(data: Path, as_json: bool, only_plan: bool, **given: Any) -> None:
    """Make a specialist of your own rows: read and check DATA, tune, compare with base and baseline, record.

    DATA is a file (CSV, TSV, JSON, JSONL, Parquet, XLSX) or a folder of them, with columns text,label or
    prompt,completion or prompt,chosen,rejected or messages. Ctrl-C is safe: the same command goes on where it was.
    """
    from empu.cli import output
    from empu.cli.tune_view import document, make_specialist, plan_document, show_plan, show_result

    if given["method"] == "full":
        refuse_given(click.get_current_context(), ("rank",), "--method full changes every weight and has no adapters")
    if only_plan:
        plan = show_plan(data, given)
        if as_json:
            output.answer(plan_document(plan))
        return
    made = make_specialist(data, given, command_of(click.get_current_context()))
    if as_json:
        output.answer(document(made))
    else:
        show_result(made)


def command_of(context: click.Context) -> str:
    """What was typed, for a shell in any folder. Paths stay as they are: a run is known by those that it was given."""
    words = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            words.append(f"./{value}" if str(value).startswith("-") else str(value))
        elif context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return shlex.join(["cd", str(Path.cwd())]) + " && " + shlex.join(["empu", "tune", *words])
