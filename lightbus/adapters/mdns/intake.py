"""
What zeroconf's sockets receive: read at once, and handled in turns of the senders, within a share of the loop's time.

python-zeroconf reads one packet in each turn of the loop, and handles it (up to half a millisecond) before the next.
A process that gets little of the processor, amid hundreds of packets a second, then reads so few that the kernel drops
most of them, the true ones as well. To read a packet costs a hundredth of handling it. So all are read, and the fewer
of a sender's are handled the more it sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from .fair_queue import FairQueue

__all__ = ["Intake"]

MDNS_PORT = 5353  # RFC 6762 section 3

SHARE = 0.25
"""Share of the loop's time in which packets are handled, when there are more than can be."""

CREDIT = 0.1
"""Seconds of handling that are saved up, for when many processes start at once."""

TURN = 0.002
"""Seconds after which other work of the loop has its turn."""

LONGEST = 0.01
"""Most seconds that are counted for one packet."""

READ_TURN = 0.002
"""Seconds of reading after which other work of the loop has its turn."""

HEADER = 12
"""The fewest bytes of a packet (RFC 1035 section 4.1.1)."""

OVERHEAD = 512
"""Bytes that a waiting packet takes beside its own, at most."""

MAX_PACKET = 9000  # RFC 6762 section 17
RECEIVE_BUFFER = 1024 * 1024
"""Bytes that the kernel keeps for us while we do not read; it allows fewer on most machines."""

LOOK_EVERY = 1.0
"""Seconds between two looks at what the kernel dropped."""

_SO_MEMINFO, _DROPS, _MEMINFO = 55, 8, struct.Struct("9I")  # linux/sock_diag.h, asm-generic/socket.h

_QR = 0x80  # RFC 1035 section 4.1.1: an answer, in the third byte


class Ignore(Protocol):
    """Counts packets that were not handled."""

    def __call__(self, kind: str, source: str, reason: str, count: int = 1) -> None:
        """Count so many of a kind."""


class Intake:
    """
    Takes in what the sockets of one zeroconf receive. For one event loop.

    Args:
        ignore: called with each packet that is not handled, and the reason.
        clock: returns the time in seconds.

    """

    def __init__(self, ignore: Ignore, clock: Callable[[], float] = time.monotonic) -> None:
        self._ignore = ignore
        self._clock = clock
        self._queue: FairQueue[tuple[_IntakeSocket, bytes, tuple[str, int]]] = FairQueue()
        self._credit = CREDIT
        self._credited_at = clock()
        self._timer: asyncio.Handle | None = None
        self._sockets: list[_IntakeSocket] = []
        self._looked_at = 0.0

    def attach(self, transports: Iterable[asyncio.DatagramTransport]) -> None:
        """Come before zeroconf at each of these, its sockets; to be repeated when it has got further ones."""
        self._sockets = [each for each in self._sockets if not each.transport.is_closing()]
        known = [each.transport for each in self._sockets]
        self._sockets += [_IntakeSocket(self, each) for each in transports if each not in known]

    def close(self) -> None:
        """Handle nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue = FairQueue()
        self._sockets.clear()

    def take(self, reader: _IntakeSocket, data: bytes, source: tuple[str, int]) -> None:
        """Keep a packet until it is handled, or refuse it."""
        if len(data) < HEADER:
            self._ignore("malformed", _named(source), f"a packet of {len(data)} bytes is not a DNS packet")
            return
        is_answer = bool(data[2] & _QR)
        if is_answer and source[1] != MDNS_PORT:  # RFC 6762 section 6: to be ignored
            self._ignore("wrong port", _named(source), f"it was sent from port {source[1]}, not {MDNS_PORT}")
        elif not self._queue.put((source[0], is_answer), len(data) + OVERHEAD, (reader, data, source)):
            self._ignore("too many packets", _named(source), "it sends more packets than this process reads")

    def handle(self) -> None:
        """Handle what waits, unless it is to be handled later."""
        if self._timer is None and self._queue:
            self._handle()

    def charge(self, seconds: float) -> None:
        """Count the time that a packet took: not for long, as that was rather another process's turn."""
        self._credit -= min(seconds, LONGEST)

    def _handle(self) -> None:
        self._timer = None
        began = now = self._clock()
        self._credit = min(CREDIT, self._credit + SHARE * (now - self._credited_at))
        self._credited_at = now
        try:
            while self._queue and self._credit > 0 and now - began < TURN:
                reader, data, source = self._queue.take()
                reader.handle(data, source)
                before, now = now, self._clock()
                self.charge(now - before)
            self._look_for_drops(now)
        finally:
            self._continue_later()

    def _continue_later(self) -> None:
        """Handle the rest once the share of the loop's time allows it, also after an error."""
        if self._queue:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, -self._credit / SHARE), self._handle)

    def _look_for_drops(self, now: float) -> None:
        """Count what the kernel dropped since we looked last."""
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        if dropped := sum(each.dropped_since() for each in self._sockets):
            why = "this process is too busy to read all packets in time"
            self._ignore("not read in time", "the network", why, dropped)


class _IntakeSocket(asyncio.DatagramProtocol):
    """Reads one socket of zeroconf; its own protocol handles the packets."""

    def __init__(self, intake: Intake, transport: Any) -> None:
        self.transport = transport
        self._intake = intake
        self._handler: asyncio.DatagramProtocol = transport.get_protocol()
        with self._borrowed() as own:
            if own.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < RECEIVE_BUFFER:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        transport.set_protocol(self)
        self._dropped = 0

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Take in a packet, and all that wait behind it."""
        self._intake.take(self, data, addr)
        until = time.monotonic() + READ_TURN
        with self._borrowed() as own:
            while time.monotonic() < until:
                self._intake.take(self, *own.recvfrom(MAX_PACKET))
        self._intake.handle()

    def error_received(self, exc: Exception) -> None:
        """Pass it on."""
        self._handler.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._handler.connection_lost(exc)

    def handle(self, data: bytes, source: tuple[str, int]) -> None:
        """Have zeroconf handle a packet, unless the socket was closed meanwhile."""
        if not self.transport.is_closing():
            self._handler.datagram_received(data, source)

    def dropped_since(self) -> int:
        """Return how many packets the kernel dropped since the previous call; 0 where it does not say."""
        before = self._dropped
        if sys.platform.startswith("linux") and not self.transport.is_closing():
            with self._borrowed() as own:
                said = own.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
                self._dropped = _MEMINFO.unpack(said)[_DROPS]
        return max(0, self._dropped - before)

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[socket.socket]:
        """
        Give the transport's socket, which it only lends without the methods to read it, until an error or the end.

        Errors are left to the transport, which meets them itself: that nothing more can be read is one of them.
        """
        descriptor = self.transport.get_extra_info("socket").fileno()
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, fileno=descriptor)
        own.setblocking(False)  # a program may have set a default timeout, which reading would wait for
        try:
            with contextlib.suppress(OSError, struct.error):
                yield own
        finally:
            own.detach()


def _named(source: tuple[str, int]) -> str:
    return f"a process on {source[0]}"
