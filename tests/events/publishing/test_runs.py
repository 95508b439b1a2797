"""Events that were stored in runs are sent as if each had been stored alone."""

from __future__ import annotations

from typing import Any

from lightbus.adapters.sqlite.journal import Stored
from lightbus.adapters.sqlite.topic import Topic
from lightbus.events.publishing.runs import queue_runs

ONE, TWO = Topic("auth", "seen", 1), Topic("auth", "seen", 2)


def test_runs_are_numbered_and_queued() -> None:
    """Each event follows the previous one of its topic, also after queued ones."""
    pending: dict[bytes, list[list[Any]]] = {b"1": [[4, 0, b"before"]]}
    runs = [(b"1", ONE, [b"a", b"b"]), (b"2", TWO, [b"c"]), (b"1", ONE, [b"d"])]
    assert queue_runs(pending, runs, [Stored(5, 4), Stored(7, 3), Stored(8, 6)]) == [(ONE, 6), (TWO, 7), (ONE, 8)]
    assert pending == {b"1": [[4, 0, b"before"], [5, 4, b"a"], [6, 5, b"b"], [8, 6, b"d"]], b"2": [[7, 3, b"c"]]}


def test_stored_events_are_not_sent_again() -> None:
    """A repeated hand-off is answered with the place of the event, and has no other effect."""
    pending: dict[bytes, list[list[Any]]] = {}
    assert queue_runs(pending, [(b"1", ONE, [b"a"])], [Stored(5, 4, is_new=False)]) == [(ONE, 5)]
    assert pending == {}
