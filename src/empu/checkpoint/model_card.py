"""Provenance from the documents in a model's folder: README front matter, LICENSE and USE_POLICY files.

The front matter of a model card is YAML. Only four of its keys are of use here, each a string or a list of strings.
Everything else is skipped silently: a README must never prevent a model from opening.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from empu.checkpoint.base import Provenance

_MAX_BYTES = 1 << 20
_KEY = re.compile(r"([A-Za-z_][\w-]*):(?:[ \t]+(.*))?")
_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)")
_LICENCE_FILES = re.compile(r"(licen[cs]e|copying)([.-].*)?", re.IGNORECASE)
_POLICY_FILES = re.compile(r"use_?policy([.-].*)?", re.IGNORECASE)

LEGAL_FILE_PATTERNS = (_LICENCE_FILES, re.compile(r"notice(\..*)?", re.IGNORECASE), _POLICY_FILES)


def legal_files(folder: Path) -> list[Path]:
    """Return the licence, notice and policy files of a folder, licences first."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return [path for pattern in LEGAL_FILE_PATTERNS for path in paths if pattern.fullmatch(path.name)]


def provenance_from_folder(folder: Path, source: str | None = None) -> Provenance:
    """Return what the README's front matter and title and the licence file say. ``source`` is copied unchanged."""
    text = _read(folder / "README.md")
    card, body = parse_front_matter(text)
    licence = next(iter(card.get("license", [])), None)
    if licence == "other":
        licence = next(iter(card.get("license_name", [])), licence)
    title = re.search(r"^#[ \t]+(\S.*)$", body, re.MULTILINE)
    datasets = card.get("datasets", [])
    return Provenance(
        name=title.group(1).strip()[:200] if title else None,
        licence=licence,
        licence_text=find_licence_text([folder]),
        source=source,
        base_models=tuple(card.get("base_model", [])),
        training_data=f"data sets named by the model card: {', '.join(datasets)}" if datasets else "not disclosed",
    )


def find_licence_text(folders: Iterable[Path]) -> str | None:
    """Return the text of the first licence file; ``None`` if there is none."""
    for folder in folders:
        for path in legal_files(folder):
            if _LICENCE_FILES.fullmatch(path.name):
                return _read(path) or None
    return None


def parse_front_matter(text: str) -> tuple[dict[str, list[str]], str]:
    """Return the top-level keys with their string values, and the text after the front matter.

    >>> parse_front_matter("---\\nlicense: mit\\ndatasets:\\n- a/b\\n- 'c'\\n---\\n# Title")
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
        if key := _KEY.fullmatch(line):
            current = result.setdefault(key.group(1), [])
            current.extend(_values(key.group(2) or ""))
        elif item := _ITEM.fullmatch(line):
            current.extend(_values(item.group(1)))
    return result, "\n".join(lines[end + 1 :])


def _values(text: str) -> list[str]:
    """Return the strings of a scalar or a list in brackets; none for a mapping or the start of a text block."""
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
            return file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:  # the same as no README
        return ""
