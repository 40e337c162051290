"""``empu models``."""

from __future__ import annotations

import click

from empu.cli.output import json_option


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the models in the store: name, size, parameters, format, licence, date."""
    from empu.cli import model_view, output
    from empu.store import weight_cache_cleanup
    from empu.store.store import Store

    store = Store.of_user()
    weight_cache_cleanup.clean_up(store)
    stored = store.list_models(output.message)
    if as_json:
        output.print_json({"store": str(store.home), "models": [model_view.document(model) for model in stored]})
        return
    if not stored:
        output.message(f"The store {store.home} is empty; add a first model with: empu pull default")
        return
    output.table(
        ("NAME", "ID", "SIZE", "PARAMETERS", "BASE", "FORMAT", "LICENCE", "ADDED"),
        [model_view.table_row(model) for model in stored],
    )
