"""
Who is out there: announcing ourselves and hearing of others, over zeroconf (mDNS), in memory, or not at all.

What is heard is a hint. Whether a peer is really there is for HELLO to say; whom to dial is decided in `core`.
All calls of one object come from one event loop, and its state is only touched there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from ...exceptions import ProtocolError
from ...typing import InstanceId
from ...wire.announcement import MAX_FOREIGN_TXT_BYTES, PROTOCOL_VERSION, Announcement

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

__all__ = [
    "MAX_PEERS",
    "SERVICE_TYPE",
    "Discovery",
    "Found",
    "Lost",
    "MemoryDiscovery",
    "MemoryHub",
    "NoDiscovery",
    "ZeroconfDiscovery",
    "instance_name",
]

logger = logging.getLogger("lightbus.discovery")

T = TypeVar("T")
Found: TypeAlias = Callable[[Announcement], None]
Lost: TypeAlias = Callable[[InstanceId], None]

SERVICE_TYPE = "_lightbus._tcp.local."
LOOPBACK = "127.0.0.1"
MDNS_GROUP, MDNS_PORT = "224.0.0.251", 5353  # RFC 6762 section 3

MAX_PEERS = 1024
"""Peers kept at a time: anybody on the network can announce any number."""

MAX_RESOLVING = 32
"""Incomplete announcements asked about at a time; that of a real peer comes complete, in one packet."""

MAX_STRANGERS = 64
"""Peers with another key that are remembered, for messages."""

MAX_WARNED = 256
"""Sources of useless announcements that are warned of; what comes from further ones is only counted."""

WARN_EVERY = 1.0
RESOLVE_TIMEOUT = 3.0
START_TIMEOUT = 5.0
STOP_TIMEOUT = 2.0
"""Seconds."""

GOODBYE_TIME = 0.3
"""Seconds that python-zeroconf takes for the three goodbyes it sends, as packets get lost on a LAN."""


class Discovery(Protocol):
    """A way to announce ourselves and to hear of others. No method raises because of the network: see `problem`."""

    @property
    def problem(self) -> str | None:
        """A sentence with the remedy while discovery does not work; None while it does."""

    async def start(self, found: Found, lost: Lost) -> None:
        """
        Listen. `found` is called for each peer of our bus, and again when what it announces changes; `lost` when it
        says goodbye or its announcement runs out. Both are called on this loop, never for ourselves, and not after
        `stop`; they must not block.
        """

    async def announce(self, announcement: Announcement) -> None:
        """Make ourselves known, after `start`. Called again, it replaces what was announced before."""

    def look(self) -> None:
        """Look again at once, where that costs next to nothing; what is new has been told when this returns."""

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Go on at other addresses of this host, after `start`, and announce this there."""

    async def withdraw(self) -> None:
        """Say goodbye: when it returns the others have been told. Nothing if nothing is announced."""

    async def stop(self) -> None:
        """Withdraw, and leave nothing running. Takes a few seconds at most."""


class NoDiscovery:
    """Discovery switched off: peers are found through fixed peers only."""

    problem: str | None = None

    async def start(self, found: Found, lost: Lost) -> None:
        """Hear of nobody."""

    async def announce(self, announcement: Announcement) -> None:
        """Tell nobody."""

    def look(self) -> None:
        """See nobody."""

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Tell nobody, still."""

    async def withdraw(self) -> None:
        """There is nothing to take back."""

    async def stop(self) -> None:
        """There is nothing to stop."""


class MemoryHub:
    """A network in memory: every `MemoryDiscovery` on it hears the others, from whatever loop and thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # over both fields: members live in several threads
        self._members: list[MemoryDiscovery] = []
        self._announced: dict[InstanceId, Announcement] = {}

    def join(self, member: MemoryDiscovery) -> None:
        """Let `member` hear of everything announced, now and from now on."""
        with self._lock:
            self._members.append(member)
            for announcement in self._announced.values():
                member.deliver(announcement, gone=False)

    def leave(self, member: MemoryDiscovery) -> None:
        """Tell `member` nothing more."""
        with self._lock, contextlib.suppress(ValueError):
            self._members.remove(member)

    def publish(self, announcement: Announcement, *, gone: bool) -> None:
        """Tell every member of a peer that came, changed or went."""
        with self._lock:
            if gone:
                self._announced.pop(announcement.instance, None)
            else:
                self._announced[announcement.instance] = announcement
            for member in self._members:
                member.deliver(announcement, gone=gone)


