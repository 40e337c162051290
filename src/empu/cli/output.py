"""Output of commands: results on stdout, messages on stderr, one JSON document on stdout with ``--json``.

Rich is used only on a terminal; files and pipes get plain text.
"""

from __future__ import annotations

import codecs
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from empu.store.progress import TransferProgress

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout; messages go to stderr."
)

_VISIBLE = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_VISIBLE |= {0x7F: "\u2421", **dict.fromkeys(range(128, 160), "�")}
"""Control character -> visible replacement. C1 codes have no Unicode picture."""


def message(text: str) -> None:
    """Print one line on stderr."""
    click.echo(text, err=True)


def print_json(document: object, *, one_line: bool = False) -> None:
    """Print ``document`` as JSON on stdout."""
    ascii_only = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"
    click.echo(json.dumps(document, ensure_ascii=ascii_only, allow_nan=False, indent=None if one_line else 2))


def escape_controls(text: str) -> str:
    """Make control characters visible, so that a terminal does not act on them. Line ends and tabs stay."""
    return text.translate(_VISIBLE)


def is_terminal(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal."""
    return stream.isatty()


def write_model_text(text: str) -> None:
    """Write model output to stdout unbuffered: escaped on a terminal, exact in a file or pipe."""
    sys.stdout.write(escape_controls(text) if is_terminal(sys.stdout) else text)
    sys.stdout.flush()


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with columns on stdout."""
    rows = [[escape_controls(cell) for cell in row] for row in rows]
    if is_terminal(sys.stdout):
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        rich_table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in headings:
            rich_table.add_column(heading, overflow="fold")
        for row in rows:
            rich_table.add_row(*(Text(cell) for cell in row))
        Console().print(rich_table)
        return
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    for row in (headings, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def is_narrow() -> bool:
    """Whether stdout is a terminal too narrow for a wide table."""
    return is_terminal(sys.stdout) and shutil.get_terminal_size().columns < 110


def key_values(pairs: Sequence[tuple[str, str]]) -> None:
    """Print ``name  value`` lines on stdout; further lines of a value are indented below it."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        lines = escape_controls(value).splitlines() or [""]
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {lines[0]}".rstrip())
        for line in lines[1:]:
            click.echo(" " * (width + 2) + line)


def format_bytes(count: int) -> str:
    """Format a size in bytes: 98.4 MB."""
    if count < 1000:
        return f"{count} B"
    unit, power = next((u, p) for u, p in (("TB", 4), ("GB", 3), ("MB", 2), ("kB", 1)) if count >= 1000**p)
    return f"{count / 1000**power:.1f} {unit}"


def format_count(count: int) -> str:
    """Format a parameter count: 135M, 8.0B."""
    if count >= 1_000_000_000:
        return f"{count / 1e9:.1f}B"
    return f"{count / 1e6:.0f}M" if count >= 1_000_000 else f"{count:,}"


def progress() -> TransferProgress:
    """Return a progress bar for a terminal, plain lines otherwise."""
    return ProgressBar() if is_terminal(sys.stderr) else ProgressLines()


class ProgressLines:
    """Progress as plain lines: one line for each large piece of work."""

    LARGE_BYTES = 50_000_000

    def say(self, sentence: str) -> None:
        message(sentence)

    def start(self, what: str, total: int | None) -> None:
        if total is not None and total >= self.LARGE_BYTES:
            message(f"{what} ({format_bytes(total)}) …")

    def advance(self, count: int) -> None:
        pass

    def finish(self) -> None:
        pass


class ProgressBar:
    """Progress as a bar on the terminal; the bar disappears when the work is done."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def say(self, sentence: str) -> None:
        self._stop()
        message(sentence)

    def start(self, what: str, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as Speed

        self._stop()
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(what.replace("[", r"\["), total=total)
        self._bar.start()

    def advance(self, count: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)

    def finish(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None
