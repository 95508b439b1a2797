"""A listener at one publisher: every message that is lost between them is recovered, in every phase."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers import scaled, wait_until_async
from helpers.publishing import Hub, Listens, Publishes
from lightbus.events.listening import consumer as consumer_module
from lightbus.events.listening import delivery as delivery_module
from lightbus.events.listening import followed_streams, requests
from lightbus.events.listening import subscription as subscription_module
from lightbus.events.publishing import broadcast
from lightbus.listener import OnError
from lightbus.message import EventMessage
from lightbus.service.api import Api, Event
from lightbus.wire.envelope import Kind

A, B, C, D = "a" * 16, "b" * 16, "c" * 16, "d" * 16
OTHER_JOURNAL = "00000000000000ff"

ELSEWHERE = {
    Kind.HELLO, Kind.WELCOME, Kind.REQUEST, Kind.RESULT, Kind.ERROR, Kind.CANCEL, Kind.FIRE, Kind.BATCH, Kind.ACCEPTED,
    Kind.PEERS, Kind.DRAIN, Kind.DRAINED, Kind.GOODBYE,
}  # fmt: skip
"""Kinds of message that do not go between a consumer and a publisher. All others are lost here, each in its turn."""

POISON = -1


class Auth(Api):
    keyed = Event(["key", "n"], key="key")

    class Meta:
        name = "auth"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the regular work of every second thirty times a second."""
    monkeypatch.setattr(consumer_module, "TICK", 0.03)
    monkeypatch.setattr(requests, "RETRY_AFTER", 0.1)
    monkeypatch.setattr(requests, "URGENT_RETRY_AFTER", 0.02)
    monkeypatch.setattr(requests, "MAX_RETRY_AFTER", 0.2)
    monkeypatch.setattr(subscription_module, "JOIN_AGAIN_AFTER", 0.03)
    monkeypatch.setattr(followed_streams, "FETCH_AGAIN_AFTER", 0.03)
    monkeypatch.setattr(delivery_module, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(broadcast, "FIRST_HEAD", 0.03)
    monkeypatch.setattr(broadcast, "LAST_HEAD", 0.2)


class Play:
    """A publisher, another whose journal it adopts, and members of one group, through all phases."""

    PHASES = ("join", "rebalance", "redelivery", "adoption")

    def __init__(self, hub: Hub, path: Path) -> None:
        self.hub, self.path = hub, path
        self.publisher = hub.publish(A, path / "a", Auth())
        self.first, self.second = Listens(hub, B), Listens(hub, C)
        self.handled: list[int] = []
        self.poisoned: list[int] = []
        """The number of each delivery of the poison."""
        self.is_poison = True
        self._fired = 0

    async def handle(self, message: EventMessage) -> None:
        """Record an event; the poison event is only accepted when it is harmless."""
        n = message.kwargs["n"]
        if n == POISON and self.is_poison:
            self.poisoned.append(message.deliveries)
            raise RuntimeError("poison")
        self.handled.append(n)

    async def listen(self, member: Listens) -> None:
        """Let a member take part."""
        await member.listen("keyed", function=self.handle, on_error=OnError.RETRY, max_deliveries=3)

    async def fire(self, publisher: Publishes, count: int = 32) -> None:
        """Fire events with many keys."""
        for n in range(self._fired, self._fired + count):
            await publisher.fire("keyed", key=str(n), n=n, at=time.time())
        self._fired += count

    async def all_handled(self) -> None:
        """Wait until every fired event was handled."""
        await wait_until_async(lambda: set(self.handled) >= set(range(self._fired)), 15, what="all events are handled")

    async def join(self) -> None:
        """A member joins."""
        await self.listen(self.first)
        await self.fire(self.publisher)
        await self.all_handled()

    async def rebalance(self) -> None:
        """Another one joins, leaves in order, joins again."""
        await self.listen(self.second)
        await self.fire(self.publisher)
        await self.second.stop()
        await self.fire(self.publisher)
        await self.all_handled()
        self.second = Listens(self.hub, D)
        await self.listen(self.second)
        await self.fire(self.publisher)
        await self.all_handled()

    async def redelivery(self) -> None:
        """An event fails in all deliveries, becomes a dead letter, and is retried; a member vanishes."""
        await self.publisher.fire("keyed", key="p", n=POISON, at=time.time())
        [journal] = self.publisher.journals.all()
        await wait_until_async(lambda: journal.dead_letters.all(), 15, what="the poison becomes a dead letter")
        [dead] = journal.dead_letters.all()
        assert (dead.deliveries, self.publisher.coordinator.counts["dead_lettered"]) == (3, 1)
        self.is_poison = False
        assert self.publisher.coordinator.redelivery.retry_dead(dead.group, journal.id, dead.sequence)
        await wait_until_async(lambda: POISON in self.handled, 15, what="the dead letter is handled")
        await self.fire(self.publisher)
        self.second.vanish()
        await self.fire(self.publisher)
        await self.all_handled()

    async def adoption(self) -> None:
        """A publisher ends with undelivered events; its journal is adopted."""
        other = self.hub.publish(D, self.path / "d", Auth(), journal=OTHER_JOURNAL)
        [group] = self.publisher.coordinator.groups.values()
        other.coordinator.directory.merge(group.info)
        other.loses = lambda frame: True
        await self.fire(other)
        other.close()
        self.publisher.adopt(self.path / "d", OTHER_JOURNAL)
        await self.fire(self.publisher)
        await self.all_handled()

    async def all(self, before: Callable[[str], None] = lambda phase: None) -> None:
        """Go through all phases."""
        for phase in self.PHASES:
            before(phase)
            await getattr(self, phase)()
        before("leave")
        await self.first.stop()
        self.hub.losing.lose_nothing()


@contextmanager
def ticking(play: Play) -> Iterator[None]:
    """Do the regular work of the publisher in the meantime."""
    task = asyncio.get_running_loop().create_task(_tick(play.publisher))
    try:
        yield
    finally:
        task.cancel()


def run(path: Path, test: Callable[[Play], object]) -> None:
    """Go through all phases with a play that a test prepares, and leave nothing open."""

    async def main() -> None:
        hub = Hub()
        play = Play(hub, path)
        before = test(play)
        try:
            with ticking(play):
                await play.all(*([before] if callable(before) else []))
        finally:
            for publisher in list(hub.publishers.values()):
                publisher.close()

    asyncio.run(main())


def test_every_message_between_consumer_and_publisher_occurs(tmp_path: Path) -> None:
    """In these phases every kind of message that may be lost is sent, and nothing is done twice."""
    seen: list[Play] = []
    run(tmp_path, lambda play: seen.append(play))
    [play] = seen
    assert set(play.hub.losing.seen) - {Kind.ERROR} == set(Kind) - ELSEWHERE  # a request may come too early
    assert play.poisoned == [1, 2, 3]
    assert play.hub.losing.lost.total() == 0


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in ELSEWHERE], ids=lambda kind: kind.name)
@pytest.mark.parametrize("count", [1, 3])
def test_each_kind_of_frame_may_be_lost(tmp_path: Path, kind: Kind, count: int) -> None:
    """In every phase the first frames of a kind are lost: every event arrives, and each delivery counts once."""
    plays: list[Play] = []

    def prepare(play: Play) -> Callable[[str], None]:
        plays.append(play)
        return lambda phase: play.hub.losing.lose_next(kind, count)

    run(tmp_path, prepare)
    [play] = plays
    assert play.hub.losing.lost[kind] >= 1
    assert play.poisoned == [1, 2, 3]


