"""The Jinja environment of chat templates: the functions that transformers provides, within a budget.

Jinja's immutable sandbox keeps templates away from Python's internals and from changing values, but limits neither time
nor memory. Here every call, lookup, output and loop iteration is metered.
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

from empu.errors import DialogueRefusedError, TemplateError
from empu.text.sandbox.budget import MAX_ITEMS, Budget, BudgetExceededError, measure
from empu.text.sandbox.metering import GenerationTag, MeterInserter

MAX_OUTPUT = 8 * 1024 * 1024
"""Characters of a rendered dialogue."""
_MAX_RANGE = 100_000
_MAX_DATE_FORMAT = 200
_MAX_NODES = 20_000
"""Nodes of a parsed template. The longest in use have some thousands."""

_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


def compile_template(source: str, where: str) -> jinja2.Template:
    """Compile a template. ``where`` begins the error messages. Raises :class:`TemplateError`."""
    try:
        return _environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(
            f"{where}: line {error.lineno} of the chat template is wrong: {_error_text(error)}"
        ) from None
    except BudgetExceededError as error:
        raise TemplateError(f"{where}: the chat template {error}; it is refused.") from None
    except Exception as error:  # Python's compiler has several errors for too much nesting
        raise TemplateError(f"{where}: the chat template cannot be compiled: {_error_text(error)}") from None


def render(template: jinja2.Template, variables: Mapping[str, Any], where: str) -> str:
    """Render a template. Every failure inside it becomes a :class:`TemplateError`."""
    budget = Budget()
    token = _budget.set(budget)
    try:
        parts, length = [], 0
        for part in template.generate(variables):
            budget.step()
            length += len(part)
            if length > MAX_OUTPUT:
                raise BudgetExceededError(f"writes more than {MAX_OUTPUT:,} characters")
            parts.append(part)
        return "".join(parts)
    except BudgetExceededError as error:
        raise TemplateError(f"{where}: the chat template {error}; it was stopped.") from None
    except _RefusedError as error:
        raise DialogueRefusedError(where, _error_text(error)) from None
    except Exception as error:  # a template can fail in every way in which Python can
        raise TemplateError(f"{where}: the chat template failed: {_error_text(error)}") from None
    finally:
        _budget.reset(token)


def _error_text(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= 300 else text[:299] + "…"
    return text if text.endswith((".", "!", "?")) else text + "."


class _RefusedError(Exception):
    """Raised by ``raise_exception`` of a template."""


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, metered everywhere a template can do work."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[loopcontrols, GenerationTag],
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
        if sum(1 for _ in template.find_all(nodes.Node)) > _MAX_NODES:
            raise BudgetExceededError(f"has more than {_MAX_NODES:,} parts")
        metered: nodes.Template = MeterInserter().visit(template)
        metered.set_environment(self)
        return metered

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        if getattr(__obj, "__self__", None) is __self:
            return __obj(*args)  # a meter; the keywords come from the compiler
        budget = _current_budget()
        budget.step()
        args = tuple(map(_materialise, args))
        target = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        owner = getattr(target, "__self__", None)
        if isinstance(owner, (str, bytes, int, float)):
            budget.check_call(target.__name__, owner, args, _template_kwargs(kwargs))
        elif isinstance(__obj, Macro):
            measure([args, _template_kwargs(kwargs)])
        result = super().call(__context, __obj, *args, **kwargs)
        budget.charge(result)
        if isinstance(result, dict):
            measure(result)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = _current_budget()
        budget.step()
        budget.check_arithmetic(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        budget.charge(result)
        return result

    def getattr(self, obj: Any, attribute: str) -> Any:
        _current_budget().step()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        budget = _current_budget()
        budget.step()
        result = super().getitem(obj, argument)
        if isinstance(argument, slice):
            budget.charge(result)
        return result

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        """Fail at once. Jinja would return a value that fails when used, but no template has a reason to ask."""
        raise jinja2.exceptions.SecurityError(f"{attribute!r} of a {type(obj).__name__} may not be used in a template")

    def count_iteration(self, n_characters: int) -> None:
        """Charge one loop iteration or macro call whose constant text has ``n_characters``."""
        budget = _current_budget()
        budget.step()
        budget.spend(n_characters)

    def concatenate(self, *values: Any) -> str:
        """Concatenate values: the operator ``~``."""
        budget = _current_budget()
        budget.step()
        budget.spend(measure(values, include_text=True))
        return "".join(map(str, values))

    def charge_literal(self, value: Any) -> Any:
        """Charge a list, tuple or object literal of the template."""
        budget = _current_budget()
        budget.step()
        budget.charge(value)
        measure(value)
        return value


def _current_budget() -> Budget:
    """Return the budget of this rendering. Constants that the compiler evaluates get their own."""
    return _budget.get() or Budget()


@cache
def _environment() -> MeteredEnvironment:
    """Return the environment for all templates. Creating one takes longer than most renderings."""
    return MeteredEnvironment()


@pass_context
def _metered_output(context: Context, value: Any) -> Any:
    budget = _current_budget()
    budget.step()
    if isinstance(value, str):
        budget.spend(len(value))
    else:
        budget.spend(measure(value, include_text=True))
    return value


def _metered_filter(name: str, filter: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``filter`` with the meter. Some filters take Jinja's context before the value."""
    value_index = 1 if hasattr(filter, "jinja_pass_arg") else 0

    @wraps(filter)
    def metered(*args: Any, **kwargs: Any) -> Any:
        budget = _current_budget()
        budget.step()
        args = (*args[:value_index], *map(_materialise, args[value_index:]))
        budget.check_call(name, args[value_index], args[value_index + 1 :], kwargs)
        result = filter(*args, **kwargs)
        budget.charge(result)
        return result

    return metered


def _materialise(value: Any) -> Any:
    """Convert iterators and views to lists, so that they can be measured."""
    if isinstance(value, LoopContext) or not isinstance(value, (Iterator, KeysView, ValuesView, ItemsView)):
        return value
    items = list(islice(value, MAX_ITEMS + 1))
    measure(items)
    return items


def _template_kwargs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of the template without those of the compiler."""
    return {key: value for key, value in kwargs.items() if not key.startswith("_")}


class _Namespace(Namespace):
    """Jinja's namespace, but its ``repr`` hides the values, and names that begin with underscores are refused."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *positional = args
        values = dict(*positional, **kwargs)
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
    return dict(*args, **_template_kwargs(kwargs))


def _range(*args: int) -> range:
    result = range(*args)
    try:
        length = len(result)
    except OverflowError:
        length = _MAX_RANGE + 1
    if length > _MAX_RANGE:
        raise BudgetExceededError(f"counts further than {_MAX_RANGE:,}")
    return result


def _raise_exception(message: object) -> None:
    raise _RefusedError(message)


def _strftime_now(format: str) -> str:
    if len(format) > _MAX_DATE_FORMAT or re.search(r"%[^a-zA-Z%]*\d", format):
        raise BudgetExceededError("formats a date at great length")
    return datetime.now().strftime(format)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as transformers writes it: without HTML escapes, and non-ASCII text unchanged."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
