"""The connecting sockets in memory: connections, waiting frames, and use in a plain thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus.adapters.memory import network as network_module
from lightbus.adapters.memory.bound_sockets import MemoryPublisher, MemoryRouter
from lightbus.adapters.memory.connecting_sockets import MemoryBlockingDealer, MemoryDealer, MemorySubscriber
from lightbus.adapters.memory.network import MemoryNetwork
from lightbus.ports.transport import LinkState

MOST = 10_000


class Bench:
    """A network, and sockets that are closed with it."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.received: list[tuple[bytes, bytes]] = []
        self.states: list[LinkState] = []
        self.sockets: list[Any] = []

    def router(self) -> MemoryRouter:
        """Return a socket that is bound."""
        router = MemoryRouter(self.network, MOST, lambda *message: self.received.append(message))
        router.bind("here")
        self.sockets.append(router)
        return router

    def dealer(self, answers: list[bytes], *, is_link: bool = False) -> MemoryDealer:
        """Return a connected dealer; as a link it reports its states."""
        dealer = MemoryDealer(self.network, MOST, "here", answers.append, self.states.append if is_link else None)
        self.sockets.append(dealer)
        return dealer

    def frames(self) -> list[bytes]:
        """Return what the router received."""
        return [frame for _, frame in self.received]


