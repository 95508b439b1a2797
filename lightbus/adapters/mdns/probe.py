"""
Checks whether multicast works on this host: for `lightbus doctor`, when peers are not found.

It sends a multicast DNS question (RFC 6762) for a name that does not exist. Where multicast works, it comes back here.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct

from .discovery import SERVICE_TYPE
from .intake import MDNS_PORT
from .multicast_group import MDNS_GROUP

__all__ = ["multicast_problem", "port_problem"]

_HEADER = struct.Struct(">6H")
_PTR, _IN = 12, 1  # RFC 1035 sections 3.2.2 and 3.2.4
MAX_PACKET = 9000  # RFC 6762 section 17


def port_problem() -> str | None:
    """Return why the port of multicast DNS cannot be shared; None if it can."""
    try:
        with _listening():
            return None
    except OSError as error:
        return str(error)


async def multicast_problem(address: str, seconds: float) -> str | None:
    """Return why multicast from one of our addresses is not received there; None if it is."""
    try:
        with _listening() as receiver:
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _packed(MDNS_GROUP) + _packed(address))
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _packed(address))
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            label = f"doctor-{os.urandom(8).hex()}"
            receiver.sendto(_question(f"{label}.{SERVICE_TYPE}"), (MDNS_GROUP, MDNS_PORT))
            async with asyncio.timeout(seconds):
                await _await_packet(receiver, label.encode())
    except TimeoutError:
        return f"the packet that was sent did not come back within {seconds:g} s"
    except OSError as error:
        return str(error)
    return None


def _listening() -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        receiver.bind(("", MDNS_PORT))
        receiver.setblocking(False)
    except OSError:
        receiver.close()
        raise
    return receiver


async def _await_packet(receiver: socket.socket, label: bytes) -> None:
    loop = asyncio.get_running_loop()
    while label not in await loop.sock_recv(receiver, MAX_PACKET):
        pass


def _question(name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.strip(".").split("."))
    return _HEADER.pack(0, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", _PTR, _IN)


def _packed(address: str) -> bytes:
    return socket.inet_aton(address)
