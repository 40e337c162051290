"""``empu export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from empu.cli.options import policy_option
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
@click.option("--sign", is_flag=True, help="Sign every file with this store's key; check with: empu verify PATH --key.")
@policy_option
@json_option
def export(model: str, path: Path, as_json: bool, **options: Any) -> None:
    """Merge a specialist with its base model and write it to PATH in a format that other programs open.

    The written files are checked: held-out rows are replayed, and nothing is kept if more answers differ than rounding
    explains. For text specialists, the most likely token at each position of the correct answers is compared.

    A card (README.md), NOTICE and LICENSE are written from the ledger and from what the licences ask for.
    """
    from itertools import islice

    from empu.cli import output
    from empu.cli.licence_questions import answer_questions
    from empu.cli.loading import resolve_model
    from empu.errors import UsageError
    from empu.ledger.ledger import Ledger
    from empu.specialist.export import export as write
    from empu.specialist.reproduce import recorded_rows
    from empu.store.store import Store
    from empu.system.paths import user_path
    from empu.trust.checks import LicenceGate
    from empu.trust.facts import read_facts
    from empu.trust.gate import exported_name
    from empu.trust.release import DOCUMENTS, write_documents

    resolved = resolve_model(model)
    if resolved.stored is None or resolved.stored.record.source.kind != "tuned":
        raise UsageError(f"{model} is not a specialist; other programs open its own files: {resolved.path}")
    rows: list[Row] = []
    store, stored, target = Store.of_user(), resolved.stored, user_path(path)
    ledger_path = store.ledger_path
    gate = LicenceGate(store, options["policy"])
    decision = answer_questions(store, lambda: gate.decide_model("export", stored, exported_name(target)))
    decision.raise_if_refused()
    if options["sign"]:
        from empu.trust.signing_key import signing_key

        signing_key(store.home)  # fails before anything is written
    for name in DOCUMENTS if options["file_format"] == "gguf" else ():
        if (beside := target.with_name(f"{target.name}.{name}")).exists():
            raise UsageError(f"{beside} exists already; choose another path.")

    def documents(written: Path) -> None:
        facts = read_facts(store, stored)
        write_documents(written, store, stored, facts, decision)
        if options["sign"]:
            from empu.trust.signed_export import sign_export

            sign_export(written, store.home, facts, decision)

    if ledger_path.is_file():
        with Ledger.open(ledger_path) as ledger:
            run = ledger.model(resolved.stored.record.id).run
            dataset = ledger.run(run).dataset if run is not None else None
            if dataset is not None:
                rows = list(islice(recorded_rows(ledger, dataset, "test"), options["replay"]))
    exported = write(
        resolved.path,
        resolved.adapter,
        options["file_format"],
        target,
        rows,
        type_name=options["type_name"],
        write_documents=documents if ledger_path.is_file() else None,
    )
    if as_json:
        output.print_json({**exported.to_json(), "licences": decision.to_json()})
        return
    output.message(f"Wrote {exported.path} in {exported.tensor_type}.")
    if exported.num_replayed:
        is_tokens = exported.replayed_unit == "tokens"
        what = f"tokens in the answers of {len(rows)} held-out rows" if is_tokens else "held-out rows"
        output.message(f"{exported.num_same} of {exported.num_replayed} {what} are the same with the exported files.")
    if exported.omitted_members:
        output.message(
            f"Only the language model was written. {model} also asks {', '.join(exported.omitted_members)}, which stay "
            "in the store, so the files answer like the language model alone."
        )
    if not exported.num_replayed and options["replay"]:
        output.message("Nothing was replayed: the ledger has no held-out rows for this run.")
    for line in decision.lines():
        output.message(f"Licences: {line}")
    if options["sign"]:
        from empu.trust.signing_key import PUBLIC_KEY

        output.message(f"Signed. Give recipients {store.home / 'trust' / PUBLIC_KEY} by a way that they trust.")
