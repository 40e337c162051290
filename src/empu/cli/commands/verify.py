"""``empu verify``."""

from __future__ import annotations

import click

from empu.cli.output import json_option


@click.command()
@click.argument("model")
@click.option(
    "--retrain", is_flag=True, help="Repeat the run from the ledger and compare the weights; as slow as tuning."
)
@json_option
def verify(model: str, as_json: bool, retrain: bool) -> None:
    """Hash MODEL's files and its base's again, read the whole ledger again, and say what changed."""
    import dataclasses
    from pathlib import Path

    from empu.cli import output
    from empu.errors import AnsweredError, StoreError, UsageError
    from empu.ledger.hashing import hash_file
    from empu.ledger.ledger import Ledger
    from empu.store.store import Store

    store = Store.of_user()
    found = store.resolve(model)
    if isinstance(found, Path):
        raise UsageError(f"{model} is not in the store, so nothing was recorded to hold it against; pull it first.")
    base = store.base_of(found)
    problems: list[str] = []
    files = 0
    for one in (found, base):
        for file in one.record.files if one is not None else ():
            assert one is not None
            path = one.files_root / file.name
            files += 1
            try:
                if hash_file(path) != file.sha256:
                    problems.append(f"{path} changed: its SHA-256 is not the recorded one.")
            except StoreError as error:
                problems.append(str(error))
    if store.ledger_path.is_file():
        with Ledger.open(store.ledger_path) as ledger:
            problems += ledger.verify()
    repeated = None
    if retrain and not problems:
        from empu.cli.tune_view import repeat

        repeated = repeat(store, found)
        problems += [repeated.sentence()] if repeated.differing else []
    if as_json:
        told = dataclasses.asdict(repeated) if repeated is not None else None
        output.answer({"model": found.name, "files": files, "problems": problems, "repeated": told})
    elif not problems:
        kept = "The one file is" if files == 1 else f"All {files} files are"
        output.say(f"{kept} as recorded, and the ledger is whole.")
        if repeated is not None:
            output.say(repeated.sentence())
    if problems:
        raise AnsweredError(" ".join(problems))
