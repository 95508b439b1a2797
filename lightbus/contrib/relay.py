"""Fires the events in an outbox table of the application's database, in a thread beside the worker.

A row is deleted after its event was fired. If the process is killed in between, the event is fired again, with the same
id; a row that is rolled back is never seen. Only one relay at a time holds the rows of an API, and one in another
process takes over when the groups have handled what was fired before: that keeps their order.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..adapters.host.locks import lock_file
from ..client import BusClient
from ..events.publishing.relay_turns import RelayTurns
from ..exceptions import EventNotFound, InvalidArguments, LightbusException, ProtocolError
from ..plugins import LightbusPlugin
from ..recurring import RecurringLog

__all__ = [
    "CHANNEL",
    "MOST_AT_ONCE",
    "OutboxBatch",
    "OutboxRow",
    "Relay",
    "Store",
    "file_lock",
    "key_of_lock",
    "name_of_lock",
    "place_of_outbox",
    "wait_for_notification",
]

logger = logging.getLogger("lightbus.outbox")

CHANNEL = "lightbus_outbox"
"""The channel of PostgreSQL notifications, sent when a transaction that inserted rows is committed."""

POLL = 0.5
"""Seconds between two checks of the table, if the database sends no notifications."""

POLL_WITH_NOTIFICATIONS = 5.0
"""Seconds between two checks of the table if it does: a notification may have been lost with its connection."""

MOST_AT_ONCE = 500
"""The most rows that are read, fired by one commit of the journal, and deleted together."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds of the pause after a failure of the database, or of firing events of an API; doubled each time."""

AGAIN = 0.1
"""
Seconds after which rows are checked again that were left to another relay: it may leave them, too. While it does not,
this is doubled each time, up to the seconds between two checks of the table: all workers but one check for nothing.
"""

SLICE = 0.2
"""Seconds after which a waiting relay checks whether to stop."""

REFUSED = (InvalidArguments, EventNotFound, ProtocolError)
"""Errors that no further attempt can fix: the event is not valid for its API."""


class OutboxRow(NamedTuple):
    """An event that waits."""

    number: int
    event: str
    record: bytes


class OutboxBatch(Protocol):
    """Rows of one API that no other relay fires at the same time."""

    rows: Sequence[OutboxRow]

    def delete(self, numbers: Sequence[int]) -> None:
        """Delete rows, at the latest when the batch ends."""

    def refuse(self, number: int, error: str) -> None:
        """Set the error of a row, which does not wait any more then."""


class Store(Protocol):
    """The outbox table. Used in one thread."""

    def waiting(self) -> list[str]:
        """Return the APIs of the events that wait."""

    def batch(self, api: str, most: int) -> AbstractContextManager[OutboxBatch | None]:
        """Have the oldest rows of an API; None while another relay has them."""

    def wait(self, seconds: float) -> bool | None:
        """Return True when a row was inserted; False after so many seconds; None at once without notifications."""

    def close(self) -> None:
        """Close all connections; the next use opens them again."""


