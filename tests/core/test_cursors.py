"""How far a group has come: forwards only, and what is possibly delivered until somebody says otherwise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lightbus.core.cursors import Cursors, Standing


def test_a_topic_without_a_position_is_owed_from_its_beginning() -> None:
    """One that came into being after the group is owed as a whole."""
    assert Cursors[str]({}).standing("t", 7) == Standing(0, 7, 0)


def test_a_beginning_is_set_once() -> None:
    """Where a group begins is not changed by a second word, nor set to nothing."""
    cursors = Cursors[str]({"old": 3})
    assert not cursors.begin("old", 5)
    assert not cursors.begin("new", 0)
    assert cursors.begin("new", 4)
    assert cursors.acked == {"old": 3, "new": 4}


def test_acknowledging_goes_forwards() -> None:
    """An older word changes nothing, and is not to be stored."""
    cursors = Cursors[str]({})
    assert cursors.acknowledge("t", 5)
    assert not cursors.acknowledge("t", 5)
    assert not cursors.acknowledge("t", 4)
    assert cursors.standing("t", 9).cursor == 5


def test_what_a_lost_member_had_is_possibly_delivered() -> None:
    """Up to the head of that moment, until it is acknowledged; where nothing is open nothing is possibly delivered."""
    cursors = Cursors[str]({"t": 5})
    cursors.mark_in_flight([("t", 9), ("done", 0)])
    assert cursors.standing("t", 12) == Standing(5, 12, 9)
    assert cursors.standing("done", 0) == Standing(0, 0, 0)
    cursors.acknowledge("t", 8)
    assert cursors.standing("t", 12) == Standing(8, 12, 9)
    cursors.acknowledge("t", 9)
    assert cursors.standing("t", 12) == Standing(9, 12, 0)


def test_a_failed_delivery_is_possibly_delivered_too() -> None:
    """An event of which a delivery is on record is given as a redelivery, by whomever."""
    assert Cursors[str]({"t": 5}).standing("t", 9, failed=6).possibly_delivered == 6
    assert Cursors[str]({"t": 5}).standing("t", 9, failed=5).possibly_delivered == 0


def test_who_lives_and_had_it_is_believed() -> None:
    """It has begun nothing that it has not handled; an older word does not take that away."""
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
    """Whatever is said in whatever order: what was acknowledged stays so; what may have begun is ahead of it."""
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
