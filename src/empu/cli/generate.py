"""One answer: asked, shown while it comes, stopped by Ctrl-C, and told as JSON."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from empu.cli import output
from empu.cli.loading import Located, stopped_by_ctrl_c
from empu.errors import UsageError
from empu.text.task import NONE_OF_THESE

if TYPE_CHECKING:
    from empu.engine.generation import Completion
    from empu.engine.language_model import LanguageModel
    from empu.engine.sampling import SamplingParams

ALTERNATIVES = 3
"""Labels that a specialist names, the best one included."""

Question = str | list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished or stopped answer."""

    completion: Completion
    interrupted: bool


def read_prompt(words: Sequence[str]) -> str:
    """The prompt that the command line means; a single ``-`` reads standard input."""
    if list(words) != ["-"]:
        text = " ".join(words)
    else:
        text = sys.stdin.buffer.read().decode("utf-8", errors="replace").removesuffix("\n")
    if not text.strip():
        raise UsageError("The prompt is empty; give some words, or text on standard input with '-'.")
    return text


def question(model: LanguageModel, text: str, *, system: str | None, raw: bool) -> Question:
    """The prompt as this model takes it: a dialogue where it has a chat template, otherwise plain text."""
    if raw or model.text.template is None:
        if system is not None:
            why = "--raw leaves out the chat template" if raw else "this model has no chat template"
            raise UsageError(f"--system has no place, since {why}; write it into the prompt.")
        return text
    before = [{"role": "system", "content": system}] if system is not None else []
    return [*before, {"role": "user", "content": text}]


def ask(model: LanguageModel, question: Question, params: SamplingParams, *, truncate: bool, show: bool) -> Answer:
    """Run one generation; with ``show`` its text goes to stdout as it comes."""
    generation = model.stream(question, params, truncate=truncate)
    ended = True
    with stopped_by_ctrl_c(generation) as presses:
        for piece in generation:
            if show and piece.text:
                output.write_model_text(piece.text)
                ended = piece.text.endswith("\n")
    if show and not ended:
        output.write_model_text("\n")
    return Answer(generation.completion, bool(presses))


def warn_of_cut(completion: Completion) -> None:
    """Tell people when the prompt or the answer was cut."""
    if completion.dropped_tokens:
        output.say(f"The prompt was cut: its oldest {completion.dropped_tokens:,} tokens were left out to make it fit.")
    if completion.finish_reason == "length":
        output.say("The answer was cut: it had reached --max-tokens, or the end of the context.")


def name_label(located: Located, model: LanguageModel, text: str, as_json: bool) -> None:
    """What a specialist for labels says of a text: the label on stdout, how sure it is beside it."""
    begun = time.perf_counter()
    verdicts = next(model.classify([text], count=ALTERNATIVES))
    seconds = time.perf_counter() - begun
    calibrated = model.task is not None and model.task.calibration is not None
    refused = model.task is not None and model.task.refuses(verdicts[0].confidence)
    if as_json:
        output.answer(
            {
                "model": located.identity(),
                "engine": model.backend.name,
                "label": None if refused else verdicts[0].label,
                "out_of_scope": refused,
                "closest": verdicts[0].label,
                "confidence": verdicts[0].confidence,
                "calibrated": calibrated,
                "alternatives": [dataclasses.asdict(verdict) for verdict in verdicts[1:]],
                "timings": {"load_s": model.load_seconds, "answer_s": seconds},
            }
        )
        return
    if refused:
        output.write_model_text(f"{NONE_OF_THESE}\n")
        output.say(f"closest: {verdicts[0].label}, too unsure to be given")
    else:
        output.write_model_text(f"{verdicts[0].label}\n")
    others = ", ".join(f"{verdict.label} {verdict.confidence:.0%}" for verdict in verdicts[1:])
    known = "" if calibrated else " (not calibrated: there were too few rows to tell how often it is right)"
    output.say(f"confidence {verdicts[0].confidence:.0%}{known}" + (f"; then {others}" if others else ""))


def document(located: Located, model: LanguageModel, params: SamplingParams, completion: Completion) -> dict[str, Any]:
    """``empu run --json``."""
    return {
        "model": located.identity(),
        "engine": model.backend.name,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "stop_string": completion.stop_string,
        "usage": {
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "dropped_tokens": completion.dropped_tokens,
            "cached_tokens": completion.cached_tokens,
        },
        "seed": completion.seed,
        "sampling": {**dataclasses.asdict(params), "seed": completion.seed},
        "timings": dataclasses.asdict(completion.timings),
        "logprobs": [dataclasses.asdict(token) for token in completion.logprobs] if completion.logprobs else None,
    }
