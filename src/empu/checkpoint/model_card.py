"""What a folder's papers say of its model: README front matter, LICENSE and USE_POLICY files -> :class:`Provenance`.

The front matter of a model card is YAML, of which only four keys are of use here, each a string or a list of
strings. This reads those and passes over everything else without complaint: a model must not fail to open because
of its README.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from empu.checkpoint.base import Provenance

_LIMIT = 1 << 20
_KEY = re.compile(r"([A-Za-z_][\w-]*):(?:[ \t]+(.*))?")
_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)")
_LICENCE_FILES = re.compile(r"(licen[cs]e|copying)([.-].*)?", re.IGNORECASE)
_POLICY_FILES = re.compile(r"use_?policy([.-].*)?", re.IGNORECASE)

PAPERS = (_LICENCE_FILES, re.compile(r"notice(\..*)?", re.IGNORECASE), _POLICY_FILES)


def papers(folder: Path) -> list[Path]:
    """Licence, notice and policy files of a folder, licences first."""
    names = sorted(path for path in folder.iterdir() if path.is_file())
    return [path for pattern in PAPERS for path in names if pattern.fullmatch(path.name)]


def read_provenance(folder: Path, source: str | None = None) -> Provenance:
    """What the README's front matter, its title and the licence file of ``folder`` say; ``source`` is passed on."""
    text = _read(folder / "README.md")
    card, body = front_matter(text)
    licence = next(iter(card.get("license", [])), None)
    if licence == "other":
        licence = next(iter(card.get("license_name", [])), licence)
    title = re.search(r"^#[ \t]+(\S.*)$", body, re.MULTILINE)
    datasets = card.get("datasets", [])
    return Provenance(
        name=title.group(1).strip()[:200] if title else None,
        licence=licence,
        licence_text=licence_text([folder]),
        source=source,
        base_models=tuple(card.get("base_model", [])),
        training_data=f"data sets named by the model card: {', '.join(datasets)}" if datasets else "not disclosed",
    )


def licence_text(folders: Iterable[Path]) -> str | None:
    """The text of the first licence file found."""
    for folder in folders:
        for path in papers(folder):
            if _LICENCE_FILES.fullmatch(path.name):
                return _read(path) or None
    return None


def front_matter(text: str) -> tuple[dict[str, list[str]], str]:
    """(top-level keys with their string values, the text after the front matter).

    >>> front_matter("---\\nlicense: mit\\ndatasets:\\n- a/b\\n- 'c'\\n---\\n# Title")
    ({'license': ['mit'], 'datasets': ['a/b', 'c']}, '# Title')
    """
    lines = text.lstrip("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return {}, text
    end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() in ("---", "...")), None)
    if end is None:
        return {}, text
    result: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines[1:end]:
        if found := _KEY.fullmatch(line):
            current = result.setdefault(found.group(1), [])
            current.extend(_values(found.group(2) or ""))
        elif item := _ITEM.fullmatch(line):
            current.extend(_values(item.group(1)))
    return result, "\n".join(lines[end + 1 :])


def _values(text: str) -> list[str]:
    """The strings of a scalar or of a list in brackets; nothing for a mapping or the start of a text block."""
    text = _without_comment(text).strip()
    if text.startswith("[") and text.endswith("]"):
        return [value for part in text[1:-1].split(",") for value in _values(part)]
    if not text or text[0] in "{>|&*!" or text in ("null", "~"):
        return []
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    elif ": " in text:
        return []
    return [text[:200]]


def _without_comment(text: str) -> str:
    return text if text.lstrip()[:1] in ("'", '"') else re.split(r"(?:^|\s)#", text, maxsplit=1)[0]


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(_LIMIT).decode("utf-8", "replace")
    except OSError:  # an unreadable README is as good as none
        return ""
