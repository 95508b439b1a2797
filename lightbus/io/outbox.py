"""The outbox: events that wait on this host for somebody to publish them.

One SQLite file for each bus and data directory, shared by all processes: any may put events in, and one at a time hands
them off when a publisher is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from .journal_file import DAMAGED, journal_error

__all__ = ["Outbox", "Refused", "Waiting"]

NAME = "outbox.sqlite"
BUSY_TIMEOUT = 5.0
"""Seconds for which one process waits for another that writes."""

TRY_AGAIN_AFTER = 600.0
"""Seconds after which an event that was refused is tried again, though its API looks as it did: settings, too, may be
why it was refused, and of several publishers another one may be asked."""

_TABLES = """
    CREATE TABLE IF NOT EXISTS waiting (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, api TEXT NOT NULL, event TEXT NOT NULL, key TEXT,
        record BLOB NOT NULL, at REAL NOT NULL
    );
    CREATE TABLE IF NOT EXISTS refused (id TEXT PRIMARY KEY, form TEXT NOT NULL, error TEXT NOT NULL, at REAL NOT NULL)
        WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS seen (api TEXT NOT NULL, event TEXT NOT NULL, PRIMARY KEY (api, event)) WITHOUT ROWID;
"""

_IS_DUE = "(api = ? AND NOT (refused.form IS NOT NULL AND refused.form = ? AND refused.at BETWEEN ? AND ?))"


class Waiting(NamedTuple):
    """An event that waits: `at` in seconds since 1970, `refused` the form of its API in which it was refused last."""

    id: str
    api: str
    event: str
    key: str | None
    record: bytes
    at: float
    refused: str | None = None


class Refused(NamedTuple):
    """Events of one name that wait and were refused: how many, and what was said to the latest."""

    api: str
    event: str
    number: int
    error: str


class Outbox:
    """
    The outbox of a bus on this host. Any thread and any process may use it.

    Args:
        directory: `<data directory>/<bus>`; it is made when something is put in.

    """

    lock: ClassVar[threading.Lock] = threading.Lock()
    """Held by whoever is inside SQLite here; a fork waits for it (see `Journal.pause`), and its child makes another."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME

    @staticmethod
    def exists(directory: Path) -> bool:
        """Return whether there is an outbox at all: a look that costs next to nothing."""
        return (directory / NAME).exists()

    def state(self) -> tuple[int, ...] | None:
        """Return what changes when anything is put in or taken out; None where there is none that we could look at."""
        try:
            found = self.path.stat()
            return found.st_mtime_ns, found.st_size
        except OSError:
            return None

    def put(self, *, id: str, api: str, event: str, key: str | None, record: bytes) -> None:
        """Keep an event; it is on disk when this returns. Raises JournalError."""
        row = (id, api, event, key, record, time.time())
        with self._open("did not take an event") as connection:
            connection.execute(
                "INSERT OR IGNORE INTO waiting (id, api, event, key, record, at) VALUES (?, ?, ?, ?, ?, ?)", row
            )

    def waiting(self, published: Mapping[str, str] | None = None, limit: int = 100) -> list[Waiting]:
        """
        Return what waits, in the order in which it was put in.

        Args:
            published: the APIs whose events are returned, each with its form: what changes when the API does. What
                was refused in that form is left out, but for `TRY_AGAIN_AFTER`. None: everything that waits.
            limit: how many at most.

        """
        columns = "waiting.id, api, event, key, record, waiting.at, refused.form"
        wanted, arguments = "", []
        if published is not None:
            now = time.time()
            wanted = "WHERE " + (" OR ".join([_IS_DUE] * len(published)) or "false")
            for api, form in published.items():
                arguments += [api, form, now - TRY_AGAIN_AFTER, now]
        query = f"SELECT {columns} FROM waiting LEFT JOIN refused USING (id) {wanted} ORDER BY number LIMIT ?"
        with self._open("cannot be read") as connection:
            return [Waiting(*row) for row in connection.execute(query, (*arguments, limit))]

    def delivered(self, ids: Iterable[str]) -> None:
        """Take out what was handed off."""
        rows = [(id,) for id in ids]
        with self._open("was not changed") as connection:
            connection.executemany("DELETE FROM waiting WHERE id = ?", rows)
            connection.executemany("DELETE FROM refused WHERE id = ?", rows)

    def refuse(self, refusals: Iterable[tuple[str, str, str]]) -> None:
        """Note that events were refused, each given by its id, the form of its API at the time, and the error."""
        now = time.time()
        with self._open("was not changed") as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)", [(*refusal, now) for refusal in refusals]
            )

    def refused(self) -> list[Refused]:
        """Return what waits since its publishers refused it."""
        query = (  # the error is that of the row with the latest time: https://www.sqlite.org/lang_select.html#bareagg
            "SELECT api, event, count(*), error, max(refused.at) FROM waiting JOIN refused USING (id) "
            "GROUP BY api, event ORDER BY api, event"
        )
        with self._open("cannot be read") as connection:
            return [Refused(*row[:4]) for row in connection.execute(query)]

    def counts(self) -> dict[str, int]:
        """Return how many events wait, by API."""
        with self._open("cannot be read") as connection:
            return dict(connection.execute("SELECT api, count(*) FROM waiting GROUP BY api").fetchall())

    def note_seen(self, api: str, event: str) -> None:
        """Remember that there is an event of this name."""
        with self._open("was not changed") as connection:
            connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (api, event))

    def seen(self, api: str) -> set[str]:
        """Return the events of an API that there are, as far as this host has seen."""
        with self._open("cannot be read") as connection:
            return {row[0] for row in connection.execute("SELECT event FROM seen WHERE api = ?", (api,))}

    @contextlib.contextmanager
    def hold(self) -> Iterator[bool]:
        """Be the one process that hands off, while this lasts: true; false where another one is."""
        try:
            descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise journal_error(self.path, "cannot be held", error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _open(self, what: str) -> Iterator[sqlite3.Connection]:
        """Open it anew for each use: that takes a millisecond, is rare, and leaves nothing to a forked child."""
        with Outbox.lock:
            try:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None)
                with contextlib.closing(connection):
                    # At once, and no WAL: a lock that is taken later, or with the log's files, is not waited for.
                    connection.execute("BEGIN IMMEDIATE")
                    for statement in _TABLES.split(";"):
                        connection.execute(statement)
                    yield connection
                    connection.execute("COMMIT")
            except (*DAMAGED, OSError) as error:
                raise journal_error(self.path, what, error) from error
