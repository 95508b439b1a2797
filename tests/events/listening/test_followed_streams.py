"""The streams of one listener at one publisher: fetched, acknowledged, released, remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from helpers import wait_until_async
from helpers.listeners import listener
from helpers.publisher_side import JOURNAL, PublisherSide, consumer_context
from lightbus.core.streams import Entry, LiveStream, Stream
from lightbus.events.listening import followed_streams as module
from lightbus.events.listening.ack_collector import AckCollector
from lightbus.events.listening.assignment import Assignment
from lightbus.events.listening.followed_streams import FollowedStreams
from lightbus.events.listening.listener_queue import ListenerQueue
from lightbus.wire.envelope import Ack, Acked, AnyMessage, Assign, Error, Fetch, Page, Reject, Release, Start, Started


class Play:
    """The streams of one listener at one publisher."""

    def __init__(self, group: str = "g") -> None:
        self.group = group
        self.context = consumer_context()
        self.queue = ListenerQueue(listener(lambda: None))
        self.refusals = 0

    def connect(self) -> FollowedStreams:
        """Let the listener follow a publisher; it may follow several."""
        self.side = PublisherSide()
        self.requests = self.side.requests()
        self.assignment = Assignment("auth", self.group, None)
        self.assignment.change(Assign("auth", self.group, 5, [1, 2], ["seen"], 0.0, 0.0))
        acks = AckCollector(self.requests, self.context.counts)
        return FollowedStreams(self.assignment, self.queue, self.requests, acks, self.context, self._not_a_member)

    def _not_a_member(self) -> None:
        self.refusals += 1

    def follow(self, followed: FollowedStreams, partition: int = 1, *, cursor: int = 0, head: int = 0) -> Stream:
        stream = Stream((JOURNAL, "seen", partition), followed, cursor=cursor, head=head)
        followed.streams[stream.key] = stream
        return stream

    def take(self, stream: Stream) -> Entry:
        """Take the next event of a stream."""
        sequence = stream.position + 1
        assert stream.live([[sequence, stream.position, b"x"]]) == 1
        self.queue.ready(stream, 1, 1)
        entry = stream.take()
        assert entry is not None
        return entry

    def answer(self, message: AnyMessage) -> None:
        """Answer the last request."""
        number, _ = self.side.said[-1]
        self.side.said.clear()
        assert self.requests.answered(number, message)


def run(test: Callable[[Play, FollowedStreams], Awaitable[None]], group: str = "g") -> None:
    async def main() -> None:
        play = Play(group)
        await test(play, play.connect())
        play.requests.close()

    asyncio.run(main())


def test_missing_events_are_fetched_page_by_page() -> None:
    """After the present ones, until none is missing; arrived events are ready, and counted."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed, cursor=3, head=9)
        followed.fetch_more(stream)
        followed.fetch_more(stream)  # asked already
        assert play.side.heard() == [Fetch("auth", JOURNAL, "seen", 1, 3, module.PAGE, 2**20)]
        followed.tick()
        assert play.side.heard() == []
        play.requests.answered(1, Page([[5, 3, b"x"]], 5, True, 0))
        assert play.side.heard()[-1] == Fetch("auth", JOURNAL, "seen", 1, 5, module.PAGE, 2**20)
        play.requests.answered(2, Page([[9, 5, b"y"]], 9, False, 0))
        assert ([entry[0] for entry in stream.ready], play.queue.backlog) == ([5, 9], 2)
        assert play.context.counts["fetched"] == 2

    run(test)


def test_events_deleted_by_retention_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """The group never gets them: that is reported, and they are not fetched again."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        followed.fetch_more(play.follow(followed, head=9))
        play.answer(Page([], 9, False, 4))
        assert play.context.counts["lost"] == 4

    run(test)
    assert "4 events of auth.seen were deleted by the retention" in caplog.text


@pytest.mark.parametrize("more", [False, True])
def test_an_empty_page_is_requested_again_at_the_next_tick(more: bool) -> None:
    """Whether the publisher says that there is more or not: immediate requests would never end."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed, cursor=3, head=2**62)
        followed.fetch_more(stream)
        play.answer(Page([[5, 3, b"x"]], 5, more, 0))
        play.answer(Page([], 5, more, 0))
        assert play.side.heard() == []
        followed.tick()
        assert len(play.side.heard()) == 1

    run(test)


