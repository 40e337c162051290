"""``empu run``."""

from __future__ import annotations

from typing import Any

import click

from empu.cli.options import OPENING, SAMPLING, group
from empu.cli.output import json_option


@click.command()
@click.argument("model")
@click.argument("prompt", nargs=-1, required=True)
@click.option("--system", help="Instruction that stands before the dialogue.")
@group(SAMPLING)
@click.option(
    "--logprobs", metavar="N", type=click.IntRange(0, 20), help="With --json: log-probabilities, and of N alternatives."
)
@click.option("--truncate", is_flag=True, help="Cut a prompt that does not fit, and say by how much.")
@click.option("--raw", is_flag=True, help="Continue the prompt as plain text, without the chat template.")
@group(OPENING)
@json_option
def run(model: str, prompt: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Give one answer to PROMPT, streamed.

    PROMPT may be several words; `-` reads it from standard input. A model with a chat template gets the prompt as a
    user's turn, one without as plain text. A specialist for labels names the label of PROMPT. A prompt that does not
    fit the context is refused, never cut silently.
    """
    from empu.cli import output
    from empu.cli.generate import ask, document, name_label, question, read_prompt, warn_of_cut
    from empu.cli.loading import locate, open_located, opening
    from empu.cli.options import TEXT_ONLY, refuse_given, sampling_params
    from empu.errors import AnsweredError, CancelledError, UsageError

    if given["logprobs"] is not None and not as_json:
        raise UsageError("--logprobs are given with --json only; add it.")
    params = sampling_params(given)
    text = read_prompt(prompt)
    located = locate(model)
    opened = open_located(located, **opening(given))
    if opened.task is not None and opened.task.kind == "label" and not given["raw"]:
        refuse_given(click.get_current_context(), TEXT_ONLY, f"{model} names a label and writes no text")
        name_label(located, opened, text, as_json)
        return
    asked = question(opened, text, system=given["system"], raw=given["raw"])
    answer = ask(opened, asked, params, truncate=given["truncate"], show=not as_json)
    warn_of_cut(answer.completion)
    if as_json:
        output.answer(document(located, opened, params, answer.completion))
    if answer.interrupted:
        raise AnsweredError("Stopped.", CancelledError.exit_code)
