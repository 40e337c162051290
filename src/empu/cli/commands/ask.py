"""``empu ask``: answers from documents."""

from __future__ import annotations

import click

from empu.cli.output import json_option


@click.command()
@click.argument("collection")
@click.argument("question", nargs=-1, required=True)
@click.option("--passages", metavar="N", type=click.IntRange(1, 50), default=5, show_default=True, help="Passages.")
@click.option(
    "--sentences", metavar="N", type=click.IntRange(1, 20), default=3, show_default=True, help="Most sentences quoted."
)
@json_option
def ask(collection: str, question: tuple[str, ...], passages: int, sentences: int, as_json: bool) -> None:
    """Answer QUESTION with sentences quoted from the documents of COLLECTION, with their sources.

    Every quotation is a piece of a document, with file, page and byte range. If the documents do not answer the
    question, the command says so and names the closest passages. No language model is used, and nothing is sent.
    """
    from empu.cli import output
    from empu.cli.docs_view import answer_document, open_encoder, print_answer
    from empu.errors import UsageError
    from empu.retrieval.answer import answer_question
    from empu.retrieval.collection import Collections
    from empu.store.store import Store

    text = " ".join(question).strip()
    if not text:
        raise UsageError("The question is empty; give a text.")
    store = Store.of_user()
    with Collections(store.home).open(collection) as opened:
        encoder = open_encoder(store, opened) if opened.setting("encoder") is not None else None
        answer = answer_question(opened, text, encoder=encoder, passages=passages, max_sentences=sentences)
    if as_json:
        output.print_json({"collection": collection, "question": text, **answer_document(answer)})
    else:
        print_answer(answer)
