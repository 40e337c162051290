"""Streaming clients against `empu serve`: time to first token and tokens per second, all together.

Run: python bench/bench_serve.py MODEL [--clients 8] [--tokens 64] [--engine torch]. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import openai

QUESTION = "Explain to a new colleague, step by step, how a letter travels from the sender to the reader. Version {}."


async def stream(client: openai.AsyncOpenAI, model: str, tokens: int, number: int) -> tuple[float, int]:
    """Seconds to the first text, and the tokens of the answer."""
    begun, first, count = time.perf_counter(), 0.0, 0
    message: Any = [{"role": "user", "content": QUESTION.format(number)}]
    answer = await client.chat.completions.create(
        model=model,
        messages=message,
        max_tokens=tokens,
        seed=number,
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in answer:
        if chunk.choices and chunk.choices[0].delta.content and not first:
            first = time.perf_counter() - begun
        if chunk.usage is not None:
            count = chunk.usage.completion_tokens
    assert count, "a stream ended without its usage"
    return first, count


async def measure(address: str, key: str, model: str, clients: int, tokens: int) -> dict[str, float]:
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=600) as client:
        await stream(client, model, 4, 0)
        begun = time.perf_counter()
        done = await asyncio.gather(*(stream(client, model, tokens, i) for i in range(1, clients + 1)))
        seconds = time.perf_counter() - begun
    firsts = sorted(first for first, _ in done)
    total = sum(count for _, count in done)
    return {
        "clients": clients,
        "tokens": total,
        "tokens_per_s": total / seconds,
        "first_token_p50_s": statistics.median(firsts),
        "first_token_max_s": firsts[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--engine", default="auto")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "empu", "serve", given.model, "--port", "0", "--json"]
        process = subprocess.Popen(
            [*command, "--engine", given.engine],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "EMPU_HOME": home},
        )
        try:
            assert process.stdout is not None
            text = ""
            while not text.endswith("}\n"):
                line = process.stdout.readline()
                assert line, "the server did not start"
                text += line
            at = json.loads(text)
            runs = [
                asyncio.run(measure(at["address"], at["key"], at["models"][0], clients, given.tokens))
                for clients in given.clients
            ]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, engine {given.engine}")
    print(json.dumps({"engine": given.engine, "runs": runs}))


if __name__ == "__main__":
    main()
