"""Command-line options shared by several commands: sampling, and loading a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from empu.errors import UsageError

if TYPE_CHECKING:
    from empu.engine.sampling import SamplingParams

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Finite(click.FloatRange):
    """A finite number in a range. NaN passes every range check in Python, so it is refused here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


SAMPLING_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--max-tokens",
        metavar="N",
        type=click.IntRange(1),
        default=1024,
        show_default=True,
        help="Maximum number of generated tokens.",
    ),
    click.option(
        "--temperature",
        metavar="X",
        type=Finite(0.0, 100.0),
        default=0.2,
        show_default=True,
        help="0 is greedy decoding; higher values are more random.",
    ),
    click.option(
        "--top-p",
        metavar="X",
        type=Finite(0.0, 1.0, min_open=True),
        default=0.9,
        show_default=True,
        help="Sample from the most likely tokens whose probabilities sum to this.",
    ),
    click.option("--top-k", metavar="N", type=click.IntRange(1), help="Sample from the N most likely tokens."),
    click.option(
        "--min-p",
        metavar="X",
        type=Finite(0.0, 1.0),
        help="Drop tokens below this fraction of the top token's probability.",
    ),
    click.option(
        "--repetition-penalty",
        metavar="X",
        type=Finite(0.0, 10.0, min_open=True),
        help="Above 1 makes tokens that already occurred less likely.",
    ),
    click.option(
        "--presence-penalty",
        metavar="X",
        type=Finite(-10.0, 10.0),
        help="Subtract this from the logit of tokens already in the answer.",
    ),
    click.option(
        "--frequency-penalty",
        metavar="X",
        type=Finite(-10.0, 10.0),
        help="Subtract this from the logit for each earlier occurrence.",
    ),
    click.option(
        "--seed",
        metavar="N",
        type=click.IntRange(0, 2**63 - 1),
        help="Random seed; the same seed gives the same answer.",
    ),
    click.option("--stop", metavar="TEXT", multiple=True, help="Stop before this text; may be repeated."),
)
"""Sampling options, in the order of the help text."""

THREADS = click.IntRange(1, 256)
"""The native engine starts at most 256 threads."""

ENGINES = click.Choice(["auto", "native", "torch"])

LOADING_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--engine",
        metavar="NAME",
        type=ENGINES,
        default="auto",
        show_default=True,
        help="Inference engine: auto, native, torch.",
    ),
    click.option("--threads", metavar="N", type=THREADS, help="CPU threads; chosen automatically by default."),
    click.option(
        "--context",
        metavar="N",
        type=click.IntRange(1),
        help="Context length in tokens; the model's own by default.",
    ),
    click.option(
        "--kv",
        type=click.Choice(["bf16", "q8"]),
        default="bf16",
        show_default=True,
        help="KV cache type: 16 bits, or 8 bits at half the memory (native engine).",
    ),
    click.option(
        "--quant",
        type=click.Choice(["q8", "q4"]),
        help="Quantise weights to 8 or 4 bits at loading (native engine). By default F32 stays F32, F16 and BF16 "
        "become 8 bits, and quantised weights keep their 4 or 8 bits.",
    ),
)

LABEL_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--fast/--accuracy",
        "fast",
        help="For a label specialist of several members: cheap ones answer where they are sure, or all do (default).",
    ),
)


def apply_options(options: tuple[Decorator, ...]) -> Decorator:
    """Combine several options into one decorator."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


policy_option: Decorator = click.option(
    "--policy",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Licence policy of your company (TOML); policy.toml in the store by default.",
)

SAMPLING_PARAMETERS = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "logprobs",
)
"""Options that are passed to :class:`SamplingParams` unchanged."""
GENERATION_OPTIONS = ("system", *SAMPLING_PARAMETERS, "stop", "truncate")
"""Options that only affect text generation."""


def refuse_options(context: click.Context, names: Iterable[str], reason: str) -> None:
    """Raise :class:`~empu.errors.UsageError` if one of these options was given; it would have no effect."""
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in names and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"{parameter.opts[0]} has no effect here: {reason}; omit it.")


def sampling_params(options: dict[str, Any]) -> SamplingParams:
    """Return sampling parameters from command-line options (and ``logprobs``); missing ones keep their defaults."""
    from empu.engine.sampling import SamplingParams

    chosen = {name: options[name] for name in SAMPLING_PARAMETERS if options.get(name) is not None}
    return SamplingParams(**chosen, stop=tuple(options.get("stop") or ()))
