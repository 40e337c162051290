"""``empu chat``."""

from __future__ import annotations

from typing import Any

import click

from empu.cli.options import OPENING, SAMPLING, group
from empu.cli.output import json_option


@click.command()
@click.argument("model", default="default")
@click.option("--system", help="Instruction that stands before the dialogue.")
@group(SAMPLING)
@click.option("--truncate", is_flag=True, help="When the dialogue is full, drop its oldest tokens, and say how many.")
@group(OPENING)
@json_option
def chat(model: str, as_json: bool, **given: Any) -> None:
    """Talk with a model in the terminal.

    Enter sends; a line that ends with a backslash goes on, and \"\"\" begins and ends a block of lines. Ctrl-C stops
    the answer, Ctrl-D leaves, /help lists the commands. When standard input is not a terminal, each line is one
    turn. With --json each turn prints one JSON document on one line.
    """
    from empu.cli import output
    from empu.cli.loading import locate, open_located, opening
    from empu.cli.options import sampling_params
    from empu.cli.repl import Conversation
    from empu.cli.terminal import Terminal
    from empu.errors import AnsweredError

    params = sampling_params(given)
    located = locate(model)
    opened = open_located(located, **opening(given))
    terminal = Terminal.of_user()
    conversation = Conversation(located, opened, params, given["system"], truncate=given["truncate"], as_json=as_json)
    if terminal.is_watched:
        output.say(f"Talking with {located.identity()['name'] or located.path}. /help lists commands, Ctrl-D leaves.")
    with terminal:
        failed = conversation.hold(terminal)
    if failed and not terminal.is_watched:
        raise AnsweredError("Not every turn was answered; the reasons stand above.")
