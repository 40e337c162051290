"""The resource budget of one rendering of a chat template: steps, seconds, and the size of intermediate values.

An operation whose result could be far larger than its input (repeating, padding, joining, formatting) is checked before
it runs. Everything else is charged afterwards.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MAX_STEPS = 1_000_000
MAX_SECONDS = 2.0
MAX_UNITS = 128 * 1024 * 1024
"""Characters of all intermediate strings, plus a fixed number per item of a list or object."""
MAX_STRING = 16 * 1024 * 1024
"""Characters of one intermediate string."""
MAX_ITEMS = 200_000
"""Values in one list or object, including nested ones."""
MAX_NUMBER = 1_000_000
"""Largest width, count or exponent."""
_UNITS_PER_ITEM = 8
"""Units that one item of a list or object costs."""
_MAX_BITS = 4096
_MAX_SEARCH_COST = 100_000_000

_SEARCH_METHODS = frozenset({"strip", "lstrip", "rstrip", "trim", "rfind", "rindex", "rsplit", "rpartition"})
"""Methods whose time grows with the product of both lengths."""
_TAKES_ANY_NUMBER = frozenset({"format", "format_map", "default", "d", "int", "float", "sum"})
"""Filters and methods for which a number is a value, not a size."""
_ITERATES = frozenset(
    {"batch", "dictsort", "groupby", "items", "join", "list", "map", "max", "min", "pprint", "random", "reject"}
    | {"rejectattr", "select", "selectattr", "slice", "sort", "striptags", "sum", "unique", "urlize", "wordwrap"}
    | {"xmlattr"}
)
"""Filters that iterate over values, or over the characters of a string."""
_STRINGIFIES = frozenset(
    {"tojson", "string", "pprint", "join", "urlencode", "format", "format_map", "xmlattr", "escape", "e"}
)
"""Filters and methods that convert whole values to text."""


class BudgetExceededError(Exception):
    """A template exceeded its budget. The message says which part of it."""


class Budget:
    """What is left of the budget of one rendering."""

    def __init__(self) -> None:
        self._steps = MAX_STEPS
        self._units = MAX_UNITS
        self._deadline = time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        """Count one call, lookup, output or loop iteration."""
        self._steps -= 1
        if self._steps < 0:
            raise BudgetExceededError(f"takes more than {MAX_STEPS:,} steps")
        if time.monotonic() > self._deadline:
            raise BudgetExceededError(f"takes longer than {MAX_SECONDS:g} s")

    def spend(self, units: int) -> None:
        """Charge units for a value that was created or is about to be."""
        self._units -= units
        if units > MAX_STRING or self._units < 0:
            raise BudgetExceededError(
                f"creates too much text (at most {MAX_STRING:,} characters at once and {MAX_UNITS:,} in all)"
            )

    def charge(self, value: object) -> None:
        """Charge the size of a result, without nested values."""
        if isinstance(value, (str, bytes)):
            self.spend(len(value))
        elif isinstance(value, (list, tuple, dict, set)):
            self.spend(_UNITS_PER_ITEM * len(value))

    def check_arithmetic(self, operator: str, left: Any, right: Any) -> None:
        """Check ``left operator right`` before it is computed."""
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, (str, bytes, list, tuple)) and isinstance(times, int):
                    is_text = isinstance(value, (str, bytes))
                    size, limit = (len(value), MAX_NUMBER) if is_text else (measure(value), MAX_ITEMS)
                    if size * max(times, 0) > limit:
                        raise BudgetExceededError("repeats a value more often than any dialogue needs")
            if isinstance(left, int) and isinstance(right, int):
                _check_bits(left.bit_length() + right.bit_length())
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() * abs(right))
        elif operator == "%" and isinstance(left, (str, bytes)):
            self.charge_formatting(str(left), "%", right)

    def charge_formatting(self, pattern: str, placeholder: str, values: Any) -> None:
        """Check a format string, and charge the text that it makes of ``values``."""
        if re.search(r"\d{5}|%[^a-zA-Z%]*\*|\{[^{}]*\{", pattern):
            raise BudgetExceededError("formats a value to a computed or very large width")
        self.spend((pattern.count(placeholder) + 1) * measure(values, include_text=True))

    def check_call(self, name: str, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Check a filter, or a method of a string, before it runs."""
        arguments = [*args, *kwargs.values()]
        if name not in _TAKES_ANY_NUMBER:
            for argument in arguments:
                if isinstance(argument, (int, float)) and not abs(argument) <= MAX_NUMBER:
                    raise BudgetExceededError(f"calls {name} with a number beyond {MAX_NUMBER:,}")
        if name == "translate":
            raise BudgetExceededError("translates texts")
        if name in _ITERATES and measure(value) + (len(value) if isinstance(value, str) else 0) > MAX_ITEMS:
            raise BudgetExceededError(f"calls {name} on more than {MAX_ITEMS:,} values")
        if name in _STRINGIFIES:
            self.spend(measure([value, *arguments], include_text=True))
        if name in _SEARCH_METHODS and isinstance(value, (str, bytes)):
            longest = max((len(item) for item in arguments if isinstance(item, (str, bytes))), default=0)
            if len(value) * longest > _MAX_SEARCH_COST:
                raise BudgetExceededError(f"calls {name} with a text of {longest:,} characters")
        if name == "sum" and any(isinstance(item, (list, tuple, str)) for item in arguments[-1:]) and "start" in kwargs:
            raise BudgetExceededError("adds lists up")
        if name in ("format", "format_map"):
            self.charge_formatting(str(value), "{", arguments)
            self.charge_formatting(str(value), "%", arguments)
        if result_size := _RESULT_SIZES.get(name):
            self.spend(result_size(value, arguments))


