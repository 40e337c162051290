"""Imports in ``web/src``: no loops, and each folder imports only folders below it."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "web" / "src"
LAYERS = ["lib", "stores", "i18n", "components", "pages", "."]
"""Folders of ``web/src``, lowest first. ``.`` is ``main.tsx`` and ``app.tsx``."""
SUFFIXES = ("", ".ts", ".tsx", "/index.ts", "/index.tsx")
IMPORT = re.compile(r"""\b(?:from|import)\s*\(?\s*["'](\.[^"']*)["']""")
"""Static imports, re-exports, type imports and dynamic imports of a relative path."""


def resolve(module: Path, path: str) -> Path:
    """Return the file that ``module`` imports as ``path``."""
    target = module.parent / path
    for suffix in SUFFIXES:
        candidate = Path(f"{target}{suffix}").resolve()
        if candidate.is_file():
            return candidate
    pytest.fail(f"{module} imports {path}, which does not exist")


def import_graph(source: Path) -> dict[str, set[str]]:
    """Return each module with the modules that it imports, as paths below ``source``."""
    graph = {}
    for module in sorted([*source.rglob("*.ts"), *source.rglob("*.tsx")]):
        imported = {resolve(module, path) for path in IMPORT.findall(module.read_text(encoding="utf-8"))}
        graph[module.relative_to(source).as_posix()] = {path.relative_to(source).as_posix() for path in imported}
    return graph


def find_loop(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of an import loop, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        loop: list[str] = error.args[1]
        return loop
    return []


def layer_of(module: str) -> int:
    return LAYERS.index(module.split("/")[0] if "/" in module else ".")


def test_modules_import_each_other_in_no_loop() -> None:
    graph = import_graph(SOURCE)
    assert len(graph) > 30
    assert sum(map(len, graph.values())) > 100
    assert find_loop(graph) == []


def test_folders_import_only_lower_folders() -> None:
    violations = [
        f"{module} imports {imported}"
        for module, imports in import_graph(SOURCE).items()
        for imported in imports
        if imported.endswith((".ts", ".tsx")) and layer_of(imported) > layer_of(module)
    ]
    assert not violations, "\n".join(violations)


def test_a_loop_is_found(tmp_path: Path) -> None:
    (tmp_path / "ui").mkdir()
    (tmp_path / "shell.tsx").write_text('import { Sidebar } from "./ui/sidebar";\n')
    (tmp_path / "ui" / "sidebar.tsx").write_text('const shell = await import("../shell");\nimport "./base.css";\n')
    (tmp_path / "ui" / "base.css").touch()
    assert set(find_loop(import_graph(tmp_path))) == {"shell.tsx", "ui/sidebar.tsx"}
