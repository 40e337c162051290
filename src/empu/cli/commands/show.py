"""``empu show``."""

from __future__ import annotations

import click

from empu.cli.output import json_option


@click.command()
@click.argument("model", default="default")
@json_option
def show(model: str, as_json: bool) -> None:
    """Show a model's card: architecture, files, hashes, licence, source, training data, scores, and what is unknown.

    MODEL is `default` if not given. For a path outside the store, the files are hashed now. The model itself is not
    run.
    """
    from pathlib import Path

    from empu.cli import model_view, output
    from empu.cli.model_card import card_document, card_lines
    from empu.store.pull.path import describe_path
    from empu.store.store import Store
    from empu.store.stored_model import StoredModel

    store = Store.of_user()
    resolved = store.resolve(model)
    if isinstance(resolved, Path):
        shown = StoredModel(None, resolved, describe_path(resolved, output.progress()))
    else:
        shown = resolved
        store.verify(shown, output.progress())
    if as_json:
        card = card_document(store.ledger_path, shown)
        output.print_json(model_view.document(shown) | ({"card": card} if card else {}))
        return
    output.key_values(model_view.details(shown) + card_lines(store.ledger_path, shown))
