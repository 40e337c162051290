"""``empu bench``."""

from __future__ import annotations

from typing import Any

import click

from empu.cli.options import LOADING_OPTIONS, apply_options
from empu.cli.output import json_option


@click.command()
@click.argument("model", default="default")
@click.option(
    "--runs",
    metavar="N",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Number of rounds; the median is reported.",
)
@apply_options(LOADING_OPTIONS)
@json_option
def bench(model: str, runs: int, as_json: bool, **options: Any) -> None:
    """Measure a model's speed on this machine, as tokens/s and as a fraction of the machine's roofline.

    MODEL is `default` if not given. The roofline is the speed that memory bandwidth or integer arithmetic allows.
    """
    import time

    from empu.cli import output
    from empu.cli.loading import loading_options, open_resolved, resolve_model
    from empu.engine.benchmark import MachineInfo, peak_memory_bytes, run_benchmark
    from empu.system.cpu import available_cpus

    resolved = resolve_model(model)
    start = time.perf_counter()
    language_model = open_resolved(resolved, **loading_options(options))
    load_s = time.perf_counter() - start
    machine = MachineInfo.detect()
    threads = options["threads"] or getattr(language_model.backend, "threads", None) or available_cpus()
    measurements, roofline = run_benchmark(
        language_model.backend, threads=threads, rounds=runs, on_message=output.message
    )
    peak = peak_memory_bytes()
    if as_json:
        output.print_json(
            {
                "model": resolved.identity(),
                "engine": language_model.backend.name,
                "threads": threads,
                "quant": options["quant"],
                "kv": options["kv"],
                "load_s": load_s,
                "peak_memory_bytes": peak,
                "limits": roofline.to_json() if roofline else None,
                "figures": [measurement.to_json() for measurement in measurements],
                "machine": machine.to_json(),
            }
        )
        return
    pairs = [
        ("machine", f"{machine.cpu}, {machine.logical_cpus} CPUs, {output.format_bytes(machine.memory_bytes)}"),
        ("model", str(resolved.identity()["name"] or resolved.path)),
        ("engine", f"{language_model.backend.name}, {threads} thread{'s' * (threads > 1)}, empu {machine.empu}"),
        ("loaded in", f"{load_s:.2f} s; {output.format_bytes(peak)} peak memory"),
    ]
    if roofline is not None:
        pairs += [
            (
                "memory",
                f"{roofline.bytes_per_s / 1e9:.1f} GB/s for {output.format_bytes(roofline.weight_bytes)} of weights",
            ),
            ("KV cache", f"{output.format_bytes(roofline.cache_bytes_per_token)} per token of context"),
            ("processor", f"{roofline.int8_operations_per_s / 1e9:,.0f} int8 GOP/s"),
        ]
    output.key_values(pairs)
    output.table(
        ["case", "tokens/s", "of roofline"],
        [
            [str(m.case), f"{m.tokens_per_s:,.0f}", f"{m.roofline_fraction:.0%}" if m.roofline_fraction else "unknown"]
            for m in measurements
        ],
    )
