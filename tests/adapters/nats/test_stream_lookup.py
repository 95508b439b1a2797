"""Looking up events in a stream: by ids, by times, and page by page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from helpers.nats_servers import NatsServer, on_stream
from lightbus.adapters.nats import stream_lookup
from lightbus.adapters.nats.api_stream import ALL, PAST, ApiStream
from lightbus.ports.events import EventTopic, OutgoingEvent

TOPIC = EventTopic("sold", 1)


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run a server."""
    with NatsServer() as server:
        yield server


def event(number: int) -> OutgoingEvent:
    """Return an event that was fired this many seconds after 1970."""
    return OutgoingEvent(api="shop", topic=TOPIC, id=f"id-{number}", record=b"%d" % number, published_at=float(number))


def test_starting_points_are_found(server: NatsServer) -> None:
    """By an id, however old, and by a time, also of events that were stored late."""

    async def test(stream: ApiStream) -> None:
        before = datetime.now(UTC)
        await stream.publish([event(number) for number in range(1, 4)])
        assert await stream_lookup.place_of(stream, "id-2") == 2
        assert await stream_lookup.place_of(stream, "id-9") is None
        assert await stream_lookup.before(stream, before) == 3  # all were fired before this time
        assert await stream_lookup.before(stream, datetime.fromtimestamp(0, UTC)) == 0
        assert await stream_lookup.before(stream, datetime.fromtimestamp(2.5, UTC)) == 2

    on_stream(server, "beginnings", test)


def test_events_for_one_group_are_left_out(server: NatsServer) -> None:
    """Of pages and histories, which have moved events, too; ids are those of all."""

    async def test(stream: ApiStream) -> None:
        for number, only in enumerate((ALL, "0" * 16, PAST, "0" * 16, ALL)):
            await stream.publish([event(number)], only)
        assert [each.sequence for each in await stream_lookup.page(stream, 0, 2)] == [1, 3]
        assert [each.sequence for each in await stream_lookup.page(stream, 3, 2)] == [5]
        assert await stream_lookup.page(stream, 5, 2) == []
        found = await stream_lookup.newest(stream, "*", start=2.0, stop=None, limit=5)
        assert [each.sequence for each in found] == [3, 5]
        assert await stream_lookup.ids_behind(stream, 3) == {"id-3": 4, "id-4": 5}

    on_stream(server, "alone", test)
