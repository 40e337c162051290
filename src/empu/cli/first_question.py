"""Ask a server that has just started one question over HTTP, as any client would."""

from __future__ import annotations

import http.client
import json
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from empu.errors import EmpuError

MAX_TOKENS = 128
TIMEOUT_S = 600


@dataclass(frozen=True)
class ServerAnswer:
    """The answer of the server."""

    model: str
    text: str
    confidence: float | None
    usage: dict[str, Any]


def has_terminal() -> bool:
    """Whether a standard stream of this process is a terminal."""
    return any(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def ask_server(address: str, cookie: str, model: str, question: str) -> ServerAnswer:
    """Return the greedy answer of ``model``. Raises :class:`EmpuError` for any other reply."""
    url = urlsplit(address)
    request = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
    }
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json", "Cookie": cookie}
        connection.request("POST", "/v1/chat/completions", json.dumps(request), headers)
        reply = connection.getresponse()
        status, body = reply.status, reply.read()
    except OSError as error:
        raise EmpuError(f"{address} did not answer ({error}); see the log above.") from None
    finally:
        connection.close()
    try:
        value = json.loads(body)
        if status != 200:
            raise EmpuError(f"{address} answered {status}: {value['error']['message']}")
        choice = value["choices"][0]
        return ServerAnswer(model, choice["message"]["content"], choice.get("confidence"), value["usage"])
    except (ValueError, KeyError, IndexError, TypeError):
        raise EmpuError(f"{address} answered {status} with an unexpected document.") from None
