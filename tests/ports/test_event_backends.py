"""The contract of event backends, without a bus: operations of one member, and notifications of another."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar

import pytest

from helpers import wait_until_async
from helpers.own import examine
from helpers.waiting import LEAST
from lightbus.config import load_config
from lightbus.engine.event_backends import EventBackendChoice
from lightbus.membership.context import Identity
from lightbus.ports.events import (
    EventBackend,
    EventBackendUnreachable,
    EventSubscription,
    EventTopic,
    OutgoingEvent,
    SubscriptionRequest,
    TopicState,
)
from lightbus.wire.envelope import PARTITIONS

T = TypeVar("T")

Settings: TypeAlias = dict[str, Any]

TOPIC = EventTopic("sold", 3)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests for all backends, or the named one."""
    examine(metafunc, "event_settings", ["memory", "jetstream"])


class Member:
    """A process that listens, and what it was told."""

    def __init__(self, backend: EventBackend, instance: str) -> None:
        self.backend = backend
        self.instance = instance
        self.states: dict[EventTopic, TopicState] = {}
        self.started: list[TopicState] = []
        """Where it had to start with topics: each time that it got to know one."""
        self.revoked: set[int] = set()

    def __repr__(self) -> str:
        """Return what it was told."""
        return f"<Member {self.instance}: {list(self.states.values())}, revoked {sorted(self.revoked)}>"

    def follow(self, states: Sequence[TopicState]) -> None:
        """Note how topics stand: as what it heard first says, from where, and as the latest does, how far."""
        for state in states:
            if state.topic not in self.states:
                self.started.append(state)
            self.states[state.topic] = self.states.get(state.topic, state)._replace(head=state.head)

    def revoke(self, partitions: frozenset[int]) -> None:
        """Note what is to be given back, and forget how it stood."""
        self.revoked |= partitions
        self.states = {topic: state for topic, state in self.states.items() if topic.partition not in partitions}

    async def release(self) -> None:
        """Give back what is to be given back."""
        revoked, self.revoked = frozenset(self.revoked), set()
        await self.subscription.release(revoked)

    async def join(
        self, group: str = "mail", *, events: tuple[str, ...] = ("sold",), since: str = "0"
    ) -> EventSubscription:
        """Become one of the group."""
        request = SubscriptionRequest(api="shop", events=events, group=group, member=self.instance, since=since)
        self.subscription = await reached(lambda: self.backend.subscribe(request, self))
        return self.subscription

    async def told(self, topic: EventTopic, head: int) -> TopicState:
        """Return how a topic stands, once it is told that it has come so far."""
        await wait_until_async(lambda: topic in self.states and self.states[topic].head >= head)
        return self.states[topic]


async def reached(ask: Callable[[], Awaitable[T]]) -> T:
    """Repeat until the backend can be reached: it may be starting."""
    async with asyncio.timeout(LEAST):
        while True:
            try:
                return await ask()
            except EventBackendUnreachable:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def members(event_settings: Settings) -> AsyncIterator[tuple[Member, Member]]:
    """Return two processes, each with its own backend, on a new bus; none has joined."""
    bus = f"ports-{secrets.token_hex(4)}"
    choice = EventBackendChoice(load_config({"apis": {"shop": {"events": event_settings}}}, environ={}))
    made = []
    for name in ("one", "two"):
        identity = Identity(bus=bus, service="mail", process=name)
        made.append(Member(choice.make("shop", identity), identity.instance))
    for member in made:
        await member.backend.start()
    try:
        yield made[0], made[1]
    finally:
        for member in made:
            await member.backend.stop()


def event(number: int, topic: EventTopic = TOPIC) -> OutgoingEvent:
    """Return an event."""
    return OutgoingEvent(api="shop", topic=topic, id=f"id-{number}", record=b"%d" % number, published_at=1e9 + number)


async def kept(member: Member, *events: OutgoingEvent) -> list[int]:
    """Have events kept; return their sequences."""

    async def publish() -> list[int]:
        sequences = []
        for result in await member.backend.publish(events):
            if not isinstance(result, int):
                raise result
            sequences.append(result)
        return sequences

    return await reached(publish)


