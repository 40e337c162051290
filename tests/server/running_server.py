"""A real server in a thread, on a free port of loopback, with tiny models of random weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from empu.engine.backends.torch import TorchBackend
from empu.engine.language_model import LanguageModel
from empu.engine.scheduler import SchedulerConfig
from empu.server.app import ServerApp
from empu.server.http.api_keys import ApiKeys
from empu.server.http.app_state import AppState
from empu.server.http.hosts import allowed_hosts
from empu.server.http.process import Server, bind_socket
from empu.serving.encoders import EncoderService
from empu.serving.registry import ModelLocation, ModelRegistry
from empu.text.base import TextProcessor
from empu.text.task import Task
from empu.text.templates.jinja import JinjaTemplate
from tests.engine.byte_tokenizer import ByteTokenizer
from tests.tune.samples import tiny_model

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
LABEL_TASK = Task("label", "Name it.", ("card arrival", "card lost", "refund"))
INSTRUCTED_TASK = Task("completion", "Be brief.")
OUT_OF_SCOPE_TASK = replace(LABEL_TASK, threshold=1.0)  # answers "none of these" to everything
JSON_TASK = Task(
    "completion",
    "Read it.",
    schema={
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    },
)


def open_tiny(name: str) -> LanguageModel:
    """Open ``tiny``, ``wide`` (longer context), ``base`` (no chat template) or a specialist."""
    template = None if name in {"base", "plain"} else JinjaTemplate(TEMPLATE, {}, name)
    text = TextProcessor(ByteTokenizer(), template, add_bos=True)
    tasks = {
        "labels": LABEL_TASK,
        "unsure": OUT_OF_SCOPE_TASK,
        "formed": JSON_TASK,
        "specialist": INSTRUCTED_TASK,
        "plain": INSTRUCTED_TASK,
    }
    context_length = 2048 if name == "wide" else 256
    backend = TorchBackend(tiny_model(context=context_length))
    return LanguageModel(backend, text, checkpoint_path=Path(name), context_length=context_length, task=tasks.get(name))


MODEL_NAMES = ["base", "formed", "labels", "plain", "specialist", "tiny", "unsure", "wide"]
"""In the order of every list of models."""
ADDED_AT: Mapping[str, int] = {
    "base": 1_700_000_000,
    "formed": 1_700_000_004,
    "labels": 1_700_000_001,
    "plain": 1_700_000_005,
    "specialist": 1_700_000_002,
    "tiny": 5,
    "unsure": 1_700_000_003,
    "wide": 6,
}
"""Name -> Unix time."""


@dataclass
class RunningServer:
    """A server with its address and a key."""

    state: AppState
    uvicorn_server: Server
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
        self.uvicorn_server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive(), "the server did not stop"


def start_server(
    home: Path,
    *,
    open_model: Callable[[str], LanguageModel] = open_tiny,
    names: Mapping[str, int] = ADDED_AT,
    scheduler_config: SchedulerConfig | None = None,
    encoders: EncoderService | None = None,
    locate: Callable[[str], ModelLocation] = ModelLocation,
) -> RunningServer:
    """Start a server and wait until it listens."""
    keys = ApiKeys(home)
    key = keys.add("test")
    bound = bind_socket("127.0.0.1", 0)
    port = bound.getsockname()[1]
    hosts = allowed_hosts("127.0.0.1", port)
    registry = ModelRegistry(lambda: names, open_model, scheduler_config, locate=locate)
    state = AppState(registry, keys, hosts, encoders=encoders or EncoderService())
    is_listening = threading.Event()
    uvicorn_server = Server(ServerApp(state), is_listening.set)
    thread = threading.Thread(target=uvicorn_server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    assert is_listening.wait(20), "the server did not start"
    return RunningServer(state, uvicorn_server, thread, port, key)
