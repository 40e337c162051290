"""The licence gate at the command line: asks open questions once on a terminal, and shows what applies."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from empu.cli import output
from empu.store.model_record import ModelRecord
from empu.store.store import Store
from empu.store.stored_model import StoredModel
from empu.trust.checks import LicenceGate
from empu.trust.gate import Decision, Finding
from empu.trust.policy import record_answer


def check_pull(store: Store, policy: Path | None) -> Callable[[ModelRecord], None]:
    """Return the check of ``empu pull``. Open questions do not stop a pull; they stop later use."""
    gate = LicenceGate(store, policy)

    def check(record: ModelRecord) -> None:
        decision = answer_questions(store, lambda: gate.decide_pull(record))
        decision.raise_if_refused()
        for finding in (*decision.questions, *decision.obligations):
            output.message(output.escape_controls(f"Licence: {finding.sentence()}"))

    return check


def answer_questions(store: Store, decide: Callable[[], Decision]) -> Decision:
    """Decide; on a terminal, ask what is missing, record the answers and decide again."""
    decision = decide()
    if not decision.questions or decision.refusals or not _is_interactive():
        return decision
    for question in dict.fromkeys(finding.question for finding in decision.questions):
        finding = next(finding for finding in decision.questions if finding.question == question)
        record_answer(store.home, question, _ask(finding))
    return decide()


class ServeLicences:
    """The licence gate of ``empu serve``."""

    def __init__(self, store: Store, policy: Path | None) -> None:
        self._store, self._gate = store, LicenceGate(store, policy)

    def require(self, model: StoredModel) -> None:
        """Raise :class:`~empu.trust.gate.LicenceError` if a model may not be served."""
        answer_questions(self._store, lambda: self._gate.decide_model("serve", model)).raise_if_refused()

    def refused(self, models: Iterable[StoredModel]) -> dict[str, str]:
        """Return name -> reason of the models that may not be served."""
        decisions = {model.name: self._gate.decide_model("serve", model) for model in models if model.name}
        return {
            name: " ".join(finding.sentence() for finding in (*decision.refusals, *decision.questions))
            for name, decision in decisions.items()
            if decision.refusals or decision.questions
        }


def _ask(finding: Finding) -> str:
    output.message(output.escape_controls(f"{finding.material}: {finding.text} ({finding.clause}: {finding.source})"))
    if finding.question == "purpose":
        return "commercial" if click.confirm("Is your use commercial?", err=True) else "non-commercial"
    return "yes" if click.confirm("Does this describe your company?", default=False, err=True) else "no"


def _is_interactive() -> bool:
    return output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr)
