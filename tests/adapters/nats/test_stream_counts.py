"""Counting the events of a stream, also those deleted since, in several processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from helpers import wait_until_async
from helpers.nats_servers import NatsServer, on_stream
from lightbus.adapters.nats import stream_counts
from lightbus.adapters.nats.api_stream import ALL, ApiStream
from lightbus.adapters.nats.stream_counts import KEY, StreamCounts
from lightbus.ports.events import EventTopic, OutgoingEvent

TOPIC, OTHER = EventTopic("sold", 1), EventTopic("opened", 2)


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run a server."""
    with NatsServer() as server:
        yield server


def event(number: int, topic: EventTopic = TOPIC) -> OutgoingEvent:
    """Return an event that was fired this many seconds after 1970."""
    return OutgoingEvent(api="shop", topic=topic, id=f"id-{number}", record=b"%d" % number, published_at=float(number))


def test_another_process_continues_the_counts(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the record: it need not have seen events that were deleted in between."""
    monkeypatch.setattr(stream_counts, "MANY_HEADERS", 3)

    async def test(stream: ApiStream) -> None:
        await stream.publish([event(number, OTHER if number == 4 else TOPIC) for number in range(1, 9)])
        await stream.counts.catch_up(8)
        await stream.counts.share(at_once=True)
        await stream.purge(6)
        await wait_until_async(lambda: KEY in stream.records.records)
        other = StreamCounts(stream)
        await other.catch_up(8)
        assert other.events.record() == stream.counts.events.record()
        assert (other.events.number(TOPIC, (ALL,)), other.events.number(OTHER, (ALL,))) == (7, 1)
        assert other.events.uncounted == 0

    on_stream(server, "shared", test)


def test_one_process_records_the_counts(server: NatsServer) -> None:
    """A process that finds its previous counts recorded leaves this to others."""

    async def test(stream: ApiStream) -> None:
        await stream.publish([event(1), event(2)])
        first, second = StreamCounts(stream), StreamCounts(stream)
        for counts in (first, second):
            await counts.catch_up(2)
            await counts.share()
        assert KEY not in stream.records.records
        await first.share()
        revision = stream.records.records[KEY].revision
        await second.share()
        await first.share()
        assert stream.records.records[KEY].revision == revision

    on_stream(server, "recorded", test)


def test_number_at_a_sequence(server: NatsServer) -> None:
    """As long as the events after it are kept; for the given receivers."""

    async def test(stream: ApiStream) -> None:
        await stream.publish([event(1), event(2, OTHER), event(3)])
        await stream.publish([event(4)], "mail")
        await stream.publish([event(5)])
        counts = stream.counts
        assert await counts.numbers_through(3, (ALL, "mail")) == {"sold.1": 2, "opened.2": 1}
        assert await counts.numbers_through(4, (ALL, "mail")) == {"sold.1": 3, "opened.2": 1}
        assert await counts.numbers_through(4, (ALL,)) == {"sold.1": 2, "opened.2": 1}
        await stream.purge(3)
        assert await counts.number_through(TOPIC, 3, (ALL,)) == 2
        assert await counts.number_through(TOPIC, 2, (ALL,)) is None
        assert await counts.numbers_through(0, (ALL,)) == {"sold.1": 2, "opened.2": 1}

    on_stream(server, "places", test)


def test_uncounted_losses_are_logged(server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """Their topics are unknown: the log gives their number."""
    caplog.set_level(logging.WARNING)

    async def test(stream: ApiStream) -> None:
        await stream.publish([event(number) for number in range(1, 6)])
        await stream.purge(4)
        late = StreamCounts(stream)
        stream.records.records.pop(KEY, None)
        await late.catch_up(5)
        assert (late.events.uncounted, late.events.number(TOPIC, (ALL,)), late.events.through) == (4, 1, 5)

    on_stream(server, "unseen", test)
    said = "4 events of shop were deleted from its stream before any process of the bus had seen them"
    assert [each for each in caplog.messages if "deleted" in each] == [said]
