"""Moving events into a JetStream and out of it: each is stored once, for the right receivers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from helpers.nats_servers import NatsServer, on_stream
from lightbus.adapters.nats import stream_lookup
from lightbus.adapters.nats.api_stream import ALL, ApiStream
from lightbus.adapters.nats.moving import NatsMove
from lightbus.adapters.nats.places import digest
from lightbus.ports.events import EventTopic, OutgoingEvent
from lightbus.ports.moving import MovedDeadLetter, MovedEvent, MovedGroup

SEEN = EventTopic("seen", 1)


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run a server."""
    with NatsServer() as server:
        yield server


def event(sequence: int) -> MovedEvent:
    """Return an event that was fired this many seconds after 1970."""
    return MovedEvent(sequence, f"id-{sequence}", SEEN, b"%d" % sequence, float(sequence))


def test_repeated_put_stores_once(server: NatsServer) -> None:
    """Whatever progress was recorded last, also after the servers have forgotten the ids."""

    async def test(stream: ApiStream) -> None:
        move = NatsMove(stream, 1.0)
        assert await move.resume("a") == {}
        await move.note("a", {"step": "past", "through": 0})
        assert await move.put("a", [event(1), event(2)]) == [1, 2]
        again = NatsMove(stream, 1.0)
        stream._publisher = None  # type: ignore[assignment]  # what is there is not sent
        assert (await again.resume("a"))["step"] == "past"
        with pytest.raises(AttributeError):
            await again.put("a", [event(3)])
        assert again._sent == {"id-1 from a-1": 1, "id-2 from a-2": 2}

    on_stream(server, "again", test)


def test_events_are_read_with_their_only_group(server: NatsServer) -> None:
    """Past events, those for all groups, and those for one; neither dead letters nor foreign messages."""

    async def test(stream: ApiStream) -> None:
        move = NatsMove(stream, 1.0)
        await move.resume("a")
        await move.add_group(MovedGroup("mail", ("seen",), 5.0))
        await move.put("a", [event(1)])
        await move.put("a", [event(1)], "mail")
        await move.put("a", [event(1)], "gone")
        live = OutgoingEvent(api="shop", topic=SEEN, id="id-9", record=b"9", published_at=9.0)
        await stream.publish([live], ALL)
        await move.add_dead_letters("a", [MovedDeadLetter("mail", event(4), 5, "no stamps", 7.0)])
        found, through = await move.read(0, 100)
        assert [(each.record, only) for each, only in found] == [(b"1", None), (b"1", "mail"), (b"9", "")]
        assert through == 5 == await move.head()
        [letter] = await move.dead_letters()
        assert (letter.group, letter.event.record, letter.deliveries, letter.error) == ("mail", b"4", 5, "no stamps")
        assert [each.record for each in await stream_lookup.page(stream, 0, 10)] == [b"1", b"9"]
        assert await stream_lookup.place_of(stream, "id-1") == 1

    on_stream(server, "read", test)


def test_added_groups_are_returned(server: NatsServer) -> None:
    """With their delivery counts; existing groups are left unchanged."""

    async def test(stream: ApiStream) -> None:
        move = NatsMove(stream, 1.0)
        await move.resume("a")
        for created_at in (5.0, 6.0):
            await move.add_group(MovedGroup("mail", ("seen",), created_at))
        await move.add_deliveries("mail", {(SEEN, 8): 3})
        await move.mark_begun("mail", [1])
        [group] = await move.groups()
        assert (group.name, group.created_at, group.start) == ("mail", 5.0, 0)
        assert group.deliveries == {(SEEN, 8): 3}
        await move.clear(await move.head())
        assert await move.groups() == []

    on_stream(server, "groups", test)


def test_added_group_starts_at_its_creation(server: NatsServer) -> None:
    """If publishers have moved before it, by the times of the events."""

    async def test(stream: ApiStream) -> None:
        move = NatsMove(stream, 1.0)
        live = [OutgoingEvent(api="shop", topic=SEEN, id=f"{n}", record=b"", published_at=float(n)) for n in range(6)]
        await stream.publish(live, ALL)
        await move.add_group(MovedGroup("mail", ("seen",), 4.0))
        [group] = await move.groups()
        assert group.start == 4  # after the events with sequences up to 3

    on_stream(server, "since", test)


def test_cursors_before_the_start_are_not_moved(server: NatsServer) -> None:
    """They are from a removed group of this name."""

    async def test(stream: ApiStream) -> None:
        await stream.opened()
        key = digest("mail")
        await stream.records.put(f"info.{key}", {"name": "mail", "events": ["seen", "sold"], "start": 7})
        await stream.records.put(f"part.{key}.{SEEN.partition}", {"cursors": {"seen": 4, "sold": 9}})
        [group] = await NatsMove(stream, 1.0).groups()
        assert group.cursors == {SEEN: 7, SEEN._replace(event="sold"): 9}

    on_stream(server, "cursors", test)


def test_members_are_those_with_signs_of_life(server: NatsServer) -> None:
    """Not those that were killed and left their record."""

    async def test(stream: ApiStream) -> None:
        move = NatsMove(stream, 1.0)
        await move.resume("a")
        for member in ("alive", "killed"):
            await stream.records.put(f"member.{digest('mail')}.{member}", {})
        looking = asyncio.create_task(move.members())
        await asyncio.sleep(0)
        while not looking.done():
            await stream.records.put(f"member.{digest('mail')}.alive", {})
        assert await looking == ["alive"]

    on_stream(server, "members", test)
