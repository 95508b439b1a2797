"""The lag and losses of a group, for reports."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from helpers.nats_servers import NatsServer, on_stream
from lightbus.adapters.nats.api_stream import PAST, ApiStream
from lightbus.adapters.nats.group_standing import group_backlog
from lightbus.adapters.nats.places import digest
from lightbus.adapters.nats.subscription import complete_record
from lightbus.ports.events import EventTopic, OutgoingEvent

SOLD, OPENED = EventTopic("sold", 1), EventTopic("opened", 2)
MAIL = digest("mail")
INFO = {"name": "mail", "events": ["sold"], "start": 0, "past": 0, "numbers": {}}


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run a server."""
    with NatsServer() as server:
        yield server


def event(number: int, topic: EventTopic = SOLD) -> OutgoingEvent:
    """Return an event that is fired now."""
    return OutgoingEvent(api="shop", topic=topic, id=f"{number}", record=b"%d" % number, published_at=time.time())


def test_backlog_of_an_absent_group(server: NatsServer) -> None:
    """Its lag is the number of kept events for it, its losses are the deleted ones; events of others do not count."""

    async def test(stream: ApiStream) -> None:
        await stream.publish([event(1), event(2, OPENED), event(3), event(4)])
        await stream.publish([event(5)], MAIL)
        await stream.publish([event(6)], "other")
        await stream.publish([event(7)], PAST)
        assert await group_backlog(stream, MAIL, INFO) == (4, 0)
        assert await group_backlog(stream, MAIL, {**INFO, "past": 7}) == (5, 0)
        await stream.purge(3)
        assert await group_backlog(stream, MAIL, INFO) == (2, 2)
        await stream.purge(7)
        assert await group_backlog(stream, MAIL, INFO) == (0, 4)
        assert await group_backlog(stream, MAIL, {**INFO, "events": ["*"]}) == (0, 5)
        await stream.publish([event(8)])
        assert await group_backlog(stream, MAIL, INFO) == (1, 4)

    on_stream(server, "away", test)


def test_backlog_after_some_events(server: NatsServer) -> None:
    """Handled events are not lost; reported losses are among its losses."""

    async def test(stream: ApiStream) -> None:
        await stream.publish([event(number) for number in range(1, 11)])
        state = complete_record({"cursors": {"sold": 4}, "numbers": {"sold": 4}, "lost": {"sold": 1}})
        await stream.records.put(f"part.{MAIL}.{SOLD.partition}", state)
        assert await group_backlog(stream, MAIL, INFO) == (6, 1)
        await stream.purge(6)
        assert await group_backlog(stream, MAIL, INFO) == (4, 3)
        await stream.records.put(f"part.{MAIL}.{SOLD.partition}", {**state, "numbers": {"sold": None}})
        assert await group_backlog(stream, MAIL, INFO) == (4, 1)

    on_stream(server, "some", test)
