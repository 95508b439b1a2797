"""
Discovery of peers by multicast DNS: announcing this peer and hearing of others by zeroconf (RFC 6762, RFC 6763).

All calls of one object come from one event loop, and its state is only touched there.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...exceptions import ProtocolError
from ...ports.announcement_table import MAX_PEERS, AnnouncementTable
from ...ports.discovery import Found, Lost
from ...typing import InstanceId
from ...wire.announcement import MAX_FOREIGN_TXT_BYTES, PROTOCOL_VERSION, Announcement
from .intake import Intake
from .multicast_group import GroupWatch, taking_part

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

__all__ = [
    "SERVICE_TYPE",
    "ZeroconfDiscovery",
    "instance_name",
]

logger = logging.getLogger("lightbus.discovery")

SERVICE_TYPE = "_lightbus._tcp.local."
LOOPBACK = "127.0.0.1"

MAX_RESOLVING = 32
"""The most incomplete announcements resolved at a time. Those of real peers are complete: each is one packet."""

MAX_FOREIGN_PEERS = 64
"""The most peers with another key that are remembered, for error messages."""

RESOLVE_TIMEOUT, START_TIMEOUT, STOP_TIMEOUT = 3.0, 5.0, 2.0
"""Seconds."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two questions while a peer is waited for: doubled from the first to the longest."""

MAX_KNOWN = 16
"""The most known peers named in a question, which then need not answer it: as many as fit into one packet."""

GOODBYE_TIME = 0.3
"""Seconds that python-zeroconf takes to send a goodbye three times, since packets get lost on a LAN."""


