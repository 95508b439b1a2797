"""The outbox: events that wait on this host for somebody to publish them.

One SQLite file for each bus and data directory, shared by all processes: any may put events in, and one at a time hands
them off when a publisher is there. Each process of the bus looks now and then whether there is one. So SQLite, 1 MB of
memory, is imported only where there is.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ...config.surroundings import make_private
from ...ports.outbox import TRY_AGAIN_AFTER, Refused, Waiting
from ..host.directories import is_shared
from ..host.locks import is_there, lock_file
from ..host.machine_time import machine_time

__all__ = ["HostOutbox"]

logger = logging.getLogger("lightbus.outbox")

T = TypeVar("T")

NAME = "outbox.sqlite"
COLUMNS = 8
"""Of the table `waiting`."""

RETRY_EVERY = 0.02

BUSY_TIMEOUT = 5.0
"""Seconds for which one process waits for another that writes."""

_TABLES = """
    CREATE TABLE IF NOT EXISTS waiting (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, api TEXT NOT NULL, event TEXT NOT NULL, key TEXT,
        record BLOB NOT NULL, at REAL NOT NULL, service TEXT NOT NULL DEFAULT ''
    );
    CREATE TABLE IF NOT EXISTS refused (id TEXT PRIMARY KEY, form TEXT NOT NULL, error TEXT NOT NULL, at REAL NOT NULL)
        WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS seen (api TEXT NOT NULL, event TEXT NOT NULL, PRIMARY KEY (api, event)) WITHOUT ROWID;
