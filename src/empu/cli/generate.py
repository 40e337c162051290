"""Generate one answer: stream it to stdout, stop on Ctrl-C, and describe it as JSON."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from empu.cli import output
from empu.cli.loading import ResolvedModel, cancel_on_ctrl_c
from empu.errors import UsageError
from empu.text.task import NO_LABEL

if TYPE_CHECKING:
    from empu.engine.language_model import LanguageModel
    from empu.engine.outputs import Completion
    from empu.engine.sampling import SamplingParams
    from empu.members.classifier import LabelClassifier

TOP_LABELS = 3
"""Number of labels shown for a label specialist, the predicted one included."""

PromptInput = str | list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """A completion, and whether Ctrl-C stopped it."""

    completion: Completion
    interrupted: bool


def read_prompt(words: Sequence[str]) -> str:
    """Join the words of the command line to a prompt; a single ``-`` reads standard input."""
    if list(words) != ["-"]:
        text = " ".join(words)
    else:
        text = sys.stdin.buffer.read().decode("utf-8", errors="replace").removesuffix("\n")
    if not text.strip():
        raise UsageError("The prompt is empty; give a text, or - to read it from standard input.")
    return text


def build_prompt(model: LanguageModel, text: str, *, system: str | None, raw: bool) -> PromptInput:
    """Return chat messages for a model with a chat template, otherwise the plain text."""
    if raw or model.text.template is None:
        if system is not None:
            reason = "--raw bypasses the chat template" if raw else "this model has no chat template"
            raise UsageError(f"--system cannot be used, because {reason}; write it into the prompt.")
        return text
    if system is None and model.task is not None:
        system = model.task.instruction
    system_messages = [{"role": "system", "content": system}] if system is not None else []
    return [*system_messages, {"role": "user", "content": text}]


def generate(
    model: LanguageModel, prompt: PromptInput, params: SamplingParams, *, truncate: bool, show: bool
) -> GenerationResult:
    """Generate one answer; with ``show`` its text is streamed to stdout."""
    generation = model.stream(prompt, params, truncate=truncate)
    ends_with_newline = True
    with cancel_on_ctrl_c(generation) as presses:
        for piece in generation:
            if show and piece.text:
                output.write_model_text(piece.text)
                ends_with_newline = piece.text.endswith("\n")
    if show and not ends_with_newline:
        output.write_model_text("\n")
    return GenerationResult(generation.completion, bool(presses))


def warn_if_truncated(completion: Completion) -> None:
    """Print a message when the prompt or the answer was truncated."""
    if completion.dropped_tokens:
        output.message(f"The prompt was truncated: its oldest {completion.dropped_tokens:,} tokens were dropped.")
    if completion.finish_reason == "length":
        output.message("The answer was cut off: it reached --max-tokens or the end of the context.")


def print_label(resolved: ResolvedModel, classifier: LabelClassifier, text: str, as_json: bool) -> None:
    """Print the label that a specialist predicts for ``text`` on stdout, and its confidence on stderr."""
    model, task = classifier.model, classifier.task
    start = time.perf_counter()
    verdicts = next(classifier.classify([text], count=TOP_LABELS))
    seconds = time.perf_counter() - start
    calibrated = task.calibration is not None
    refused = task.is_below_threshold(verdicts[0].confidence)
    weights = classifier.ensemble.weights if classifier.ensemble is not None else {"lm": 1.0}
    if as_json:
        output.print_json(
            {
                "model": resolved.identity(),
                "engine": model.backend.name,
                "label": None if refused else verdicts[0].label,
                "out_of_scope": refused,
                "closest": verdicts[0].label,
                "confidence": verdicts[0].confidence,
                "calibrated": calibrated,
                "members": weights,
                "alternatives": [dataclasses.asdict(verdict) for verdict in verdicts[1:]],
                "timings": {"load_s": model.load_seconds, "answer_s": seconds},
            }
        )
        return
    if refused:
        output.write_model_text(f"{NO_LABEL}\n")
        output.message(f"closest label: {verdicts[0].label}, with too low a confidence")
    else:
        output.write_model_text(f"{verdicts[0].label}\n")
    others = ", ".join(f"{verdict.label} {verdict.confidence:.0%}" for verdict in verdicts[1:])
    note = "" if calibrated else " (not calibrated: too few validation rows)"
    output.message(f"confidence {verdicts[0].confidence:.0%}{note}" + (f"; then {others}" if others else ""))


def result_document(
    resolved: ResolvedModel, model: LanguageModel, params: SamplingParams, completion: Completion
) -> dict[str, Any]:
    """Return the JSON document of ``empu run --json``."""
    return {
        "model": resolved.identity(),
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