class MemoryDiscovery:
    """Discovery in memory, for tests and the in-memory bus: the promises of the real one, at once and without loss."""

    problem: str | None = None

    def __init__(self, bus: str, hub: MemoryHub) -> None:
        self._bus = bus
        self._hub = hub
        self._ear = _Ear(MAX_PEERS)
        self._own: Announcement | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self, found: Found, lost: Lost) -> None:
        """Join the hub."""
        self._loop = asyncio.get_running_loop()
        self._ear.open(found, lost)
        self._hub.join(self)

    async def announce(self, announcement: Announcement) -> None:
        """Tell all members of the hub."""
        self._own, self._ear.own = announcement, announcement.instance
        self._hub.publish(announcement, gone=False)

    def look(self) -> None:
        """Do nothing: what is new is told at once."""

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Tell all members of the hub."""
        if announcement is not None:
            await self.announce(announcement)

    async def withdraw(self) -> None:
        """Tell all members of the hub that we are gone."""
        own, self._own = self._own, None
        if own is not None:
            self._hub.publish(own, gone=True)

    async def stop(self) -> None:
        """Withdraw and leave the hub."""
        await self.withdraw()
        self._hub.leave(self)
        self._ear.close()

    def deliver(self, announcement: Announcement, *, gone: bool) -> None:
        """Take what the hub tells, in whatever thread, over to our own loop."""
        if announcement.bus != self._bus or self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop was closed without `stop`
            if gone:
                self._loop.call_soon_threadsafe(self._ear.gone, announcement.instance)
            else:
                self._loop.call_soon_threadsafe(self._ear.heard, announcement)


class ZeroconfDiscovery:
    """
    Discovery by multicast DNS (RFC 6762) and DNS-SD (RFC 6763), through python-zeroconf.

    Args:
        bus: announcements of other buses are ignored.
        addresses: own addresses whose interfaces take part; loopback alone for mode host.
        max_peers: peers kept at a time.
        is_needed: whether peers are found by nothing else: then what goes wrong is a warning.

    Attributes:
        ignored: what was heard and not told, by reason.

    """

    def __init__(
        self, bus: str, *, addresses: Sequence[str] = (LOOPBACK,), max_peers: int = MAX_PEERS, is_needed: bool = True
    ) -> None:
        self.problem: str | None = None
        self._bus = bus
        self._is_needed = is_needed
        self._addresses = tuple(addresses)
        self._ear = _Ear(max_peers)
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._own: AsyncServiceInfo | None = None
        self._sending: asyncio.Future[Any] | None = None  # repeats of the last announcement, or of the goodbye
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._stopped = False
        self._strangers: dict[InstanceId, Announcement] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses whose interfaces take part."""
        return self._addresses

    @property
    def ignored(self) -> Counter[str]:
        """What was heard and not told, by reason: a number for statistics and `doctor`."""
        return self._ear.ignored

    async def start(self, found: Found, lost: Lost) -> None:
        """Join the multicast group and ask who is there. Known peers are heard within milliseconds."""
        self._ear.open(found, lost)
        self._stopped = False
        with self._troubles("listen"):
            await self._open()

    async def announce(self, announcement: Announcement) -> None:
        """Send the announcement, three times within half a second; the first is out when this returns."""
        if self._zeroconf is None:
            return
        info = _service_info(announcement, self._addresses)
        if self._own is not None and self._own.name != info.name:
            await self.withdraw()
        self._ear.own = announcement.instance
        known, self._own = self._own, info
        with self._troubles("announce"):
            if known is None:
                # Without cooperating_responders it would probe for a second whether the name is free, and it is:
                # it ends with a fresh instance id.
                repeats = await self._zeroconf.async_register_service(info, cooperating_responders=True)
            else:
                repeats = await self._zeroconf.async_update_service(info)
            await self._send(repeats)

    def look(self) -> None:
        """Do nothing: a question costs everybody an answer, and what is new was told."""

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Take part on the interfaces of these addresses; where nothing worked at the start, try again."""
        self._addresses = tuple(addresses)
        if self._stopped:
            return
        with self._troubles("listen"):
            if self._zeroconf is None:
                await self._open()
            else:
                if announcement is not None and self._own is not None:
                    # First, for what it has is what it repeats on a new interface.
                    self._own = _service_info(announcement, self._addresses)
                    self._zeroconf.zeroconf.registry.async_update(self._own)
                await self._zeroconf.async_update_interfaces(_taking_part(self._addresses))
                _look_around(self._zeroconf.zeroconf)
            self.problem = None
        if announcement is not None:
            await self.announce(announcement)

    async def withdraw(self) -> None:
        """Send a goodbye; two more follow while the loop runs."""
        own, self._own = self._own, None
        if self._zeroconf is not None and own is not None:
            with self._troubles("say goodbye"):
                await self._send(await self._zeroconf.async_unregister_service(own))

    async def stop(self) -> None:
        """Withdraw, and close the sockets within `STOP_TIMEOUT`."""
        self._stopped = True
        await self.withdraw()
        if self._sending is not None and set(self._addresses) != {LOOPBACK}:  # there, one goodbye is enough
            await asyncio.wait([self._sending], timeout=GOODBYE_TIME)
        self._ear.close()
        await _end([task for task in (self._sending, *self._resolving.values()) if task is not None])
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            with self._troubles("stop"):
                async with asyncio.timeout(STOP_TIMEOUT):
                    if self._browser is not None:
                        await self._browser.async_cancel()
                    await zeroconf.async_close()

    def strangers(self, api: str) -> list[str]:
        """Return a clause about each peer that offers an API on another bus, to holders of its key."""
        offering = [each for each in self._strangers.values() if api in (each.api_names or ())]
        return [
            f"{each} offers it to holders of the key {each.fingerprint}: compare `lightbus keys show`"
            for each in offering
        ]

    async def _open(self) -> None:
        from zeroconf import DNSQuestionType, IPVersion  # 25 ms; only processes that use it pay
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

        interfaces = _taking_part(self._addresses)
        self._zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
        core = self._zeroconf.zeroconf
        await core.async_wait_for_start(timeout=START_TIMEOUT)
        # QM only: the answer to a QU question goes to port 5353 of the host, and one of all its processes gets it.
        self._browser = AsyncServiceBrowser(
            core, SERVICE_TYPE, handlers=[self._changed], question_type=DNSQuestionType.QM
        )
        _look_around(core)

    async def _send(self, repeats: Awaitable[Any]) -> None:
        if self._sending is not None:
            self._sending.cancel()  # or what is out of date would be repeated after what is new
        self._sending = asyncio.ensure_future(repeats)
        await asyncio.sleep(0)  # its first step sends the first packet

    @contextlib.contextmanager
    def _troubles(self, verb: str) -> Iterator[None]:
        """Make whatever goes wrong in the network, or in the library, a problem to report: it stops nobody."""
        try:
            yield
        except Exception as error:
            reason = str(error) or type(error).__name__
            self.problem = (
                f"zeroconf cannot {verb} on {', '.join(self._addresses)} ({reason}), so peers do not find each other; "
                "see that UDP port 5353 is shared and multicast allowed, or name a peer: LIGHTBUS_PEERS=host:port"
            )
            logger.log(logging.WARNING if self._is_needed else logging.DEBUG, "%s", self.problem)

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """Take what the browser tells, in the middle of its work: only enqueue. The argument names are zeroconf's."""
        asyncio.get_running_loop().call_soon(self._take, name, state_change.name == "Removed")

    def _take(self, name: str, gone: bool) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        asked = self._resolving.pop(name, None)
        if asked is not None:
            asked.cancel()
        if self._zeroconf is None:
            return
        if gone:
            self._ear.gone(_instance_in(name))
            self._strangers.pop(_instance_in(name), None)
            return
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        if info.load_from_cache(self._zeroconf.zeroconf):
            self._heard(info)
        elif len(self._resolving) < MAX_RESOLVING:
            self._resolving[name] = asyncio.create_task(self._resolve(self._zeroconf.zeroconf, info))
        else:
            self._ear.ignored["unresolved"] += 1

    async def _resolve(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        from zeroconf import DNSQuestionType

        complete = await info.async_request(zeroconf, RESOLVE_TIMEOUT * 1000, question_type=DNSQuestionType.QM)
        self._resolving.pop(info.name, None)
        if complete:
            self._heard(info)
        else:
            self._ear.ignored["unresolved"] += 1

    def _note_stranger(self, info: AsyncServiceInfo) -> None:
        """Remember a peer with another key, for a message only: two hosts whose keys differ would find no reason."""
        with contextlib.suppress(ProtocolError):
            announcement = _announcement(info)
            if announcement.fingerprint and len(self._strangers) < MAX_STRANGERS:
                self._strangers[announcement.instance] = announcement

    def _heard(self, info: AsyncServiceInfo) -> None:
        if len(info.text) > MAX_FOREIGN_TXT_BYTES:
            return self._ear.ignore("malformed", info.name, f"its TXT record has {len(info.text)} bytes")
        properties = info.properties
        if properties.get(b"bus") != self._bus.encode():
            self._ear.ignored["other bus"] += 1
            self._note_stranger(info)
            return None
        version = properties.get(b"v") or b""
        if version != b"%d" % PROTOCOL_VERSION:
            return self._ear.ignore("other protocol", info.name, f"it speaks version {version[:9]!r} of the protocol")
        try:
            announcement = _announcement(info)
        except ProtocolError as error:
            return self._ear.ignore("malformed", info.name, str(error))
        self._ear.heard(announcement)
        return None


class _Ear:
    """What was heard, told once and again when it changes: one owner's state, on its loop."""

    def __init__(self, max_peers: int) -> None:
        self.own: InstanceId | None = None
        self.ignored: Counter[str] = Counter()
        self._max_peers = max_peers
        self._known: dict[InstanceId, Announcement] = {}
        self._found: Found | None = None
        self._lost: Lost | None = None
        self._warned: set[str] = set()
        self._warn_at = 0.0

    def open(self, found: Found, lost: Lost) -> None:
        self._found, self._lost = found, lost

    def close(self) -> None:
        self._found = self._lost = None
        self._known.clear()

    def heard(self, announcement: Announcement) -> None:
        instance = announcement.instance
        if instance == self.own:
            self.ignored["own"] += 1
        elif self._known.get(instance) != announcement:
            if instance not in self._known and len(self._known) >= self._max_peers:
                self._forget_oldest()
            self._known[instance] = announcement
            _tell(self._found, announcement)

    def forget(self, instance: InstanceId) -> None:
        """Take the next word of somebody for news."""
        self._known.pop(instance, None)

    def _forget_oldest(self) -> None:
        # And not the newcomer: a flood of strangers must not keep real peers out, who were told of long before it.
        oldest = next(iter(self._known))
        del self._known[oldest]
        self.ignore("too many peers", oldest, f"{self._max_peers} newer peers are announced")

    def gone(self, instance: InstanceId) -> None:
        if self._known.pop(instance, None) is not None:
            _tell(self._lost, instance)

    def ignore(self, kind: str, source: str, reason: str) -> None:
        """Count it, and warn once per source; not in a flood, and not for ever."""
        self.ignored[kind] += 1
        now = asyncio.get_running_loop().time()
        if source not in self._warned and len(self._warned) < MAX_WARNED and now >= self._warn_at:
            self._warned.add(source)
            self._warn_at = now + WARN_EVERY
            logger.warning("ignored the announcement of %.80r: %s", source, reason)


def instance_name(announcement: Announcement) -> str:
    """Return the DNS-SD name of a peer: readable, unique, its first label within 63 bytes (RFC 6763 section 4.1.1)."""
    service = re.sub("[^A-Za-z0-9]+", "-", announcement.service)[:46].strip("-") or "peer"
    return f"{service}-{announcement.instance}.{SERVICE_TYPE}"


def _instance_in(name: str) -> InstanceId:
    return name.removesuffix(f".{SERVICE_TYPE}")[-16:]


def _announcement(info: AsyncServiceInfo) -> Announcement:
    from zeroconf import IPVersion

    announcement = Announcement.from_txt(
        info.properties, port=info.port or 0, addresses=info.parsed_addresses(IPVersion.V4Only)
    )
    # A goodbye carries only the name: it must be as good as the id.
    if _instance_in(info.name) != announcement.instance:
        raise ProtocolError(f"its name does not end with its instance id, {announcement.instance}")
    return announcement


def _service_info(announcement: Announcement, addresses: Sequence[str]) -> AsyncServiceInfo:
    from zeroconf.asyncio import AsyncServiceInfo

    return AsyncServiceInfo(
        SERVICE_TYPE,
        instance_name(announcement),
        port=announcement.rpc_port,
        properties=dict(announcement.to_txt()),
        # A host name of its own: an address record of one process never flushes another's from a cache.
        server=f"{announcement.instance}.local.",
        # No announcement is complete without an address; in mode host nobody dials it.
        parsed_addresses=list(announcement.addresses or addresses),
    )


def _look_around(zeroconf: Zeroconf) -> None:
    """
    Ask at once who is there, in the form of a probe.

    The browser asks after 20 to 120 ms, the answer comes after as long again (RFC 6762 sections 5.2 and 6), and not
    within a second of the same answer to somebody else; the same question is answered once in a second. A probe (a
    question with what we would claim beside it, section 8.1) is answered at once, and ours has a name that differs
    each time.
    """
    from zeroconf.asyncio import AsyncServiceInfo

    probe = zeroconf.generate_service_query(
        AsyncServiceInfo(SERVICE_TYPE, f"look-{os.urandom(8).hex()}.{SERVICE_TYPE}")
    )
    for question in probe.questions:
        question.unicast = False  # QM, for the reason above
    zeroconf.async_send(probe)


def _taking_part(addresses: Sequence[str]) -> list[str]:
    """
    Return those of the addresses whose interfaces take part in multicast; raise OSError if there are none.

    It does what python-zeroconf is going to do, which gives up at the first interface that fails, or says nothing.
    """
    joined, reason = [], OSError("no address to use")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(("", MDNS_PORT))
        for address in addresses:
            membership = socket.inet_aton(MDNS_GROUP) + socket.inet_aton(address)
            try:
                probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
                joined.append(address)
            except OSError as error:
                reason = error
    if not joined:
        raise reason
    return joined


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _tell(callback: Callable[[T], None] | None, value: T) -> None:
    """Call back, unless stopped. An error there is not the network's, and stops no discovery."""
    if callback is not None:
        try:
            callback(value)
        except Exception:
            logger.exception("a callback of discovery failed for %s", value)
