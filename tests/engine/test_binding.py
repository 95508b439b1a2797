"""The bound sockets of a worker: introductions, requests and foreign messages at the ROUTER, and an orderly stop."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import MS, Stopwatch, scaled, wait_until_async
from helpers.surroundings import Surroundings
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.curve import KeySecurity
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.config.keys import BusKey
from lightbus.engine.binding import STANDSTILL, Binding, Handlers, MessageHandler, Outlet
from lightbus.engine.inbox import LARGE
from lightbus.exceptions import PeerRefused, TransportError
from lightbus.membership import introductions as module
from lightbus.membership.connected import ConnectedEngines
from lightbus.membership.context import Identity
from lightbus.membership.introductions import Introductions, NodeView
from lightbus.ports.transport import Endpoints
from lightbus.wire import codec, envelope
from lightbus.wire.announcement import Announcement
from lightbus.wire.envelope import (
    Ack,
    AnyMessage,
    Beat,
    Cancel,
    Drain,
    Drained,
    Error,
    Fire,
    Goodbye,
    Hello,
    Kind,
    Leave,
    Peers,
    Request,
    Result,
    Welcome,
)

OWN, OTHER = ("0" * 16, "a" * 16)
HELLO = Hello("b", OWN, OTHER, "s", "p", "same", None)
REQUEST = Request(OWN, "work", "who", 5.0, OTHER, [], None, 0, {})
FIRE = Fire(OWN, "work", "happened", 5.0, None, b"", "journal")


class FakeServer:
    """Records requests, and answers none."""

    def __init__(self) -> None:
        self.draining = False
        self.handled: list[Request] = []
        self.cancelled: list[int] = []
        self.stall_count = 0

    def handle(self, routing_id: bytes, call_id: int, request: Request, frame: bytes, memory: int, now: float) -> None:
        self.handled.append(request)
        self.memory = memory

    def cancel(self, routing_id: bytes, call_id: int) -> None:
        self.cancelled.append(call_id)

    def loop_stalled(self, now: float) -> None:
        self.stall_count += 1

    def drain(self) -> None:
        self.draining = True


class FakePublisher:
    """Accepts every event."""

    def __init__(self) -> None:
        self.subscriptions: list[tuple[bytes, bool]] = []

    def hand_off(self, fire: Fire, reply: Callable[[AnyMessage], None]) -> None:
        reply(Result("taken"))

    def tick(self, now: float) -> None: ...

    def subscribed(self, topic: bytes, subscribed: bool) -> None:
        self.subscriptions.append((topic, subscribed))


class FakeCoordinator:
    """Records the messages of consumers."""

    def __init__(self) -> None:
        self.asked: list[AnyMessage] = []
        self.asker = b""
        self.handlers: dict[type, MessageHandler] = {
            Leave: self._refuse,
            **dict.fromkeys((Ack, Beat), lambda routing_id, call_id, message: self.asked.append(message)),
        }

    def _refuse(self, routing_id: bytes, call_id: int, message: Leave) -> None:
        self.asker = routing_id
        if message.group == "none":
            raise PeerRefused("There is no such group.")
        if message.group == "broken":
            raise KeyError("oh")
        self.asked.append(message)

    def describe(self, routing_id: bytes) -> str:
        return f"the connection {routing_id.hex()}"

    def tick(self, now: float) -> None: ...


class Caller:
    """A process connected to the binding."""

    def __init__(self, place: Place) -> None:
        self.heard: list[AnyMessage] = []
        self.dealer = place.transport.dealer(
            place.endpoints.rpc, lambda frame: self.heard.append(envelope.decode(frame)[1])
        )

    def say(self, message: AnyMessage | bytes) -> None:
        """Send a message, or any bytes."""
        self.dealer.send_later(message if isinstance(message, bytes) else envelope.encode(message, 7))

    async def hears(self, *kinds: type) -> list[AnyMessage]:
        """Wait for this many messages, check their kinds, and return them."""
        await wait_until_async(lambda: len(self.heard) >= len(kinds), what=f"{kinds} are heard: {self.heard}")
        assert [type(message) for message in self.heard] == list(kinds)
        taken, self.heard = self.heard, []
        return taken


class Place:
    """A binding with its collaborators."""

    def __init__(self, directory: Path) -> None:
        self.transport = ZmqTransport(HostSecurity(places=Places.only(directory)))
        self.directory = directory
        self.claims: list[Announcement] = []
        self.known: list[tuple[Announcement, float]] = []
        self.server, self.publisher, self.coordinator = FakeServer(), FakePublisher(), FakeCoordinator()
        self.said = announcement(OWN)
        self.callers: list[Caller] = []

    def bind(self) -> None:
        """Make the binding, and bind it to files."""
        view = NodeView(
            announcement=lambda: self.said,
            peers_digest=lambda: "same",
            verified=lambda: self.known,
            known=lambda instance: None,
            claimed=self.claims.append,
        )
        identity = Identity(bus="b", service="shop", process="p", instance=OWN)
        self.binding = Binding(identity, self.transport, self.transport.addressing(), view, self.make_handlers)
        self.endpoints = self.binding.endpoints

    def make_handlers(self, outlet: Outlet) -> Handlers:
        """Return handlers that record messages."""
        self.outlet = outlet
        server: Any = self.server
        publisher: Any = self.publisher
        coordinator: Any = self.coordinator
        return Handlers(server=server, publisher=publisher, coordinator=coordinator, outgoing=publisher)

    @property
    def introductions(self) -> Introductions:
        """The introductions, which answer HELLO."""
        return self.binding.introductions

    @property
    def engines(self) -> ConnectedEngines:
        """The engines that have sent HELLO."""
        return self.introductions.engines

    def caller(self) -> Caller:
        """Connect a caller."""
        self.callers.append(Caller(self))
        return self.callers[-1]

    async def introduced(self) -> Caller:
        """Connect a caller that has sent HELLO."""
        caller = self.caller()
        caller.say(HELLO)
        await caller.hears(Welcome)
        return caller

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        """Run a scenario, and close everything."""

        async def main() -> None:
            self.bind()
            try:
                await scenario()
            finally:
                for caller in self.callers:
                    caller.dealer.close()
                self.binding.close()

        try:
            asyncio.run(main())
        finally:
            self.transport.close()


@pytest.fixture
def place(surroundings: Surroundings) -> Place:
    """Return a place for a binding."""
    return Place(surroundings.runtime)


def announcement(instance: str) -> Announcement:
    """Return the announcement of a peer."""
    return Announcement(bus="b", instance=instance, service="shop", process="p", host="h", apis=())


def is_open(endpoint: str) -> bool:
    """Return whether a process listens at a TCP endpoint."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(endpoint.rpartition(":")[2]))) == 0


