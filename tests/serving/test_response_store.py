"""The store of responses is bounded in number and bytes."""

from __future__ import annotations

from typing import Any

from empu.serving.response_store import ResponseStore


def response(name: str, text: str = "") -> dict[str, Any]:
    return {"id": name, "output": [{"id": f"item-{name}", "text": text}]}


def test_the_oldest_responses_are_dropped() -> None:
    store = ResponseStore(max_responses=2, max_bytes=1000)
    for name in ("a", "b", "c"):
        store.add("me", response(name), [])
    assert [store.get("me", name) is not None for name in ("a", "b", "c")] == [False, True, True]
    store.add("me", response("d", "x" * 900), [])
    assert [store.get("me", name) is not None for name in ("b", "c", "d")] == [False, False, True]
    store.add("me", response("e", "x" * 2000), [])
    assert store.get("me", "e") is None
    assert store.delete("me", "d") is False
    store.add("me", response("f"), [])
    assert store.find_item("me", "item-f") is not None
    assert store.find_item("you", "item-f") is None
    assert (store.delete("you", "f"), store.delete("me", "f"), store.delete("me", "f")) == (False, True, False)
