"""Discovery without a network: between the members of a hub in this process, or none at all."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence

from ...ports.announcement_table import AnnouncementTable
from ...ports.discovery import Found, Lost
from ...typing import InstanceId
from ...wire.announcement import Announcement

__all__ = ["MemoryDiscovery", "MemoryHub", "NoDiscovery"]


class NoDiscovery:
    """Discovery switched off: peers are found through fixed peers only."""

    problem: str | None = None

    def describe(self) -> str:
        """Return that discovery is switched off."""
        return "zeroconf switched off"

    def foreign_peers(self, api: str) -> list[str]:
        """Return none."""
        return []

    async def start(self, found: Found, lost: Lost) -> None:
        """Do nothing: no peer will be found."""

    async def announce(self, announcement: Announcement) -> None:
        """Do nothing."""

    def look(self) -> None:
        """Do nothing."""

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Do nothing."""

    async def withdraw(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""


class MemoryHub:
    """A network in memory: every `MemoryDiscovery` on it hears the others, from any loop and thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both fields: members are used by several threads
        self._members: list[MemoryDiscovery] = []
        self._announced: dict[InstanceId, Announcement] = {}

    def join(self, member: MemoryDiscovery) -> None:
        """Deliver all present and future announcements to `member`."""
        with self._lock:
            self._members.append(member)
            for announcement in self._announced.values():
                member.deliver(announcement, gone=False)

    def leave(self, member: MemoryDiscovery) -> None:
        """Deliver nothing more to `member`."""
        with self._lock, contextlib.suppress(ValueError):
            self._members.remove(member)

    def publish(self, announcement: Announcement, *, gone: bool) -> None:
        """Tell every member that a peer has joined, changed or left."""
        with self._lock:
            if gone:
                self._announced.pop(announcement.instance, None)
            else:
                self._announced[announcement.instance] = announcement
            for member in self._members:
                member.deliver(announcement, gone=gone)


class MemoryDiscovery:
    """Discovery in memory, for tests and the memory bus: the contract of the real one, without delay or loss."""

    problem: str | None = None

    def __init__(self, bus: str, hub: MemoryHub) -> None:
        self._bus = bus
        self._hub = hub
        self._table = AnnouncementTable()
        self._own: Announcement | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def describe(self) -> str:
        """Return the name of this class."""
        return f"by {type(self).__name__}"

    def foreign_peers(self, api: str) -> list[str]:
        """Return none: peers of other buses are ignored."""
        return []

    async def start(self, found: Found, lost: Lost) -> None:
        """Join the hub."""
        self._loop = asyncio.get_running_loop()
        self._table.open(found, lost)
        self._hub.join(self)

    async def announce(self, announcement: Announcement) -> None:
        """Tell all members of the hub."""
        self._own, self._table.own = announcement, announcement.instance
        self._hub.publish(announcement, gone=False)

    def look(self) -> None:
        """Do nothing: announcements arrive at once."""

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Tell all members of the hub."""
        if announcement is not None:
            await self.announce(announcement)

    async def withdraw(self) -> None:
        """Tell all members of the hub that this peer has left."""
        own, self._own = self._own, None
        if own is not None:
            self._hub.publish(own, gone=True)

    async def stop(self) -> None:
        """Withdraw and leave the hub."""
        await self.withdraw()
        self._hub.leave(self)
        self._table.close()

    def deliver(self, announcement: Announcement, *, gone: bool) -> None:
        """Pass an announcement on to our own loop; called from any thread."""
        if announcement.bus != self._bus or self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop was closed without `stop`
            if gone:
                self._loop.call_soon_threadsafe(self._table.gone, announcement.instance)
            else:
                self._loop.call_soon_threadsafe(self._table.heard, announcement)
