"""``empu bom``."""

from __future__ import annotations

from pathlib import Path

import click

from empu.cli.output import json_option


@click.command()
@click.argument("model")
@click.option(
    "--format",
    "bom_format",
    type=click.Choice(["cyclonedx", "spdx", "eu-summary", "openness"]),
    default="cyclonedx",
    show_default=True,
    help="cyclonedx: CycloneDX 1.7 JSON (ML-BOM); spdx: SPDX 3.0.1 JSON-LD (AI and Dataset profiles); eu-summary: "
    "summary of training content by the EU's template; openness: self-check against OSAID 1.0 and the Model "
    "Openness Framework. The last two are Markdown.",
)
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Write to FILE instead of stdout.")
@json_option
def bom(model: str, bom_format: str, out: Path | None, as_json: bool) -> None:
    """Write the bill of materials of MODEL from the ledger: base model, data files, licences, hashes, run, scores."""
    import json

    from empu.cli import output
    from empu.errors import UsageError
    from empu.store.store import Store
    from empu.system import durable
    from empu.system.paths import user_path
    from empu.trust.cyclonedx import cyclonedx_bom
    from empu.trust.eu_summary import eu_summary
    from empu.trust.facts import read_facts
    from empu.trust.openness import openness_page
    from empu.trust.spdx import spdx_bom

    store = Store.of_user()
    stored = store.resolve(model)
    if isinstance(stored, Path):
        raise UsageError(f"{model} is not in the store, so the ledger holds nothing about it; pull and tune it first.")
    facts = read_facts(store, stored)
    is_page = bom_format in ("eu-summary", "openness")
    if is_page:
        text = eu_summary(facts) if bom_format == "eu-summary" else openness_page(facts)
    else:
        document = cyclonedx_bom(facts) if bom_format == "cyclonedx" else spdx_bom(facts)
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    if out is None:
        if as_json and is_page:
            output.print_json({"text": text})
        else:
            click.echo(text, nl=False)
        return
    target = user_path(out)
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is not a folder; create it first, or choose another path.")
    with durable.explain_write_errors(target):
        durable.write_atomically(target, text.encode("utf-8"))
    if as_json:
        output.print_json({"path": str(target)})
        return
    output.message(f"Wrote {target}.")
