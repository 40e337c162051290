"""Stop strings, whatever the borders of the pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from empu.engine.stop_strings import StopMatcher, Until

letters = st.text("ab<|", max_size=40)


@given(letters, st.lists(st.text("ab<|", min_size=1, max_size=5), max_size=3), st.data())
def test_text_ends_before_the_first_stop_string(text: str, stops: list[str], data: st.DataObject) -> None:
    matcher = StopMatcher(stops)
    shown, rest = "", text
    while rest and matcher.found is None:
        size = data.draw(st.integers(1, len(rest)))
        shown += matcher.feed(rest[:size])
        assert not any(stop in shown for stop in stops)
        rest = rest[size:]
    shown += matcher.flush()
    if matcher.found is None:
        assert shown == text
        assert not any(stop in text for stop in stops)
    else:
        assert text.startswith(shown + matcher.found)
        assert not any(stop in shown for stop in stops)


@given(letters, st.lists(st.text("ab<|", min_size=1, max_size=5), max_size=3), st.booleans(), st.data())
def test_behind_a_form_nothing_stops(text: str, stops: list[str], at_start: bool, data: st.DataObject) -> None:
    until = Until("<|a", at_start)
    place = text.find(until.text)
    reach = len(text) if place < 0 or (place and at_start) else place + len(until.text)
    whole = StopMatcher(stops, until)
    expected = whole.feed(text) + whole.flush(), whole.found
    matcher = StopMatcher(stops, until)
    shown, rest = "", text
    while rest and matcher.found is None:
        size = data.draw(st.integers(1, len(rest)))
        shown += matcher.feed(rest[:size])
        rest = rest[size:]
    shown += matcher.flush()
    if matcher.found is None:
        assert (shown, None) == expected == (text, None)
        assert not any(stop in text[:reach] for stop in stops)
    else:
        assert (text[:reach]).startswith(shown + matcher.found)
        assert not any(stop in shown for stop in stops)


def test_nothing_is_held_back_without_need() -> None:
    matcher = StopMatcher(["</end>"])
    assert matcher.feed("a < b and ") == "a < b and "
    assert matcher.feed("x</e") == "x"
    assert matcher.feed("x") == "</ex"
    assert matcher.feed("</end>more") == ""
    assert matcher.found == "</end>"
    assert matcher.feed("more") == ""
    assert matcher.flush() == ""
