"""``empu bench``."""

from __future__ import annotations

from typing import Any

import click

from empu.cli.options import OPENING, group
from empu.cli.talk import json_option


@click.command()
@click.argument("model", default="default")
@click.option(
    "--prefill", metavar="N", type=click.IntRange(1), default=512, show_default=True, help="Tokens to read at once."
)
@click.option(
    "--decode", metavar="N", type=click.IntRange(1), default=64, show_default=True, help="Tokens to write after them."
)
@click.option(
    "--runs",
    metavar="N",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Repetitions; the middle one counts.",
)
@group(OPENING)
@json_option
def bench(model: str, prefill: int, decode: int, runs: int, as_json: bool, **given: Any) -> None:
    """Measure speed on this machine: opening, first token, reading, writing, memory."""
    import dataclasses
    import time

    from empu.cli import talk
    from empu.cli.opening import locate, open_located
    from empu.engine.measure import Machine, measure, peak_memory_bytes

    located = locate(model)
    begun = time.perf_counter()
    opened = open_located(located, engine=given["engine"], threads=given["threads"], context=given["context"])
    load_s = time.perf_counter() - begun
    talk.say(f"Reading {prefill} tokens and writing {decode}, {runs} times …")
    speed = measure(opened.backend, prefill_tokens=prefill, decode_tokens=decode, runs=runs)
    machine, peak = Machine.here(), peak_memory_bytes()
    if as_json:
        talk.answer(
            {
                "model": located.identity(),
                "engine": opened.backend.name,
                "threads": given["threads"],
                "load_s": load_s,
                "peak_memory_bytes": peak,
                **dataclasses.asdict(speed),
                "machine": dataclasses.asdict(machine),
            }
        )
        return
    talk.facts(
        [
            ("model", str(located.identity()["name"] or located.path)),
            ("engine", opened.backend.name),
            ("threads", str(given["threads"] or "automatic")),
            ("opening", f"{load_s:.2f} s"),
            ("first token", f"{speed.first_token_s * 1000:.0f} ms after a prompt of {prefill} tokens"),
            ("reading", f"{speed.prefill_tokens_per_s:.1f} tokens/s"),
            ("writing", f"{speed.decode_tokens_per_s:.1f} tokens/s"),
            ("peak memory", talk.size(peak)),
            ("machine", f"{machine.cpu}, {machine.logical_cpus} CPUs, {talk.size(machine.memory_bytes)}"),
            ("versions", f"empu {machine.empu}, Python {machine.python}, numpy {machine.numpy}, {machine.system}"),
        ]
    )
