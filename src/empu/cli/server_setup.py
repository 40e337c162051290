"""Sets up ``empu serve``: models, keys, the socket, and the start message."""

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
from empu.cli.licence_questions import ServeLicences
from empu.cli.loading import open_resolved, resolve_model
from empu.errors import EmpuError, MissingDependencyError, StoreError, UsageError
from empu.store.names import name_from_text
from empu.store.store import Store

if TYPE_CHECKING:
    from empu.cli import first_question
    from empu.engine.language_model import LanguageModel
    from empu.server.app import ServerApp


@dataclass(frozen=True)
class PreparedServer:
    """A server that is ready to run; its socket is bound already."""

    app: ServerApp
    listening: socket.socket
    address: str
    sign_in: str
    new_key: str | None
    models: list[str]
    cookie: str
    """Session cookie of this process, for ``--unattended``."""
    is_open: bool
    """Whether other machines can connect."""

    def document(self) -> dict[str, Any]:
        """Return the document of ``--json``, printed once the server listens."""
        return {"address": self.address, "sign_in": self.sign_in, "key": self.new_key, "models": self.models}

    def run(self, *, as_json: bool, question: str | None = None) -> None:
        """Serve until a signal arrives; with ``question`` and no terminal, until the question is answered."""
        from empu.cli import first_question
        from empu.server.http.logs import configure_logging
        from empu.server.http.process import Server

        configure_logging()
        on_ready = partial(output.print_json, self.document()) if as_json else self._print_addresses
        if question is None or first_question.has_terminal():
            Server(self.app, on_ready).run(sockets=[self.listening])
            return
        outcome: list[first_question.ServerAnswer | Exception] = []

        def ask() -> None:
            try:
                outcome.append(first_question.ask_server(self.address, self.cookie, self.models[0], question))
            except Exception as error:
                outcome.append(error)
            finally:
                server.should_exit = True

        server = Server(self.app, threading.Thread(target=ask, daemon=True).start)
        if not as_json:
            self._print_addresses()
        server.run(sockets=[self.listening])
        if not outcome:
            raise EmpuError("The server was stopped before the question was answered; start it again.")
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        self._print_answer(question, outcome[0], as_json)

    def _print_answer(self, question: str, answer: first_question.ServerAnswer, as_json: bool) -> None:
        if as_json:
            document = {"model": answer.model, "question": question, "answer": answer.text}
            output.print_json(
                {**document, "address": self.address, "confidence": answer.confidence, "usage": answer.usage}
            )
            return
        confidence = f" (confidence {answer.confidence:.1%})" if answer.confidence is not None else ""
        output.message(f"Question to {answer.model} at {self.address}: {output.escape_controls(question)}")
        output.write_model_text(f"{answer.text}{confidence}\n")

    def _print_addresses(self) -> None:
        if self.new_key is not None:
            output.message(f"API key of this store, shown only once: {self.new_key}")
        output.message(f"Serving {', '.join(self.models)} at {self.address} (OpenAI: {self.address}/v1).")
        if self.is_open:
            output.message(
                "Other machines can connect, and the connection is not encrypted: put a TLS proxy in front of it."
            )
        output.message(f"Open this sign-in link within 15 minutes (it works once): {self.sign_in}")