class ZeroconfDiscovery:
    """
    Discovery by multicast DNS (RFC 6762) and DNS-SD (RFC 6763), through python-zeroconf.

    Args:
        bus: the name of the bus; announcements of other buses are ignored.
        addresses: our addresses whose interfaces take part; only loopback for mode host.
        max_peers: the most peers known at a time.
        is_needed: whether peers are found in no other way: then errors are logged as warnings.

    Attributes:
        ignored: the number of ignored announcements, by reason.

    """

    def __init__(
        self, bus: str, *, addresses: Sequence[str] = (LOOPBACK,), max_peers: int = MAX_PEERS, is_needed: bool = True
    ) -> None:
        self.problem: str | None = None
        self._bus = bus
        self._is_needed = is_needed
        self._addresses = tuple(addresses)
        self._table = AnnouncementTable(max_peers)
        self._zeroconf: AsyncZeroconf | None = None
        self._intake: Intake | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._own: AsyncServiceInfo | None = None
        self._sending: asyncio.Future[Any] | None = None  # repeats of the last announcement, or of the goodbye
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._stopped = False
        self._foreign_peers: dict[InstanceId, Announcement] = {}
        self._ask_at, self._pause = 0.0, FIRST_PAUSE
        self._numbers = itertools.count()
        self._announcement: Announcement | None = None
        self._moving = asyncio.Lock()
        self._watch = GroupWatch(self._sockets, self._rejoin)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses whose interfaces take part."""
        return self._addresses

    def describe(self) -> str:
        """Return that zeroconf is used, and on which addresses."""
        return f"zeroconf on {', '.join(self._addresses)}"

    @property
    def ignored(self) -> Counter[str]:
        """The number of ignored announcements, by reason, for statistics and `doctor`."""
        return self._table.ignored

    async def start(self, found: Found, lost: Lost) -> None:
        """Join the multicast group and ask for peers. Present peers answer within milliseconds."""
        self._table.open(found, lost)
        self._stopped = False
        with self._reporting_errors("listen"):
            await self._open()
        if set(self._addresses) != {LOOPBACK}:
            self._watch.look()

    async def announce(self, announcement: Announcement) -> None:
        """Send the announcement three times within half a second; the first is sent when this returns."""
        self._announcement = announcement
        if self._zeroconf is None:
            return
        info = self._service_info(announcement)
        if self._own is not None and self._own.name != info.name:
            await self.withdraw()
        self._table.own = announcement.instance
        known, self._own = self._own, info
        with self._reporting_errors("announce"):
            if known is None:
                # Without cooperating_responders zeroconf would take a second to check that nobody else has the name.
                # Nobody has: the name ends with our instance id.
                repeats = await self._zeroconf.async_register_service(info, cooperating_responders=True)
            else:
                repeats = await self._zeroconf.async_update_service(info)
            await self._send(repeats)

    def look(self) -> None:
        """Ask for peers again, after pauses that double: a question or its answer may get lost on a busy network."""
        now = time.monotonic()
        if self._zeroconf is not None and now >= self._ask_at:
            if now >= self._ask_at + LONGEST_PAUSE:
                self._pause = FIRST_PAUSE  # nobody has waited for a while
            self._ask_at, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE)
            with self._reporting_errors("ask"):
                _ask_again(self._zeroconf.zeroconf, self._table.first(MAX_KNOWN))

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Take part on the interfaces of these addresses; if starting failed before, try again."""
        self._addresses = tuple(addresses)
        async with self._moving:
            if self._stopped:
                return
            with self._reporting_errors("listen"):
                if self._zeroconf is None:
                    await self._open()
                else:
                    if announcement is not None and self._own is not None:
                        # First, because zeroconf announces the registered service on each new interface.
                        self._own = self._service_info(announcement)
                        self._zeroconf.zeroconf.registry.async_update(self._own)
                    self._watch.joined = taking_part(self._addresses)
                    await self._zeroconf.async_update_interfaces(self._watch.joined)
                    if self._intake is not None:
                        self._intake.attach(each.transport for each in self._zeroconf.zeroconf.engine.readers)
                    _look_around(self._zeroconf.zeroconf)
                self.problem = None
            if announcement is not None:
                await self.announce(announcement)

    async def withdraw(self) -> None:
        """Send a goodbye; two more follow while the loop runs."""
        own, self._own, self._announcement = self._own, None, None
        if self._zeroconf is not None and own is not None:
            with self._reporting_errors("say goodbye"):
                await self._send(await self._zeroconf.async_unregister_service(own))

    async def stop(self) -> None:
        """Withdraw, and close the sockets within `STOP_TIMEOUT`."""
        self._stopped = True
        await self._watch.stop()
        await self.withdraw()
        if self._sending is not None and set(self._addresses) != {LOOPBACK}:  # on loopback, one goodbye is enough
            await asyncio.wait([self._sending], timeout=GOODBYE_TIME)
        self._table.close()
        await _end([task for task in (self._sending, *self._resolving.values()) if task is not None])
        with self._reporting_errors("stop"):
            await self._close_all()

    def foreign_peers(self, api: str) -> list[str]:
        """Return a clause about each peer that offers an API on another bus, to holders of its key."""
        offering = [each for each in self._foreign_peers.values() if api in (each.api_names or ())]
        return [
            f"{each} offers it to holders of the key {each.fingerprint}: compare `lightbus keys show`"
            for each in offering
        ]

    async def _open(self) -> None:
        from zeroconf import DNSQuestionType, IPVersion  # takes 25 ms, so only processes that use it import it
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

        interfaces = taking_part(self._addresses)
        self._zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
        core = self._zeroconf.zeroconf
        try:
            await core.async_wait_for_start(timeout=START_TIMEOUT)
            self._intake = Intake(self._table.ignore)
            self._intake.attach(each.transport for each in core.engine.readers)
            # QM (answers by multicast), not QU: a unicast answer goes to port 5353 here, where one process gets it.
            self._browser = AsyncServiceBrowser(
                core, SERVICE_TYPE, handlers=[self._changed], question_type=DNSQuestionType.QM
            )
            _look_around(core)
        except BaseException:
            await self._close_all()  # so that `move` opens it as a whole
            raise
        self._ask_at, self._pause = time.monotonic() + FIRST_PAUSE, FIRST_PAUSE
        self._watch.joined = interfaces

    def _sockets(self) -> list[Any] | None:
        if self._moving.locked():  # which addresses they join is being changed
            return []
        if self._zeroconf is None:
            return None
        return [each.transport.get_extra_info("socket") for each in self._zeroconf.zeroconf.engine.readers]

    async def _rejoin(self) -> None:
        logger.info("An interface was replaced: multicast is started anew on %s", ", ".join(self._addresses))
        async with self._moving:
            own, self._own = self._own, None
            with self._reporting_errors("start anew"):
                if self._zeroconf is not None and own is not None:
                    self._zeroconf.zeroconf.registry.async_remove(own)  # or a goodbye would be sent
                await self._close_all()
        await self.move(self._addresses, self._announcement)

    async def _close_all(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        if self._intake is not None:
            self._intake.close()
        if zeroconf is not None:
            await self._close(zeroconf)

    async def _close(self, zeroconf: AsyncZeroconf) -> None:
        browser, self._browser = self._browser, None

        async def close() -> None:
            if browser is not None:
                await browser.async_cancel()
            await zeroconf.async_close()

        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                # When the loop ends, tasks that zeroconf waits for are cancelled: `gather` returns that error, too.
                [outcome] = await asyncio.gather(close(), return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome
        finally:
            zeroconf.zeroconf.engine.close()  # closes the sockets even if `close` has failed
            await asyncio.sleep(0)  # a transport closes its socket in the next turn of the loop

    async def _send(self, repeats: Awaitable[Any]) -> None:
        if self._sending is not None:
            self._sending.cancel()  # or the outdated announcement would be sent again after the new one
        self._sending = asyncio.ensure_future(repeats)
        await asyncio.sleep(0)  # the first packet is sent in the task's first step

    def _service_info(self, announcement: Announcement) -> AsyncServiceInfo:
        """Return the records to send; they differ from all earlier ones, also where the announcement does not."""
        return _service_info(announcement, self._addresses, next(self._numbers))

    @contextlib.contextmanager
    def _reporting_errors(self, verb: str) -> Iterator[None]:
        """Report any error of the network or of the library as `problem`, and do not raise it."""
        try:
            yield
        except Exception as error:
            reason, before = str(error) or type(error).__name__, self.problem
            self.problem = (
                f"zeroconf cannot {verb} on {', '.join(self._addresses)} ({reason}), so peers do not find each other; "
                "see that UDP port 5353 is shared and multicast allowed, or name a peer: LIGHTBUS_PEERS=host:port"
            )
            is_news = self._is_needed and self.problem != before
            logger.log(logging.WARNING if is_news else logging.DEBUG, "%s", self.problem)

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """Schedule the handling, since the browser calls this in the middle of its work. zeroconf sets the names."""
        asyncio.get_running_loop().call_soon(self._take_and_charge, name, state_change.name == "Removed")

    def _take_and_charge(self, name: str, gone: bool) -> None:
        began = time.monotonic()
        self._take(name, gone)
        if self._intake is not None:
            self._intake.charge(time.monotonic() - began)

    def _take(self, name: str, gone: bool) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        asked = self._resolving.pop(name, None)
        if asked is not None:
            asked.cancel()
        if self._zeroconf is None:
            return
        if gone:
            self._table.gone(_instance_in(name))
            self._foreign_peers.pop(_instance_in(name), None)
            return
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        if info.load_from_cache(self._zeroconf.zeroconf):
            self._on_service_info(info)
        elif len(self._resolving) < MAX_RESOLVING:
            self._resolving[name] = asyncio.create_task(self._resolve(self._zeroconf.zeroconf, info))
        else:
            self._table.ignored["unresolved"] += 1

    async def _resolve(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        from zeroconf import DNSQuestionType

        complete = await info.async_request(zeroconf, RESOLVE_TIMEOUT * 1000, question_type=DNSQuestionType.QM)
        self._resolving.pop(info.name, None)
        if complete:
            self._on_service_info(info)
        else:
            self._table.ignored["unresolved"] += 1

    def _record_foreign_peer(self, info: AsyncServiceInfo) -> None:
        """Remember a peer of another bus, for error messages: it may be not found because its key differs."""
        with contextlib.suppress(ProtocolError):
            announcement = _announcement(info)
            if announcement.fingerprint and len(self._foreign_peers) < MAX_FOREIGN_PEERS:
                self._foreign_peers[announcement.instance] = announcement

    def _on_service_info(self, info: AsyncServiceInfo) -> None:
        if len(info.text) > MAX_FOREIGN_TXT_BYTES:
            return self._table.ignore("malformed", info.name, f"its TXT record has {len(info.text)} bytes")
        properties = info.properties
        if properties.get(b"bus") != self._bus.encode():
            self._table.ignored["other bus"] += 1
            self._record_foreign_peer(info)
            return None
        version = properties.get(b"v") or b""
        if version != b"%d" % PROTOCOL_VERSION:
            return self._table.ignore("other protocol", info.name, f"it speaks version {version[:9]!r} of the protocol")
        try:
            announcement = _announcement(info)
        except ProtocolError as error:
            return self._table.ignore("malformed", info.name, str(error))
        self._table.heard(announcement)
        return None


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
    # A goodbye contains nothing but the name, so the name must contain the instance id.
    if _instance_in(info.name) != announcement.instance:
        raise ProtocolError(f"its name does not end with its instance id, {announcement.instance}")
    return announcement


def _service_info(announcement: Announcement, addresses: Sequence[str], number: int) -> AsyncServiceInfo:
    from zeroconf.asyncio import AsyncServiceInfo

    return AsyncServiceInfo(
        SERVICE_TYPE,
        instance_name(announcement),
        port=announcement.rpc_port,
        # python-zeroconf ignores a packet that equals one of the last 0.8 s: a peer that comes back would not be heard,
        # nor its next goodbye. The weight is for a choice among hosts (RFC 2782), and there is one: so it has a number.
        weight=number % 2**16,
        properties=dict(announcement.to_txt()),
        # Each process has its own host name: with a common one, the address record of one process would remove that
        # of another from the caches of other hosts.
        server=f"{announcement.instance}.local.",
        # zeroconf takes an announcement without an address for incomplete. In mode host no peer connects to it.
        parsed_addresses=list(announcement.addresses or addresses),
    )


def _look_around(zeroconf: Zeroconf) -> None:
    """
    Ask for peers at once, by a probe.

    zeroconf's browser asks only after 20 to 120 ms, answers are delayed by as long again, and a peer does not repeat an
    answer that it has sent within the last second, to whomever (RFC 6762 sections 5.2 and 6). A probe, which is a
    question with the records that the asker wants to claim (section 8.1), is answered at once. Each of ours has a new
    name, since the same question would be answered only once a second.
    """
    zeroconf.async_send(_probe(zeroconf))


def _ask_again(zeroconf: Zeroconf, known: Sequence[Announcement]) -> None:
    """Ask for peers, and name the known ones, which then do not answer (RFC 6762 section 7.1)."""
    from zeroconf.asyncio import AsyncServiceInfo

    question = _probe(zeroconf)
    question.authorities.clear()  # so that it is no longer a probe, which known peers would answer, too
    for each in known:
        question.add_answer_at_time(AsyncServiceInfo(SERVICE_TYPE, instance_name(each)).dns_pointer(), 0)
    zeroconf.async_send(question)


def _probe(zeroconf: Zeroconf) -> Any:
    from zeroconf.asyncio import AsyncServiceInfo

    probe = zeroconf.generate_service_query(
        AsyncServiceInfo(SERVICE_TYPE, f"look-{os.urandom(8).hex()}.{SERVICE_TYPE}")
    )
    for question in probe.questions:
        question.unicast = False  # QM: see `_open`
    return probe


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
