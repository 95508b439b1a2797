"""A listener at a JetStream: which partitions it holds, and in which order topics are reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers.waiting import LEAST
from lightbus.adapters.nats import subscription as module
from lightbus.adapters.nats.api_stream import ALL, ApiStream
from lightbus.adapters.nats.event_counts import EventCounts
from lightbus.adapters.nats.group_records import RecordedValue
from lightbus.adapters.nats.places import StreamPlaces, digest
from lightbus.adapters.nats.subscription import GroupStart, NatsSubscription
from lightbus.exceptions import EventBackendError
from lightbus.ports.events import EventTopic, SubscriptionRequest, TopicState
from lightbus.wire.field_types import PARTITIONS

FIRST, SECOND, THIRD = EventTopic("sold", 1), EventTopic("sold", 2), EventTopic("opened", 3)


class Records:
    """What is on record of groups, in this process."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.is_current, self.current_since = True, 0.0

    def observe(self, changed: Callable[[str], None]) -> Callable[[], None]:
        """Notify no observer."""
        return lambda: None

    async def put(self, key: str, value: Any) -> None:
        """Write a record."""
        self.records[key] = RecordedValue(value, 1, time.monotonic())

    async def update(self, key: str, change: Callable[[Any], Any]) -> Any:
        """Change a record."""
        known = self.records.get(key)
        if (value := change(None if known is None else known.value)) is not None:
            await self.put(key, value)
        return value

    async def delete(self, key: str) -> None:
        """Delete a record."""
        self.records.pop(key, None)


class Stream:
    """The events of an API: only the states of their topics."""

    def __init__(self) -> None:
        self.records = Records()
        self.counts = SimpleNamespace(events=EventCounts(StreamPlaces("home", "shop")))
        self.events: list[EventTopic] = []
        self.api = "shop"
        self.fails = 0
        self.error: Exception = EventBackendError("It is away.")
        self.while_asked: Callable[[], None] = lambda: None
        self._followers: list[Callable[[EventTopic | None, int], None]] = []

    def follow(self, news: Callable[[EventTopic | None, int], None]) -> Callable[[], None]:
        """Notify of new events."""
        self._followers.append(news)
        return lambda: self._followers.remove(news)

    @property
    def is_followed(self) -> bool:
        """Whether there is an observer."""
        return bool(self._followers)

    def publish(self, topic: EventTopic | None) -> None:
        """Store an event, and notify of it."""
        if topic is not None:
            self.events.append(topic)
        for follower in self._followers:
            follower(topic, len(self.events))

    async def head(self) -> int:
        """Return the newest sequence."""
        if self.fails:
            self.fails -= 1
            raise self.error
        return len(self.events)

    async def topics(self) -> set[EventTopic]:
        """Return the topics that have events; others are added in the meantime."""
        found = {*self.events}
        self.while_asked()
        return found


class Inbox:
    """Records its calls."""

    def __init__(self) -> None:
        self.told: list[dict[EventTopic, int]] = []
        self.cursors: dict[EventTopic, int] = {}
        self.revoked: set[int] = set()

    def follow(self, states: Sequence[TopicState]) -> None:
        """Record the heads of topics."""
        self.told.append({state.topic: state.head for state in states})
        self.cursors.update({state.topic: state.cursor for state in states})

    def revoke(self, partitions: frozenset[int]) -> None:
        """Record what was revoked."""
        self.revoked |= partitions


def run(test: Callable[[NatsSubscription, Stream, Inbox], Awaitable[None]], stream: Stream) -> None:
    """Run a test with a listener without a group."""

    async def main() -> None:
        inbox = Inbox()
        request = SubscriptionRequest(api="shop", events=("*",), group="", member="1" * 16)
        subscription = NatsSubscription(cast(ApiStream, stream), request, inbox, GroupStart(0), 10.0)
        await test(subscription, stream, inbox)
        await subscription.close()
        assert not stream.is_followed

    asyncio.run(main())