def prepare_server(
    models: Sequence[str],
    host: str,
    port: int,
    names: Sequence[str],
    *,
    slots: int,
    queue: int,
    loading: Mapping[str, Any],
    fast: bool = False,
    policy: Path | None = None,
) -> PreparedServer:
    """Check all arguments and bind the socket. Raises :class:`~empu.errors.EmpuError` if a check fails."""
    try:
        from empu.server.app import ServerApp
        from empu.server.http.api_keys import ApiKeys
        from empu.server.http.app_state import AppState
        from empu.server.http.hosts import allowed_hosts, check_bind, is_loopback
        from empu.server.http.process import bind_socket
        from empu.server.http.sessions import cookie_name
        from empu.serving.encoders import EncoderService
        from empu.serving.registry import ModelLocation, ModelRegistry
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("empu"):
            raise
        raise MissingDependencyError(
            f"The server needs {error.name}, which is not installed; install it with: pip install 'empu[serve]'."
        ) from error
    from empu.checkpoint import open_checkpoint
    from empu.embed.discovery import find_encoders
    from empu.embed.text_encoder import installed_encoders
    from empu.engine.scheduler import SchedulerConfig
    from empu.members.classifier import LabelClassifier, open_classifier

    store = Store.of_user()
    keys = ApiKeys(store.home)
    check_bind(host, keys)
    selected = {_name(text): text for text in models}
    if len(selected) < len(models):
        raise UsageError("Two of the models would be served under the same name; give one of them.")
    licence_check = ServeLicences(store, policy)
    for text in models:
        stored = resolve_model(text).stored
        if stored is not None:
            licence_check.require(stored)
    refused = {} if selected else licence_check.refused(store.list_models())
    for name, reason in refused.items():
        output.message(f"{name} is not served: {reason}")

    def offered() -> dict[str, int]:
        names = dict.fromkeys(selected, 0) if selected else _in_store(store)
        return {name: added_at for name, added_at in names.items() if name not in refused}

    if refused and not offered():
        raise StoreError("Licences refuse to serve every model in the store; see above.")
    if not offered():
        raise StoreError(f"The store {store.home} is empty; add a first model with: empu pull default")

    def locate(name: str) -> ModelLocation:
        resolved = resolve_model(selected.get(name, name))
        if resolved.stored is None:
            return ModelLocation(str(resolved.path))
        base = store.base_of(resolved.stored) or resolved.stored
        return ModelLocation(base.record.id, resolved.adapter, base.name)

    def revision(name: str) -> str | None:
        return store.id_of_name(selected.get(name, name))

    def open_model(model: str) -> LanguageModel:
        resolved = resolve_model(model)
        if resolved.stored is not None:
            licence_check.require(resolved.stored)
        return open_resolved(resolved, **loading)

    def context_length(name: str) -> int | None:
        if name not in offered():
            return None  # an encoder
        model = store.resolve(selected.get(name, name))
        if isinstance(model, Path):
            with open_checkpoint(model) as checkpoint:
                length = checkpoint.config.context_length
        else:
            length = int(model.record.config["context_length"])
        limit = loading.get("context")
        return min(length, limit) if limit else length

    def open_members(model: LanguageModel, folder: Path) -> LabelClassifier:
        return open_classifier(model, folder, lambda: installed_encoders(store.home), fast=fast)

    bound = bind_socket(host, port)
    port = bound.getsockname()[1]
    new_key = None if len(keys) else keys.add("first")
    limits = SchedulerConfig(max_running=slots, max_waiting=queue, max_step_tokens=max(256, 2 * slots))
    encoders = EncoderService(lambda: find_encoders(store.home))
    state = AppState(
        ModelRegistry(
            offered,
            open_model,
            limits,
            locate=locate,
            revision=revision,
            open_classifier=open_members,
            stored_context_length=context_length,
        ),
        keys,
        allowed_hosts(host, port, names),
        encoders=encoders,
    )
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    address = f"http://{shown}:{port}"
    link = f"{address}/#code={state.sessions.create_code()}"
    cookie = f"{cookie_name(port)}={state.sessions.start('unattended')}"
    is_open = not is_loopback(bound.getsockname()[0])
    return PreparedServer(ServerApp(state), bound, address, link, new_key, list(offered()), cookie, is_open)


def _in_store(store: Store) -> dict[str, int]:
    """Return each name in the store with the time at which its model was added, in seconds since 1970."""
    named = [model for model in store.list_models() if model.name is not None]
    return {str(model.name): int(datetime.fromisoformat(model.record.added_at).timestamp()) for model in named}


def _name(text: str) -> str:
    model = Store.of_user().resolve(text)
    return name_from_text(model.stem) if isinstance(model, Path) else model.name or model.record.id[:12]
