"""Reading the stream of one API, while its servers and connections come and go."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers import wait_until_async
from helpers.nats_servers import NatsServer, on_stream
from lightbus.adapters.nats import api_stream as module
from lightbus.adapters.nats.api_stream import ALL, ApiStream, _gapless
from lightbus.exceptions import EventBackendUnreachable
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


def test_topic_is_read_in_pages(server: NatsServer) -> None:
    """From the leader, up to its newest event; events of other topics are skipped."""

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

    on_stream(server, "pages", test)


def test_new_leader_that_lags_is_not_trusted(server: NatsServer) -> None:
    """The answer of a server that there are no more events is checked: it may be a new leader."""

    async def test(stream: ApiStream) -> None:
        await stream.publish([event(1)])
        await wait_until_async(lambda: stream._heads.get(TOPIC) == 1)
        stream._heads[TOPIC] = 7  # as after a notification of event 7
        with pytest.raises(EventBackendUnreachable, match="another server leads"):
            await stream.read_topic(TOPIC, 1, 10)

    on_stream(server, "leaders", test)


@pytest.mark.parametrize(("numbers", "whole"), [([1, 2, 3], 3), ([1, 3, 4], 1), ([2, 3], 0), ([], 0)])
def test_page_ends_before_a_gap(numbers: list[int], whole: int) -> None:
    """Messages sent to a broken connection are missing: those after them are read again."""
    found = [SimpleNamespace(metadata=SimpleNamespace(sequence=SimpleNamespace(consumer=number))) for number in numbers]
    assert _gapless(cast(Any, found)) == found[:whole]


@pytest.mark.parametrize("missing", ["the bucket", "its records"])
def test_stream_that_opens_half_way_leaves_no_subscription(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """After any number of attempts each event arrives once."""

    async def test(stream: ApiStream) -> None:
        async def fails(*args: Any) -> None:
            raise TimeoutError

        client = await stream._connection.client()
        with monkeypatch.context() as broken:
            broken.setattr(stream.records, "_on_servers" if missing == "the bucket" else "_next", fails)
            for _ in range(3):
                with pytest.raises((EventBackendUnreachable, TimeoutError)):
                    await stream.opened()
        await wait_until_async(lambda: len(client._subs) == 1)  # that of the client, for answers
        await stream.opened()
        arrived: list[int] = []
        stream.follow(lambda topic, sequence: arrived.append(sequence))
        await stream.publish([event(1), event(2)])
        await wait_until_async(lambda: 2 in arrived)
        assert arrived == [1, 2]

    on_stream(server, f"half-{len(missing)}", test)


def test_events_are_looked_for_after_an_unexpected_error(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the client library, for example; it is logged."""
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)

    async def test(stream: ApiStream) -> None:
        await stream.opened()
        noticed: list[int] = []
        with monkeypatch.context() as broken:
            broken.setattr(stream, "head", lambda: int("none"))
            await wait_until_async(lambda: "New events of shop were not looked for" in caplog.text)
        stream.follow(lambda topic, sequence: noticed.append(sequence) if topic is None else None)
        stream._newest = -1  # as if an event had not been reported
        await wait_until_async(lambda: noticed)

    on_stream(server, "looks", test)
