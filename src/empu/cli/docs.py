"""Generates docs/CLI.md from the help of the commands: ``python -m empu.cli.docs docs/CLI.md``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from empu.cli.main import cli

WIDTH = 100


def page() -> str:
    """Return the page as Markdown."""
    parts = [
        "# The commands\n",
        "Generated from `empu --help` by `make docs`; do not edit. Results go to stdout, messages to stderr.\n"
        "With `--json` every command prints exactly one JSON document on stdout (`chat`: one line for each turn).\n"
        'An error is `{"error": {"kind": …, "message": …, "exit_code": …}}`.\n',
        "Exit codes: 0 success, 1 failure, 2 wrong usage, 70 internal error, 130 stopped by Ctrl-C, 141 output pipe "
        "closed.\n",
        'Shell completion: `eval "$(_EMPU_COMPLETE=bash_source empu)"`, or `zsh_source`, `fish_source`.\n',
        _section("empu", cli),
    ]
    context = click.Context(cli, info_name="empu")
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        parts.append(_section(f"empu {name}", command))
        if isinstance(command, click.Group):
            parts += [_section(f"empu {name} {sub}", one) for sub, one in command.commands.items()]
    return "\n".join(parts)


def _section(path: str, command: click.Command) -> str:
    settings = {**cli.context_settings, "terminal_width": WIDTH}
    with click.Context(command, info_name=path, **settings) as context:
        return f"## {path}\n\n```text\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
