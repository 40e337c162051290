"""The plain baseline for taking fields out of text: a linear tagger of lines, and shapes of values."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from empu.errors import MissingDependencyError

NAME = "line tagger (logistic regression)"
SHAPES = 40
"""Shapes of a field's values that are looked for; a field whose values have more is taken as whole lines."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What the tagger found in each text, and what it costs."""

    fields: list[dict[str, Any]]
    ms_per_text: float
    size_bytes: int


def line_tagger(
    train: Sequence[tuple[str, Mapping[str, Any]]],
    texts: Sequence[str],
    schema: Mapping[str, Any],
    *,
    seed: int = 0,
) -> Extracted:
    """Learn from (text, fields) which lines hold each field of an object's ``schema``, and take it out of ``texts``.

    For each field one logistic regression over lines (their letters, shape, place, and the line before) finds the
    likeliest line. Where the field's values have few shapes, such as dates, the part of that line with the commonest
    shape is the value; elsewhere it is the line with its likely neighbours. What is found is read as the schema's type;
    a list or an object within is beyond it.
    """
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "The linear baseline needs scikit-learn, which is not installed; install it with: pip install 'empu[tune]'."
        ) from None
    vectorizer = HashingVectorizer(analyzer=str.split, n_features=2**18, alternate_sign=False, norm=None, binary=True)
    lines = [_lines(text) for text, _ in train]
    matrix = vectorizer.transform([feature for document in lines for feature in _features(document)])
    models, shapes, size = {}, {}, 0
    for key in schema["properties"]:
        values = [_spelled(fields.get(key), text) for text, fields in train]
        marks = [_holds(line, value) for document, value in zip(lines, values, strict=True) for line in document]
        if len(set(marks)) == 2:
            models[key] = LogisticRegression(C=1.0, class_weight="balanced", max_iter=300, random_state=seed)
            models[key].fit(matrix, marks)
            size += int((models[key].coef_ != 0).sum()) * 8
        inside = [v for v, document in zip(values, lines, strict=True) if v and any(v in line for line in document)]
        common = Counter(map(_shape, inside)).most_common(SHAPES)
        covered = sum(count for _, count in common)
        shapes[key] = [shape for shape, _ in common] if covered >= 0.9 * len(list(filter(None, values))) else []
    begun = time.perf_counter()
    found = []
    for text in texts:
        document = _lines(text)
        rows = vectorizer.transform(_features(document))
        chances = {key: model.predict_proba(rows)[:, 1] for key, model in models.items()}
        words = {
            key: _value(document, chance, shapes[key])
            for key, chance in chances.items()
            if key in schema["required"] or chance.max() > 0.5
        }
        found.append(_typed(words, schema))
    return Extracted(found, 1000 * (time.perf_counter() - begun) / max(1, len(texts)), size)


def _spelled(value: Any, text: str) -> str:
    """A value as it stands in the text; empty for what cannot stand in a line."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return next((said for said in (f"{value:,.2f}", f"{value:.2f}", f"{value:,}") if said in text), str(value))


def _typed(words: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """What was found of each field, as the schema's types. Of what was not found only the required stands."""
    made: dict[str, Any] = {}
    for key, said in schema["properties"].items():
        kinds = [said["type"]] if isinstance(said["type"], str) else said["type"]
        word = words.get(key, "")
        number = _number(word) if {"integer", "number"} & set(kinds) else None
        if number is not None:
            made[key] = int(number) if "integer" in kinds and number == int(number) else number
        elif word and "string" in kinds:
            made[key] = word
        elif key in schema["required"]:
            made[key] = None if "null" in kinds else ""
    return made


def _number(word: str) -> float | None:
    try:
        number = float(word.replace(",", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()] or [""]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _holds(line: str, value: str) -> bool:
    a, b = _plain(line), _plain(value)
    return bool(a and b) and (b in a or (len(a) >= 3 and a in b))


def _shape(text: str) -> str:
    return re.sub(r"[A-Za-z]", "A", re.sub(r"\d", "9", text))


def _features(lines: Sequence[str]) -> list[str]:
    """One string of features a line."""
    made = []
    for i, line in enumerate(lines):
        low = f" {line.lower()} ".replace(" ", "_")
        words = [f"w:{word}" for word in line.lower().split()]
        before = [f"b:{word}" for word in (lines[i - 1].lower().split() if i else ["^"])]
        grams = [f"g:{low[j : j + 3]}" for j in range(len(low) - 2)]
        place = [f"top:{min(i, 12)}", f"end:{min(len(lines) - 1 - i, 12)}", f"tenth:{10 * i // len(lines)}"]
        shape = _shape(line).replace(" ", "_")
        made.append(" ".join([*words, *before, *grams, *place, f"s:{shape}"]))
    return made


def _value(lines: Sequence[str], chances: Any, shapes: Sequence[str]) -> str:
    order = sorted(range(len(lines)), key=lambda i: -chances[i])
    if shapes:
        for i in order:
            for shape in shapes:
                if match := re.search(_pattern(shape), lines[i]):
                    return match.group()
        return ""
    first = last = order[0]
    while first > 0 and chances[first - 1] > 0.5:
        first -= 1
    while last + 1 < len(lines) and chances[last + 1] > 0.5:
        last += 1
    return re.sub(r",\s*", ", ", " ".join(lines[first : last + 1])).strip()


def _pattern(shape: str) -> str:
    """A regular expression for text of this shape that stands alone."""
    inner = "".join({"9": r"\d", "A": "[A-Za-z]"}.get(sign, re.escape(sign)) for sign in shape)
    return rf"(?<![A-Za-z0-9.]){inner}(?![A-Za-z0-9])"
