"""Self-check of a specialist and its base against OSAID 1.0 and the Model Openness Framework, as a table.

Sources: the Open Source AI Definition 1.0 (https://opensource.org/ai/open-source-ai-definition) and the Model Openness
Framework (arXiv:2403.13784, 17 components in three classes). It states what the ledger knows and awards no class.
"""

from __future__ import annotations

from dataclasses import dataclass

from empu.ledger.licences import find_by_name
from empu.ledger.records import UNKNOWN
from empu.trust.facts import Facts

NOT_KNOWN = "not known"
OPEN_CONTENT = frozenset(
    {"CC0-1.0", "CC-BY-4.0", "CC-BY-3.0", "CC-BY-SA-4.0", "CC-BY-SA-3.0", "ODC-By-1.0", "ODbL-1.0"}
)
EMPU_CODE = "open: Empu, Apache-2.0"


@dataclass(frozen=True, slots=True)
class OpennessRow:
    """One component of one standard: its state for the base and for the specialist."""

    standard: str
    component: str
    base: str
    specialist: str


def openness_rows(facts: Facts) -> list[OpennessRow]:
    """Return the self-check, one row per component."""
    base = facts["base_models"][-1] if facts["base_models"] else None
    base_weights = _weights(base["licence"] if base is not None else UNKNOWN)
    weights = _weights(facts["licence"])
    statements = [says for says in base["disclosed"].values() if says != "not disclosed"] if base is not None else []
    base_data = "stated by its makers, not verified: see the bill of materials" if statements else NOT_KNOWN
    own_data = _data(facts)
    scores = "recorded with intervals" if facts["evaluations"] else "missing: not evaluated"
    mof3, mof2, mof1 = (f"MOF class {number}" for number in ("III", "II", "I"))
    return [
        OpennessRow("OSAID 1.0", "data information", base_data, f"every row recorded; {own_data}"),
        OpennessRow("OSAID 1.0", "code", NOT_KNOWN, EMPU_CODE),
        OpennessRow("OSAID 1.0", "parameters", base_weights, weights),
        OpennessRow(mof3, "model architecture", "open: implemented in Empu, Apache-2.0", EMPU_CODE),
        OpennessRow(mof3, "final parameters", base_weights, weights),
        OpennessRow(mof3, "technical report", NOT_KNOWN, "missing"),
        OpennessRow(mof3, "evaluation results", NOT_KNOWN, scores),
        OpennessRow(mof3, "model card", NOT_KNOWN, "written by empu export"),
        OpennessRow(mof3, "data card", NOT_KNOWN, "in the model card"),
        OpennessRow(mof3, "sample outputs", NOT_KNOWN, "answers to the test rows are in the ledger"),
        OpennessRow(mof2, "training code", NOT_KNOWN, EMPU_CODE),
        OpennessRow(mof2, "inference code", EMPU_CODE, EMPU_CODE),
        OpennessRow(mof2, "evaluation code", NOT_KNOWN, EMPU_CODE),
        OpennessRow(mof2, "evaluation data", NOT_KNOWN, own_data),
        OpennessRow(mof2, "supporting libraries and tools", NOT_KNOWN, "named in Empu's requirements"),
        OpennessRow(mof1, "research paper", NOT_KNOWN, "missing"),
        OpennessRow(mof1, "data sets", base_data, own_data),
        OpennessRow(mof1, "data preprocessing code", NOT_KNOWN, EMPU_CODE),
        OpennessRow(mof1, "intermediate parameters", NOT_KNOWN, "missing: only the final weights are kept"),
        OpennessRow(mof1, "model metadata", NOT_KNOWN, "in the bill of materials"),
    ]


def openness_page(facts: Facts) -> str:
    """Return the self-check as Markdown."""
    lines = [f"# Openness of {facts['name']}: a self-check", ""]
    lines += ["| standard | component | base model | specialist |", "|---|---|---|---|"]
    lines += [f"| {row.standard} | {row.component} | {row.base} | {row.specialist} |" for row in openness_rows(facts)]
    lines += ["", "Written from the ledger. “Not known” means that neither the files nor their source state it.", ""]
    return "\n".join(lines)


def _weights(licence: str) -> str:
    known = find_by_name(licence)
    if licence == UNKNOWN:
        return f"{NOT_KNOWN}: nobody stated a licence"
    if known is None:
        return f"{licence}, which is not in Empu's table"
    return f"open: {known.id}" if known.open_source else f"not open by OSI's list: {known.id}"


def _data(facts: Facts) -> str:
    licences = sorted({data["licence"] for data in facts["data_files"]})
    if not licences or UNKNOWN in licences:
        return f"{NOT_KNOWN}: the licence of the rows was not stated"
    is_open = all(name in OPEN_CONTENT or ((known := find_by_name(name)) and known.open_source) for name in licences)
    names = ", ".join(licences)
    return f"{names}; open if you publish the rows" if is_open else f"{names}, not an open licence"
