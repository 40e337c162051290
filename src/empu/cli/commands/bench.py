"""``empu bench``."""

from __future__ import annotations

from typing import Any

import click

from empu.cli.options import OPENING, group
from empu.cli.output import json_option


@click.command()
@click.argument("model", default="default")
@click.option(
    "--runs",
    metavar="N",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Rounds; the middle figure counts.",
)
@group(OPENING)
@json_option
def bench(model: str, runs: int, as_json: bool, **given: Any) -> None:
    """Measure a model's speed on this machine, and what share it is of what memory and processor allow."""
    import dataclasses
    import time

    from empu.cli import output
    from empu.cli.loading import locate, open_located, opening
    from empu.engine.benchmark import Machine, measure, peak_memory_bytes
    from empu.system.cpu import processors

    located = locate(model)
    begun = time.perf_counter()
    opened = open_located(located, **opening(given))
    load_s = time.perf_counter() - begun
    machine = Machine.here()
    threads = given["threads"] or getattr(opened.backend, "threads", None) or processors()
    figures, limits = measure(opened.backend, threads=threads, runs=runs, tell=output.say)
    peak = peak_memory_bytes()
    if as_json:
        output.answer(
            {
                "model": located.identity(),
                "engine": opened.backend.name,
                "threads": threads,
                "quant": given["quant"],
                "kv": given["kv"],
                "load_s": load_s,
                "peak_memory_bytes": peak,
                "limits": dataclasses.asdict(limits) if limits else None,
                "figures": [{"what": str(figure.case), **dataclasses.asdict(figure)} for figure in figures],
                "machine": dataclasses.asdict(machine),
            }
        )
        return
    facts = [
        ("machine", f"{machine.cpu}, {machine.logical_cpus} CPUs, {output.size(machine.memory_bytes)}"),
        ("model", str(located.identity()["name"] or located.path)),
        ("engine", f"{opened.backend.name}, {threads} thread{'s' * (threads > 1)}, empu {machine.empu}"),
        ("opened in", f"{load_s:.2f} s; {output.size(peak)} of memory at most"),
    ]
    if limits is not None:
        facts += [
            ("memory", f"{limits.bytes_per_s / 1e9:.1f} GB/s, reading {output.size(limits.weight_bytes)} of weights"),
            ("cache", f"{output.size(limits.cache_bytes_per_token)} for each token of context"),
            ("processor", f"{limits.int8_operations_per_s / 1e9:,.0f} billion 8-bit operations/s"),
        ]
    output.facts(facts)
    output.table(
        ["tokens", "tokens/s", "of the limit"],
        [
            [str(figure.case), f"{figure.tokens_per_s:,.0f}", f"{figure.share:.0%}" if figure.share else "not known"]
            for figure in figures
        ],
    )
