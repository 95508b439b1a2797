"""The bound sockets of a worker: the ROUTER that peers send to, and the XPUB that they subscribe to."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from ..events.event_publisher import EventPublisher
from ..events.groups.coordinator import Coordinator
from ..events.groups.replies import error_for
from ..events.publishing.publisher import Publisher
from ..exceptions import LightbusException, PeerBusy, ProtocolError
from ..membership.connected import ConnectedEngines
from ..membership.context import Identity
from ..membership.guard import Guard
from ..membership.introductions import Introductions, NodeView
from ..ports.transport import Addressing, BoundPair, Endpoints, Transport
from ..recurring import RecurringLog
from ..rpc.server import Server
from ..wire import envelope
from ..wire.codec import Work
from ..wire.envelope import AnyMessage, Batch, Cancel, Drained, Error, Fire, Goodbye, Hello, Kind, Request
from .inbox import LARGE, Inbox

__all__ = ["Binding", "Handlers", "Outlet"]

logger = logging.getLogger("lightbus.binding")

STANDSTILL = 1.0
"""Seconds by which the loop must be late to count as stalled."""

MessageHandler: TypeAlias = Callable[[bytes, int, Any], object]
"""Called with the routing id, the call id, and the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """The functions with which message handlers reply and publish."""

    reply: Callable[[bytes, bytes], bool]
    """Sends a frame to a routing id; False if its connection is closed."""
    reply_from_thread: Callable[[bytes, bytes], bool]
    """Does the same from another thread."""
    publish: Callable[[bytes], None]
    handle: Callable[[bytes, int, AnyMessage], None]
    """Handles a message, with its routing id and call id, as if it had just arrived."""
    engines: ConnectedEngines


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """The handlers of messages from other peers."""

    server: Server
    publisher: Publisher
    coordinator: Coordinator
    outgoing: EventPublisher
    """Publishes the events that peers hand off."""


