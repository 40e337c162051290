"""Write what licences ask for beside an export: licence texts, NOTICE, card and, if asked, a signature.

In a folder the documents have their usual names. Beside a single file they carry its name: ``m.gguf.NOTICE``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from empu.errors import StoreError
from empu.store.store import Store
from empu.store.stored_model import StoredModel
from empu.system import durable
from empu.trust.card import render_card
from empu.trust.facts import Facts
from empu.trust.gate import Decision, exported_name
from empu.trust.licence_terms import terms_of

CARD, NOTICE, LICENCE, ENVELOPE = "README.md", "NOTICE", "LICENSE", "empu.dsse.json"
DOCUMENTS = (CARD, NOTICE, LICENCE, ENVELOPE)


def document_path(exported: Path, name: str) -> Path:
    """Return the path of a document of an export."""
    return exported / name if exported.is_dir() else exported.with_name(f"{exported.name}.{name}")


def write_documents(exported: Path, store: Store, model: StoredModel, facts: Facts, decision: Decision) -> list[Path]:
    """Write card, NOTICE and licence text of an export; return their paths."""
    base = store.base_of(model) or _tuned_from(store, facts) or model
    contents = {
        CARD: render_card(facts, decision, exported_name(exported)),
        NOTICE: notice_text(facts, decision, exported_name(exported)),
        LICENCE: _licence_text(base, facts),
    }
    paths = []
    for name, text in contents.items():
        path = document_path(exported, name)
        with durable.explain_write_errors(path):
            path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def notice_text(facts: Facts, decision: Decision, title: str) -> str:
    """Return the content of ``NOTICE``: required sentences, what was changed, credits, and use policies."""
    bases = ", ".join(base["title"] or base["name"] for base in facts["base_models"])
    lines = [title, *decision.values("display"), *decision.values("notice"), ""]
    lines.append(f"Modified: these weights were changed by fine-tuning {bases} ({facts['run']['ended_at']}).")
    lines += ["", "Materials:", *_credits(facts)]
    for kind, heading in (
        ("use_policy", "Use policies that apply to you, and to those who use this model through you:"),
        ("pass_on", "Conditions that you must pass on to recipients:"),
        ("share_alike", "Share-alike licences among the rows. Whether weights are adapted material is not settled:"),
        ("no_endorsement", "No endorsement:"),
    ):
        findings = [finding for finding in decision.obligations if finding.kind == kind]
        if findings:
            lines += ["", heading, *(f"- {finding.sentence()}" for finding in findings)]
    if decision.unknown:
        lines += ["", "Not known:", *(f"- {finding.sentence()}" for finding in decision.unknown)]
    return "\n".join(lines) + "\n"


def _credits(facts: Facts) -> Iterator[str]:
    for base in facts["base_models"]:
        yield f"- {base['title'] or base['name']}, {_licence_with_source(base['licence'])}, {base['id']}"
    for data in facts["data_files"]:
        yield f"- rows of {data['file']}, {_licence_with_source(data['licence'])}, sha256:{data['sha256']}"


def _licence_with_source(licence: str) -> str:
    terms = terms_of(licence)
    return f"licence {terms.title} ({terms.source})" if terms is not None else f"licence {licence}"


def _licence_text(base: StoredModel, facts: Facts) -> str:
    """Return the licence text of the base model as it was pulled, or where to read it."""
    name = base.record.licence.text_file
    if name is not None and (base.folder / name).is_file():
        try:
            return (base.folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{base.folder / name} cannot be read ({error}); pull the model again.") from error
    terms = terms_of(facts["licence"])
    if terms is None:
        return f"Licence: {facts['licence']}. Its text did not come with the base model.\n"
    return (
        f"SPDX-License-Identifier: {terms.id}\n\n{terms.title}\n"
        f"The text did not come with the base model; read it at {terms.source} and put it in place of this file\n"
        "before you distribute the model.\n"
    )


def _tuned_from(store: Store, facts: Facts) -> StoredModel | None:
    bases = facts["base_models"]
    return store.find(bases[-1]["id"]) if bases else None
