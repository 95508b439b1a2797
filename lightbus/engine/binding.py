"""What a worker binds, and who is connected to it: the ROUTER with its requests and introductions, and the XPUB."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ..events.coordinator import Coordinator
from ..events.publisher import Publisher
from ..exceptions import PeerRefused, ProtocolError
from ..membership.connected import ConnectedEngines
from ..membership.context import Identity
from ..membership.guard import Guard
from ..ports.transport import Addressing, BoundPair, Endpoints, Transport
from ..recurring import RecurringLog
from ..rpc.server import Server
from ..wire import envelope
from ..wire.announcement import Announcement
from ..wire.envelope import Cancel, Drain, Drained, Error, Fire, Goodbye, Hello, Message, Peers, Request, Welcome

__all__ = ["Binding", "Knowledge"]

logger = logging.getLogger("lightbus.binding")

FAREWELL = 1.0
"""Seconds in which those who are connected can read what we still owed them, before we close."""

STANDSTILL = 1.0
"""Seconds by which the loop must be late to count as having stood still."""

MAX_ENGINES = 4096


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
        addressing: binds them where others find them.
        knowledge: what to say of ourselves and of others.

    Raises TransportError, or InvalidConfiguration, where nobody could connect.

    """

    def __init__(self, identity: Identity, transport: Transport, addressing: Addressing, knowledge: Knowledge) -> None:
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
        self._router = transport.router(self._on_message)
        self._xpub = transport.publisher(self._on_subscription)
        self.engines = ConnectedEngines(self._router.send)
        self._beat = time.monotonic()
        self._failures = RecurringLog(logger)
        self._pair = self._listen(addressing)

    # Opening and closing

    def _listen(self, addressing: Addressing) -> BoundPair:
        try:
            return addressing.listen(self.identity.instance, self._router, self._xpub)
        except BaseException:
            self._router.close()
            self._xpub.close()
            raise

    @property
    def endpoints(self) -> Endpoints:
        """Where others come in."""
        return self._pair.endpoints

    def look(self, now: float) -> bool:
        """Look, if it is time to, whether others can still come in; return whether `endpoints` have changed."""
        return self._pair.look(now)

    def move(self, addresses: tuple[str, ...]) -> None:
        """Be reachable at these addresses of this host, too."""
        self._pair.move(addresses)

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
        """Close, and remove what leads others here."""
        self._router.flush_and_close(200)
        self._xpub.flush_and_close(200)
        self._pair.close()

    def abandon(self) -> None:
        """Close, on a loop that is closed."""
        self._router.abandon()
        self._xpub.abandon()
        self._pair.close()

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
    def refused_connections(self) -> Mapping[str, int]:
        """How many connections were refused, by reason."""
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
