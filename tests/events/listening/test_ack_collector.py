"""Handled events are acknowledged together, again if the acknowledgement is lost, and to the right publisher."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.publisher_side import JOURNAL, PublisherSide
from lightbus.core.streams import UNCONFIRMED, Stream
from lightbus.events.listening import requests as requests_module
from lightbus.events.listening.ack_collector import AckCollector
from lightbus.wire.envelope import Ack, Acked, AnyMessage, Error


class Owner:
    """The streams of a listener."""

    def __init__(self) -> None:
        self.going_on: list[tuple[int, int]] = []
        self.refusals = 0

    def ack_message(self, positions: list[Any]) -> Ack:
        return Ack("auth", "g", 1, positions)

    def give_turn(self, stream: Stream) -> None:
        self.going_on.append((stream.key[2], stream.handled))

    def not_a_member(self) -> None:
        self.refusals += 1


class Play:
    def __init__(self) -> None:
        self.side = PublisherSide()
        self.requests = self.side.requests()
        self.counts: Counter[str] = Counter()
        self.acks = AckCollector(self.requests, self.counts)
        self.owner = Owner()

    def stream(self, partition: int = 0) -> Stream:
        return Stream((JOURNAL, "seen", partition), self.owner, cursor=0)

    def handle(self, stream: Stream, count: int = 1) -> None:
        """Let the next events of a stream be handled."""
        for _ in range(count):
            sequence = stream.position + 1
            assert stream.live([[sequence, stream.position, b"x"]]) == 1
            entry = stream.take()
            assert entry is not None
            stream.done(entry)

    def answer(self, message: AnyMessage) -> None:
        [(number, _)] = self.side.said
        self.side.said.clear()
        assert self.requests.answered(number, message)


def run(test: Callable[[Play], Awaitable[None]]) -> None:
    async def main() -> None:
        play = Play()
        await test(play)
        play.acks.close()
        play.requests.close()

    asyncio.run(main())


def test_streams_are_acknowledged_together() -> None:
    """After a moment, up to the last handled event of each; a stream without newly handled events is left out."""

    async def test(play: Play) -> None:
        one, two, idle = play.stream(1), play.stream(2), play.stream(3)
        for stream in (one, two):
            play.handle(stream)
            play.acks.add(stream)
        play.acks.add(idle)
        play.handle(one)
        await wait_until_async(lambda: play.side.said)
        [(_, message)] = play.side.said
        assert isinstance(message, Ack)
        assert sorted(message.positions) == [[JOURNAL, "seen", 1, 2], [JOURNAL, "seen", 2, 1]]
        play.answer(Acked([]))
        assert sorted(play.owner.going_on) == [(1, 2), (2, 1)]
        assert (one.confirmed, two.confirmed) == (2, 1)

    run(test)


def test_many_events_are_acknowledged_at_once() -> None:
    """Otherwise the stream would have to stop until it is confirmed."""

    async def test(play: Play) -> None:
        stream = play.stream()
        play.handle(stream, UNCONFIRMED // 2 + 1)
        play.acks.add(stream)
        assert len(play.side.said) == 1

    run(test)


def test_half_of_the_unconfirmed_events_are_acknowledged_at_once() -> None:
    """If more events wait; a stream without more may take its time."""

    async def test(play: Play) -> None:
        stream = play.stream()
        play.handle(stream, UNCONFIRMED // 2)
        play.acks.add(stream)
        assert not play.side.said
        stream.live([[stream.position + 1, stream.position, b"x"]])
        play.acks.add(stream)
        assert len(play.side.said) == 1

    run(test)


def test_refused_partitions_are_reported_again() -> None:
    """They are counted, and not confirmed: if they are still ours, the next acknowledgement includes them."""

    async def test(play: Play) -> None:
        one, two = play.stream(1), play.stream(2)
        for stream in (one, two):
            play.handle(stream)
            play.acks.add(stream)
        play.acks.flush()
        play.answer(Acked([2]))
        assert (play.owner.going_on, play.counts) == ([(1, 1)], {"refused_acks": 1})
        assert (one.is_ack_due, two.is_ack_due) == (False, True)
        assert (one.confirmed, two.confirmed) == (1, 0)

    run(test)


def test_a_publisher_that_does_not_know_the_member() -> None:
    """Its owner is notified, and all positions must be reported again."""

    async def test(play: Play) -> None:
        stream = play.stream()
        play.handle(stream)
        play.acks.add(stream)
        play.acks.flush()
        play.answer(Error("not_member", "who are you?", False, {}))
        assert (play.owner.refusals, play.owner.going_on, stream.is_ack_due) == (1, [], True)

    run(test)


def test_a_lost_acknowledgement_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon: the stream may be blocked until then."""
    monkeypatch.setattr(requests_module, "URGENT_RETRY_AFTER", 0.001)

    async def test(play: Play) -> None:
        stream = play.stream()
        play.handle(stream)
        play.acks.add(stream)
        play.acks.flush()
        await wait_until_async(lambda: len(play.side.said) >= 2)
        assert len({number for number, _ in play.side.said}) == 1

    run(test)


def test_nothing_is_acknowledged_after_the_end() -> None:
    """No timer remains, and events handled later are reported to the next publisher that serves the journal."""

    async def test(play: Play) -> None:
        stream = play.stream()
        play.handle(stream)
        play.acks.add(stream)
        play.acks.close()
        play.requests.close()
        play.acks.flush()
        assert (play.side.said, stream.is_ack_due) == ([], True)

    run(test)
