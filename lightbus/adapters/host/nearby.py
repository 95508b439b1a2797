"""
Discovery of peers on this host: workers write their announcements into files beside their sockets; others read them.

So processes of one user find each other without any network, even if multicast does not work. An announcement in a file
is a hint, like one from the network; but only this user can have written it.
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
"""Seconds between two checks whether a directory has changed; each takes about 10 us, and wakes the process."""

QUIET_AFTER = 60
"""Checks without a change or a request after which only each fifth check is done."""

QUIET = 5

READ_EVERY = 100
"""
Checks after which a directory is read even if its time is unchanged: that time has the resolution of a tick. Our own
announcement is written again then if it is missing.
"""

MAX_BYTES = 256 * 1024
"""Bytes of a file that are read: enough for the names of 1024 APIs."""

LOCAL_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of our own process: known peers stay known, and the file is read again once there is room."""

MULTICAST_AFTER = 0.3
"""Seconds after which multicast starts in mode host: by then most processes have found their peers, or have ended."""

_Stamp = tuple[int, int, int]


class _Directory:
    """The state of a directory when it was last read."""

    __slots__ = ("changed", "files", "must_reread")

    def __init__(self) -> None:
        self.changed = 0
        self.files: dict[str, _Stamp] = {}
        """The files, each with a stamp that changes when the file does."""
        self.must_reread = True
        """Whether to read it once more: a change within one tick of the system's clock leaves its time unchanged."""


class NearbyDiscovery:
    """
    Discovery through the directories of `Places`. Its calls come from one event loop.

    Args:
        bus: the name of the bus; announcements of other buses are ignored.
        places: the directories of this bus's sockets.

    """

    problem: str | None = None

    def __init__(self, bus: str, places: Places) -> None:
        self._bus = bus
        self._places = places
        self._candidates = places.candidates()
        self._table = AnnouncementTable()
        self._directories: dict[Path, _Directory] = {}
        self._names: set[str] = set()
        self._checks = 0
        """The number of checks, including those that were left out."""
        self._news_check = 0
        """The number of the last check with a change or a request."""
        self._own: Announcement | None = None
        self._written: list[Path] = []
        self._timer: asyncio.TimerHandle | None = None

    def describe(self) -> str:
        """Return in which directories sockets are looked for."""
        return f"sockets in {self._places}"

    def foreign_peers(self, api: str) -> list[str]:
        """Return none: these directories belong to this bus alone."""
        return []

    async def start(self, found: Found, lost: Lost) -> None:
        """Read the directories, and start to check them regularly."""
        self._table.open(found, lost)
        self._look()

    def look(self) -> None:
        """Read the directories that have changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._news_check = self._checks
            self._look()

    async def announce(self, announcement: Announcement) -> None:
        """Write our announcement beside each of our sockets."""
        self._table.own = announcement.instance
        self._own, self._written = announcement, []
        self._write_missing(announcement)
        if not self._written:
            logger.warning(
                "No process on this host can find this worker: its announcement cannot be written to %s", self._places
            )

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Write our announcement again; addresses have no meaning here."""
        if announcement is not None:
            await self.announce(announcement)

    async def withdraw(self) -> None:
        """Remove our announcement."""
        written, self._own, self._written = self._written, None, []
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    async def stop(self) -> None:
        """Withdraw, and stop checking."""
        await self.withdraw()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._table.close()

    def _write_missing(self, announcement: Announcement) -> None:
        """Write our announcement where it is not: the disk was full, or a cleaner removes files that are days old."""
        for place in self._places.there():
            path = place / f"{announcement.instance}{PEER}"
            was_written = path in self._written
            if not (was_written and path.exists()) and path.with_suffix(RPC).exists():
                with contextlib.suppress(OSError):  # a full disk: the other directories may be on other disks
                    _write(path, json.dumps(replace(announcement, apis=None).to_wire()))
                    self._written += [] if was_written else [path]

    def _look(self) -> None:
        checks = QUIET if self._checks - self._news_check >= QUIET_AFTER else 1
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(next_beat(loop.time(), checks * LOOK_EVERY), self._look)
        self._checks += checks
        is_due = self._checks % READ_EVERY < checks
        if is_due and self._own is not None:
            self._write_missing(self._own)
        changed = [place for place in self._candidates if self._read_directory(place, is_due)]
        if changed:
            self._forget()

    def _read_directory(self, place: Path, is_due: bool) -> bool:
        """Read a directory that has changed, is gone, or is due, and return whether it was read."""
        known = self._directories.get(place)
        try:
            changed = os.stat(place).st_mtime_ns
            if known is not None and changed == known.changed and not (known.must_reread or is_due):
                return False
            if not self._places.is_usable(place):
                return self._directories.pop(place, None) is not None
            if known is None:
                known = self._directories[place] = _Directory()
            known.must_reread = changed != known.changed
            known.changed = changed
            self._read(place, known)
        except OSError as error:
            if error.errno not in LOCAL_ERRORS:  # it does not exist, or was just removed
                return self._directories.pop(place, None) is not None
            if known is not None:
                known.must_reread = True
        return True

    def _read(self, place: Path, known: _Directory) -> None:
        before, files = known.files, dict[str, _Stamp]()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.endswith(PEER) and len(files) < MAX_PEERS:
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # this peer has just left, not all those in the directory
                        continue
                    stamp = found.st_ino, found.st_mtime_ns, found.st_size
                    if before.get(entry.name) == stamp or self._read_file(
                        Path(entry.path), is_news=entry.name in before
                    ):
                        files[entry.name] = stamp
                        continue
                    known.must_reread = True  # it could not be read now
                    if entry.name in before:
                        files[entry.name] = before[entry.name]
        known.files = files

    def _forget(self) -> None:
        names = {name for directory in self._directories.values() for name in directory.files}
        if names != self._names:
            self._news_check = self._checks
        for name in self._names - names:
            self._table.gone(name.removesuffix(PEER))
        self._names = names

    def _read_file(self, path: Path, *, is_news: bool) -> bool:
        """Pass on the announcement in a file; return whether the file is done with: read, or malformed."""
        try:
            announcement = _announcement(path)
        except (OSError, ValueError, RecursionError, ProtocolError) as error:
            if isinstance(error, OSError) and error.errno in LOCAL_ERRORS:
                return False
            self._table.ignore("malformed", str(path), str(error))
            return True
        if announcement is not None and announcement.bus == self._bus:
            if is_news:
                self._table.forget(announcement.instance)  # try to connect again, even if it has not changed
            self._table.heard(announcement)
        return True


