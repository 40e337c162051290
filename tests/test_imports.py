"""Imports: each package imports only what the table allows, modules form no loop, and torch stays where it belongs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "empu"

BASE = {"errors", "config", "system"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "system": {"errors"},
    "checkpoint": BASE,
    "text": BASE,
    "ledger": BASE,
    "model": BASE,
    "store": BASE | {"checkpoint", "ledger", "text"},
    "trust": BASE | {"ledger", "store", "checkpoint"},
    "chat": BASE | {"ledger"},
    "data": BASE | {"text", "ledger"},
    "engine": BASE | {"checkpoint", "text"},
    "embed": BASE | {"checkpoint", "text", "ledger", "store"},
    "retrieval": BASE | {"embed", "ledger"},
    "tune": BASE | {"model", "checkpoint", "text", "data", "ledger"},
    "members": BASE | {"checkpoint", "engine", "text"},
    "evals": BASE | {"engine", "embed", "members", "text", "data", "ledger"},
    "serving": BASE | {"engine", "embed", "members", "text"},
    "specialist": BASE
    | {
        "checkpoint",
        "text",
        "ledger",
        "store",
        "model",
        "engine",
        "embed",
        "data",
        "tune",
        "members",
        "evals",
        "trust",
    },
    "server": BASE | {"serving", "engine", "embed", "text", "ledger", "store", "chat"},
}
"""Package -> packages of this project that it may import (itself always). ``cli`` may import anything."""

EXCEPTIONS = {
    ("engine/backends/torch.py", "model"),
    ("tune/native.py", "engine"),
    ("embed/native_encoder.py", "engine"),
}
"""The engine's only module that imports PyTorch, and the only ones of other rooms that import the compiled engine."""

TORCH_ROOMS = {"model", "tune", "specialist"}
TORCH_FILES = {"engine/backends/torch.py"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    return module.removesuffix(".py").split("/")[0]


def test_rooms_import_only_what_the_architecture_allows() -> None:
    offences = []
    for module, tree in modules():
        room = room_of(module)
        if room in {"cli", "__main__", "__init__"}:
            continue
        assert room in MAY_IMPORT, f"src/empu/{module}: the room {room!r} is not in the table of tests/test_imports.py"
        for name in imported(tree):
            parts = name.split(".")
            if parts[0] != "empu" or len(parts) < 2:
                continue
            other = parts[1]
            allowed = other == room or other in MAY_IMPORT[room] or (module, other) in EXCEPTIONS
            if not allowed and other != "__version__":
                offences.append(f"{module} imports {name}")
    assert not offences, "\n".join(sorted(set(offences)))


def import_graph() -> dict[str, set[str]]:
    """Module -> modules of the project that it imports when it is imported; imports inside functions do not count."""
    names = {name_of(module): tree for module, tree in modules()}
    graph: dict[str, set[str]] = {}
    for name, tree in names.items():
        top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        graph[name] = {other for other in imported(top) if other in names and other != name}
    return graph


def name_of(module: str) -> str:
    return ".".join(["empu", *module.removesuffix(".py").removesuffix("/__init__").split("/")])


def test_modules_form_no_import_loop() -> None:
    graph = import_graph()
    assert len(graph) > 100
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import loop: {' -> '.join(error.args[1])}")


def test_torch_is_imported_only_where_the_model_lives() -> None:
    offences = [
        f"{module} imports {name}"
        for module, tree in modules()
        if room_of(module) not in TORCH_ROOMS and module not in TORCH_FILES
        for name in imported(tree)
        if name.split(".")[0] in {"torch", "transformers"}
    ]
    assert not offences, "\n".join(offences)


def test_serving_knows_no_http_framework() -> None:
    offences = [
        f"{module} imports {name}"
        for module, tree in modules()
        if room_of(module) == "serving"
        for name in imported(tree)
        if name.split(".")[0] in {"starlette", "uvicorn"}
    ]
    assert not offences, "\n".join(offences)


def top_level_rooms() -> list[str]:
    return sorted(room for room in MAY_IMPORT if (SOURCE / room).is_dir() or (SOURCE / f"{room}.py").exists())


@pytest.mark.parametrize("room", [room for room in top_level_rooms() if room not in TORCH_ROOMS])
def test_importing_a_room_loads_no_torch(room: str) -> None:
    code = f"import sys, empu.{room}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"import empu.{room} failed or loaded torch: {done.stderr}"
