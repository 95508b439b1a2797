"""The node of a process: it discovers peers and connects to them; the node of a worker is discovered by peers.

The node makes no decisions: it passes what arrives to the registry, and carries out the facts that the registry
returns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..core.beats import next_beat
from ..core.registry import Peer, PeerLeft, Registry, Snapshot, Source
from ..membership.connected import HELLO_EVERY
from ..membership.context import Identity
from ..membership.lookup import Lookup
from ..membership.own_announcement import OwnAnnouncement
from ..membership.peer_changes import PeerChanges
from ..membership.peer_links import LinksUser, PeerLinks
from ..membership.seeds import FixedPeer
from ..ports.discovery import Discovery
from ..ports.transport import Endpoints, Transport
from ..service.failures import report
from ..wire.announcement import Announcement

if TYPE_CHECKING:
    from .binding import Handlers, Outlet
    from .presence import Presence

__all__ = ["Node", "NodeUser"]

logger = logging.getLogger("lightbus.node")

TICK, QUIET_TICK = 0.1, 0.25
"""Seconds between two checks for due work; the second value applies while no peer has to be dialled sooner."""


class NodeUser(LinksUser, Protocol):
    """Informed of changes of the peers: the engine."""

    def peers_changed(self, node: Node, snapshot: Snapshot, left: Sequence[PeerLeft]) -> None:
        """Replace the snapshot, and fail requests to peers that left."""


class Node:
    """
    The membership of one process in the bus. Made, used and stopped on one event loop.

    Args:
        user: the engine.
        identity: the identity of this process.
        transport: makes the sockets.
        discovery: finds peers, and announces this one.
        fixed_peers: the fixed peers from the settings.
        looked: returns how `discovery` finds peers, for messages: "zeroconf on 127.0.0.1".
        foreign_peers: returns a clause about each peer of another bus with a given API that `discovery` found, for
            messages.
        wait: seconds from the start of the node for which an API without a peer is waited for.
        known: peers that the previous node saw up. They count as up, and are dialled at once.

    Attributes:
        peers: the connected peers.
        changes: the changes of peers, for observers.
        lookup: waits until an API is advertised.
        presence: the worker's side of the node; None in a process that is not a worker.

    """

    def __init__(
        self,
        user: NodeUser,
        identity: Identity,
        transport: Transport,
        discovery: Discovery,
        *,
        fixed_peers: Sequence[str] = (),
        wait: float = 1.0,
        looked: Callable[[], str] = str,
        foreign_peers: Callable[[str], list[str]] = lambda api: [],
        known: Iterable[Peer] = (),
    ) -> None:
        self.user = user
        self.identity = identity
        self.transport = transport
        self.discovery = discovery
        self.addressing = transport.addressing()
        self.registry = Registry(own=identity.instance, fingerprints=transport.security.fingerprints)
        self.presence: Presence | None = None
        self.own = OwnAnnouncement(identity, transport.max_message_size)
        self.changes = PeerChanges(
            self.registry, on_snapshot=partial(user.peers_changed, self), wake=lambda: self.lookup.wake()
        )
        seeds = [self.addressing.fixed_peer(written) for written in fixed_peers]
        self.peers = PeerLinks(user, transport, self.addressing, self.registry, self.changes, self.own, seeds=seeds)
        self._looked = looked
        self._tasks: set[asyncio.Task[Any]] = set()
        self._last_hello = 0.0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.lookup = Lookup(
            self.registry,
            self.peers.dialer,
            user.wanted,
            wait=wait,
            where=self.where,
            foreign_peers=foreign_peers,
            look=discovery.look,
        )
        self.registry.inherit(known, time.monotonic())
        self.peers.dialer.confirm(self.registry.peers.values())

    # Life cycle

    async def start(self) -> None:
        """Start discovery. It logs its problems; they do not stop the node."""
        if not self.changes.stopped:
            self._tick()
            await self.discovery.start(self._found, self._lost)

    def bind(
        self, announcement: Callable[[Endpoints], Announcement], make_handlers: Callable[[Outlet], Handlers]
    ) -> Presence:
        """Become a worker: bind, and register as a peer. Raises TransportError, or InvalidConfiguration."""
        from .presence import Presence  # imported here: only workers need it

        self.presence = Presence(self, announcement, make_handlers)
        return self.presence

    async def drain(self, seconds: float) -> None:
        """Withdraw the announcement, and wait until no peer sends new requests; at most so many seconds."""
        await _ended(self.discovery.withdraw())
        if self.presence is not None:
            await self.presence.drain(seconds)

    def retire(self) -> list[Peer]:
        """Stop all activity, but close nothing yet; return the peers that are up, for the next node."""
        if self.changes.stopped:
            return []
        self.changes.apply(self.registry.left(self.identity.instance, "has stopped"))
        self.changes.stop()
        if self._timer is not None:
            self._timer.cancel()
        self.lookup.stop()
        self.peers.dialer.close()
        return [peer for peer in self.registry.peers.values() if peer.is_up]

    async def stop(self) -> None:
        """Withdraw the announcement, send GOODBYE, and close everything. Bounded; later calls do nothing."""
        self.retire()
        if self._closed:
            return
        self._closed = True
        if self.presence is not None:
            await self.presence.binding.send_goodbye()
        await _ended(self.discovery.stop())
        if self.presence is not None:
            self.presence.binding.close()
        self.peers.close()
        for task in list(self._tasks):
            task.cancel()

    def abandon(self) -> None:
        """Close the sockets after the loop was closed."""
        self.changes.stopped = True
        if self.presence is not None:
            self.presence.binding.abandon()
        self.peers.abandon()

    def where(self) -> str:
        """Return how and where peers are discovered, for messages."""
        seeds = self.peers.dialer.seeds.describe()
        return ", ".join(filter(None, [f"bus '{self.identity.bus}'", self._looked(), seeds]))

    def fixed_peers(self) -> list[FixedPeer]:
        """Return the state of each fixed peer."""
        return self.peers.dialer.seeds.report()

    # Callbacks of discovery

    def _found(self, announcement: Announcement) -> None:
        self.peers.on_announcement(announcement, Source.DISCOVERY)

    def _lost(self, instance: str) -> None:
        self.changes.apply(self.registry.withdrawn(instance))

    # Time

    def _tick(self) -> None:
        now = time.monotonic()
        self._tick_again_after(TICK)  # first, so that the timer continues whatever happens below
        if self.presence is not None and self.presence.tick(now):
            self._spawn(self.presence.announce())
        if self.addressing.look(now):
            self._spawn(self._move(self.addressing.addresses))
        self.transport.look(now)
        self.peers.dialer.dial_due(now)
        self.lookup.tick()
        if now - self._last_hello > HELLO_EVERY:
            self._last_hello = now
            self.registry.forget_silent(now)
            self.peers.send_hello()
        if not self.changes.stopped and not self.peers.dialer.is_due(now + QUIET_TICK):
            self._tick_again_after(QUIET_TICK)

    def _tick_again_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(next_beat(self._loop.time(), seconds), self._tick)

    async def _move(self, addresses: tuple[str, ...]) -> None:
        """Move to other addresses of this host: interfaces were added or removed."""
        logger.info("The addresses of this host that the bus uses are now %s", ", ".join(addresses))
        if self.presence is not None:
            self.presence.move(addresses)
        await self.discovery.move(addresses, self.own.current if self.own.is_public else None)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _ended(ending: Coroutine[Any, Any, None]) -> None:
    """Await one of the last calls of a discovery; log what it raises, which must not keep our sockets open."""
    try:
        await ending
    except Exception as error:
        report(logger, logging.ERROR, error, "The discovery of peers did not end in order")
