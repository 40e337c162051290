"""``empu trace``."""

from __future__ import annotations

import click

from empu.cli.output import json_option


@click.command()
@click.argument("model", required=False)
@click.option("--row", metavar="FILE:N", help="Show the models that saw row N of this file.")
@click.option("--text", help="Show the models that saw a row with this text.")
@json_option
def trace(model: str | None, row: str | None, text: str | None, as_json: bool) -> None:
    """Query the ledger in either direction: the files and rows behind MODEL, or the models that saw a row.

    N is the row number in a spreadsheet or CSV file (the header is row 1), or the line number in a JSONL file.
    """
    import dataclasses
    import re

    from empu.cli import output
    from empu.errors import StoreError, UsageError
    from empu.ledger.ledger import Ledger
    from empu.store.store import Store

    if sum(value is not None for value in (model, row, text)) != 1:
        raise UsageError("Give exactly one of: MODEL, --row FILE:N, --text TEXT.")
    file, sign, number = (row or "").rpartition(":")
    if row is not None and not (sign and re.fullmatch(r"[0-9]{1,18}", number)):
        raise UsageError(f"--row is {row!r}; write FILE:N, for example tickets.csv:17.")
    store = Store.of_user()
    path = store.ledger_path
    if not path.is_file():
        raise StoreError("There is no ledger yet; the first tuning run creates it: empu tune DATA --name NAME.")
    with Ledger.open(path) as ledger:
        if model is not None:
            stored = store.find(model)
            recorded = ledger.model(stored.record.id if stored is not None else model)
            run = ledger.run(recorded.run) if recorded.run is not None else None
            rows = list(ledger.rows(run.dataset)) if run is not None and run.dataset else []
            excluded = list(ledger.excluded_rows(run.dataset)) if run is not None and run.dataset else []
            if as_json:
                output.print_json(
                    {
                        "model": recorded.name,
                        "rows": [dataclasses.asdict(place) for place in rows],
                        "left_out": [dataclasses.asdict(item) for item in excluded],
                    }
                )
                return
            if run is None:
                output.message(f"{recorded.name} was not tuned here; the ledger has no rows for it.")
                return
            output.table(
                ("PART", "FILE", "ROW", "ID"),
                [(place.split, place.source.path, str(place.number), place.row_id[:12]) for place in rows],
            )
            for item in excluded:
                output.message(f"excluded: {item.source.path} row {item.number}: {item.reason}")
            return
        result = ledger.trace_position(file, int(number)) if row is not None else ledger.trace_text(text or "")
    if as_json:
        output.print_json(result.to_json())
        return
    if not result.occurrences and not result.excluded_rows:
        output.message("No model in this ledger saw that row.")
        return
    for occurrence in result.occurrences:
        use = {"train": "was trained on it", "dev": "was validated on it", "test": "was tested on it"}[occurrence.split]
        click.echo(
            f"{occurrence.name} {use}: {occurrence.source.path} row {occurrence.number} ({occurrence.row_id[:12]})"
        )
    for item in result.excluded_rows:
        click.echo(f"excluded from a data set: {item.source.path} row {item.number}: {item.reason}")