# Opening and closing


def test_socket_files_are_made_and_removed(place: Place) -> None:
    """In mode host there is a file for calls and one for events while the binding is open."""

    async def scenario() -> None:
        files = [place.directory / f"{OWN}.pub", place.directory / f"{OWN}.rpc"]
        assert place.endpoints == Endpoints(
            rpc=f"ipc://{files[1]}", event=f"ipc://{files[0]}", directory=str(place.directory)
        )
        assert sorted(place.directory.iterdir()) == files
        place.binding.close()
        assert list(place.directory.iterdir()) == []

    place.run(scenario)


def test_files_of_an_abandoned_binding(place: Place) -> None:
    """A binding whose loop was closed is closed without it, including its files."""

    async def scenario() -> None:
        place.bind()

    asyncio.run(scenario())
    place.binding.abandon()
    place.transport.close()
    assert list(place.directory.iterdir()) == []


@pytest.mark.parametrize("step", ["publisher", "addressing", "handlers"])
def test_binding_that_fails_leaves_nothing_open(place: Place, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Neither a socket, nor a file, nor a reader of the loop, whichever step fails."""
    made: list[Any] = []
    router, publisher = place.transport.router, place.transport.publisher

    def noted(make: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            made.append(make(*args))
            return made[-1]

        return call

    def fails(*args: Any) -> Any:
        raise TransportError("No further socket can be opened")

    monkeypatch.setattr(place.transport, "router", noted(router))
    monkeypatch.setattr(place.transport, "publisher", fails if step == "publisher" else noted(publisher))
    monkeypatch.setattr(place, "make_handlers", fails if step == "handlers" else place.make_handlers)
    addressing = place.transport.addressing()
    if step == "addressing":
        monkeypatch.setattr(addressing, "listen", fails)
    monkeypatch.setattr(place.transport, "addressing", lambda: addressing)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TransportError, match="No further socket"):
            place.bind()
        assert [each.closed for each in made] == [True] * len(made) != []
        assert not any(loop.remove_reader(each._descriptor) for each in made)
        assert [*place.directory.glob("*")] == []

    try:
        asyncio.run(scenario())
    finally:
        place.transport.close()


# What is for others


def test_a_message_that_cannot_be_handled_is_answered(place: Place) -> None:
    """With the reason of a refusal; an internal error is also counted. The same for queued messages."""

    async def scenario() -> None:
        caller = place.caller()
        caller.say(Leave("work", "none"))
        caller.say(Leave("work", "broken"))
        refused, failed = await caller.hears(Error, Error)
        assert isinstance(refused, Error)
        assert isinstance(failed, Error)
        assert (refused.code, refused.message) == ("peer_refused", "There is no such group.")
        assert (failed.code, place.binding.guard.failures) == ("protocol_error", 1)
        assert "a Leave message has fields that do not fit" in failed.message
        for group in ("none", "broken"):
            place.outlet.handle(place.coordinator.asker, 7, Leave("work", group))
        again = await caller.hears(Error, Error)
        assert ([refused, failed], place.binding.guard.failures) == (again, 2)

    place.run(scenario)


def test_messages_reach_their_handlers(place: Place) -> None:
    """Calls go to the server, events and subscriptions to the publisher, consumers' requests to the coordinator."""

    async def scenario() -> None:
        caller = place.caller()
        caller.say(REQUEST)
        caller.say(Cancel())
        caller.say(FIRE)
        assert await caller.hears(Result) == [Result("taken")]
        assert (place.server.handled, place.server.cancelled) == ([REQUEST], [7])
        asked: list[AnyMessage] = [Leave("work", "g"), Beat([], []), Ack("work", "g", 1, [])]
        for message in asked:
            caller.say(message)
        await wait_until_async(lambda: place.coordinator.asked == asked)
        heard: list[bytes] = []
        subscriber = place.transport.subscriber(place.endpoints.event, heard.append)
        subscriber.subscribe(b"topic")
        await wait_until_async(lambda: place.publisher.subscriptions == [(b"topic", True)])
        place.outlet.publish(b"topic and more")
        await wait_until_async(lambda: heard == [b"topic and more"])
        subscriber.close()

    place.run(scenario)


@pytest.mark.parametrize("message", [Result(1), Drain(), Welcome({}, "", 0.0, False), Peers([], [])])
def test_message_that_no_worker_receives_is_an_error(place: Place, message: AnyMessage) -> None:
    """Messages of the protocol that are not sent to workers are answered with an error, and counted."""

    async def scenario() -> None:
        caller = place.caller()
        caller.say(message)
        [error] = await caller.hears(Error)
        assert isinstance(error, Error)
        assert error.message.startswith("shop p")
        assert error.message.endswith(f" is a worker, which accepts no {type(message).__name__} message.")
        assert place.binding.counts["misplaced"] == 1

    place.run(scenario)


def test_invalid_bytes_are_counted(place: Place, chaos: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are no message are answered if possible, counted, and logged at growing intervals."""

    async def scenario() -> None:
        caller = place.caller()
        count = scaled(2000, least=100)
        for _ in range(count):
            head = struct.pack(">BBQ", chaos.choice([*Kind]), chaos.choice([0, 9]), 7)
            caller.say(head[: chaos.randrange(1, 11)] + codec.encode([]))
        await wait_until_async(lambda: len(caller.heard) == count)
        assert {type(message) for message in caller.heard} == {Error}
        assert place.binding.counts["unreadable"] == count
        caller.heard.clear()
        caller.say(HELLO)
        await caller.hears(Welcome)

    place.run(scenario)
    assert len(caplog.records) <= 5


def test_reply_to_a_peer_that_is_gone(place: Place) -> None:
    """It is counted."""

    async def scenario() -> None:
        assert not place.outlet.reply(b"nobody", b"x")
        assert place.binding.dropped == 1

    place.run(scenario)


# Stalls, and shutdown


def test_stall_is_detected_by_the_clock(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A late beat is a stall, reported to the server once; a beat in time is none."""

    async def scenario() -> None:
        now = time.monotonic()
        place.binding.tick(now + STANDSTILL / 2)
        assert place.server.stall_count == 0
        place.binding.tick(now + 3 * STANDSTILL)
        place.binding.tick(now + 3.5 * STANDSTILL)
        assert place.server.stall_count == 1

    place.run(scenario)
    assert "was blocked for 2.5 s" in caplog.text


def test_stall_is_detected_by_a_request(place: Place) -> None:
    """Requests that were waiting before the clock was checked are known to be old."""

    async def scenario() -> None:
        caller = await place.introduced()
        caller.say(REQUEST)
        time.sleep(STANDSTILL + 100 * MS)  # the loop is blocked
        await wait_until_async(lambda: place.server.handled)
        assert place.server.stall_count == 1

    place.run(scenario)


def test_draining_worker_refuses_new_calls_until_all_confirmed(place: Place) -> None:
    """It ends when all have confirmed; processes that connect in the meantime are told, too."""

    async def scenario() -> None:
        first = await place.introduced()
        draining = asyncio.create_task(place.binding.drain(30))
        await first.hears(Drain)
        late = place.caller()
        late.say(HELLO)
        welcome, _ = await late.hears(Welcome, Drain)
        assert isinstance(welcome, Welcome)
        assert welcome.draining
        first.say(FIRE)
        details = {"elsewhere": True, "leaving": True}
        assert await first.hears(Error) == [
            Error("peer_busy", f"{place.binding.identity} is shutting down.", False, details)
        ]
        first.say(Drained())
        assert not draining.done()
        late.say(Goodbye(OTHER))
        await draining
        assert (place.introductions.draining, place.server.draining) == (True, True)

    place.run(scenario)


def test_draining_is_bounded(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A process that does not confirm is named, and waited for no longer than the given time."""
    caplog.set_level("INFO")

    async def scenario() -> None:
        await place.introduced()
        watch = Stopwatch()
        await place.binding.drain(100 * MS)
        assert watch.elapsed >= 100 * MS
        assert watch.seconds < 1

    place.run(scenario)
    assert "Not all callers have confirmed that they send no more calls: 's' 'p'" in caplog.text


def test_goodbye_follows_all_that_was_sent_before(place: Place) -> None:
    """We send goodbye, and all peers have read the earlier messages when the wait is over."""

    async def scenario() -> None:
        caller = await place.introduced()
        caller.say(REQUEST)
        await wait_until_async(lambda: place.server.handled)
        parting = asyncio.create_task(place.binding.send_goodbye())
        assert await caller.hears(Goodbye) == [Goodbye(OWN)]
        assert not parting.done()
        caller.say(Goodbye(OTHER))
        await parting
        assert len(place.engines) == 0

    place.run(scenario)


def test_goodbye_is_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not answer a goodbye delays the stop only for a short time."""
    monkeypatch.setattr(module, "FAREWELL", 100 * MS)

    async def scenario() -> None:
        await place.introduced()
        watch = Stopwatch()
        await place.binding.send_goodbye()
        assert watch.elapsed >= 100 * MS
        assert watch.seconds < 1

    place.run(scenario)


# Keys


def test_connections_that_are_refused(surroundings: Surroundings, place: Place) -> None:
    """In mode bus_key a process without the key is not admitted, and counted."""
    place.transport.close()
    place.transport = ZmqTransport(KeySecurity(keys=[BusKey.generate()], addresses=["127.0.0.1"]))

    async def scenario() -> None:
        assert place.binding.refused_connections == {}
        caller = place.caller()
        caller.say(HELLO)
        await caller.hears(Welcome)
        port = place.endpoints.event_port
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(52, b"\0"))
            await wait_until_async(lambda: place.binding.refused_connections)
        assert place.binding.refused_connections == {"no_key": 1}

    place.run(scenario)


def test_too_many_large_messages_are_refused_undecoded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls and events are answered, so that they go elsewhere; other messages are counted."""

    async def test() -> None:
        caller = await place.introduced()
        monkeypatch.setattr(place.binding._inbox, "_most", LARGE)
        call = Request(OWN, "shop", "buy", 5.0, "c" * 16, [], None, 0, {"x": b"x" * LARGE})
        fire = Fire(OWN, "shop", "bought", 5.0, "k", b"x" * LARGE, "journal")
        for message in (call, fire, HELLO._replace(service="x" * LARGE)):
            caller.say(message)
        await wait_until_async(lambda: place.binding.counts["undecoded"] == 3)
        busy = await caller.hears(Error, Error)
        assert {error.code for error in busy} == {"peer_busy"}  # type: ignore[attr-defined]
        caller.say(HELLO)
        await caller.hears(Welcome)

    place.run(test)


def test_a_large_call_that_waited_has_less_time_left(place: Place) -> None:
    """The worker subtracts the time in the queue."""

    async def test() -> None:
        place.binding._on_message(b"peer", envelope.encode(REQUEST._replace(left=5.0), 1), 4.0)
        assert place.server.handled[0].left == 1.0

    place.run(test)


def test_the_memory_of_a_large_call_is_reported(place: Place) -> None:
    """A list of lists takes many times its bytes."""

    async def test() -> None:
        frame = envelope.encode(REQUEST._replace(kwargs={"rows": [[]] * 300_000}), 1)
        place.binding._on_message(b"peer", frame, 0.0)
        assert place.server.memory > 50 * len(frame)
        place.binding._on_message(b"peer", envelope.encode(REQUEST, 2), 0.0)
        assert place.server.memory == 0

    place.run(test)
