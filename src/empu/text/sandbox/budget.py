"""What one rendering of a chat template may use: steps, seconds, and characters or list places made on the way.

An operation whose result could be far larger than what goes in (repeating, padding, joining, formatting) is bounded
before it runs; everything else is charged afterwards.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MOST_STEPS = 1_000_000
MOST_SECONDS = 2.0
MOST_UNITS = 128 * 1024 * 1024
MOST_AT_ONCE = 16 * 1024 * 1024
"""Characters of one string on the way."""
MOST_PLACES = 200_000
"""Values in one list or object, counted with all that they hold."""
LARGEST_NUMBER = 1_000_000
"""As a width, a count or an exponent."""
_PLACE = 8
"""Units of one place in a list."""
_MOST_BITS = 4096
_MOST_SCANNED = 100_000_000

_SEARCHING = frozenset({"strip", "lstrip", "rstrip", "trim", "rfind", "rindex", "rsplit", "rpartition"})
"""Methods whose time grows with the product of both lengths."""
_TAKING_ANY_NUMBER = frozenset({"format", "format_map", "default", "d", "int", "float", "sum"})
"""Filters and methods to which a number is a value, not a size."""
_ITERATING = frozenset(
    {"batch", "dictsort", "groupby", "items", "join", "list", "map", "max", "min", "pprint", "random", "reject"}
    | {"rejectattr", "select", "selectattr", "slice", "sort", "striptags", "sum", "unique", "urlize", "wordwrap"}
    | {"xmlattr"}
)
"""Filters that go over each value, or each character of a string."""
_SPELLING = frozenset(
    {"tojson", "string", "pprint", "join", "urlencode", "format", "format_map", "xmlattr", "escape", "e"}
)
"""Filters and methods that write out whole values."""


class LimitError(Exception):
    """A template did too much; the message says of what."""


class Budget:
    """The allowance of one rendering."""

    def __init__(self) -> None:
        self._steps = MOST_STEPS
        self._units = MOST_UNITS
        self._deadline = time.monotonic() + MOST_SECONDS

    def step(self) -> None:
        """One call, lookup, output or turn of a loop."""
        self._steps -= 1
        if self._steps < 0:
            raise LimitError(f"takes more than {MOST_STEPS:,} steps")
        if time.monotonic() > self._deadline:
            raise LimitError(f"takes longer than {MOST_SECONDS:g} s")

    def spend(self, units: int) -> None:
        """Characters or list places that are made or about to be."""
        self._units -= units
        if units > MOST_AT_ONCE or self._units < 0:
            raise LimitError(
                f"makes too much text on the way (at once {MOST_AT_ONCE:,} characters, in all {MOST_UNITS:,})"
            )

    def charge(self, value: object) -> None:
        """The size of a result, without what its members hold."""
        if isinstance(value, (str, bytes)):
            self.spend(len(value))
        elif isinstance(value, (list, tuple, dict, set)):
            self.spend(_PLACE * len(value))

    def arithmetic(self, operator: str, left: Any, right: Any) -> None:
        """Bound ``left operator right`` before it is computed."""
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, (str, bytes, list, tuple)) and isinstance(times, int):
                    text = isinstance(value, (str, bytes))
                    size, most = (len(value), LARGEST_NUMBER) if text else (weigh(value), MOST_PLACES)
                    if size * max(times, 0) > most:
                        raise LimitError("repeats a value more often than any dialogue needs")
            if isinstance(left, int) and isinstance(right, int):
                _bound_bits(left.bit_length() + right.bit_length())
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _bound_bits(left.bit_length() * abs(right))
        elif operator == "%" and isinstance(left, (str, bytes)):
            self.formatting(str(left), "%", right)

    def formatting(self, pattern: str, sign: str, values: Any) -> None:
        """Bound a text that ``pattern`` and ``values`` make."""
        if re.search(r"\d{5}|%[^a-zA-Z%]*\*|\{[^{}]*\{", pattern):
            raise LimitError("formats a value to a width of its own making")
        self.spend((pattern.count(sign) + 1) * weigh(values, spelled=True))

    def operation(self, name: str, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Bound a filter, or a method of a text, before it runs."""
        given = [*args, *kwargs.values()]
        if name not in _TAKING_ANY_NUMBER:
            for argument in given:
                if isinstance(argument, (int, float)) and not abs(argument) <= LARGEST_NUMBER:
                    raise LimitError(f"calls {name} with a number beyond {LARGEST_NUMBER:,}")
        if name == "translate":
            raise LimitError("translates texts")
        if name in _ITERATING and weigh(value) + (len(value) if isinstance(value, str) else 0) > MOST_PLACES:
            raise LimitError(f"calls {name} on more than {MOST_PLACES:,} values")
        if name in _SPELLING:
            self.spend(weigh([value, *given], spelled=True))
        if name in _SEARCHING and isinstance(value, (str, bytes)):
            longest = max((len(item) for item in given if isinstance(item, (str, bytes))), default=0)
            if len(value) * longest > _MOST_SCANNED:
                raise LimitError(f"calls {name} with a text of {longest:,} characters")
        if name == "sum" and any(isinstance(item, (list, tuple, str)) for item in given[-1:]) and "start" in kwargs:
            raise LimitError("adds lists up")
        if name in ("format", "format_map"):
            self.formatting(str(value), "{", given)
            self.formatting(str(value), "%", given)
        if bound := _GROWTH.get(name):
            self.spend(bound(value, given))