"""

_IS_DUE = "(api = ? AND NOT (refused.form IS NOT NULL AND refused.form = ? AND refused.at BETWEEN ? AND ?))"


class HostOutbox:
    """
    The outbox of a bus on this host. Any thread and any process may use it.

    Args:
        directory: `<data directory>/<bus>`; it is made when something is put in.

    """

    lock: ClassVar[threading.Lock] = threading.Lock()
    """Held by whoever is inside SQLite here; a fork waits for it (see `Journal.pause`), and its child makes another."""

    is_on_disk = True

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME

    def exists(self) -> bool:
        """Return whether there is an outbox at all: a look that costs next to nothing."""
        return self.path.exists()

    def state(self) -> tuple[int, ...] | None:
        """Return what changes when anything is put in or taken out; None where there is none that we could look at."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        with contextlib.suppress(OSError):
            log = os.stat(f"{self.path}-wal")
            return found.st_mtime_ns, found.st_size, log.st_mtime_ns, log.st_size
        return found.st_mtime_ns, found.st_size

    def put(self, *, id: str, api: str, event: str, key: str | None, record: bytes, service: str = "") -> None:
        """Keep an event; it is on disk when this returns. Raises JournalError."""
        self.put_all(api=api, event=event, rows=[(id, key, record)], service=service)

    def put_all(
        self, *, api: str, event: str, rows: Iterable[tuple[str, str | None, bytes]], service: str = ""
    ) -> None:
        """Keep events of one name, `(id, key, record)` each, all of them or none. Raises JournalError."""
        now = time.time()
        values = [(id, api, event, key, record, now, service) for id, key, record in rows]
        query = "INSERT OR IGNORE INTO waiting (id, api, event, key, record, at, service) VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._use("did not take an event", lambda connection: connection.executemany(query, values))

    def waiting(self, published: Mapping[str, str] | None = None, limit: int = 100) -> list[Waiting]:
        """
        Return what waits, in the order in which it was put in.

        Args:
            published: the APIs whose events are returned, each with its form: what changes when the API does. What
                was refused in that form is left out, but for `TRY_AGAIN_AFTER`. None: everything that waits.
            limit: how many at most.

        """
        columns = "waiting.id, api, event, key, record, waiting.at, refused.form, service"
        wanted, arguments = "", []
        if published is not None:
            now = machine_time()
            wanted = "WHERE " + (" OR ".join([_IS_DUE] * len(published)) or "false")
            for api, form in published.items():
                arguments += [api, form, now - TRY_AGAIN_AFTER, now]
        query = f"SELECT {columns} FROM waiting LEFT JOIN refused USING (id) {wanted} ORDER BY number LIMIT ?"
        arguments.append(limit)
        return self._all(Waiting._make, query, arguments)

    def delivered(self, ids: Iterable[str]) -> None:
        """Take out what was handed off."""
        rows = [(id,) for id in ids]

        def take_out(connection: Any) -> None:
            connection.executemany("DELETE FROM waiting WHERE id = ?", rows)
            connection.executemany("DELETE FROM refused WHERE id = ?", rows)

        self._use("was not changed", take_out)

    def refuse(self, refusals: Iterable[tuple[str, str, str]]) -> None:
        """Note that events were refused, each given by its id, the form of its API at the time, and the error."""
        # By the machine's time, so that it is tried again soon also where the time of day is put right meanwhile.
        now = machine_time()
        rows = [(*refusal, now) for refusal in refusals]
        query = "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)"
        self._use("was not changed", lambda connection: connection.executemany(query, rows))

    def refused(self) -> list[Refused]:
        """Return what waits since its publishers refused it."""
        query = (  # the error is that of the row with the latest time: https://www.sqlite.org/lang_select.html#bareagg
            "SELECT api, event, count(*), error, max(refused.at) FROM waiting JOIN refused USING (id) "
            "GROUP BY api, event ORDER BY api, event"
        )
        return self._all(lambda row: Refused(*row[:4]), query)

    def counts(self) -> dict[str, int]:
        """Return how many events wait, by API."""
        return dict(self._all(tuple, "SELECT api, count(*) FROM waiting GROUP BY api"))

    def services(self) -> dict[str, str]:
        """Return which service put the events of an API in, for those that a process of their own service put in."""
        return dict(self._all(tuple, "SELECT DISTINCT api, service FROM waiting WHERE service != ''"))

    def note_seen(self, api: str, event: str) -> None:
        """Remember that there is an event of this name."""
        query = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
        self._use("was not changed", lambda connection: connection.execute(query, (api, event)))

    def seen(self, api: str) -> set[str]:
        """Return the events of an API that there are, as far as this host has seen."""
        return {event for (event,) in self._all(tuple, "SELECT event FROM seen WHERE api = ?", (api,))}

    @contextlib.contextmanager
    def hold(self) -> Iterator[Callable[[], bool]]:
        """
        Be the one process that hands off, while this lasts. Raises JournalError where that cannot be.

        What is given tells whether we are: not where another process is, nor once the lock's file was taken away.
        """
        from .journal_errors import journal_error

        path = self.path.with_suffix(".lock")
        try:
            descriptor = lock_file(path)
        except OSError as error:
            raise journal_error(self.path, "cannot be held", error) from error
        if descriptor is None:
            yield lambda: False
            return
        try:
            yield partial(is_there, descriptor, path)
        finally:
            os.close(descriptor)

    def _all(self, made: Callable[[Any], T], query: str, arguments: Sequence[Any] = ()) -> list[T]:
        return self._use(
            "cannot be read", lambda connection: [made(row) for row in connection.execute(query, arguments).fetchall()]
        )

    def _use(self, what: str, action: Callable[[Any], T]) -> T:
        """
        Do something with it by one commit, and return what that returns. Raises JournalError.

        Again and again while others have it locked. One that is damaged is renamed, and a new one takes its place.
        """
        from sqlite3 import SQLITE_CORRUPT, SQLITE_NOTADB

        from .journal_errors import DAMAGED, is_locked, journal_error

        end = time.monotonic() + BUSY_TIMEOUT
        is_renamed: bool | None = None
        while True:
            inode = self._inode()
            try:
                return self._do(action)
            except (*DAMAGED, OSError) as error:
                damage = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if damage in (SQLITE_CORRUPT, SQLITE_NOTADB) and is_renamed is None:
                    is_renamed = self._quarantine(inode, error)
                elif not is_locked(error) or time.monotonic() > end:
                    raise journal_error(self.path, what, error) from error
            time.sleep(RETRY_EVERY)

    def _do(self, action: Callable[[Any], T]) -> T:
        """Open it anew for each use: that takes a millisecond, is rare, and leaves nothing to a forked child."""
        import sqlite3

        with HostOutbox.lock:
            make_private(self.path.parent)
            connection = sqlite3.connect(self.path, timeout=0.5, isolation_level=None)
            with contextlib.closing(connection):
                if not is_shared(self.path.parent):  # so that who only reads holds up nobody
                    connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("BEGIN IMMEDIATE")
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                if len(connection.execute("PRAGMA table_info(waiting)").fetchall()) < COLUMNS:  # of a version before
                    connection.execute("ALTER TABLE waiting ADD COLUMN service TEXT NOT NULL DEFAULT ''")
                result = action(connection)
                connection.execute("COMMIT")
                return result

    def _inode(self) -> int:
        try:
            return self.path.stat().st_ino
        except OSError:
            return 0

    def _quarantine(self, inode: int, error: Exception) -> bool:
        """Rename it where it is the file that was found to be damaged, and not what somebody made in its place."""
        from .quarantine import quarantine

        with HostOutbox.lock, open(self.path, "rb") as damaged:
            fcntl.flock(damaged, fcntl.LOCK_EX)  # of several that find it damaged, one at a time
            if self._inode() != inode or not is_there(damaged.fileno(), self.path):
                return False
            renamed = quarantine(self.path)
        logger.error(
            "The outbox %s is damaged (%s). It was renamed to %s, and what waits in it is not handed off; "
            "`sqlite3 %s .recover` may read some of it. What is fired from now on is kept in a new one.",
            self.path, error, renamed, renamed,
        )  # fmt: skip
        return True
