"""The contract of transports: every implementation passes it, also users' own."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Protocol

import pytest

from helpers import MS, wait_until, wait_until_async
from helpers.own import examine, made_by
from lightbus.adapters.host.places import Places
from lightbus.adapters.memory.network import MemoryNetwork
from lightbus.adapters.memory.transport import MemoryTransport
from lightbus.adapters.zmq.security import HostSecurity, InsecureSecurity
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.config.settings import NetworkSettings
from lightbus.exceptions import TransportError
from lightbus.ports.transport import (
    Addressing,
    DealerSocket,
    Endpoint,
    LinkState,
    ListeningSocket,
    SubscriberSocket,
    Transport,
)
from lightbus.wire.announcement import Announcement

INSTANCE = "0123456789abcdef"
LARGE = 1024 * 1024

MOST_UNREAD = 512 * LARGE
"""Bytes for one connection, in sockets and beside them, that no transport keeps while nobody reads them."""


class Make(Protocol):
    """Makes transports that reach each other."""

    def __call__(self, max_message_size: int = LARGE) -> Transport:
        """Return one more, as of another process."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests for all implementations, or the named one."""
    examine(metafunc, "make", ["memory", "ipc", "tcp"])


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return what makes transports of one bus; they are closed in the end. One's own finds an empty directory."""
    made: list[Transport] = []
    network = MemoryNetwork()
    with tempfile.TemporaryDirectory() as directory:  # a short path: socket paths have a maximum length

        def make(max_message_size: int = LARGE) -> Transport:
            if request.param == "memory":
                made.append(MemoryTransport(network, max_message_size=max_message_size))
            elif request.param in ("ipc", "tcp"):
                security = (
                    HostSecurity(places=Places.only(Path(directory)))
                    if request.param == "ipc"
                    else InsecureSecurity(bus="b", addresses=("127.0.0.1",))
                )
                made.append(ZmqTransport(security, max_message_size=max_message_size))
            else:
                monkeypatch.chdir(tmp_path)
                made.append(made_by(request.param)("b", NetworkSettings(max_message_size=max_message_size)))
            return made[-1]

        yield make
        for transport in made:
            transport.close()


def _some(heard: Sequence[object]) -> str:
    """Return how many there are, and the first and the last of them."""
    shown = [*heard[:3], *heard[3:][-2:]]
    return f"({len(heard)}) " + ", ".join(shorten(repr(each), 60, placeholder="...") for each in shown)


class Worker:
    """A worker's two sockets, and what they heard."""

    def __init__(self, transport: Transport, *, echoes: bool = False) -> None:
        self.heard: list[tuple[bytes, bytes]] = []
        self.told: list[tuple[bytes, bool]] = []
        self._echoes = echoes
        self.router = transport.router(self._on_message)
        self.publisher = transport.publisher(lambda prefix, subscribed: self.told.append((prefix, subscribed)))

    def listen(self, addressing: Addressing) -> Worker:
        """Bind where the addressing says."""
        self.pair = addressing.listen(INSTANCE, self.router, self.publisher)
        self.rpc, self.event = self.pair.endpoints.rpc, self.pair.endpoints.event
        return self

    async def listen_at(self, before: Worker) -> Worker:
        """Bind to the endpoint of another socket, once it is free."""
        self.rpc = await wait_until_async(partial(_bound, self.router, before.rpc))
        self.event = await wait_until_async(partial(_bound, self.publisher, before.event))
        return self

    def __repr__(self) -> str:
        """Return what it heard so far, for who waits for more."""
        return f"<Worker: frames {_some(self.frames)}, subscriptions {_some(self.told)}>"

    @property
    def frames(self) -> list[bytes]:
        return [frame for _, frame in self.heard]

    def close(self) -> None:
        """Close both."""
        self.router.close()
        self.publisher.close()

    def _on_message(self, routing_id: bytes, frame: bytes) -> None:
        self.heard.append((routing_id, frame))
        if self._echoes:
            self.router.send(routing_id, frame)