@pytest.mark.parametrize(
    "kind", [Kind.START, Kind.STARTED, Kind.ACK, Kind.ACKED, Kind.REJECT], ids=lambda kind: kind.name
)
def test_requests_that_block_a_listener_are_repeated_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """Otherwise a group with many single redeliveries might be too slow to catch up."""
    monkeypatch.setattr(requests, "RETRY_AFTER", 3600.0)
    plays: list[Play] = []

    def prepare(play: Play) -> Callable[[str], None]:
        plays.append(play)
        return lambda phase: play.hub.losing.lose_next(kind, 4)

    run(tmp_path, prepare)
    assert plays[0].hub.losing.lost[kind] >= 1
    assert plays[0].poisoned == [1, 2, 3]


@pytest.mark.parametrize("number", range(scaled(20, least=2)))
def test_frames_lost_at_random(tmp_path: Path, chaos: random.Random, number: int) -> None:
    """A fifth of all frames in either direction is lost: every event arrives, and each delivery counts once."""
    plays: list[Play] = []

    def prepare(play: Play) -> None:
        plays.append(play)
        play.hub.losing.lose_at_random(chaos.randrange(2**32), 0.2)

    run(tmp_path, prepare)
    assert plays[0].hub.losing.lost.total() > 20
    assert plays[0].poisoned == [1, 2, 3]


