"""The stream of one API: what is read of it, while its servers and connections come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers import wait_until_async
from helpers.nats_servers import NatsServer
from lightbus.adapters.nats.api_stream import ALL, ApiStream, _gapless
from lightbus.adapters.nats.connection import NatsConnection
from lightbus.adapters.nats.settings import NatsSettings
from lightbus.exceptions import EventBackendUnreachable
from lightbus.ports.events import EventTopic, OutgoingEvent

TOPIC, OTHER = EventTopic("sold", 1), EventTopic("opened", 2)


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run a server."""
    with NatsServer() as server:
        yield server


def event(number: int, topic: EventTopic = TOPIC) -> OutgoingEvent:
    """Return an event that was fired at that many seconds since 1970."""
    return OutgoingEvent(api="shop", topic=topic, id=f"id-{number}", record=b"%d" % number, published_at=float(number))


def run(server: NatsServer, bus: str, test: Callable[[ApiStream], Awaitable[None]]) -> None:
    """Run a test with the stream of a bus of its own."""

    async def main() -> None:
        connection = NatsConnection(NatsSettings(servers=(server.url,)))
        stream = ApiStream(connection, bus, "shop")
        try:
            await test(stream)
        finally:
            await stream.close()
            await connection.close()

    asyncio.run(main())


def test_topic_is_read_in_pages(server: NatsServer) -> None:
    """From the leader, up to its newest event; what is of other topics is passed over."""

    async def test(stream: ApiStream) -> None:
        assert await stream.read_topic(TOPIC, 0, 10) == ([], 0)
        assert await stream.publish([event(1), event(2, OTHER), event(3), event(4)]) == [1, 2, 3, 4]
        await wait_until_async(lambda: stream._heads.get(TOPIC) == 4)
        found, through = await stream.read_topic(TOPIC, 0, 10)
        assert ([(each.sequence, each.record, only) for each, only in found], through) == (
            [(1, b"1", ALL), (3, b"3", ALL), (4, b"4", ALL)],
            4,
        )
        found, through = await stream.read_topic(TOPIC, 1, 1)
        assert ([each.sequence for each, _ in found], through) == ([3], 3)
        assert await stream.read_topic(OTHER, 2, 10) == ([], 4)

    run(server, "pages", test)


def test_leader_that_is_not_as_far_yet_is_not_believed(server: NatsServer) -> None:
    """It may have become one just now: that there is nothing more is asked again."""

    async def test(stream: ApiStream) -> None:
        await stream.publish([event(1)])
        await wait_until_async(lambda: stream._heads.get(TOPIC) == 1)
        stream._heads[TOPIC] = 7  # there was news of that
        with pytest.raises(EventBackendUnreachable, match="another server leads"):
            await stream.read_topic(TOPIC, 1, 10)

    run(server, "leaders", test)


def test_beginnings_are_found(server: NatsServer) -> None:
    """By an id, however long ago, and by a time, also of what came late."""

    async def test(stream: ApiStream) -> None:
        before = datetime.now(UTC)
        await stream.publish([event(number) for number in range(1, 4)])
        assert await stream.place_of("id-2") == 2
        assert await stream.place_of("id-9") is None
        assert await stream.before(before) == 3  # all were fired long ago
        assert await stream.before(datetime.fromtimestamp(0, UTC)) == 0
        assert await stream.before(datetime.fromtimestamp(2.5, UTC)) == 2

    run(server, "beginnings", test)


@pytest.mark.parametrize(("numbers", "whole"), [([1, 2, 3], 3), ([1, 3, 4], 1), ([2, 3], 0), ([], 0)])
def test_page_with_a_gap_ends_there(numbers: list[int], whole: int) -> None:
    """What was sent to a connection that broke is missing: what is behind it is read again."""
    found = [SimpleNamespace(metadata=SimpleNamespace(sequence=SimpleNamespace(consumer=number))) for number in numbers]
    assert _gapless(cast(Any, found)) == found[:whole]
