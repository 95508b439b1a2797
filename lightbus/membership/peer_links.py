"""The peers that a node is connected to: handles their messages, and tells the registry when connections end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from ..core.registry import PeerState, Registry, Source
from ..exceptions import ProtocolError
from ..ports.transport import Addressing, Transport
from ..wire.announcement import Announcement
from ..wire.envelope import AnyMessage, Drain, Goodbye, Hello, Peers, Welcome
from .dialer import Dialer
from .link import Link
from .own_announcement import OwnAnnouncement
from .peer_changes import PeerChanges

__all__ = ["LinksUser", "PeerLinks"]


class LinksUser(Protocol):
    """The owner of the channels to the peers: the engine."""

    wanted: set[str]

    async def wait_until_no_new_requests(self, instance: str) -> None:
        """Wait until no channel can send new requests to an instance that was removed from the snapshot; bounded."""

    async def wait_until_answered(self, instance: str) -> None:
        """Wait until every request to an instance is answered; bounded."""


class PeerLinks:
    """
    The links of a node. Only touched from the node's loop.

    Args:
        user: the owner of the channels to the peers, and of the set of wanted APIs.
        transport: makes the sockets.
        addressing: returns the endpoints of a peer.
        registry: the known peers.
        changes: carries out the decisions of the registry, and wakes waiting calls.
        own: the announcement of this process.
        seeds: endpoints of fixed peers.

    Attributes:
        links: the open links, by instance.
        dialer: makes new links.

    """

    def __init__(
        self,
        user: LinksUser,
        transport: Transport,
        addressing: Addressing,
        registry: Registry,
        changes: PeerChanges,
        own: OwnAnnouncement,
        *,
        seeds: Sequence[str] = (),
    ) -> None:
        self.links: dict[str, Link] = {}
        self._user = user
        self._addressing = addressing
        self._registry = registry
        self._changes = changes
        self._own = own
        self._pushed: dict[type, Callable[[Link, Any], None]] = {
            Peers: self._on_peers,
            Drain: self._on_drain,
            Goodbye: self._on_goodbye,
        }
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()
        self.dialer = Dialer(
            self,
            transport,
            addressing,
            registry,
            self.links,
            user.wanted,
            seeds=seeds,
            fingerprints=transport.security.fingerprints,
        )

    def on_announcement(self, announcement: Announcement, source: Source) -> None:
        """Pass an announcement to the registry, and dial the peer if it is wanted and due."""
        bus = self._own.current.bus
        if self._changes.stopped or announcement.bus != bus or not self._addressing.can_reach(announcement):
            return
        now = time.monotonic()
        self._changes.apply(self._registry.announced(announcement, source, now))
        self.dialer.consider(announcement.instance, now)

    def verified(self) -> list[tuple[Announcement, float]]:
        """Return the connected peers that are up, each with the seconds since its last message."""
        now = time.monotonic()
        heard_at = self._registry.heard_at
        verified = [peer for peer in self._registry.peers.values() if peer.is_up and peer.instance in self.links]
        return [(peer.announcement, now - heard_at[peer.instance]) for peer in verified]

    def announcement_of(self, instance: str) -> Announcement | None:
        """Return the latest announcement of an instance, or None."""
        peer = self._registry.peers.get(instance)
        return None if peer is None else peer.announcement

    def send_hello(self) -> None:
        """Send HELLO on all links."""
        for link in list(self.links.values()):
            link.send_hello()

    def close(self) -> None:
        """Send GOODBYE on all links, and close them."""
        for link in self.links.values():
            link.close(goodbye=self._registry.own)
        self.links.clear()
        for task in list(self._tasks):
            task.cancel()

    def abandon(self) -> None:
        """Close all links after the loop was closed."""
        self.dialer.abandon()
        for link in self.links.values():
            link.abandon()
        self.links.clear()

    # DialUser

    def hello(self, target: str) -> Hello:
        """Return the HELLO to send."""
        return self._own.hello(target, self._changes.digest)

    def on_established(self, link: Link, announcement: Announcement, welcome: Welcome) -> None:
        """Mark a peer that answered HELLO as up."""
        if announcement.instance == self._registry.own:
            self.dialer.linked(link, ourselves=True)
            link.close()
            return
        self.dialer.linked(link)
        older = self.links.get(announcement.instance)
        if older is not None and older is not link:
            link.close()  # found by its address and by its announcement: one link is enough
            return
        self.links[announcement.instance] = link
        endpoint, event_endpoint = self._addressing.answered(announcement, link.endpoint)
        facts = self._registry.answered(
            announcement,
            time.monotonic(),
            endpoint=endpoint,
            event_endpoint=event_endpoint,
            draining=welcome.draining,
        )
        self._changes.apply(facts)
        if self._own.is_public and not link.introduced:
            link.send_hello()  # the previous one was sent before this process had an announcement

    def on_message(self, link: Link, message: AnyMessage) -> None:
        """Handle a message that a peer pushed: Peers, Drain or Goodbye."""
        self._pushed[type(message)](link, message)

    def on_closed(self, link: Link, reason: str, *, refused: bool) -> None:
        """Mark a peer as lost, or as gone if it had said GOODBYE."""
        if self.links.get(link.instance) is not link:
            return
        self._drop(link)
        peer = self._registry.peers.get(link.instance)
        if peer is not None and peer.state is PeerState.DRAINING:
            # It sent DRAIN. Its GOODBYE may be lost: libzmq drops unread messages when a connection ends.
            self._changes.apply(self._registry.left(link.instance, "has left"))
        else:
            self._changes.apply(self._registry.lost(link.instance, time.monotonic(), reason))

    def unreachable(self, instance: str, reason: str, *, refused: bool = False) -> None:
        """Mark a peer as not reached by an attempt."""
        self._changes.apply(self._registry.silent(instance, time.monotonic(), reason, refused=refused))

    def denied(self, instance: str, reason: str) -> None:
        """Mark a peer as reachable without a key in common."""
        self._changes.apply(self._registry.denied(instance, time.monotonic(), reason))

    def attempt_is_over(self) -> None:
        """Wake calls that wait for an attempt."""
        self._changes.wake()

    def _drop(self, link: Link, goodbye: str = "") -> None:
        link.close(goodbye)
        self.links.pop(link.instance, None)
        self.dialer.unlinked(link.instance)

    def _on_drain(self, link: Link, message: Drain) -> None:
        self._changes.apply(self._registry.drains(link.instance, time.monotonic()))
        self._spawn(self._confirm_drain(link))

    def _on_goodbye(self, link: Link, message: Goodbye) -> None:
        # No new requests go to this peer, but its replies on other connections may arrive after this message.
        self._changes.apply(self._registry.drains(link.instance, time.monotonic()))
        self._spawn(self._part(link))

    def _on_peers(self, link: Link, message: Peers) -> None:
        for entry in message.joined:
            match entry:
                case [{"id": str(instance)} as said, float() | int(), *_]:
                    known = self._registry.peers.get(instance)
                    if known is not None and known.is_live:
                        continue  # it announces itself to us; each of a hundred peers reports all the others, too
                    with contextlib.suppress(ProtocolError):
                        read = Announcement.from_wire(said, None if known is None else known.announcement)
                        self.on_announcement(read, Source.HEARSAY)
        for instance in message.left:
            if isinstance(instance, str):
                self._changes.apply(self._registry.reported_lost(instance))

    async def _confirm_drain(self, link: Link) -> None:
        await self._user.wait_until_no_new_requests(link.instance)
        link.drained()

    async def _part(self, link: Link) -> None:
        await self._user.wait_until_answered(link.instance)
        if self.links.get(link.instance) is link:
            self._drop(link, self._registry.own)
            self._changes.apply(self._registry.left(link.instance, "said goodbye"))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
