"""Handled events are acknowledged at an event backend: together, and until it succeeds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import pytest

from helpers import wait_until_async
from helpers.listeners import listener
from lightbus.core.streams import Entry, Stream
from lightbus.events.backends import backend_acks as module
from lightbus.events.backends.backend_acks import BackendAcks, topic_of
from lightbus.events.listening.listener_queue import ListenerQueue
from lightbus.exceptions import EventBackendError
from lightbus.ports.events import EventSubscription, EventTopic
from lightbus.wire.field_types import PARTITIONS


class Subscription:
    """Records acknowledgements; fails as often as the test says, and waits while it is held."""

    def __init__(self) -> None:
        self.acked: list[dict[EventTopic, int]] = []
        self.fails = 0
        self.error: Exception = EventBackendError("It is away.")
        self.free = asyncio.Event()
        self.free.set()

    async def ack(self, handled: Mapping[EventTopic, int]) -> None:
        """Record the positions of topics."""
        await self.free.wait()
        if self.fails:
            self.fails -= 1
            raise self.error
        self.acked.append(dict(handled))


class Play:
    """Streams of a listener, and their acknowledgements."""

    def __init__(self) -> None:
        self.subscription = Subscription()
        self.failures: list[Exception] = []
        self.queue = ListenerQueue(listener(lambda: None))
        self.acks = BackendAcks(self.queue, self.failures.append)
        self.streams = [Stream(("store", "sold", number), cursor=0) for number in (1, 2)]

    def open(self) -> None:
        """Subscribe."""
        self.acks.open(cast(EventSubscription, self.subscription))

    def handle(self, number: int, sequence: int) -> None:
        """Handle an event of a stream."""
        stream = self.streams[number]
        stream.live([[sequence, stream.position, b"x"]])
        entry = stream.take()
        assert entry == Entry(sequence, entry.previous if entry else 0, b"x")
        stream.done(entry)
        self.acks.mark(stream)


def run(test: Callable[[Play], Awaitable[None]]) -> None:
    """Run a test."""

    async def main() -> None:
        play = Play()
        await test(play)
        await play.acks.stop()

    asyncio.run(main())


def test_events_handled_together_are_acknowledged_together() -> None:
    """Events handled during an acknowledgement are acknowledged after it."""

    async def test(play: Play) -> None:
        play.open()
        play.handle(0, 1)
        play.handle(1, 2)
        play.handle(0, 3)
        play.subscription.free.clear()
        await asyncio.sleep(0)
        play.handle(1, 4)
        play.subscription.free.set()
        first, second = (topic_of(stream) for stream in play.streams)
        await wait_until_async(lambda: play.subscription.acked == [{first: 3, second: 2}, {second: 4}])

    run(test)


def test_every_mark_is_acknowledged_at_any_time() -> None:
    """Also one that is made just as the previous acknowledgement ends."""

    async def test(play: Play) -> None:
        play.open()
        for sequence in range(1, 50):
            play.handle(0, sequence)
            for _ in range(sequence % 7):
                await asyncio.sleep(0)
        await wait_until_async(lambda: play.subscription.acked[-1] == {EventTopic("sold", 1): 49})

    run(test)


def test_sending_waits_for_acknowledgements_that_are_under_way() -> None:
    """Else the partitions would be given back first, and their next owner would get the events again."""

    async def test(play: Play) -> None:
        play.open()
        play.handle(0, 1)
        play.subscription.free.clear()
        await asyncio.sleep(0)
        assert not play.acks.to_send
        sending = asyncio.create_task(play.acks.send(()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not sending.done()
        play.subscription.free.set()
        await sending
        assert play.subscription.acked == [{topic_of(play.streams[0]): 1}]

    run(test)


def test_two_streams_of_one_topic() -> None:
    """Its partition was revoked, and is ours again: the higher position counts, in whichever order they are sent."""

    async def test(play: Play) -> None:
        play.streams = [Stream(("store", "sold", topic), cursor=0) for topic in range(PARTITIONS) for _ in range(2)]
        play.open()
        for number in range(len(play.streams)):
            play.handle(number, 1 + number % 2)
        await play.acks.flush()
        assert play.subscription.acked == [{EventTopic("sold", topic): 2 for topic in range(PARTITIONS)}]

    run(test)


@pytest.mark.parametrize("error", [EventBackendError("It is away."), KeyError("a mistake")])
def test_failed_acknowledgements_are_repeated(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Together with later ones, whatever was raised; each failure is reported."""
    monkeypatch.setattr(module, "AGAIN_AFTER", 0.001)

    async def test(play: Play) -> None:
        play.open()
        play.subscription.error = error
        play.subscription.fails = 2
        play.handle(0, 1)
        await wait_until_async(lambda: play.failures)
        play.handle(1, 2)
        await wait_until_async(lambda: _united(play.subscription.acked) == {1: 1, 2: 2})
        assert len(play.failures) == 2

    run(test)


def test_no_acknowledgement_before_the_subscription() -> None:
    """It waits until there is one."""

    async def test(play: Play) -> None:
        play.handle(0, 1)
        await play.acks.flush()
        await play.acks.send(())
        play.open()
        await play.acks.flush()
        assert _united(play.subscription.acked) == {1: 1}

    run(test)


def test_after_the_end_only_the_owner_acknowledges() -> None:
    """The last acknowledgement is sent by the owner."""

    async def test(play: Play) -> None:
        play.open()
        await play.acks.stop()
        play.handle(0, 1)
        await asyncio.sleep(0)
        assert play.subscription.acked == []
        await play.acks.send(play.streams)
        assert _united(play.subscription.acked) == {1: 1}

    run(test)


def _united(acked: list[dict[EventTopic, int]]) -> dict[Any, int]:
    return {topic.partition: sequence for each in acked for topic, sequence in each.items()}
