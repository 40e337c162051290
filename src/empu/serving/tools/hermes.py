"""Tool calls of Hermes and Qwen: a tag around each call. Also used for templates that know no tools."""

from __future__ import annotations

from dataclasses import replace

from empu.serving.tools.dialect import ToolDialect

TAG = "<tool_call>"

HERMES = ToolDialect(
    is_native=True,
    opening=f"{TAG}\n",
    separator=f"\n</tool_call>\n{TAG}\n",
    closing="\n</tool_call>",
    marker=TAG,
)
PROMPTED = replace(HERMES, is_native=False)
"""For a template without tools: a system message describes the tools and this syntax."""
