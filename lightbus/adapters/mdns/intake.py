"""
Reads the packets that arrive at zeroconf's sockets, and passes them to zeroconf in an order that is fair to senders.

python-zeroconf reads one packet in each turn of the loop, and handles it before it reads the next one. Handling takes
up to half a millisecond. With hundreds of packets a second, a process that gets little processor time reads so few of
them that the kernel drops most, those of real peers included.

Reading a packet takes a hundredth of the time of handling it. So this module reads all packets at once, and queues them
for each sender. zeroconf handles one packet of each sender in turn, in a limited share of the loop's time: of a sender
that floods the network most packets are refused, and the others are not delayed by it.
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
"""The share of the loop's time that handling packets may take while more arrive than can be handled."""

CREDIT = 0.1
"""Seconds of handling that an idle process saves up at most: for when many processes start at once."""

TURN = 0.002
"""Seconds of handling after which the loop does its other work."""

LONGEST = 0.01
"""The most seconds that are charged for one packet. What took longer waited for the processor."""

READ_TURN = 0.002
"""Seconds of reading after which the loop does its other work."""

HEADER = 12
"""The fewest bytes of a packet (RFC 1035 section 4.1.1)."""

OVERHEAD = 512
"""Bytes of memory that a queued packet takes at most, in addition to its own bytes."""

MAX_PACKET = 9000  # RFC 6762 section 17
RECEIVE_BUFFER = 1024 * 1024
"""The size of a socket's receive buffer in the kernel that we ask for; most machines allow less."""

LOOK_EVERY = 1.0
"""Seconds between two readings of how many packets the kernel dropped."""

_SO_MEMINFO, _DROPS, _MEMINFO = 55, 8, struct.Struct("9I")  # linux/sock_diag.h, asm-generic/socket.h

_QR = 0x80  # RFC 1035 section 4.1.1: the bit of the third byte that marks an answer


class Ignore(Protocol):
    """Counts packets that were not handled."""

    def __call__(self, kind: str, source: str, reason: str, count: int = 1) -> None:
        """Count packets of a kind, and log the reason."""


class Intake:
    """
    The queue between the sockets of one zeroconf and their handling. For one event loop.

    Args:
        ignore: called for packets that are not handled, with the reason.
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
        """Read these sockets of zeroconf in its place. Call it again when zeroconf has opened further ones."""
        self._sockets = [each for each in self._sockets if not each.transport.is_closing()]
        known = [each.transport for each in self._sockets]
        self._sockets += [_IntakeSocket(self, each) for each in transports if each not in known]

    def close(self) -> None:
        """Stop: drop the queued packets."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue = FairQueue()
        self._sockets.clear()

    def take(self, reader: _IntakeSocket, data: bytes, source: tuple[str, int]) -> None:
        """Queue a packet, or refuse it."""
        if len(data) < HEADER:
            self._ignore("malformed", _named(source), f"a packet of {len(data)} bytes is not a DNS packet")
            return
        is_answer = bool(data[2] & _QR)
        if is_answer and source[1] != MDNS_PORT:  # RFC 6762 section 6: such an answer must be ignored
            self._ignore("wrong port", _named(source), f"it was sent from port {source[1]}, not {MDNS_PORT}")
        elif not self._queue.put((source[0], is_answer), len(data) + OVERHEAD, (reader, data, source)):
            self._ignore("too many packets", _named(source), "it sends more packets than this process reads")

    def handle(self) -> None:
        """Handle queued packets, unless that is scheduled for later already."""
        if self._timer is None and self._queue:
            self._handle()

    def charge(self, seconds: float) -> None:
        """Charge the time that handling a packet took, at most `LONGEST`, to this process's share."""
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
        """Schedule the rest for when the share of the loop's time allows it; also after an error."""
        if self._queue:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, -self._credit / SHARE), self._handle)

    def _look_for_drops(self, now: float) -> None:
        """Report the packets that the kernel has dropped since the last report."""
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        if dropped := sum(each.dropped_since() for each in self._sockets):
            why = "this process is too busy to read all packets in time"
            self._ignore("not read in time", "the network", why, dropped)


class _IntakeSocket(asyncio.DatagramProtocol):
    """Reads one socket of zeroconf, whose own protocol object handles the packets later."""

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
        """Queue a packet and all others that have arrived, then handle some."""
        self._intake.take(self, data, addr)
        until = time.monotonic() + READ_TURN
        with self._borrowed() as own:
            while time.monotonic() < until:
                self._intake.take(self, *own.recvfrom(MAX_PACKET))
        self._intake.handle()

    def error_received(self, exc: Exception) -> None:
        """Pass the error to zeroconf."""
        self._handler.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell zeroconf that the socket was closed."""
        self._handler.connection_lost(exc)

    def handle(self, data: bytes, source: tuple[str, int]) -> None:
        """Let zeroconf handle a packet, unless the socket was closed meanwhile."""
        if not self.transport.is_closing():
            self._handler.datagram_received(data, source)

    def dropped_since(self) -> int:
        """Return how many packets the kernel has dropped since the last call; 0 on systems without that number."""
        before = self._dropped
        if sys.platform.startswith("linux") and not self.transport.is_closing():
            with self._borrowed() as own:
                said = own.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
                self._dropped = _MEMINFO.unpack(said)[_DROPS]
        return max(0, self._dropped - before)

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[socket.socket]:
        """
        Yield the transport's socket as an object that can be read from; the transport's own object has no such methods.

        Any OSError ends the body silently: when there is nothing more to read, and when the socket is broken, which the
        transport will find out itself.
        """
        descriptor = self.transport.get_extra_info("socket").fileno()
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, fileno=descriptor)
        own.setblocking(False)  # a program may have set a default timeout, for which each read would wait
        try:
            with contextlib.suppress(OSError, struct.error):
                yield own
        finally:
            own.detach()


def _named(source: tuple[str, int]) -> str:
    return f"a process on {source[0]}"
