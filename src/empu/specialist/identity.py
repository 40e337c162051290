"""The identity of a run: a hash of everything that determines the weights.

The same identity means the same weights on the same machine. So the code between a row and a weight on disk is part of
it, and code that only reports, serves or stores is not.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from empu import __version__
from empu.ledger.hashing import content_id, hash_file
from empu.text.task import Task
from empu.tune.recipe import Recipe

PACKAGE = Path(__file__).resolve().parents[1]

CODE = (
    "checkpoint",  # base weights and adapters, read and written
    "config.py",
    "data/answer_schema.py",
    "data/packed_rows.py",
    "data/prompts.py",
    "data/rows.py",
    "embed",
    "members",
    "model",
    "specialist/default_instruction.py",
    "specialist/ensemble.py",
    "specialist/hf_folder.py",
    "specialist/identity.py",
    "specialist/plan.py",
    "specialist/saving.py",
    "specialist/training.py",
    "system/files.py",
    "system/json.py",
    "system/json_fields.py",
    "text",
    "tune",
)
"""Modules and packages whose code affects the weights. ``tests/specialist/test_identity.py`` compares this list with
the import graph. The rows themselves are in the identity by their ids, so the code that reads files is not."""


def run_identity(
    base_id: str,
    recipe: Recipe,
    task: Task,
    row_ids: Mapping[str, Sequence[str]],
    members: Mapping[str, Any] | None = None,
) -> str:
    """Return the identity of a run.

    ``row_ids``: split -> ids of its rows, in order. ``members``: what determines the other members of a label
    specialist.
    """
    parts: dict[str, Any] = {"base": base_id, "code": code_version()}
    parts |= {"recipe": recipe.to_json(), "task": task.to_json()}
    if members is not None:
        parts["members"] = members
    return content_id(parts | {split: list(ids) for split, ids in row_ids.items()})


def code_version(package: Path = PACKAGE, extension: Path | None = None) -> str:
    """Return the version of Empu and a hash of the code that determines the weights.

    ``package`` is the folder of the package; ``extension`` is the compiled engine, the installed one by default.
    """
    digest = hashlib.sha256()
    for path in code_files(package):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    extension = extension or _installed_extension()
    if extension is not None:
        digest.update(bytes.fromhex(hash_file(extension)))
    return f"{__version__}+{digest.hexdigest()[:12]}"


def code_files(package: Path = PACKAGE) -> Iterator[Path]:
    """Yield the source files of :data:`CODE`, in a fixed order."""
    for name in CODE:
        path = package / name
        yield from sorted(path.rglob("*.py")) if path.is_dir() else (path,)


def _installed_extension() -> Path | None:
    spec = importlib.util.find_spec("empu.engine._native")
    return Path(spec.origin) if spec is not None and spec.origin is not None else None
