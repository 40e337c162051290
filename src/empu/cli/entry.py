"""Start of the ``empu`` command: Ctrl-C ends it with a sentence also while modules are still imported."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130


def main() -> NoReturn:
    """Import and run the command line."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a parent may have it ignored
    if is_default:
        signal.signal(signal.SIGINT, _stop)
    from empu.cli.main import main as run

    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _stop(number: int, frame: FrameType | None) -> None:
    os.write(2, b"Stopped.\n")
    os._exit(EXIT_INTERRUPTED)
