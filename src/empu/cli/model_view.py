"""A stored model as text and as JSON, for the commands that show one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from empu.cli import output
from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.ledger.scores import HeadlineScore, headline_score
from empu.store.model_record import ModelRecord
from empu.store.store import Store
from empu.store.stored_model import StoredModel


def document(model: StoredModel) -> dict[str, Any]:
    """Return the model's record with its name, id, path and size, for JSON."""
    record = model.record.to_json()
    record.update(
        name=model.name,
        id=tagged(model.record.id),
        path=str(model.path),
        size=model.record.size,
    )
    return record


def scores(store: Store, models: Sequence[StoredModel]) -> dict[str, HeadlineScore]:
    """Return model id -> the newest score; none for models that were not evaluated."""
    if not store.ledger_path.is_file():
        return {}
    with Ledger.open(store.ledger_path) as ledger:
        found = {model.record.id: headline_score(ledger, model.record.id) for model in models}
    return {model_id: score for model_id, score in found.items() if score is not None}


def score_document(score: HeadlineScore | None) -> dict[str, Any] | None:
    """Return a score as JSON."""
    return dataclasses.asdict(score) if score is not None else None


def table_row(model: StoredModel, score: HeadlineScore | None = None) -> tuple[str, ...]:
    """Return one line of ``empu models``."""
    record = model.record
    return (
        model.name or "-",
        record.id[:12],
        output.format_bytes(record.size),
        output.format_count(record.parameters),
        ", ".join(record.base_models) or record.title or "-",
        f"{record.format} {record.storage}",
        record.licence.id or "not stated",
        f"{score.metric} {score.value:.1%} of {score.rows:,} rows" if score is not None else "-",
        record.added_at[:10],
    )


def summary(record: ModelRecord) -> list[tuple[str, str]]:
    """Return what ``empu pull`` prints after a pull."""
    return [
        ("model", record.title or "-"),
        ("id", tagged(record.id)),
        ("parameters", f"{output.format_count(record.parameters)}, {record.format} {record.storage}"),
        ("licence", licence(record)),
        ("training data", disclosure(record)),
    ]


def details(model: StoredModel) -> list[tuple[str, str]]:
    """Return the whole record for ``empu show``."""
    record, config = model.record, model.record.config
    heads = f"{config['n_heads']} heads, {config['n_kv_heads']} key/value heads of {config['head_dim']}"
    types = ", ".join(f"{count} {name}" for name, count in record.tensor_types.items())
    files = [f"{file.name}  {output.format_bytes(file.size)}  {tagged(file.sha256)}" for file in record.files]
    return [
        ("name", model.name or "- (not in the store)"),
        ("model", record.title or "not stated"),
        ("id", tagged(record.id)),
        ("base", ", ".join(record.base_models) or "not stated"),
        ("architecture", record.architecture),
        ("parameters", f"{record.parameters:,}"),
        ("layers", f"{config['n_layers']} of width {config['dim']}, feed-forward {config['ffn_dim']}"),
        ("attention", heads),
        ("vocabulary", f"{config['vocab_size']:,} tokens" + (", output tied" if config["tie_embeddings"] else "")),
        ("context", f"{config['context_length']:,} tokens"),
        ("rotary", rotary(config)),
        ("format", record.format),
        ("tensors", types),
        ("files", "\n".join(files)),
        ("size", output.format_bytes(record.size)),
        ("path", str(model.path)),
        ("licence", licence(record)),
        ("source", source(record)),
        ("training data", disclosure(record)),
        ("added", f"{record.added_at} as {record.pulled_as}, by empu {record.empu_version}"),
    ]


def rotary(config: Mapping[str, Any]) -> str:
    """Describe rotary embedding: theta and scaling."""
    scaling = config["rope_scaling"]
    parts = ", ".join(f"{name} {value:g}" for name, value in scaling.items()) if scaling else "none"
    return f"theta {config['rope_theta']:,.0f}, scaling: {parts}"


def licence(record: ModelRecord) -> str:
    """Describe the licence: id, title, note, and its source."""
    stated = record.licence
    if stated.id is None:
        return "not stated by its source; ask the publisher before you rely on it"
    lines = [f"{stated.id} ({stated.title})" if stated.title and stated.title != stated.id else stated.id]
    if stated.note:
        lines.append(stated.note)
    if stated.according_to:
        lines.append(f"according to {stated.according_to}")
    return "\n".join(lines)


def disclosure(record: ModelRecord) -> str:
    """Describe what is disclosed about the training data: by the files, then by others."""
    lines = [f"in its files: {record.disclosure.in_files}"]
    lines += [f"according to {said.according_to}: {said.says}" for said in record.disclosure.statements]
    return "\n".join(lines)


def source(record: ModelRecord) -> str:
    """Return the address and revision that the model came from."""
    origin = record.source
    return origin.address + (f" at {origin.revision}" if origin.revision else "")
