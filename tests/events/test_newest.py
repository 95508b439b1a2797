"""The newest events of several journals, in one list."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lightbus.events.newest import newest_of


def event(native_id: str, at: float) -> dict[str, Any]:
    return {"native_id": native_id, "published_at": at}


def test_newest_come_last_by_their_times() -> None:
    """Of any journal; the oldest are left out if there are too many."""
    one = [event("a-1", 1.0), event("a-2", 4.0)]
    two = [event("b-1", 2.0), event("b-2", 3.0), event("b-3", 5.0)]
    assert [each["native_id"] for each in newest_of([one, [], two], 4)] == ["b-1", "b-2", "a-2", "b-3"]
    assert newest_of([one, two], 0) == newest_of([], 9) == newest_of([[], []], 9) == []


def test_journals_stay_in_their_order() -> None:
    """Even if a clock was set back: no event of a journal is skipped, or comes before its predecessor."""
    put_back = [event("a-1", 9.0), event("a-2", 1.0)]
    other = [event("b-1", 5.0)]
    assert [each["native_id"] for each in newest_of([put_back, other], 9)] == ["a-1", "a-2", "b-1"]


@given(parts=st.lists(st.lists(st.floats(0, 100), max_size=8), max_size=4), limit=st.integers(0, 40))
def test_the_last_events_of_each_journal(parts: list[list[float]], limit: int) -> None:
    """Whatever their times: up to the limit, the last ones of each journal, in order."""
    journals = [
        [event(f"{name}-{n:03}", at) for n, at in enumerate(times)] for name, times in zip("abcd", parts, strict=False)
    ]
    found = newest_of(journals, limit)
    assert len(found) == min(limit, sum(map(len, parts)))
    for journal in journals:
        ours = [each for each in found if each in journal]
        assert ours == journal[len(journal) - len(ours) :]
