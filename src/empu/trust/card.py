"""The model card of an export: ``README.md`` as model hubs read it, with metadata in YAML, written from the facts."""

from __future__ import annotations

import json
from collections.abc import Iterator

from empu.trust.facts import Facts
from empu.trust.gate import NOT_LEGAL_ADVICE, Decision
from empu.trust.licence_terms import terms_of

HUB_LICENCES = frozenset(
    {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-3.0", "cc-by-sa-4.0"}
    | {"cc-by-sa-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "openrail", "gemma", "llama2", "llama3", "llama3.1"}
    | {"llama3.2", "llama3.3", "llama4", "unknown"}
)
"""Values of ``license:`` that hubs know. Others are ``other`` with a ``license_name``."""
NUMBER = "{:.4f}"


def render_card(facts: Facts, decision: Decision, title: str) -> str:
    """Return ``README.md``. Equal facts give equal text."""
    sections = [
        "\n".join(["---", *_metadata(facts, title), "---"]),
        f"# {title}",
        *[f"**{sentence}**" for sentence in decision.values("display")],
        _introduction(facts),
        *_about_members(facts),
        "## Scores\n\n" + "\n".join(figure_lines(facts)),
        *[conclusion for e in facts["evaluations"] if (conclusion := e["conclusion"])],
        "## Training rows\n\n" + "\n".join(_data(facts)),
        "## Training run\n\n" + "\n".join(_run(facts)),
        "## Licences\n\n" + "\n".join(_licences(facts, decision)),
        "## Not known\n\n" + ("\n".join(f"- {line}" for line in facts["not_known"]) or "Nothing is missing."),
    ]
    return "\n\n".join(sections) + "\n"


def figure_lines(facts: Facts) -> list[str]:
    """Return the table of scores. Verification compares these lines with those of a card."""
    if not facts["evaluations"]:
        return ["This model was not evaluated."]
    lines = ["| system | metric | value | 95 % interval | rows |", "|---|---|---:|---:|---:|"]
    for evaluation in facts["evaluations"]:
        for name, metric in evaluation["metrics"].items():
            value, low, high = (NUMBER.format(metric[key]) for key in ("value", "low", "high"))
            lines.append(f"| {_cell(evaluation['system'])} | {name} | {value} | {low} to {high} | {metric['rows']} |")
    return lines


def card_figures(text: str) -> list[str]:
    """Return the lines of the table of scores in a card; empty if it has none."""
    section = text.partition("\n## Scores\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|") or line == "This model was not evaluated."]


def _metadata(facts: Facts, title: str) -> Iterator[str]:
    licence = facts["licence"].casefold()
    terms = terms_of(facts["licence"])
    yield f"license: {licence if licence in HUB_LICENCES else 'other'}"
    if licence not in HUB_LICENCES:
        yield f"license_name: {_yaml(licence)}"
        if terms is not None:
            yield f"license_link: {_yaml(terms.source)}"
    names = [name for base in facts["base_models"] for name in base["hub_names"] if "/" in name]
    if names:
        yield "base_model:"
        yield from (f"- {_yaml(name)}" for name in names)
        yield "base_model_relation: finetune"
    yield "library_name: transformers"
    yield "tags:"
    yield "- empu"
    own = [evaluation for evaluation in facts["evaluations"] if evaluation["is_exported"]]
    if own:
        yield "model-index:"
        yield f"- name: {_yaml(title)}"
        yield "  results:"
        for evaluation in own:
            yield "  - task:"
            yield "      type: text-generation"
            yield "    dataset:"
            yield f"      name: {_yaml(_data_names(facts))}"
            yield f"      type: {_yaml('sha256:' + str(facts['dataset']))}"
            yield f"      split: {_yaml(evaluation['split'])}"
            yield "    metrics:"
            for name, metric in evaluation["metrics"].items():
                yield f"    - type: {_yaml(name)}"
                yield f"      value: {metric['value']!r}"
                yield "      verified: false"


def _introduction(facts: Facts) -> str:
    bases = ", ".join(base["title"] or base["name"] for base in facts["base_models"]) or "a model that is not recorded"
    count = sum(sum(data["rows"].values()) for data in facts["data_files"])
    return (
        f"Tuned by Empu {facts['empu_version']} from {bases} on rows of {_data_names(facts)} ({count:,} rows with "
        "validation and test). Every figure here was written from the ledger."
    )


def _about_members(facts: Facts) -> Iterator[str]:
    """Yield what these files leave out of the specialist, if anything."""
    if not facts["members"]:
        return
    system = next((f"in the row “{e['system']}”" for e in facts["evaluations"] if e["is_exported"]), "not recorded")
    yield (
        f"**These files are the language model alone; its scores are {system}.** In Empu, {facts['name']} also asks "
        f"{', '.join(facts['members'])}, and the row “{facts['name']}” gives the scores of all of them together."
    )


def _data(facts: Facts) -> Iterator[str]:
    for data in facts["data_files"]:
        rows = ", ".join(f"{count:,} {split}" for split, count in _splits(data))
        yield f"- `{data['file']}`: {rows}; licence {data['licence']}; SHA-256 `{data['sha256']}`"
    excluded = facts["excluded_rows"]
    if excluded:
        reasons = ", ".join(f"{count:,} ({reason})" for reason, count in excluded.items())
        yield f"- excluded rows: {reasons}"


def _run(facts: Facts) -> Iterator[str]:
    run = facts["run"]
    recipe = ", ".join(
        f"{name} {value}" for name, value in run["recipe"].items() if value is not None and name != "seed"
    )
    yield f"- recipe: {recipe}; seed {run['seed']}"
    yield f"- {run['steps']:,} steps, {run['started_at']} to {run['ended_at']}, code {run['code']}"
    yield f"- machine: {run['machine'].get('processor')}, {run['machine'].get('cores')} cores"
    yield f"- model id `{facts['id']}`, run `{run['id']}`"


def _licences(facts: Facts, decision: Decision) -> Iterator[str]:
    yield f"The weights are under {facts['licence']}, the licence of the base model."
    for finding in (*decision.obligations, *decision.unknown):
        yield f"- {finding.sentence()}"
    yield ""
    yield NOT_LEGAL_ADVICE


def _splits(data: Facts) -> list[tuple[str, int]]:
    order = ("train", "dev", "test")
    return sorted(data["rows"].items(), key=lambda item: (order.index(item[0]) if item[0] in order else 3, item[0]))


def _data_names(facts: Facts) -> str:
    return ", ".join(data["file"] for data in facts["data_files"]) or "files that are not recorded"


def _yaml(text: str) -> str:
    """Return a double-quoted YAML string; JSON strings are valid YAML."""
    return json.dumps(text, ensure_ascii=False)


def _cell(text: str) -> str:
    return " ".join(str(text).replace("|", "/").split())
