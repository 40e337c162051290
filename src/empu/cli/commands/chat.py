"""``empu chat``."""

from __future__ import annotations

from typing import Any

import click

from empu.cli.options import LOADING_OPTIONS, SAMPLING_OPTIONS, apply_options
from empu.cli.output import json_option


@click.command()
@click.argument("model", default="default")
@click.option("--system", help="System message.")
@apply_options(SAMPLING_OPTIONS)
@click.option("--truncate", is_flag=True, help="When the context is full, drop the oldest tokens, and report how many.")
@apply_options(LOADING_OPTIONS)
@json_option
def chat(model: str, as_json: bool, **options: Any) -> None:
    """Chat with a model in the terminal; without MODEL, with `default`.

    Enter sends the line. A backslash at its end continues it; \"\"\" starts and ends a block of lines. Ctrl-C stops the
    answer, Ctrl-D quits, /help lists the commands. If standard input is not a terminal, each line is one turn. With
    --json each turn prints one JSON document on one line.
    """
    from empu.cli import output
    from empu.cli.loading import loading_options, open_resolved, resolve_model
    from empu.cli.options import sampling_params
    from empu.cli.repl import ChatSession
    from empu.cli.terminal import Terminal
    from empu.errors import ReportedError

    params = sampling_params(options)
    resolved = resolve_model(model)
    language_model = open_resolved(resolved, **loading_options(options))
    terminal = Terminal.of_user()
    session = ChatSession(
        resolved, language_model, params, options["system"], truncate=options["truncate"], as_json=as_json
    )
    if terminal.is_interactive:
        output.message(
            f"Chatting with {resolved.identity()['name'] or resolved.path}. /help lists the commands, Ctrl-D quits."
        )
    with terminal:
        failed = session.run(terminal)
    if failed and not terminal.is_interactive:
        raise ReportedError("Some turns failed; see the messages above.")
