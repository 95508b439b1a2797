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
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ..core.registry import Fact, Peer, PeerJoined, PeerLeft, PeerState, Registry, Snapshot, Source, retry_delay
from ..core.resolver import explain
from ..deadline import Deadline
from ..exceptions import LightbusException, ProtocolError
from ..io.discovery import Discovery
from ..io.interfaces import dial_order
from ..io.transport import Transport
from ..wire.announcement import Announcement, ApiInfo
from ..wire.envelope import Drain, Goodbye, Hello, Message, Peers, Welcome
from .binding import HELLO_EVERY, Binding, Endpoints, Knowledge
from .consuming import Consumer
from .context import Identity
from .links import Dial, Link

__all__ = ["Node", "NodeUser"]

logger = logging.getLogger("lightbus.node")

TICK = 0.1
EXCHANGE_PARTNERS = 3
"""Peers that we keep connected to though we use none of their APIs: they tell us of the others."""


class NodeUser(Protocol):
    """Who is told what becomes of the peers: the engine."""

    wanted: set[str]

    def peers_changed(self, snapshot: Snapshot, left: Sequence[PeerLeft]) -> None:
        """Take over a new snapshot, and fail what was with those who left."""

    async def doors_have_seen(self, instance: str) -> None:
        """Return when no door can send anything new to an instance that the snapshot no longer offers."""