class Caller:
    """A dealer, and what it heard."""

    def __init__(self, transport: Transport, endpoint: Endpoint, *, is_link: bool = False) -> None:
        self.frames: list[bytes] = []
        self.states: list[LinkState] = []
        on_state = self.states.append if is_link else None
        self.dealer: DealerSocket = transport.dealer(endpoint, self.frames.append, on_state=on_state)
        assert self.states == []  # no callback before the call has returned the socket

    def __repr__(self) -> str:
        """Return what it heard so far, and what became of its connection, where it is a link."""
        states = ", ".join(state.name for state in self.states)
        return f"<Caller: frames {_some(self.frames)}, states [{states}]>"

    def say(self, frame: bytes) -> None:
        """Send it, now or once that is possible."""
        if not self.dealer.send(frame):
            self.dealer.send_later(frame)


class Reader:
    """A subscriber, and what it heard."""

    def __init__(self, transport: Transport, endpoint: Endpoint) -> None:
        self.frames: list[bytes] = []
        self.socket: SubscriberSocket = transport.subscriber(endpoint, self.frames.append)

    def __repr__(self) -> str:
        """Return what it heard so far."""
        return f"<Reader: frames {_some(self.frames)}>"


class Scene:
    """What a test uses; all of it is closed in the end."""

    def __init__(self, make: Make) -> None:
        self.make = make
        self.here, self.there = make(), make()
        self._open: list[Worker | DealerSocket | SubscriberSocket] = []

    def worker(self, transport: Transport | None = None, *, echoes: bool = False) -> Worker:
        """Return a worker that is bound."""
        transport = transport or self.there
        worker = Worker(transport, echoes=echoes)
        self._open.append(worker)
        return worker.listen(transport.addressing())

    async def replace(self, gone: Worker, *, echoes: bool = False) -> Worker:
        """Close a worker, and return another one in its place."""
        gone.close()
        worker = Worker(self.there, echoes=echoes)
        self._open.append(worker)
        return await worker.listen_at(gone)

    def caller(self, worker: Worker, *, is_link: bool = False) -> Caller:
        """Return a dealer connected to a worker's router."""
        caller = Caller(self.here, worker.rpc, is_link=is_link)
        self._open.append(caller.dealer)
        return caller

    async def gone(self) -> Worker:
        """Return a closed worker whose endpoints are certainly free."""
        worker = self.worker()
        worker.close()
        await self.refused(worker.rpc)
        return worker

    async def refused(self, endpoint: Endpoint) -> Caller:
        """Return a link that was refused, at an endpoint that may be about to close."""
        while True:
            caller = Caller(self.here, endpoint, is_link=True)
            self._open.append(caller.dealer)
            await wait_until_async(lambda caller=caller: set(caller.states) - {LinkState.REACHED})
            if caller.states == [LinkState.REFUSED]:
                return caller

    def reader(self, worker: Worker) -> Reader:
        """Return a subscriber connected to a worker's publisher."""
        reader = Reader(self.here, worker.event)
        self._open.append(reader.socket)
        return reader

    def close(self) -> None:
        """Close everything, even twice."""
        for each in self._open * 2:
            each.close()


def _bound(socket: ListeningSocket, endpoint: Endpoint) -> Endpoint:
    """Return the endpoint that a socket is bound to now; empty if another socket is bound."""
    with suppress(TransportError):
        return socket.bind(endpoint)
    return ""


@asynccontextmanager
async def playing(make: Make) -> AsyncIterator[Scene]:
    """Play a scene on the running loop."""
    scene = Scene(make)
    try:
        yield scene
    finally:
        scene.close()


def play(make: Make, scenario: Callable[[Scene], Awaitable[None]]) -> None:
    """Play a scene on a loop of its own."""

    async def main() -> None:
        async with playing(make) as scene:
            await scenario(scene)

    asyncio.run(main())


# Routers and dealers


