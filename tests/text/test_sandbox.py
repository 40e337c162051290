"""Hostile templates end, soon, in a TemplateError of one sentence; so do broken ones."""

from __future__ import annotations

import resource
import sys
import time

import pytest

from empu.errors import TemplateError
from empu.text.sandbox.budget import MOST_SECONDS
from empu.text.templates.jinja import JinjaTemplate
from tests.text.hostile_templates import HOSTILE

SLACK = 2.0
"""Seconds for compiling and for the operation that was running when the time ran out, on a busy machine."""


def peak_mib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_template_ends_in_a_template_error_within_the_limit(name: str) -> None:
    template = JinjaTemplate(HOSTILE[name], {}, "hostile.gguf")
    before, start = peak_mib(), time.monotonic()
    with pytest.raises(TemplateError) as caught:
        template.render([{"role": "user", "content": "hello"}])
    assert time.monotonic() - start < MOST_SECONDS + SLACK
    assert peak_mib() - before < 1024
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_there_are_at_least_thirty_hostile_templates(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f" [{len(HOSTILE)} hostile templates]", end="")
    assert len(HOSTILE) >= 30


def test_own_message_of_a_template_is_shown() -> None:
    with pytest.raises(TemplateError, match="refuses this dialogue: roles must take turns"):
        JinjaTemplate(HOSTILE["own error"], {}, "f").render([{"role": "user", "content": ""}])


def test_wrong_template_names_its_line() -> None:
    with pytest.raises(TemplateError, match="line 3"):
        JinjaTemplate("{# a\n#}\n{% for %}", {}, "f").render([{"role": "user", "content": ""}])


def test_only_what_json_holds_may_stand_in_a_message() -> None:
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


def test_large_numbers_are_values_where_they_are_no_sizes() -> None:
    source = "{{ '%d'|format(1700000000) }} {{ missing|default(1700000000) }} {{ '{}'.format(1700000000) }}"
    text = JinjaTemplate(source, {}, "f").render([{"role": "user", "content": ""}])
    assert text == " ".join(["1700000000"] * 3)
