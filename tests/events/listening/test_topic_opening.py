"""How a listener begins to follow its topics: subscribe first, then request their heads once that is in force."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from helpers.listeners import listener
from helpers.publisher_side import JOURNAL, PublisherSide, consumer_context
from lightbus.events.listening.ack_collector import AckCollector
from lightbus.events.listening.assignment import Assignment
from lightbus.events.listening.followed_streams import FollowedStreams
from lightbus.events.listening.listener_queue import ListenerQueue
from lightbus.events.listening.stream_intake import StreamIntake
from lightbus.events.listening.topic_opening import TopicOpening
from lightbus.events.listening.topic_subscriptions import TopicSubscriptions
from lightbus.wire import envelope
from lightbus.wire.envelope import PARTITIONS, AnyMessage, Assign, Error, Marker, Open, Streams


class Play:
    """One listener at one publisher, up to its membership."""

    def __init__(self) -> None:
        self.side = PublisherSide()
        self.requests = self.side.requests()
        context, queue = consumer_context(), ListenerQueue(listener(lambda: None))
        socket: Any = self.side
        self.topics = TopicSubscriptions(socket, self.requests)
        self.assignment = Assignment("auth", "g", None)
        acks = AckCollector(self.requests, context.counts)
        followed = FollowedStreams(self.assignment, queue, self.requests, acks, context, lambda: None)
        self.streams = followed.streams
        intake = StreamIntake(self.assignment, followed, queue, self.requests, context)
        self.completed = 0
        self.refused: list[int] = []
        self.opening = TopicOpening(
            self.assignment, intake, self.requests, self.topics, self._complete, self.refused.append
        )

    def _complete(self) -> None:
        self.completed += 1

    def assign(self, *partitions: int, generation: int = 1) -> None:
        """Assign partitions, and follow them."""
        _, gone = self.assignment.change(Assign("auth", "g", generation, [*partitions], ["seen"], 0.0, 0.0))
        self.opening.leave(gone)
        self.opening.follow()

    @property
    def subscribed(self) -> list[bytes]:
        """The subscribed topics of events."""
        return sorted(each for each in self.side.prefixes if not envelope.is_marker_topic(each))

    def mark(self) -> None:
        """Let all subscriptions be in force."""
        for topic in [each for each in self.side.prefixes if envelope.is_marker_topic(each)]:
            self.topics.on_marker(topic, Marker("", 0))

    def answer(self, message: AnyMessage) -> None:
        """Answer the last request."""
        number, _ = self.side.said[-1]
        self.side.said.clear()
        self.requests.answered(number, message)


def topic(partition: int) -> bytes:
    return envelope.event_topic("auth", "seen", partition)


def standing(*partitions: int) -> Streams:
    return Streams("auth", "g", 1, [*partitions], [[JOURNAL, "seen", each, 4, 4, 0] for each in partitions])


def run(test: Callable[[Play], Awaitable[None]]) -> None:
    async def main() -> None:
        play = Play()
        await test(play)
        play.requests.close()

    asyncio.run(main())


def test_topics_are_followed_step_by_step() -> None:
    """No request before the subscriptions are in force, and the opening is complete only after the answer."""

    async def test(play: Play) -> None:
        play.assign(1, 2)
        assert (play.subscribed, play.side.said) == ([topic(1), topic(2)], [])
        play.mark()
        assert play.side.said[0][1] == Open("auth", "g", 1, [1, 2], ["seen"], "$", 2**20)
        assert play.completed == 0
        play.answer(standing(1, 2))
        assert (play.completed, play.assignment.followed) == (1, {("seen", 1), ("seen", 2)})
        assert {key: stream.handled for key, stream in play.streams.items()} == {
            (JOURNAL, "seen", 1): 4,
            (JOURNAL, "seen", 2): 4,
        }

    run(test)


def test_topics_that_do_not_fit_in_an_answer_are_requested_again() -> None:
    """Until every assigned topic is followed."""

    async def test(play: Play) -> None:
        play.assign(1, 2)
        play.mark()
        play.answer(standing(1))
        assert play.completed == 0
        play.mark()
        assert play.side.said[-1][1] == Open("auth", "g", 1, [2], ["seen"], "$", 2**20)
        play.answer(standing(2))
        assert play.completed == 1

    run(test)


def test_all_partitions_are_one_subscription() -> None:
    """The publisher then filters by one prefix, instead of by sixteen."""

    async def test(play: Play) -> None:
        play.assign(*range(PARTITIONS))
        assert play.subscribed == [envelope.subscription("auth", "seen")]
        play.assign(*range(PARTITIONS - 1), generation=2)
        assert play.subscribed == sorted(topic(each) for each in range(PARTITIONS - 1))

    run(test)


def test_an_answer_about_revoked_partitions_is_ignored() -> None:
    """Even if they were assigned again by then: that is another attempt, with its own request."""

    async def test(play: Play) -> None:
        play.assign(1)
        play.mark()
        [(number, _)] = play.side.said
        play.assign(generation=2)
        play.assign(1, generation=3)
        play.requests.answered(number, standing(1))
        assert play.assignment.followed == set()
        play.mark()
        play.answer(standing(1))
        assert play.assignment.followed == {("seen", 1)}

    run(test)


def test_a_publisher_that_refuses() -> None:
    """The membership is told, with the generation that the refusal is about."""

    async def test(play: Play) -> None:
        play.assign(1, generation=7)
        play.mark()
        play.answer(Error("not_member", "who are you?", False, {}))
        assert (play.refused, play.completed) == ([7], 0)

    run(test)


def test_no_subscription_remains_at_the_end() -> None:
    """No topic, and no pending marker that would lead to a request."""

    async def test(play: Play) -> None:
        play.assign(1, 2)
        play.assignment.clear()
        play.opening.clear()
        play.mark()
        assert (play.subscribed, play.side.said) == ([], [])

    run(test)
