"""What a worker binds, and who is connected to it: the ROUTER with its requests and introductions, and the XPUB."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ..adapters.host.places import Places
from ..adapters.zmq.host_sockets import HostSockets
from ..adapters.zmq.transport import Publisher as PublisherSocket
from ..adapters.zmq.transport import Router, Transport
from ..events.coordinator import Coordinator
from ..events.publisher import Publisher
from ..exceptions import PeerRefused, ProtocolError, TransportError
from ..membership.connected import ConnectedEngines
from ..membership.context import Identity
from ..membership.guard import Guard
from ..recurring import RecurringLog
from ..rpc.server import Server
from ..wire import envelope
from ..wire.announcement import Announcement
from ..wire.envelope import Cancel, Drain, Drained, Error, Fire, Goodbye, Hello, Message, Peers, Request, Welcome

__all__ = ["Binding", "Endpoints", "Knowledge"]

logger = logging.getLogger("lightbus.binding")

FAREWELL = 1.0
"""Seconds in which those who are connected can read what we still owed them, before we close."""

STANDSTILL = 1.0
"""Seconds by which the loop must be late to count as having stood still."""

MAX_ENGINES = 4096
PORT_ATTEMPTS = 20
_PORTS = range(20_000, 32_000)
"""Where a common port for several addresses is looked for: below the range from which Linux takes outgoing ports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a worker can be reached; the ports are 0 in mode host."""

    rpc_port: int
    event_port: int
    rpc: str
    event: str

    @property
    def directory(self) -> str:
        """The directory of the sockets in mode host; empty where it cannot be told others."""
        path = self.rpc.removeprefix("ipc://").rpartition("/")[0]
        return path if self.rpc.startswith("ipc://") and path.isprintable() else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What the binding asks of the node it belongs to, and tells it."""

    announcement: Callable[[], Announcement]
    """What others are told of us."""
    peers_digest: Callable[[], str]
    verified: Callable[[], list[tuple[Announcement, float]]]
    """The peers that we have seen ourselves, each with the seconds since we heard of it."""
    claimed: Callable[[Announcement], None]
    """Take in that somebody announced itself to us."""