def test_frames_go_both_ways_in_order(make: Make) -> None:
    """All frames arrive whole and in order, and so do the answers, each at its caller."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker(echoes=True)
        callers = [scene.caller(worker), scene.caller(worker)]
        sent = [[b"%d %d" % (who, number) for number in range(500)] for who in range(2)]
        for frames in zip(*sent, strict=True):
            for caller, frame in zip(callers, frames, strict=True):
                caller.say(frame)
        await wait_until_async(lambda: [len(caller.frames) for caller in callers] == [500, 500])
        assert [caller.frames for caller in callers] == sent
        assert len({routing_id for routing_id, _ in worker.heard}) == 2

    play(make, scenario)


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_frames_of_any_size(make: Make, size: int) -> None:
    """A frame may be empty, or large."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker(echoes=True)
        caller = scene.caller(worker)
        caller.say(b"x" * size)
        await wait_until_async(lambda: caller.frames == [b"x" * size])

    play(make, scenario)


def test_frames_wait_for_a_listener(make: Make) -> None:
    """They wait, unless they are no longer wanted, and are sent as soon as a socket is bound."""

    async def scenario(scene: Scene) -> None:
        gone = await scene.gone()
        caller, sent = scene.caller(gone), list[bytes]()
        assert not caller.dealer.send(b"now or never")
        for frame, wanted in [(b"one", True), (b"two", False), (b"three", True)]:
            caller.dealer.send_later(frame, lambda frame=frame: sent.append(frame), wanted=lambda wanted=wanted: wanted)
        assert not caller.dealer.send(b"others wait already")
        await asyncio.sleep(20 * MS)
        assert sent == []
        worker = await scene.replace(gone)
        await wait_until_async(lambda: worker.frames == [b"one", b"three"])
        assert sent == [b"one", b"three"]

    play(make, scenario)


def test_dealer_reconnects(make: Make) -> None:
    """If a worker left and another one took its endpoint, the dealer continues with that one."""

    async def scenario(scene: Scene) -> None:
        first = scene.worker()
        caller = scene.caller(first)
        caller.say(b"hello")
        await wait_until_async(lambda: first.frames == [b"hello"])
        second = await scene.replace(first, echoes=True)
        await wait_until_async(lambda: caller.say(b"again") or caller.frames)
        assert set(second.frames) == {b"again"}

    play(make, scenario)


def test_frames_beyond_the_queue_arrive(make: Make) -> None:
    """Frames sent while nobody reads are taken, or kept until there is room: all arrive, in order."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker()
        caller = scene.caller(worker)
        caller.say(b"hello")
        await wait_until_async(lambda: worker.frames == [b"hello"])
        frames = [b"%d" % number * 20 for number in range(30_000)]
        for frame in frames:  # nothing is read: this code does not yield to the loop
            caller.say(frame)
        await wait_until_async(lambda: len(worker.frames) == 1 + len(frames))
        assert worker.frames[1:] == frames
        await wait_until_async(lambda: caller.dealer.send(b"more"))

    play(make, scenario)


def test_answer_to_a_gone_caller_is_dropped(make: Make) -> None:
    """`send` returns False, and it is counted."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker()
        caller = scene.caller(worker)
        caller.say(b"hello")
        await wait_until_async(lambda: len(worker.heard) == 1)
        ((routing_id, _),) = worker.heard
        assert worker.router.dropped == 0
        caller.dealer.close()
        await wait_until_async(lambda: not worker.router.send(routing_id, b"who is there?"))
        assert worker.router.dropped == 1
        assert not worker.router.send(b"nobody", b"ever")
        assert worker.router.dropped == 2

    play(make, scenario)


