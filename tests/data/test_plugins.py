"""An installed package adds a reader: the example of docs/PLUGINS.md, built and installed, reads a file."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from empu.data.reader import read_rows
from empu.errors import EmpuError
from tests.data.reading import sentences

PAGE = Path(__file__).resolve().parents[2] / "docs" / "PLUGINS.md"
INI = "".join(f"[ticket {i}]\ntext = {text}\nlabel = {label}\n\n" for i, (text, label) in enumerate(sentences(12)))


def install(folder: Path, module: str, project: str, name: str) -> Path:
    """Build and install a package of one module; return the folder that it is installed in."""
    source, target = folder / f"source-{name}", folder / "site"
    source.mkdir()
    (source / f"{name}.py").write_text(module)
    (source / "pyproject.toml").write_text(project)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*command, str(target), str(source)], check=True, capture_output=True, cwd=folder)
    return target


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Remove the modules of installed plug-ins after the test."""
    yield monkeypatch
    for name in ("empu_ini", "empu_broken"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


def test_the_example_of_the_page_reads_a_file_once_it_is_installed(tmp_path: Path, on_path: pytest.MonkeyPatch) -> None:
    pytest.importorskip("setuptools")
    module, project = re.findall(r"```(?:python|toml)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "tickets.ini"
    path.write_text(INI)
    with pytest.raises(EmpuError):
        read_rows(path)
    on_path.syspath_prepend(str(install(tmp_path, module, project, "empu_ini")))
    importlib.invalidate_caches()
    data = read_rows(path)
    assert [(row.question(), row.label) for row in data.rows()] == sentences(12)
    assert data.lines() == [
        f"{path}: ini, text = column 'text', label = column 'label' (by their names)",
        f"{path}: read by the plug-in empu-ini",
    ]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("raise RuntimeError('no licence')", "cannot be loaded"),
        (
            "class R:\n  name = 'r'\n  def matches(self, path, start): return True\n"
            "  def records(self, path): return 1 / 0\nREADER = R()",
            "cannot be read by the plug-in empu-broken",
        ),
    ],
)
def test_a_plug_in_that_fails_is_named(tmp_path: Path, on_path: pytest.MonkeyPatch, body: str, named: str) -> None:
    site = tmp_path / "site"
    (site / "empu_broken-1.0.dist-info").mkdir(parents=True)
    (site / "empu_broken.py").write_text(body)
    info = site / "empu_broken-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: empu-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[empu.readers]\nx = empu_broken:READER\n")
    on_path.syspath_prepend(str(site))
    importlib.invalidate_caches()
    path = tmp_path / "tickets.ini"
    path.write_text(INI)
    with pytest.raises(EmpuError, match=named):
        read_rows(path)
