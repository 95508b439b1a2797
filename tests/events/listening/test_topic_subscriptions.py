"""The subscriptions at one publisher, and when they are in force."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers.publisher_side import PublisherSide
from lightbus.events.listening import requests as requests_module
from lightbus.events.listening.publisher_requests import PublisherRequests
from lightbus.events.listening.topic_subscriptions import MAX_MARKERS, TopicSubscriptions
from lightbus.wire.envelope import Marker

Test = Callable[[PublisherSide, PublisherRequests, TopicSubscriptions], Awaitable[None]]


def run(test: Test) -> None:
    async def main() -> None:
        side = PublisherSide()
        requests, socket = side.requests(), side
        await test(side, requests, TopicSubscriptions(as_socket(socket), requests))

    asyncio.run(main())


def as_socket(side: PublisherSide) -> Any:
    return side


def test_each_topic_is_subscribed_to_once() -> None:
    """As long as any user wants it, however often it is named."""

    async def test(side: PublisherSide, requests: PublisherRequests, topics: TopicSubscriptions) -> None:
        topics.set_topics("one", [b"a", b"b", b"b"])
        topics.set_topics("two", [b"b", b"c"])
        assert sorted(side.prefixes) == [b"a", b"b", b"c"]
        topics.set_topics("one", [b"c"])
        assert sorted(side.prefixes) == [b"b", b"c"]
        topics.set_topics("two", ())
        assert side.prefixes == [b"c"]
        topics.set_topics("one", ())
        assert side.prefixes == []

    run(test)


def test_a_marker_confirms_subscriptions() -> None:
    """A waiting callback is called once, and the marker's subscription ends; an unknown marker is ignored."""
    called: list[str] = []

    async def test(side: PublisherSide, requests: PublisherRequests, topics: TopicSubscriptions) -> None:
        topics.when_in_force(lambda: called.append("in force"), lambda: True)
        [marker] = side.prefixes
        topics.on_marker(b"\xff" + bytes(16), Marker("", 0))
        assert called == []
        topics.on_marker(marker, Marker("", 0))
        topics.on_marker(marker, Marker("", 0))
        assert (called, side.prefixes) == (["in force"], [])

    run(test)


def test_lost_markers_are_requested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any of the latest confirms; only a few are pending, and none once it is unwanted."""
    monkeypatch.setattr(requests_module, "RETRY_AFTER", 0.0)
    monkeypatch.setattr(requests_module, "MAX_RETRY_AFTER", 0.0)
    called: list[str] = []
    wanted = [True]

    async def test(side: PublisherSide, requests: PublisherRequests, topics: TopicSubscriptions) -> None:
        topics.when_in_force(lambda: called.append("in force"), lambda: wanted[0])
        for _ in range(2 * MAX_MARKERS):
            requests.tick()
            assert len(side.prefixes) <= MAX_MARKERS
        wanted[0] = False
        requests.tick()
        assert (side.prefixes, called) == ([], [])
        wanted[0] = True
        topics.when_in_force(lambda: called.append("in force"), lambda: wanted[0])
        requests.tick()
        earlier, _ = side.prefixes
        topics.on_marker(earlier, Marker("", 0))
        assert (side.prefixes, called) == ([], ["in force"])

    run(test)


def test_no_callback_after_the_end() -> None:
    """The connection is closed: waiting callbacks are not called."""
    called: list[str] = []

    async def test(side: PublisherSide, requests: PublisherRequests, topics: TopicSubscriptions) -> None:
        topics.when_in_force(lambda: called.append("in force"), lambda: True)
        topics.close()
        requests.close()
        topics.when_in_force(lambda: called.append("in force"), lambda: True)
        assert called == []

    run(test)
