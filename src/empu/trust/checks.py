"""Ask the licence gate about models of a store: which licences are involved comes from its records and its ledger."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from empu.ledger.ledger import Ledger
from empu.ledger.records import UNKNOWN
from empu.store.model_record import ModelRecord
from empu.store.store import Store
from empu.store.stored_model import StoredModel
from empu.trust.gate import Decision, Material, decide
from empu.trust.licence_terms import Action
from empu.trust.members import read_members
from empu.trust.policy import read_answers, read_policy


class LicenceGate:
    """The licence gate of one store, with the policy of its company."""

    def __init__(self, store: Store, policy_path: Path | None = None) -> None:
        """Read the policy. Raises :class:`~empu.errors.UsageError` if it is damaged."""
        self.store = store
        self.policy = read_policy(store.home, policy_path)

    def decide(self, action: Action, materials: Iterable[Material], model_name: str | None = None) -> Decision:
        """Decide about these materials with the recorded answers."""
        return decide(action, tuple(materials), self.policy, read_answers(self.store.home), model_name)

    def decide_pull(self, record: ModelRecord) -> Decision:
        """Decide whether a model may be added to the store."""
        return self.decide("pull", [base_material(record)])

    def decide_tune(self, base: StoredModel, files: Iterable[str], licence: str) -> Decision:
        """Decide whether a base model may be tuned on rows of these files."""
        rows = [Material("rows", Path(file).name, licence) for file in files]
        return self.decide("tune", [base_material(base.record, base.name), *rows])

    def decide_model(self, action: Action, model: StoredModel, model_name: str | None = None) -> Decision:
        """Decide about a model of the store, with its base, the rows behind it and the text encoder that it asks."""
        materials = model_materials(self.store, model)
        members = read_members(self.store.home, model)
        if members.encoder is not None and action != "export":  # exports hold the language model alone
            materials.append(Material("base", f"text encoder {members.encoder}", members.encoder_licence))
        return self.decide(action, materials, model_name)


def base_material(record: ModelRecord, name: str | None = None) -> Material:
    """Return a base model as material."""
    return Material("base", record.title or name or record.pulled_as, record.licence.id or UNKNOWN)


def model_materials(store: Store, model: StoredModel) -> list[Material]:
    """Return the base model and the row files behind a model. A model that was only pulled is its own base."""
    if model.record.source.kind != "tuned":
        return [base_material(model.record, model.name)]
    materials: list[Material] = []
    if store.ledger_path.is_file():
        with Ledger.open(store.ledger_path) as ledger:
            lineage = ledger.lineage(model.record.id) if ledger.run_of_model(model.record.id) is not None else []
            if len(lineage) > 1:
                base = store.find(lineage[-1].id)
                name = lineage[-1].name
                material = Material("base", name, lineage[-1].licence)
                materials.append(base_material(base.record, name) if base is not None else material)
                materials += [
                    Material("rows", Path(source.path).name, source.licence)
                    for source, _ in ledger.sources(model.record.id)
                ]
    if not materials:
        materials = [Material("base", ", ".join(model.record.base_models), model.record.licence.id or UNKNOWN)]
    return list(dict.fromkeys(materials))
