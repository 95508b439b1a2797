"""The position of a group: it only advances, and events are possibly delivered until reported otherwise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lightbus.core.cursors import Cursors, Standing


def test_a_topic_without_a_position_is_unhandled_from_its_beginning() -> None:
    """A topic created after the group is unhandled from its beginning."""
    assert Cursors[str]({}).standing("t", 7) == Standing(0, 7, 0)


def test_first_position_is_set_once() -> None:
    """It is not changed by a second call, nor set to 0."""
    cursors = Cursors[str]({"old": 3})
    assert not cursors.begin("old", 5)
    assert not cursors.begin("new", 0)
    assert cursors.begin("new", 4)
    assert cursors.acked == {"old": 3, "new": 4}


def test_acknowledgements_only_advance() -> None:
    """An older one changes nothing, and need not be stored."""
    cursors = Cursors[str]({})
    assert cursors.acknowledge("t", 5)
    assert not cursors.acknowledge("t", 5)
    assert not cursors.acknowledge("t", 4)
    assert cursors.standing("t", 9).cursor == 5


def test_topics_of_a_lost_member_are_possibly_delivered() -> None:
    """Up to the head of that moment, until acknowledged; without open events nothing is possibly delivered."""
    cursors = Cursors[str]({"t": 5})
    cursors.mark_in_flight([("t", 9), ("done", 0)])
    assert cursors.standing("t", 12) == Standing(5, 12, 9)
    assert cursors.standing("done", 0) == Standing(0, 0, 0)
    cursors.acknowledge("t", 8)
    assert cursors.standing("t", 12) == Standing(8, 12, 9)
    cursors.acknowledge("t", 9)
    assert cursors.standing("t", 12) == Standing(9, 12, 0)


def test_a_failed_delivery_is_possibly_delivered_too() -> None:
    """An event with a recorded delivery is redelivered with its count, to any member."""
    assert Cursors[str]({"t": 5}).standing("t", 9, failed=6).possibly_delivered == 6
    assert Cursors[str]({"t": 5}).standing("t", 9, failed=5).possibly_delivered == 0


def test_report_of_a_live_member_is_adopted() -> None:
    """It has started nothing that it has not handled; an older report changes nothing."""
    cursors = Cursors[str]({"t": 5})
    cursors.mark_in_flight([("t", 9)])
    assert not cursors.adopt_reported("t", 4)
    assert cursors.standing("t", 9).possibly_delivered == 9
    assert cursors.adopt_reported("t", 6)
    assert cursors.standing("t", 9) == Standing(6, 9, 0)


@given(
    st.lists(st.tuples(st.sampled_from(["ack", "mark_in_flight", "adopt_reported"]), st.integers(0, 50)), max_size=50)
)
def test_a_cursor_never_goes_back(steps: list[tuple[str, int]]) -> None:
    """For any reports in any order: acknowledged events stay so; possibly started ones are after the cursor."""
    cursors, highest = Cursors[str]({}), 0
    for what, sequence in steps:
        if what == "mark_in_flight":
            cursors.mark_in_flight([("t", sequence)])
        else:
            stored = (cursors.acknowledge if what == "ack" else cursors.adopt_reported)("t", sequence)
            assert stored == (sequence > highest)
            highest = max(highest, sequence)
        standing = cursors.standing("t", 60)
        assert standing.cursor == highest
        assert standing.possibly_delivered == 0 or standing.possibly_delivered > standing.cursor
