"""
Who is out there on this host: workers write it down beside their sockets, and the others read it.

So processes of one user find each other without any network, whatever becomes of multicast. What is read is a hint, as
what is heard is; but only this user can have written it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from ...core.beats import next_beat
from ...exceptions import ProtocolError
from ...ports.announcement_table import MAX_PEERS, AnnouncementTable
from ...ports.discovery import Discovery, Found, Lost
from ...wire.announcement import Announcement
from .places import PEER, RPC, Places

__all__ = ["HostDiscovery", "NearbyDiscovery", "written_announcements"]

logger = logging.getLogger("lightbus.discovery")

LOOK_EVERY = 0.05
"""Seconds between two looks whether a directory has changed; one takes about 10 us, and wakes the process."""

QUIET_AFTER = 60
"""Looks without anything new, and without anybody who asked, after which only each fifth of them is taken."""

QUIET = 5

READ_EVERY = 100
"""Looks after which a directory is read even if it looks unchanged: its time is only as fine as the system's ticks."""

MAX_BYTES = 256 * 1024
"""Bytes of a file that are read: as many as 1024 names of APIs take."""

OUR_OWN_TROUBLE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that say nothing of what was looked at: who was there still is, and it is read once there is room again."""

MULTICAST_AFTER = 0.3
"""Seconds after which multicast is begun with, in mode host: most processes have found whom they look for, or ended."""

_Stamp = tuple[int, int, int]


class _Directory:
    """A directory as it was when it was read."""

    __slots__ = ("changed", "files", "is_unsure")

    def __init__(self) -> None:
        self.changed = 0
        self.files: dict[str, _Stamp] = {}
        """What each file is called, and what tells whether it is another one now."""
        self.is_unsure = True
        """What changes within one tick of the system's clock leaves the time as it was: so it is read once more."""


class NearbyDiscovery:
    """
    Discovery through the directories of `Places`. Its calls come from one event loop.

    Args:
        bus: what others wrote of another bus is ignored.
        places: where the sockets of this bus are.

    """

    problem: str | None = None

    def __init__(self, bus: str, places: Places) -> None:
        self._bus = bus
        self._places = places
        self._candidates = places.candidates()
        self._table = AnnouncementTable()
        self._directories: dict[Path, _Directory] = {}
        self._names: set[str] = set()
        self._looks = 0
        """Those that were left out count, too."""
        self._news_at = 0
        """At which of them there was something new, or somebody asked."""
        self._written: list[Path] = []
        self._timer: asyncio.TimerHandle | None = None

    def describe(self) -> str:
        """Say where sockets are looked for."""
        return f"sockets in {self._places}"

    def foreign_peers(self, api: str) -> list[str]:
        """Return none: what is in these directories is of this bus."""
        return []

    async def start(self, found: Found, lost: Lost) -> None:
        """Read who is there, and go on looking."""
        self._table.open(found, lost)
        self._look()

    def look(self) -> None:
        """Read what has changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._news_at = self._looks
            self._look()

    async def announce(self, announcement: Announcement) -> None:
        """Write down what we say of ourselves, beside each of our sockets."""
        self._table.own = announcement.instance
        text = json.dumps(replace(announcement, apis=None).to_wire())
        written = []
        for place in self._places.there():
            if (place / f"{announcement.instance}{RPC}").exists():
                path = place / f"{announcement.instance}{PEER}"
                with contextlib.suppress(OSError):  # a full disk: the other places may be on another
                    _write(path, text)
                    written.append(path)
        if not written:
            logger.warning(
                "No process on this host can find this worker: its announcement cannot be written to %s", self._places
            )
        self._written = written

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Write down what is new; addresses mean nothing here."""
        if announcement is not None:
            await self.announce(announcement)

    async def withdraw(self) -> None:
        """Take back what was written."""
        written, self._written = self._written, []
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    async def stop(self) -> None:
        """Withdraw, and look no more."""
        await self.withdraw()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._table.close()

    def _look(self) -> None:
        looks = QUIET if self._looks - self._news_at >= QUIET_AFTER else 1
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(next_beat(loop.time(), looks * LOOK_EVERY), self._look)
        self._looks += looks
        is_due = self._looks % READ_EVERY < looks
        changed = [place for place in self._candidates if self._read_directory(place, is_due)]
        if changed:
            self._forget()

    def _read_directory(self, place: Path, is_due: bool) -> bool:
        """Read a directory that has changed, is gone, or is due, and return whether it was read."""
        known = self._directories.get(place)
        try:
            changed = os.stat(place).st_mtime_ns
            if known is not None and changed == known.changed and not (known.is_unsure or is_due):
                return False
            if not self._places.is_usable(place):
                return self._directories.pop(place, None) is not None
            if known is None:
                known = self._directories[place] = _Directory()
            known.is_unsure = changed != known.changed
            known.changed = changed
            self._read(place, known)
        except OSError as error:
            if error.errno not in OUR_OWN_TROUBLE:  # it is not there, or was removed just now
                return self._directories.pop(place, None) is not None
            if known is not None:
                known.is_unsure = True
        return True

    def _read(self, place: Path, known: _Directory) -> None:
        before, files = known.files, dict[str, _Stamp]()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.endswith(PEER) and len(files) < MAX_PEERS:
                    found = entry.stat(follow_symlinks=False)
                    stamp = found.st_ino, found.st_mtime_ns, found.st_size
                    if before.get(entry.name) == stamp or self._read_file(
                        Path(entry.path), is_news=entry.name in before
                    ):
                        files[entry.name] = stamp
                        continue
                    known.is_unsure = True  # it could not be read now
                    if entry.name in before:
                        files[entry.name] = before[entry.name]
        known.files = files

    def _forget(self) -> None:
        names = {name for directory in self._directories.values() for name in directory.files}
        if names != self._names:
            self._news_at = self._looks
        for name in self._names - names:
            self._table.gone(name.removesuffix(PEER))
        self._names = names

    def _read_file(self, path: Path, *, is_news: bool) -> bool:
        """Tell what a file says; return whether it could be read, or never can."""
        try:
            announcement = _announcement(path)
        except (OSError, ValueError, RecursionError, ProtocolError) as error:
            if isinstance(error, OSError) and error.errno in OUR_OWN_TROUBLE:
                return False
            self._table.ignore("malformed", str(path), str(error))
            return True
        if announcement is not None and announcement.bus == self._bus:
            if is_news:
                self._table.forget(announcement.instance)  # written anew it is worth an attempt, whatever it says
            self._table.heard(announcement)
        return True


