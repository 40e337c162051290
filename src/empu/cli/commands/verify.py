"""``empu verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from empu.cli.output import json_option

if TYPE_CHECKING:
    from empu.store.store import Store


@click.command()
@click.argument("model")
@click.option(
    "--retrain",
    is_flag=True,
    help="Repeat the training run from the ledger and compare the weights; takes as long as tuning.",
)
@click.option(
    "--key", metavar="FILE", help="Public key of the signer; MODEL is then the path of a signed export to check."
)
@json_option
def verify(model: str, as_json: bool, retrain: bool, key: str | None) -> None:
    """Check the files of MODEL and its base against their recorded hashes, and the ledger against its hash chain.

    With --key, check a signed export: the signature, every file, and that its card's figures are the ledger's.
    """
    from pathlib import Path

    from empu.cli import output
    from empu.errors import ReportedError, StoreError, UsageError
    from empu.ledger.hashing import hash_file
    from empu.ledger.ledger import Ledger
    from empu.store.store import Store

    store = Store.of_user()
    if key is not None:
        _verify_export(store, model, key, retrain=retrain, as_json=as_json)
        return
    stored = store.resolve(model)
    if isinstance(stored, Path):
        raise UsageError(f"{model} is not in the store, so there are no recorded hashes; pull it first.")
    base = store.base_of(stored)
    problems: list[str] = []
    files = 0
    for checked in (stored, base):
        for file in checked.record.files if checked is not None else ():
            assert checked is not None
            path = checked.files_folder / file.name
            files += 1
            try:
                if hash_file(path) != file.sha256:
                    problems.append(f"{path} changed: its SHA-256 differs from the recorded one.")
            except StoreError as error:
                problems.append(str(error))
    if store.ledger_path.is_file():
        with Ledger.open(store.ledger_path) as ledger:
            problems += ledger.verify()
    repeated = None
    if retrain and not problems:
        from empu.cli.tune_view import repeat

        repeated = repeat(store, stored)
        problems += [repeated.sentence()] if repeated.differing_files else []
    if as_json:
        repeated_document = repeated.to_json() if repeated is not None else None
        output.print_json({"model": stored.name, "files": files, "problems": problems, "repeated": repeated_document})
    elif not problems:
        subject = "The file matches its" if files == 1 else f"All {files} files match their"
        output.message(f"{subject} recorded hash, and the ledger is intact.")
        if repeated is not None:
            output.message(repeated.sentence())
    if problems:
        raise ReportedError(" ".join(problems))


def _verify_export(store: Store, path: str, key: str, *, retrain: bool, as_json: bool) -> None:
    from empu.cli import output
    from empu.errors import UsageError
    from empu.system.paths import user_path
    from empu.trust.signed_export import verify_export
    from empu.trust.signing_key import read_public_key

    if retrain:
        raise UsageError("--retrain repeats a run of this store and does not go with --key; omit one of them.")
    exported = user_path(path)
    if not exported.exists():
        raise UsageError(f"{path} does not exist; give the folder or file of a signed export.")
    verified = verify_export(exported, read_public_key(user_path(key)), store)
    if as_json:
        output.print_json(verified.to_json())
        return
    output.message(
        f"The signature is valid, all {verified.files} files are as signed, and the card's figures are those of "
        f"{verified.ledger} ({verified.facts['name']}, {verified.facts['id'][:19]}…)."
    )
