"""State shared by the page's handlers."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request

from empu.chat.conversations import ConversationStore
from empu.server.ui.active_answers import ActiveAnswers
from empu.server.ui.persistence import AnswerWriter
from empu.store.store import Store
from empu.store.unfinished_runs import UnfinishedRuns

FIRST_KEY = "first"
SERVER_OWNER_KEYS = frozenset({FIRST_KEY, "link", "unattended"})
"""Keys of the person who started the server; they share their conversations."""


class UiState:
    """The files below the store's folder, and the answers in progress."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = Store(home)
        self.runs = UnfinishedRuns(self.store)
        self.conversations = ConversationStore(home)
        self.active_answers = ActiveAnswers()
        self.writer = AnswerWriter(self.conversations)

    def close(self) -> None:
        """Finish writing and close the files."""
        self.writer.close()


def ui_state_of(request: Request) -> UiState:
    """Return the page's state."""
    state = request.app.state.ui_state
    assert isinstance(state, UiState)
    return state


def owner_of(request: Request) -> str:
    """Return the owner of the conversations that the request's key may see."""
    key = request.scope["empu.key"]
    return FIRST_KEY if key in SERVER_OWNER_KEYS else str(key)
