"""SPDX 3.0.1 bill of materials of a specialist, as JSON-LD with the AI, Dataset, Software and licensing profiles.

https://spdx.github.io/spdx-spec/v3.0.1/. Absent facts are ``noAssertion``, or their property is left out.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from empu.ledger.hashing import PREFIX, canonical_json
from empu.trust.facts import Facts
from empu.trust.licence_terms import terms_of

SPEC_VERSION = "3.0.1"
CONTEXT = f"https://spdx.org/rdf/{SPEC_VERSION}/spdx-context.jsonld"
CREATION = "_:creation"

Json = dict[str, Any]


def spdx_bom(facts: Facts) -> Json:
    """Return the document: a ``@graph`` of elements."""
    graph = _Graph(facts)
    agent = graph.add("SoftwareAgent", "agent/empu", name=f"Empu {facts['empu_version']}")
    model = graph.add("ai_AIPackage", "model", **_model(facts))
    graph.add_files(model, "model", facts["files"])
    graph.add_licence(model, facts["licence"])
    bases = []
    for number, base in enumerate(facts["base_models"]):
        element = graph.add("ai_AIPackage", f"base/{number}", **_base(base))
        graph.add_files(element, f"base/{number}", base["files"])
        graph.add_licence(element, base["licence"])
        bases.append(element)
    if facts["encoder"]:
        name, _, version = facts["encoder"].partition("@")
        encoder = graph.add("ai_AIPackage", "encoder", name=name, software_packageVersion=version or None)
        graph.add_licence(encoder, facts["encoder_licence"])
        graph.relate(model, "dependsOn", [encoder])
    if bases:
        graph.relate(model, "descendantOf", bases)
    data_sets: dict[str, list[str]] = {"trainedOn": [], "testedOn": []}
    for number, data in enumerate(facts["data_files"]):
        element = graph.add("dataset_DatasetPackage", f"data/{number}", **_data(data, facts))
        graph.add_licence(element, data["licence"])
        for relation, splits in (("trainedOn", {"train", "dev"}), ("testedOn", {"test"})):
            if splits & set(data["rows"]):
                data_sets[relation].append(element)
    for relation, elements in data_sets.items():
        if elements:
            graph.relate(model, relation, elements)
    creation = {
        "type": "CreationInfo",
        "@id": CREATION,
        "specVersion": SPEC_VERSION,
        "created": _time(facts["run"]["ended_at"] or facts["added_at"]),
        "createdBy": [agent],
    }
    document = {
        "type": "SpdxDocument",
        "spdxId": graph.iri("document"),
        "creationInfo": CREATION,
        "name": facts["name"],
        "rootElement": [model],
        "element": [element["spdxId"] for element in graph.elements],
        "profileConformance": ["core", "software", "ai", "dataset", "simpleLicensing"],
    }
    return {"@context": CONTEXT, "@graph": [creation, document, *graph.elements]}


class _Graph:
    """Elements with addresses that follow from the facts."""

    def __init__(self, facts: Facts) -> None:
        self._namespace = f"urn:empu:spdx:{hashlib.sha256(canonical_json(facts)).hexdigest()}"
        self._licences: dict[str, str] = {}
        self.elements: list[Json] = []

    def iri(self, name: str) -> str:
        return f"{self._namespace}#{name}"

    def add(self, kind: str, path: str, /, **properties: Any) -> str:
        present = {key: value for key, value in properties.items() if value is not None}
        self.elements.append({"type": kind, "spdxId": self.iri(path), "creationInfo": CREATION, **present})
        return self.iri(path)

    def relate(self, source: str, relation: str, targets: list[str]) -> None:
        name = f"relationship/{sum(1 for element in self.elements if element['type'] == 'Relationship')}"
        self.add("Relationship", name, **{"from": source, "to": targets, "relationshipType": relation})

    def add_files(self, owner: str, name: str, files: list[Facts]) -> None:
        elements = [
            self.add(
                "software_File",
                f"{name}/file/{number}",
                name=file["name"],
                software_primaryPurpose="model"
                if file["name"].endswith((".safetensors", ".gguf"))
                else "configuration",
                verifiedUsing=[_hash(file["sha256"])],
            )
            for number, file in enumerate(files)
        ]
        if elements:
            self.relate(owner, "contains", elements)

    def add_licence(self, element: str, licence: str) -> None:
        """Relate an element to its licence expression. An unknown licence is no assertion and stays out."""
        if licence == "unknown":
            return
        if licence not in self._licences:
            terms = terms_of(licence)
            is_spdx = terms is not None and terms.category != "model"
            reference = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in licence)
            custom = None if is_spdx or terms is None else [_entry(f"LicenseRef-{reference}", terms.source)]
            self._licences[licence] = self.add(
                "simplelicensing_LicenseExpression",
                f"licence/{len(self._licences)}",
                simplelicensing_licenseExpression=licence if is_spdx else f"LicenseRef-{reference}",
                simplelicensing_customIdToUri=custom,
                comment=None if terms is None else f"{terms.title}: {terms.source}",
            )
        self.relate(element, "hasDeclaredLicense", [self._licences[licence]])


def _model(facts: Facts) -> Json:
    run = facts["run"]
    return {
        "name": facts["name"],
        "software_packageVersion": facts["id"].removeprefix(PREFIX)[:12],
        "software_primaryPurpose": "model",
        "ai_typeOfModel": ["transformer", facts["architecture"]],
        "ai_informationAboutTraining": (
            f"Run {run['id']}: {run['steps']} steps, seed {run['seed']}, code {run['code']}, "
            f"data set {facts['dataset']}."
        ),
        "ai_hyperparameter": [_entry(key, value) for key, value in run["recipe"].items() if value is not None] or None,
        "ai_metric": [
            _entry(f"{evaluation['system']}: {name}", metric["value"])
            for evaluation in facts["evaluations"]
            for name, metric in evaluation["metrics"].items()
        ]
        or None,
        "ai_limitation": " ".join(facts["not_known"]) or None,
    }


def _base(base: Facts) -> Json:
    disclosed = " ".join(f"{who}: {says}." for who, says in base["disclosed"].items())
    return {
        "name": base["title"] or base["name"],
        "software_packageVersion": base["id"].removeprefix(PREFIX)[:12],
        "software_primaryPurpose": "model",
        "ai_informationAboutTraining": disclosed or None,
    }


def _data(data: Facts, facts: Facts) -> Json:
    rows = ", ".join(f"{count} {split}" for split, count in sorted(data["rows"].items()))
    excluded = [f"{count} rows excluded: {reason}" for reason, count in facts["excluded_rows"].items()]
    return {
        "name": data["file"],
        "software_primaryPurpose": "data",
        "verifiedUsing": [_hash(data["sha256"])],
        "dataset_datasetType": ["text"],
        "dataset_datasetSize": data["bytes"],
        "dataset_dataCollectionProcess": f"Rows of one file: {rows}.",
        "dataset_dataPreprocessing": excluded or None,
    }


def _entry(key: str, value: object) -> Json:
    return {"type": "DictionaryEntry", "key": key, "value": str(value)}


def _hash(sha256: str) -> Json:
    return {"type": "Hash", "algorithm": "sha256", "hashValue": sha256}


def _time(text: str) -> str:
    """Return a time as SPDX writes it: UTC, whole seconds, with Z."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
