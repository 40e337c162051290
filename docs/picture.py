"""Draws the README's picture from what a command printed.

.venv/bin/python docs/picture.py LOG PICTURE.svg "the command"
"""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 118


def main() -> None:
    log, picture = map(Path, sys.argv[1:3])
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    console.print(Text(f"$ {sys.argv[3]}", style="bold"))
    for line in log.read_text(encoding="utf-8").splitlines():
        if line.startswith(("WARNING", "make")) or "Installing" in line:
            continue
        style = "bold green" if line.startswith("The ") else "bold" if line.startswith("system ") else ""
        console.print(Text(line, style=style, overflow="fold"))
    console.save_svg(str(picture), title="Empu")


if __name__ == "__main__":
    main()
