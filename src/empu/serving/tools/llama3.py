"""Tool calls of Llama 3: one bare JSON object."""

from __future__ import annotations

from empu.serving.tools.dialect import ToolDialect

LLAMA3 = ToolDialect(is_native=True, arguments_key="parameters")
BARE_JSON = ToolDialect(is_native=True)
"""For templates that write one JSON object with the usual key for arguments."""
