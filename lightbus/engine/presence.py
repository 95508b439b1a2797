"""The worker's side of a node: its bound sockets, and its announcement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ..core.registry import Fact, PeerJoined, PeerLeft, Registry, Source
from ..membership.context import Identity
from ..membership.introductions import NodeView
from ..membership.own_announcement import OwnAnnouncement
from ..membership.peer_changes import PeerChanges
from ..membership.peer_links import PeerLinks
from ..ports.discovery import Discovery
from ..ports.transport import Addressing, Endpoints, Transport
from ..wire.announcement import Announcement
from ..wire.api_info import ApiInfo
from .binding import Binding, Handlers, Outlet

__all__ = ["Presence"]


class PresenceNode(Protocol):
    """The node that becomes a worker."""

    identity: Identity
    transport: Transport
    addressing: Addressing
    discovery: Discovery
    registry: Registry
    changes: PeerChanges
    peers: PeerLinks
    own: OwnAnnouncement


class Presence:
    """
    A worker as other peers see it. Only touched from the node's loop. APIs are not advertised before `announce`.

    Args:
        node: the node of this process.
        announcement: returns the announcement, given the bound endpoints.
        make_handlers: makes the handlers of messages from other peers.

    Raises TransportError, or InvalidConfiguration, if no peer could connect.

    """

    def __init__(
        self,
        node: PresenceNode,
        announcement: Callable[[Endpoints], Announcement],
        make_handlers: Callable[[Outlet], Handlers],
    ) -> None:
        self._node = node
        view = NodeView(
            announcement=lambda: node.own.advertised,
            peers_digest=lambda: node.changes.digest,
            verified=node.peers.verified,
            known=node.peers.announcement_of,
            claimed=lambda other: node.peers.on_announcement(other, Source.CLAIM),
        )
        self.binding = Binding(node.identity, node.transport, node.addressing, view, make_handlers)
        try:
            node.own.become(announcement(self.binding.endpoints))
        except BaseException:  # it has too many procedures, for example
            self.binding.close()
            raise
        self._uses_own_addresses = (
            node.own.current.addresses == node.addressing.addresses
        )  # not those of network.advertise
        node.changes.observe(self._forward_changes)
        self._register_self()

    async def announce(self) -> None:
        """Announce this worker and its APIs."""
        self._node.own.publish()
        self._announce_to_connected()
        await self._node.discovery.announce(self._node.own.current)

    async def advertise(self, apis: Sequence[ApiInfo]) -> None:
        """Change the advertised APIs; once announced, the change is sent at once."""
        self._node.own.change_apis(apis)
        self._register_self()
        if self._node.own.is_public:
            await self.announce()

    async def drain(self, seconds: float) -> None:
        """Wait until no peer sends new requests; at most so many seconds."""
        self._node.changes.apply(self._node.registry.drains(self._node.registry.own, time.monotonic()))
        await self.binding.drain(seconds)

    def tick(self, now: float) -> bool:
        """
        Check, if it is due, whether peers can still connect; return whether `announce` must be called again.

        That is so if the directories of the sockets have changed, and the worker was announced before.
        """
        self.binding.tick(now)
        if not self.binding.look(now):
            return False
        self._node.own.move(directory=self.binding.endpoints.directory)
        self._register_self()
        return self._node.own.is_public

    def move(self, addresses: tuple[str, ...]) -> None:
        """Bind to these addresses of this host."""
        before = self.binding.endpoints.rpc
        self.binding.move(addresses)
        if self.binding.endpoints.rpc != before:
            # Connections of our own channels to this worker used an address that no longer exists.
            self._node.changes.apply(
                self._node.registry.lost(self._node.registry.own, time.monotonic(), "has another address")
            )
        if self._uses_own_addresses:
            self._node.own.move(addresses=self.binding.endpoints.addresses)
        self._register_self()
        if self._node.own.is_public:
            self._announce_to_connected()

    def _announce_to_connected(self) -> None:
        self.binding.introductions.announce()  # to engines that are connected to us, maybe as their fixed peer
        self._node.peers.send_hello()  # to peers that we are connected to: they need not wait for discovery

    def _forward_changes(self, facts: Sequence[Fact]) -> None:
        others = [fact for fact in facts if fact.peer.instance != self._node.registry.own]
        joined = [fact.peer.announcement for fact in others if isinstance(fact, PeerJoined)]
        left = [fact.peer.instance for fact in others if isinstance(fact, PeerLeft)]
        if joined or left:
            self.binding.introductions.announce_changes(joined, left)

    def _register_self(self) -> None:
        endpoints = self.binding.endpoints
        facts = self._node.registry.answered(
            self._node.own.current, time.monotonic(), endpoint=endpoints.rpc, event_endpoint=endpoints.event
        )
        self._node.changes.apply(facts)
