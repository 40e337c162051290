"""What the page's addresses share, and whose things a request may see."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request

from empu.chat.conversations import Conversations
from empu.server.ui.persistence import Writing
from empu.store.store import Store
from empu.store.unfinished_runs import Runs

ONE_PERSON = frozenset({"first", "link", "unattended"})
"""Keys that only whoever started the server has: they share their conversations under the name of the first."""


class Desk:
    """What the page's addresses share: the files below the store's folder, and the answers that are being written."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = Store(home)
        self.runs = Runs(self.store)
        self.conversations = Conversations(home)
        self.writing = Writing(self.conversations)


def desk_of(request: Request) -> Desk:
    """The page's parts, for a handler."""
    desk = request.app.state.desk
    assert isinstance(desk, Desk)
    return desk


def owner_of(request: Request) -> str:
    """Whose conversations a request may see: those of its key."""
    key = request.scope["empu.key"]
    return "first" if key in ONE_PERSON else str(key)
