"""The outbox: events that wait on this host until a process publishes them.

One SQLite file for each bus and data directory, shared by all processes: any of them may add events, and one at a time
hands them off when a publisher is reachable. Each process of the bus checks now and then whether the file exists, and
imports SQLite, which takes 1 MB of memory, only if it does.
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

OUTBOX = "outbox.sqlite"
"""The name of its file, in the directory of the bus."""
COLUMNS = 8
"""Number of columns of the table `waiting`."""

RETRY_EVERY = 0.02

BUSY_TIMEOUT = 5.0
"""Seconds for which a process waits while another one writes."""

_TABLES = """
    CREATE TABLE IF NOT EXISTS waiting (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, api TEXT NOT NULL, event TEXT NOT NULL, key TEXT,
        record BLOB NOT NULL, at REAL NOT NULL, service TEXT NOT NULL DEFAULT ''
    );
    CREATE TABLE IF NOT EXISTS refused (id TEXT PRIMARY KEY, form TEXT NOT NULL, error TEXT NOT NULL, at REAL NOT NULL)
        WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS seen (api TEXT NOT NULL, event TEXT NOT NULL, PRIMARY KEY (api, event)) WITHOUT ROWID;
"""

_ARE_DUE = """
    api IN (SELECT api FROM published)
    AND NOT (coalesce((api, refused.form) IN (SELECT api, form FROM published), 0) AND refused.at BETWEEN ? AND ?)
