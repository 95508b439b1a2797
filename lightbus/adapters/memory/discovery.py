"""Discovery without a network: among the members of a hub in this process, or not at all."""

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
        """Say that nobody is looked for."""
        return "zeroconf switched off"

    def foreign_peers(self, api: str) -> list[str]:
        """Return none."""
        return []

    async def start(self, found: Found, lost: Lost) -> None:
        """Hear of nobody."""

    async def announce(self, announcement: Announcement) -> None:
        """Tell nobody."""

    def look(self) -> None:
        """See nobody."""

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Tell nobody, still."""

    async def withdraw(self) -> None:
        """There is nothing to take back."""

    async def stop(self) -> None:
        """There is nothing to stop."""


class MemoryHub:
    """A network in memory: every `MemoryDiscovery` on it hears the others, from whatever loop and thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # over both fields: members live in several threads
        self._members: list[MemoryDiscovery] = []
        self._announced: dict[InstanceId, Announcement] = {}

    def join(self, member: MemoryDiscovery) -> None:
        """Let `member` hear of everything announced, now and from now on."""
        with self._lock:
            self._members.append(member)
            for announcement in self._announced.values():
                member.deliver(announcement, gone=False)

    def leave(self, member: MemoryDiscovery) -> None:
        """Tell `member` nothing more."""
        with self._lock, contextlib.suppress(ValueError):
            self._members.remove(member)

    def publish(self, announcement: Announcement, *, gone: bool) -> None:
        """Tell every member of a peer that came, changed or went."""
        with self._lock:
            if gone:
                self._announced.pop(announcement.instance, None)
            else:
                self._announced[announcement.instance] = announcement
            for member in self._members:
                member.deliver(announcement, gone=gone)


class MemoryDiscovery:
    """Discovery in memory, for tests and the in-memory bus: the promises of the real one, at once and without loss."""

    problem: str | None = None

    def __init__(self, bus: str, hub: MemoryHub) -> None:
        self._bus = bus
        self._hub = hub
        self._table = AnnouncementTable()
        self._own: Announcement | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def describe(self) -> str:
        """Name it."""
        return f"by {type(self).__name__}"

    def foreign_peers(self, api: str) -> list[str]:
        """Return none: the hub tells of no other bus."""
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
        """Do nothing: what is new is told at once."""

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Tell all members of the hub."""
        if announcement is not None:
            await self.announce(announcement)

    async def withdraw(self) -> None:
        """Tell all members of the hub that we are gone."""
        own, self._own = self._own, None
        if own is not None:
            self._hub.publish(own, gone=True)

    async def stop(self) -> None:
        """Withdraw and leave the hub."""
        await self.withdraw()
        self._hub.leave(self)
        self._table.close()

    def deliver(self, announcement: Announcement, *, gone: bool) -> None:
        """Take what the hub tells, in whatever thread, over to our own loop."""
        if announcement.bus != self._bus or self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop was closed without `stop`
            if gone:
                self._loop.call_soon_threadsafe(self._table.gone, announcement.instance)
            else:
                self._loop.call_soon_threadsafe(self._table.heard, announcement)