class _Seed:
    """A fixed peer of the settings: an address, behind which somebody is or not."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.instance = ""
        self.retry_at = 0.0
        self.failures = 0
        self.is_ourselves = False


class Node:
    """
    One process's place on the bus. Made, used and stopped on one event loop.

    Args:
        user: the engine.
        identity: who we are.
        transport: makes the sockets.
        discovery: finds and announces.
        seeds: endpoints of fixed peers.
        directory: where ipc sockets are, in mode host.
        networks: our own addresses with prefix lengths; peers in them are dialled first.
        looked: how `discovery` looks for peers, for messages: "zeroconf on 127.0.0.1".
        wait: seconds that a name nobody advertises is waited for, from the start of the node on.

    """

    def __init__(
        self,
        user: NodeUser,
        identity: Identity,
        transport: Transport,
        discovery: Discovery,
        *,
        seeds: Sequence[str] = (),
        directory: Path | None = None,
        networks: Sequence[str] = (),
        wait: float = 1.0,
        looked: str = "",
    ) -> None:
        self.user = user
        self.identity = identity
        self.transport = transport
        self.discovery = discovery
        self.registry = Registry(own=identity.instance)
        self.links: dict[str, Link] = {}
        self.binding: Binding | None = None
        self.consumer: Consumer | None = None
        self._directory = directory or Path("/nonexistent")
        self._networks = networks
        self._wait = wait
        self._looked = looked
        self._announcement = Announcement(
            bus=identity.bus,
            instance=identity.instance,
            service=identity.service,
            process=identity.process,
            host=identity.host,
            apis=(),
        )
        self._seeds = [_Seed(endpoint) for endpoint in seeds]
        self._dials: dict[str, Dial] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._digest = ""
        self._last_hello = 0.0
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        self._started_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None

    # Life

    async def start(self) -> None:
        """Begin to look for peers. Problems of discovery are logged by it and stop nothing."""
        self._tick()
        await self.discovery.start(self._found, self._lost)

    async def stop(self) -> None:
        """Leave: withdraw, say goodbye, close everything. Bounded."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        await self.discovery.stop()
        for dial in self._dials.values():
            dial.close()
        self._dials.clear()
        if self.binding is not None:
            self.binding.close()
        for link in self.links.values():
            link.close(goodbye=self.identity.instance)
        self.links.clear()
        for task in list(self._tasks):
            task.cancel()
        self._wake_waiters()

    def bind(self, announcement: Callable[[Endpoints], Announcement], open_: Callable[[Binding], Endpoints]) -> Binding:
        """Become a worker: bind, and be a peer of ourselves. Others hear of it with `announce`."""
        knowledge = Knowledge(
            announcement=lambda: self._announcement,
            peers_digest=lambda: self._digest,
            verified=self._verified,
            claimed=lambda other: self._heard(other, Source.CLAIM),
        )
        self.binding = Binding(self.identity, self.transport, knowledge)
        endpoints = open_(self.binding)
        self._announcement = announcement(endpoints)
        self._endpoints = endpoints
        self._know_ourselves()
        return self.binding

    async def announce(self) -> None:
        """Let others know that we are here."""
        await self.discovery.announce(self._announcement)
        for link in self.links.values():
            link.say_hello()  # those we are connected to already need not wait for discovery

    async def advertise(self, apis: Sequence[ApiInfo]) -> None:
        """Change what we advertise, while running."""
        self._announcement = _with_apis(self._announcement, apis)
        self._know_ourselves()
        await self.discovery.announce(self._announcement)
        if self.binding is not None:
            self.binding.announce()

    async def drain(self, seconds: float) -> None:
        """Withdraw, and return when nobody sends anything new any more, or after so many seconds."""
        await self.discovery.withdraw()
        if self.binding is not None:
            self._apply(self.registry.drains(self.identity.instance, time.monotonic()))
            await self.binding.drain(seconds)

    # Names

    async def resolve(self, api: str, deadline: Deadline) -> None:
        """
        Return when a peer that advertises `api` is up.

        Raises:
            UnknownApi: nobody advertises it.
            PeerUnreachable: somebody does, and does not answer.

        """
        if api not in self.user.wanted:
            self.user.wanted.add(api)
        asked_at = time.monotonic()
        for peer in self.registry.snapshot().announced.get(api, ()):
            self._dial_peer(peer)  # quarantined or not: somebody asks, so it is worth an attempt
        self._dial_due(asked_at)
        while not self.registry.snapshot().by_api.get(api):
            left = min(self._patience(api, asked_at), deadline.left())
            if left <= 0 or self._stopped:
                raise self._explain(api, asked_at)
            await self._change(left)

    async def wait_for(self, apis: Sequence[str], deadline: Deadline) -> list[str]:
        """Return when each of these APIs is advertised by a peer that is up; return those that were not in time."""
        self.user.wanted.update(apis)
        while True:
            self._dial_due(time.monotonic())
            by_api = self.registry.snapshot().by_api
            missing = [api for api in apis if api not in by_api]
            if not missing or deadline.passed() or self._stopped:
                return missing
            await self._change(deadline.left())

    def _patience(self, api: str, asked_at: float) -> float:
        """Return for how many more seconds it makes sense to wait for an API."""
        now = time.monotonic()
        if any(self._may_be(api, dial) for dial in self._dials.values()):
            return 1.0  # an attempt ends by itself
        settled_at = self._started_at + self._wait
        known = self.registry.snapshot().announced.get(api, ())
        if any(peer.state is PeerState.SUSPECT for peer in known):
            settled_at = max(settled_at, asked_at + self._wait)
        return settled_at - now

    def _may_be(self, api: str, dial: Dial) -> bool:
        peer = self.registry.peers.get(dial.target)
        return peer is None or peer.advertises(api) is not False

    def _explain(self, api: str, asked_at: float) -> LightbusException:
        where = [f"bus '{self.identity.bus}'", self._looked]
        if self._seeds:
            answering = sum(bool(seed.instance) for seed in self._seeds)
            where.append(f"{answering} of {len(self._seeds)} fixed peers answer")
        return explain(
            api, self.registry.snapshot(), waited=time.monotonic() - self._started_at, where=", ".join(where)
        )

    async def _change(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=max(0.001, seconds))
        finally:
            self._waiters.discard(waiter)

    def _wake_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # What discovery and others say

    def _found(self, announcement: Announcement) -> None:
        self._heard(announcement, Source.DISCOVERY)

    def _lost(self, instance: str) -> None:
        self._apply(self.registry.withdrawn(instance))

    def _heard(self, announcement: Announcement, source: Source) -> None:
        if announcement.bus != self.identity.bus or self._stopped:
            return
        now = time.monotonic()
        self._apply(self.registry.announced(announcement, source, now))
        self._dial_due(now)

    # Dialling

    def _dial_due(self, now: float) -> None:
        for peer in self.registry.due(now):
            if self._is_wanted(peer):
                self._dial_peer(peer)
        for seed in self._seeds:
            if not seed.instance and not seed.is_ourselves and seed.retry_at <= now:
                self._dial(seed.endpoint, "", [seed.endpoint], "")

    def _is_wanted(self, peer: Peer) -> bool:
        names = peer.announcement.api_names
        if names is None or not self.user.wanted.isdisjoint(names):
            return True
        return len(self.links) + len(self._dials) < EXCHANGE_PARTNERS

    def _dial_peer(self, peer: Peer) -> None:
        announcement = peer.announcement
        if peer.instance in self.links or peer.instance == self.identity.instance:
            return
        endpoints = announcement.rpc_endpoints(self._directory)
        if not announcement.on_host_only:
            ordered = dial_order(announcement.addresses, self._networks)
            endpoints = tuple(f"tcp://{_bracketed(address)}:{announcement.rpc_port}" for address in ordered)
        self._dial(peer.instance, peer.instance, endpoints, announcement.fingerprint)

    def _dial(self, key: str, target: str, endpoints: Sequence[str], fingerprint: str) -> None:
        if key not in self._dials and not self._stopped:
            self._dials[key] = Dial(
                self, self.transport, endpoints, self._dialled, target=target, fingerprint=fingerprint
            )

    def _dialled(self, dial: Dial, link: Link | None, reason: str, refused: bool) -> None:
        self._dials.pop(dial.target or dial.endpoints[0], None)
        now = time.monotonic()
        if link is None:
            for seed in self._seeds_at(dial.endpoints):
                seed.failures += 1
                seed.retry_at = now + retry_delay(seed.failures)
                log = logger.warning if seed.failures == 1 else logger.debug
                log("The fixed peer %s %s; it goes on being tried", seed.endpoint, reason)
            if dial.target:
                self._apply(self.registry.silent(dial.target, now, reason, refused=refused))
        self._wake_waiters()

    def _seeds_at(self, endpoints: Sequence[str]) -> list[_Seed]:
        return [seed for seed in self._seeds if seed.endpoint in endpoints]

    # As the user of links

    def hello(self, target: str) -> Hello:
        """Return what to introduce ourselves with."""
        me = self.identity
        announcement = self._announcement.to_wire() if self.binding is not None else None
        return Hello(me.bus, target, me.instance, me.service, me.process, self._digest, announcement)

    def welcomed(self, link: Link, announcement: Announcement, welcome: Welcome) -> None:
        """A peer answered HELLO: it is up."""
        seeds = self._seeds_at([link.endpoint])
        if announcement.instance == self.identity.instance:
            for seed in seeds:
                seed.is_ourselves = True
            link.close()
            return
        for seed in seeds:
            seed.instance, seed.failures = announcement.instance, 0
        older = self.links.get(announcement.instance)
        if older is not None and older is not link:
            link.close()  # found by its address and by its announcement: one link is enough
            return
        self.links[announcement.instance] = link
        try:
            event_endpoint = announcement.event_endpoint(self._directory, address=_address_of(link.endpoint))
        except (ProtocolError, ValueError, IndexError):
            event_endpoint = ""
        self._apply(
            self.registry.answered(
                announcement,
                time.monotonic(),
                endpoint=link.endpoint,
                event_endpoint=event_endpoint,
                draining=welcome.draining,
            )
        )

    def told(self, link: Link, message: Message) -> None:
        """Take in what a peer pushed."""
        now = time.monotonic()
        match message:
            case Peers():
                self._on_peers(message)
            case Drain():
                self._apply(self.registry.drains(link.instance, now))
                self._spawn(self._confirm_drain(link))
            case Goodbye():
                self._drop_link(link)
                self._apply(self.registry.left(link.instance, "said goodbye"))

    def over(self, link: Link, reason: str, *, refused: bool) -> None:
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

    def _drop_link(self, link: Link) -> None:
        link.close()
        self.links.pop(link.instance, None)
        for seed in self._seeds:
            if seed.instance == link.instance:
                seed.instance, seed.retry_at = "", time.monotonic() + retry_delay(1)

    def _on_peers(self, message: Peers) -> None:
        for entry in message.joined:
            match entry:
                case [announcement, float() | int(), *_]:
                    with contextlib.suppress(ProtocolError):
                        self._heard(Announcement.from_wire(announcement), Source.HEARSAY)
        for instance in message.left:
            # A hint, as what they say of those who came: it takes back a hint, and ends nothing that we saw ourselves.
            if isinstance(instance, str):
                self._apply(self.registry.withdrawn(instance))

    async def _confirm_drain(self, link: Link) -> None:
        await self.user.doors_have_seen(link.instance)
        link.drained()

    # Carrying out the registry's facts

    def _apply(self, facts: Sequence[Fact]) -> None:
        if self._stopped:
            return
        for fact in facts:
            self._log(fact)
        self._digest = _digest(self.registry.verified())
        snapshot = self.registry.snapshot()
        self.user.peers_changed(snapshot, [fact for fact in facts if isinstance(fact, PeerLeft)])
        for fact in facts:
            self._tell_consumer(fact)
        self._tell_engines(facts)
        self._wake_waiters()

    def _tell_consumer(self, fact: Fact) -> None:
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
        if isinstance(fact, PeerLeft):
            logger.info("%s %s", fact.peer.announcement, fact.reason)
        elif isinstance(fact, PeerJoined) and fact.peer.instance != self.identity.instance:
            names = ", ".join(fact.peer.announcement.api_names or ()) or "nothing"
            logger.info("%s is up at %s and advertises %s", fact.peer.announcement, fact.peer.endpoint, names)

    def _verified(self) -> list[tuple[Announcement, float]]:
        now = time.monotonic()
        peers = self.registry.peers.values()
        return [(p.announcement, now - p.heard_at) for p in peers if p.is_up and p.instance != self.identity.instance]

    def _know_ourselves(self) -> None:
        facts = self.registry.answered(
            self._announcement,
            time.monotonic(),
            endpoint=self._endpoints.rpc,
            event_endpoint=self._endpoints.event,
        )
        self._apply(facts)

    # Time

    def _tick(self) -> None:
        now = time.monotonic()
        if self.binding is not None:
            self.binding.tick(now)
        self._dial_due(now)
        if now - self._last_hello > HELLO_EVERY:
            self._last_hello = now
            self.registry.forget_silent(now)
            for link in list(self.links.values()):
                link.say_hello()
        self._timer = self._loop.call_later(TICK, self._tick)

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _digest(instances: Sequence[str]) -> str:
    return hashlib.blake2b(",".join(instances).encode(), digest_size=6).hexdigest() if instances else ""


def _with_apis(announcement: Announcement, apis: Sequence[ApiInfo]) -> Announcement:
    return replace(announcement, apis=tuple(apis), api_names=None, digest="")


def _address_of(endpoint: str) -> str:
    """Return the host of a `tcp://` endpoint, brackets and all taken off; empty for ipc."""
    if not endpoint.startswith("tcp://"):
        return ""
    return endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
