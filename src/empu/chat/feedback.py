"""Training rows from the feedback on answers, in the formats that ``empu tune`` reads.

    labels        {"text", "label"}: confirmed or corrected answers of label specialists
    messages      {"messages"}: dialogues whose last answer was rated good or was corrected
    preferences   {"chosen", "rejected"}: a correction and the answer it corrects, or a good and a bad answer

An answer that was rated bad and not corrected gives no row by itself. Dialogues that continue from it give none either,
since tuning trains on every answer of a dialogue. Earlier answers that were corrected appear in their corrected form.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from empu.chat.conversations import ChatMessage, Conversation, ConversationStore
from empu.system import durable

ROW_KINDS = ("labels", "messages", "preferences")
FeedbackRow = dict[str, Any]


def training_rows(conversations: ConversationStore, owner: str) -> dict[str, list[FeedbackRow]]:
    """Return kind -> distinct rows, oldest feedback first. A dialogue that another one continues is left out."""
    rows: dict[str, list[FeedbackRow]] = {kind: [] for kind in ROW_KINDS}
    seen: set[str] = set()
    for kind, row in _candidate_rows(conversations, owner):
        key = _key([kind, row])
        if key not in seen:
            seen.add(key)
            rows[kind].append(row)
    prefixes = {key for row in rows["messages"] for key in _prefix_keys(row["messages"])}
    rows["messages"] = [row for row in rows["messages"] if _key(row["messages"]) not in prefixes]
    return rows


def to_jsonl(rows: list[FeedbackRow]) -> str:
    """Return the rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def save_rows(home: Path, owner: str, kind: str, rows: list[FeedbackRow]) -> Path:
    """Write the rows of one kind atomically to a file below ``<home>/data/feedback``; return its path."""
    name = "".join(char if char.isalnum() or char in "-_" else "-" for char in owner)
    path = home / "data" / "feedback" / f"{name}-{kind}.jsonl"
    with durable.explain_write_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write_atomically(path, to_jsonl(rows).encode())
    return path


def _candidate_rows(conversations: ConversationStore, owner: str) -> Iterator[tuple[str, FeedbackRow]]:
    """Yield (kind, row) for every rated answer, then the pairs of good and bad answers to one question."""
    good: defaultdict[tuple[str, int], list[list[FeedbackRow]]] = defaultdict(list)
    bad: defaultdict[tuple[str, int], list[list[FeedbackRow]]] = defaultdict(list)
    for conversation, answer in conversations.rated_messages(owner):
        assert answer.parent is not None  # every answer has a question
        path = conversations.path_to(owner, conversation.id, answer.parent)
        if "confidence" in answer.facts:
            label = _label(answer)
            if label is not None:
                yield "labels", {"text": path[-1].content, "label": label}
            continue
        if any(message.verdict == "down" and message.correction is None for message in path):
            continue
        dialogue, question = _dialogue(conversation, path, answer.content), (conversation.id, answer.parent)
        if answer.correction is not None:
            corrected = _dialogue(conversation, path, answer.correction)
            yield "messages", {"messages": corrected}
            if answer.content.strip() and answer.correction != answer.content:
                yield "preferences", {"chosen": corrected, "rejected": dialogue}
        elif not answer.content.strip():
            continue  # cancelled before its first token
        elif answer.verdict == "up":
            yield "messages", {"messages": dialogue}
            good[question].append(dialogue)
        else:
            bad[question].append(dialogue)
    for question, dialogues in good.items():
        for chosen in dialogues:
            for rejected in bad[question]:
                if rejected != chosen:
                    yield "preferences", {"chosen": chosen, "rejected": rejected}


def _label(answer: ChatMessage) -> str | None:
    """Return the right label of a question according to the feedback on its answer; ``None`` if it is not known."""
    if answer.correction is not None:
        return answer.correction
    is_confirmed = answer.verdict == "up" and not answer.facts.get("out_of_scope")
    return answer.content if is_confirmed else None


def _dialogue(conversation: Conversation, path: list[ChatMessage], answer: str) -> list[FeedbackRow]:
    """Return the messages for a chat template, without empty ones, which cancelled answers can be."""
    turns = [("system", str(conversation.settings.get("system", "")))]
    turns += [(message.role, message.correction or message.content) for message in path]
    turns.append(("assistant", answer))
    return [{"role": role, "content": content} for role, content in turns if content.strip()]


def _prefix_keys(messages: list[FeedbackRow]) -> Iterator[str]:
    """Yield the keys of the shorter dialogues, ending with an answer, that this one continues."""
    for i in range(1, len(messages)):
        if messages[i - 1]["role"] == "assistant":
            yield _key(messages[:i])


def _key(value: object) -> str:
    return json.dumps(value, sort_keys=True)
