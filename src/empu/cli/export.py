"""``empu export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from empu.cli.talk import json_option


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

    Held-out questions of its run are asked of the written files again; when more answers differ than rounding explains,
    nothing is kept.
    """
    from empu.cli import talk
    from empu.cli.opening import locate
    from empu.errors import UsageError
    from empu.ledger.book import Ledger
    from empu.specialist.exporting import export as write
    from empu.store.store import Store

    located = locate(model)
    if located.stored is None or located.stored.record.source.kind != "tuned":
        raise UsageError(f"{model} is no specialist; its own files are what others open: {located.path}")
    questions: list[str] = []
    ledger_path = Store.of_user().ledger_path
    if ledger_path.is_file():
        with Ledger.open(ledger_path) as ledger:
            run = ledger.model(located.stored.record.id).run
            dataset = ledger.run(run).dataset if run is not None else None
            rows = list(ledger.rows(dataset, "test")) if dataset is not None else []
            questions = [str(place.fields["text"]) for place in rows[: given["replay"]] if "text" in place.fields]
    done = write(located.path, located.adapter, given["form"], path, questions, type_name=given["type_name"])
    if as_json:
        talk.answer({"path": str(done.path), "type": done.type, "asked": done.asked, "same": done.same})
        return
    talk.say(f"Wrote {done.path} in {done.type}.")
    if done.asked:
        talk.say(f"{done.same} of {done.asked} stored questions got the same answer from the written files.")
    else:
        talk.say("No stored questions were there to be asked again.")
