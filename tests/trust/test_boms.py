"""Bills of materials come from the ledger alone, and are valid by the validators of their makers."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from huggingface_hub import ModelCard

from empu.members.member import LANGUAGE_MODEL, TITLES
from empu.trust.card import render_card
from empu.trust.cyclonedx import cyclonedx_bom
from empu.trust.eu_summary import eu_summary
from empu.trust.facts import Facts, read_facts
from empu.trust.gate import decide
from empu.trust.licence_terms import all_licences
from empu.trust.members import LANGUAGE_MODEL_ALONE
from empu.trust.openness import openness_page, openness_rows
from empu.trust.spdx import spdx_bom
from tests.specialist.workspace import Workspace
from tests.trust.conftest import store_and_model


@pytest.fixture
def facts(apache: Workspace) -> Facts:
    return read_facts(*store_and_model(apache, "desk"))


def cyclonedx_error(document: dict[str, Any]) -> object:
    """Return the first error that the strict validator of CycloneDX finds; ``None`` if there is none."""
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_7)
    return validator.validate_str(json.dumps(document))


def test_cyclonedx_is_valid(facts: Facts) -> None:
    assert cyclonedx_error(cyclonedx_bom(facts)) is None


def test_cyclonedx_validator_finds_errors(facts: Facts) -> None:
    document = cyclonedx_bom(facts)
    document["metadata"]["component"]["modelCard"]["made_up"] = 1
    assert cyclonedx_error(document) is not None


@pytest.mark.parametrize("licence", [*all_licences(), "unknown", "GPL-3.0-only", "my own (v2)"])
def test_documents_are_valid_for_every_licence(facts: Facts, licence: str) -> None:
    changed = json.loads(json.dumps(facts)) | {"licence": licence}
    for part in (*changed["base_models"], *changed["data_files"]):
        part["licence"] = licence
    assert cyclonedx_error(cyclonedx_bom(changed)) is None
    spdx_objects(spdx_bom(changed))


def test_cyclonedx_states_what_the_ledger_states(facts: Facts, apache: Workspace) -> None:
    document = json.loads(apache.empu("bom", "desk")[0])
    component = document["metadata"]["component"]
    shown = apache.json("show", "desk")
    assert component["bom-ref"] == shown["id"]
    metrics = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    own = shown["card"]["scores"][-1]["metrics"]["accuracy"]["value"]
    assert [m["value"] for m in metrics if m["type"] == "accuracy" and m["slice"].startswith("desk")] == [repr(own)]
    licences = {c["name"]: c["licenses"][0]["license"].get("id") for c in document["components"]}
    assert (licences["Small base"], licences["rows.csv"]) == ("Apache-2.0", "CC-BY-4.0")
    data = next(c for c in document["components"] if c["type"] == "data")
    assert data["hashes"][0]["content"] == facts["data_files"][0]["sha256"]


def spdx_objects(document: dict[str, Any]) -> Any:
    """Read a document with the bindings of SPDX, which check types, required properties and enumerations."""
    model = pytest.importorskip("spdx_python_model").v3_0_1
    objects = model.SHACLObjectSet()
    model.JSONLDDeserializer().read(io.BytesIO(json.dumps(document).encode()), objects)
    missing = objects.link()
    assert not missing, f"references to nothing: {missing}"
    return objects


def test_spdx_is_valid_and_links_model_base_and_rows(facts: Facts, apache: Workspace) -> None:
    document = json.loads(apache.empu("bom", "desk", "--format", "spdx")[0])
    spdx_objects(document)
    relations = {e["relationshipType"] for e in document["@graph"] if e["type"] == "Relationship"}
    links = {"contains", "descendantOf", "trainedOn", "testedOn", "hasDeclaredLicense"}
    assert relations == (links | {"dependsOn"} if facts["encoder"] else links)
    kinds = [element["type"] for element in document["@graph"]]
    assert kinds.count("ai_AIPackage") == (3 if facts["encoder"] else 2)
    assert kinds.count("dataset_DatasetPackage") == 1
    ids = {element["spdxId"] for element in document["@graph"] if "spdxId" in element}
    for element in document["@graph"]:
        if element["type"] == "Relationship":
            assert {element["from"], *element["to"]} <= ids


def test_equal_facts_give_equal_documents(facts: Facts) -> None:
    assert cyclonedx_bom(facts) == cyclonedx_bom(json.loads(json.dumps(facts)))
    assert spdx_bom(facts) == spdx_bom(json.loads(json.dumps(facts)))


def test_bom_is_written_to_a_file(apache: Workspace) -> None:
    apache.empu("bom", "desk", "--out", "bom.json")
    assert json.loads((apache.folder / "bom.json").read_text())["specVersion"] == "1.7"
    _, err = apache.empu("bom", "desk", "--out", "absent/bom.json", exit_code=2)
    assert "is not a folder" in err


def with_members(facts: Facts) -> Facts:
    """Return the facts of a specialist that asks two members beside its language model."""
    changed: Facts = json.loads(json.dumps(facts))
    own = next(evaluation for evaluation in changed["evaluations"] if evaluation["is_this_model"])
    alone = json.loads(json.dumps(own)) | {"system": LANGUAGE_MODEL_ALONE, "is_this_model": False, "is_exported": True}
    alone["metrics"]["accuracy"]["value"] = 0.125
    own["is_exported"] = False
    changed["evaluations"].insert(0, alone)
    return changed | {"members": ["embeddings", "tfidf"], "encoder": "small@1234", "encoder_licence": "unknown"}


def test_documents_name_the_encoder_of_a_mixture(facts: Facts) -> None:
    changed = with_members(facts)
    assert cyclonedx_error(cyclonedx_bom(changed)) is None
    assert "encoder:small@1234" in {c["bom-ref"] for c in cyclonedx_bom(changed)["components"]}
    spdx_objects(spdx_bom(changed))


def test_card_of_a_mixture_gives_the_scores_of_what_was_exported(facts: Facts) -> None:
    text = render_card(with_members(facts), decide("export", []), "desk")
    metadata: Any = ModelCard(text).data
    assert {result.metric_type: result.metric_value for result in metadata.eval_results}["accuracy"] == 0.125
    assert "These files are the language model alone; its scores are in the row “language model alone”." in text


def test_the_name_of_the_language_model_alone_is_that_of_evaluations() -> None:
    assert TITLES[LANGUAGE_MODEL] == LANGUAGE_MODEL_ALONE


def test_summary_and_self_check_say_what_is_known_and_what_is_not(facts: Facts) -> None:
    summary = eu_summary(facts)
    for heading in ("1.1 Provider", "2.3 Data crawled", "2.5 Synthetic", "3.1 Reservations", "3.2 Removal"):
        assert f"### {heading}" in summary
    assert "licence: CC-BY-4.0" in summary
    rows = openness_rows(facts)
    assert [row.standard for row in rows].count("OSAID 1.0") == 3
    assert sum(row.standard.startswith("MOF") for row in rows) == 17
    states = {(row.standard, row.component): (row.base, row.specialist) for row in rows}
    assert states["OSAID 1.0", "parameters"] == ("open: Apache-2.0", "open: Apache-2.0")
    assert states["MOF class I", "data sets"] == ("not known", "CC-BY-4.0; open if you publish the rows")
    closed = openness_rows(facts | {"licence": "llama3.1"})
    assert "not open by OSI's list: llama3.1" in {row.specialist for row in closed}
    assert openness_page(facts).count("\n| ") == 21
