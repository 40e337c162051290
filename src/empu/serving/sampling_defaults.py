"""What a request means that leaves out how to draw, the same on every interface and as ``empu run`` has it.

OpenAI's and Anthropic's own default, a temperature of 1, makes small models babble to the end of their context.
"""

from __future__ import annotations

from empu.engine.sampling import USUAL_TEMPERATURE, USUAL_TOP_P


def drawing(temperature: float | None, top_p: float | None) -> tuple[float, float | None]:
    """Temperature and top-p. Whoever gives one of them has thought of the other."""
    if temperature is None and top_p is None:
        return USUAL_TEMPERATURE, USUAL_TOP_P
    return (1.0 if temperature is None else temperature), top_p
