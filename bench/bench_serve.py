"""Streaming clients against `empu serve`: time to first token, tokens per second, memory, broken streams.

    python bench/bench_serve.py MODEL [--clients 64] [--seconds 20] [--rounds 5] [--tokens 64] [--peer PYTHON]

Each client sends the next request as soon as its answer has ended. In every round the engine alone then generates as
many answers at once, without HTTP. With --peer (a Python that has llama-cpp-python with its server) that server is
measured on the same file. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import queue
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

QUESTION = "Explain to a new colleague, step by step, how a letter travels from the sender to the reader. Version {}."


@dataclass
class ClientStats:
    """Measurements of all clients together."""

    first_token_s: list[float] = field(default_factory=list)
    tokens: int = 0
    broken_streams: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class Client:
    """One connection that streams answers; kept simple, since it shares the processor with the server."""

    def __init__(self, address: str, key: str, model: str, tokens: int) -> None:
        parts = urlsplit(address)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._key, self._model, self._tokens = key, model, tokens
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, number: int, stats: ClientStats) -> None:
        """Request one answer and record it."""
        started_at, first_token_s, num_events, finish_reason, is_complete = time.perf_counter(), 0.0, 0, None, False
        usage: dict[str, Any] | None = None
        message = [{"role": "user", "content": QUESTION.format(number)}]
        request = {
            "model": self._model,
            "messages": message,
            "max_tokens": self._tokens,
            "seed": number,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body = json.dumps(request).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Authorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            if self._open is None:
                self._open = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._open
            writer.write(head.encode() + body)
            status = (await reader.readline()).split(b" ")[1].decode()
            if status != "200":
                raise ConnectionError(status)
            while line := await reader.readline():
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    usage = event.get("usage") or usage
                    for choice in event["choices"]:
                        if choice["delta"].get("content"):
                            first_token_s = first_token_s or time.perf_counter() - started_at
                            num_events += 1
                        finish_reason = finish_reason or choice["finish_reason"]
                elif line.startswith(b"data: [DONE]"):
                    is_complete = True
                elif line == b"0\r\n":  # the last chunk
                    await reader.readline()
                    break
        except (OSError, IndexError, ValueError) as error:
            name = str(error) if type(error) is ConnectionError else type(error).__name__
            stats.errors[name] = stats.errors.get(name, 0) + 1
            self.close()
            return
        stats.broken_streams += finish_reason is None or not is_complete
        stats.first_token_s.append(first_token_s)
        stats.tokens += (
            usage["completion_tokens"] if usage is not None else num_events
        )  # without usage, one event per token

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._open is not None:
            self._open[1].close()
        self._open = None


async def run_clients(address: str, key: str, model: str, clients: int, tokens: int, seconds: float) -> dict[str, Any]:
    """Run all clients for some seconds. Answers that started in time are completed and counted."""
    stats = ClientStats()
    all_clients = [Client(address, key, model, tokens) for _ in range(clients)]
    await all_clients[0].ask(0, ClientStats())
    started_at = time.perf_counter()

    async def run_client(first_number: int, client: Client) -> None:
        number = first_number
        while number == first_number or time.perf_counter() - started_at < seconds:
            await client.ask(number, stats)
            number += clients
        client.close()

    await asyncio.gather(*(run_client(i, client) for i, client in enumerate(all_clients, 1)))
    elapsed = time.perf_counter() - started_at
    first_token_times = sorted(stats.first_token_s)
    return {
        "clients": clients,
        "seconds": round(elapsed, 1),
        "answers": len(first_token_times),
        "tokens": stats.tokens,
        "tokens_per_s": round(stats.tokens / elapsed, 1),
        "first_token_p50_s": round(statistics.median(first_token_times), 3) if first_token_times else None,
        "first_token_p99_s": round(
            first_token_times[min(len(first_token_times) - 1, int(len(first_token_times) * 0.99))], 3
        )
        if first_token_times
        else None,
        "torn_streams": stats.broken_streams,
        "errors": stats.errors,
    }


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


@contextmanager
def terminating(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Terminate the process at the end of the block."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def server_load(options: argparse.Namespace) -> Iterator[Callable[[float], dict[str, Any]]]:
    """Start Empu's server, and yield a function that loads it for some seconds."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "empu", "serve", options.model, "--port", "0", "--json"]
        command += ["--engine", options.engine, "--slots", str(options.slots), "--queue", str(4 * options.clients)]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "EMPU_HOME": home}
        )
        with terminating(child) as process:
            assert process.stdout is not None
            text = ""
            while not text.endswith("}\n"):
                line = process.stdout.readline()
                assert line, "the server did not start"
                text += line
            info = json.loads(text)

            def measure(seconds: float) -> dict[str, Any]:
                before = memory_mib(process.pid)
                run = run_clients(
                    info["address"], info["key"], info["models"][0], options.clients, options.tokens, seconds
                )
                return {**asyncio.run(run), "memory_before_mib": before, "memory_after_mib": memory_mib(process.pid)}

            measure(0.0)
            yield measure


