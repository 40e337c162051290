"""Streaming clients against `empu serve`: time to first token, tokens per second, memory, broken streams.

    python bench/bench_serve.py MODEL [--clients 64] [--seconds 20] [--rounds 5] [--tokens 64] [--peer PYTHON]

Each client asks again as soon as its answer ended, for so many seconds. In every round the engine alone then writes as
many answers at once, without HTTP; with --peer (a Python that has llama-cpp-python with its server) that server follows
on the same file. The last line is JSON.
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
class Tally:
    """What the clients saw."""

    firsts: list[float] = field(default_factory=list)
    tokens: int = 0
    torn: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class Client:
    """One connection that streams answers; written plainly, since it takes its time from the same cores."""

    def __init__(self, address: str, key: str, model: str, tokens: int) -> None:
        parts = urlsplit(address)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._key, self._model, self._tokens = key, model, tokens
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, number: int, tally: Tally) -> None:
        """One answer, counted."""
        begun, first, count, finish, whole = time.perf_counter(), 0.0, 0, None, False
        usage: dict[str, Any] | None = None
        message = [{"role": "user", "content": QUESTION.format(number)}]
        asked = {
            "model": self._model,
            "messages": message,
            "max_tokens": self._tokens,
            "seed": number,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body = json.dumps(asked).encode()
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
                            first = first or time.perf_counter() - begun
                            count += 1
                        finish = finish or choice["finish_reason"]
                elif line.startswith(b"data: [DONE]"):
                    whole = True
                elif line == b"0\r\n":  # the last chunk
                    await reader.readline()
                    break
        except (OSError, IndexError, ValueError) as error:
            name = str(error) if type(error) is ConnectionError else type(error).__name__
            tally.errors[name] = tally.errors.get(name, 0) + 1
            self.close()
            return
        tally.torn += finish is None or not whole
        tally.firsts.append(first)
        tally.tokens += usage["completion_tokens"] if usage is not None else count  # else an event a token

    def close(self) -> None:
        """End the connection; the next question opens another."""
        if self._open is not None:
            self._open[1].close()
        self._open = None


async def press(address: str, key: str, model: str, clients: int, tokens: int, seconds: float) -> dict[str, Any]:
    """All clients until the time is over; answers begun before are finished and counted."""
    tally = Tally()
    callers = [Client(address, key, model, tokens) for _ in range(clients)]
    await callers[0].ask(0, Tally())
    begun = time.perf_counter()

    async def one(place: int, caller: Client) -> None:
        number = place
        while number == place or time.perf_counter() - begun < seconds:
            await caller.ask(number, tally)
            number += clients
        caller.close()

    await asyncio.gather(*(one(place, caller) for place, caller in enumerate(callers, 1)))
    passed = time.perf_counter() - begun
    firsts = sorted(tally.firsts)
    return {
        "clients": clients,
        "seconds": round(passed, 1),
        "answers": len(firsts),
        "tokens": tally.tokens,
        "tokens_per_s": round(tally.tokens / passed, 1),
        "first_token_p50_s": round(statistics.median(firsts), 3) if firsts else None,
        "first_token_p99_s": round(firsts[min(len(firsts) - 1, int(len(firsts) * 0.99))], 3) if firsts else None,
        "torn_streams": tally.torn,
        "errors": tally.errors,
    }


def memory_mib(process: int) -> float:
    """Resident memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def serve(given: argparse.Namespace) -> Iterator[Callable[[float], dict[str, Any]]]:
    """Empu's server, and what presses it for so many seconds."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "empu", "serve", given.model, "--port", "0", "--json"]
        command += ["--engine", given.engine, "--slots", str(given.slots), "--queue", str(4 * given.clients)]
        started = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "EMPU_HOME": home}
        )
        with ended(started) as process:
            assert process.stdout is not None
            text = ""
            while not text.endswith("}\n"):
                line = process.stdout.readline()
                assert line, "the server did not start"
                text += line
            at = json.loads(text)

            def measure(seconds: float) -> dict[str, Any]:
                before = memory_mib(process.pid)
                run = press(at["address"], at["key"], at["models"][0], given.clients, given.tokens, seconds)
                return {**asyncio.run(run), "memory_before_mib": before, "memory_after_mib": memory_mib(process.pid)}

            measure(0.0)
            yield measure


@contextmanager
def engine(given: argparse.Namespace) -> Iterator[Callable[[float], dict[str, Any]]]:
    """The scheduler alone with as many answers at once."""
    from empu.engine.generation import Completion, Piece
    from empu.engine.language_model import open_model
    from empu.engine.prompt import encode_prompt
    from empu.engine.sampling import USUAL_TEMPERATURE, USUAL_TOP_P, SamplingParams
    from empu.engine.scheduler import Limits, Scheduler

    model = open_model(Path(given.model), engine=given.engine)
    limits = Limits(slots=given.slots, queue=4 * given.clients, step_tokens=max(256, 2 * given.slots))
    scheduler = Scheduler(model.backend, model.text.tokenizer, model.context, limits)
    scheduler.start()

    def measure(seconds: float) -> dict[str, Any]:
        updates: queue.Queue[Any] = queue.Queue()
        written, running, number = 0, 0, 0
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds or running:
            while running < given.clients and time.perf_counter() - begun < seconds:
                number += 1
                prompt = encode_prompt(
                    model.text, [{"role": "user", "content": QUESTION.format(number)}], limit=model.context - 1
                )
                params = SamplingParams(USUAL_TEMPERATURE, USUAL_TOP_P, seed=number, max_tokens=given.tokens)
                scheduler.submit(prompt, params, updates.put)
                running += 1
            update = updates.get()
            assert not isinstance(update, Exception), update
            running -= isinstance(update, Completion)
            written += len(update.tokens) if isinstance(update, Piece) else 0
        passed = time.perf_counter() - begun
        return {"answers": number, "tokens": written, "tokens_per_s": round(written / passed, 1)}

    try:
        measure(1.0)
        yield measure
    finally:
        scheduler.close()


def peer(given: argparse.Namespace) -> dict[str, Any]:
    """llama-cpp-python's server on the same file. It answers one request at a time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = str(len(os.sched_getaffinity(0)))
    command = [given.peer, "-m", "llama_cpp.server", "--model", given.model, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--n_ctx", "2048", "--n_threads", threads, "--interrupt_requests", "false"]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    with ended(started) as process:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the peer's server ended"
            assert time.monotonic() < deadline, "the peer's server did not start"
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        address = f"http://127.0.0.1:{port}"
        return asyncio.run(press(address, "none", "model", given.clients, given.tokens, given.seconds / 2))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--peer", metavar="PYTHON")
    given = parser.parse_args()
    found: dict[str, Any] = {"server": [], "engine_alone": []}
    with serve(given) as server, engine(given) as alone:
        for _ in range(given.rounds):  # in turn: a change of the machine's speed meets both
            found["server"].append(server(given.seconds))
            found["engine_alone"].append(alone(given.seconds / 2))
            print(f"server {found['server'][-1]}\nengine alone {found['engine_alone'][-1]}", flush=True)
    if given.peer is not None:
        found["llama_cpp_python"] = peer(given)
        print(f"llama_cpp_python {found['llama_cpp_python']}", flush=True)
    rates = [[one["tokens_per_s"] for one in found[part]] for part in ("server", "engine_alone")]
    found["server_of_engine"] = round(statistics.median(a / b for a, b in zip(*rates, strict=True)), 3)
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.1f}")
    print(f"tokens/s, medians: server {statistics.median(rates[0])}, engine alone {statistics.median(rates[1])}")
    print(f"the server reaches {found['server_of_engine']:.0%} of it (median of the rounds' ratios)")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