def test_news_wait_until_all_topics_are_reported() -> None:
    """An event that arrives during the request for topics is reported with them: others may have earlier ones."""
    stream = Stream()
    stream.events = [FIRST, SECOND]

    async def test(subscription: NatsSubscription, stream: Stream, inbox: Inbox) -> None:
        stream.while_asked = lambda: stream.publish(THIRD)
        await subscription.open()
        assert inbox.told == [{FIRST: 2, SECOND: 2, THIRD: 3}]
        stream.publish(FIRST)
        assert inbox.told[1:] == [{FIRST: 4}]

    run(test, stream)


@pytest.mark.parametrize("error", [EventBackendError("It is away."), RuntimeError("a mistake")])
def test_possibly_missed_news_are_requested(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Until that is answered nothing is reported, however often it is requested; whatever is raised."""
    stream = Stream()
    stream.error = error

    async def test(subscription: NatsSubscription, stream: Stream, inbox: Inbox) -> None:
        await subscription.open()
        assert inbox.told == [{}]
        stream.events += [FIRST, SECOND]
        stream.fails = 2
        stream.publish(None)
        stream.publish(THIRD)
        async with asyncio.timeout(LEAST):
            while len(inbox.told) < 2:
                await asyncio.sleep(0)
        assert inbox.told[1:] == [{FIRST: 3, SECOND: 3, THIRD: 3}]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TICK", 0.001)
        run(test, stream)
    assert ("which is tried again" in caplog.text) is isinstance(error, RuntimeError)


def test_topics_without_kept_events() -> None:
    """They are reported if they had events for us: only a fetch shows that these are gone."""
    stream = Stream()
    stream.counts.events.take_all([((FIRST, ALL), 1), ((SECOND, ALL), 2)])
    stream.events = [THIRD] * 3

    async def test(subscription: NatsSubscription, stream: Stream, inbox: Inbox) -> None:
        subscription._begins = GroupStart(1)
        await subscription.open()
        assert inbox.told == [{SECOND: 3, THIRD: 3}]

    run(test, stream)


@pytest.mark.parametrize("is_begun_by_another", [False, True])
def test_partitions_of_a_removed_group_are_reported_anew(is_begun_by_another: bool, monkeypatch: Any) -> None:
    """Also those that we took again while it was being removed, and if another member has begun it anew before us."""
    monkeypatch.setattr(module, "TICK", 0.001)
    stream, inbox, anew = Stream(), Inbox(), GroupStart(2, 2, {}, 1.5)
    stream.events = [FIRST, SECOND]
    info = f"info.{digest('mail')}"

    async def begin_anew() -> GroupStart:
        await stream.records.put(info, anew._asdict())
        return anew

    async def main() -> None:
        request = SubscriptionRequest(api="shop", events=("*",), group="mail", member="1" * 16)
        await stream.records.put(info, GroupStart(0)._asdict())
        subscription = NatsSubscription(
            cast(ApiStream, stream), request, inbox, GroupStart(0), 10.0, begin_anew=begin_anew
        )
        await subscription.open()
        assert inbox.cursors == {FIRST: 0, SECOND: 0}
        await stream.records.delete(info)
        if is_begun_by_another:
            await begin_anew()
        async with asyncio.timeout(LEAST):
            while len(inbox.told) < 2:
                await asyncio.sleep(0.001)
        assert inbox.revoked == {*range(PARTITIONS)}
        assert inbox.cursors == {FIRST: 2, SECOND: 2}
        assert len(inbox.told) == 2
        await subscription.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("key", "is_looked_at"),
    [("info", True), ("dead.7", False), ("member.2222", True), ("part.1", True)],
)
def test_changed_records_wake_the_balancing(key: str, is_looked_at: bool) -> None:
    """Those of this group, its members and owners; not of dead letters, nor those of other groups."""

    async def main() -> None:
        request = SubscriptionRequest(api="shop", events=("*",), group="mail", member="1" * 16)
        subscription = NatsSubscription(cast(ApiStream, Stream()), request, Inbox(), GroupStart(0), 10.0)
        kind, *which = key.split(".")
        for group, expected in (("other", False), ("mail", is_looked_at)):
            subscription._on_record(".".join([kind, digest(group), *which]))
            assert subscription._wake.is_set() is expected

    asyncio.run(main())
