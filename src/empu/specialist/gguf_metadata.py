"""Metadata of an exported GGUF file, made from those of its base model's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DESCRIBES_THE_BASE = frozenset(
    (
        *("name", "author", "organization", "version", "basename", "finetune", "description", "quantized_by"),
        *("uuid", "doi", "url", "repo_url", "base_model", "source"),
    )
)
"""``general.*`` keys that describe the base model and would be wrong for a specialist."""


def exported_metadata(metadata: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """Return the metadata of a file that is written from a file with ``metadata``.

    With ``name``, the new file is a specialist of that name and the other file is its base model. Without, both are the
    same model. How the other file was quantised is dropped, because the weights are quantised again.
    """
    general = {key.removeprefix("general."): value for key, value in metadata.items() if key.startswith("general.")}
    dropped = {"quantized_by"} if name is None else _DESCRIBES_THE_BASE
    kept = {f"general.{key}": value for key, value in general.items() if key.partition(".")[0] not in dropped}
    others = {key: value for key, value in metadata.items() if not key.startswith(("general.", "quantize."))}
    if name is None:
        return kept | others
    base = {
        f"general.base_model.0.{key}": general[key] for key in ("name", "organization", "repo_url") if key in general
    }
    return kept | {"general.name": name} | ({"general.base_model.count": 1} | base if base else {}) | others