def test_answers_to_a_caller_that_does_not_read(make: Make) -> None:
    """They are taken up to a bound, then dropped and counted, without waiting; others get answers all the time."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker(echoes=True)
        idle = scene.here.blocking_dealer(worker.rpc)
        await asyncio.to_thread(wait_until, lambda: idle.send(b"hello"))
        await wait_until_async(lambda: len(worker.heard) == 1)
        routing_id = worker.heard[0][0]
        caller, answer = scene.caller(worker), b"x" * LARGE
        sent = before = 0
        while not worker.router.dropped:
            worker.router.send(routing_id, answer)
            sent += 1
            # Without yielding to the loop: the caller's libzmq receives them as fast as it can.
            if (sent - before) * LARGE >= MOST_UNREAD:  # and on a busy machine it was as fast as we are
                assert sent * LARGE < 10 * MOST_UNREAD
                while idle.receive(0.0) is not None:
                    pass
                before = sent
        assert sent > 1
        caller.say(b"and me?")
        await wait_until_async(lambda: caller.frames == [b"and me?"])
        idle.close()

    play(make, scenario)


def test_answers_from_threads(make: Make) -> None:
    """Threads answer through the socket that a loop reads: all answers arrive, and new messages are read."""
    count, threads = 200, 4

    async def scenario(scene: Scene) -> None:
        worker = scene.worker()
        caller = scene.caller(worker)
        for number in range(count):
            caller.say(b"%d" % number)
        await wait_until_async(lambda: len(worker.heard) == count)
        routing_id = worker.heard[0][0]

        def answer(first: int) -> list[bool]:
            return [
                worker.router.send_from_thread(routing_id, b"%d" % number) for number in range(first, count, threads)
            ]

        with ThreadPoolExecutor(threads) as executor:
            answered = [executor.submit(answer, first) for first in range(threads)]
            for number in range(count):
                caller.say(b"more %d" % number)
                await asyncio.sleep(0)
            await wait_until_async(lambda: (len(caller.frames), len(worker.heard)) == (count, 2 * count))
        assert all(all(each.result()) for each in answered)
        assert sorted(map(int, caller.frames)) == list(range(count))
        worker.close()
        assert not worker.router.send_from_thread(routing_id, b"too late")

    play(make, scenario)


def test_too_large_frame_ends_the_connection(make: Make) -> None:
    """It does not arrive, and its sender loses the connection; others are not affected."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker(scene.make(10_000), echoes=True)
        harmless, careless = scene.caller(worker), scene.caller(worker, is_link=True)
        for caller in (harmless, careless):
            caller.say(b"hello")
        await wait_until_async(lambda: harmless.frames and careless.frames)
        careless.say(b"x" * 20_000)
        await wait_until_async(lambda: careless.states[-1] is LinkState.DISCONNECTED)
        harmless.say(b"x" * 10_000)
        await wait_until_async(lambda: len(harmless.frames) == 2)
        assert sorted(map(len, worker.frames)) == [5, 5, 10_000]

    play(make, scenario)


# Links


def test_link_reports_its_states(make: Make) -> None:
    """REACHED, CONNECTED, and its end."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker(echoes=True)
        caller = scene.caller(worker, is_link=True)
        caller.say(b"hello")
        await wait_until_async(lambda: caller.frames == [b"hello"])
        await wait_until_async(lambda: caller.states == [LinkState.REACHED, LinkState.CONNECTED])
        worker.close()
        await wait_until_async(lambda: len(caller.states) > 2)
        assert caller.states[2] is LinkState.DISCONNECTED

    play(make, scenario)


def test_link_without_a_listener_is_refused(make: Make) -> None:
    """It reports that, and does not try again: it does not connect to a later listener."""

    async def scenario(scene: Scene) -> None:
        gone = await scene.gone()
        caller = await scene.refused(gone.rpc)
        caller.say(b"hello")
        later, witness = await scene.replace(gone), scene.caller(gone)
        witness.say(b"witness")
        await wait_until_async(lambda: later.frames == [b"witness"])
        assert LinkState.CONNECTED not in caller.states

    play(make, scenario)


# Publishers and subscribers


def test_subscribed_messages_arrive(make: Make) -> None:
    """All messages with a subscribed prefix arrive after the publisher was told, in order; no others."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker()
        reader = scene.reader(worker)
        worker.publisher.send(b"a: nobody hears it")
        reader.socket.subscribe(b"a")
        reader.socket.subscribe(b"b\0")
        await wait_until_async(lambda: worker.told == [(b"a", True), (b"b\0", True)])
        for frame in (b"a1", b"b\x001", b"c1", b"b1", b"a", b"ab"):
            worker.publisher.send(frame)
        await wait_until_async(lambda: len(reader.frames) == 4)
        assert reader.frames == [b"a1", b"b\x001", b"a", b"ab"]

    play(make, scenario)