def measure(value: object, *, include_text: bool = False) -> int:
    """Count the values in ``value``, nested ones included; with ``include_text`` also the characters of strings.

    Raises :class:`BudgetExceededError` beyond :data:`MAX_ITEMS` values.
    """
    n_items, n_characters = 0, 0
    pending: list[Iterable[object]] = [(value,)]
    while pending:
        for item in pending.pop():
            n_items += 1
            if include_text and isinstance(item, (str, bytes)):
                n_characters += len(item)
            elif isinstance(item, dict):
                pending += (item.keys(), item.values())
                n_items += len(item)
            elif isinstance(item, (list, tuple, set, frozenset)):
                pending.append(item)
        if n_items > MAX_ITEMS:
            raise BudgetExceededError(f"builds a value of more than {MAX_ITEMS:,} parts")
    return n_items + n_characters


def _check_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise BudgetExceededError(f"computes a number of more than {_MAX_BITS:,} bits")


def _max_size(arguments: Iterable[object]) -> int:
    """Return the largest size among arguments: the length of a string, the value of a number."""
    sizes = (len(x) if isinstance(x, (str, bytes)) else int(x) if isinstance(x, (int, float)) else 0 for x in arguments)
    return max(sizes, default=0)


def _size(value: object) -> int:
    return len(value) if isinstance(value, (str, bytes, list, tuple, dict)) else 0


def _replace_size(value: Any, arguments: list[Any]) -> int:
    if len(arguments) < 2:
        return _size(value)
    old, new = str(arguments[0]), arguments[1]
    return _size(value) + str(value).count(old) * _size(new)


def _join_size(value: Any, arguments: list[Any]) -> int:
    """The list is the value of the filter, or the argument of the method."""
    if isinstance(value, (str, bytes)) and arguments and not isinstance(arguments[0], (str, bytes)):
        return (_size(arguments[0]) + 1) * len(value)
    return (_size(value) + 1) * _max_size(arguments)


def _indent_size(value: Any, arguments: list[Any]) -> int:
    lines = value.count("\n") + 1 if isinstance(value, str) else 1
    return _size(value) + lines * max(_max_size(arguments), 4)


def _pad_size(value: Any, arguments: list[Any]) -> int:
    return _size(value) + _max_size(arguments)


def _expandtabs_size(value: Any, arguments: list[Any]) -> int:
    tabs = value.count("\t") if isinstance(value, str) else 0
    return _size(value) + tabs * max(_max_size(arguments), 8)


def _per_item_size(value: Any, arguments: list[Any]) -> int:
    return (_size(value) + 1) * max(_max_size(arguments), 1)


def _tojson_size(value: Any, arguments: list[Any]) -> int:
    extra = max(
        (len(x) if isinstance(x, str) else _max_size(x) for x in arguments if isinstance(x, (str, list, tuple))),
        default=0,
    )
    width = max((int(x) for x in arguments if isinstance(x, int)), default=0)
    return measure(value) * (extra + 64 * width + 1)


_RESULT_SIZES: dict[str, Callable[[Any, list[Any]], int]] = {
    "replace": _replace_size,
    "join": _join_size,
    "indent": _indent_size,
    "center": _pad_size,
    "ljust": _pad_size,
    "rjust": _pad_size,
    "zfill": _pad_size,
    "expandtabs": _expandtabs_size,
    "wordwrap": _per_item_size,
    "batch": _pad_size,
    "slice": _pad_size,
    "truncate": _pad_size,
    "to_bytes": _pad_size,
    "hex": _per_item_size,
    "urlize": _per_item_size,
    "tojson": _tojson_size,
}
"""Filter or method -> function that bounds the units of its result, from its value and arguments."""
