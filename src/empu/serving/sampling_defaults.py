"""Sampling defaults for requests that name none; ``empu run`` has the same.

The default temperature of OpenAI and Anthropic, 1, makes small models babble to the end of their context.
"""

from __future__ import annotations

from empu.engine.sampling import DEFAULT_TEMPERATURE, DEFAULT_TOP_P


def apply_sampling_defaults(temperature: float | None, top_p: float | None) -> tuple[float, float | None]:
    """Return temperature and top-p. The defaults apply only to a request that gives neither."""
    if temperature is None and top_p is None:
        return DEFAULT_TEMPERATURE, DEFAULT_TOP_P
    return (1.0 if temperature is None else temperature), top_p
