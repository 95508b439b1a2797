"""
The number of bytes that have arrived over one connection of libzmq. The Linux kernel counts them for us.

For TCP the kernel counts the received bytes (`tcpi_bytes_received` of TCP_INFO, tcp(7)). For a unix socket it does not.
But its peek offset (SO_PEEK_OFF, socket(7)) decreases by the number of bytes read, and nobody peeks here
(`sk_peek_offset_bwd`, called by `unix_stream_read_generic` in net/unix/af_unix.c): the decrease is the number of bytes
read.
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
"""The option, its size up to and including the counter, and the counter's offset (`struct tcp_info`, linux/tcp.h)."""

SO_PEEK_OFF, FAR = 42, 2**31 - 1
"""The option, and its largest value: bytes read after so many are not counted."""

PEER_CREDENTIALS = struct.Struct("3i")
"""The process, user and group behind a unix socket (SO_PEERCRED, unix(7))."""


class Meter:
    """
    Counts the bytes of one connection, given by libzmq's descriptor. Raises OSError if the connection is gone.

    It counts from its creation (unix sockets), or from the beginning of the connection (TCP), until `reset`.
    """

    POSSIBLE = sys.platform == "linux"

    __slots__ = ("_before", "_is_unix", "connection", "latest", "peer")

    def __init__(self, descriptor: int) -> None:
        self.connection = KernelConnection(descriptor)
        self.latest = 0
        """The latest number of bytes."""
        self.peer = ""
        """The other end, set when we close the connection: an address, or a process of this host."""
        self._before = 0
        with socket_from_fd(descriptor) as found:
            self._is_unix = found.family == socket.AF_UNIX
            if self._is_unix:
                found.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, FAR)

    def reset(self) -> None:
        """Start again at zero."""
        self.latest = 0
        with suppress(OSError), socket_from_fd(self.connection.descriptor) as found:
            if self._is_unix:
                found.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, FAR)
            else:
                self._before = _received(found)

    def read(self) -> int:
        """Return, and store as `latest`, the number of bytes; of a connection that is gone, the number read before."""
        with suppress(OSError):
            if self.connection.is_there:
                with socket_from_fd(self.connection.descriptor) as found:
                    if self._is_unix:
                        self.latest = FAR - found.getsockopt(socket.SOL_SOCKET, SO_PEEK_OFF)
                    else:
                        self.latest = _received(found) - self._before
        return self.latest

    def end(self) -> None:
        """Close the connection."""
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
