"""docs/ARCHITECTURE.md shows the packages and their imports as they are."""

from __future__ import annotations

import re

from tests.test_imports import BASE, MAY_IMPORT, SOURCE

PAGE = SOURCE.parents[1] / "docs" / "ARCHITECTURE.md"
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \|(?: ([\w, ]*?) \|| \|)$", re.MULTILINE)


def documented() -> dict[str, set[str]]:
    table = {}
    for name, _, imports in ROW.findall(PAGE.read_text(encoding="utf-8")):
        names = {part.strip() for part in imports.split(",") if part.strip()}
        table[name] = (names - {"base"}) | (BASE if "base" in names else set())
    return table


def test_the_page_lists_every_package_with_its_imports() -> None:
    assert {name: imports for name, imports in documented().items() if name != "cli"} == MAY_IMPORT
    assert documented()["cli"] == {"everything"}


def test_every_package_is_in_the_table() -> None:
    packages = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()}
    files = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert packages | files == set(MAY_IMPORT) | {"cli"}


def test_every_folder_of_the_native_code_is_named() -> None:
    folders = {path.name for path in (SOURCE.parents[1] / "native" / "src").iterdir() if path.is_dir()}
    assert folders == set(re.findall(r"^\| `(\w+)/` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