@contextmanager
def engine_load(options: argparse.Namespace) -> Iterator[Callable[[float], dict[str, Any]]]:
    """Start a scheduler without a server, and yield a function that loads it with as many requests."""
    from empu.engine.language_model import open_model
    from empu.engine.outputs import Completion, TextDelta
    from empu.engine.prompt import prepare_prompt
    from empu.engine.sampling import DEFAULT_TEMPERATURE, DEFAULT_TOP_P, SamplingParams
    from empu.engine.scheduler import Scheduler, SchedulerConfig

    model = open_model(Path(options.model), engine=options.engine)
    config = SchedulerConfig(
        max_running=options.slots, max_waiting=4 * options.clients, max_step_tokens=max(256, 2 * options.slots)
    )
    scheduler = Scheduler(model.backend, model.text.tokenizer, model.context_length, config)
    scheduler.start()

    def measure(seconds: float) -> dict[str, Any]:
        updates: queue.Queue[Any] = queue.Queue()
        num_tokens, running, number = 0, 0, 0
        started_at = time.perf_counter()
        while time.perf_counter() - started_at < seconds or running:
            while running < options.clients and time.perf_counter() - started_at < seconds:
                number += 1
                prompt = prepare_prompt(
                    model.text, [{"role": "user", "content": QUESTION.format(number)}], limit=model.context_length - 1
                )
                params = SamplingParams(DEFAULT_TEMPERATURE, DEFAULT_TOP_P, seed=number, max_tokens=options.tokens)
                scheduler.submit(prompt, params, updates.put)
                running += 1
            update = updates.get()
            assert not isinstance(update, Exception), update
            running -= isinstance(update, Completion)
            num_tokens += len(update.tokens) if isinstance(update, TextDelta) else 0
        elapsed = time.perf_counter() - started_at
        return {"answers": number, "tokens": num_tokens, "tokens_per_s": round(num_tokens / elapsed, 1)}

    try:
        measure(1.0)
        yield measure
    finally:
        scheduler.close()


def measure_peer(options: argparse.Namespace) -> dict[str, Any]:
    """llama-cpp-python's server on the same file. It answers one request at a time."""
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    threads = str(len(os.sched_getaffinity(0)))
    command = [
        options.peer,
        "-m",
        "llama_cpp.server",
        "--model",
        options.model,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += ["--n_ctx", "2048", "--n_threads", threads, "--interrupt_requests", "false"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    with terminating(child) as process:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the peer's server ended"
            assert time.monotonic() < deadline, "the peer's server did not start"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        address = f"http://127.0.0.1:{port}"
        return asyncio.run(run_clients(address, "none", "model", options.clients, options.tokens, options.seconds / 2))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--peer", metavar="PYTHON")
    options = parser.parse_args()
    results: dict[str, Any] = {"server": [], "engine_alone": []}
    with server_load(options) as measure_server, engine_load(options) as measure_engine:
        for _ in range(options.rounds):  # in turn, so that changes of the machine's speed affect both
            results["server"].append(measure_server(options.seconds))
            results["engine_alone"].append(measure_engine(options.seconds / 2))
            print(f"server {results['server'][-1]}\nengine alone {results['engine_alone'][-1]}", flush=True)
    if options.peer is not None:
        results["llama_cpp_python"] = measure_peer(options)
        print(f"llama_cpp_python {results['llama_cpp_python']}", flush=True)
    rates = [[run["tokens_per_s"] for run in results[part]] for part in ("server", "engine_alone")]
    results["server_of_engine"] = round(statistics.median(a / b for a, b in zip(*rates, strict=True)), 3)
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.1f}")
    print(f"tokens/s, medians: server {statistics.median(rates[0])}, engine alone {statistics.median(rates[1])}")
    print(f"the server reaches {results['server_of_engine']:.0%} of it (median of the rounds' ratios)")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
