"""The order of what a listener follows at one publisher, across partitions."""

from __future__ import annotations

import math

from lightbus.core.ordering import ATTEMPTS
from lightbus.events.listening.sorting import Sorting
from lightbus.wire.envelope import PARTITIONS, Streams

ALL = range(PARTITIONS)


def streams(head: int, *partitions: int) -> Streams:
    return Streams("auth", "g", 1, [*partitions], [["j", "seen", each, 0, head, 0] for each in partitions])


def whole() -> Sorting:
    """Return the order of one that has all partitions, and was told where they stand."""
    sorting = Sorting()
    sorting.assigned(ALL)
    sorting.on_streams(streams(5, *ALL))
    return sorting


def test_streams_of_a_journal_are_merged() -> None:
    """Those of another one are in an order of their own."""
    sorting = whole()
    (one, mark), (two, same_mark), (other, _) = (sorting.place(journal, "seen") for journal in "jjk")
    assert one is two is not other
    assert mark is same_mark is not sorting.place("j", "gone")[1]
    assert len(list(sorting.orders)) == 2


def test_all_partitions_have_to_be_asked_about() -> None:
    """When they have become ours, where they stand is unknown, until it was told of all, maybe piece by piece."""
    sorting = Sorting()
    sorting.assigned(range(8))
    assert (sorting.is_whole, sorting.lacks) == (False, False)
    sorting.assigned(ALL)
    assert (sorting.is_whole, sorting.lacks) == (True, True)
    sorting.on_streams(streams(5, *range(8)))
    assert sorting.lacks
    sorting.on_streams(streams(7, *range(8, PARTITIONS)))
    assert not sorting.lacks


def test_what_does_not_connect_lacks_something() -> None:
    """Until it is told where all topics stand; what connects lets more be handed out."""
    sorting = whole()
    assert sorting.published("j", "seen", 5, 6)
    assert not sorting.published("j", "seen", 8, 9)
    assert sorting.lacks
    sorting.on_streams(streams(9, *ALL))
    assert not sorting.lacks


def test_publishers_that_do_not_say_are_not_waited_for() -> None:
    """Of them nothing is known to be complete."""
    sorting = whole()
    assert sorting.published("j", "seen", 0, 0)
    _, watermark = sorting.place("j", "seen")
    assert watermark.upto == math.inf


def test_questions_in_vain_are_given_up() -> None:
    """After some attempts what is there is handed out as it is."""
    sorting = Sorting()
    sorting.assigned(ALL)
    for _ in range(ATTEMPTS):
        assert sorting.lacks
        sorting.failed()
    assert not sorting.lacks


def test_some_partitions_are_in_order_by_themselves() -> None:
    """Nothing is waited for that others may have."""
    sorting = whole()
    sorting.assigned(range(8))
    assert not sorting.published("j", "seen", 90, 91)
    assert not sorting.lacks