def test_republished_event_keeps_its_sequence(event_settings: Settings) -> None:
    """Also if another process publishes it again; it is delivered once."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            first, second = await kept(one, event(1), event(2))
            assert first < second
            *again, third = await kept(two, event(2), event(1), event(3))
            assert again == [second, first]
            assert third > second
            await one.join()
            await one.told(TOPIC, third)
            page = await one.subscription.fetch(TOPIC, 0, 9)
            assert [each.record for each in page.events] == [b"1", b"2", b"3"]
            assert page.through >= third

    asyncio.run(scenario())


def test_repeated_page_is_the_same(event_settings: Settings) -> None:
    """It has at most so many events, and the next one continues after it."""

    async def scenario() -> None:
        async with members(event_settings) as (one, _):
            sequences = await kept(one, *(event(number) for number in range(5)))
            await one.join()
            await one.told(TOPIC, sequences[-1])
            page = await one.subscription.fetch(TOPIC, 0, 3)
            assert [each.sequence for each in page.events] == sequences[:3]
            assert await one.subscription.fetch(TOPIC, 0, 3) == page
            rest = await one.subscription.fetch(TOPIC, page.through, 3)
            assert [each.sequence for each in rest.events] == sequences[3:]

    asyncio.run(scenario())


@pytest.mark.parametrize("is_done", [True, False])
def test_fetched_events_of_a_closed_member_may_have_begun(event_settings: Settings, is_done: bool) -> None:
    """If it was not done, the next member is told so; not of acknowledged events."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            sequences = await kept(one, *(event(number) for number in range(3)))
            leaving = await one.join()
            await one.told(TOPIC, sequences[-1])
            await leaving.fetch(TOPIC, 0, 9)
            await leaving.ack({TOPIC: sequences[0]})
            await leaving.close(is_done=is_done)
            await two.join()
            state = await two.told(TOPIC, sequences[-1])
            assert state.cursor == sequences[0]
            assert (state.begun >= sequences[1]) is not is_done

    asyncio.run(scenario())


def test_deliveries_are_counted_across_members(event_settings: Settings) -> None:
    """The count continues with the next member, and is at least what that member says."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            [sequence] = await kept(one, event(1))
            leaving = await one.join()
            await one.told(TOPIC, sequence)
            await leaving.fetch(TOPIC, 0, 9)
            assert await leaving.begin(TOPIC, sequence, 1) == 1
            assert await leaving.begin(TOPIC, sequence, 5) == 5
            await leaving.close(is_done=False)
            staying = await two.join()
            state = await two.told(TOPIC, sequence)
            assert state.begun >= sequence
            await staying.fetch(TOPIC, 0, 9)
            assert await staying.begin(TOPIC, sequence, 1) == 6

    asyncio.run(scenario())


def test_group_keeps_its_place_and_gets_the_events_of_its_latest_request(event_settings: Settings) -> None:
    """As after the upgrade of a program that listens to another event: nothing is handled again, or left out."""
    opened = EventTopic("opened", TOPIC.partition)

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            [first, _] = await kept(one, event(1), event(2, opened))
            leaving = await one.join()
            await one.told(TOPIC, first)
            await leaving.fetch(TOPIC, 0, 9)
            await leaving.ack({TOPIC: first})
            await leaving.close()
            [sold, late] = await kept(one, event(3), event(4, opened))
            staying = await two.join(events=("sold", "opened"), since="$")
            assert (await two.told(TOPIC, sold)).cursor == first
            await two.told(opened, late)
            records, through = [], 0
            while through < late:  # a page may have less than there is
                page = await staying.fetch(opened, through, 9)
                records += [each.record for each in page.events]
                through = page.through
            assert records == [b"2", b"4"]
            [group] = await two.backend.groups("shop")
            assert {*group.events} == {"sold", "opened"}

    asyncio.run(scenario())


async def sharing(one: Member, two: Member) -> dict[EventTopic, int]:
    """Have one member hold all partitions, each with an event, and another one join it; return the events' topics."""
    topics = [EventTopic("sold", partition) for partition in range(PARTITIONS)]
    sequences = await kept(one, *(event(topic.partition, topic) for topic in topics))
    await one.join()
    for topic, sequence in zip(topics, sequences, strict=True):
        await one.told(topic, sequence)
    await two.join()
    await wait_until_async(lambda: one.revoked)
    return dict(zip(topics, sequences, strict=True))