def test_subscriptions_are_reported(make: Make) -> None:
    """Those of each subscriber, and the end of a prefix when its last subscriber leaves."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker()
        readers = [scene.reader(worker), scene.reader(worker)]
        for count, reader in enumerate(readers, start=1):
            reader.socket.subscribe(b"a")
            await wait_until_async(lambda count=count: worker.told == [(b"a", True)] * count)
        readers[0].socket.subscribe(b"z")
        await wait_until_async(lambda: worker.told[2:] == [(b"z", True)])
        readers[0].socket.unsubscribe(b"a")
        readers[0].socket.unsubscribe(b"z")
        await wait_until_async(lambda: worker.told[3:] == [(b"z", False)])
        worker.publisher.send(b"a1")
        await wait_until_async(lambda: readers[1].frames == [b"a1"])
        assert readers[0].frames == []
        readers[1].socket.close()
        await wait_until_async(lambda: worker.told[4:] == [(b"a", False)])

    play(make, scenario)


def test_subscriptions_are_counted(make: Make) -> None:
    """A prefix subscribed twice ends after it was unsubscribed twice."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker()
        reader = scene.reader(worker)
        for _ in range(2):
            reader.socket.subscribe(b"a")
        reader.socket.unsubscribe(b"a")
        reader.socket.subscribe(b"z")
        await wait_until_async(lambda: worker.told[-1:] == [(b"z", True)])
        worker.publisher.send(b"a1")
        await wait_until_async(lambda: reader.frames == [b"a1"])
        reader.socket.unsubscribe(b"a")
        await wait_until_async(lambda: worker.told[-1:] == [(b"a", False)])

    play(make, scenario)


def test_subscriber_reconnects(make: Make) -> None:
    """A new publisher at the endpoint gets the subscriptions, and its messages arrive."""

    async def scenario(scene: Scene) -> None:
        first = scene.worker()
        reader = scene.reader(first)
        reader.socket.subscribe(b"a")
        await wait_until_async(lambda: first.told == [(b"a", True)])
        second = await scene.replace(first)
        await wait_until_async(lambda: second.told == [(b"a", True)])
        second.publisher.send(b"a1")
        await wait_until_async(lambda: reader.frames == [b"a1"])

    play(make, scenario)


def test_paused_subscriber_reads_on_request(make: Make) -> None:
    """Frames wait during a pause until `read`, and are read in order; then the pause continues."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker()
        reader = scene.reader(worker)
        reader.socket.subscribe(b"")
        await wait_until_async(lambda: worker.told)
        reader.socket.pause()
        reader.socket.read()
        for frames in ([b"1", b"2"], [b"3"]):
            before = [*reader.frames]
            for frame in frames:
                worker.publisher.send(frame)
            await asyncio.sleep(50 * MS)  # time for frames that must not arrive
            assert reader.frames == before
            await wait_until_async(lambda wanted=[*before, *frames]: reader.socket.read() or reader.frames == wanted)
        reader.socket.resume()
        worker.publisher.send(b"4")
        await wait_until_async(lambda: reader.frames == [b"1", b"2", b"3", b"4"])
        reader.socket.close()
        reader.socket.read()

    play(make, scenario)


def test_slow_subscriber_alone_misses_messages(make: Make) -> None:
    """Nobody waits for a subscriber that does not read: it misses some, and continues in order when it reads."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker()
        quick, slow = scene.reader(worker), scene.reader(worker)
        for reader in (quick, slow):
            reader.socket.subscribe(b"")
        await wait_until_async(lambda: len(worker.told) == 2)
        slow.socket.pause()
        frames = [b"%09d" % number * 100 for number in range(30_000)]
        for number, frame in enumerate(frames, start=1):
            worker.publisher.send(frame)
            if number % 250 == 0:
                await wait_until_async(lambda number=number: len(quick.frames) == number)
        assert quick.frames == frames
        slow.socket.resume()
        await wait_until_async(lambda: worker.publisher.send(b"end") or slow.frames[-1:] == [b"end"])
        read = [frame for frame in slow.frames if frame != b"end"]
        assert read == sorted(read)
        assert frames[0] in read
        assert len(read) < len(frames)

    play(make, scenario)


