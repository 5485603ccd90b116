"""Streams are cut into events at any byte, and what is no event of ours is kept as it came."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.serving.router.sse import DONE, Events, frame
from redistill.serving.router.types import UpstreamError

STREAM = (
    b": ping\n\n"
    + frame({"choices": [{"delta": {"role": "assistant"}}]})
    + frame({"choices": [{"text": "caf\u00e9"}]})
    + b"data: {oops\n\n"
    + DONE
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_where_it_is_cut_makes_no_difference(cuts: list[int]) -> None:
    events, places = Events(), [0, *sorted(cuts), len(STREAM)]
    read = [e for a, b in pairwise(places) for e in events.feed(STREAM[a:b])]
    assert b"".join(e.raw for e in read) == STREAM
    assert [(e.has_content, e.done) for e in read] == [(False, False), (False, False), (True, False), (False, False), (False, True)]


def test_line_ends_of_other_servers() -> None:
    read = Events().feed(b'data: {"a": 1}\r\n\r\ndata: {"b":\ndata: 2}\n\n')
    assert [e.data for e in read] == [{"a": 1}, {"b": 2}]


def test_errors_inside_a_stream() -> None:
    [first, second] = Events().feed(frame({"error": {"message": "out of memory"}}) + frame({"error": None, "choices": []}))
    assert first.error == "out of memory" and second.error is None


def test_an_endless_event_is_refused() -> None:
    events = Events()
    with pytest.raises(UpstreamError, match="larger than 4 MB"):
        for _ in range(5):
            events.feed(b"x" * (1 << 20))
