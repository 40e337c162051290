"""Values that clients send by the conventions of other servers."""

from __future__ import annotations

from typing import Any

MAX_TEMPERATURE = 100
UNLIMITED_TOKENS = 1 << 30
"""More than any context holds."""
SMALLEST_TOP_P = 1e-9
"""Keeps one token."""
ONLY_TEXT = "only text is supported; the models here read no images, audio or files"


def normalise_sampling(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with the conventions of other servers translated.

    ``max_tokens`` of -1 means no limit. ``top_k`` of 0 or -1 means off, ``top_p`` of 0 the most likely token. Empty
    stop strings do not count. ``repeat_penalty`` is ``repetition_penalty``.
    """
    changed = dict(body)
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if type(changed.get(name)) is int and changed[name] == -1:
            changed[name] = UNLIMITED_TOKENS
    if changed.get("top_k") in (0, -1) and type(changed["top_k"]) is int:
        changed["top_k"] = None
    if changed.get("top_p") == 0 and type(changed["top_p"]) in (int, float):
        changed["top_p"] = SMALLEST_TOP_P
    for name in ("stop", "stop_sequences"):
        if changed.get(name) == "":
            changed[name] = None
        elif isinstance(changed.get(name), list):
            changed[name] = [stop for stop in changed[name] if stop != ""]
    if "repeat_penalty" in changed and changed.get("repetition_penalty") is None:
        changed["repetition_penalty"] = changed.pop("repeat_penalty")
    return changed
