"""``empu show``."""

from __future__ import annotations

import click

from empu.cli.output import json_option


@click.command()
@click.argument("model", default="default")
@json_option
def show(model: str, as_json: bool) -> None:
    """Say everything that is known of a model: shape, files, hashes, licence, source, training data, and what is not.

    For a path outside the store the files are hashed now. Nothing is computed with the model.
    """
    from pathlib import Path

    from empu.cli import model_view, output
    from empu.cli.model_card import card_document, card_facts
    from empu.store.pull.pull import describe_path
    from empu.store.store import Store, StoredModel

    store = Store.of_user()
    found = store.resolve(model)
    if isinstance(found, Path):
        shown = StoredModel(None, found, describe_path(found, output.progress()))
    else:
        shown = found
        store.verify(shown, output.progress())
    if as_json:
        card = card_document(store.ledger_path, shown)
        output.answer(model_view.document(shown) | ({"card": card} if card else {}))
        return
    output.facts(model_view.full(shown) + card_facts(store.ledger_path, shown))