"""


class HostOutbox:
    """
    The outbox of a bus on this host. Any thread and any process may use it.

    Args:
        directory: `<data directory>/<bus>`; created when the first event is added.

    """

    lock: ClassVar[threading.Lock] = threading.Lock()
    """Held by the thread inside SQLite; a fork waits for it (see `Journal.pause`), and the child makes another."""

    is_on_disk = True

    def __init__(self, directory: Path) -> None:
        self.path = directory / OUTBOX

    def exists(self) -> bool:
        """Return whether there is an outbox at all: a single `stat`, cheap enough to repeat."""
        return os.path.exists(self.path)  # `Path.exists` raises in a directory that this user may not enter

    def state(self) -> tuple[int, ...] | None:
        """Return a fingerprint of the files, which changes with every write; None if they cannot be read."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        with contextlib.suppress(OSError):
            log = os.stat(f"{self.path}-wal")
            return found.st_mtime_ns, found.st_size, log.st_mtime_ns, log.st_size
        return found.st_mtime_ns, found.st_size

    def put(self, *, id: str, api: str, event: str, key: str | None, record: bytes, service: str = "") -> None:
        """Store an event; it is on disk when this returns. Raises JournalError."""
        self.put_all(api=api, event=event, rows=[(id, key, record)], service=service)

    def put_all(
        self, *, api: str, event: str, rows: Iterable[tuple[str, str | None, bytes]], service: str = ""
    ) -> None:
        """Store events of one name, each as `(id, key, record)`: all of them or none. Raises JournalError."""
        now = time.time()
        values = [(id, api, event, key, record, now, service) for id, key, record in rows]
        query = "INSERT OR IGNORE INTO waiting (id, api, event, key, record, at, service) VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._use("did not take an event", lambda connection: connection.executemany(query, values))

    def waiting(self, published: Mapping[str, str] | None = None, limit: int = 100) -> list[Waiting]:
        """
        Return the waiting events, in the order in which they were added.

        Args:
            published: the APIs whose events are returned, each with its form, a value that changes when the API does.
                Events refused in that same form less than `TRY_AGAIN_AFTER` ago are left out. None: all events.
            limit: the most events to return.

        """
        columns = "waiting.id, api, event, key, record, waiting.at, refused.form, service"
        published_as, wanted, arguments = "", "", list[object]()
        if published is not None:
            now = machine_time()
            # As a table: SQLite takes no condition that names a thousand of them.
            rows = ", ".join(["(?, ?)"] * len(published)) or "(NULL, NULL)"
            published_as, wanted = f"WITH published (api, form) AS (VALUES {rows})", f"WHERE {_ARE_DUE}"
            arguments += [each for api_and_form in published.items() for each in api_and_form]
            arguments += [now - TRY_AGAIN_AFTER, now]
        query = (
            f"{published_as} SELECT {columns} FROM waiting LEFT JOIN refused USING (id) {wanted} "
            "ORDER BY number LIMIT ?"
        )
        arguments.append(limit)
        return self._all(Waiting._make, query, arguments)

    def delivered(self, ids: Iterable[str]) -> None:
        """Remove events that were handed off."""
        rows = [(id,) for id in ids]

        def take_out(connection: Any) -> None:
            connection.executemany("DELETE FROM waiting WHERE id = ?", rows)
            connection.executemany("DELETE FROM refused WHERE id = ?", rows)

        self._use("was not changed", take_out)

    def refuse(self, refusals: Iterable[tuple[str, str, str]]) -> None:
        """Record that events were refused, each given as its id, the form of its API at the time, and the error."""
        # By the machine's time: a change of the time of day must not delay the next attempt.
        now = machine_time()
        rows = [(*refusal, now) for refusal in refusals]
        query = "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)"
        self._use("was not changed", lambda connection: connection.executemany(query, rows))

    def refused(self) -> list[Refused]:
        """Return the waiting events that publishers refused, counted for each event name."""
        query = (  # the error is that of the row with the latest time: https://www.sqlite.org/lang_select.html#bareagg
            "SELECT api, event, count(*), error, max(refused.at) FROM waiting JOIN refused USING (id) "
            "GROUP BY api, event ORDER BY api, event"
        )
        return self._all(lambda row: Refused(*row[:4]), query)

    def counts(self) -> dict[str, int]:
        """Return the number of waiting events of each API."""
        return dict(self._all(tuple, "SELECT api, count(*) FROM waiting GROUP BY api"))

    def services(self) -> dict[str, str]:
        """Return, for each API, the service whose own process added its events, if one did."""
        return dict(self._all(tuple, "SELECT DISTINCT api, service FROM waiting WHERE service != ''"))

    def note_seen(self, api: str, event: str) -> None:
        """Remember that an event of this name exists."""
        query = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
        self._use("was not changed", lambda connection: connection.execute(query, (api, event)))

    def seen(self, api: str) -> set[str]:
        """Return the events of an API that this host has seen."""
        return {event for (event,) in self._all(tuple, "SELECT event FROM seen WHERE api = ?", (api,))}

    @contextlib.contextmanager
    def hold(self) -> Iterator[Callable[[], bool]]:
        """
        Be the only process that hands off events, while this context lasts. Raises JournalError if locking fails.

        The function it gives returns whether we are that process: false if another one is, or if the lock's file was
        removed.
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
        Run `action` in one commit, and return its result. Raises JournalError.

        Repeat it while another process has the outbox locked. A damaged outbox is renamed, and a new one is created.
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
        """Open the outbox for each use: that takes a millisecond, is rare, and a forked child inherits nothing open."""
        import sqlite3

        with HostOutbox.lock:
            make_private(self.path.parent)
            connection = sqlite3.connect(self.path, timeout=0.5, isolation_level=None)
            with contextlib.closing(connection):
                if not is_shared(self.path.parent):  # WAL: readers do not block writers
                    connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("BEGIN IMMEDIATE")
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                if len(connection.execute("PRAGMA table_info(waiting)").fetchall()) < COLUMNS:  # of an earlier version
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
        """Rename the outbox if it still is the file that was found damaged; return whether it was renamed."""
        from .quarantine import quarantine

        with HostOutbox.lock, open(self.path, "rb") as damaged:
            fcntl.flock(damaged, fcntl.LOCK_EX)  # if several processes find the damage, one at a time
            if self._inode() != inode or not is_there(damaged.fileno(), self.path):
                return False
            renamed = quarantine(self.path)
        logger.error(
            "The outbox %s is damaged (%s). It was renamed to %s, and the events that wait in it are not handed off; "
            "`sqlite3 %s .recover` may read some of them. New events are stored in a new outbox.",
            self.path, error, renamed, renamed,
        )  # fmt: skip
        return True
