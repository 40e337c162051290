"""Base classes of the types that validate request bodies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

from empu.serving.errors import RequestError

MAX_PROPERTIES = 200
"""Of one object. Schemas and arguments of calls may have more."""

_EMPTY_VALUES: tuple[Any, ...] = (None, False, "", [], {}, "none")


def _is_empty(value: Any) -> bool:
    return any(value is empty or (type(value) is type(empty) and value == empty) for empty in _EMPTY_VALUES)


class _LimitedModel(BaseModel):
    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _limit_properties(cls, value: Any) -> Any:
        """Limit the work for unknown properties: a body has room for hundreds of thousands."""
        if isinstance(value, dict) and len(value) > MAX_PROPERTIES:
            message = f"An object has {len(value):,} properties; the limit is {MAX_PROPERTIES}."
            raise RequestError(400, message, code="too_many_properties")
        return value


class StrictModel(_LimitedModel):
    """An object of Empu's own interface: rejects unknown properties, and strings in place of numbers."""

    model_config = ConfigDict(extra="forbid")


class LenientModel(_LimitedModel):
    """An object of a foreign interface: keeps unknown properties, so that :class:`RequestBody` can report them."""

    model_config = ConfigDict(extra="allow")


class IgnoredModel(LenientModel):
    """An object that is ignored as a whole, and reported under its ``type``."""

    type: str


class RequestBody(LenientModel):
    """Body of a request in a foreign interface.

    Unknown properties are ignored and reported; clients send many that change no answer.
    """

    ignored: ClassVar[tuple[str, ...]] = ()
    """Known properties without effect. They are documented, and reported like unknown ones."""
    refused: ClassVar[tuple[str, ...]] = ()
    """Properties without which the answer would be wrong. Refused unless null, false or empty."""

    _ignored_paths: list[str] = PrivateAttr(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _check_refused(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in cls.refused:
                if not _is_empty(value.get(name)):
                    raise RequestError(400, f"{name} is not supported; leave it out.", param=name, code="unsupported")
            return {key: item for key, item in value.items() if key not in cls.refused}
        return value

    @model_validator(mode="after")
    def _report_ignored(self) -> RequestBody:
        self._ignored_paths = list(dict.fromkeys(_remove_unknown(self, "")))
        return self

    @property
    def ignored_paths(self) -> list[str]:
        """Paths of the properties that were ignored, such as ``messages.*.reasoning``, each once."""
        return self._ignored_paths


def _remove_unknown(value: Any, path: str) -> Iterator[str]:
    """Remove unknown properties from a model and the models inside it; yield the path of each that is not empty."""
    if isinstance(value, list):
        for item in value:
            yield from _remove_unknown(item, f"{path}*.")
    elif isinstance(value, IgnoredModel):
        yield f"{path.removesuffix('*.')}{value.type}"
    elif isinstance(value, BaseModel):
        for name, unknown in (value.model_extra or {}).items():
            if not _is_empty(unknown):
                yield f"{path}{name}"
        if value.model_extra:
            value.model_extra.clear()
        for name in type(value).model_fields:
            yield from _remove_unknown(getattr(value, name), f"{path}{name}.")
