"""``empu serve``."""

from __future__ import annotations

from typing import Any

import click

from empu.cli.options import OPENING, group
from empu.cli.output import json_option


@click.command()
@click.argument("model", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--name",
    "names",
    metavar="HOST",
    multiple=True,
    help="Another host name of this server or of a proxy before it.",
)
@click.option(
    "--slots", metavar="N", type=click.IntRange(1, 128), default=16, show_default=True, help="Answers at once, a model."
)
@click.option(
    "--queue", metavar="N", type=click.IntRange(0, 10_000), default=64, show_default=True, help="Requests that wait."
)
@click.option(
    "--unattended",
    metavar="QUESTION",
    help="Where no terminal is attached: put QUESTION to the first model over HTTP, print the answer, and end. Where "
    "one is, serve as always.",
)
@group(OPENING)
@json_option
def serve(
    model: tuple[str, ...],
    host: str,
    port: int,
    names: tuple[str, ...],
    slots: int,
    queue: int,
    unattended: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Serve models: a page to chat on, and the HTTP interfaces of OpenAI and Anthropic.

    Without MODEL every model of the store is served. The first start makes a key and shows it once; the link signs one
    browser in. Ctrl-C lets answers in progress finish, a second one does not.
    """
    from empu.cli import server_setup

    served = server_setup.prepare(model, host, port, names, slots=slots, queue=queue, opening=given)
    served.run(as_json=as_json, question=unattended)
