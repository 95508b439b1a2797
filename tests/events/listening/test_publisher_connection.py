"""The connection to one publisher: which listeners get its messages, and which messages it gets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from helpers.listeners import listener
from helpers.publisher_side import JOURNAL, MEMBER, PUBLISHER, PublisherSide, consumer_context
from lightbus.events.listening import publisher_connection as module
from lightbus.events.listening.listener_queue import ListenerQueue
from lightbus.events.listening.publisher_connection import PublisherConnection
from lightbus.events.listening.subscription import Subscription
from lightbus.wire import envelope
from lightbus.wire.envelope import (
    PRESENCE_PREFIX,
    Acked,
    AnyMessage,
    Assign,
    Beat,
    Drain,
    Events,
    Join,
    Leave,
    Marker,
    Open,
    Streams,
)


class Play:
    """A process with one connection."""

    def __init__(self) -> None:
        self.side, self.context = PublisherSide(), consumer_context()
        transport: Any = self.side
        self.connection = PublisherConnection(self.context, transport, self.side.peer)

    def listen(self, *events: str, group: str = "g") -> tuple[ListenerQueue, Subscription]:
        """Let a listener follow the publisher."""
        queue = ListenerQueue(replace(listener(lambda: None), events=events or ("seen",), concurrency=2))
        return queue, self.connection.subscribe(queue, group)

    def live(self, events: tuple[str, ...] = ("seen",), group: str = "g") -> None:
        """Answer all requests that come before a listener follows partition 1."""
        self.answer(Join, Assign("auth", group, 1, [1], [*events], 0.0, 0.0))
        for topic in [each for each in self.side.prefixes if envelope.is_marker_topic(each)]:
            self.side.publish(envelope.encode_published(topic, Marker("", 0)))
        rows = [[JOURNAL, event, 1, 0, 0, 0] for event in events]
        self.answer(Open, Streams("auth", group, 1, [1], rows))

    def answer(self, kind: type, message: AnyMessage) -> None:
        """Answer the oldest request of a kind."""
        number = next(number for number, said in self.side.said if isinstance(said, kind))
        self.side.said = [each for each in self.side.said if each[0] != number]
        self.side.reply(envelope.encode(message, number))

    def publish(self, event: str, sequence: int, *, api: str = "auth") -> None:
        message = Events(JOURNAL, PUBLISHER, [[sequence, sequence - 1, b"x"]], 0, 0)
        self.side.publish(envelope.encode_published(envelope.event_topic(api, event, 1), message))


def run(test: Callable[[Play], Awaitable[None]]) -> None:
    async def main() -> None:
        play = Play()
        await test(play)
        play.connection.close()

    asyncio.run(main())


def test_listeners_get_their_events() -> None:
    """Each its own events; a second listener that comes later gets its share from then on."""

    async def test(play: Play) -> None:
        seen, _ = play.listen("seen")
        play.live()
        play.publish("seen", 1)
        other, _ = play.listen("other", group="h")
        play.live(("other",), "h")
        play.publish("other", 1)
        play.publish("seen", 2)
        play.publish("third", 1)
        assert (seen.backlog, other.backlog) == (2, 1)

    run(test)


def test_a_listener_follows_a_publisher_once() -> None:
    """A second subscribe returns the same subscription; it is live when its events arrive."""

    async def test(play: Play) -> None:
        queue, subscription = play.listen()
        assert play.connection.subscribe(queue, "g") is subscription
        assert [type(message) for _, message in play.side.said] == [Join]
        assert not play.connection.is_live
        play.live()
        assert play.connection.is_live

    run(test)


def test_the_publisher_sees_that_we_are_connected() -> None:
    """By a topic with no other subscriber, which JOIN names."""

    async def test(play: Play) -> None:
        [presence] = play.side.prefixes
        assert presence[:1] == PRESENCE_PREFIX
        play.listen()
        [join] = play.side.heard()
        assert isinstance(join, Join)
        assert (join.presence, join.member, join.target) == (presence, MEMBER, PUBLISHER)

    run(test)


def test_beats_report_what_members_hold() -> None:
    """For listeners in a group only."""

    async def test(play: Play) -> None:
        play.listen("seen", group="")
        play.side.heard()
        play.connection.tick()
        assert play.side.heard() == []
        play.listen()
        play.live()
        play.side.heard()
        play.connection.tick()
        assert play.side.heard() == [Beat([["auth", "g"]], [[1, [1]]])]

    run(test)


def test_an_unknown_member_joins_again() -> None:
    """The answer to a beat names the groups that we are members of; with an edition, it leads to a request."""

    async def test(play: Play) -> None:
        _, subscription = play.listen()
        play.live()
        play.side.heard()
        play.side.reply(envelope.encode(Beat([["auth", "g"]], [[7]])))
        assert [type(message) for message in play.side.heard()] == [Open]
        play.side.reply(envelope.encode(Beat([], [])))
        assert [type(message) for message in play.side.heard()] == [Join]
        assert subscription.assignment.pairs == set()

    run(test)


def test_unsolicited_assignments_are_accepted() -> None:
    """For the group that they name; other unsolicited messages are ignored."""

    async def test(play: Play) -> None:
        _, one = play.listen("seen")
        play.live()
        _, other = play.listen("other", group="h")
        play.side.reply(envelope.encode(Assign("auth", "g", 2, [1, 2], ["seen"], 0.0, 0.0)))
        play.side.reply(envelope.encode(Drain()))
        assert (one.assignment.partitions, other.assignment.partitions) == ({1, 2}, set())
        assert play.context.counts == {}

    run(test)


def test_a_listener_that_leaves() -> None:
    """Its group is left, and it gets no more events."""

    async def test(play: Play) -> None:
        queue, _ = play.listen()
        play.live()
        play.side.heard()
        play.connection.unsubscribe(queue)
        play.connection.unsubscribe(queue)
        assert play.side.heard() == [Leave("auth", "g")]
        play.publish("seen", 1)
        assert (queue.backlog, play.connection.subscriptions) == (0, {})

    run(test)


@pytest.mark.parametrize("is_revoked", [False, True])
def test_a_listener_whose_event_is_abandoned_does_not_leave(is_revoked: bool) -> None:
    """Its member is lost: the event counts as begun when it is delivered to another one."""

    async def test(play: Play) -> None:
        queue, subscription = play.listen()
        play.live()
        play.publish("seen", 1)
        [stream] = subscription.followed.streams.values()
        assert queue.take(stream, 2) is not None
        if is_revoked:
            play.side.reply(envelope.encode(Assign("auth", "g", 2, [], ["seen"], 0.0, 0.0), 0))
        play.side.heard()
        play.connection.unsubscribe(queue)
        assert play.side.heard() == []

    run(test)


def test_leaving_waits_until_positions_are_on_disk() -> None:
    """Every group is left; a member with an event in progress stays, and without an answer it ends in time."""

    async def test(play: Play) -> None:
        play.listen()
        play.live()
        leaving = asyncio.ensure_future(play.connection.leave(60.0))
        await asyncio.sleep(0)
        assert not leaving.done()
        play.answer(Leave, Acked([]))
        await leaving
        await play.connection.leave(0.0)

    run(test)


@pytest.mark.parametrize("frame", [b"", b"nonsense", b"auth\0seen\0001\0\x20nonsense"])
def test_unreadable_frames_are_counted(frame: bytes) -> None:
    """They have no other effect: the next frame is read."""

    async def test(play: Play) -> None:
        queue, _ = play.listen()
        play.live()
        play.side.publish(frame)
        play.side.reply(frame)
        play.publish("seen", 1)
        assert (play.context.counts["unreadable"], queue.backlog) == (2, 1)

    run(test)


def test_invented_topics_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of topics is bounded, and events arrive all the same."""
    monkeypatch.setattr(module, "MAX_TOPICS", 3)

    async def test(play: Play) -> None:
        queue, _ = play.listen()
        play.live()
        for n in range(10):
            play.publish(f"made_up_{n}", 1)
            play.publish("seen", n + 1)
            assert len(play.connection._topics) <= 3
        assert queue.backlog == 10

    run(test)
