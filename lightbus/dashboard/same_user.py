"""Finds out whether a connection from this host was made by a program of this user, which may see the same anyway."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["is_of_own_user", "owner_in"]

SocketAddress = tuple[str, int]
"""Address and port."""

ESTABLISHED = "01"


def is_of_own_user(client: SocketAddress, server: SocketAddress) -> bool:
    """Return whether the connection from `client` to `server` is of this user; False if that is not known."""
    if not sys.platform.startswith("linux") or not ipaddress.ip_address(client[0]).is_loopback:
        return False
    table = Path("/proc/self/net/tcp6" if ":" in client[0] else "/proc/self/net/tcp")
    try:
        with table.open() as lines:
            return owner_in(lines, client, server) == os.geteuid()
    except OSError:
        return False


def owner_in(lines: Iterable[str], client: SocketAddress, server: SocketAddress) -> int | None:
    """Return the user whose socket is the client's end of a connection, in the form of Linux's /proc/net/tcp."""
    ends = [_hexadecimal(client), _hexadecimal(server), ESTABLISHED]
    for line in lines:
        fields = line.split()
        if fields[1:4] == ends:
            return int(fields[7])
    return None


def _hexadecimal(place: SocketAddress) -> str:
    address, port = place
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    words = (packed[start : start + 4] for start in range(0, len(packed), 4))
    if sys.byteorder == "little":
        words = (word[::-1] for word in words)
    return f"{b''.join(words).hex().upper()}:{port:04X}"
