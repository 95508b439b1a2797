"""The bound sockets in memory: answers, and subscriptions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus.adapters.memory import network as network_module
from lightbus.adapters.memory.bound_sockets import MemoryPublisher, MemoryRouter
from lightbus.adapters.memory.connecting_sockets import MemoryDealer, MemorySubscriber
from lightbus.adapters.memory.network import MemoryNetwork
from lightbus.exceptions import TransportError

MOST = 10_000


class Bench:
    """A router and a publisher, and the sockets connected to them."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.received: list[tuple[bytes, bytes]] = []
        self.told: list[tuple[bytes, bool]] = []
        self.router = MemoryRouter(self.network, MOST, lambda *message: self.received.append(message))
        self.publisher = MemoryPublisher(self.network, MOST, lambda *told: self.told.append(told))
        self.router.bind("calls")
        self.publisher.bind("events")
        self.others: list[MemoryDealer | MemorySubscriber] = []

    def dealer(self, answers: list[bytes]) -> MemoryDealer:
        """Return a socket that calls."""
        dealer = MemoryDealer(self.network, MOST, "calls", answers.append)
        self.others.append(dealer)
        return dealer

    def subscriber(self, frames: list[bytes], *prefixes: bytes) -> MemorySubscriber:
        """Return a socket that listens."""
        subscriber = MemorySubscriber(self.network, MOST, "events", frames.append)
        self.others.append(subscriber)
        for prefix in prefixes:
            subscriber.subscribe(prefix)
        return subscriber

    async def heard(self, *told: tuple[bytes, bool]) -> None:
        """Wait until the publisher has reported exactly these subscriptions."""
        await wait_until_async(lambda: len(self.told) >= len(told), what=f"told {told}: {self.told}")
        assert self.told == [*told]

    def close(self) -> None:
        """Close everything."""
        for socket in (*self.others, self.router, self.publisher):
            socket.close()


def bench(test: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    """Run a test with sockets, and close them afterwards."""

    async def main() -> None:
        made = Bench()
        try:
            await test(made)
        finally:
            made.close()

    asyncio.run(main())


def test_answers_follow_routing_ids() -> None:
    """No peer gets the answer of another."""

    async def test(made: Bench) -> None:
        answers: list[list[bytes]] = [[], []]
        for number, dealer in enumerate([made.dealer(answers[0]), made.dealer(answers[1])]):
            dealer.send(b"%d" % number)
        await wait_until_async(lambda: len(made.received) == 2)
        assert len({routing_id for routing_id, _ in made.received}) == 2
        for routing_id, frame in made.received:
            assert made.router.send(routing_id, b"to " + frame)
        await wait_until_async(lambda: all(answers))
        assert answers == [[b"to 0"], [b"to 1"]]

    bench(test)


def test_reply_to_a_gone_peer_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, and not logged."""

    async def test(made: Bench) -> None:
        dealer = made.dealer([])
        dealer.send(b"x")
        await wait_until_async(lambda: made.received)
        dealer.close()
        assert not made.router.send(made.received[0][0], b"late")
        assert not made.router.send(b"nobody", b"late")
        assert made.router.dropped == 2

    with caplog.at_level(logging.DEBUG):
        bench(test)
    assert "dropped" not in caplog.text


def test_reply_to_a_peer_that_does_not_read_is_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That is logged, ever more rarely."""
    monkeypatch.setattr(network_module, "HIGH_WATER", 2)

    async def test(made: Bench) -> None:
        made.dealer([]).send(b"x")
        await wait_until_async(lambda: made.received)
        taken = [made.router.send(made.received[0][0], b"%d" % number) for number in range(12)]  # in one turn
        assert taken == [True] * 2 + [False] * 10
        assert made.router.dropped == 10

    bench(test)
    assert [record.args for record in caplog.records] == [("A reply", number) for number in (1, 2, 4, 8)]


def test_one_endpoint_has_one_socket() -> None:
    """A second one is refused; after `unbind` the endpoint is free, and existing connections stay."""

    async def test(made: Bench) -> None:
        made.dealer([]).send(b"x")
        await wait_until_async(lambda: made.received)
        other = MemoryRouter(made.network, MOST, lambda *message: None)
        with pytest.raises(TransportError, match="Cannot listen at calls: another socket is bound there"):
            other.bind("calls")
        made.router.unbind("calls")
        assert other.bind("calls") == "calls"
        assert made.router.send(made.received[0][0], b"still here")
        other.close()
        assert not made.network.is_bound("calls")

    bench(test)


def test_frames_go_to_matching_prefixes() -> None:
    """Once each, even if several prefixes match."""

    async def test(made: Bench) -> None:
        one: list[bytes] = []
        two: list[bytes] = []
        made.subscriber(one, b"a", b"ab")
        made.subscriber(two, b"b")
        await wait_until_async(lambda: len(made.told) == 3)
        for frame in (b"abc", b"b", b"c", b"a"):
            made.publisher.send(frame)
        await wait_until_async(lambda: (len(one), len(two)) == (2, 1))
        assert (one, two) == ([b"abc", b"a"], [b"b"])

    bench(test)


def test_subscriptions_are_reported() -> None:
    """Each new one, and the end of the last one for a prefix: by unsubscribing, or with its connection."""

    async def test(made: Bench) -> None:
        one, two = made.subscriber([], b"a"), made.subscriber([], b"a", b"b")
        await made.heard((b"a", True), (b"a", True), (b"b", True))
        made.told.clear()
        one.unsubscribe(b"a")
        two.unsubscribe(b"b")
        await made.heard((b"b", False))
        made.told.clear()
        two.close()
        await made.heard((b"a", False))

    bench(test)


def test_unknown_unsubscription_is_ignored() -> None:
    """Unsubscribing another prefix ends no subscription."""

    async def test(made: Bench) -> None:
        one, two = made.subscriber([], b"a"), made.subscriber([])
        await made.heard((b"a", True))
        two._tell(b"a", subscribed=False)
        two.subscribe(b"b")  # sent after it: once this one arrives, that one was read
        await made.heard((b"a", True), (b"b", True))
        assert one is not two

    bench(test)
