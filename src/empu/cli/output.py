"""How commands speak: answers on stdout, talk to people on stderr, one JSON document when a program asked.

Rich is used only where a terminal shows it; everything else gets plain text.
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

    from empu.store.pull.progress import Progress

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout; talk goes to stderr."
)

_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_PICTURES |= {0x7F: "\u2421", **dict.fromkeys(range(128, 160), "�")}
"""Control characters -> something that shows them. C1 codes have no pictures."""


def say(sentence: str) -> None:
    """One line for people, on stderr."""
    click.echo(sentence, err=True)


def answer(document: object, *, one_line: bool = False) -> None:
    """The JSON document that a program asked for, on stdout."""
    ascii_only = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"
    click.echo(json.dumps(document, ensure_ascii=ascii_only, allow_nan=False, indent=None if one_line else 2))


def harmless(text: str) -> str:
    """``text`` with escape sequences and other control characters made visible instead of obeyed; line ends and tabs
    stay.
    """
    return text.translate(_PICTURES)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person watches ``stream``."""
    return stream.isatty()


def write_model_text(text: str) -> None:
    """A piece of model output on stdout, at once: harmless on a terminal, exact in a file or pipe."""
    sys.stdout.write(harmless(text) if is_terminal(sys.stdout) else text)
    sys.stdout.flush()


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns on stdout."""
    rows = [[harmless(cell) for cell in row] for row in rows]
    if is_terminal(sys.stdout):
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=None, pad_edge=False, header_style="bold")
        for heading in headings:
            drawn.add_column(heading, overflow="fold")
        for row in rows:
            drawn.add_row(*(Text(cell) for cell in row))
        Console().print(drawn)
        return
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    for row in (headings, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def is_narrow() -> bool:
    """Whether stdout is a terminal in which a wide table would wrap."""
    return is_terminal(sys.stdout) and shutil.get_terminal_size().columns < 110


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """``name  value`` lines on stdout; further lines of a value are indented below it."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        lines = harmless(value).splitlines() or [""]
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {lines[0]}".rstrip())
        for line in lines[1:]:
            click.echo(" " * (width + 2) + line)


def size(count: int) -> str:
    """Bytes for people: 98.4 MB."""
    if count < 1000:
        return f"{count} B"
    unit, power = next((u, p) for u, p in (("TB", 4), ("GB", 3), ("MB", 2), ("kB", 1)) if count >= 1000**p)
    return f"{count / 1000**power:.1f} {unit}"


def amount(count: int) -> str:
    """Parameters for people: 135M, 8.0B."""
    if count >= 1_000_000_000:
        return f"{count / 1e9:.1f}B"
    return f"{count / 1e6:.0f}M" if count >= 1_000_000 else f"{count:,}"


def progress() -> Progress:
    """A bar where somebody watches it, plain lines otherwise."""
    return Bar() if is_terminal(sys.stderr) else Lines()


class Lines:
    """One line per piece of work that takes a while."""

    LARGE = 50_000_000

    def say(self, sentence: str) -> None:
        say(sentence)

    def start(self, what: str, total: int | None) -> None:
        if total is not None and total >= self.LARGE:
            say(f"{what} ({size(total)}) …")

    def advance(self, count: int) -> None:
        pass

    def finish(self) -> None:
        pass


class Bar:
    """A bar on the terminal, gone when its work is done."""

    def __init__(self) -> None:
        self._drawn: RichProgress | None = None
        self._task: TaskID | None = None

    def say(self, sentence: str) -> None:
        self._stop()
        say(sentence)

    def start(self, what: str, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as Speed

        self._stop()
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed(), TimeRemainingColumn())
        self._drawn = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._drawn.add_task(what.replace("[", r"\["), total=total)
        self._drawn.start()

    def advance(self, count: int) -> None:
        if self._drawn is not None and self._task is not None:
            self._drawn.advance(self._task, count)

    def finish(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._drawn is not None:
            self._drawn.stop()
        self._drawn = self._task = None
