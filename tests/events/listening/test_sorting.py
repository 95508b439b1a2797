"""The order of the events that a listener follows at one publisher, across partitions."""

from __future__ import annotations

import math

from lightbus.core.ordering import ATTEMPTS
from lightbus.events.listening.sorting import Sorting
from lightbus.wire.envelope import PARTITIONS, Streams

ALL = range(PARTITIONS)


def streams(head: int, *partitions: int) -> Streams:
    return Streams("auth", "g", 1, [*partitions], [["j", "seen", each, 0, head, 0] for each in partitions])


def whole() -> Sorting:
    """Return the order of a listener that has all partitions, and knows the heads of their topics."""
    sorting = Sorting()
    sorting.assigned(ALL)
    sorting.on_streams(streams(5, *ALL))
    return sorting


def test_streams_of_a_journal_are_merged() -> None:
    """Those of another journal have their own order."""
    sorting = whole()
    (one, mark), (two, same_mark), (other, _) = (sorting.place(journal, "seen") for journal in "jjk")
    assert one is two is not other
    assert mark is same_mark is not sorting.place("j", "gone")[1]
    assert len(list(sorting.orders)) == 2


def test_all_partitions_must_be_asked_about() -> None:
    """New partitions have unknown heads, until the answers, maybe several, cover all of them."""
    sorting = Sorting()
    sorting.assigned(range(8))
    assert (sorting.is_whole, sorting.lacks) == (False, False)
    sorting.assigned(ALL)
    assert (sorting.is_whole, sorting.lacks) == (True, True)
    sorting.on_streams(streams(5, *range(8)))
    assert sorting.lacks
    sorting.on_streams(streams(7, *range(8, PARTITIONS)))
    assert not sorting.lacks


def test_a_gap_means_missing_events() -> None:
    """Until the heads of all topics are known; events without a gap can be handed out."""
    sorting = whole()
    assert sorting.published("j", "seen", 5, 6)
    assert not sorting.published("j", "seen", 8, 9)
    assert sorting.lacks
    sorting.on_streams(streams(9, *ALL))
    assert not sorting.lacks


def test_publishers_without_watermarks_are_not_waited_for() -> None:
    """Nothing is known to be complete there."""
    sorting = whole()
    assert sorting.published("j", "seen", 0, 0)
    _, watermark = sorting.place("j", "seen")
    assert watermark.upto == math.inf


def test_useless_requests_are_given_up() -> None:
    """After some attempts the present events are handed out in their present order."""
    sorting = Sorting()
    sorting.assigned(ALL)
    for _ in range(ATTEMPTS):
        assert sorting.lacks
        sorting.failed()
    assert not sorting.lacks


def test_some_partitions_are_ordered_separately() -> None:
    """There is no wait for events that other members may have."""
    sorting = whole()
    sorting.assigned(range(8))
    assert not sorting.published("j", "seen", 90, 91)
    assert not sorting.lacks
