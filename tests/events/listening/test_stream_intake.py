"""A publisher's messages are added to the streams of one listener, and missing events are requested."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from helpers.listeners import listener
from helpers.publisher_side import JOURNAL, PUBLISHER, PublisherSide, consumer_context
from lightbus.core.streams import Stream
from lightbus.events.listening import listener_queue
from lightbus.events.listening import stream_intake as module
from lightbus.events.listening.ack_collector import AckCollector
from lightbus.events.listening.assignment import Assignment
from lightbus.events.listening.followed_streams import FollowedStreams
from lightbus.events.listening.listener_queue import ListenerQueue
from lightbus.events.listening.stream_intake import StreamIntake
from lightbus.wire.envelope import PARTITIONS, AnyMessage, Assign, Events, Fetch, Head, Open, Streams

SEEN = ("seen", 1)
KEY = (JOURNAL, "seen", 1)


class Play:
    """One listener at one publisher, which follows its assigned partitions."""

    def __init__(self, concurrency: int = 2, partitions: tuple[int, ...] = (1,)) -> None:
        self.side, self.context = PublisherSide(), consumer_context()
        self.requests = self.side.requests()
        self.queue = ListenerQueue(replace(listener(lambda: None), concurrency=concurrency))
        self.assignment = Assignment("auth", "g", None)
        acks = AckCollector(self.requests, self.context.counts)
        self.followed = FollowedStreams(self.assignment, self.queue, self.requests, acks, self.context, lambda: None)
        self.intake = StreamIntake(self.assignment, self.followed, self.queue, self.requests, self.context)
        self.assignment.change(Assign("auth", "g", 1, [*partitions], ["seen"], 0.0, 0.0))
        self.assignment.followed |= self.assignment.pairs
        self.intake.assigned()

    def publish(self, *rows: tuple[int, int], journal: str = JOURNAL, partition: int = 1, follows: int = 0) -> None:
        """Let events arrive, each with its sequence and that of the previous one."""
        records = [[sequence, previous, b"x"] for sequence, previous in rows]
        message = Events(journal, PUBLISHER, records, follows, rows[-1][0] if follows else 0)
        self.intake.on_events("seen", partition, message)

    def stream(self, key: tuple[str, str, int] = KEY) -> Stream:
        return self.followed.streams[key]

    def waiting(self, key: tuple[str, str, int] = KEY) -> list[int]:
        return [entry[0] for entry in self.stream(key).ready]

    def answer(self, message: AnyMessage) -> None:
        number, _ = self.side.said[-1]
        self.side.said.clear()
        assert self.requests.answered(number, message)


def run(test: Callable[[Play], Awaitable[None]], concurrency: int = 2, partitions: tuple[int, ...] = (1,)) -> None:
    async def main() -> None:
        play = Play(concurrency, partitions)
        await test(play)
        play.requests.close()

    asyncio.run(main())


def standing(cursor: int, head: int, *partitions: int) -> Streams:
    rows = [[JOURNAL, "seen", each, cursor, head, 0] for each in partitions]
    return Streams("auth", "g", 1, [*partitions], rows)


def test_published_events_wait_for_the_listener() -> None:
    """In order; events of another listener of the same process are ignored."""

    async def test(play: Play) -> None:
        play.intake.on_streams(standing(4, 4, 1))
        play.publish((5, 4), (6, 5))
        play.publish((7, 6))
        play.publish((8, 0), partition=2)
        assert (play.waiting(), play.queue.backlog, len(play.followed.streams)) == ([5, 6, 7], 3, 1)
        assert play.queue.wake.is_set()

    run(test)


def test_a_gap_is_fetched() -> None:
    """Events behind it are not handed out before."""

    async def test(play: Play) -> None:
        play.intake.on_streams(standing(4, 4, 1))
        play.publish((7, 6))
        [message] = play.side.heard()
        assert isinstance(message, Fetch)
        assert (message.after, play.waiting()) == (4, [])

    run(test)


@pytest.mark.parametrize("is_followed", [True, False])
def test_a_new_topic(is_followed: bool) -> None:
    """All of it is ours if we follow its event; otherwise its head is stored until we know where it stands."""

    async def test(play: Play) -> None:
        if not is_followed:
            play.assignment.followed.clear()
        play.publish((7, 0))
        if is_followed:
            assert play.waiting() == [7]
            return
        assert play.followed.streams == {}
        play.assignment.followed |= {SEEN}
        play.intake.on_streams(standing(4, 4, 1))
        assert (play.stream().handled, play.stream().head) == (4, 7)

    run(test)


def test_a_topic_that_begins_while_the_positions_are_on_their_way() -> None:
    """They do not have it: its event is fetched at once, and no later one of another topic is delivered before it."""

    async def test(play: Play) -> None:
        play.assignment.followed.clear()
        play.publish((3, 0), follows=2)
        play.assignment.followed |= play.assignment.pairs
        play.intake.on_streams(Streams("auth", "g", 1, [*range(PARTITIONS)], standing(2, 2, 5).streams))
        play.publish((4, 0), partition=2, follows=3)
        [message] = play.side.heard()
        assert isinstance(message, Fetch)
        assert (message.partition, message.after) == (1, 0)
        assert [play.queue.next() for _ in range(2)] == [None, None]

    run(test, concurrency=1, partitions=(*range(PARTITIONS),))


def test_the_higher_position_of_a_topic_counts() -> None:
    """A listener without a group remembers its position; the publisher does not."""

    async def test(play: Play) -> None:
        play.queue.positions[KEY] = 6
        play.intake.on_streams(standing(4, 9, 1))
        assert (play.stream().handled, play.stream().head) == (6, 9)

    run(test)


def test_head_reports_missing_events() -> None:
    """They are fetched; for a foreign topic nothing is."""

    async def test(play: Play) -> None:
        play.intake.on_head("seen", 2, Head(JOURNAL, 9, 0, 0))
        play.intake.on_head("seen", 1, Head(JOURNAL, 9, 0, 0))
        [message] = play.side.heard()
        assert isinstance(message, Fetch)
        assert (message.partition, message.after) == (1, 0)

    run(test)


def test_best_effort_is_bounded_and_its_gaps_are_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Events without room are dropped and counted, and lost ones are reported, not fetched."""
    monkeypatch.setattr(module, "MAX_QUEUED", 2)

    async def test(play: Play) -> None:
        play.publish((1, 0), journal="")
        play.publish((3, 2), (4, 3), journal="")
        assert (play.waiting(("", "seen", 1)), play.queue.counts["dropped"]) == ([1, 3], 2)
        assert play.context.counts["gaps"] == 1
        play.publish((6, 5), journal="")
        assert (play.queue.backlog, play.queue.counts["dropped"], play.side.heard()) == (2, 4, [])
        for _ in range(2):
            play.intake.on_head("seen", 1, Head("", 9, 0, 0))
        assert (play.queue.counts["dropped"], play.side.heard()) == (7, [])
        play.intake.on_head("seen", 2, Head("", 9, 0, 0))  # not ours
        assert play.queue.counts["dropped"] == 7
        play.intake.on_head("other", 1, Head("", 9, 0, 0))  # from here on it counts
        play.intake.on_head("other", 1, Head("", 11, 0, 0))
        assert play.queue.counts["dropped"] == 9

    run(test)
    assert "were lost in transit" in caplog.text


