"""A listener at an event backend: which events are handed out when, for any order of pages and news."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import pytest

from helpers import wait_until_async
from helpers.listeners import Context, listener
from lightbus.adapters.memory.events import MemoryEventBackend
from lightbus.core.streams import Entry, Stream
from lightbus.events.backends import backend_acks as acks
from lightbus.events.backends.backend_source import BackendSource
from lightbus.events.listening.listener_runner import ListenerRunner
from lightbus.events.listening.loss_reports import LossReports
from lightbus.exceptions import EventBackendError
from lightbus.ports.events import (
    BackendContext,
    EventInbox,
    EventPage,
    EventTopic,
    KeptEvent,
    SubscriptionRequest,
    TopicState,
)
from lightbus.wire import envelope

FIRST, SECOND = EventTopic("sold", 1), EventTopic("opened", 2)


def kept(sequence: int) -> KeptEvent:
    """Return an event whose argument is its sequence."""
    record = envelope.Record(f"id-{sequence}", 1, 0.0, {"n": sequence})
    return KeptEvent(sequence, envelope.encode_record(record))


class Place:
    """A place with events: answers requests from them, and records calls."""

    def __init__(self) -> None:
        self.events: dict[EventTopic, list[int]] = {FIRST: [], SECOND: []}
        self.asked: list[tuple[EventTopic, int]] = []
        self.acked: dict[EventTopic, int] = {}
        self.released: list[frozenset[int]] = []
        self.closed: list[bool] = []
        self.fails = 0
        self.error: Exception = EventBackendError("It is away.")
        self.lost = 0
        self.held_back = asyncio.Event()
        self.held_back.set()
        self.while_acked: Callable[[], None] = lambda: None

    async def fetch(self, topic: EventTopic, after: int, limit: int) -> EventPage:
        """Return a page."""
        self.asked.append((topic, after))
        await self.held_back.wait()
        self._fail()
        events = [number for number in self.events[topic] if number > after][:limit]
        lost, self.lost = self.lost, 0
        return EventPage([kept(number) for number in events], max([after, *events]), lost)

    async def ack(self, handled: Mapping[EventTopic, int]) -> None:
        """Record the positions of topics."""
        self._fail()
        self.while_acked()
        await asyncio.sleep(0)
        self.acked.update(handled)

    async def begin(self, topic: EventTopic, sequence: int, at_least: int) -> int:
        """Return the assumed number of deliveries."""
        self._fail()
        return at_least

    async def dead_letter(self, topic: EventTopic, sequence: int, deliveries: int, error: str) -> bool:
        """Store an event as dead letter."""
        self._fail()
        return True

    async def release(self, partitions: frozenset[int]) -> None:
        """Record released partitions."""
        self._fail()
        self.released.append(partitions)

    async def close(self, *, is_done: bool = True) -> None:
        """Record the end."""
        self.closed.append(is_done)

    def _fail(self) -> None:
        if self.fails:
            self.fails -= 1
            raise self.error


class Backend(MemoryEventBackend):
    """Subscribes all listeners to one place."""

    def __init__(self, place: Place) -> None:
        super().__init__(BackendContext(bus="source", instance="1" * 16))
        self.place = place
        self.refusals = 0
        self.revokes: frozenset[int] = frozenset()
        """Partitions that another member gets before `subscribe` returns."""

    async def subscribe(self, request: SubscriptionRequest, inbox: EventInbox) -> Place:  # type: ignore[override]
        """Return the place."""
        if self.refusals:
            self.refusals -= 1
            raise EventBackendError("It is away.")
        if self.revokes:
            inbox.revoke(self.revokes)
        return self.place


class Play:
    """A running listener to all of an API."""

    def __init__(self, concurrency: int, until: asyncio.Event | None = None) -> None:
        self.place = Place()
        self.seen: list[int] = []
        self.context = Context()

        async def handle(n: int) -> None:
            self.seen.append(n)
            if until is not None:
                await until.wait()

        self.runner = ListenerRunner(
            self.context, replace(listener(handle), concurrency=concurrency), lambda runner, reason: None
        )
        self.backend = Backend(self.place)
        request = SubscriptionRequest(api="shop", events=("*",), group="mail", member="1" * 16)
        losses = LossReports(self.context, self.runner.queue.counts)
        self.source = BackendSource(self.backend, self.runner.queue, request, losses)

    def tell(self, *states: tuple[EventTopic, int]) -> None:
        """Report the newest events of topics."""
        self.source.follow([TopicState(topic, 0, head) for topic, head in states])

    async def sees(self, *numbers: int) -> None:
        """Wait until exactly these were handled, in this order."""
        await wait_until_async(lambda: len(self.seen) >= len(numbers))
        assert self.seen == [*numbers]


def run(test: Callable[[Play], Awaitable[None]], concurrency: int = 1) -> None:
    """Run a test with a running listener."""

    async def main() -> None:
        play = Play(concurrency)
        await play.source.start()
        await test(play)
        await play.runner.stop(1.0)
        await play.source.close()

    asyncio.run(main())


def test_page_beyond_the_reported_heads_waits() -> None:
    """Events of one topic beyond the reported heads wait for the other topics, which may have earlier ones."""

    async def test(play: Play) -> None:
        play.place.events = {FIRST: [1, 4], SECOND: [2, 3]}
        play.tell((FIRST, 1))
        await play.sees(1)
        await wait_until_async(lambda: play.runner.queue.backlog == 1)  # 4 is here
        play.place.held_back.clear()
        play.tell((SECOND, 3))
        await wait_until_async(lambda: (SECOND, 0) in play.place.asked)
        play.tell((FIRST, 4))
        await asyncio.sleep(0)
        assert play.seen == [1]
        play.place.held_back.set()
        await play.sees(1, 2, 3, 4)

    run(test)


def test_page_is_handed_out_at_once_without_order() -> None:
    """With `concurrency` above 1, topics do not wait for each other."""

    async def test(play: Play) -> None:
        play.place.events = {FIRST: [1, 4], SECOND: [2, 3]}
        play.tell((FIRST, 1))
        await play.sees(1, 4)

    run(test, concurrency=2)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_unanswered_requests_are_repeated(concurrency: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining, pages and acknowledgements: no event is lost, and none is handed out twice."""
    monkeypatch.setattr(acks, "AGAIN_AFTER", 0.01)
    monkeypatch.setattr("lightbus.events.backends.backend_source.AGAIN_AFTER", 0.01)

    async def main() -> None:
        play = Play(concurrency)
        play.backend.refusals = 2
        await play.source.start()
        play.place.fails = 2
        play.place.events[FIRST] = [1, 2]
        play.tell((FIRST, 2))
        await play.sees(1, 2)
        play.place.fails = 2
        await wait_until_async(lambda: play.place.acked.get(FIRST) == 2)
        assert play.seen == [1, 2]
        await play.runner.stop(1.0)
        await play.source.close()

    asyncio.run(main())


