"""One process's place on the bus: discovery, links and the registry, and for a worker what it binds.

The node is a shell. What arrives is turned into the registry's inputs, and the registry's facts are carried out: doors
are told, subscriptions opened and closed, connected engines informed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from ..core.registry import Fact, Peer, PeerJoined, PeerLeft, PeerState, Registry, Snapshot, Source
from ..events.consumer import Consumer
from ..exceptions import ProtocolError
from ..membership.connected import HELLO_EVERY
from ..membership.context import Identity
from ..membership.dialer import Dialler
from ..membership.link import Link
from ..membership.lookup import Lookup
from ..ports.discovery import Discovery
from ..ports.transport import Endpoints, Transport
from ..wire.announcement import Announcement, ApiInfo
from ..wire.envelope import Drain, Goodbye, Hello, Message, Peers, Welcome
from .binding import Binding, Knowledge

__all__ = ["Node", "NodeUser"]

logger = logging.getLogger("lightbus.node")

TICK = 0.1

REFRESH_AFTER = 0.05
"""Seconds in which announcements share one new snapshot: none of them alone changes what can be called."""


class NodeUser(Protocol):
    """Who is told what becomes of the peers: the engine."""

    wanted: set[str]

    def peers_changed(self, node: Node, snapshot: Snapshot, left: Sequence[PeerLeft]) -> None:
        """Take over a new snapshot, and fail what was with those who left."""

    async def doors_have_seen(self, instance: str) -> None:
        """Return when no door can send anything new to an instance that the snapshot no longer offers."""

    async def doors_are_done(self, instance: str) -> None:
        """Return when no door awaits anything of an instance any more, or after a short while."""


class Node:
    """
    One process's place on the bus. Made, used and stopped on one event loop.

    Args:
        user: the engine.
        identity: who we are.
        transport: makes the sockets.
        discovery: finds and announces.
        seeds: endpoints of fixed peers.
        looked: returns how `discovery` looks for peers, for messages: "zeroconf on 127.0.0.1".
        strangers: returns a clause about each peer of another bus that `discovery` heard of with an API, for messages.
        wait: seconds that a name nobody advertises is waited for, from the start of the node on.
        known: peers that the node before this one saw up. They are taken to be so, and dialled at once.

    """

    def __init__(
        self,
        user: NodeUser,
        identity: Identity,
        transport: Transport,
        discovery: Discovery,
        *,
        seeds: Sequence[str] = (),
        wait: float = 1.0,
        looked: Callable[[], str] = str,
        strangers: Callable[[str], list[str]] = lambda api: [],
        known: Iterable[Peer] = (),
    ) -> None:
        self.user = user
        self.identity = identity
        self.transport = transport
        self.addressing = transport.addressing()
        self.discovery = discovery
        self.registry = Registry(own=identity.instance, fingerprints=transport.security.fingerprints)
        self.links: dict[str, Link] = {}
        self.binding: Binding | None = None
        self.consumer: Consumer | None = None
        self.on_joined: Callable[[Peer], None] | None = None
        """Is told of every peer that is up now."""
        self._looked = looked
        self._announcement = _silent_announcement(identity)
        self._announced = False
        self._is_at_ours = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._digest = ""
        self._last_hello = 0.0
        self._stopped = False
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._refresh_timer: asyncio.TimerHandle | None = None
        self._dialler = Dialler(
            self,
            transport,
            self.addressing,
            self.registry,
            self.links,
            user.wanted,
            seeds=seeds,
            fingerprints=transport.security.fingerprints,
        )
        self._lookup = Lookup(
            self.registry,
            self._dialler,
            user.wanted,
            wait=wait,
            where=self.where,
            strangers=strangers,
            look=discovery.look,
        )
        self.resolve, self.resolve_all = self._lookup.resolve, self._lookup.resolve_all
        self.wait_for = self._lookup.wait_for
        self.look_around = self._lookup.look_around
        self.fixed_peers = self._dialler.fixed_peers
        self.registry.inherit(known, time.monotonic())
        self._dialler.confirm(self.registry.peers.values())

    # Life

    async def start(self) -> None:
        """Begin to look for peers. Problems of discovery are logged by it and stop nothing."""
        if not self._stopped:
            self._tick()
            await self.discovery.start(self._found, self._lost)

    def retire(self) -> list[Peer]:
        """Take part in nothing new from now on; return the peers that are up, for the node that follows."""
        if self._stopped:
            return []
        self._apply(self.registry.left(self.identity.instance, "has stopped"))
        self._stopped = True
        for timer in (self._timer, self._refresh_timer):
            if timer is not None:
                timer.cancel()
        self._lookup.stop()
        self._dialler.close()
        return [peer for peer in self.registry.peers.values() if peer.is_up]

    async def stop(self) -> None:
        """Leave: withdraw, say goodbye, close everything. Bounded, and once."""
        self.retire()
        if self._closed:
            return
        self._closed = True
        if self.binding is not None:
            await self.binding.say_goodbye()
        await self.discovery.stop()
        if self.binding is not None:
            self.binding.close()
        for link in self.links.values():
            link.close(goodbye=self.identity.instance)
        self.links.clear()
        for task in list(self._tasks):
            task.cancel()

    def abandon(self) -> None:
        """Close the sockets of a node whose loop was closed before it."""
        self._stopped = True
        self._dialler.abandon()
        if self.binding is not None:
            self.binding.abandon()
        for link in self.links.values():
            link.abandon()
        self.links.clear()

    def bind(self, announcement: Callable[[Endpoints], Announcement]) -> Binding:
        """Become a worker: bind, and be a peer of ourselves. Others are told nothing of our APIs before `announce`."""
        knowledge = Knowledge(
            announcement=self._told_to_others,
            peers_digest=lambda: self._digest,
            verified=self._verified,
            claimed=lambda other: self._heard(other, Source.CLAIM),
        )
        binding = self.binding = Binding(self.identity, self.transport, self.addressing, knowledge)
        self._announcement = announcement(binding.endpoints)
        self._is_at_ours = self._announcement.addresses == self.addressing.addresses  # no others are to be dialled
        self._know_ourselves(binding)
        return binding

    async def announce(self) -> None:
        """Let others know that we are here, and what we offer."""
        self._announced = True
        self._tell_connected()
        await self.discovery.announce(self._announcement)

    def _tell_connected(self) -> None:
        if self.binding is not None:
            self.binding.announce()  # to whoever found us already: there are fixed peers
        for link in self.links.values():
            link.say_hello()  # and those we are connected to need not wait for discovery

    async def advertise(self, apis: Sequence[ApiInfo]) -> None:
        """Change what we advertise; once announced, others are told at once."""
        self._announcement = replace(self._announcement, apis=tuple(apis), api_names=None, digest="")
        if self.binding is not None:
            self._know_ourselves(self.binding)
        if self._announced:
            await self.announce()

    async def drain(self, seconds: float) -> None:
        """Withdraw, and return when nobody sends anything new any more, or after so many seconds."""
        await self.discovery.withdraw()
        if self.binding is not None:
            self._apply(self.registry.drains(self.identity.instance, time.monotonic()))
            await self.binding.drain(seconds)

    def where(self) -> str:
        """Return how and where peers are looked for, for messages."""
        return ", ".join(filter(None, [f"bus '{self.identity.bus}'", self._looked(), self._dialler.describe_seeds()]))

    # What discovery and others say

    def _found(self, announcement: Announcement) -> None:
        self._heard(announcement, Source.DISCOVERY)

    def _lost(self, instance: str) -> None:
        self._apply(self.registry.withdrawn(instance))

    def _heard(self, announcement: Announcement, source: Source) -> None:
        if self._stopped or announcement.bus != self.identity.bus or not self.addressing.can_reach(announcement):
            return
        now = time.monotonic()
        self._apply(self.registry.announced(announcement, source, now))
        self._dialler.consider(announcement.instance, now)

    # As the user of links and attempts

    def hello(self, target: str) -> Hello:
        """Return what to introduce ourselves with."""
        me = self.identity
        announcement = self._announcement.to_wire() if self._announced else None
        size = self.transport.max_message_size
        return Hello(me.bus, target, me.instance, me.service, me.process, self._digest, announcement, size)

    def on_established(self, link: Link, announcement: Announcement, welcome: Welcome) -> None:
        """A peer answered HELLO: it is up."""
        if announcement.instance == self.identity.instance:
            self._dialler.linked(link, ourselves=True)
            link.close()
            return
        self._dialler.linked(link)
        older = self.links.get(announcement.instance)
        if older is not None and older is not link:
            link.close()  # found by its address and by its announcement: one link is enough
            return
        self.links[announcement.instance] = link
        endpoint, event_endpoint = self.addressing.answered(announcement, link.endpoint)
        facts = self.registry.answered(
            announcement,
            time.monotonic(),
            endpoint=endpoint,
            event_endpoint=event_endpoint,
            draining=welcome.draining,
        )
        self._apply(facts)
        if self._announced and not link.introduced:
            link.say_hello()  # it went out before we had anything to announce

    def on_message(self, link: Link, message: Message) -> None:
        """Take in what a peer pushed."""
        match message:
            case Peers():
                self._on_peers(message)
            case Drain():
                self._apply(self.registry.drains(link.instance, time.monotonic()))
                self._spawn(self._confirm_drain(link))
            case Goodbye():
                # Nothing new goes there, but what is on its way back may be behind this on another connection.
                self._apply(self.registry.drains(link.instance, time.monotonic()))
                self._spawn(self._part(link))

    def on_closed(self, link: Link, reason: str, *, refused: bool) -> None:
        """Take in that a link is of no use any more."""
        if self.links.get(link.instance) is not link:
            return
        self._drop_link(link)
        peer = self.registry.peers.get(link.instance)
        if peer is not None and peer.state is PeerState.DRAINING:
            # It said that it is leaving. libzmq drops what is unread when a connection ends, its goodbye too.
            self._apply(self.registry.left(link.instance, "has left"))
        else:
            self._apply(self.registry.lost(link.instance, time.monotonic(), reason))

    def unreachable(self, instance: str, reason: str, *, refused: bool = False) -> None:
        """Take in that an attempt to reach a peer failed."""
        self._apply(self.registry.silent(instance, time.monotonic(), reason, refused=refused))

    def denied(self, instance: str, reason: str) -> None:
        """Take in that a peer is there, and we have no key in common."""
        self._apply(self.registry.denied(instance, time.monotonic(), reason))

    def attempt_is_over(self) -> None:
        """Have those who wait for it look again."""
        self._lookup.wake()

    def _drop_link(self, link: Link, goodbye: str = "") -> None:
        link.close(goodbye)
        self.links.pop(link.instance, None)
        self._dialler.unlinked(link.instance)

    def _on_peers(self, message: Peers) -> None:
        for entry in message.joined:
            match entry:
                case [announcement, float() | int(), *_]:
                    with contextlib.suppress(ProtocolError):
                        self._heard(Announcement.from_wire(announcement), Source.HEARSAY)
        for instance in message.left:
            if isinstance(instance, str):
                self._apply(self.registry.rumoured_gone(instance))

    async def _confirm_drain(self, link: Link) -> None:
        await self.user.doors_have_seen(link.instance)
        link.drained()

    async def _part(self, link: Link) -> None:
        await self.user.doors_are_done(link.instance)
        if self.links.get(link.instance) is link:
            self._drop_link(link, self.identity.instance)
            self._apply(self.registry.left(link.instance, "said goodbye"))

    # Carrying out the registry's facts

    def _apply(self, facts: Sequence[Fact]) -> None:
        if self._stopped:
            return
        if not facts:
            self._refresh_soon()
            return
        for fact in facts:
            self._log(fact)
        self._refresh([fact for fact in facts if isinstance(fact, PeerLeft)])
        for fact in facts:
            self._tell_consumer(fact)
        self._tell_engines(facts)
        self._lookup.wake()

    def _refresh(self, left: Sequence[PeerLeft] = ()) -> None:
        if self._refresh_timer is not None:
            self._refresh_timer.cancel()
            self._refresh_timer = None
        self._digest = _digest(self.registry.verified())
        self.user.peers_changed(self, self.registry.snapshot(), left)

    def _refresh_soon(self) -> None:
        if self._refresh_timer is None:
            self._refresh_timer = self._loop.call_later(REFRESH_AFTER, self._refresh)

    def _tell_consumer(self, fact: Fact) -> None:
        if self.on_joined is not None and isinstance(fact, PeerJoined):
            self.on_joined(fact.peer)
        if self.consumer is None:
            return
        if isinstance(fact, PeerLeft):
            self.consumer.peer_left(fact.peer.instance)
        else:
            self.consumer.peer_is_up(fact.peer)

    def _tell_engines(self, facts: Sequence[Fact]) -> None:
        if self.binding is None:
            return
        others = [fact for fact in facts if fact.peer.instance != self.identity.instance]
        joined = [fact.peer.announcement for fact in others if isinstance(fact, PeerJoined)]
        left = [fact.peer.instance for fact in others if isinstance(fact, PeerLeft)]
        if joined or left:
            self.binding.tell_peers(joined, left)

    def _log(self, fact: Fact) -> None:
        if fact.peer.instance == self.identity.instance:
            return
        if isinstance(fact, PeerLeft):
            logger.info("%s %s", fact.peer.announcement, fact.reason)
        elif isinstance(fact, PeerJoined):
            names = ", ".join(fact.peer.announcement.api_names or ()) or "nothing"
            logger.info("%s is up at %s and advertises %s", fact.peer.announcement, fact.peer.endpoint, names)

    def _verified(self) -> list[tuple[Announcement, float]]:
        now = time.monotonic()
        peers = self.registry.peers.values()
        return [(p.announcement, now - p.heard_at) for p in peers if p.is_up and p.instance in self.links]

    def _told_to_others(self) -> Announcement:
        if self._announced:
            return self._announcement
        return replace(self._announcement, apis=(), api_names=None, digest="")

    def _know_ourselves(self, binding: Binding) -> None:
        facts = self.registry.answered(
            self._announcement,
            time.monotonic(),
            endpoint=binding.endpoints.rpc,
            event_endpoint=binding.endpoints.event,
        )
        self._apply(facts)

    # Time

    def _tick(self) -> None:
        now = time.monotonic()
        self._timer = self._loop.call_later(TICK, self._tick)  # first: it must go on whatever happens below
        if self.binding is not None:
            self.binding.tick(now)
            if self.binding.look(now):
                self._sockets_moved(self.binding)
        if self.addressing.look(now):
            self._spawn(self._move(self.addressing.addresses))
        self._dialler.dial_due(now)
        if now - self._last_hello > HELLO_EVERY:
            self._last_hello = now
            self.registry.forget_silent(now)
            for link in list(self.links.values()):
                link.say_hello()

    def _sockets_moved(self, binding: Binding) -> None:
        """Be known where our sockets are now: directories came, or somebody removed some."""
        self._announcement = replace(self._announcement, directory=binding.endpoints.directory)
        self._know_ourselves(binding)
        if self._announced:
            self._spawn(self.announce())

    async def _move(self, addresses: tuple[str, ...]) -> None:
        """Go on at other addresses of this host: interfaces came or went."""
        logger.info("The addresses of this host that the bus uses are now %s", ", ".join(addresses))
        if self.binding is not None:
            self._rebind(self.binding, addresses)
        if self._announced:
            self._tell_connected()
        await self.discovery.move(addresses, self._announcement if self._announced else None)

    def _rebind(self, binding: Binding, addresses: tuple[str, ...]) -> None:
        before = binding.endpoints.rpc
        binding.move(addresses)
        if binding.endpoints.rpc != before:
            # What our own doors had with ourselves went by an address that is no more.
            self._apply(self.registry.lost(self.identity.instance, time.monotonic(), "has another address"))
        if self._is_at_ours:
            self._announcement = replace(self._announcement, addresses=binding.endpoints.addresses)
        self._know_ourselves(binding)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _silent_announcement(identity: Identity) -> Announcement:
    """Return the announcement of a process that announces nothing."""
    return Announcement(
        bus=identity.bus,
        instance=identity.instance,
        service=identity.service,
        process=identity.process,
        host=identity.host,
        apis=(),
    )


def _digest(instances: Sequence[str]) -> str:
    return hashlib.blake2b(",".join(instances).encode(), digest_size=6).hexdigest() if instances else ""
