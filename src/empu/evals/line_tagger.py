"""Baseline for extracting fields from text: a linear tagger of lines, and regular expressions from value shapes."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from empu.members.fitting import require_sklearn

LINE_TAGGER = "line tagger (logistic regression)"
MAX_SHAPES = 40
"""Shapes of a field's values to search for. A field with more shapes is extracted as whole lines."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The fields extracted from each text, and the cost."""

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
    """Learn from (text, fields) which lines hold each field of a JSON schema, and extract the fields from ``texts``.

    For each field, a logistic regression over the lines of a text (character n-grams, shape, position, previous line)
    finds the most likely line. If the values of the field have few shapes, such as dates, the part of that line with
    the most frequent shape is the value; otherwise the line and its likely neighbours are. The value is converted to
    the type in the schema. Lists and nested objects are not extracted.
    """
    require_sklearn()
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = HashingVectorizer(analyzer=str.split, n_features=2**18, alternate_sign=False, norm=None, binary=True)
    documents = [_lines(text) for text, _ in train]
    matrix = vectorizer.transform([features for lines in documents for features in _features(lines)])
    models, shapes, size_bytes = {}, {}, 0
    for key in schema["properties"]:
        values = [_as_written(fields.get(key), text) for text, fields in train]
        is_match = [_matches(line, value) for lines, value in zip(documents, values, strict=True) for line in lines]
        if len(set(is_match)) == 2:
            models[key] = LogisticRegression(C=1.0, class_weight="balanced", max_iter=300, random_state=seed)
            models[key].fit(matrix, is_match)
            size_bytes += int((models[key].coef_ != 0).sum()) * 8
        shapes[key] = _frequent_shapes(values, documents)
    start = time.perf_counter()
    extracted = []
    for text in texts:
        lines = _lines(text)
        rows = vectorizer.transform(_features(lines))
        probabilities = {key: model.predict_proba(rows)[:, 1] for key, model in models.items()}
        values_by_key = {
            key: _extract(lines, line_probabilities, shapes[key])
            for key, line_probabilities in probabilities.items()
            if key in schema["required"] or line_probabilities.max() > 0.5
        }
        extracted.append(_convert(values_by_key, schema))
    return Extracted(extracted, 1000 * (time.perf_counter() - start) / max(1, len(texts)), size_bytes)


def _as_written(value: Any, text: str) -> str:
    """Return a value as the text writes it; empty for one that cannot stand in a line."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    candidates = (f"{value:,.2f}", f"{value:.2f}", f"{value:,}")
    return next((candidate for candidate in candidates if candidate in text), str(value))


def _convert(values: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extracted values in the types of the schema. A field that was not found is present if required."""
    fields: dict[str, Any] = {}
    for key, property_schema in schema["properties"].items():
        types = property_schema["type"]
        types = [types] if isinstance(types, str) else types
        value = values.get(key, "")
        number = _number(value) if {"integer", "number"} & set(types) else None
        if number is not None:
            fields[key] = int(number) if "integer" in types and number == int(number) else number
        elif value and "string" in types:
            fields[key] = value
        elif key in schema["required"]:
            fields[key] = None if "null" in types else ""
    return fields


def _number(value: str) -> float | None:
    try:
        number = float(value.replace(",", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()] or [""]


def _alphanumeric(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _matches(line: str, value: str) -> bool:
    """Return whether one contains the other, without case and punctuation."""
    a, b = _alphanumeric(line), _alphanumeric(value)
    return bool(a and b) and (b in a or (len(a) >= 3 and a in b))


def _shape(text: str) -> str:
    """Replace digits by 9 and letters by A."""
    return re.sub(r"[A-Za-z]", "A", re.sub(r"\d", "9", text))


def _frequent_shapes(values: Sequence[str], documents: Sequence[Sequence[str]]) -> list[str]:
    """Return the shapes of a field's values, most frequent first; none if they cover less than 90 % of the values."""
    in_lines = [v for v, lines in zip(values, documents, strict=True) if v and any(v in line for line in lines)]
    frequent = Counter(map(_shape, in_lines)).most_common(MAX_SHAPES)
    covered = sum(count for _, count in frequent)
    return [shape for shape, _ in frequent] if covered >= 0.9 * len(list(filter(None, values))) else []


def _features(lines: Sequence[str]) -> list[str]:
    """Return one string of features for each line."""
    features = []
    for i, line in enumerate(lines):
        padded = f" {line.lower()} ".replace(" ", "_")
        words = [f"w:{word}" for word in line.lower().split()]
        previous = [f"b:{word}" for word in (lines[i - 1].lower().split() if i else ["^"])]
        trigrams = [f"g:{padded[j : j + 3]}" for j in range(len(padded) - 2)]
        position = [f"top:{min(i, 12)}", f"end:{min(len(lines) - 1 - i, 12)}", f"tenth:{10 * i // len(lines)}"]
        shape = _shape(line).replace(" ", "_")
        features.append(" ".join([*words, *previous, *trigrams, *position, f"s:{shape}"]))
    return features


def _extract(lines: Sequence[str], probabilities: Any, shapes: Sequence[str]) -> str:
    """Return the value in the most likely line."""
    order = sorted(range(len(lines)), key=lambda i: -probabilities[i])
    if shapes:
        for i in order:
            for shape in shapes:
                if match := re.search(_pattern(shape), lines[i]):
                    return match.group()
        return ""
    first = last = order[0]
    while first > 0 and probabilities[first - 1] > 0.5:
        first -= 1
    while last + 1 < len(lines) and probabilities[last + 1] > 0.5:
        last += 1
    return re.sub(r",\s*", ", ", " ".join(lines[first : last + 1])).strip()


def _pattern(shape: str) -> str:
    """Return a regular expression for text of this shape that is not part of a longer word."""
    inner = "".join({"9": r"\d", "A": "[A-Za-z]"}.get(character, re.escape(character)) for character in shape)
    return rf"(?<![A-Za-z0-9.]){inner}(?![A-Za-z0-9])"
