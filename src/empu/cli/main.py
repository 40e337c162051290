"""The ``empu`` command: the command list, and the only place that turns errors into messages and exit codes.

A command's module is imported only when the command runs or shows its help, so ``empu --help`` is instant.
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
from empu.errors import EmpuError, ReportedError

COMMANDS = {
    "pull": "Download or copy a model into the store.",
    "models": "List the models in the store.",
    "run": "Generate one answer to a prompt.",
    "chat": "Chat with a model in the terminal.",
    "docs": "Add documents to collections, and search them.",
    "ask": "Answer a question from documents, with sources.",
    "serve": "Start the HTTP server: web chat, OpenAI and Anthropic APIs.",
    "keys": "Create, list and revoke API keys of the server.",
    "tune": "Fine-tune a model on your own data and evaluate it.",
    "eval": "Evaluate models on public suites, and compare them.",
    "export": "Export a tuned model to Hugging Face or GGUF files.",
    "show": "Show a model's card: lineage, data, licence, scores.",
    "trace": "List the rows behind a model, or the models that saw a row.",
    "licences": "Show what licences ask for, check a model, record answers.",
    "bom": "Write a bill of materials: CycloneDX or SPDX.",
    "verify": "Check a model's files and the ledger against their hashes.",
    "bench": "Measure speed on this machine.",
}
"""Command name -> its line in ``empu --help``. Each command function has the name of its module."""

EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141
EXIT_INTERNAL_ERROR = 70


class _OutputClosedError(Exception):
    """The program that read our output has closed the pipe."""


class Commands(click.Group):
    """Command group that imports commands lazily and never shows a traceback."""

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
        except BrokenPipeError as error:  # otherwise click exits with 1 before we can handle it
            raise _OutputClosedError from error

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        arguments = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        _repair_streams()
        try:
            result = super().main(arguments, *rest, **extra)
            sys.stdout.flush()
            code = result if isinstance(result, int) else 0
        except (BrokenPipeError, _OutputClosedError):
            code = EXIT_PIPE_CLOSED
        except (KeyboardInterrupt, click.Abort) as error:
            code = _report(error, "Stopped.", EXIT_INTERRUPTED, arguments)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            code = error.exit_code
        except click.ClickException as error:
            code = _report(error, _usage_message(error), error.exit_code, arguments)
        except ReportedError as error:
            code = _report(error, str(error), error.exit_code, ())
        except EmpuError as error:
            code = _report(error, str(error), error.exit_code, arguments)
        except MemoryError as error:
            code = _report(
                error,
                "There is not enough memory for this; close other programs, or choose a smaller model or --context.",
                EmpuError.exit_code,
                arguments,
            )
        except OSError as error:  # no command handled this file or stream error
            what = (
                os.fspath(error.filename)
                if isinstance(error.filename, str | os.PathLike)
                else "A file or standard output"
            )
            sentence = f"{what} cannot be read or written ({error.strerror or error}); fix that and try again."
            code = _report(error, sentence, EmpuError.exit_code, arguments)
        except Exception as error:
            sentence = (
                f"Internal error ({type(error).__name__}: {error}); please report it with the command that you "
                "typed. EMPU_DEBUG=1 shows the traceback."
            )
            code = _report(error, sentence, EXIT_INTERNAL_ERROR, arguments)
        sys.exit(code if _flush_output() else code or EXIT_PIPE_CLOSED)


def _repair_streams() -> None:
    """Replace closed standard streams by /dev/null and let every stream accept any character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, mode)))
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)  # tests replace the streams
        if reconfigure is not None:
            reconfigure(errors="replace")


def _flush_output() -> bool:
    """Flush both streams. A closed stream is redirected to /dev/null, so that Python does not complain at exit."""
    written = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            written = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return written


def _usage_message(error: click.ClickException) -> str:
    sentence = " ".join(error.format_message().split())
    sentence += "" if sentence.endswith((".", "?")) else "."
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{sentence} See: {context.command_path} --help" if context is not None else sentence


def _report(error: BaseException, sentence: str, code: int, arguments: Sequence[str]) -> int:
    """Print the message on stderr; with ``--json`` among the arguments also as a JSON document on stdout."""
    from empu.cli import output

    if os.environ.get("EMPU_DEBUG") == "1":
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    with contextlib.suppress(OSError):  # both streams are closed
        output.message(output.escape_controls(sentence))
        if "--json" in options:
            output.print_json({"error": {"kind": type(error).__name__, "message": sentence, "exit_code": code}})
    return code


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="MODEL is a name in the store, a model id (or its first 8 digits), or a path. "
    "The store is ~/.empu, or EMPU_HOME if set.",
)
@click.version_option(__version__, "--version", prog_name="empu", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Run open language models and fine-tune them on your own data, on your own machine."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit the process with its exit code."""
    cli.main(args, prog_name="empu")