def test_partition_moves_after_its_release(event_settings: Settings) -> None:
    """Until then its owner holds it; from then on nothing that the old owner says is recorded."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            handled = await sharing(one, two)
            first, second = one.subscription, two.subscription
            moving = EventTopic("sold", min(one.revoked))
            sequence = handled[moving]
            assert moving not in two.states
            assert await second.begin(moving, sequence, 1) == 0
            await first.ack({moving: sequence})
            await first.release(frozenset(one.revoked))
            [newer] = await kept(one, event(99, moving))
            assert (await two.told(moving, newer)).cursor == sequence
            assert await first.begin(moving, newer, 1) == 0
            await first.ack({moving: newer})
            assert await one.backend.status("shop", newer) == {"mail": "waiting"}

    asyncio.run(scenario())


async def becomes(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    """Ask until the answer is the expected one: another process may learn of a change a moment later."""
    answer: object = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LEAST):
            while (answer := await ask()) != expected:
                await asyncio.sleep(0.01)
    assert answer == expected


async def buried(member: Member, sequence: int) -> None:
    """Make a dead letter of an event, as a listener does that gives it up."""
    await member.told(TOPIC, sequence)
    await member.subscription.fetch(TOPIC, 0, 9)
    assert await member.subscription.begin(TOPIC, sequence, 1) == 1
    assert await member.subscription.dead_letter(TOPIC, sequence, 1, "out of paper")
    await member.subscription.ack({TOPIC: sequence})


def test_dead_letters_belong_to_their_group(event_settings: Settings) -> None:
    """Another group neither has them, nor can it retry or drop them; each is retried once."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            [sequence] = await kept(one, event(1))
            await one.join("mail")
            await two.join("audit")
            await buried(one, sequence)
            backend = two.backend
            await becomes(lambda: backend.status("shop", sequence), {"mail": "dead", "audit": "waiting"})
            [dead] = await backend.dead_letters("shop")
            assert (dead.group, dead.event.sequence, dead.event.record) == ("mail", sequence, b"1")
            assert (dead.deliveries, dead.error) == (1, "out of paper")
            assert list(await backend.dead_letters("shop", "mail")) == [dead]
            assert list(await backend.dead_letters("shop", "audit")) == []
            for group, number in (("audit", sequence), ("mail", sequence + 1000)):
                assert not await backend.retry_dead("shop", group, number)
                assert not await backend.drop_dead("shop", group, number)
            assert await backend.retry_dead("shop", "mail", sequence)
            await becomes(lambda: backend.retry_dead("shop", "mail", sequence), False)
            assert list(await backend.dead_letters("shop")) == []

    asyncio.run(scenario())


def test_a_dead_letter_that_its_group_would_not_get_stays(event_settings: Settings) -> None:
    """The group listens to other events now. Once it listens to this one again, it gets it."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            [sequence] = await kept(one, event(1))
            await one.join("mail")
            await buried(one, sequence)
            await one.subscription.close()
            await two.join("mail", events=("opened",))
            backend = two.backend
            await becomes(lambda: _dead(backend), [sequence])
            assert not await backend.retry_dead("shop", "mail", sequence)
            assert await _dead(backend) == [sequence]
            await two.subscription.close()
            await becomes(lambda: _wanted(one.backend), [("opened",)])
            await one.join("mail")
            await becomes(lambda: one.backend.retry_dead("shop", "mail", sequence), True)

    asyncio.run(scenario())


async def _dead(backend: EventBackend) -> list[int]:
    return [letter.event.sequence for letter in await backend.dead_letters("shop")]


async def _wanted(backend: EventBackend) -> list[tuple[str, ...]]:
    return [group.events for group in await backend.groups("shop")]


def test_retried_dead_letter_is_an_event_for_its_group_alone(event_settings: Settings) -> None:
    """It has a number of its own, counts as waiting there and nowhere else, and is not in the history again."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            [sequence] = await kept(one, event(1))
            await one.join("mail")
            await two.join("audit")
            await buried(one, sequence)
            backend = one.backend
            assert await backend.retry_dead("shop", "mail", sequence)
            await wait_until_async(lambda: one.states[TOPIC].head > sequence)
            retried = one.states[TOPIC].head
            page = await one.subscription.fetch(TOPIC, sequence, 9)
            assert [(each.sequence, each.record) for each in page.events] == [(retried, b"1")]
            await becomes(lambda: backend.status("shop", retried), {"mail": "waiting"})
            await becomes(lambda: backend.lag("shop", "mail"), 1)
            await becomes(lambda: two.backend.lag("shop", "audit"), 1)
            history = await backend.history("shop", "*", start=None, stop=None, limit=9)
            assert [each.sequence for each in history] == [sequence]
            assert [each.sequence for each in await backend.page("shop", 0, 9)] == [sequence]

    asyncio.run(scenario())


