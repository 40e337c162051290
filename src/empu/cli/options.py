"""Options that several commands share: how to sample, and how to open a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from empu.errors import UsageError

if TYPE_CHECKING:
    from empu.engine.sampling import SamplingParams

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Finite(click.FloatRange):
    """A number in a range. Python's NaN is in every range, so it is refused by name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


SAMPLING: tuple[Decorator, ...] = (
    click.option(
        "--max-tokens", metavar="N", type=click.IntRange(1), default=1024, show_default=True, help="Longest answer."
    ),
    click.option(
        "--temperature",
        metavar="X",
        type=Finite(0.0, 100.0),
        default=0.2,
        show_default=True,
        help="0 always takes the likeliest token; higher is more varied.",
    ),
    click.option(
        "--top-p",
        metavar="X",
        type=Finite(0.0, 1.0, min_open=True),
        default=0.9,
        show_default=True,
        help="Choose among the likeliest tokens that together have this probability.",
    ),
    click.option("--top-k", metavar="N", type=click.IntRange(1), help="Choose among the K likeliest tokens."),
    click.option(
        "--min-p",
        metavar="X",
        type=Finite(0.0, 1.0),
        help="Drop tokens below this share of the likeliest one's probability.",
    ),
    click.option(
        "--repetition-penalty",
        metavar="X",
        type=Finite(0.0, 10.0, min_open=True),
        help="Above 1 makes tokens that occurred before less likely.",
    ),
    click.option(
        "--presence-penalty",
        metavar="X",
        type=Finite(-10.0, 10.0),
        help="Subtracted from the score of tokens that the answer has already.",
    ),
    click.option(
        "--frequency-penalty",
        metavar="X",
        type=Finite(-10.0, 10.0),
        help="The same, once for each time.",
    ),
    click.option("--seed", metavar="N", type=click.IntRange(0, 2**63 - 1), help="The same seed gives the same answer."),
    click.option(
        "--stop", metavar="TEXT", multiple=True, help="End the answer before this text; may be given several times."
    ),
)
"""In the order of the help text."""

THREADS = click.IntRange(1, 256)
"""As many as the compiled engine starts at most."""

ENGINES = click.Choice(["auto", "native", "torch"])

OPENING: tuple[Decorator, ...] = (
    click.option(
        "--engine",
        metavar="NAME",
        type=ENGINES,
        default="auto",
        show_default=True,
        help="What computes: auto, native, torch.",
    ),
    click.option("--threads", metavar="N", type=THREADS, help="CPU threads; as many as help where not given."),
    click.option(
        "--context",
        metavar="N",
        type=click.IntRange(1),
        help="Tokens of context; the model's own length where not given.",
    ),
    click.option(
        "--kv",
        type=click.Choice(["bf16", "q8"]),
        default="bf16",
        show_default=True,
        help="Keep what was read in 16 bits, or in 8 and half the memory (native engine).",
    ),
    click.option(
        "--quant",
        type=click.Choice(["q8", "q4"]),
        help="Round weights of more bits to 8 or 4 at loading (native engine). Where not given, F32 stays as it is, "
        "F16 and BF16 are kept in 8 bits, and quantised weights in the 4 or 8 that hold them.",
    ),
)


def group(options: tuple[Decorator, ...]) -> Decorator:
    """Several options as one decorator."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


DRAWN = (
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
"""Options that are parameters of sampling as they are."""
TEXT_ONLY = ("system", *DRAWN, "stop", "truncate")
"""Options that say how text is written."""


def refuse_given(context: click.Context, names: Iterable[str], why: str) -> None:
    """Raise :class:`~empu.errors.UsageError` when one of these options was given, which would have no effect."""
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in names and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"{parameter.opts[0]} has no effect here: {why}; leave it out.")


def sampling_params(given: dict[str, Any]) -> SamplingParams:
    """The parameters that the sampling options (and ``logprobs``) mean; what was not given keeps its own default."""
    from empu.engine.sampling import SamplingParams

    chosen = {name: given[name] for name in DRAWN if given.get(name) is not None}
    return SamplingParams(**chosen, stop=tuple(given.get("stop") or ()))
