"""The partition of an event: that of its key, or the next in turn."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from helpers.published import Out, run
from lightbus.core.partitions import partition_of
from lightbus.events.publishing.partition_turns import CROWDED, IN_CROWD, TOGETHER, TURN_AFTER, PartitionTurns
from lightbus.wire import envelope
from lightbus.wire.envelope import PARTITIONS


def test_a_key_determines_the_partition() -> None:
    """All events with one key go to one partition, so they stay in order."""

    async def test(out: Out) -> None:
        out.fire(100, key="customer-1")
        out.publisher.flush()
        assert list(out.records) == [envelope.event_topic("auth", "kept", partition_of("customer-1", PARTITIONS))]

    run(test)


def test_events_without_a_key_take_turns() -> None:
    """Each partition gets some in a row, so that they share messages, and all partitions get equally many."""

    async def test(out: Out) -> None:
        out.fire(TURN_AFTER * PARTITIONS, key=None)
        out.publisher.flush()
        assert len(out.records) == PARTITIONS
        assert {len(entries) for entries in out.records.values()} == {TURN_AFTER}
        before = out.frames[-1][0]
        out.fire(1, key=None)
        out.publisher.flush()
        assert out.frames[-1][0] != before

    run(test)


def test_events_fired_together_take_turns() -> None:
    """A number of events in a row go to one partition, and the next ones, also of the next call, to another."""
    turns, records = PartitionTurns(), [b"%d" % number for number in range(2 * TOGETHER + 1)]
    runs = [*turns.runs(("auth", "seen"), records, 0), *turns.runs(("auth", "seen"), [b"next"], 0)]
    assert [len(those) for _, _, those in runs] == [TOGETHER, TOGETHER, 1, 1]
    assert [record for _, _, those in runs for record in those] == [*records, b"next"]
    first = runs[0][1].partition
    assert [name.partition for _, name, _ in runs] == [(first + number) % PARTITIONS for number in (0, 1, 2, 4)]
    assert all(topic == envelope.event_topic("auth", "seen", name.partition) for topic, name, _ in runs)


def test_many_events_per_tick_make_longer_rows() -> None:
    """If successive ticks have many events, more in a row go to one partition; after a tick with few, fewer."""
    turns = PartitionTurns()

    def tick(count: int) -> list[int]:
        """Return how many events in a row went to the same partition."""
        went = [turns.topic(("auth", "seen"), None, number)[1].partition for number in range(count)]
        turns.end_tick(count)
        return [len(list(those)) for _, those in itertools.groupby(went)]

    assert [tick(TOGETHER) for _ in range(CROWDED)] == [[TURN_AFTER] * (TOGETHER // TURN_AFTER)] * CROWDED
    assert [tick(2 * IN_CROWD + 1), tick(1)] == [[IN_CROWD, IN_CROWD, 1], [1]]
    assert tick(2 * TURN_AFTER) == [TURN_AFTER, TURN_AFTER]


def test_large_lists_make_longer_rows() -> None:
    """The same for lists of events that are fired together repeatedly."""
    turns = PartitionTurns()

    def tick(count: int) -> list[int]:
        """Return how many of a list went to each partition."""
        runs = turns.runs(("auth", "seen"), [b""] * count, 0)
        turns.end_tick(count)
        return [len(records) for _, _, records in runs]

    assert [tick(2 * TOGETHER) for _ in range(CROWDED)] == [[TOGETHER, TOGETHER]] * CROWDED
    assert [tick(2 * IN_CROWD + 1), tick(1)] == [[IN_CROWD, IN_CROWD, 1], [1]]
    assert tick(2 * TOGETHER) == [TOGETHER, TOGETHER]


@pytest.mark.parametrize("count", [1, 16, 17, 64, 65, 100, 128, 1000])
@pytest.mark.parametrize("together", [False, True])
def test_all_partitions_are_used(count: int, together: bool) -> None:
    """Whatever a tick contains, none is left out, and each gets equally many."""
    turns = PartitionTurns()
    went: Counter[int] = Counter()
    for _ in range(CROWDED + 10 * PARTITIONS):
        if together:
            for _, name, records in turns.runs(("auth", "seen"), [b""] * count, 0):
                went[name.partition] += len(records)
        else:
            went.update(turns.topic(("auth", "seen"), None, number)[1].partition for number in range(count))
        turns.end_tick(count)
    assert len(went) == PARTITIONS
    assert max(went.values()) < 1.3 * min(went.values())
