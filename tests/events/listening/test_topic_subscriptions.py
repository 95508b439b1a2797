"""What is subscribed to at one publisher, and from when on it is in force."""

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
    """It is for as long as anybody wants it, however often somebody names it."""

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


def test_a_marker_says_that_subscriptions_are_in_force() -> None:
    """Who waits is called once, and nothing stays subscribed to for it; a marker nobody waits for is left alone."""
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


def test_lost_markers_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the latest would do, and no more than a few are waited for; once unwanted, none is."""
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


def test_nobody_is_called_after_the_end() -> None:
    """The connection is closed: who waits is not told that anything is in force."""
    called: list[str] = []

    async def test(side: PublisherSide, requests: PublisherRequests, topics: TopicSubscriptions) -> None:
        topics.when_in_force(lambda: called.append("in force"), lambda: True)
        topics.close()
        requests.close()
        topics.when_in_force(lambda: called.append("in force"), lambda: True)
        assert called == []

    run(test)
