"""The losses of a group: events that existed, less those that it got and those still kept."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import cast

import pytest

from lightbus.adapters.nats import group_losses
from lightbus.adapters.nats.api_stream import ALL
from lightbus.adapters.nats.event_counts import EventCounts
from lightbus.adapters.nats.group_losses import GroupLosses, Mark, TopicTally, first_mark
from lightbus.adapters.nats.places import StreamPlaces
from lightbus.adapters.nats.stream_counts import StreamCounts
from lightbus.adapters.nats.subscription import complete_record
from lightbus.ports.events import EventTopic

TOPIC = EventTopic("sold", 1)


def test_first_mark_of_a_group() -> None:
    """At its cursor, or where it started; numbers that were not counted then are unknown."""
    assert first_mark(complete_record(None), TOPIC, 7, {"sold.1": 3}) == Mark(7, 3, 0)
    assert first_mark(complete_record(None), TOPIC, 7, {}) == Mark(7, 0, 0)
    assert first_mark(complete_record(None), TOPIC, 7, None) == Mark(7, None, 0)
    state = complete_record({"cursors": {"sold": 9}, "numbers": {"sold": 5}, "lost": {"sold": 2}})
    assert first_mark(state, TOPIC, 7, {"sold.1": 3}) == Mark(9, 5, 2)
    assert first_mark(complete_record({"cursors": {"sold": 9}}), TOPIC, 7, {}) == Mark(9, None, 0)
    assert first_mark(state, TOPIC, 10, {"sold.1": 6}) == Mark(10, 6, 0)


def test_losses_are_reported_once() -> None:
    """Also if a page is read again; they are recorded with the next acknowledgement."""
    tally = TopicTally(Mark(0, 0, 0))
    assert tally.read(tally.rewind(0), [1, 3], 3, 2) == 0
    assert tally.read(tally.rewind(3), [10, 12], 12, 7) == 3
    assert tally.read(tally.rewind(3), [10, 12], 12, 7) == 0
    assert tally.read(tally.rewind(10), [12, 13], 13, None) == 0
    assert tally.acknowledge(3) == Mark(3, 2, 0)
    assert tally.acknowledge(10) == Mark(10, 6, 3)
    assert tally.acknowledge(13) == Mark(13, 8, 3)


def test_unchecked_losses_are_found_later() -> None:
    """While there is more to read, not every page is checked; a later check finds the losses."""
    tally = TopicTally(Mark(0, 0, 0))
    assert tally.read(tally.rewind(0), [5], 5, None) == 0
    assert tally.read(tally.rewind(5), [8], 8, 6) == 4
    assert tally.read(tally.rewind(8), [], 20, 9) == 3
    assert tally.acknowledge(20) == Mark(20, 9, 7)


def test_unknown_numbers_give_no_losses() -> None:
    """Losses are known from the first check on."""
    tally = TopicTally(Mark(0, None, 0))
    assert tally.read(tally.rewind(0), [5], 5, None) == 0
    assert tally.read(tally.rewind(5), [8], 8, 6) == 0
    assert tally.read(tally.rewind(8), [9], 9, 8) == 1
    assert tally.acknowledge(9) == Mark(9, 8, 1)
    assert tally.rewind(30) == Mark(30, None, 1)
    assert tally.acknowledge(30) is None


def test_acknowledgement_between_two_events() -> None:
    """Sequences between them belong to others: the group's number is that at the first of them."""
    tally = TopicTally(Mark(0, 0, 0))
    tally.read(tally.rewind(0), [1, 9], 9, 2)
    assert tally.acknowledge(4) == Mark(1, 1, 0)


class Counts:
    """The counts of a stream; numbers at a sequence are requested from the servers."""

    def __init__(self) -> None:
        self.events = EventCounts(StreamPlaces("home", "shop"))
        self.asked = 0

    async def catch_up(self, through: int) -> None:
        """Know everything already."""

    async def number_through(self, topic: EventTopic, sequence: int, whom: Collection[str]) -> int | None:
        """Return that half of the sequences are of the topic."""
        self.asked += 1
        return sequence // 2


def test_servers_are_asked_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a topic not at all; while there is more to read, from time to time."""
    monkeypatch.setattr(group_losses, "LOOK_EVERY", 3600.0)
    counts = Counts()
    losses = GroupLosses(cast(StreamCounts, counts), (ALL,))
    counts.events.take_all(((TOPIC, ALL), sequence) for sequence in range(1, 101))

    async def read(after: int, sequences: list[int], through: int) -> int:
        return await losses.read(TOPIC, Mark(0, 0, 0), after, sequences, through)

    async def main() -> None:
        assert await read(0, [15, 20], 20) == 8
        assert await read(20, [40], 40) == 0
        assert counts.asked == 1
        assert await read(40, [100], 100) == 100 - 12
        assert counts.asked == 1
        assert losses.acknowledge(TOPIC, 100) == Mark(100, 100, 96)
        losses.forget(2)
        assert losses.acknowledge(TOPIC, 100) is not None
        losses.forget(1)
        assert losses.acknowledge(TOPIC, 100) is None

    asyncio.run(main())
