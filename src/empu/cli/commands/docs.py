"""``empu docs``: collections of documents."""

from __future__ import annotations

from pathlib import Path

import click

from empu.cli.output import json_option


@click.group()
def docs() -> None:
    """Add documents to collections, and search them.

    A collection holds the text of documents, split into passages, with a full-text index and, if an encoder is
    installed, vectors. Files: Markdown, HTML, text, PDF, DOCX, PPTX, XLSX, CSV, EML. Nothing is fetched or sent.
    """


@docs.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--to", "name", required=True, metavar="COLLECTION", help="Collection; it is created if necessary.")
@click.option("--licence", default="unknown", show_default=True, help="Licence of the documents, recorded with them.")
@click.option("--lexical", is_flag=True, help="Index words only, without an encoder.")
@click.option(
    "--max-pages",
    metavar="N",
    type=click.IntRange(1),
    default=3000,
    show_default=True,
    help="Longest file.",
)
@json_option
def add(paths: tuple[Path, ...], name: str, licence: str, lexical: bool, max_pages: int, as_json: bool) -> None:
    """Add files and folders to a collection.

    Files that are unchanged since the last time are skipped. A file that cannot be read is reported with the reason,
    and the rest is added. Ctrl-C is safe: the same command continues.
    """
    from empu.cli.docs_view import open_encoder, print_report, record, report_document, run_ingest
    from empu.retrieval.collection import Collections
    from empu.retrieval.extract.extractor import Extractor
    from empu.retrieval.ingest import add_paths
    from empu.store.store import Store

    store = Store.of_user()
    with Collections(store.home).open(name, create=True) as collection:
        report = run_ingest(
            lambda progress: add_paths(
                collection,
                paths,
                encoder=None if lexical else open_encoder(store, collection),
                licence=licence,
                added_by="command line",
                progress=progress,
                extractor=Extractor(max_pages=max_pages),
            )
        )
        record(store, name, collection.documents())
        if as_json:
            from empu.cli import output

            output.print_json(report_document(name, report))
        else:
            print_report(collection, report)


@docs.command()
@click.argument("collection")
@json_option
def update(collection: str, as_json: bool) -> None:
    """Read again the files of COLLECTION that changed, and remove documents whose file is gone."""
    from empu.cli import output
    from empu.cli.docs_view import open_encoder, print_report, record, report_document, run_ingest
    from empu.retrieval.collection import Collections
    from empu.retrieval.ingest import update as update_collection
    from empu.store.store import Store

    store = Store.of_user()
    with Collections(store.home).open(collection) as opened:
        has_vectors = opened.setting("encoder") is not None
        report = run_ingest(
            lambda progress: update_collection(
                opened, encoder=open_encoder(store, opened) if has_vectors else None, progress=progress
            )
        )
        record(store, collection, opened.documents())
        if as_json:
            output.print_json(report_document(collection, report))
        else:
            print_report(opened, report)


@docs.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the collections: documents, passages, size of the text, encoder."""
    from empu.cli import output
    from empu.retrieval.collection import Collections
    from empu.store.store import Store

    collections = Collections(Store.of_user().home)
    rows = []
    for name in collections.names():
        with collections.open(name) as collection:
            documents, passages, text_bytes = collection.counts()
            rows.append((name, documents, passages, text_bytes, collection.setting("encoder")))
    if as_json:
        fields = ("name", "documents", "passages", "text_bytes", "encoder")
        output.print_json({"collections": [dict(zip(fields, row, strict=True)) for row in rows]})
    elif not rows:
        output.message("There is no collection yet; create one with: empu docs add PATH --to NAME")
    else:
        output.table(
            ("NAME", "DOCUMENTS", "PASSAGES", "TEXT", "ENCODER"),
            [(n, f"{d:,}", f"{p:,}", output.format_bytes(b), e or "none (words only)") for n, d, p, b, e in rows],
        )


@docs.command()
@click.argument("collection")
@json_option
def show(collection: str, as_json: bool) -> None:
    """List the documents of COLLECTION: title, format, pages, licence, when each was added, and warnings."""
    import dataclasses

    from empu.cli import output
    from empu.retrieval.collection import Collections
    from empu.store.store import Store

    with Collections(Store.of_user().home).open(collection) as opened:
        documents = opened.documents()
    if as_json:
        output.print_json({"collection": collection, "documents": [dataclasses.asdict(entry) for entry in documents]})
        return
    output.table(
        ("ID", "NAME", "FORMAT", "PAGES", "LICENCE", "ADDED", "FILE"),
        [(str(e.id), e.name, e.format, str(e.pages or ""), e.licence, e.added_at[:10], e.address) for e in documents],
    )
    for entry in documents:
        for warning in entry.warnings:
            output.message(output.escape_controls(f"{entry.address}: {warning}"))


@docs.command()
@click.argument("collection")
@click.argument("query", nargs=-1, required=True)
@click.option("--count", metavar="N", type=click.IntRange(1, 100), default=5, show_default=True, help="Passages shown.")
@json_option
def search(collection: str, query: tuple[str, ...], count: int, as_json: bool) -> None:
    """Search COLLECTION and print the best passages with document, page and section."""
    from empu.cli import output
    from empu.cli.docs_view import hit_document, open_encoder, print_hits
    from empu.retrieval.collection import Collections
    from empu.retrieval.search import search as search_collection
    from empu.store.store import Store

    store = Store.of_user()
    with Collections(store.home).open(collection) as opened:
        encoder = open_encoder(store, opened) if opened.setting("encoder") is not None else None
        hits = search_collection(opened, " ".join(query), encoder=encoder, count=count)
    if as_json:
        output.print_json({"collection": collection, "query": " ".join(query), "hits": [hit_document(h) for h in hits]})
    else:
        print_hits(hits)


@docs.command()
@click.argument("collection")
@click.argument("documents", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Remove the whole collection.")
@json_option
def remove(collection: str, documents: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Remove DOCUMENTS (ids, or paths of files) from COLLECTION, or with --all the collection itself.

    Removal is physical: the text, its index entries and its vectors are overwritten on disk.
    """
    from empu.cli import output
    from empu.cli.docs_view import find_documents, record
    from empu.errors import UsageError
    from empu.retrieval.collection import Collections
    from empu.store.store import Store

    store = Store.of_user()
    collections = Collections(store.home)
    if everything == bool(documents):
        raise UsageError("Give the documents to remove, or --all for the whole collection.")
    if everything:
        collections.delete(collection)
        record(store, collection, [])
        removed: list[str] = []
    else:
        with collections.open(collection) as opened:
            entries = find_documents(opened, documents)
            opened.remove([entry.id for entry in entries])
            removed = [entry.address for entry in entries]
            record(store, collection, opened.documents())
    if as_json:
        output.print_json({"collection": collection, "removed": removed, "whole": everything})
    elif everything:
        output.message(f"Removed the collection {collection}.")
    else:
        output.message(f"Removed {len(removed)} document{'s' * (len(removed) != 1)} from {collection}.")
