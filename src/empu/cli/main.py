"""The command ``empu``: the list of commands, and the one place where errors become sentences and exit codes.

Each command's module is imported when the command is called or its help is shown, so that ``empu --help`` is instant.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from empu import __version__
from empu.errors import AnsweredError, EmpuError

COMMANDS = {
    "pull": "Bring a model into the store.",
    "models": "List what is in the store.",
    "run": "Give one answer.",
    "chat": "Talk with a model in the terminal.",
    "serve": "Serve models to programs and browsers.",
    "keys": "Make, list and revoke the keys of the server.",
    "tune": "Make a specialist of your own rows.",
    "export": "Write a specialist as files that other programs open.",
    "show": "Say everything that is known of a model.",
    "trace": "Ask which rows made a model, or which models saw a row.",
    "verify": "Hash everything again and say what changed.",
    "bench": "Measure speed on this machine.",
}
"""Command -> its line in ``empu --help``. Its function has the name of its module; a test compares."""

EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141
EXIT_OUR_BUG = 70


class _ReaderLeftError(Exception):
    """Whoever read our output has closed it."""


class Commands(click.Group):
    """Loads a command when it is asked for, and lets no traceback out."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"empu.cli.commands.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # click would end the process with 1 before we see it
            raise _ReaderLeftError from error

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        given = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        _ready_streams()
        try:
            result = super().main(given, *rest, **extra)
            sys.stdout.flush()
            code = result if isinstance(result, int) else 0
        except (BrokenPipeError, _ReaderLeftError):
            code = EXIT_PIPE_CLOSED
        except (KeyboardInterrupt, click.Abort) as error:
            code = _report(error, "Stopped.", EXIT_INTERRUPTED, given)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            code = error.exit_code
        except click.ClickException as error:
            code = _report(error, _usage_sentence(error), error.exit_code, given)
        except AnsweredError as error:
            code = _report(error, str(error), error.exit_code, ())
        except EmpuError as error:
            code = _report(error, str(error), error.exit_code, given)
        except MemoryError as error:
            code = _report(
                error,
                "There is not enough memory for this; close other programs, or choose a smaller model or --context.",
                EmpuError.exit_code,
                given,
            )
        except OSError as error:  # of a file or stream for which no command has better words
            what = (
                os.fspath(error.filename)
                if isinstance(error.filename, str | os.PathLike)
                else "A file or standard output"
            )
            sentence = f"{what} cannot be read or written ({error.strerror or error}); mend that and try again."
            code = _report(error, sentence, EmpuError.exit_code, given)
        except Exception as error:
            sentence = (
                f"Empu made a mistake of its own ({type(error).__name__}: {error}); please report it with the command "
                "that you typed. With EMPU_DEBUG=1 it shows where."
            )
            code = _report(error, sentence, EXIT_OUR_BUG, given)
        sys.exit(code if _is_written() else code or EXIT_PIPE_CLOSED)


def _ready_streams() -> None:
    """Streams that are there, and that take and give every character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, mode)))
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)  # tests put other streams there
        if reconfigure is not None:
            reconfigure(errors="replace")


def _is_written() -> bool:
    """Write out what waits; where nobody takes it, let it go nowhere, so that Python does not complain at its end."""
    written = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            written = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return written


def _usage_sentence(error: click.ClickException) -> str:
    sentence = " ".join(error.format_message().split())
    sentence += "" if sentence.endswith((".", "?")) else "."
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{sentence} See: {context.command_path} --help" if context is not None else sentence


def _report(error: BaseException, sentence: str, code: int, given: Sequence[str]) -> int:
    """The sentence on stderr; with ``--json`` among what was ``given`` the same as a document on stdout."""
    from empu.cli import output

    if os.environ.get("EMPU_DEBUG") == "1":
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    options = given[: given.index("--")] if "--" in given else given
    with contextlib.suppress(OSError):  # there is nobody to tell
        output.say(output.harmless(sentence))
        if "--json" in options:
            output.answer({"error": {"kind": type(error).__name__, "message": sentence, "exit_code": code}})
    return code


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="MODEL is a name in the store, an id or its first 8 digits, or a path. The store is ~/.empu, or EMPU_HOME.",
)
@click.version_option(__version__, "--version", prog_name="empu", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Open language models that are yours: run them, and make them masters of your own work, on your own machine."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with its exit code."""
    cli.main(args, prog_name="empu")