def weigh(value: object, *, spelled: bool = False) -> int:
    """Values in ``value``, counted as often as they appear; with ``spelled`` the characters of texts as well.

    Raises :class:`LimitError` beyond :data:`MOST_PLACES` values.
    """
    places, units = 0, 0
    waiting: list[Iterable[object]] = [(value,)]
    while waiting:
        for item in waiting.pop():
            places += 1
            if spelled and isinstance(item, (str, bytes)):
                units += len(item)
            elif isinstance(item, dict):
                waiting += (item.keys(), item.values())
                places += len(item)
            elif isinstance(item, (list, tuple, set, frozenset)):
                waiting.append(item)
        if places > MOST_PLACES:
            raise LimitError(f"builds a value of more than {MOST_PLACES:,} parts")
    return places + units


def _bound_bits(bits: int) -> None:
    if bits > _MOST_BITS:
        raise LimitError(f"computes a number of more than {_MOST_BITS:,} bits")


def _longest(given: Iterable[object]) -> int:
    """The largest size among arguments: the length of a text, the value of a number."""
    sizes = (len(x) if isinstance(x, (str, bytes)) else int(x) if isinstance(x, (int, float)) else 0 for x in given)
    return max(sizes, default=0)


def _size(value: object) -> int:
    return len(value) if isinstance(value, (str, bytes, list, tuple, dict)) else 0


def _replaced(value: Any, given: list[Any]) -> int:
    if len(given) < 2:
        return _size(value)
    old, new = str(given[0]), given[1]
    return _size(value) + str(value).count(old) * _size(new)


def _joined(value: Any, given: list[Any]) -> int:
    """As a filter the list is the value, as a method it is the argument."""
    if isinstance(value, (str, bytes)) and given and not isinstance(given[0], (str, bytes)):
        return (_size(given[0]) + 1) * len(value)
    return (_size(value) + 1) * _longest(given)


def _indented(value: Any, given: list[Any]) -> int:
    lines = value.count("\n") + 1 if isinstance(value, str) else 1
    return _size(value) + lines * max(_longest(given), 4)


def _padded(value: Any, given: list[Any]) -> int:
    return _size(value) + _longest(given)


def _expanded(value: Any, given: list[Any]) -> int:
    tabs = value.count("\t") if isinstance(value, str) else 0
    return _size(value) + tabs * max(_longest(given), 8)


def _each(value: Any, given: list[Any]) -> int:
    return (_size(value) + 1) * max(_longest(given), 1)


def _dumped(value: Any, given: list[Any]) -> int:
    extra = max(
        (len(x) if isinstance(x, str) else _longest(x) for x in given if isinstance(x, (str, list, tuple))), default=0
    )
    width = max((int(x) for x in given if isinstance(x, int)), default=0)
    return weigh(value) * (extra + 64 * width + 1)


_GROWTH: dict[str, Callable[[Any, list[Any]], int]] = {
    "replace": _replaced,
    "join": _joined,
    "indent": _indented,
    "center": _padded,
    "ljust": _padded,
    "rjust": _padded,
    "zfill": _padded,
    "expandtabs": _expanded,
    "wordwrap": _each,
    "batch": _padded,
    "slice": _padded,
    "truncate": _padded,
    "to_bytes": _padded,
    "hex": _each,
    "urlize": _each,
    "tojson": _dumped,
}
"""Filter or method -> units that its result can have, from its value and its arguments."""
