"""The licence gate: may this be pulled, tuned, exported or served, and what must be done for it?

:func:`decide` compares the licences of a base model, its rows and the teachers that wrote rows with the action, the
company's policy and its recorded answers. It informs and gives no legal advice: every finding names clause and source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from empu.errors import EmpuError
from empu.ledger.records import UNKNOWN
from empu.trust.licence_terms import LIMITS, Action, LicenceTerms, Role, Term, licence_id, terms_of
from empu.trust.policy import Answers, Policy, monthly_users_question

ALLOWED, WITH_OBLIGATIONS, REFUSED = "allowed", "allowed with obligations", "refused"
NOT_LEGAL_ADVICE = "This is information from the licence texts, not legal advice."


_NOUNS: dict[Action, str] = {"pull": "this pull", "tune": "this tuning", "export": "this export", "serve": "serving"}


class LicenceError(EmpuError):
    """A licence or the company's policy refuses an action. The message names clause, source and a way on."""


@dataclass(frozen=True, slots=True)
class Material:
    """One part of a model, and its licence as stated."""

    role: Role
    name: str
    licence: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One obligation, refusal or open point, with the clause behind it."""

    material: str
    licence: str
    kind: str
    clause: str
    source: str
    text: str
    value: str = ""
    way_on: str = ""
    question: str = ""
    """Question to answer first; empty if the finding does not depend on an answer."""

    def sentence(self) -> str:
        """Return the finding as text for the user."""
        where = f" ({self.licence}, {self.clause}: {self.source})" if self.clause else ""
        value = f" “{self.value}”" if self.kind in ("display", "name_prefix", "notice") else ""
        value = f" {self.value}" if self.kind == "use_policy" else value
        return f"{self.material}: {self.text}{value}{where}{' ' + self.way_on if self.way_on else ''}"


@dataclass(frozen=True, slots=True)
class Decision:
    """Result of the gate for one action."""

    action: Action
    refusals: tuple[Finding, ...]
    questions: tuple[Finding, ...]
    """Facts that are missing. They refuse every action but ``pull``."""
    obligations: tuple[Finding, ...]
    unknown: tuple[Finding, ...]
    """Parts whose licence or terms are not known. Nothing is guessed about them."""

    @property
    def outcome(self) -> str:
        """``allowed``, ``allowed with obligations`` or ``refused``."""
        if self.refusals or (self.questions and self.action != "pull"):
            return REFUSED
        return WITH_OBLIGATIONS if self.obligations else ALLOWED

    def values(self, kind: str) -> list[str]:
        """Return the values of all obligations of one kind, each once."""
        return list(dict.fromkeys(finding.value for finding in self.obligations if finding.kind == kind))

    def raise_if_refused(self) -> None:
        """Raise :class:`LicenceError` with every reason if the action is refused."""
        if self.outcome == REFUSED:
            reasons = [finding.sentence() for finding in (*self.refusals, *self.questions)]
            raise LicenceError(
                f"The licences do not allow {_NOUNS[self.action]}. {' '.join(reasons)} {NOT_LEGAL_ADVICE}"
            )

    def lines(self) -> list[str]:
        """Return the decision as lines for the user: outcome first."""
        groups = (self.refusals, self.questions, self.unknown, self.obligations)
        return [f"{self.action}: {self.outcome}", *(f.sentence() for group in groups for f in group)]

    def to_json(self) -> dict[str, Any]:
        """Return the decision as plain JSON values."""
        groups = {name: getattr(self, name) for name in ("refusals", "questions", "obligations", "unknown")}
        findings = {name: [asdict(finding) for finding in group] for name, group in groups.items()}
        return {"action": self.action, "outcome": self.outcome, **findings}


def decide(
    action: Action,
    materials: Sequence[Material],
    policy: Policy | None = None,
    answers: Answers | None = None,
    model_name: str | None = None,
) -> Decision:
    """Decide one action. ``model_name`` is the name under which an export would be distributed, if known."""
    policy, answers = policy or Policy(), answers or Answers()
    refusals: list[Finding] = []
    questions: list[Finding] = []
    obligations: list[Finding] = []
    unknown: list[Finding] = []
    for material in materials:
        refusals += _against_policy(material, policy)
        licence = terms_of(material.licence)
        if licence is None:
            unknown.append(_unknown(material))
            continue
        for term in _terms_for(material, licence, action):
            finding = _finding(material, licence, term)
            if term.kind in LIMITS:
                _check_limit(finding, term, licence, materials, policy, answers, refusals, questions)
            elif term.kind == "share_alike" and policy.share_alike == "refuse":
                refusals.append(_with(finding, way_on="Your policy refuses share-alike; leave this material out."))
            elif term.kind == "name_prefix" and action == "export" and not _has_prefix(model_name, term.value):
                prefix = term.value.replace(" ", "-")
                way_on = f"Choose a path whose last part begins with {prefix}, such as {prefix}-{model_name}."
                refusals.append(_with(finding, way_on=way_on))
            else:
                obligations.append(finding)
    return Decision(action, *(tuple(dict.fromkeys(found)) for found in (refusals, questions, obligations, unknown)))


def _terms_for(material: Material, licence: LicenceTerms, action: Action) -> Iterator[Term]:
    """Yield the terms that reach a material. Rows under the licence of a model are outputs of that model."""
    role: Role = "teacher" if material.role == "rows" and licence.category == "model" else material.role
    return (term for term in licence.terms if action in term.when and role in term.roles)


def _check_limit(
    finding: Finding,
    term: Term,
    licence: LicenceTerms,
    materials: Sequence[Material],
    policy: Policy,
    answers: Answers,
    refusals: list[Finding],
    questions: list[Finding],
) -> None:
    """Append a refusal or an open question if a limit of a licence is not known to be kept."""
    if term.kind == "outputs_no_other_models":
        if others := _models_of_other_families(licence, materials):
            way_on = f"Tune a model of the same family instead of {others[0]}, or leave these rows out."
            refusals.append(_with(finding, way_on=way_on))
        return
    if term.kind == "non_commercial":
        purpose, question = policy.purpose or answers.values.get("purpose"), "purpose"
        is_kept = None if purpose is None else purpose == "non-commercial"
        to_answer = "State your purpose once: empu licences answer purpose non-commercial (or commercial)."
        way_on = "Choose material with another licence, or ask the licensor for a commercial one."
    else:
        question = monthly_users_question(licence.id)
        answer = answers.values.get(question)
        is_kept = None if answer is None else answer == "no"
        to_answer = f"Say once whether this is you: empu licences answer {question} no (or yes)."
        way_on = "Ask the licensor for a licence of your own, or choose another base model."
    if is_kept is None:
        questions.append(_with(finding, way_on=to_answer, question=question))
    elif not is_kept:
        refusals.append(_with(finding, way_on=way_on))


def _models_of_other_families(licence: LicenceTerms, materials: Iterable[Material]) -> list[str]:
    bases = [material for material in materials if material.role == "base"]
    families = {base.name: terms.family for base in bases if (terms := terms_of(base.licence)) is not None}
    return [base.name for base in bases if not licence.family or families.get(base.name) != licence.family]


def _against_policy(material: Material, policy: Policy) -> Iterator[Finding]:
    name = licence_id(material.licence)
    if name in policy.deny:
        reason = f"its licence, {name}, is denied by your policy."
    elif policy.allow is not None and name not in policy.allow:
        reason = f"its licence, {name}, is not among those that your policy allows."
    else:
        return
    way_on = "Choose other material, or change the policy."
    yield Finding(
        material.name, name, "policy", "your policy", str(policy.path or "policy.toml"), reason, way_on=way_on
    )


def _unknown(material: Material) -> Finding:
    name = licence_id(material.licence)
    if name != UNKNOWN:
        text, way_on = f"its licence is {name}, whose terms are not in Empu's table.", "Read it before you go on."
    elif material.role == "rows":
        text, way_on = "the licence of these rows is not known.", "State it with --licence if you know it."
    else:
        text, way_on = "its licence is not known.", "Ask its makers; nobody stated one in its files or at its source."
    return Finding(material.name, name, "unknown", "", "", text, way_on=way_on)


def _finding(material: Material, licence: LicenceTerms, term: Term) -> Finding:
    return Finding(material.name, licence.id, term.kind, term.clause, licence.source, term.text, term.value)


def _with(finding: Finding, *, way_on: str, question: str = "") -> Finding:
    return Finding(**{**asdict(finding), "way_on": way_on, "question": question})


def _has_prefix(model_name: str | None, prefix: str) -> bool:
    """Whether a name begins with a prefix. Names of files write spaces as hyphens, so separators do not count."""
    if model_name is None:
        return True
    return re.sub(r"[-_ ]", "", model_name).startswith(re.sub(r"[-_ ]", "", prefix))


def exported_name(path: Path) -> str:
    """Return the name that an export at ``path`` has for others: the folder's, or the file's without its ending."""
    return path.stem if path.suffix == ".gguf" else path.name