def test_a_page_behind_returned_events_is_requested_again_at_once() -> None:
    """The returned events come first."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed, cursor=3, head=9)
        entry = play.take(stream)
        followed.fetch_more(stream)
        stream.put_back()
        play.answer(Page([], entry.sequence, True, 0))
        assert play.side.heard()[-1] == Fetch("auth", JOURNAL, "seen", 1, 3, module.PAGE, 2**20)

    run(test)


def test_a_refused_request_is_repeated_at_the_next_tick() -> None:
    """It neither stops the stream nor is it repeated at once."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        followed.fetch_more(play.follow(followed, head=9))
        play.answer(Error("busy", "later", False, {}))
        assert play.side.heard() == []
        followed.tick()
        assert len(play.side.heard()) == 1

    run(test)


def test_deliveries_are_recorded_at_the_publisher() -> None:
    """Earlier handled events are acknowledged first; the answer contains the number of the delivery."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed)
        play.queue.done(stream, play.take(stream))
        entry = play.take(stream)
        recording = asyncio.ensure_future(followed.record_delivery(stream, entry, 2))
        await asyncio.sleep(0)
        _, (number, start) = play.side.said
        assert play.side.heard() == [
            Ack("auth", "g", 5, [[JOURNAL, "seen", 1, 1]]),
            Start("auth", "g", 5, JOURNAL, "seen", 1, 2, 2),
        ]
        assert start == Start("auth", "g", 5, JOURNAL, "seen", 1, 2, 2)
        play.requests.answered(number, Started(3))
        assert await recording == 3

    run(test)


def test_a_delivery_keeps_its_number_until_it_is_answered() -> None:
    """With any publisher: it may be counted already. After the answer, the next one is another delivery."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed)
        entry, numbers = play.take(stream), []
        for is_owned, answer in ((False, 0), (True, 2), (True, 3)):
            recording = asyncio.ensure_future(followed.record_delivery(stream, entry, 2))
            await asyncio.sleep(0)
            number, _ = play.side.said[-1]
            numbers.append(number)
            play.requests.answered(number, Started(answer)) if is_owned else play.requests._requests.close()
            assert await recording == answer
        assert numbers[0] == numbers[1] != numbers[2]

    run(test)


@pytest.mark.parametrize(
    ("answer", "expected"), [(Acked([]), True), (Acked([1]), False), (Error("busy", "later", False, {}), False)]
)
def test_dead_letters_are_stored_by_the_publisher(answer: AnyMessage, expected: bool) -> None:
    """The answer says whether it is stored; it is not if another member has the partition now."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed)
        keeping = asyncio.ensure_future(followed.dead_letter(stream, play.take(stream), 5, "e" * 20_000))
        await asyncio.sleep(0)
        assert play.side.said[-1][1] == Reject("auth", "g", 5, JOURNAL, "seen", 1, 1, 5, "e" * 10_000)
        play.answer(answer)
        assert await keeping is expected

    run(test)


def test_without_a_group_no_message_is_sent() -> None:
    """Handled events count as acknowledged, deliveries are counted here, and nothing is released."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed)
        entry = play.take(stream)
        assert await followed.record_delivery(stream, entry, 2) == 2
        assert await followed.dead_letter(stream, entry, 5, "no luck")
        play.queue.done(stream, entry)
        assert not stream.is_ack_due
        followed.release(frozenset({1}))
        assert play.side.heard() == []
        followed.streams[stream.key] = stream
        followed.drop_all()
        assert play.queue.positions == {stream.key: 1}

    run(test, group="")


def test_positions_without_a_group_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals come and go as long as a listener runs: the oldest are forgotten."""
    monkeypatch.setattr(module, "MAX_POSITIONS", 2)

    async def test(play: Play, followed: FollowedStreams) -> None:
        for partitions in ((1, 2, 3), (2,), (4,)):
            for partition in partitions:
                play.follow(followed, partition, cursor=9)
            followed.drop_all()
        assert play.queue.positions == {(JOURNAL, "seen", 2): 9, (JOURNAL, "seen", 4): 9}

    run(test, group="")


def test_returned_events_are_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a moment, if the stream is still ours."""
    monkeypatch.setattr(module, "FETCH_AGAIN_AFTER", 0.0)

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed)
        play.take(stream)
        play.queue.put_back(stream)
        heard = await wait_until_async(play.side.heard)
        assert heard == [Fetch("auth", JOURNAL, "seen", 1, 0, module.PAGE, 2**20)]

    run(test)