class Binding:
    """
    The bound sockets of a worker. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        transport: makes the sockets.
        addressing: binds them at the endpoints where peers find them.
        view: what to report of this process and of its peers.
        make_handlers: makes the message handlers, after the sockets are bound.

    Raises TransportError, or InvalidConfiguration, if no peer could connect.

    """

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        addressing: Addressing,
        view: NodeView,
        make_handlers: Callable[[Outlet], Handlers],
    ) -> None:
        self.identity = identity
        self.counts: Counter[str] = Counter()
        """unreadable, undecoded, misplaced."""
        self.guard = Guard(logger)
        self._transport = transport
        self._router = transport.router(self._on_message)
        try:
            self._xpub = transport.publisher(self._on_subscription)
        except BaseException:  # no descriptor is left, for example
            self._router.close()
            raise
        self._inbox = Inbox(self._on_message, self._refuse_undecoded, transport.max_message_size)
        self.introductions = Introductions(identity, view, self._router.send)
        self._beat = time.monotonic()
        self._failures = RecurringLog(logger)
        try:
            self._pair: BoundPair = addressing.listen(identity.instance, self._router, self._xpub)
        except BaseException:
            self._router.close()
            self._xpub.close()
            raise
        try:
            self.handlers = make_handlers(self._outlet())
        except BaseException:
            self.close()
            raise
        self._table = self._make_table()

    def _outlet(self) -> Outlet:
        return Outlet(
            reply=self._router.send,
            reply_from_thread=self._router.send_from_thread,
            publish=self._xpub.send,
            handle=self._handle,
            engines=self.introductions.engines,
        )

    # Life cycle

    @property
    def endpoints(self) -> Endpoints:
        """The endpoints that the sockets are bound to."""
        return self._pair.endpoints

    def look(self, now: float) -> bool:
        """Check, if it is due, whether peers can still connect; return whether `endpoints` have changed."""
        return self._pair.look(now)

    def move(self, addresses: tuple[str, ...]) -> None:
        """Bind to these addresses of this host, too."""
        self._pair.move(addresses)

    def tick(self, now: float) -> None:
        """Detect a stall of the loop, and remove engines that have been silent too long."""
        self._detect_stall(now)
        self._beat = now
        self.introductions.engines.tick(now)
        self.handlers.publisher.tick(now)
        self.handlers.coordinator.tick(now)

    async def drain(self, seconds: float) -> None:
        """
        Refuse new requests, and wait until every connected engine has confirmed that it sends none; bounded.

        Requests that arrive meanwhile were already on the network; they are answered as not started.
        """
        self.handlers.server.drain()
        await self.introductions.drain(seconds)

    async def send_goodbye(self) -> None:
        """Refuse new requests, send GOODBYE, and wait until every peer has answered it; at most a second."""
        self.handlers.server.drain()
        await self.introductions.send_goodbye()

    def close(self) -> None:
        """Close the sockets, and remove what leads peers to them."""
        self._inbox.close()
        self._router.flush_and_close(200)
        self._xpub.flush_and_close(200)
        self._pair.close()

    def abandon(self) -> None:
        """Close the sockets after the loop was closed."""
        self._inbox.close()
        self._router.abandon()
        self._xpub.abandon()
        self._pair.close()

    @property
    def dropped(self) -> int:
        """The number of replies dropped because the receiver was gone or did not read."""
        return self._router.dropped

    @property
    def refused_connections(self) -> Mapping[str, int]:
        """The number of refused connections, by reason."""
        return self._transport.refused

    @property
    def crowding(self) -> str | None:
        """A sentence with the remedy if the limit of connections is almost reached; else None."""
        return self._transport.crowding

    # Incoming messages

    def _make_table(self) -> dict[type, MessageHandler]:
        """Return the handler of each message type that a worker can receive, except calls (see `_on_message`)."""
        introductions, engines = self.introductions, self.introductions.engines
        server = self.handlers.server
        return {
            Hello: lambda routing_id, call_id, hello: introductions.on_hello(routing_id, hello),
            Drained: lambda routing_id, call_id, drained: engines.has_drained(routing_id),
            Goodbye: lambda routing_id, call_id, goodbye: engines.forget(routing_id),
            Cancel: lambda routing_id, call_id, cancel: server.cancel(routing_id, call_id),
            Fire: self._on_fire,
            Batch: self._on_fire,
            **self.handlers.coordinator.handlers,
        }

    def _on_message(self, routing_id: bytes, frame: bytes, waited: float | None = None) -> None:
        """Decode and handle a frame. A large frame, and those behind it, are queued in the inbox first."""
        if waited is None and (len(frame) >= LARGE or self._inbox.size) and self._inbox.takes(routing_id, frame):
            return
        work = Work() if len(frame) >= LARGE else None
        try:
            call_id, message = envelope.decode(frame, work)
        except ProtocolError as error:
            self._unreadable(routing_id, frame, error)
            return
        try:
            if type(message) is Request:
                if waited:
                    message = message._replace(left=message.left - waited)
                now = time.monotonic()
                if now - self._beat > STANDSTILL:
                    self._detect_stall(now)
                memory = 0 if work is None else work.memory(frame)
                self.handlers.server.handle(routing_id, call_id, message, frame, memory, now)
            else:
                self._table.get(type(message), self._misplaced)(routing_id, call_id, message)
        except Exception as error:
            self._not_handled(routing_id, call_id, message, error)

    def _handle(self, routing_id: bytes, call_id: int, message: AnyMessage) -> None:
        """Handle a message that was deferred."""
        try:
            self._table[type(message)](routing_id, call_id, message)
        except Exception as error:
            self._not_handled(routing_id, call_id, message, error)

    def _not_handled(self, routing_id: bytes, call_id: int, message: AnyMessage, error: Exception) -> None:
        """Answer a request with the error; count and log it if it is an internal error."""
        if not isinstance(error, LightbusException):
            self.guard.failed(self.handlers.coordinator.describe(routing_id), message, error)
        if call_id:
            self._reply(routing_id, call_id, error_for(message, error))

    def _on_fire(self, routing_id: bytes, call_id: int, fire: Fire | Batch) -> None:
        if self.introductions.draining:
            text = f"{self.identity} is shutting down."
            self._reply(routing_id, call_id, Error("peer_busy", text, False, {"elsewhere": True, "leaving": True}))
        elif isinstance(fire, Batch):
            self.handlers.outgoing.batches.hand_off(fire, partial(self._reply, routing_id, call_id))
        else:
            self.handlers.outgoing.hand_off(fire, partial(self._reply, routing_id, call_id))

    def _on_subscription(self, topic: bytes, subscribed: bool) -> None:
        try:
            self.handlers.publisher.subscribed(topic, subscribed)
        except Exception as error:
            self.guard.failed("a subscriber", "a subscription", error)

    def _misplaced(self, routing_id: bytes, call_id: int, message: AnyMessage) -> None:
        self.counts["misplaced"] += 1
        text = f"{self.identity} is a worker, which accepts no {type(message).__name__} message."
        self._reply(routing_id, call_id, Error(ProtocolError.code, text, False, {}))

    def _unreadable(self, routing_id: bytes, frame: bytes, error: ProtocolError) -> None:
        self.counts["unreadable"] += 1
        self.guard.unreadable(self.handlers.coordinator.describe(routing_id), error)
        self._reply(routing_id, envelope.call_id_of(frame), Error(error.code, str(error), False, {}))

    def _refuse_undecoded(self, routing_id: bytes, frame: bytes) -> None:
        """Refuse a call or an event because too many large messages are queued; senders repeat other messages."""
        self.counts["undecoded"] += 1
        text = "Large messages arrive faster than they are decoded: %d were refused so far, the last one from %s"
        self._failures.log(
            "inbox",
            logging.WARNING,
            text,
            self.counts["undecoded"],
            self.handlers.coordinator.describe(routing_id),
            changes=False,
        )
        if frame and frame[0] in (Kind.REQUEST, Kind.FIRE, Kind.BATCH):
            reason = f"{self.identity} has {self._inbox.size} bytes of large messages waiting to be decoded."
            error = Error(PeerBusy.code, reason, False, {"elsewhere": True})
            self._reply(routing_id, envelope.call_id_of(frame), error)

    def _reply(self, routing_id: bytes, call_id: int, message: AnyMessage) -> None:
        self._router.send(routing_id, envelope.encode(message, call_id))

    def _detect_stall(self, now: float) -> None:
        # A process that was stopped may read requests before its timers run: so each request checks, too.
        if now - self._beat > STANDSTILL:
            text = "The event loop was blocked for %.1f s; the calls that arrived in that time are refused"
            self._failures.log("clock", logging.WARNING, text, now - self._beat, changes=False)
            self._beat = now
            self.handlers.server.loop_stalled(now)
