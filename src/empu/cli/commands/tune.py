"""``empu tune``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from empu.cli.options import ENGINES, THREADS, Finite, policy_option, refuse_options
from empu.cli.output import json_option


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the new specialist in the store.")
@click.option(
    "--replace",
    is_flag=True,
    help="Give NAME to the new specialist even if another one has it; that one stays available by its id.",
)
@click.option("--base", metavar="MODEL", default="default", show_default=True, help="Base model.")
@click.option(
    "--map",
    "mapping",
    metavar="FIELD=COLUMN,…",
    help="Map fields to columns: text=body,label=queue; also header=LINE, sheet=NAME and ignore=COLUMN.",
)
@click.option("--encoding", metavar="NAME", help="Encoding of text files, such as gb18030; by default recognised.")
@click.option(
    "--test", type=click.Path(path_type=Path), help="File of test rows; by default a part of DATA is held out."
)
@click.option(
    "--keep-near-duplicates",
    is_flag=True,
    help="Also train on rows that are near-duplicates of --test rows; by default they are excluded and counted.",
)
@click.option(
    "--out-of-scope", metavar="LABEL", help="Label of out-of-scope rows; by default recognised by names such as 'oos'."
)
@click.option("--licence", default="unknown", show_default=True, help="Licence of the rows, recorded in the ledger.")
@click.option(
    "--method",
    type=click.Choice(["lora", "full"]),
    default="lora",
    show_default=True,
    help="LoRA adapter, or all weights.",
)
@click.option("--rank", metavar="N", type=click.IntRange(1, 1024), help="LoRA rank.")
@click.option("--epochs", metavar="N", type=click.IntRange(1, 1000), help="Number of epochs.")
@click.option("--learning-rate", metavar="X", type=Finite(0.0, 1.0, min_open=True), help="Peak learning rate.")
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16", "int8"]), help="Precision of matrix products in training."
)
@click.option(
    "--budget", metavar="TIME", help="Time limit such as 90s, 10m, 2h; it reduces the number of epochs, never the rows."
)
@click.option(
    "--seed", metavar="N", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Random seed."
)
@click.option("--threads", metavar="N", type=THREADS, help="CPU threads.")
@click.option(
    "--engine",
    metavar="NAME",
    type=ENGINES,
    default="auto",
    show_default=True,
    help="Inference engine of the evaluation: auto, native, torch.",
)
@click.option(
    "--members",
    metavar="NAMES",
    default="auto",
    show_default=True,
    help="Members of a label specialist: lm with tfidf, embeddings or both; auto keeps those that help on validation "
    "rows.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Show the plan and the expected time, and stop.")
@policy_option
@click.option("--no-compare", is_flag=True, help="Skip the evaluation on the test rows.")
@json_option
def tune(data: Path, as_json: bool, only_plan: bool, **options: Any) -> None:
    """Fine-tune a model on DATA and compare it with its base and a plain baseline on held-out rows.

    DATA is a file (CSV, TSV, JSON, JSONL, Parquet, XLSX) or a folder of them, with columns text,label or
    prompt,completion or prompt,chosen,rejected or messages. Ctrl-C is safe: the same command resumes the run.
    """
    from empu.cli import output
    from empu.cli.tune_view import plan_document, print_plan, print_result, result_document, run_tuning

    if options["method"] == "full":
        refuse_options(click.get_current_context(), ("rank",), "--method full trains all weights and has no adapter")
    if only_plan:
        plan = print_plan(data, options)
        if as_json:
            output.print_json(plan_document(plan))
        return
    result = run_tuning(data, options, shell_command(click.get_current_context()))
    if as_json:
        output.print_json(result_document(result))
    else:
        print_result(result)


def shell_command(context: click.Context) -> str:
    """Return the shell command that repeats this invocation from any folder. Paths stay as they were typed."""
    words = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            words.append(f"./{value}" if str(value).startswith("-") else str(value))
        elif context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return shlex.join(["cd", str(Path.cwd())]) + " && " + shlex.join(["empu", "tune", *words])
