"""The Jinja environment of chat templates: what transformers offers to a template, within a budget.

Jinja's immutable sandbox keeps templates from Python's insides and from changing values. It bounds neither time nor
memory; here every call, lookup, output and turn of a loop passes a meter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from datetime import datetime
from functools import cache, wraps
from itertools import islice
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context

from empu.errors import TemplateError
from empu.text.sandbox.budget import MOST_PLACES, Budget, LimitError, weigh
from empu.text.sandbox.metering import Generation, Meters

MOST_OUTPUT = 8 * 1024 * 1024
"""Characters of a rendered dialogue."""
_LONGEST_RANGE = 100_000
_LONGEST_DATE = 200
_MOST_NODES = 20_000
"""Parts of a parsed template; the longest in use have some thousands."""

_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


def compile_template(source: str, where: str) -> jinja2.Template:
    """Compile once, render often; raises :class:`TemplateError`."""
    try:
        return _environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"{where}: line {error.lineno} of the chat template is wrong: {_sentence(error)}") from None
    except LimitError as error:
        raise TemplateError(f"{where}: the chat template {error}; it is not taken.") from None
    except Exception as error:  # nesting beyond what Python's compiler takes comes as several kinds
        raise TemplateError(f"{where}: the chat template cannot be compiled: {_sentence(error)}") from None


def render(template: jinja2.Template, variables: Mapping[str, Any], where: str) -> str:
    """The template's text; whatever goes wrong in it becomes a :class:`TemplateError`."""
    budget = Budget()
    token = _budget.set(budget)
    try:
        pieces, length = [], 0
        for piece in template.generate(variables):
            budget.step()
            length += len(piece)
            if length > MOST_OUTPUT:
                raise LimitError(f"writes more than {MOST_OUTPUT:,} characters")
            pieces.append(piece)
        return "".join(pieces)
    except LimitError as error:
        raise TemplateError(f"{where}: the chat template {error}; it was stopped.") from None
    except _RefusedError as error:
        raise TemplateError(f"The chat template of {where} refuses this dialogue: {_sentence(error)}") from None
    except Exception as error:  # a template can fail in every way in which Python can
        raise TemplateError(f"{where}: the chat template failed: {_sentence(error)}") from None
    finally:
        _budget.reset(token)


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= 300 else text[:299] + "…"
    return text if text.endswith((".", "!", "?")) else text + "."


class _RefusedError(Exception):
    """What ``raise_exception`` raises."""


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with the meter in every place where a template can do work."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[loopcontrols, Generation],
            finalize=_metered_output,
        )
        self.filters["tojson"] = _to_json
        self.filters = {name: _metered_filter(name, filter) for name, filter in self.filters.items()}
        self.globals = {
            "range": _range,
            "dict": _dict,
            "namespace": _Namespace,
            "cycler": self.globals["cycler"],
            "joiner": self.globals["joiner"],
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = Parser(self, source, name, filename).parse()
        if sum(1 for _ in template.find_all(nodes.Node)) > _MOST_NODES:
            raise LimitError(f"has more than {_MOST_NODES:,} parts")
        metered: nodes.Template = Meters().visit(template)
        metered.set_environment(self)
        return metered

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        if getattr(__obj, "__self__", None) is __self:
            return __obj(*args)  # a meter; the keywords are the compiler's own
        budget = _current()
        budget.step()
        args = tuple(map(_listed, args))
        target = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        owner = getattr(target, "__self__", None)
        if isinstance(owner, (str, bytes, int, float)):
            budget.operation(target.__name__, owner, args, _given(kwargs))
        elif isinstance(__obj, Macro):
            weigh([args, _given(kwargs)])
        result = super().call(__context, __obj, *args, **kwargs)
        budget.charge(result)
        if isinstance(result, dict):
            weigh(result)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = _current()
        budget.step()
        budget.arithmetic(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        budget.charge(result)
        return result

    def getattr(self, obj: Any, attribute: str) -> Any:
        _current().step()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        budget = _current()
        budget.step()
        result = super().getitem(obj, argument)
        if isinstance(argument, slice):
            budget.charge(result)
        return result

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        """Jinja would give something that fails when it is used; no template has a reason to ask."""
        raise jinja2.exceptions.SecurityError(f"{attribute!r} of a {type(obj).__name__} is not for templates")

    def turn(self, characters: int) -> None:
        """One turn of a loop or one run of a macro whose own text has so many characters."""
        budget = _current()
        budget.step()
        budget.spend(characters)

    def concatenate(self, *values: Any) -> str:
        """The operator ``~``."""
        budget = _current()
        budget.step()
        budget.spend(weigh(values, spelled=True))
        return "".join(map(str, values))

    def made(self, value: Any) -> Any:
        """A list, tuple or object that the template wrote down."""
        budget = _current()
        budget.step()
        budget.charge(value)
        weigh(value)
        return value


def _current() -> Budget:
    """The budget of this rendering; constants that the compiler tries out have one of their own."""
    return _budget.get() or Budget()


@cache
def _environment() -> MeteredEnvironment:
    """One environment for all templates; making one takes longer than most renderings."""
    return MeteredEnvironment()


@pass_context
def _metered_output(context: Context, value: Any) -> Any:
    budget = _current()
    budget.step()
    if isinstance(value, str):
        budget.spend(len(value))
    else:
        budget.spend(weigh(value, spelled=True))
    return value


def _metered_filter(name: str, filter: Callable[..., Any]) -> Callable[..., Any]:
    """``filter`` behind the meter; some filters take Jinja's context before the value."""
    at = 1 if hasattr(filter, "jinja_pass_arg") else 0

    @wraps(filter)
    def metered(*args: Any, **kwargs: Any) -> Any:
        budget = _current()
        budget.step()
        args = (*args[:at], *map(_listed, args[at:]))
        budget.operation(name, args[at], args[at + 1 :], kwargs)
        result = filter(*args, **kwargs)
        budget.charge(result)
        return result

    return metered


def _listed(value: Any) -> Any:
    """Iterators and views as lists, so that they can be weighed."""
    if isinstance(value, LoopContext) or not isinstance(value, (Iterator, KeysView, ValuesView, ItemsView)):
        return value
    items = list(islice(value, MOST_PLACES + 1))
    weigh(items)
    return items


def _given(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of the template, without those of the compiler."""
    return {key: value for key, value in kwargs.items() if not key.startswith("_")}


class _Namespace(Namespace):
    """Jinja's, but its values show up nowhere else, and names with underscores are refused."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *given = args
        values = dict(*given, **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _check_name(name: object) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"the name {name!r} begins with an underscore")


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **_given(kwargs))


def _range(*args: int) -> range:
    numbers = range(*args)
    try:
        length = len(numbers)
    except OverflowError:
        length = _LONGEST_RANGE + 1
    if length > _LONGEST_RANGE:
        raise LimitError(f"counts further than {_LONGEST_RANGE:,}")
    return numbers


def _raise_exception(message: object) -> None:
    raise _RefusedError(message)


def _strftime_now(format: str) -> str:
    if len(format) > _LONGEST_DATE or re.search(r"%[^a-zA-Z%]*\d", format):
        raise LimitError("writes a date at great length")
    return datetime.now().strftime(format)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it: no escapes for HTML, other scripts as they are."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