def test_a_dead_letter_whose_publisher_ends(tmp_path: Path) -> None:
    """It is stored for redelivery to its group; the adopter of the journal delivers it to the group's members."""

    async def main() -> None:
        hub = Hub()
        play = Play(hub, tmp_path)
        other = hub.publish(D, tmp_path / "d", Auth(), journal=OTHER_JOURNAL)
        await play.listen(play.first)
        await wait_until_async(lambda: play.first.consumer.is_live_at(A) and play.first.consumer.is_live_at(D))
        await other.fire("keyed", key="p", n=POISON, at=time.time())
        [journal] = other.journals.all()
        await wait_until_async(lambda: journal.dead_letters.all())
        play.is_poison = False
        hub.losing.lose_at_random(1, 1.0)  # the member does not see what is stored for it
        [dead] = journal.dead_letters.all()
        assert other.coordinator.redelivery.retry_dead(dead.group, journal.id, dead.sequence)
        other.close()
        play.first.consumer.peer_left(D)
        hub.losing.lose_nothing()
        play.publisher.adopt(tmp_path / "d", OTHER_JOURNAL)
        await wait_until_async(lambda: play.handled == [POISON])
        await play.first.stop()
        play.publisher.close()

    asyncio.run(main())


def test_a_second_join_while_joining_is_not_forgotten(tmp_path: Path) -> None:
    """The pending answer is outdated: when it arrives, the request is repeated."""

    async def main() -> None:
        hub = Hub()
        publisher = hub.publish(A, tmp_path / "a", Auth())
        member = Listens(hub, B)
        await member.listen("keyed")
        [connection] = member.consumer._connections.values()
        [subscription] = connection.subscriptions.values()
        joins = publisher.coordinator.counts["joined"]
        subscription.join_again()
        subscription.join_again()
        assert subscription.assignment.generation == 0
        await wait_until_async(lambda: publisher.coordinator.counts["joined"] == joins + 2)
        await wait_until_async(lambda: member.consumer.is_live_at(A))
        await member.stop()
        publisher.close()

    asyncio.run(main())


LARGE = 40_000


@pytest.mark.parametrize("group", ["{service_name}-greeter", None])
@pytest.mark.parametrize("is_live", [True, False], ids=["live", "replayed"])
def test_an_event_that_is_too_large_for_a_member(tmp_path: Path, is_live: bool, group: str | None) -> None:
    """It becomes a dead letter and later events arrive; a member with a higher limit gets all of them."""

    async def main() -> None:
        hub = Hub()
        publisher = hub.publish(A, tmp_path / "a", Auth())
        small, large = Listens(hub, B, max_message_size=20_000), Listens(hub, C, service="other")
        seen: dict[Listens, list[int]] = {small: [], large: []}

        async def listen(member: Listens) -> None:
            async def function(message: EventMessage) -> None:
                seen[member].append(message.kwargs["n"])

            await member.listen("keyed", function=function, group=group, since="0")

        async def fire() -> None:
            for n in range(60):
                # More than one message may have, in small pieces, too.
                key = "x" * (LARGE if n == 30 else 4000)
                await publisher.fire("keyed", key=key, n=n, at=time.time())

        if not is_live:
            await fire()
        for member in (small, large):
            await listen(member)
        if is_live:
            await fire()
        everything = set(range(60))
        task = asyncio.create_task(_tick(publisher))
        await wait_until_async(lambda: set(seen[large]) == everything and set(seen[small]) == everything - {30}, 15)
        task.cancel()
        if group is not None:
            journal = publisher.journals.own()
            await wait_until_async(lambda: journal.dead_letters.all())
            [dead] = journal.dead_letters.all()
            assert dead.group == "shop-greeter"
            assert "PayloadTooLarge: It takes 40" in dead.error
            assert "this process accepts messages of 20000 bytes. Raise network.max_message_size here" in dead.error
        assert hub.broken_off == []
        for member in (small, large):
            await member.stop()
        publisher.close()

    asyncio.run(main())


def test_more_topics_than_fit_in_one_message(tmp_path: Path) -> None:
    """A member with a low limit gets its topics in several answers, at the start and for new ones."""

    async def main() -> None:
        hub = Hub()
        publisher = hub.publish(A, tmp_path / "a", Auth())
        other = hub.publish(D, tmp_path / "d", Auth(), journal=OTHER_JOURNAL)
        for n in range(200):
            await publisher.fire("keyed", key=str(n), n=n, at=time.time())
            await other.fire("keyed", key=str(n), n=200 + n, at=time.time())
        other.close()
        handled: list[int] = []

        async def function(message: EventMessage) -> None:
            handled.append(message.kwargs["n"])

        member = Listens(hub, B, max_message_size=1500)
        await member.listen("keyed", function=function, since="0")
        await wait_until_async(lambda: sorted(handled) == list(range(200)), 15)
        publisher.adopt(tmp_path / "d", OTHER_JOURNAL)
        [group] = publisher.coordinator.groups.values()
        group.cursors[OTHER_JOURNAL].acked.clear()  # it is owed all of it
        await wait_until_async(lambda: sorted(handled) == list(range(400)), 15)
        assert hub.broken_off == []
        await member.stop()
        publisher.close()

    asyncio.run(main())


async def _tick(publisher: Publishes) -> None:
    while True:
        publisher.tick()
        await asyncio.sleep(0.02)