class HostDiscovery:
    """
    Discovery in mode host: by directories, and a moment later by multicast on loopback, too.

    By multicast, a process that shares no directory with others (PrivateTmp) learns of the peers that it cannot reach,
    and peers of an earlier version are found. Without multicast all other peers are found even so.
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
        """Return in which directories sockets are looked for: peers can be reached there or not at all."""
        return self._nearby.describe()

    def foreign_peers(self, api: str) -> list[str]:
        """Return none: other announcements on this host do not matter to this bus."""
        return []

    async def start(self, found: Found, lost: Lost) -> None:
        """Read the directories, and start multicast later."""
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
        """Write the announcement, and send it."""
        self._own = announcement
        await self._nearby.announce(announcement)
        if self._multicast is not None:
            await self._multicast.announce(announcement)

    def look(self) -> None:
        """Read what has changed."""
        self._nearby.look()

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Write our announcement again."""
        await self._nearby.move(addresses, announcement)

    async def withdraw(self) -> None:
        """Withdraw from the directories and from multicast."""
        self._own = None
        await self._nearby.withdraw()
        if self._multicast is not None:
            await self._multicast.withdraw()

    async def stop(self) -> None:
        """Withdraw, and stop both kinds of discovery."""
        self._own = None
        await self._nearby.stop()
        if self._begin is not None:
            self._begin.cancel()
            await asyncio.gather(self._begin, return_exceptions=True)
        if self._made is not None:
            await self._made.stop()


def written_announcements(bus: str, places: Places) -> list[Announcement]:
    """Return the announcements in a bus's directories, each once, also of ended processes that left their sockets."""
    found: dict[str, Announcement] = {}
    for place in places.there():
        with contextlib.suppress(OSError):  # it was just removed
            for path in islice(place.glob(f"*{PEER}"), MAX_PEERS):
                with contextlib.suppress(OSError, ValueError, RecursionError, ProtocolError):
                    if (announcement := _announcement(path)) is not None and announcement.bus == bus:
                        found[announcement.instance] = announcement
    return [*found.values()]


def _write(path: Path, text: str) -> None:
    """Write a file so that no process reads a part of it."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text, encoding="ascii")
    unfinished.replace(path)


def _announcement(path: Path) -> Announcement | None:
    """
    Return the announcement in a file; None if the sockets of its process are gone.

    Raises OSError, ValueError, RecursionError, ProtocolError.
    """
    if not path.with_suffix(RPC).exists():
        return None
    with path.open("rb") as file:
        announcement = Announcement.from_wire(json.loads(file.read(MAX_BYTES)))
    if announcement.instance != path.stem:
        raise ProtocolError(f"its name differs from its instance id, {announcement.instance}")
    return announcement