class Binding:
    """
    The bound sockets of a worker. Only touched from the node's loop.

    Args:
        identity: who we are.
        transport: makes the sockets.
        knowledge: what to say of ourselves and of others.

    """

    def __init__(self, identity: Identity, transport: Transport, knowledge: Knowledge) -> None:
        self.identity = identity
        self.draining = False
        self.counts: Counter[str] = Counter()
        """hellos, refused_hellos, ignored_hellos, unreadable, misplaced."""
        self.guard = Guard(logger)
        self.server: Server | None = None
        self.publisher: Publisher | None = None
        self.coordinator: Coordinator | None = None
        self._knowledge = knowledge
        self._transport = transport
        self._router: Router = transport.router(self._on_message)
        self._xpub: PublisherSocket = transport.publisher(self._on_subscription)
        self.engines = ConnectedEngines(self._router.send)
        self._beat = time.monotonic()
        self._failures = RecurringLog(logger)
        self._files: HostSockets | None = None
        self._bound: set[str] = set()
        """The addresses we listen at; none in mode host."""

    # Opening and closing

    def bind_host(self, places: Places) -> Endpoints:
        """Bind to files in the user's directories. Raises InvalidConfiguration where none of them can be used."""
        self._files = HostSockets(self.identity.instance, places, self._router, self._xpub)
        self._files.open()
        return self._host_endpoints(self._files)

    def look_after_files(self, now: float) -> Endpoints | None:
        """Bind anew what was removed in mode host; return where we are now, if that has changed."""
        if self._files is None or not self._files.look(now):
            return None
        return self._host_endpoints(self._files)

    def _host_endpoints(self, files: HostSockets) -> Endpoints:
        rpc, event = files.paths()
        return Endpoints(rpc_port=0, event_port=0, rpc=f"ipc://{rpc}", event=f"ipc://{event}")

    def bind_tcp(self, addresses: Iterable[str], rpc_port: int, event_port: int) -> Endpoints:
        """Bind to the same two ports at every address. Raises TransportError."""
        addresses = list(addresses)
        rpc_port = _bind_all(self._router, addresses, rpc_port)
        event_port = _bind_all(self._xpub, addresses, event_port)
        self._bound = set(addresses)
        return Endpoints(
            rpc_port=rpc_port,
            event_port=event_port,
            rpc=f"tcp://{addresses[0]}:{rpc_port}",
            event=f"tcp://{addresses[0]}:{event_port}",
        )

    def move(self, addresses: Iterable[str], endpoints: Endpoints) -> tuple[str, ...]:
        """
        Be reachable at these addresses, too, at the same ports; return those of them that it worked for.

        Nothing is unbound: an address that is gone harms nobody, and may come back. And where something is sent while
        an endpoint is unbound, libzmq 4.3.5 may leave a connection that answers heartbeats and carries nothing.
        """
        addresses = list(addresses)
        for address in addresses:
            if address not in self._bound:
                self._bind_too(address, endpoints)
        return tuple(address for address in addresses if address in self._bound) or tuple(self._bound)

    def _bind_too(self, address: str, endpoints: Endpoints) -> None:
        rpc, event = f"tcp://{address}:{endpoints.rpc_port}", f"tcp://{address}:{endpoints.event_port}"
        try:
            self._router.bind(rpc)
            try:
                self._xpub.bind(event)
            except TransportError:
                self._router.unbind(rpc)
                raise
        except TransportError as error:
            logger.warning("This worker is not reachable at the new address %s: %s", address, error)
        else:
            self._bound.add(address)

    async def drain(self, seconds: float) -> None:
        """
        Take nothing new, and return when every connected engine has confirmed that it sends nothing new.

        Until then requests are still answered, as not started: they may have been on their way.
        """
        self._take_nothing_new()
        if missing := await self.engines.drain(seconds):
            logger.info("Not all confirm that they send nothing new: %s", ", ".join(sorted({*map(str, missing)})))

    async def say_goodbye(self) -> None:
        """
        Say that we leave, and return when everybody has said the same, or after a second.

        Closing a connection drops what its other end has not read: so they close first, having read it all.
        """
        self._take_nothing_new()
        await self.engines.part(self.identity.instance, FAREWELL)

    def close(self) -> None:
        """Close, and remove the socket files."""
        self._router.flush_and_close(200)
        self._xpub.flush_and_close(200)
        if self._files is not None:
            self._files.remove()

    def abandon(self) -> None:
        """Close, on a loop that is closed."""
        self._router.abandon()
        self._xpub.abandon()
        if self._files is not None:
            self._files.remove()

    # Telling those who are connected

    def announce(self) -> None:
        """Tell every connected engine what we say of ourselves now."""
        self.engines.push(self._welcome())

    def tell_peers(self, joined: list[Announcement], left: list[str]) -> None:
        """Tell every connected engine who came and went."""
        self.engines.push(Peers([[announcement.to_wire(), 0.0] for announcement in joined], left))

    def tick(self, now: float) -> None:
        """Notice a standstill of the loop, and forget engines that were not heard of for long."""
        self._look_at_clock(now)
        self._beat = now
        self.engines.tick(now)
        if self.publisher is not None:
            self.publisher.tick(now)
        if self.coordinator is not None:
            self.coordinator.tick(now)

    def publish(self, frame: bytes) -> None:
        """Publish a frame."""
        self._xpub.send(frame)

    def reply(self, routing_id: bytes, frame: bytes) -> bool:
        """Send a frame to one of those who wrote to us."""
        return self._router.send(routing_id, frame)

    @property
    def dropped(self) -> int:
        """Replies whose receiver was gone, or did not read."""
        return self._router.dropped

    @property
    def refused_connections(self) -> dict[str, int]:
        """How many connections were refused, by reason (`io.gate`)."""
        return self._transport.refused

    @property
    def crowding(self) -> str | None:
        """A sentence with the remedy where there is room for few more connections; else None."""
        return self._transport.crowding

    # Hearing from them

    def _on_message(self, routing_id: bytes, frame: bytes) -> None:
        try:
            call_id, message = envelope.decode(frame)
        except ProtocolError as error:
            self._unreadable(routing_id, frame, error)
            return
        try:
            self._handle(routing_id, call_id, message, len(frame))
        except Exception as error:
            self.guard.failed(self._named(routing_id), message, error)

    def _handle(self, routing_id: bytes, call_id: int, message: Message, size: int) -> None:
        kind = type(message)
        if kind is Request and self.server is not None:
            self._look_at_clock(time.monotonic())
            self.server.handle(routing_id, call_id, message, size)  # type: ignore[arg-type]
        elif kind is Fire and self.publisher is not None:
            self._hand_off(message, partial(self._reply, routing_id, call_id))  # type: ignore[arg-type]
        elif self.coordinator is None or not self.coordinator.handle(routing_id, call_id, message):
            self._on_control(routing_id, call_id, message)

    def _on_control(self, routing_id: bytes, call_id: int, message: Message) -> None:
        match message:
            case Hello():
                self._on_hello(routing_id, message)
            case Cancel():
                if self.server is not None:
                    self.server.cancel(routing_id, call_id)
            case Drained():
                self.engines.has_drained(routing_id)
            case Goodbye():
                self.engines.forget(routing_id)
            case _:
                self.counts["misplaced"] += 1
                text = f"a {type(message).__name__} message is not for a worker like {self.identity}."
                self._reply(routing_id, call_id, Error(ProtocolError.code, text, False, {}))

    def _on_hello(self, routing_id: bytes, hello: Hello) -> None:
        if (refusal := self._reason_to_refuse(routing_id, hello)) is not None:
            self.counts["refused_hellos"] += 1
            self._reply(routing_id, 0, Error(PeerRefused.code, refusal, False, {}))
            return
        now = time.monotonic()
        is_new = self.engines.heard(routing_id, hello, now)
        if self.engines.is_flooding(routing_id, now):
            self.counts["ignored_hellos"] += 1  # answers that nobody reads would fill our memory
            return
        self.counts["hellos"] += is_new
        self._reply(routing_id, 0, self._welcome())
        if hello.peers_digest != self._knowledge.peers_digest():
            known = [[announcement.to_wire(), age] for announcement, age in self._knowledge.verified()]
            self._reply(routing_id, 0, Peers(known, []))
        if is_new and self.draining:
            self._reply(routing_id, 0, Drain())
        if hello.announcement is not None:
            with contextlib.suppress(ProtocolError):
                announcement = Announcement.from_wire(hello.announcement)
                if announcement.instance == hello.instance:  # nobody announces others
                    self._knowledge.claimed(announcement)

    def _reason_to_refuse(self, routing_id: bytes, hello: Hello) -> str | None:
        if hello.bus != self.identity.bus:
            return f"this is the bus '{self.identity.bus}', not '{hello.bus}'."
        if hello.target not in ("", self.identity.instance):
            return f"this is the instance {self.identity.instance}, not {hello.target}."
        if self.engines.instance_of(routing_id) not in (None, hello.instance):
            return f"through this connection the instance {self.engines.instance_of(routing_id)} has said HELLO."
        if len(self.engines) >= MAX_ENGINES and routing_id not in self.engines:
            return f"{len(self.engines)} processes are connected already."
        return None

    def _hand_off(self, fire: Fire, reply: Callable[[Message], None]) -> None:
        assert self.publisher is not None
        if self.draining:
            text = f"{self.identity} is shutting down."
            reply(Error("peer_busy", text, False, {"elsewhere": True}))
        else:
            self.publisher.hand_off(fire, reply)

    def _on_subscription(self, topic: bytes, subscribed: bool) -> None:
        if self.publisher is not None:
            try:
                self.publisher.subscribed(topic, subscribed)
            except Exception as error:
                self.guard.failed("a subscriber", "a subscription", error)

    def _unreadable(self, routing_id: bytes, frame: bytes, error: ProtocolError) -> None:
        self.counts["unreadable"] += 1
        self.guard.unreadable(self._named(routing_id), error)
        self._reply(routing_id, envelope.call_id_of(frame), Error(error.code, str(error), False, {}))

    def _named(self, routing_id: bytes) -> str:
        """Return who speaks through a connection, for a log line."""
        return f"the connection {routing_id.hex()}"

    # Inside

    def _look_at_clock(self, now: float) -> None:
        # A process that was stopped finds requests waiting before its timers run: so each request looks, too.
        if now - self._beat > STANDSTILL:
            text = "The event loop stood still for %.1f s; what waited meanwhile is refused"
            self._failures.say("clock", logging.WARNING, text, now - self._beat, changes=False)
            self._beat = now
            if self.server is not None:
                self.server.stood_still(now)

    def _welcome(self) -> Welcome:
        announcement = self._knowledge.announcement()
        return Welcome(announcement.to_wire(), self._knowledge.peers_digest(), time.time(), self.draining)

    def _reply(self, routing_id: bytes, call_id: int, message: Message) -> None:
        self._router.send(routing_id, envelope.encode(message, call_id))

    def _take_nothing_new(self) -> None:
        self.draining = True
        if self.server is not None:
            self.server.draining = True


def _bind_all(socket: Router | PublisherSocket, addresses: list[str], port: int) -> int:
    """Bind to one port at every address; to any port that is free at all of them where `port` is 0."""
    if port or len(addresses) == 1:
        bound = [socket.bind(f"tcp://{address}:{port or '*'}") for address in addresses]
        return int(bound[0].rpartition(":")[2])
    problem: TransportError | None = None
    for candidate in random.Random(os.getpid()).sample(_PORTS, PORT_ATTEMPTS):
        bound = []
        try:
            for address in addresses:
                bound.append(socket.bind(f"tcp://{address}:{candidate}"))
        except TransportError as error:
            problem = error
            for endpoint in bound:
                socket.unbind(endpoint)
        else:
            return candidate
    raise TransportError(f"No port is free at all of {', '.join(addresses)}. The last attempt: {problem}")
