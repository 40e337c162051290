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
    "--to", "form", type=click.Choice(["hf", "gguf"]), required=True, help="A folder for transformers, or one file."
)
@click.option("--type", "type_name", metavar="TYPE", help="BF16, F16, F32; for GGUF also Q8_0 (usual), Q4_1, Q4_0.")
@click.option(
    "--replay", metavar="N", type=click.IntRange(0), default=40, show_default=True, help="Questions asked again."
)
@json_option
def export(model: str, path: Path, as_json: bool, **given: Any) -> None:
    """Write a specialist, merged with its base, to PATH in files that other programs open.

    Held-out rows of its run are asked of the written files again; when more answers differ than rounding explains,
    nothing is kept. A specialist for text is asked which token it expects in each place of the right answers.
    """
    import dataclasses
    from itertools import islice

    from empu.cli import output
    from empu.cli.loading import locate
    from empu.errors import UsageError
    from empu.ledger.ledger import Ledger
    from empu.specialist.export import export as write
    from empu.specialist.reproduce import recorded_rows
    from empu.store.store import Store
    from empu.system.paths import user_path

    located = locate(model)
    if located.stored is None or located.stored.record.source.kind != "tuned":
        raise UsageError(f"{model} is no specialist; its own files are what others open: {located.path}")
    rows: list[Row] = []
    ledger_path = Store.of_user().ledger_path
    if ledger_path.is_file():
        with Ledger.open(ledger_path) as ledger:
            run = ledger.model(located.stored.record.id).run
            dataset = ledger.run(run).dataset if run is not None else None
            if dataset is not None:
                rows = list(islice(recorded_rows(ledger, dataset, "test"), given["replay"]))
    place = user_path(path)
    done = write(located.path, located.adapter, given["form"], place, rows, type_name=given["type_name"])
    if as_json:
        output.answer(dataclasses.asdict(done) | {"path": str(done.path)})
        return
    output.say(f"Wrote {done.path} in {done.type}.")
    if done.asked:
        what = f"tokens in the answers of {len(rows)} held-out rows" if done.replayed == "tokens" else "held-out rows"
        output.say(f"{done.same} of {done.asked} {what} come out the same from the written files.")
    elif given["replay"]:
        output.say("Nothing was asked again: its run has no held-out rows in the ledger.")