# Blocking sockets


def test_blocking_dealer_sends_waits_and_times_out(make: Make) -> None:
    """In a plain thread, repeatedly; without an answer it returns in time."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker(echoes=True)

        def call() -> list[bytes | None]:
            dealer = scene.here.blocking_dealer(worker.rpc)
            assert not dealer.was_used
            heard: list[bytes | None] = []
            for frame in (b"one", b"two"):
                wait_until(lambda frame=frame: dealer.send(frame))
                heard.append(wait_until(lambda: dealer.receive(5.0)))
            assert dealer.was_used
            assert dealer.is_empty()
            assert dealer.send(b"three")
            scene.here.look(0.0)
            wait_until(lambda: not dealer.is_empty())
            assert dealer.receive(5.0) == b"three"
            heard.append(dealer.receive(1 * MS))
            dealer.close()
            dealer.close()
            return heard

        assert await asyncio.to_thread(call) == [b"one", b"two", None]
        assert worker.frames == [b"one", b"two", b"three"]

    play(make, scenario)


def test_blocking_dealer_without_a_listener(make: Make) -> None:
    """`send` returns False, and it was not used."""

    async def scenario(scene: Scene) -> None:
        gone = await scene.gone()

        def call() -> tuple[bool, bool]:
            dealer = scene.here.blocking_dealer(gone.rpc)
            sent = dealer.send(b"hello")
            dealer.close()
            return sent, dealer.was_used

        assert await asyncio.to_thread(call) == (False, False)

    play(make, scenario)


def test_loops_in_several_threads(make: Make) -> None:
    """Sockets on different loops reach each other, and each calls back in its own thread only."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker(echoes=True)
        threads: list[int] = []

        async def call() -> None:
            dealer = scene.here.dealer(worker.rpc, lambda frame: threads.append(threading.get_ident()))
            for number in range(100):
                dealer.send_later(b"%d" % number)
            await wait_until_async(lambda: len(threads) == 100)
            assert set(threads) == {threading.get_ident()}
            dealer.close()

        await asyncio.to_thread(asyncio.run, call())
        assert worker.frames == [b"%d" % number for number in range(100)]

    play(make, scenario)


# Closing


