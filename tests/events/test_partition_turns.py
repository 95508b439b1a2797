"""Which partition an event falls into: that of its key, else each in its turn."""

from __future__ import annotations

from helpers.published import Out, run
from lightbus.core.partitions import partition_of
from lightbus.events.partition_turns import TURN_AFTER
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
