"""The identity of a run covers all code between a row and a weight, and no other code."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from empu.specialist.identity import CODE, PACKAGE, code_files, code_version

WITHOUT_EFFECT = {
    "errors": "messages only",
    "ledger": "hashes and records rows, but does not change them; their ids are in the identity",
    "system.durable": "writes files",
    "system.paths": "expands paths of the user",
    "system.quoting": "quotes text in messages",
}
"""Imported by the code in the identity, directly or not, and the reason why it does not change the weights."""

ROOTS = (
    *("empu.data.prompts", "empu.text", "empu.tune.encoding", "empu.tune.recipe_plan"),
    *("empu.specialist.training", "empu.specialist.hf_folder"),
)
"""Where rows become a task, prompts and token ids, and where weights are computed and written."""

OTHER_CODE = (
    *("cli/main.py", "cli/tune_view.py", "server/app.py", "ledger/ledger.py", "store/store.py", "evals/systems.py"),
    *("specialist/pipeline.py", "specialist/compare.py", "specialist/loss_curve.py", "engine/language_model.py"),
    *("errors.py", "data/reader.py"),
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, without the web page."""
    copy = tmp_path_factory.mktemp("copy") / "empu"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "web", "*.so"))
    return copy


@pytest.fixture
def extension(tmp_path: Path) -> Path:
    path = tmp_path / "_native.so"
    path.write_bytes(b"compiled")
    return path


def edited(path: Path, package: Path, extension: Path) -> str:
    """Return the code version with a comment at the end of ``path``, and undo the edit."""
    content = path.read_bytes()
    path.write_bytes(content + b"# edited\n")
    try:
        return code_version(package, extension)
    finally:
        path.write_bytes(content)


def test_an_edit_of_any_code_between_a_row_and_a_weight_changes_the_identity(package: Path, extension: Path) -> None:
    before = code_version(package, extension)
    files = [*code_files(package), extension]
    versions = {edited(path, package, extension) for path in files}
    assert before not in versions
    assert len(versions) == len(files)
    assert code_version(package, extension) == before


def test_an_edit_of_other_code_does_not_change_the_identity(package: Path, extension: Path) -> None:
    before = code_version(package, extension)
    (package / "server" / "web").mkdir(parents=True, exist_ok=True)
    (package / "server" / "web" / "index.html").write_text("<p>hello</p>")
    assert all(edited(package / name, package, extension) == before for name in OTHER_CODE)


def test_a_new_file_in_the_training_code_changes_the_identity(package: Path, extension: Path) -> None:
    before = code_version(package, extension)
    path = package / "tune" / "objectives" / "new.py"
    path.write_text("")
    try:
        assert code_version(package, extension) != before
    finally:
        path.unlink()


def test_every_module_that_the_training_code_imports_is_in_the_identity_or_has_no_effect() -> None:
    in_identity = {path.relative_to(PACKAGE).as_posix() for path in code_files()}
    missing = []
    for module in sorted(import_closure(ROOTS)):
        relative = module_path(module).relative_to(PACKAGE).as_posix()
        name = module.removeprefix("empu.")
        has_no_effect = any(name == other or name.startswith(f"{other}.") for other in WITHOUT_EFFECT)
        if relative not in in_identity and not has_no_effect and not relative.endswith("__init__.py"):
            missing.append(module)
    assert not missing, f"add these to CODE in specialist/identity.py, or to WITHOUT_EFFECT here: {missing}"


def test_every_entry_exists() -> None:
    assert [name for name in CODE if not (PACKAGE / name).exists()] == []


def import_closure(roots: tuple[str, ...]) -> set[str]:
    """Return all modules of the package that the roots import, directly or not."""
    modules: set[str] = set()
    pending = list(roots)
    while pending:
        module = pending.pop()
        if module in modules or not module_path(module).exists():
            continue
        modules.add(module)
        pending += imports(module)
    return modules


def imports(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(module_path(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "empu":
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "empu")


def module_path(module: str) -> Path:
    """Return the file of a module or of a package."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
