"""p-values read the same in the terminal and on the page."""

from __future__ import annotations

import pytest

from empu.evals.metrics import p_text


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.125, "p = 0.13"), (1.0, "p = 1.00"), (0.0125, "p = 0.01"), (0.00125, "p = 0.0013"), (0.00001, "p < 0.0001")],
)
def test_p_values_are_rounded_half_up_as_on_the_page(p: float, text: str) -> None:
    assert p_text(p) == text
