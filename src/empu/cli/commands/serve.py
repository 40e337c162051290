"""``empu serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from empu.cli.options import LABEL_OPTIONS, LOADING_OPTIONS, apply_options, policy_option
from empu.cli.output import json_option


@click.command()
@click.argument("model", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 chooses a free one."
)
@click.option(
    "--name",
    "names",
    metavar="HOST",
    multiple=True,
    help="Additional host name to accept, such as that of a proxy in front of the server; may be repeated.",
)
@click.option(
    "--slots",
    metavar="N",
    type=click.IntRange(1, 128),
    default=16,
    show_default=True,
    help="Concurrent answers per model.",
)
@click.option(
    "--queue",
    metavar="N",
    type=click.IntRange(0, 10_000),
    default=64,
    show_default=True,
    help="Maximum number of waiting requests.",
)
@click.option(
    "--unattended",
    metavar="QUESTION",
    help="Without a terminal: ask the first model QUESTION over HTTP, print the answer, and exit. With a terminal "
    "this option does nothing.",
)
@policy_option
@apply_options(LOADING_OPTIONS)
@apply_options(LABEL_OPTIONS)
@json_option
def serve(
    model: tuple[str, ...],
    host: str,
    port: int,
    names: tuple[str, ...],
    slots: int,
    queue: int,
    unattended: str | None,
    policy: Path | None,
    fast: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Start the HTTP server: a web chat, and the OpenAI and Anthropic APIs.

    Without MODEL, every model in the store is served. The first start creates an API key and shows it once; the
    sign-in link signs in one browser. Ctrl-C lets running answers finish; a second Ctrl-C stops at once.
    """
    from empu.cli import server_setup

    server = server_setup.prepare_server(
        model, host, port, names, slots=slots, queue=queue, loading=options, fast=fast, policy=policy
    )
    server.run(as_json=as_json, question=unattended)