class Relay(LightbusPlugin):
    """
    Runs the relay thread while a worker runs.

    Args:
        open_store: makes the store, which opens its connections in the thread that uses it.
        name: the name of the outbox in log messages.
        place: which outbox it is (`place_of_outbox`): only those that fire the events of the same one take turns.
        poll: seconds between two checks, if the database sends no notifications.

    """

    priority = 200

    def __init__(self, open_store: Callable[[], Store], *, name: str, place: str, poll: float = POLL) -> None:
        self.name = name
        self.place = place
        self._open_store = open_store
        self._poll = poll
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    async def after_worker_started(self, *, client: Any) -> None:
        """Start the thread: from now on the worker publishes the events fired here."""
        self._stop = threading.Event()
        turns = client.made_events.relay_turns(self.name, self.place)
        run = _RelayRun(client, self._open_store(), turns, self.name, self._poll, self._stop)
        self._thread = threading.Thread(target=run.run, name="lightbus-relay", daemon=True)
        self._thread.start()

    async def on_stop(self, *, client: Any) -> None:
        """Stop the thread while the worker still publishes."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            await asyncio.to_thread(thread.join, LONGEST_PAUSE)


class _RelayRun:
    """One run of a relay, in its thread."""

    def __init__(
        self, client: BusClient, store: Store, turns: RelayTurns, name: str, poll: float, stop: threading.Event
    ) -> None:
        self._client = client
        self._store = store
        self._name = name
        self._poll = poll
        self._stop = stop
        self._failures = RecurringLog(logger)
        self._turns = turns
        self._left: set[str] = set()
        """APIs whose rows were left to another relay at the last attempt."""
        self._pauses: dict[str, tuple[float, float]] = {}
        """By API whose events could not be fired, or not yet: the end of the pause, and its length."""
        self._fired: dict[str, list[int]] = {}
        """By API: rows that were fired but could not be deleted yet, which must not be fired again."""

    def run(self) -> None:
        """Relay until stopped, whatever fails."""
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                self._relay_all()
                self._failures.recovered("database")
                pause = FIRST_PAUSE
                self._wait()
            except Exception as error:  # drivers raise errors of their own classes
                self._failures.log(
                    "database", logging.ERROR,
                    "The outbox %s cannot be read: %s: %s. Its events wait until it can. If the table does not exist, "
                    "create it: manage.py migrate, or metadata.create_all().",
                    self._name, type(error).__name__, error,
                )  # fmt: skip
                with suppress(Exception):
                    self._store.close()
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        with suppress(Exception):
            self._store.close()

    def _relay_all(self) -> None:
        """Fire the waiting events of the APIs registered here, a batch of each API in turn, until none is left."""
        ours = set(self._client.api_registry.names())
        waiting = self._store.waiting()
        self._left.intersection_update(waiting)
        self._pauses = {api: pause for api, pause in self._pauses.items() if api in waiting}
        self._warn_of_other_apis(set(waiting) - ours)
        now = time.monotonic()
        left = [api for api in waiting if api in ours and self._pauses.get(api, (0.0, 0.0))[0] <= now]
        while left and not self._stop.is_set():
            left = [api for api in left if self._relay(api)]

    def _warn_of_other_apis(self, apis: set[str]) -> None:
        for api in sorted(apis):
            self._failures.log(
                ("others", api), logging.WARNING,
                "Events of %s wait in the outbox %s for a worker that has registered that API: this one has not",
                api, self._name,
            )  # fmt: skip

    def _relay(self, api: str) -> bool:
        """Fire the oldest events of an API; return whether there may be more that can be fired now."""
        self._left.discard(api)
        with self._store.batch(api, MOST_AT_ONCE) as batch:
            if batch is None:
                self._leave(api)
                return False
            failure: LightbusException | None = None
            fired = self._fired.setdefault(api, [])
            rows = [row for row in batch.rows if row.number not in fired]
            is_left = False
            try:
                is_left = bool(rows) and not self._turns.is_ours(api, rows[0].number)
                for _, group in groupby([] if is_left else rows, key=lambda row: row.event):
                    self._fire(api, [*group], batch, fired)
            except LightbusException as error:
                failure = error
            batch.delete(fired)
        del self._fired[api]  # only now: the transaction has ended
        if failure is not None:
            self._postpone(api, failure)
            return False
        self._failures.recovered(api)
        if is_left:
            self._leave(api)
            return False
        self._pauses.pop(api, None)
        return bool(batch.rows)

    def _fire(self, api: str, rows: Sequence[OutboxRow], batch: OutboxBatch, fired: list[int]) -> None:
        """Fire events of one name together; if one of them can never be fired, each by itself."""
        made = self._client.made_events
        try:
            made.relay_blocking([made.from_record(api, row.event, row.record) for row in rows])
            fired += [row.number for row in rows]
        except REFUSED as error:
            if len(rows) > 1:
                for row in rows:
                    self._fire(api, [row], batch, fired)
                return
            batch.refuse(rows[0].number, f"{type(error).__name__}: {error}")
            logger.error(
                "An event %s.%s in the outbox %s (row %d) can never be fired: %s The row is kept with this error; set "
                "its column `error` to '' to try again",
                api, rows[0].event, self._name, rows[0].number, error,
            )  # fmt: skip

    def _leave(self, api: str) -> None:
        """Leave the rows of an API to another relay for a while."""
        self._left.add(api)
        self._pause(api, min(AGAIN, self._poll), self._poll)

    def _pause(self, api: str, first: float, longest: float) -> None:
        pause = min(2 * self._pauses.get(api, (0.0, first / 2))[1], longest)
        self._pauses[api] = time.monotonic() + pause, pause

    def _postpone(self, api: str, error: LightbusException) -> None:
        self._pause(api, FIRST_PAUSE, LONGEST_PAUSE)
        if not self._stop.is_set():
            self._failures.log(
                api, logging.WARNING,
                "Events of %s are still waiting in the outbox %s: %s", api, self._name, error,
            )  # fmt: skip

    def _wait(self) -> None:
        """Wait until there may be new rows, or a pause has ended."""
        if self._left:  # each row that the other relay is to fire comes with a notification, which is not about us
            self._stop.wait(min(AGAIN, self._poll))
        now = time.monotonic()
        again_at = min((until for until, _ in self._pauses.values()), default=now + POLL_WITH_NOTIFICATIONS)
        polls_at = now + self._poll
        while not self._stop.is_set() and (left := again_at - time.monotonic()) > 0:
            notified = self._store.wait(min(left, SLICE))
            if notified is None:
                self._stop.wait(min(left, polls_at - now))
            if notified or (notified is None and time.monotonic() >= polls_at):
                return


def place_of_outbox(kind: str, database: str, table: str, **server: object) -> str:
    """
    Return a text that is the same for all programs that use an outbox, by whichever library, driver and user.

    Args:
        kind: the kind of the database: "postgresql", "mysql", "sqlite".
        database: its name; of SQLite its file.
        table: the name of the outbox table, with its schema if the program gives one.
        server: where the database is, as the program is configured: host, port; those not given are empty or None.

    """
    where = {key: str(value) for key, value in sorted(server.items()) if value not in (None, "")}
    return repr((kind, os.path.realpath(database) if _is_file(kind, database) else database, table, where))


def _is_file(kind: str, database: str) -> bool:
    return kind == "sqlite" and database not in ("", ":memory:") and not database.startswith("file:")


@contextmanager
def file_lock(database: str) -> Iterator[bool]:
    """Lock the outbox of a database file, and yield whether that worked: SQLite has no suitable lock."""
    if not _is_file("sqlite", database):
        yield True
        return
    descriptor = lock_file(Path(f"{database}.lightbus-outbox"))
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def key_of_lock(api: str) -> int:
    """Return the key of PostgreSQL's advisory lock for the rows of an API."""
    return zlib.crc32(f"{CHANNEL}:{api}".encode())


def name_of_lock(database: str, api: str) -> str:
    """Return the name of MySQL's or MariaDB's lock for the rows of an API, unique among the server's databases."""
    return f"{CHANNEL}:{zlib.crc32(f'{database}:{api}'.encode())}"


def wait_for_notification(driver: Any, seconds: float) -> bool | None:
    """
    Return whether a connection that listens on CHANNEL gets a notification within so many seconds.

    None if its driver cannot wait for notifications: psycopg from version 3.2 on can, and psycopg2.
    """
    notifies = getattr(driver, "notifies", None)
    if isinstance(notifies, list):  # psycopg2, whose `poll()` fills the list
        if not notifies:
            select.select([driver], [], [], seconds)
            driver.poll()
        is_notified = bool(notifies)
        notifies.clear()
        return is_notified
    return any(True for _ in driver.notifies(timeout=seconds, stop_after=1)) if callable(notifies) else None