def test_removed_group_begins_anew(event_settings: Settings) -> None:
    """Its members get what is published from then on; what waited for it, or was a dead letter, is forgotten."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            dead, waiting = await kept(one, event(1), event(2))
            await one.join()
            await one.told(TOPIC, waiting)
            await buried(one, dead)
            assert not await two.backend.remove_group("shop", "audit")
            assert await two.backend.remove_group("shop", "mail")
            await becomes(lambda: two.backend.lag("shop", "mail"), 0)
            assert list(await two.backend.dead_letters("shop", "mail")) == []
            [newer] = await kept(one, event(3))
            await one.told(TOPIC, newer)
            await becomes(lambda: two.backend.status("shop", newer), {"mail": "waiting"})
            await becomes(lambda: two.backend.status("shop", waiting), {})

    asyncio.run(scenario())


def test_members_of_a_removed_group_get_nothing_again(event_settings: Settings) -> None:
    """Whoever joined first, and whoever gets which partition now."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):

            async def told(heads: dict[EventTopic, int]) -> None:
                """Wait until the members are told of these events, giving back partitions until then."""
                async with asyncio.timeout(LEAST):
                    while any(
                        all(member.states[topic].head < head for member in (one, two) if topic in member.states)
                        for topic, head in heads.items()
                    ):
                        for member in (one, two):
                            await member.release()
                        await asyncio.sleep(0.01)

            handled = await sharing(one, two)
            moving = {topic: sequence for topic, sequence in handled.items() if topic.partition in one.revoked}
            await one.release()
            for topic, sequence in moving.items():
                await two.told(topic, sequence)
            for member in (one, two):
                await member.subscription.ack(handled)
            for member in (one, two):
                await becomes(partial(member.backend.lag, "shop", "mail"), 0)
                member.started.clear()
            assert await two.backend.remove_group("shop", "mail")
            newer = await kept(one, *(event(100 + topic.partition, topic) for topic in handled))
            await told(dict(zip(handled, newer, strict=True)))
            again = [state for state in [*one.started, *two.started] if state.cursor < handled[state.topic]]
            assert again == []

    asyncio.run(scenario())


async def begun_anew(one: Member, two: Member) -> tuple[int, int]:
    """Let one member fetch two events, and then begin its group anew, as another removes it; return their sequences."""
    late, waiting = await kept(one, event(1), event(2))
    await one.join()
    await one.told(TOPIC, waiting)
    await one.subscription.fetch(TOPIC, 0, 9)
    assert await two.backend.remove_group("shop", "mail")

    async def held() -> int:
        return sum(len(held) for group in await two.backend.groups("shop") for held in group.members.values())

    await becomes(held, PARTITIONS)
    return late, waiting


def test_late_ack_does_not_put_a_new_group_back(event_settings: Settings) -> None:
    """An event was in progress when its group was removed: those after it are not for the new group, either."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            late, waiting = await begun_anew(one, two)
            await one.subscription.ack({TOPIC: late})
            assert await one.backend.lag("shop", "mail") == 0
            await one.subscription.close(is_done=True)
            [newer] = await kept(one, event(3))
            await two.join()
            assert (await two.told(TOPIC, newer)).cursor == waiting

    asyncio.run(scenario())


def test_late_failure_is_none_of_a_new_group(event_settings: Settings) -> None:
    """An event was in progress when its group was removed: it is neither tried again, nor a dead letter."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            late, _ = await begun_anew(one, two)
            assert await one.subscription.begin(TOPIC, late, 1) == 0
            assert not await one.subscription.dead_letter(TOPIC, late, 1, "out of paper")
            assert list(await one.backend.dead_letters("shop")) == []

    asyncio.run(scenario())


def test_what_is_not_stored_has_no_status(event_settings: Settings) -> None:
    """Nor can it become a dead letter. A listener without a group is no group."""

    async def scenario() -> None:
        async with members(event_settings) as (one, two):
            [sequence] = await kept(one, event(1))
            await one.join("")
            await two.join("mail")
            await two.told(TOPIC, sequence)
            await becomes(lambda: two.backend.status("shop", sequence), {"mail": "waiting"})
            assert [group.name for group in await two.backend.groups("shop")] == ["mail"]
            assert await two.backend.status("shop", sequence + 1000) == {}
            assert not await two.subscription.dead_letter(TOPIC, sequence + 1000, 1, "out of paper")
            assert await two.backend.count("shop") == 1

    asyncio.run(scenario())