def test_closed_socket_calls_back_no_more(make: Make) -> None:
    """Neither for frames that arrive later, nor for those that were not read."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker()
        callers = [scene.caller(worker), scene.caller(worker)]
        for caller in callers:
            caller.say(b"hello")
        await wait_until_async(lambda: len(worker.heard) == 2)
        for routing_id, _ in worker.heard:
            worker.router.send(routing_id, b"welcome")
        callers[0].dealer.close()
        await wait_until_async(lambda: callers[1].frames == [b"welcome"])
        assert callers[0].frames == []

    play(make, scenario)


def test_flushed_socket_sends_its_frames(make: Make) -> None:
    """Frames sent before `flush_and_close` arrive."""

    async def scenario(scene: Scene) -> None:
        worker = scene.worker()
        caller = scene.caller(worker)
        caller.say(b"hello")
        await wait_until_async(lambda: len(worker.heard) == 1)
        assert caller.dealer.send(b"goodbye")
        caller.dealer.flush_and_close(5000)
        await wait_until_async(lambda: worker.frames == [b"hello", b"goodbye"])

    play(make, scenario)


def test_sockets_of_a_closed_loop(make: Make) -> None:
    """They can be closed from anywhere, and their peers see the connections end."""
    here, there = make(), make()
    connected = threading.Event()

    async def witness(endpoint: Endpoint) -> None:
        seen = Caller(here, endpoint, is_link=True)
        await wait_until_async(lambda: LinkState.CONNECTED in seen.states)
        connected.set()
        await wait_until_async(lambda: LinkState.DISCONNECTED in seen.states)
        seen.dealer.close()

    async def begin() -> tuple[Worker, Caller, Future[None]]:
        worker = Worker(there).listen(there.addressing())
        caller = Caller(here, worker.rpc)
        caller.say(b"hello")
        await wait_until_async(lambda: worker.frames == [b"hello"])
        seen = executor.submit(asyncio.run, witness(worker.rpc))
        await wait_until_async(lambda: connected.is_set() or seen.done())
        return worker, caller, seen

    with ThreadPoolExecutor(1) as executor:
        worker, caller, seen = asyncio.run(begin())
        for socket in (worker.router, worker.publisher, caller.dealer):
            socket.abandon()
        worker.pair.close()
        seen.result()


# Addressing


def announced(worker: Worker) -> Announcement:
    """Return the announced endpoints of a worker."""
    at = worker.pair.endpoints
    return Announcement(
        bus="b",
        instance=INSTANCE,
        service="shop",
        process="p",
        host="h",
        addresses=at.addresses,
        rpc_port=at.rpc_port,
        event_port=at.event_port,
        directory=at.directory,
    )


def test_announced_worker_is_reached(make: Make) -> None:
    """The announcement of a worker is enough to reach both of its sockets."""

    async def scenario(scene: Scene) -> None:
        worker, addressing = scene.worker(), scene.here.addressing()
        peer = announced(worker)
        assert addressing.can_reach(peer)
        (endpoint, *_) = addressing.endpoints(peer, 0)
        assert addressing.endpoints(peer, 3)
        calls, events = addressing.answered(peer, endpoint)
        caller, reader = Caller(scene.here, calls), Reader(scene.here, events)
        caller.say(b"hello")
        reader.socket.subscribe(b"a")
        await wait_until_async(lambda: worker.frames == [b"hello"] and worker.told == [(b"a", True)])
        caller.dealer.close()
        reader.socket.close()
        assert addressing.hint(peer)
        assert addressing.remedy(endpoint)

    play(make, scenario)


def test_fixed_peers_are_read(make: Make) -> None:
    """Each form of the settings is accepted, and its result is left unchanged."""

    async def scenario(scene: Scene) -> None:
        addressing = scene.here.addressing()
        for written in ("10.0.0.7:5570", "tcp://auth.example:5570", "ipc:///run/auth", "srv+lightbus://auth.example"):
            endpoint = addressing.fixed_peer(written)
            assert addressing.fixed_peer(endpoint) == endpoint

    play(make, scenario)


def test_ended_worker_is_certainly_gone(make: Make) -> None:
    """It has no endpoints, or connections are refused, and that is certain."""

    async def scenario(scene: Scene) -> None:
        worker, addressing = scene.worker(), scene.here.addressing()
        peer = announced(worker)
        worker.close()
        worker.pair.close()
        endpoints = addressing.endpoints(peer, 0)
        if not endpoints:
            assert addressing.is_gone(peer)
            assert addressing.why_not(peer)
        for endpoint in endpoints:
            await scene.refused(endpoint)
            assert addressing.is_certain(endpoint)

    play(make, scenario)


def test_state_of_a_transport_is_reported(make: Make) -> None:
    """Which peers can connect, the refused ones, and whether it gets crowded."""
    transport = make(4096)
    assert transport.max_message_size == 4096
    assert transport.security.mode
    assert transport.security.describe()
    assert transport.security.refusal
    assert transport.security.fingerprints
    assert (dict(transport.refused), transport.crowding) == ({}, None)
