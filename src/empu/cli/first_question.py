"""One question to a server that has just started, over HTTP as any program would put it."""

from __future__ import annotations

import http.client
import json
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from empu.errors import EmpuError

MOST_TOKENS = 128
TIMEOUT_S = 600


@dataclass(frozen=True)
class Answer:
    """What came back."""

    model: str
    text: str
    confidence: float | None
    usage: dict[str, Any]


def is_attended() -> bool:
    """Whether a terminal belongs to this process."""
    return any(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def put(address: str, cookie: str, model: str, question: str) -> Answer:
    """The answer of ``model``, without chance. Raises :class:`EmpuError` for any reply but an answer."""
    place = urlsplit(address)
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": MOST_TOKENS,
        "temperature": 0,
    }
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json", "Cookie": cookie}
        connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
        reply = connection.getresponse()
        status, body = reply.status, reply.read()
    except OSError as error:
        raise EmpuError(f"{address} did not answer ({error}); look at the log above.") from None
    finally:
        connection.close()
    try:
        value = json.loads(body)
        if status != 200:
            raise EmpuError(f"{address} answered {status}: {value['error']['message']}")
        choice = value["choices"][0]
        return Answer(model, choice["message"]["content"], choice.get("confidence"), value["usage"])
    except (ValueError, KeyError, IndexError, TypeError):
        raise EmpuError(f"{address} answered {status} with something that is no answer.") from None