class HostDiscovery:
    """
    Discovery in mode host: through directories, and a moment later by multicast on loopback, too.

    That is how a process whose directories are all others (PrivateTmp) is told of those that it cannot reach, and how
    those of an earlier version are found. Where multicast does not work nothing is missing.
    """

    problem: str | None = None

    def __init__(self, nearby: NearbyDiscovery, multicast: Callable[[], Discovery] | None) -> None:
        self._nearby = nearby
        self._make = multicast
        self._made: Discovery | None = None
        self._multicast: Discovery | None = None
        """Multicast, once it has started."""
        self._own: Announcement | None = None
        self._begin: asyncio.Task[None] | None = None

    def describe(self) -> str:
        """Say where sockets are looked for: a bus of this host is found there, or not at all."""
        return self._nearby.describe()

    def foreign_peers(self, api: str) -> list[str]:
        """Return none: what others announce on this host has no part in this bus."""
        return []

    async def start(self, found: Found, lost: Lost) -> None:
        """Read who is there."""
        await self._nearby.start(found, lost)
        if self._make is not None:
            self._begin = asyncio.create_task(self._start_multicast(self._make, found, lost))

    async def _start_multicast(self, make: Callable[[], Discovery], found: Found, lost: Lost) -> None:
        await asyncio.sleep(MULTICAST_AFTER)
        multicast = self._made = make()
        await multicast.start(found, lost)
        self._multicast = multicast
        if self._own is not None:
            await multicast.announce(self._own)

    async def announce(self, announcement: Announcement) -> None:
        """Write it down, and send it."""
        self._own = announcement
        await self._nearby.announce(announcement)
        if self._multicast is not None:
            await self._multicast.announce(announcement)

    def look(self) -> None:
        """Read what has changed."""
        self._nearby.look()

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Write down what is new."""
        await self._nearby.move(addresses, announcement)

    async def withdraw(self) -> None:
        """Take back what was written and sent."""
        self._own = None
        await self._nearby.withdraw()
        if self._multicast is not None:
            await self._multicast.withdraw()

    async def stop(self) -> None:
        """Withdraw, and leave nothing running."""
        self._own = None
        await self._nearby.stop()
        if self._begin is not None:
            self._begin.cancel()
            await asyncio.gather(self._begin, return_exceptions=True)
        if self._made is not None:
            await self._made.stop()


def written_announcements(bus: str, places: Places) -> list[Announcement]:
    """Return what the processes of a bus have written, each once, those included that ended and left their sockets."""
    found: dict[str, Announcement] = {}
    for place in places.there():
        with contextlib.suppress(OSError):  # it was removed just now
            for path in islice(place.glob(f"*{PEER}"), MAX_PEERS):
                with contextlib.suppress(OSError, ValueError, RecursionError, ProtocolError):
                    if (announcement := _announcement(path)) is not None and announcement.bus == bus:
                        found[announcement.instance] = announcement
    return [*found.values()]


def _write(path: Path, text: str) -> None:
    """Write a file so that nobody reads a part of it."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text, encoding="ascii")
    unfinished.replace(path)


def _announcement(path: Path) -> Announcement | None:
    """
    Return what a file says; None where its process is gone.

    Raises OSError, ValueError, RecursionError, ProtocolError.
    """
    if not path.with_suffix(RPC).exists():
        return None
    with path.open("rb") as file:
        announcement = Announcement.from_wire(json.loads(file.read(MAX_BYTES)))
    if announcement.instance != path.stem:
        raise ProtocolError(f"its name differs from its instance id, {announcement.instance}")
    return announcement
