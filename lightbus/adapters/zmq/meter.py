"""
How many bytes have arrived over one connection of libzmq. Linux knows that without any counting here.

Of TCP the kernel counts what it received (`tcpi_bytes_received` of TCP_INFO, tcp(7)). Of a unix socket it does not. But
a place in the stream at which to peek (SO_PEEK_OFF, socket(7)) moves towards the beginning by what is read, and nobody
peeks here (`sk_peek_offset_bwd`, called by `unix_stream_read_generic` in net/unix/af_unix.c): how far it has moved is
what was read.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress

from .backlogs import KernelConnection
from .socket_from_fd import socket_from_fd

__all__ = ["Meter"]

TCP_INFO, INFO_SIZE, RECEIVED_AT = 11, 136, 128
"""The option, the bytes of it up to the count, and where in them that is (`struct tcp_info` in linux/tcp.h)."""

SO_PEEK_OFF, FAR = 42, 2**31 - 1
"""The option, and the furthest place: bytes read after so many are not counted any more."""

PEER_CREDENTIALS = struct.Struct("3i")
"""The process, user and group behind a unix socket (SO_PEERCRED, unix(7))."""


class Meter:
    """
    At one connection, by libzmq's descriptor. Raises OSError where it is gone already.

    It counts from its making on, or from the beginning of the connection, whichever the kernel knows.
    """

    POSSIBLE = sys.platform == "linux"

    __slots__ = ("_before", "_is_unix", "connection", "latest", "peer")

    def __init__(self, descriptor: int) -> None:
        self.connection = KernelConnection(descriptor)
        self.latest = 0
        """What was read off last."""
        self.peer = ""
        """The other end when the connection was closed: an address, or a process of this host."""
        self._before = 0
        with socket_from_fd(descriptor) as found:
            self._is_unix = found.family == socket.AF_UNIX
            if self._is_unix:
                found.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, FAR)

    def reset(self) -> None:
        """Count from now on."""
        self.latest = 0
        with suppress(OSError), socket_from_fd(self.connection.descriptor) as found:
            if self._is_unix:
                found.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, FAR)
            else:
                self._before = _received(found)

    def read(self) -> int:
        """Return, and keep as `latest`, how many bytes have come; where it is gone, how many it was before."""
        with suppress(OSError):
            if self.connection.is_there:
                with socket_from_fd(self.connection.descriptor) as found:
                    if self._is_unix:
                        self.latest = FAR - found.getsockopt(socket.SOL_SOCKET, SO_PEEK_OFF)
                    else:
                        self.latest = _received(found) - self._before
        return self.latest

    def end(self) -> None:
        """End the connection."""
        self.peer = self._peer_text()
        self.connection.close()

    def _peer_text(self) -> str:
        with suppress(OSError), socket_from_fd(self.connection.descriptor) as found:
            if not self._is_unix:
                return str(found.getpeername()[0])
            credentials = found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size)
            return f"process {PEER_CREDENTIALS.unpack(credentials)[0]} of this host"
        return "a peer that is gone"


def _received(found: socket.socket) -> int:
    return int.from_bytes(found.getsockopt(socket.IPPROTO_TCP, TCP_INFO, INFO_SIZE)[RECEIVED_AT:], sys.byteorder)
