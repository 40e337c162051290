"""Hostile and broken templates end soon, in a short TemplateError."""

from __future__ import annotations

import resource
import sys
import time

import pytest

from empu.errors import TemplateError
from empu.text.sandbox.budget import MAX_SECONDS
from empu.text.templates.jinja import JinjaTemplate
from tests.text.sandbox.hostile_templates import HOSTILE

EXTRA_SECONDS = 2.0
"""For compiling, and for the operation that runs when the time is up, on a busy machine."""


def peak_mib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_template_ends_in_a_template_error_within_the_limit(name: str) -> None:
    template = JinjaTemplate(HOSTILE[name], {}, "hostile.gguf")
    before, start = peak_mib(), time.monotonic()
    with pytest.raises(TemplateError) as caught:
        template.render([{"role": "user", "content": "hello"}])
    assert time.monotonic() - start < MAX_SECONDS + EXTRA_SECONDS
    assert peak_mib() - before < 1024
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_there_are_at_least_thirty_hostile_templates(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f" [{len(HOSTILE)} hostile templates]", end="")
    assert len(HOSTILE) >= 30


def test_the_message_of_raise_exception_is_shown() -> None:
    with pytest.raises(TemplateError, match="refuses this dialogue: roles must take turns"):
        JinjaTemplate(HOSTILE["own error"], {}, "f").render([{"role": "user", "content": ""}])


def test_a_syntax_error_names_its_line() -> None:
    with pytest.raises(TemplateError, match="line 3"):
        JinjaTemplate("{# a\n#}\n{% for %}", {}, "f").render([{"role": "user", "content": ""}])


def test_only_json_types_are_allowed_in_messages() -> None:
    template = JinjaTemplate("{{ messages[0].content }}", {}, "f")
    with pytest.raises(TemplateError, match="bytes"):
        template.render([{"role": "user", "content": b"x"}])
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(TemplateError, match="levels deep"):
        template.render([{"role": "user", "content": loop}])
    with pytest.raises(TemplateError, match="at least one message"):
        template.render([])
    with pytest.raises(TemplateError, match="Message 1"):
        template.render(["hello"])  # type: ignore[list-item]


def test_long_ordinary_dialogue_stays_within_the_limits() -> None:
    source = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + "
        "'<|im_end|>' + '\n' }}{% endfor %}"
    )
    turns = [{"role": ("user", "assistant")[i % 2], "content": "kata " * 100} for i in range(10_000)]
    text = JinjaTemplate(source, {}, "f").render(turns)
    assert text.count("<|im_start|>") == 10_000


def test_large_numbers_are_allowed_as_values() -> None:
    source = "{{ '%d'|format(1700000000) }} {{ missing|default(1700000000) }} {{ '{}'.format(1700000000) }}"
    text = JinjaTemplate(source, {}, "f").render([{"role": "user", "content": ""}])
    assert text == " ".join(["1700000000"] * 3)
