"""What people thought of answers, as rows that ``empu tune`` takes.

    labels        {"text", "label"}: judged or corrected answers of specialists for labels
    messages      {"messages"}: dialogues whose last answer was called good, or was corrected
    preferences   {"chosen", "rejected"}: a correction and what it corrects, or a good and a bad answer to one question

An answer that was called bad and not corrected teaches nothing by itself; it is left out, and so is every dialogue that
goes on from it, since tuning learns each answer of a dialogue. Earlier answers that were corrected stand corrected.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from empu.chat.conversations import Conversations, Heading, Message
from empu.system import durable

KINDS = ("labels", "messages", "preferences")
Row = dict[str, Any]


def rows(kept: Conversations, owner: str) -> dict[str, list[Row]]:
    """Kind -> its rows, oldest judgement first, each once."""
    found: dict[str, list[Row]] = {kind: [] for kind in KINDS}
    seen: set[str] = set()
    for kind, row in _all(kept, owner):
        key = _key([kind, row])
        if key not in seen:
            seen.add(key)
            found[kind].append(row)
    begun = {key for row in found["messages"] for key in _beginnings(row["messages"])}
    found["messages"] = [row for row in found["messages"] if _key(row["messages"]) not in begun]
    return found


def as_lines(found: list[Row]) -> str:
    """JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)


def save(home: Path, owner: str, kind: str, found: list[Row]) -> Path:
    """Write the rows of one kind below the store's ``data`` folder, whole or not at all; where they are."""
    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in owner)
    path = home / "data" / "feedback" / f"{name}-{kind}.jsonl"
    with durable.writing(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write_atomically(path, as_lines(found).encode())
    return path


def _all(kept: Conversations, owner: str) -> Iterator[tuple[str, Row]]:
    good: defaultdict[tuple[str, int], list[list[Row]]] = defaultdict(list)
    bad: defaultdict[tuple[str, int], list[list[Row]]] = defaultdict(list)
    for heading, message in kept.judged(owner):
        assert message.parent is not None  # an answer stands behind its question
        path = kept.path_to(owner, heading.id, message.parent)
        correction = message.correction
        if "confidence" in message.facts:
            named = message.verdict == "up" and not message.facts.get("out_of_scope")
            label = correction if correction is not None else message.content if named else None
            if label is not None:
                yield "labels", {"text": path[-1].content, "label": label}
            continue
        if any(one.verdict == "down" and one.correction is None for one in path):
            continue
        given, place = _dialogue(heading, path, message.content), (heading.id, message.parent)
        if correction is not None:
            better = _dialogue(heading, path, correction)
            yield "messages", {"messages": better}
            if message.content.strip() and correction != message.content:
                yield "preferences", {"chosen": better, "rejected": given}
        elif not message.content.strip():
            continue  # stopped before its first word
        elif message.verdict == "up":
            yield "messages", {"messages": given}
            good[place].append(given)
        else:
            bad[place].append(given)
    for place, chosen in good.items():
        for one in chosen:
            yield from (("preferences", {"chosen": one, "rejected": other}) for other in bad[place] if other != one)


def _dialogue(heading: Heading, path: list[Message], answer: str) -> list[Row]:
    """As chat templates take it. Empty answers, which a stopped one can be, are no turns to learn from."""
    system = str(heading.settings.get("system", ""))
    said = [("system", system), *((one.role, one.correction or one.content) for one in path), ("assistant", answer)]
    return [{"role": role, "content": content} for role, content in said if content.strip()]


def _beginnings(messages: list[Row]) -> Iterator[str]:
    """Keys of the shorter dialogues that this one goes on from."""
    for i in range(1, len(messages)):
        if messages[i - 1]["role"] == "assistant":
            yield _key(messages[:i])


def _key(value: object) -> str:
    return json.dumps(value, sort_keys=True)
