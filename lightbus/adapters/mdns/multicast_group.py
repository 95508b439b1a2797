"""The multicast group that sockets join: at which of our addresses they can, and whether they are still in it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from ...core.beats import next_beat
from .intake import MDNS_PORT

__all__ = ["MDNS_GROUP", "GroupWatch", "can_join", "has_left", "taking_part"]

MDNS_GROUP = "224.0.0.251"  # RFC 6762 section 3

LOOK_EVERY = 5.0
"""Seconds between two checks whether sockets are still in the group."""


def taking_part(addresses: Sequence[str]) -> list[str]:
    """
    Return the addresses whose interfaces take part in multicast; raise OSError if there are none.

    Each address is tried here first: python-zeroconf gives up at the first interface that fails, or hides the error.
    """
    joined, reason = [], OSError("no address to use")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(("", MDNS_PORT))
        for address in addresses:
            try:
                _join(probe, address)
                joined.append(address)
            except OSError as error:
                reason = error
    if not joined:
        raise reason
    return joined


def can_join(addresses: Sequence[str]) -> bool:
    """Return whether the interface of one of these addresses can take part now."""
    try:
        return bool(taking_part(addresses))
    except OSError:
        return False


def has_left(sockets: Iterable[Any], addresses: Iterable[str]) -> bool:
    """
    Return whether a listening socket is not in the group any more at one of these addresses, though it could be.

    The kernel takes it out of the group when an interface is removed: a network card that is unplugged, or whose driver
    makes it anew after a suspension. With the same address it is another interface to the kernel.
    """
    for each in sockets:
        if _listens(each):
            for address in addresses:
                try:
                    _join(each, address)
                except OSError:  # it is in the group, or the address is not there at the moment
                    continue
                return True
    return False


class GroupWatch:
    """
    Notices that the kernel has taken sockets out of the group. For one event loop.

    Args:
        sockets: returns the sockets; None if they could not be opened anew.
        rejoin: opens all sockets anew.

    Attributes:
        joined: the addresses at which the sockets have joined the group; none before they were opened once.

    """

    def __init__(
        self, sockets: Callable[[], list[Any] | None], rejoin: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self.joined: list[str] = []
        self.rejoining: asyncio.Task[None] | None = None
        """The latest opening."""
        self._sockets = sockets
        self._rejoin = rejoin
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Have the sockets opened anew if they have left the group; check again later."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(next_beat(loop.time(), LOOK_EVERY), self.look)
        if self.rejoining is not None and not self.rejoining.done():
            return
        sockets = self._sockets()
        if can_join(self.joined) if sockets is None else has_left(sockets, self.joined):
            self.rejoining = asyncio.create_task(self._rejoin())

    async def stop(self) -> None:
        """Stop checking, and opening."""
        if self._timer is not None:
            self._timer.cancel()
        if self.rejoining is not None:
            self.rejoining.cancel()
            await asyncio.gather(self.rejoining, return_exceptions=True)


def _listens(given: Any) -> bool:
    try:
        return bool(given.getsockname()[0] == "0.0.0.0")
    except OSError:  # it was closed just now
        return False


def _join(joining: Any, address: str) -> None:
    membership = socket.inet_aton(MDNS_GROUP) + socket.inet_aton(address)
    joining.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
