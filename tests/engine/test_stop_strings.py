"""Stop strings, wherever the stream is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from empu.engine.stop_strings import StopBoundary, StopMatcher

letters = st.text("ab<|", max_size=40)


@given(letters, st.lists(st.text("ab<|", min_size=1, max_size=5), max_size=3), st.data())
def test_text_ends_before_the_first_stop_string(text: str, stops: list[str], data: st.DataObject) -> None:
    matcher = StopMatcher(stops)
    emitted, rest = "", text
    while rest and matcher.matched is None:
        size = data.draw(st.integers(1, len(rest)))
        emitted += matcher.feed(rest[:size])
        assert not any(stop in emitted for stop in stops)
        rest = rest[size:]
    emitted += matcher.flush()
    if matcher.matched is None:
        assert emitted == text
        assert not any(stop in text for stop in stops)
    else:
        assert text.startswith(emitted + matcher.matched)
        assert not any(stop in emitted for stop in stops)


@given(letters, st.lists(st.text("ab<|", min_size=1, max_size=5), max_size=3), st.booleans(), st.data())
def test_stop_strings_do_not_apply_after_a_boundary(
    text: str, stops: list[str], at_start: bool, data: st.DataObject
) -> None:
    boundary = StopBoundary("<|a", at_start)
    position = text.find(boundary.text)
    searched_length = len(text) if position < 0 or (position and at_start) else position + len(boundary.text)
    whole = StopMatcher(stops, boundary)
    expected = whole.feed(text) + whole.flush(), whole.matched
    matcher = StopMatcher(stops, boundary)
    emitted, rest = "", text
    while rest and matcher.matched is None:
        size = data.draw(st.integers(1, len(rest)))
        emitted += matcher.feed(rest[:size])
        rest = rest[size:]
    emitted += matcher.flush()
    if matcher.matched is None:
        assert (emitted, None) == expected == (text, None)
        assert not any(stop in text[:searched_length] for stop in stops)
    else:
        assert (text[:searched_length]).startswith(emitted + matcher.matched)
        assert not any(stop in emitted for stop in stops)


def test_text_is_held_back_only_while_it_may_become_a_stop_string() -> None:
    matcher = StopMatcher(["</end>"])
    assert matcher.feed("a < b and ") == "a < b and "
    assert matcher.feed("x</e") == "x"
    assert matcher.feed("x") == "</ex"
    assert matcher.feed("</end>more") == ""
    assert matcher.matched == "</end>"
    assert matcher.feed("more") == ""
    assert matcher.flush() == ""