def test_a_mistake_of_a_backend_does_not_end_the_deliveries(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that it must not raise is logged, and what failed is done again: no position, no partition is lost."""
    for where in ("backend_source", "backend_acks"):
        monkeypatch.setattr(f"lightbus.events.backends.{where}.AGAIN_AFTER", 0.01)

    async def main() -> None:
        play = Play(1)
        await play.source.start()
        play.place.error, play.place.fails = KeyError("a mistake"), 2
        play.place.events[FIRST] = [1, 2]
        play.tell((FIRST, 2))
        await play.sees(1, 2)
        await wait_until_async(lambda: play.place.acked == {FIRST: 2})
        play.place.fails = 2
        play.source.revoke(frozenset({2}))
        await wait_until_async(lambda: play.place.released == [frozenset({2})])
        await play.runner.stop(1.0)
        play.place.fails = 1
        play.source._acks.to_send.add(stream := Stream(("store", "sold", 7), cursor=0))
        stream.handled = 1
        await play.source.close()
        assert (play.place.fails, play.place.closed) == (0, [True])

    asyncio.run(main())
    assert "keeps trying: KeyError('a mistake')" in caplog.text


def test_partitions_are_released_after_the_event_in_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledged first; the waiting events of these partitions are dropped."""
    monkeypatch.setattr("lightbus.events.backends.backend_source.AGAIN_AFTER", 0.01)

    async def main() -> None:
        done = asyncio.Event()
        play = Play(1, until=done)
        source = play.source
        await source.start()
        play.place.events[FIRST] = [1, 2]
        play.tell((FIRST, 2))
        await play.sees(1)
        source.revoke(frozenset({1}))
        await asyncio.sleep(0)
        assert play.place.released == []
        done.set()
        await wait_until_async(lambda: play.place.released == [frozenset({1})])
        assert (play.seen, play.place.acked) == ([1], {FIRST: 1})
        play.place.fails = 2  # it is said until it is heard: nobody else has the partition before
        source.revoke(frozenset({2}))
        await wait_until_async(lambda: play.place.released[1:] == [frozenset({2})])
        await play.runner.stop(1.0)
        await source.close()
        assert play.place.closed == [True]

    asyncio.run(main())


def test_partitions_are_released_while_others_are_busy() -> None:
    """However quickly events of these are handled: the next owner does not wait until there are none."""

    async def main() -> None:
        play = Play(1)
        await play.source.start()
        play.place.events[SECOND] = [1]
        play.tell((SECOND, 1))
        await play.sees(1)
        busy = play.source._streams[SECOND]

        def handle_another() -> None:
            busy.handled += 1
            play.source.ack(busy)

        play.place.while_acked = handle_another
        handle_another()
        play.source.revoke(frozenset({1}))
        for _ in range(100):
            await asyncio.sleep(0)
        play.place.while_acked = lambda: None
        assert play.place.released == [frozenset({1})]
        await play.runner.stop(1.0)
        await play.source.close()

    asyncio.run(main())


def test_a_mistake_of_a_backend_keeps_no_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release is repeated after an error that it must not raise; nobody else would get these events."""
    monkeypatch.setattr("lightbus.events.backends.backend_source.AGAIN_AFTER", 0.01)

    async def main() -> None:
        play = Play(1)
        await play.source.start()
        play.place.error, play.place.fails = KeyError("a mistake"), 2
        play.source.revoke(frozenset({1}))
        await wait_until_async(lambda: play.place.released == [frozenset({1})])
        assert await play.source.record_delivery(await begun(play), Entry(2, 1, b"x"), 1) == 0
        await play.runner.stop(1.0)
        await play.source.close()

    asyncio.run(main())


async def begun(play: Play) -> Stream:
    """Return a stream, of which the next request to the backend fails."""
    play.place.events[SECOND] = [1]
    play.tell((SECOND, 1))
    await play.sees(1)
    await play.source._acks.flush()
    play.place.fails = 1
    return play.source._streams[SECOND]


@pytest.mark.parametrize("is_revoked_again", [False, True])
def test_a_partition_that_is_ours_again_while_its_event_is_in_progress(is_revoked_again: bool) -> None:
    """The event is not delivered a second time, and nobody else gets the partition before it is done."""

    async def main() -> None:
        done = asyncio.Event()
        play = Play(1, until=done)
        await play.source.start()
        play.place.events[FIRST] = [1, 2]
        play.tell((FIRST, 2))
        await play.sees(1)
        play.source.revoke(frozenset({1}))
        play.tell((FIRST, 2))
        await wait_until_async(lambda: play.place.asked == [(FIRST, 0), (FIRST, 0)])
        if is_revoked_again:
            play.source.revoke(frozenset({1}))
            for _ in range(5):
                await asyncio.sleep(0)
        assert play.place.released == []
        done.set()
        if is_revoked_again:
            await wait_until_async(lambda: play.place.released == [frozenset({1})])
        else:
            await play.sees(1, 2)
        assert play.seen == ([1] if is_revoked_again else [1, 2])
        await play.runner.stop(1.0)
        await play.source.close()

    asyncio.run(main())


def test_partitions_revoked_before_the_subscription_is_there_are_released() -> None:
    """As soon as it is; or nobody would ever get their events."""

    async def main() -> None:
        play = Play(1)
        play.backend.revokes = frozenset({1, 2})
        await play.source.start()
        await wait_until_async(lambda: play.place.released == [frozenset({1, 2})])
        await play.runner.stop(1.0)
        await play.source.close()

    asyncio.run(main())


def test_events_that_were_deleted_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """With the setting that keeps more of them."""

    async def test(play: Play) -> None:
        play.place.lost, play.place.events[FIRST] = 3, [7]
        play.tell((FIRST, 7))
        await play.sees(7)
        assert play.runner.queue.counts["lost"] == 3
        assert "3 events of shop.sold were deleted" in caplog.text
        assert "apis.<name>.events" in caplog.text

    run(test)


def test_events_handled_elsewhere_are_not_delivered_again() -> None:
    """Another source of the same events has delivered them."""

    async def test(play: Play) -> None:
        play.place.events[FIRST] = [1, 2, 3]
        play.tell((FIRST, 1))
        play.source.was_handled((play.backend.store("shop"), *FIRST), 2)
        play.tell((FIRST, 3))
        await wait_until_async(lambda: play.place.acked.get(FIRST) == 3)
        assert 2 not in play.seen

    run(test)
