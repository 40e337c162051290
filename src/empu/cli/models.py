"""``empu models``."""

from __future__ import annotations

import click

from empu.cli.talk import json_option


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List what is in the store: name, size, parameters, format, licence, when it came."""
    from empu.cli import describing, talk
    from empu.store import packed
    from empu.store.store import Store

    store = Store.of_user()
    packed.tidy(store)
    listed = store.all(talk.say)
    if as_json:
        talk.answer({"store": str(store.home), "models": [describing.document(model) for model in listed]})
        return
    if not listed:
        talk.say(f"The store {store.home} is empty; bring the first model with: empu pull default")
        return
    talk.table(
        ("NAME", "ID", "SIZE", "PARAMETERS", "BASE", "FORMAT", "LICENCE", "ADDED"),
        [describing.row(model) for model in listed],
    )
