"""A real server on a free port of loopback, in a thread, with tiny models of random weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from empu.engine.backends.torch import TorchBackend
from empu.engine.language_model import LanguageModel
from empu.engine.scheduler import Limits
from empu.server.app import make_app
from empu.server.http.app_state import Context
from empu.server.http.auth import Keys, allowed_hosts
from empu.server.http.process import Server, listen
from empu.serving.encoders import Encoders
from empu.serving.registry import Catalogue, Place
from empu.text.base import Text
from empu.text.task import Task
from empu.text.templates.jinja import JinjaTemplate
from tests.engine.letters import Letters
from tests.tune.making import tiny_model

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
LABELS = Task("label", "Name it.", ("card arrival", "card lost", "refund"))
INSTRUCTED = Task("completion", "Be brief.")
UNSURE = replace(LABELS, threshold=1.0)  # says "none of these" of everything
FORMED = Task(
    "completion",
    "Read it.",
    schema={
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    },
)


def tiny(name: str) -> LanguageModel:
    """``tiny`` talks, ``wide`` too and holds more, ``base`` only continues text, the others were tuned."""
    template = None if name in {"base", "plain"} else JinjaTemplate(TEMPLATE, {}, name)
    text = Text(Letters(), template, add_bos=True)
    tasks = {"labels": LABELS, "unsure": UNSURE, "formed": FORMED, "specialist": INSTRUCTED, "plain": INSTRUCTED}
    task = tasks.get(name)
    context = 2048 if name == "wide" else 256
    backend = TorchBackend(tiny_model(context=context))
    return LanguageModel(backend, text, checkpoint_path=Path(name), context=context, task=task)


LISTED = ["base", "formed", "labels", "plain", "specialist", "tiny", "unsure", "wide"]
"""The names of :data:`NAMES` as every list of models has them."""
NAMES: Mapping[str, int] = {
    "base": 1_700_000_000,
    "formed": 1_700_000_004,
    "labels": 1_700_000_001,
    "plain": 1_700_000_005,
    "specialist": 1_700_000_002,
    "tiny": 5,
    "unsure": 1_700_000_003,
    "wide": 6,
}


@dataclass
class Running:
    """A server, its key and where it is."""

    context: Context
    server: Server
    thread: threading.Thread
    port: int
    key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive(), "the server did not stop"


def start(
    home: Path,
    *,
    opener: Callable[[str], LanguageModel] = tiny,
    names: Mapping[str, int] = NAMES,
    limits: Limits | None = None,
    encoders: Encoders | None = None,
    place: Callable[[str], Place] = Place,
) -> Running:
    """Start one and wait until it listens."""
    keys = Keys(home)
    key = keys.add("test")
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    hosts = allowed_hosts("127.0.0.1", port)
    context = Context(
        Catalogue(lambda: names, opener, limits, place=place), keys, hosts, encoders=encoders or Encoders()
    )
    ready = threading.Event()
    server = Server(make_app(context), ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    assert ready.wait(20), "the server did not start"
    return Running(context, server, thread, port, key)
