"""``empu models``."""

from __future__ import annotations

import click

from empu.cli.output import json_option


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List what is in the store: name, size, parameters, format, licence, when it came."""
    from empu.cli import model_view, output
    from empu.store import weight_cache
    from empu.store.store import Store

    store = Store.of_user()
    weight_cache.tidy(store)
    listed = store.all(output.say)
    if as_json:
        output.answer({"store": str(store.home), "models": [model_view.document(model) for model in listed]})
        return
    if not listed:
        output.say(f"The store {store.home} is empty; bring the first model with: empu pull default")
        return
    output.table(
        ("NAME", "ID", "SIZE", "PARAMETERS", "BASE", "FORMAT", "LICENCE", "ADDED"),
        [model_view.row(model) for model in listed],
    )
