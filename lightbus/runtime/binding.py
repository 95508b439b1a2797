"""What a worker binds, and who is connected to it: the ROUTER with its requests and introductions, and the XPUB."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.liveness import Liveness, State
from ..exceptions import PeerRefused, ProtocolError, TransportError
from ..io.security import remove_stale
from ..io.transport import Publisher as PublisherSocket
from ..io.transport import Router, Transport
from ..wire import envelope
from ..wire.announcement import Announcement
from ..wire.envelope import Cancel, Drain, Drained, Error, Fire, Goodbye, Hello, Message, Peers, Request, Welcome
from .context import Identity
from .publishing import Publisher
from .serving import Server

__all__ = ["Binding", "ConnectedEngine", "Endpoints", "Knowledge"]

logger = logging.getLogger("lightbus.binding")

HELLO_EVERY = 5.0
"""Seconds between the HELLOs of a connected engine."""

FAREWELL = 1.0
"""Seconds in which those who are connected can read what we still owed them, before we close."""

STANDSTILL = 1.0
"""Seconds by which the loop must be late to count as having stood still."""

MAX_ENGINES = 4096
PORT_ATTEMPTS = 20
_PORTS = range(20_000, 32_000)
"""Where a common port for several addresses is looked for: below the range from which Linux takes outgoing ports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedEngine:
    """A process that said HELLO."""

    instance: str
    service: str
    process: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a worker can be reached; the ports are 0 in mode host."""

    rpc_port: int
    event_port: int
    rpc: str
    event: str


class Knowledge:
    """What the binding asks of the node it belongs to."""

    announcement: Callable[[], Announcement]
    peers_digest: Callable[[], str]
    verified: Callable[[], list[tuple[Announcement, float]]]
    claimed: Callable[[Announcement], None]

    def __init__(
        self,
        *,
        announcement: Callable[[], Announcement],
        peers_digest: Callable[[], str],
        verified: Callable[[], list[tuple[Announcement, float]]],
        claimed: Callable[[Announcement], None],
    ) -> None:
        self.announcement = announcement
        self.peers_digest = peers_digest
        self.verified = verified
        self.claimed = claimed


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
        """hellos, refused_hellos, unreadable, misplaced."""
        self.engines: dict[bytes, ConnectedEngine] = {}
        self.server: Server | None = None
        self.publisher: Publisher | None = None
        self._knowledge = knowledge
        self._liveness: Liveness[bytes] = Liveness(suspect_after=3 * HELLO_EVERY, gone_after=6 * HELLO_EVERY)
        self._router: Router = transport.router(self._on_message)
        self._xpub: PublisherSocket = transport.publisher(self._on_subscription)
        self._not_drained: set[bytes] = set()
        self._all_drained = asyncio.Event()
        self._not_parted: set[bytes] = set()
        self._all_parted = asyncio.Event()
        self._beat = time.monotonic()
        self._files: list[Path] = []

    # Opening and closing

    def bind_host(self, directory: Path) -> Endpoints:
        """Bind to files in the user's directory."""
        remove_stale(directory)
        rpc, event = directory / f"{self.identity.instance}.rpc", directory / f"{self.identity.instance}.pub"
        self._files = [rpc, event]
        return Endpoints(
            rpc_port=0, event_port=0, rpc=self._router.bind(f"ipc://{rpc}"), event=self._xpub.bind(f"ipc://{event}")
        )

    def bind_tcp(self, addresses: Iterable[str], rpc_port: int, event_port: int) -> Endpoints:
        """Bind to the same two ports at every address. Raises TransportError."""
        addresses = list(addresses)
        rpc_port = _bind_all(self._router.bind, addresses, rpc_port)
        event_port = _bind_all(self._xpub.bind, addresses, event_port)
        return Endpoints(
            rpc_port=rpc_port,
            event_port=event_port,
            rpc=f"tcp://{addresses[0]}:{rpc_port}",
            event=f"tcp://{addresses[0]}:{event_port}",
        )

    async def drain(self, seconds: float) -> None:
        """
        Take nothing new, and return when every connected engine has confirmed that it sends nothing new.

        Until then requests are still answered, as not started: they may have been on their way.
        """
        self._take_nothing_new()
        self._not_drained = set(self.engines)
        self._push(Drain())
        self._note_drained()
        try:
            await asyncio.wait_for(self._all_drained.wait(), seconds)
        except TimeoutError:
            logger.info("%d connected processes did not confirm that they send nothing new", len(self._not_drained))

    async def say_goodbye(self) -> None:
        """
        Say that we leave, and return when everybody has said the same, or after a second.

        Closing a connection drops what its other end has not read: so they close first, having read it all.
        """
        self._take_nothing_new()
        self._not_parted = set(self.engines)
        self._all_parted.clear()
        self._push(Goodbye(self.identity.instance))
        self._note_parted()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_parted.wait(), FAREWELL)

    def close(self) -> None:
        """Close, and remove the socket files."""
        self._router.flush_and_close(200)
        self._xpub.flush_and_close(200)
        for file in self._files:
            file.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Close, on a loop that is closed."""
        self._router.abandon()
        self._xpub.abandon()
        for file in self._files:
            file.unlink(missing_ok=True)

    # Telling those who are connected

    def announce(self) -> None:
        """Tell every connected engine what we say of ourselves now."""
        self._push(self._welcome())

    def tell_peers(self, joined: list[Announcement], left: list[str]) -> None:
        """Tell every connected engine who came and went."""
        self._push(Peers([[announcement.to_wire(), 0.0] for announcement in joined], left))

    def tick(self, now: float) -> None:
        """Notice a standstill of the loop, and forget engines that were not heard of for long."""
        self._look_at_clock(now)
        self._beat = now
        for change in self._liveness.tick(now):
            if change.state is State.GONE:
                self._forget(change.key)

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

    # Hearing from them

    def _on_message(self, routing_id: bytes, frame: bytes) -> None:
        try:
            call_id, message = envelope.decode(frame)
        except ProtocolError as error:
            self._unreadable(routing_id, frame, error)
            return
        kind = type(message)
        if kind is Request and self.server is not None:
            self._look_at_clock(time.monotonic())
            self.server.handle(routing_id, call_id, message)  # type: ignore[arg-type]
        elif kind is Fire and self.publisher is not None:
            self._reply(routing_id, call_id, self._hand_off(message))  # type: ignore[arg-type]
        else:
            self._on_control(routing_id, call_id, message)

    def _on_control(self, routing_id: bytes, call_id: int, message: Message) -> None:
        match message:
            case Hello():
                self._on_hello(routing_id, message)
            case Cancel():
                if self.server is not None:
                    self.server.cancel(routing_id, call_id)
            case Drained():
                self._not_drained.discard(routing_id)
                self._note_drained()
            case Goodbye():
                self._forget(routing_id)
            case _:
                self.counts["misplaced"] += 1
                text = f"a {type(message).__name__} message is not for a worker like {self.identity}."
                self._reply(routing_id, call_id, Error(ProtocolError.code, text, False, {}))

    def _on_hello(self, routing_id: bytes, hello: Hello) -> None:
        if (refusal := self._reason_to_refuse(routing_id, hello)) is not None:
            self.counts["refused_hellos"] += 1
            self._reply(routing_id, 0, Error(PeerRefused.code, refusal, False, {}))
            return
        is_new = routing_id not in self.engines
        self.counts["hellos"] += is_new
        self.engines[routing_id] = ConnectedEngine(
            instance=hello.instance, service=hello.service, process=hello.process
        )
        self._liveness.heard(routing_id, time.monotonic())
        self._reply(routing_id, 0, self._welcome())
        if hello.peers_digest != self._knowledge.peers_digest():
            known = [[announcement.to_wire(), age] for announcement, age in self._knowledge.verified()]
            self._reply(routing_id, 0, Peers(known, []))
        if is_new and self.draining:
            self._not_drained.add(routing_id)
            self._reply(routing_id, 0, Drain())
        if hello.announcement is not None:
            with contextlib.suppress(ProtocolError):
                self._knowledge.claimed(Announcement.from_wire(hello.announcement))

    def _reason_to_refuse(self, routing_id: bytes, hello: Hello) -> str | None:
        if hello.bus != self.identity.bus:
            return f"this is the bus '{self.identity.bus}', not '{hello.bus}'."
        if hello.target not in ("", self.identity.instance):
            return f"this is the instance {self.identity.instance}, not {hello.target}."
        if len(self.engines) >= MAX_ENGINES and routing_id not in self.engines:
            return f"{len(self.engines)} processes are connected already."
        return None

    def _hand_off(self, fire: Fire) -> Message:
        assert self.publisher is not None
        if self.draining:
            text = f"{self.identity} is shutting down."
            return Error("peer_busy", text, False, {"elsewhere": True})
        return self.publisher.hand_off(fire)

    def _on_subscription(self, topic: bytes, subscribed: bool) -> None:
        if self.publisher is not None:
            self.publisher.subscribed(topic, subscribed)

    def _unreadable(self, routing_id: bytes, frame: bytes, error: ProtocolError) -> None:
        self.counts["unreadable"] += 1
        if self.counts["unreadable"] in (1, 10, 100) or self.counts["unreadable"] % 1000 == 0:
            logger.warning("%d unreadable messages so far, the last: %s", self.counts["unreadable"], error)
        self._reply(routing_id, envelope.call_id_of(frame), Error(error.code, str(error), False, {}))

    # Inside

    def _look_at_clock(self, now: float) -> None:
        # A process that was stopped finds requests waiting before its timers run: so each request looks, too.
        if now - self._beat > STANDSTILL:
            logger.warning("The event loop stood still for %.1f s; what waited meanwhile is refused", now - self._beat)
            self._beat = now
            if self.server is not None:
                self.server.stood_still(now)

    def _welcome(self) -> Welcome:
        announcement = self._knowledge.announcement()
        return Welcome(announcement.to_wire(), self._knowledge.peers_digest(), time.time(), self.draining)

    def _push(self, message: Message) -> None:
        frame = envelope.encode(message)
        for routing_id in list(self.engines):
            if not self._router.send(routing_id, frame):
                self._forget(routing_id)

    def _reply(self, routing_id: bytes, call_id: int, message: Message) -> None:
        self._router.send(routing_id, envelope.encode(message, call_id))

    def _forget(self, routing_id: bytes) -> None:
        self.engines.pop(routing_id, None)
        self._liveness.forget(routing_id)
        self._not_drained.discard(routing_id)
        self._not_parted.discard(routing_id)
        self._note_drained()
        self._note_parted()

    def _take_nothing_new(self) -> None:
        self.draining = True
        if self.server is not None:
            self.server.draining = True

    def _note_parted(self) -> None:
        if self.draining and not self._not_parted:
            self._all_parted.set()

    def _note_drained(self) -> None:
        if self.draining and not self._not_drained:
            self._all_drained.set()


def _bind_all(bind: Callable[[str], Any], addresses: list[str], port: int) -> int:
    """Bind to one port at every address; to any port that is free at all of them where `port` is 0."""
    if port or len(addresses) == 1:
        bound = [bind(f"tcp://{address}:{port or '*'}") for address in addresses]
        return int(bound[0].rpartition(":")[2])
    problem: TransportError | None = None
    for candidate in random.Random(os.getpid()).sample(_PORTS, PORT_ATTEMPTS):
        try:
            for address in addresses:
                bind(f"tcp://{address}:{candidate}")
        except TransportError as error:
            problem = error
        else:
            return candidate
    raise TransportError(f"No port is free at all of {', '.join(addresses)}. The last attempt: {problem}")
