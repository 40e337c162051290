"""``empu trace``."""

from __future__ import annotations

import click

from empu.cli.output import json_option

SHOWN = 20


@click.command()
@click.argument("model", required=False)
@click.option("--row", metavar="FILE:N", help="Which models saw row N of this file?")
@click.option("--text", help="Which models saw a row with this text?")
@json_option
def trace(model: str | None, row: str | None, text: str | None, as_json: bool) -> None:
    """Ask the ledger from either end: the files and rows behind MODEL, or the models that saw a row.

    N is the number that the file's own program shows: the row of a CSV or spreadsheet (its header is row 1), the line
    of a JSONL file.
    """
    import dataclasses
    import re

    from empu.cli import output
    from empu.errors import StoreError, UsageError
    from empu.ledger.ledger import Ledger
    from empu.store.store import Store

    if sum(value is not None for value in (model, row, text)) != 1:
        raise UsageError("Say what to trace: a MODEL, or --row FILE:N, or --text TEXT; one of them.")
    file, sign, number = (row or "").rpartition(":")
    if row is not None and not (sign and re.fullmatch(r"[0-9]{1,18}", number)):
        raise UsageError(f"--row is {row!r}; write FILE:N, for example tickets.csv:17.")
    store = Store.of_user()
    path = store.ledger_path
    if not path.is_file():
        raise StoreError("There is no ledger yet; it begins with the first specialist: empu tune DATA --name NAME.")
    with Ledger.open(path) as ledger:
        if model is not None:
            stored = store.find(model)  # a name means here what it means elsewhere
            recorded = ledger.model(stored.record.id if stored is not None else model)
            run = ledger.run(recorded.run) if recorded.run is not None else None
            rows = list(ledger.rows(run.dataset)) if run is not None and run.dataset else []
            left_out = list(ledger.left_out(run.dataset)) if run is not None and run.dataset else []
            if as_json:
                output.answer(
                    {
                        "model": recorded.name,
                        "rows": [dataclasses.asdict(place) for place in rows],
                        "left_out": [dataclasses.asdict(item) for item in left_out],
                    }
                )
                return
            if run is None:
                output.say(f"{recorded.name} was brought in as it is; the ledger knows none of its rows.")
                return
            output.table(
                ("PART", "FILE", "ROW", "ID"),
                [(place.split, place.source.path, str(place.number), place.row_id[:12]) for place in rows],
            )
            for item in left_out:
                output.say(f"left out: {item.source.path} row {item.number}: {item.reason}")
            return
        found = ledger.trace_place(file, int(number)) if row is not None else ledger.trace_text(text or "")
    if as_json:
        output.answer({**dataclasses.asdict(found), "trained": list(found.trained)})
        return
    if not found.sightings and not found.left_out:
        output.say("No model in this ledger saw such a row.")
        return
    for seen in found.sightings:
        what = {"train": "was trained on it", "dev": "was steered by it", "test": "was measured on it"}[seen.split]
        click.echo(f"{seen.name} {what}: {seen.source.path} row {seen.number} ({seen.row_id[:12]})")
    for item in found.left_out:
        click.echo(f"left out of a data set: {item.source.path} row {item.number}: {item.reason}")
