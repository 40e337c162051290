"""CycloneDX 1.7 bill of materials of a specialist (ML-BOM), in JSON: https://cyclonedx.org/docs/1.7/json/.

Components: the specialist with its model card, its base models, and its data files. Written from the facts alone, so
equal facts give equal documents; the serial number is derived from them.
"""

from __future__ import annotations

import uuid
from typing import Any

from empu.ledger.hashing import PREFIX, canonical_json
from empu.trust.facts import Facts
from empu.trust.licence_terms import terms_of

SPEC_VERSION = "1.7"
_SERIAL_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:empu:bom")

Json = dict[str, Any]


def cyclonedx_bom(facts: Facts) -> Json:
    """Return the document."""
    references = [base["id"] for base in facts["base_models"]]
    references += [_data_ref(data) for data in facts["data_files"]]
    encoders = [_encoder(facts)] if facts["encoder"] else []
    references += [encoder["bom-ref"] for encoder in encoders]
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SERIAL_NAMESPACE, canonical_json(facts).decode())}",
        "version": 1,
        "metadata": {
            "timestamp": facts["run"]["ended_at"] or facts["added_at"],
            "tools": {
                "components": [{"type": "application", "name": "empu", "version": facts["empu_version"]}],
            },
            "component": _specialist(facts),
        },
        "components": [*map(_base, facts["base_models"]), *map(_data, facts["data_files"]), *encoders],
        "dependencies": [
            {"ref": facts["id"], "dependsOn": references},
            *({"ref": reference} for reference in references),
        ],
    }


def _specialist(facts: Facts) -> Json:
    return {
        "type": "machine-learning-model",
        "bom-ref": facts["id"],
        "name": facts["name"],
        "version": facts["id"].removeprefix(PREFIX)[:12],
        "licenses": _licences(facts["licence"]),
        "components": [_file(facts["id"], file) for file in facts["files"]],
        "pedigree": {"ancestors": [_ancestor(base) for base in facts["base_models"]]},
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "architectureFamily": facts["architecture"],
                "datasets": [{"ref": _data_ref(data)} for data in facts["data_files"]],
                "inputs": [{"format": "text"}],
                "outputs": [{"format": "text"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": _metrics(facts)},
            "considerations": {"technicalLimitations": facts["not_known"]},
            "properties": _properties(facts),
        },
    }


def _metrics(facts: Facts) -> list[Json]:
    return [
        {
            "type": name,
            "value": repr(metric["value"]),
            "slice": f"{evaluation['system']}, {evaluation['split']} rows, {metric['rows']} rows",
            "confidenceInterval": {"lowerBound": repr(metric["low"]), "upperBound": repr(metric["high"])},
        }
        for evaluation in facts["evaluations"]
        for name, metric in evaluation["metrics"].items()
    ]


def _properties(facts: Facts) -> list[Json]:
    run = facts["run"]
    values = {
        "empu:run": run["id"],
        "empu:dataset": facts["dataset"],
        "empu:seed": run["seed"],
        "empu:code": run["code"],
        "empu:steps": run["steps"],
        "empu:members": ", ".join(facts["members"]) or None,
        "empu:ledger-head": facts["ledger_head"],
        **{f"empu:recipe:{name}": value for name, value in run["recipe"].items()},
        **{f"empu:excluded-rows:{reason}": count for reason, count in facts["excluded_rows"].items()},
    }
    return [{"name": name, "value": str(value)} for name, value in values.items() if value is not None]


def _base(base: Facts) -> Json:
    disclosed = [{"name": f"empu:disclosed:{who}", "value": str(says)} for who, says in base["disclosed"].items()]
    return {
        "type": "machine-learning-model",
        "bom-ref": base["id"],
        "name": base["title"] or base["name"],
        "version": base["id"].removeprefix(PREFIX)[:12],
        "licenses": _licences(base["licence"]),
        "components": [_file(base["id"], file) for file in base["files"]],
        "properties": disclosed,
    }


def _encoder(facts: Facts) -> Json:
    name, _, version = facts["encoder"].partition("@")
    licences = _licences(facts["encoder_licence"])
    return {
        "type": "machine-learning-model",
        "bom-ref": f"encoder:{facts['encoder']}",
        "name": name,
        **({"version": version} if version else {}),
        "licenses": licences,
    }


def _ancestor(base: Facts) -> Json:
    name, version = base["title"] or base["name"], base["id"].removeprefix(PREFIX)[:12]
    return {"type": "machine-learning-model", "name": name, "version": version}


def _file(owner: str, file: Facts) -> Json:
    return {
        "type": "file",
        "bom-ref": f"{owner}/{file['name']}",
        "name": file["name"],
        "hashes": [{"alg": "SHA-256", "content": file["sha256"]}],
        "properties": [{"name": "empu:bytes", "value": str(file["size"])}],
    }


def _data(data: Facts) -> Json:
    rows = [{"name": f"empu:rows:{split}", "value": str(count)} for split, count in sorted(data["rows"].items())]
    return {
        "type": "data",
        "bom-ref": _data_ref(data),
        "name": data["file"],
        "hashes": [{"alg": "SHA-256", "content": data["sha256"]}],
        "licenses": _licences(data["licence"]),
        "data": [{"type": "dataset", "name": data["file"], "contents": {"properties": rows}}],
    }


def _data_ref(data: Facts) -> str:
    return f"data:{PREFIX}{data['sha256']}:{data['licence']}"


def _licences(licence: str) -> list[Json]:
    """Return the licence as SPDX id where it has one, otherwise by name."""
    terms = terms_of(licence)
    if terms is None:
        return [{"license": {"name": licence}}]
    is_spdx = terms.category != "model"
    return [{"license": {"id" if is_spdx else "name": terms.id, "url": terms.source}}]