def bench(test: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    """Run a test; afterwards everything is closed."""

    async def main() -> None:
        made = Bench()
        try:
            await test(made)
        finally:
            for socket in made.sockets:
                socket.close()

    asyncio.run(main())


def test_frames_wait_for_a_connection() -> None:
    """Those of `send_later`, in order; `send` refuses."""

    async def test(made: Bench) -> None:
        sent: list[str] = []
        dealer = made.dealer([])
        assert not dealer.send(b"now")
        dealer.send_later(b"one", lambda: sent.append("one"))
        dealer.send_later(b"two")
        assert sent == []
        made.router()
        await wait_until_async(lambda: len(made.received) == 2)
        assert (made.frames(), sent) == ([b"one", b"two"], ["one"])
        assert dealer.send(b"now")

    bench(test)


def test_unwanted_frames_are_not_sent() -> None:
    """Each frame is checked when it could be sent."""

    async def test(made: Bench) -> None:
        dealer = made.dealer([])
        dealer.send_later(b"old", wanted=lambda: False)
        dealer.send_later(b"new", wanted=lambda: True)
        made.router()
        await wait_until_async(lambda: made.received)
        assert made.frames() == [b"new"]

    bench(test)


def test_frames_do_not_overtake_waiting_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the other end reads again, the waiting ones go first."""
    monkeypatch.setattr(network_module, "HIGH_WATER", 2)

    async def test(made: Bench) -> None:
        made.router()
        dealer = made.dealer([])
        assert [dealer.send(b"%d" % number) for number in range(3)] == [True, True, False]
        dealer.send_later(b"3")
        assert not dealer.send(b"4")
        await wait_until_async(lambda: len(made.received) == 3)
        assert made.frames() == [b"0", b"1", b"3"]

    bench(test)


def test_dealer_reconnects() -> None:
    """To the next socket bound to the endpoint."""

    async def test(made: Bench) -> None:
        first = made.router()
        dealer = made.dealer([])
        dealer.send(b"one")
        await wait_until_async(lambda: made.received)
        first.close()
        assert not dealer.send(b"into nothing")
        made.router()
        assert dealer.send(b"two")
        await wait_until_async(lambda: len(made.received) == 2)
        assert made.frames() == [b"one", b"two"]

    bench(test)


def test_a_link_connects_once() -> None:
    """It reports that it is connected, and its end; it does not connect to a later socket."""

    async def test(made: Bench) -> None:
        first, dealer = made.router(), made.dealer([], is_link=True)
        await wait_until_async(lambda: len(made.states) == 2)
        first.close()
        await wait_until_async(lambda: len(made.states) == 3)
        assert made.states == [LinkState.REACHED, LinkState.CONNECTED, LinkState.DISCONNECTED]
        made.router()
        assert not dealer.send(b"x")

    bench(test)


def test_link_without_a_listener_is_refused() -> None:
    """At once, as at an address without a listener."""

    async def test(made: Bench) -> None:
        made.dealer([], is_link=True)
        await wait_until_async(lambda: made.states)
        assert made.states == [LinkState.REFUSED]

    bench(test)


def test_frames_arrive_before_the_disconnect() -> None:
    """A link reports its end after the last frame."""

    async def test(made: Bench) -> None:
        router, order = made.router(), list[object]()
        dealer = MemoryDealer(made.network, MOST, "here", order.append, order.append)
        made.sockets.append(dealer)
        dealer.send(b"x")
        await wait_until_async(lambda: made.received)
        router.send(made.received[0][0], b"last")
        router.close()
        await wait_until_async(lambda: LinkState.DISCONNECTED in order)
        assert order == [LinkState.REACHED, LinkState.CONNECTED, b"last", LinkState.DISCONNECTED]

    bench(test)


# Subscribers


def test_subscriptions_are_repeated_after_a_reconnect() -> None:
    """They belong to the subscriber, not to the connection; a prefix subscribed twice is sent once."""

    async def test(made: Bench) -> None:
        told: list[tuple[bytes, bool]] = []
        frames: list[bytes] = []

        def publisher() -> MemoryPublisher:
            bound = MemoryPublisher(made.network, MOST, lambda *each: told.append(each))
            bound.bind("here")
            made.sockets.append(bound)
            return bound

        subscriber = MemorySubscriber(made.network, MOST, "here", frames.append)
        made.sockets.append(subscriber)
        for prefix in (b"a", b"b", b"a"):
            subscriber.subscribe(prefix)
        first = publisher()
        await wait_until_async(lambda: len(told) == 2)
        subscriber.unsubscribe(b"a")  # subscribed twice, unsubscribed once
        subscriber.unsubscribe(b"b")
        await wait_until_async(lambda: len(told) == 3)
        first.close()
        told.clear()
        second = publisher()
        await wait_until_async(lambda: told)
        assert told == [(b"a", True)]
        second.send(b"abc")
        await wait_until_async(lambda: frames)

    bench(test)


def test_a_paused_subscriber_reads_nothing() -> None:
    """Messages are read when it resumes."""

    async def test(made: Bench) -> None:
        told: list[bytes] = []
        frames: list[bytes] = []
        publisher = MemoryPublisher(made.network, MOST, lambda prefix, subscribed: told.append(prefix))
        publisher.bind("here")
        subscriber = MemorySubscriber(made.network, MOST, "here", frames.append)
        made.sockets += [publisher, subscriber]
        subscriber.subscribe(b"")
        await wait_until_async(lambda: told)
        subscriber.pause()
        publisher.send(b"x")
        for _ in range(10):
            await asyncio.sleep(0)
        assert frames == []
        subscriber.resume()
        await wait_until_async(lambda: frames)

    bench(test)


# Blocking sockets


def test_blocking_dealer_sends_and_receives() -> None:
    """Without a loop; it reports whether it ever sent."""

    async def test(made: Bench) -> None:
        router = made.router()
        dealer = MemoryBlockingDealer(made.network, MOST, "here")
        made.sockets.append(dealer)
        assert not dealer.was_used
        assert await asyncio.to_thread(dealer.send, b"x")
        assert dealer.was_used
        await wait_until_async(lambda: made.received)
        router.send(made.received[0][0], b"answer")
        assert await asyncio.to_thread(dealer.receive, 10.0) == b"answer"
        assert await asyncio.to_thread(dealer.receive, 0.0) is None

    bench(test)


def test_blocking_dealer_without_a_listener() -> None:
    """A receive is short, so that the caller can check the peer."""
    dealer = MemoryBlockingDealer(MemoryNetwork(), MOST, "nowhere")
    assert not dealer.send(b"x")
    assert not dealer.was_used
    assert dealer.receive(60.0) is None
    dealer.close()


def test_a_blocking_dealer_is_woken_by_its_answer() -> None:
    """From any thread."""
    network, received = MemoryNetwork(), threading.Event()

    async def serve(stop: asyncio.Event) -> None:
        def answer(routing_id: bytes, frame: bytes) -> None:
            router.send(routing_id, frame + b"!")

        router = MemoryRouter(network, MOST, answer)
        router.bind("here")
        received.set()
        await stop.wait()
        router.close()

    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(stop)))
    thread.start()
    received.wait()
    dealer = MemoryBlockingDealer(network, MOST, "here")
    until = time.monotonic() + 60
    assert dealer.send(b"x")
    while (answer := dealer.receive(1.0)) is None and time.monotonic() < until:
        pass
    assert answer == b"x!"
    dealer.close()
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()
