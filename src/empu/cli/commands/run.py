"""``empu run``."""

from __future__ import annotations

from typing import Any

import click

from empu.cli.options import LABEL_OPTIONS, LOADING_OPTIONS, SAMPLING_OPTIONS, apply_options
from empu.cli.output import json_option


@click.command()
@click.argument("model")
@click.argument("prompt", nargs=-1, required=True)
@click.option("--system", help="System message.")
@apply_options(SAMPLING_OPTIONS)
@click.option(
    "--logprobs",
    metavar="N",
    type=click.IntRange(0, 20),
    help="With --json: log-probabilities of the tokens and of N alternatives.",
)
@click.option(
    "--truncate", is_flag=True, help="Truncate a prompt that does not fit the context, and report by how much."
)
@click.option("--raw", is_flag=True, help="Continue the prompt as plain text, without the chat template.")
@apply_options(LOADING_OPTIONS)
@apply_options(LABEL_OPTIONS)
@json_option
def run(model: str, prompt: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Generate one answer to PROMPT and stream it to stdout.

    PROMPT may be several words; `-` reads it from standard input. A model with a chat template gets the prompt as a
    user message, a model without one as plain text. A label specialist prints the label of PROMPT. A prompt that does
    not fit the context is refused, unless --truncate is given.
    """
    from empu.cli import output
    from empu.cli.generate import build_prompt, generate, print_label, read_prompt, result_document, warn_if_truncated
    from empu.cli.loading import loading_options, open_resolved, open_resolved_classifier, resolve_model
    from empu.cli.options import GENERATION_OPTIONS, refuse_options, sampling_params
    from empu.errors import CancelledError, ReportedError, UsageError

    if options["logprobs"] is not None and not as_json:
        raise UsageError("--logprobs needs --json; add it.")
    params = sampling_params(options)
    text = read_prompt(prompt)
    resolved = resolve_model(model)
    language_model = open_resolved(resolved, **loading_options(options))
    if language_model.task is not None and language_model.task.kind == "label" and not options["raw"]:
        refuse_options(
            click.get_current_context(), GENERATION_OPTIONS, f"{model} predicts a label and generates no text"
        )
        print_label(resolved, open_resolved_classifier(resolved, language_model, fast=options["fast"]), text, as_json)
        return
    refuse_options(click.get_current_context(), ("fast",), f"{model} generates text and has no members")
    messages = build_prompt(language_model, text, system=options["system"], raw=options["raw"])
    result = generate(language_model, messages, params, truncate=options["truncate"], show=not as_json)
    warn_if_truncated(result.completion)
    if as_json:
        output.print_json(result_document(resolved, language_model, params, result.completion))
    if result.interrupted:
        raise ReportedError("Stopped.", CancelledError.exit_code)
