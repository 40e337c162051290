"""``empu show``."""

from __future__ import annotations

import click

from empu.cli.talk import json_option


@click.command()
@click.argument("model", default="default")
@json_option
def show(model: str, as_json: bool) -> None:
    """Say everything that is known of a model: shape, files, hashes, licence, source, training data, and what is not.

    For a path outside the store the files are hashed now. Nothing is computed with the model.
    """
    from pathlib import Path

    from empu.cli import describing, talk
    from empu.cli.card import card_document, card_facts
    from empu.store.pull import describe_path
    from empu.store.store import Store, StoredModel

    store = Store.of_user()
    found = store.resolve(model)
    if isinstance(found, Path):
        shown = StoredModel(None, found, describe_path(found, talk.progress()))
    else:
        shown = found
        store.verify(shown, talk.progress())
    if as_json:
        card = card_document(store.ledger_path, shown)
        talk.answer(describing.document(shown) | ({"card": card} if card else {}))
        return
    talk.facts(describing.full(shown) + card_facts(store.ledger_path, shown))