def test_partitions_are_released_after_the_event_in_progress() -> None:
    """Until then they count as ours; handled events are acknowledged first."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed)
        entry = play.take(stream)
        play.assignment.change(Assign("auth", "g", 6, [2], ["seen"], 0.0, 0.0))
        followed.release(frozenset({1}))
        assert (play.side.heard(), followed.partitions, followed.owns(stream)) == ([], [1, 2], False)
        play.queue.done(stream, entry)
        followed.after_turn(stream)
        assert play.side.heard() == [Ack("auth", "g", 6, [[JOURNAL, "seen", 1, 1]]), Release("auth", "g", 6, [1])]
        assert followed.partitions == [2]

    run(test)


def test_idle_partitions_are_released_at_once() -> None:
    """Their waiting events are dropped: the new owner gets them from the journal."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed)
        stream.live([[1, 0, b"x"]])
        play.queue.ready(stream, 1, 1)
        followed.release(frozenset({1}))
        assert (play.side.heard(), play.queue.backlog) == ([Release("auth", "g", 5, [1])], 0)

    run(test)


@pytest.mark.parametrize("is_revoked_again", [False, True])
def test_a_partition_that_is_ours_again_while_its_event_is_in_progress(is_revoked_again: bool) -> None:
    """The event is not delivered a second time, and nobody else gets the partition before it is done."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed)
        entry = play.take(stream)
        play.assignment.change(Assign("auth", "g", 6, [2], ["seen"], 0.0, 0.0))
        followed.release(frozenset({1}))
        play.assignment.change(Assign("auth", "g", 7, [1, 2], ["seen"], 0.0, 0.0))
        again = play.follow(followed)
        again.live([[1, 0, b"x"], [2, 1, b"y"]])
        play.queue.ready(again, 2, 2)
        if is_revoked_again:
            play.assignment.change(Assign("auth", "g", 8, [2], ["seen"], 0.0, 0.0))
            followed.release(frozenset({1}))
        assert play.side.heard() == []
        play.queue.done(stream, entry)
        followed.after_turn(stream)
        if is_revoked_again:
            assert play.side.heard()[-1] == Release("auth", "g", 8, [1])
        else:
            assert ([each[0] for each in again.ready], again.handled) == ([2], 1)
            assert Release not in map(type, play.side.heard())

    run(test)


def test_events_of_best_effort_while_their_partition_was_not_ours() -> None:
    """Others were to get them: they do not count as missed once the last one of before is done."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        key = ("", "seen", 1)
        stream = followed.add_live(key)
        entry = play.take(stream)
        followed.release(frozenset({1}))
        again = followed.add_live(key)
        play.queue.done(stream, entry)
        followed.after_turn(stream)
        assert again.live([[9, 8, b"x"]]) == 1
        assert again.missed == 0

    run(test)


def test_positions_at_a_lost_publisher_are_remembered() -> None:
    """The next publisher of its journal is told, and skips handled events; not for best effort."""

    async def test(play: Play, first: FollowedStreams) -> None:
        lost = play.follow(first)
        entry = play.take(lost)
        live = LiveStream(("", "loose", 1), first)
        first.streams[live.key] = live
        assert first.live_streams == [live]
        second = play.connect()
        other = play.follow(second)
        other.live([[1, 0, b"x"], [2, 1, b"y"]])
        play.queue.ready(other, 2, 2)
        first.drop_all()
        first.close()
        assert play.context.records.positions_of("auth", "g") == []  # it is still being handled
        play.queue.done(lost, entry)
        first.after_turn(lost)
        assert play.context.records.positions_of("auth", "g") == [[JOURNAL, "seen", 1, 1]]
        assert ([each[0] for each in other.ready], play.queue.sources) == ([2], {second})

    run(test)


def test_unknown_members_join_again() -> None:
    """An acknowledgement that is answered with an error leads to a new membership."""

    async def test(play: Play, followed: FollowedStreams) -> None:
        stream = play.follow(followed)
        play.queue.done(stream, play.take(stream))
        recording = asyncio.ensure_future(followed.record_delivery(stream, play.take(stream), 1))
        await asyncio.sleep(0)
        number, ack = play.side.said[0]
        assert isinstance(ack, Ack)
        play.requests.answered(number, Error("not_member", "who are you?", False, {}))
        assert play.refusals == 1
        recording.cancel()

    run(test)
