"""The sockets of a worker in mode host: bound in every usable directory, and bound again when their files are removed.

The end of a login session removes them (with `/run/user/<uid>`), or a cleaner of temporary files. Existing connections
work without the file; only new callers would not find the worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ...exceptions import InvalidConfiguration, TransportError
from ...ports.transport import Endpoints, PublisherSocket, RouterSocket
from ...recurring import RecurringLog
from ..host.places import EVENTS, MAX_SOCKET_PATH, PEER, REMEDY, RPC, Places, remove_stale_files

__all__ = ["HostSockets"]

logger = logging.getLogger("lightbus.binding")

LOOK_EVERY = 1.0

TRY_EVERY = 5.0
"""Seconds between two attempts at a directory that could not be used: a login may have created it."""

MOST_ATTEMPTS = 100
"""How often the sockets in one directory are bound again. Each time costs two descriptors, because the old ones stay
open: when libzmq 4.3.5 closes the old socket, it would remove the new file, too."""


class HostSockets:
    """
    The socket files of one worker. Only touched from the node's loop.

    Args:
        instance: the instance id, which the files are named after.
        places: the directories.
        router, xpub: the sockets to bind there.

    """

    def __init__(self, instance: str, places: Places, router: RouterSocket, xpub: PublisherSocket) -> None:
        self._instance = instance
        self._places = places
        self._router = router
        self._xpub = xpub
        self._bound: dict[Path, tuple[int, int]] = {}
        """For each directory, the inodes of our files: while these are the same, the files are still ours."""
        self._attempts: Counter[Path] = Counter()
        self._problems: dict[Path, str] = {}
        self._failures = RecurringLog(logger)
        self._look_at = self._try_at = 0.0

    def open(self) -> None:
        """Bind in every usable directory. Raises InvalidConfiguration if there is none."""
        for place in self._wanted():
            if self._bind(place):
                remove_stale_files(place)
        if not self._bound:
            limit = f"is too long a path: sockets in it would have over {MAX_SOCKET_PATH} bytes"
            problems = "; ".join([*self._problems.values(), *(f"{base} {limit}" for base in self._places.too_long)])
            raise InvalidConfiguration(f"There is no directory for the sockets of this worker: {problems}; {REMEDY}")

    @property
    def endpoints(self) -> Endpoints:
        """The files in the first directory; the directory is announced if its name is printable."""
        first = next(place for place in self._places.candidates() if place in self._bound)
        rpc, event = self._files(first)
        directory = str(first)
        return Endpoints(
            rpc=f"ipc://{rpc}", event=f"ipc://{event}", directory=directory if directory.isprintable() else ""
        )

    def look(self, now: float) -> bool:
        """Check, if it is due, whether all files exist; return whether the endpoints changed."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_EVERY
        changed = [self._bind_again(place) for place in [*self._bound] if self._inodes(place) != self._bound[place]]
        if now >= self._try_at:
            self._try_at = now + TRY_EVERY
            changed += [self._bind(place) for place in self._wanted() if place not in self._bound]
        return any(changed) and bool(self._bound)

    def move(self, addresses: tuple[str, ...]) -> None:
        """Do nothing: mode host has no addresses."""

    def close(self) -> None:
        """Remove the socket files, and the file of this peer beside them."""
        for place in self._bound:
            for file in (*self._files(place), place / f"{self._instance}{PEER}"):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)

    def _wanted(self) -> Iterator[Path]:
        for place in self._places.candidates():
            if place != self._places.last_resort or not self._bound:
                yield place

    def _bind_again(self, place: Path) -> bool:
        before = self._bound.pop(place)
        if self._bind(place):
            logger.warning(
                "The sockets of this worker in %s were removed by another program, and are created again", place
            )
        elif len(self._bound) > 0:
            logger.warning(
                "The sockets of this worker in %s were removed by another program (%s); "
                "new callers reach it at those in %s",
                place, self._problems[place], ", ".join(map(str, self._bound)),
            )  # fmt: skip
        else:
            self._bound[place] = before  # kept, so that it is tried again: there is no other directory
            self._failures.log(
                "unreachable", logging.ERROR,
                "The sockets of this worker were removed by another program, and cannot be created again (%s): no new "
                "caller can reach it. %s; %s",
                self._problems[place],
                "It is not tried again: restart it" if self._is_given_up(place) else "It is tried again", REMEDY,
            )  # fmt: skip
            return False
        return True

    def _bind(self, place: Path) -> bool:
        if self._is_given_up(place):
            self._problems[place] = f"they were removed {MOST_ATTEMPTS} times"
            return False
        for _ in range(2):  # another process may have removed the directory right after it was created
            try:
                self._places.make(place)
                rpc, event = self._files(place)
                self._router.bind(f"ipc://{rpc}")
                self._attempts[place] += 1
                self._xpub.bind(f"ipc://{event}")
            except (InvalidConfiguration, TransportError) as error:
                self._problems[place] = str(error)
            else:
                self._bound[place] = self._inodes(place)
                return True
        logger.debug("No sockets in %s: %s", place, self._problems[place])
        return False

    def _is_given_up(self, place: Path) -> bool:
        return self._attempts[place] >= MOST_ATTEMPTS

    def _inodes(self, place: Path) -> tuple[int, int]:
        rpc, event = self._files(place)
        return _inode(rpc), _inode(event)

    def _files(self, place: Path) -> tuple[Path, Path]:
        return place / f"{self._instance}{RPC}", place / f"{self._instance}{EVENTS}"


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
