"""The start of the command."""

from __future__ import annotations

import subprocess
import sys

INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from empu.cli.entry import main
main()
"""


def test_ctrl_c_while_modules_are_imported_is_a_sentence() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (130, "Stopped.\n", "")


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "empu", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith("empu ")) == (0, True)
