"""``empu licences``: what licences ask for, as data."""

from __future__ import annotations

from pathlib import Path

import click

from empu.cli.options import policy_option
from empu.cli.output import json_option


@click.group()
def licences() -> None:
    """Show what licences ask for, check a model, and record answers about your company.

    This is information from the licence texts, each with its clause, and not legal advice.
    """


@licences.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the licences whose terms Empu knows."""
    from empu.cli import output
    from empu.trust.licence_terms import all_licences

    known = all_licences().values()
    if as_json:
        output.print_json({"licences": [{"id": one.id, "title": one.title, "source": one.source} for one in known]})
        return
    output.table(("ID", "TITLE", "SOURCE"), [(licence.id, licence.title, licence.source) for licence in known])


@licences.command()
@click.argument("licence")
@json_option
def show(licence: str, as_json: bool) -> None:
    """Show the terms of LICENCE: what it grants, and every condition with its clause."""
    import dataclasses

    from empu.cli import output
    from empu.errors import UsageError
    from empu.trust.licence_terms import terms_of

    terms = terms_of(licence)
    if terms is None:
        raise UsageError(f"The terms of {licence!r} are not in Empu's table; see: empu licences list")
    if as_json:
        output.print_json(dataclasses.asdict(terms))
        return
    output.key_values(
        [
            ("licence", f"{terms.title} ({terms.id})"),
            ("source", terms.source),
            ("grants", f"{terms.grant} ({terms.grant_clause})"),
            *((term.kind, f"{_text(term.text, term.value)} ({term.clause})") for term in terms.terms),
        ]
    )


@licences.command()
@click.argument("model")
@click.option("--as", "name", metavar="NAME", help="Name under which you would distribute it.")
@policy_option
@json_option
def check(model: str, name: str | None, policy: Path | None, as_json: bool) -> None:
    """Say whether MODEL may be tuned, exported and served, and what must be done for it."""
    from empu.cli import output
    from empu.errors import UsageError
    from empu.store.store import Store
    from empu.trust.checks import LicenceGate
    from empu.trust.gate import NOT_LEGAL_ADVICE

    store = Store.of_user()
    stored = store.resolve(model)
    if isinstance(stored, Path):
        raise UsageError(f"{model} is not in the store; pull it first.")
    gate = LicenceGate(store, policy)
    decisions = [gate.decide_model(action, stored, name or stored.name) for action in ("tune", "export", "serve")]
    if as_json:
        output.print_json({"model": stored.name, "decisions": [decision.to_json() for decision in decisions]})
        return
    output.key_values([(d.action, "\n".join([d.outcome, *d.lines()[1:]])) for d in decisions])
    output.message(NOT_LEGAL_ADVICE)


@licences.command()
@click.argument("question")
@click.argument("answer")
@json_option
def answer(question: str, answer: str, as_json: bool) -> None:
    """Record your company's ANSWER to a QUESTION that a licence asks, such as: purpose commercial."""
    from empu.cli import output
    from empu.store.store import Store
    from empu.trust.policy import record_answer

    record_answer(Store.of_user().home, question, answer)
    if as_json:
        output.print_json({"question": question, "answer": answer})
    else:
        output.message(f"Recorded: {question} is {answer}.")


def _text(text: str, value: str) -> str:
    return f"{text} {value}".rstrip()
