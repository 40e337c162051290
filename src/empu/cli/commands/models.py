"""``empu models``."""

from __future__ import annotations

import click

from empu.cli.output import json_option


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the models in the store: name, size, parameters, format, licence, score of specialists, date."""
    from empu.cli import model_view, output
    from empu.store import weight_cache_cleanup
    from empu.store.store import Store

    store = Store.of_user()
    weight_cache_cleanup.clean_up(store)
    stored = store.list_models(output.message)
    scores = model_view.scores(store, stored)
    if as_json:
        documents = [
            model_view.document(model) | {"score": model_view.score_document(scores.get(model.record.id))}
            for model in stored
        ]
        output.print_json({"store": str(store.home), "models": documents})
        return
    if not stored:
        output.message(f"The store {store.home} is empty; add a first model with: empu pull default")
        return
    output.table(
        ("NAME", "ID", "SIZE", "PARAMETERS", "BASE", "FORMAT", "LICENCE", "SCORE", "ADDED"),
        [model_view.table_row(model, scores.get(model.record.id)) for model in stored],
    )
