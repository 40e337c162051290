"""Token counts in the form of OpenAI's completions."""

from __future__ import annotations

from typing import Any

from empu.engine.outputs import Completion


def usage(completions: list[Completion], n: int | None = None) -> dict[str, Any]:
    """Return token counts. A prompt that ``n`` completions share is counted once (``None``: all share one)."""
    prompts = completions[:: n or len(completions) or 1]
    prompt_tokens = sum(completion.prompt_tokens for completion in prompts)
    completion_tokens = sum(completion.completion_tokens for completion in completions)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(completion.cached_tokens for completion in prompts)},
    }
