"""``empu export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from empu.cli.output import json_option

if TYPE_CHECKING:
    from empu.data.rows import Row


@click.command()
@click.argument("model")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "file_format",
    type=click.Choice(["hf", "gguf"]),
    required=True,
    help="hf: a folder for transformers; gguf: one file.",
)
@click.option(
    "--type", "type_name", metavar="TYPE", help="Tensor type: BF16, F16, F32; for GGUF also Q8_0 (default), Q4_1, Q4_0."
)
@click.option(
    "--replay",
    metavar="N",
    type=click.IntRange(0),
    default=40,
    show_default=True,
    help="Number of held-out rows to replay.",
)
@json_option
def export(model: str, path: Path, as_json: bool, **options: Any) -> None:
    """Merge a specialist with its base model and write it to PATH in a format that other programs open.

    The written files are checked: held-out rows are replayed, and nothing is kept if more answers differ than rounding
    explains. For text specialists, the most likely token at each position of the correct answers is compared.
    """
    from itertools import islice

    from empu.cli import output
    from empu.cli.loading import resolve_model
    from empu.errors import UsageError
    from empu.ledger.ledger import Ledger
    from empu.specialist.export import export as write
    from empu.specialist.reproduce import recorded_rows
    from empu.store.store import Store
    from empu.system.paths import user_path

    resolved = resolve_model(model)
    if resolved.stored is None or resolved.stored.record.source.kind != "tuned":
        raise UsageError(f"{model} is not a specialist; other programs open its own files: {resolved.path}")
    rows: list[Row] = []
    ledger_path = Store.of_user().ledger_path
    if ledger_path.is_file():
        with Ledger.open(ledger_path) as ledger:
            run = ledger.model(resolved.stored.record.id).run
            dataset = ledger.run(run).dataset if run is not None else None
            if dataset is not None:
                rows = list(islice(recorded_rows(ledger, dataset, "test"), options["replay"]))
    target = user_path(path)
    exported = write(
        resolved.path, resolved.adapter, options["file_format"], target, rows, type_name=options["type_name"]
    )
    if as_json:
        output.print_json(exported.to_json())
        return
    output.message(f"Wrote {exported.path} in {exported.tensor_type}.")
    if exported.num_replayed:
        is_tokens = exported.replayed_unit == "tokens"
        what = f"tokens in the answers of {len(rows)} held-out rows" if is_tokens else "held-out rows"
        output.message(f"{exported.num_same} of {exported.num_replayed} {what} are the same with the exported files.")
    elif options["replay"]:
        output.message("Nothing was replayed: the ledger has no held-out rows for this run.")
