"""A raw peer: ZMTP 3.1 without a mechanism (RFC 37), frame by frame, over its own socket."""

from __future__ import annotations

import socket
import struct

__all__ = ["RawPeer", "command", "message", "ping"]

GREETING = bytes([0xFF, *[0] * 8, 0x7F, 3, 1]) + b"NULL".ljust(20, b"\0") + b"\0" * 32
MORE, LARGE, COMMAND = 1, 2, 4


def _frame(flags: int, body: bytes) -> bytes:
    if len(body) > 255:
        return bytes([flags | LARGE]) + struct.pack(">Q", len(body)) + body
    return bytes([flags, len(body)]) + body


def command(name: bytes, data: bytes) -> bytes:
    """Return a command."""
    return _frame(COMMAND, bytes([len(name)]) + name + data)


def message(*parts: bytes) -> bytes:
    """Return a message of these parts."""
    return b"".join([*(_frame(MORE, part) for part in parts[:-1]), _frame(0, parts[-1])])


def ping(seconds: float = 0) -> bytes:
    """Return a heartbeat: the receiver may take us for gone after this many seconds of silence; 0: never."""
    return command(b"PING", struct.pack(">H", int(seconds * 10)) + b"x")


class RawPeer:
    """
    One end of a connection after the handshake. It reads only when a test calls a method that reads.

    Args:
        connection: TCP, or a unix socket.
        kind: the type of socket that it claims to be.

    """

    def __init__(self, connection: socket.socket, kind: bytes) -> None:
        self.connection = connection
        connection.sendall(GREETING)
        self._read(len(GREETING))
        connection.sendall(command(b"READY", b"\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind))
        self._read(self._read(2)[1])  # the other's, which is short

    def send(self, data: bytes) -> None:
        """Send bytes unchanged."""
        self.connection.sendall(data)

    def reset(self) -> None:
        """End the connection as if our host were gone: unread data is lost, and the other end is notified."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.connection.recv(size - len(data))
            if not part:
                raise ConnectionError("it broke off the handshake")
            data += part
        return data
