"""Received events as bytes, decoded on demand."""

from __future__ import annotations

from helpers.raw_events import raw_events

JOURNAL = "0123456789abcdef"


def test_messages_are_complete() -> None:
    """Each has its arguments, its place and its publisher, as a listener would get it."""
    [first, second] = raw_events("auth.seen", {"n": 1}, {"n": 2}, journal=JOURNAL, first=7).messages()
    assert (first.canonical_name, first.kwargs, first.id, first.version) == ("auth.seen", {"n": 1}, "7", 1)
    assert (first.native_id, second.native_id) == (f"{JOURNAL}-7", f"{JOURNAL}-8")
    assert (second.published_at, second.publisher) == (1008.0, "p" * 16)
    assert raw_events("auth.seen", {}).messages()[0].native_id == ""  # of best effort: nobody keeps it


def test_last_returns_the_newest_events() -> None:
    """If there are fewer, it returns all of them."""
    events = raw_events("auth.seen", {"n": 1}, {"n": 2}, {"n": 3})
    assert [each.kwargs["n"] for each in events.last(2).messages()] == [2, 3]
    assert events.last(3) is events


def test_only_keeps_wanted_events_as_received() -> None:
    """The wanted ones stay undecoded."""
    events = raw_events("auth.seen", {"n": 1}, {"n": 2}, {"n": 3})
    found = events.only(lambda message: message.kwargs["n"] != 2)
    assert [*found.rows] == [events.rows[0], events.rows[2]]
    assert found.event == "seen"


def test_invalid_events_are_left_out() -> None:
    """Whatever a publisher sends: the others are returned."""
    events = raw_events("auth.seen", {"n": 1}, {"n": 2}, {"n": 3})
    for broken in (b"", b"\xc1", b"\x90", b"\x01"):
        rows = [events.rows[0], [2, 1, broken], events.rows[2]]
        assert [each.kwargs["n"] for each in events._replace(rows=rows).messages()] == [1, 3]
        assert [*events._replace(rows=rows).only(lambda message: True).rows] == [rows[0], rows[2]]
