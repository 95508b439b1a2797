"""A task that fires one event after another continues for a while, and then other tasks run."""

from __future__ import annotations

import pytest

from lightbus.events.publishing.in_row import AT_ONCE, IN_ROW, InRow


def count_of(row: InRow, who: object, noted: bool) -> int:
    """Return how many events of one source are stored at once within a tick."""
    count = 0
    while row.continues_row(who, count if noted else 0, is_first=not count):
        count += 1
    return count


@pytest.mark.parametrize(("noted", "most"), [(True, IN_ROW), (False, AT_ONCE)])
def test_a_row_is_limited(noted: bool, most: int) -> None:
    """The limit is higher if the events are only noted; in the next tick the row continues."""
    row = InRow()
    for _ in range(3):
        assert count_of(row, "one", noted) == most
        assert not row.continues_row("one", most if noted else 0, is_first=False)
        row.end_tick()


def test_other_sources_within_the_tick_wait() -> None:
    """The first source continues its row; in the next tick another may be the first."""
    row = InRow()
    assert row.continues_row("one", 0, is_first=True)
    assert not row.continues_row("two", 0, is_first=False)
    assert row.continues_row("one", 0, is_first=False)
    row.end_tick()
    assert row.continues_row("two", 0, is_first=True)
    assert not row.continues_row("one", 0, is_first=False)


def test_noted_events_are_waited_for() -> None:
    """Nothing is stored at once before the events noted in an earlier tick are in the tables."""
    row = InRow()
    assert not row.continues_row("one", 3, is_first=True)
    row.end_tick()
    assert row.continues_row("one", 0, is_first=True)


def test_when_more_are_expected() -> None:
    """After the first event of a tick, and from the first on if the previous tick had several."""
    row = InRow()
    found = []
    for count in (1, 1, 3, 2, 1, 1):
        for number in range(count):
            assert row.continues_row("one", number, is_first=not number)
            found.append(row.expects_more)
        row.end_tick()
    row.end_tick()
    assert found == [False, False, False, True, True, True, True, True, False]
