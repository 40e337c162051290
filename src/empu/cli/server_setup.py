"""What ``empu serve`` puts together: models, keys, a socket, and the words at its start."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empu.cli import output
from empu.cli.loading import locate, open_located
from empu.errors import EmpuError, MissingDependencyError, StoreError, UsageError
from empu.store.store import Store, name_from

if TYPE_CHECKING:
    from empu.cli import first_question
    from empu.engine.language_model import LanguageModel
    from empu.server.http.middleware import Guard


@dataclass(frozen=True)
class Prepared:
    """A server that is ready to run; its socket is taken already."""

    app: Guard
    listening: socket.socket
    address: str
    sign_in: str
    new_key: str | None
    models: list[str]
    cookie: str
    """Signs this process in, for ``--unattended``."""
    is_open: bool
    """Whether it listens to more than this machine."""

    def document(self) -> dict[str, Any]:
        """For ``--json``, printed once the server listens."""
        return {"address": self.address, "sign_in": self.sign_in, "key": self.new_key, "models": self.models}

    def run(self, *, as_json: bool, question: str | None = None) -> None:
        """Serve until a signal comes; with ``question`` and no terminal, until that is answered."""
        from empu.cli import first_question
        from empu.server.http.process import Server, write_log

        write_log()
        ready = partial(output.answer, self.document()) if as_json else self._greet
        if question is None or first_question.is_attended():
            Server(self.app, ready).run(sockets=[self.listening])
            return
        outcome: list[first_question.Answer | Exception] = []

        def ask() -> None:
            try:
                outcome.append(first_question.put(self.address, self.cookie, self.models[0], question))
            except Exception as error:
                outcome.append(error)
            finally:
                server.should_exit = True

        server = Server(self.app, threading.Thread(target=ask, daemon=True).start)
        if not as_json:
            self._greet()
        server.run(sockets=[self.listening])
        if not outcome:
            raise EmpuError("The server was stopped before the question was answered; start it again.")
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        self._tell(question, outcome[0], as_json)

    def _tell(self, question: str, answer: first_question.Answer, as_json: bool) -> None:
        if as_json:
            said = {"model": answer.model, "question": question, "answer": answer.text}
            output.answer({**said, "address": self.address, "confidence": answer.confidence, "usage": answer.usage})
            return
        sure = f" ({answer.confidence:.1%} sure)" if answer.confidence is not None else ""
        output.say(f"{answer.model} was asked at {self.address}: {output.harmless(question)}")
        output.write_model_text(f"{answer.text}{sure}\n")

    def _greet(self) -> None:
        if self.new_key is not None:
            output.say(f"The key of this store, shown only now: {self.new_key}")
        output.say(f"Serving {', '.join(self.models)} at {self.address} (OpenAI: {self.address}/v1).")
        if self.is_open:
            output.say(
                "Other machines reach it too, and what they send is not encrypted: put a proxy with TLS before it."
            )
        output.say(f"Sign in within 15 minutes, once: {self.sign_in}")


def prepare(
    models: Sequence[str],
    host: str,
    port: int,
    names: Sequence[str],
    *,
    slots: int,
    queue: int,
    opening: Mapping[str, Any],
) -> Prepared:
    """Check everything and take the socket. Raises :class:`~empu.errors.EmpuError` for what cannot be."""
    try:
        from empu.server.app import make_app
        from empu.server.http.app_state import Context
        from empu.server.http.auth import Keys, allowed_hosts, check_bind, cookie_name, is_loopback
        from empu.server.http.process import listen
        from empu.serving.encoders import Encoders
        from empu.serving.registry import Catalogue, Place
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("empu"):
            raise
        raise MissingDependencyError(
            f"The server needs {error.name}, which is not installed; install it with: pip install 'empu[serve]'."
        ) from error
    from empu.embed.encoder import folders
    from empu.engine.scheduler import Limits

    store = Store.of_user()
    keys = Keys(store.home)
    check_bind(host, keys)
    chosen = {_name(text): text for text in models}
    if len(chosen) < len(models):
        raise UsageError("Two of the models would be served under the same name; give one of them.")
    for text in models:
        locate(text)

    def offered() -> dict[str, int]:
        return dict.fromkeys(chosen, 0) if chosen else _in_store(store)

    if not offered():
        raise StoreError(f"The store {store.home} is empty; bring the first model with: empu pull default")

    def place(name: str) -> Place:
        located = locate(chosen.get(name, name))
        if located.stored is None:
            return Place(str(located.path))
        base = store.base_of(located.stored) or located.stored
        return Place(base.record.id, located.adapter, base.name)

    def meaning(name: str) -> str | None:
        return store.meaning(chosen.get(name, name))

    def opener(model: str) -> LanguageModel:
        return open_located(locate(model), **opening)

    listening = listen(host, port)
    port = listening.getsockname()[1]
    new_key = None if len(keys) else keys.add("first")
    limits = Limits(slots=slots, queue=queue, step_tokens=max(256, 2 * slots))
    encoders = Encoders(lambda: folders(store.home))
    context = Context(
        Catalogue(offered, opener, limits, place=place, meaning=meaning),
        keys,
        allowed_hosts(host, port, names),
        encoders=encoders,
    )
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    address = f"http://{shown}:{port}"
    link = f"{address}/#code={context.sessions.link()}"
    cookie = f"{cookie_name(port)}={context.sessions.begin('unattended')}"
    is_open = not is_loopback(listening.getsockname()[0])
    return Prepared(make_app(context), listening, address, link, new_key, list(offered()), cookie, is_open)


def _in_store(store: Store) -> dict[str, int]:
    """Names with the second since 1970 in which each model came."""
    listed = [model for model in store.all() if model.name is not None]
    return {str(model.name): int(datetime.fromisoformat(model.record.added_at).timestamp()) for model in listed}


def _name(text: str) -> str:
    found = Store.of_user().resolve(text)
    return name_from(found.stem) if isinstance(found, Path) else found.name or found.record.id[:12]