def test_waiting_events_of_best_effort_are_counted_once_when_we_count_as_gone() -> None:
    """They are dropped then, as no other member has them; later the topic misses only new events."""

    async def test(play: Play) -> None:
        play.publish((1, 0), (2, 1), (3, 2), journal="")
        play.followed.drop_all()
        assert play.queue.counts["dropped"] == 3
        play.publish((6, 5), journal="")
        assert (play.waiting(("", "seen", 1)), play.queue.counts["dropped"]) == ([6], 3 + 2)

    run(test)


def test_a_full_queue_leaves_events_in_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are fetched once there is room."""
    monkeypatch.setattr(listener_queue, "MAX_BYTES", 2)

    async def test(play: Play) -> None:
        play.publish((1, 0), (2, 1))
        play.publish((3, 2))
        assert (play.waiting(), play.stream().head, play.side.heard()) == ([1, 2], 3, [])
        stream = play.stream()
        for _ in range(2):
            entry = stream.take()
            assert entry is not None
            play.queue.ready(stream, -1, -1)
            play.queue.done(stream, entry)
        play.queue.skip(stream, 2)
        assert [type(message) for message in play.side.heard()] == [Fetch]

    run(test)


def test_missing_topics_are_requested() -> None:
    """One event at a time, in all partitions: a message with a gap leads to a request about all topics."""

    async def test(play: Play) -> None:
        everything = tuple(range(PARTITIONS))
        play.intake.ask_for_missing()  # all partitions have only become ours
        [(_, message)] = play.side.said
        assert isinstance(message, Open)
        assert message.partitions == [*everything]
        play.intake.ask_for_missing()
        assert len(play.side.said) == 1
        play.answer(standing(4, 4, *everything))
        play.publish((8, 4), follows=7)
        assert [type(message) for message in play.side.heard()] == [Open]

    run(test, concurrency=1, partitions=tuple(range(PARTITIONS)))


def test_members_catch_up_with_an_edition() -> None:
    """One request for each edition, repeated while answers are incomplete; never without a group."""

    async def test(play: Play) -> None:
        play.intake.catch_up(3)
        play.intake.catch_up(3)
        assert len(play.side.said) == 1
        play.answer(standing(4, 4, 1))
        [(_, rest)] = play.side.said
        assert isinstance(rest, Open)
        assert rest.partitions == [2]
        play.answer(standing(4, 4, 2))
        play.intake.catch_up(3)
        assert play.side.said == []
        play.assignment.clear()
        play.intake.catch_up(4)
        assert play.side.said == []

    run(test, partitions=(1, 2))
