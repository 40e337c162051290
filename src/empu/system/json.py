"""Reading files that others made: regular files only, bounded sizes, and JSON in which nothing has two meanings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from empu.errors import CheckpointError

Bytes = npt.NDArray[np.uint8]

JSON_LIMIT = 16 << 20
"""Bytes of one JSON document. The header of Llama 3.1 405B, the largest of this family, has about 150 KB."""


def map_file(path: Path) -> Bytes:
    """The bytes of a file, memory-mapped and read-only. Raises :class:`CheckpointError` if there is nothing to map."""
    try:
        if not path.is_file():  # a pipe or a device would block or never end
            raise CheckpointError(f"{path} is not a regular file.")
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path} is empty; its download was probably cut off, so fetch it again.")
        return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_small(path: Path, limit: int) -> bytes:
    """The whole content of a file of at most ``limit`` bytes."""
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is not a regular file.")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > limit:
        raise CheckpointError(f"{path} has more than {limit:,} bytes, which no file of its kind needs.")
    return data


def read_json_object(path: Path, limit: int = JSON_LIMIT) -> dict[str, Any]:
    """The object in a JSON file; see :func:`parse_json` for what is refused."""
    value = parse_json(read_small(path, limit), str(path))
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a JSON {type(value).__name__}; expected an object.")
    return value


def parse_json(data: bytes, where: str) -> object:
    """JSON as RFC 8259 has it, and stricter than Python's own reader.

    Refused: text that is not UTF-8, a key twice in one object, NaN and Infinity, half of a surrogate pair, and nesting
    that exhausts the stack. ``-0`` is a float, so that it is no length. ``where`` opens the error message.
    """
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_integer)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{where}: byte {error.start} is not UTF-8 text.") from error
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{where}: a string holds half of a surrogate pair.") from error
    except _NotJsonError as error:
        raise CheckpointError(f"{where}: {error}.") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{where} is not JSON: {error.msg} at character {error.pos:,}.") from error
    except ValueError as error:  # Python's limit on the digits of one integer
        raise CheckpointError(f"{where} is not usable JSON: a number is too long.") from error
    except RecursionError as error:
        raise CheckpointError(f"{where} is not usable JSON: it is nested too deeply.") from error
    return value


def shown(text: str, limit: int = 80) -> str:
    """A name out of a file, made fit for a message: quoted, control characters escaped, long ones cut."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


class _NotJsonError(Exception):
    """Raised inside the JSON reader's hooks."""


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _NotJsonError(f"the key {shown(twice)} stands twice in one object")
    return result


def _no_constant(name: str) -> float:
    raise _NotJsonError(f"{name} is not a JSON number")


def _integer(digits: str) -> int | float:
    return -0.0 if digits == "-0" else int(digits)


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read ({error.strerror}); check that it exists and is yours to read.")
