"""Which partition an event falls into: that of its key, else each in its turn."""

from __future__ import annotations

from helpers.published import Out, run
from lightbus.core.partitions import partition_of
from lightbus.events.partition_turns import TOGETHER, TURN_AFTER, PartitionTurns
from lightbus.wire import envelope
from lightbus.wire.envelope import PARTITIONS


def test_a_key_decides_on_the_partition() -> None:
    """All events of a key go one way, so they stay in order."""

    async def test(out: Out) -> None:
        out.fire(100, key="customer-1")
        out.publisher.flush()
        assert list(out.records) == [envelope.event_topic("auth", "kept", partition_of("customer-1", PARTITIONS))]

    run(test)


def test_events_without_a_key_take_turns() -> None:
    """Each partition gets some in a row, so that they share messages, and all partitions get as many."""

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


def test_events_that_are_fired_together_take_turns() -> None:
    """As many as a listener handles in one turn go to one partition, and the next ones, also next time, to another."""
    turns, records = PartitionTurns(), [b"%d" % number for number in range(2 * TOGETHER + 1)]
    runs = [*turns.runs("auth", "seen", records, 0), *turns.runs("auth", "seen", [b"next"], 0)]
    assert [len(those) for _, _, those in runs] == [TOGETHER, TOGETHER, 1, 1]
    assert [record for _, _, those in runs for record in those] == [*records, b"next"]
    first = runs[0][1].partition
    assert [name.partition for _, name, _ in runs] == [(first + number) % PARTITIONS for number in range(4)]
    assert all(topic == envelope.event_topic("auth", "seen", name.partition) for topic, name, _ in runs)
