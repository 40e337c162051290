"""Configures the server's log on stderr."""

from __future__ import annotations

import json
import logging
import sys

REQUEST_LOGGER = "empu.server.requests"


class _TerminalFormatter(logging.Formatter):
    """Shortens the JSON line of a request for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.name != REQUEST_LOGGER:
            return text
        line = json.loads(text)
        fields = [line["at"][11:19], str(line["status"]), line["method"], line["route"], f"{line['ms']:,.0f} ms"]
        if "completion_tokens" in line:
            model = line.get("model", "")
            fields.append(f"{model}: {line['prompt_tokens']} prompt, {line['completion_tokens']} completion tokens")
        return "  ".join([*fields, f"({line['key']})" if line["key"] else ""]).rstrip()


def configure_logging() -> None:
    """Log one line a request: short on a terminal, otherwise one JSON object. Errors are plain lines."""
    handler = logging.StreamHandler()
    handler.setFormatter((_TerminalFormatter if sys.stderr.isatty() else logging.Formatter)("%(message)s"))
    for name, level in (
        ("empu.server", logging.INFO),
        ("empu.engine", logging.WARNING),
        ("uvicorn.error", logging.WARNING),
    ):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
