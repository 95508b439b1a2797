"""Fires the events that wait in a table of the application's database, in a thread beside the worker.

A row is deleted when its event is fired. So a process that is killed in between fires it again, with the same id, and
one that is rolled back was never there. One relay at a time has the rows of an API: so they stay in their order.
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
    "wait_for_notification",
]

logger = logging.getLogger("lightbus.outbox")

CHANNEL = "lightbus_outbox"
"""What PostgreSQL notifies of, when a transaction is committed that has put something into the table."""

POLL = 0.5
"""Seconds between two checks of the table, if the database sends no notifications."""

POLL_WHEN_TOLD = 5.0
"""Seconds between two looks at it where it does: a connection may have been lost just then."""

MOST_AT_ONCE = 500
"""Rows that are read, fired by one commit of the journal, and deleted together."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds after a failure, doubled with each that follows: of the database, or of an API that nobody takes."""

SLICE = 0.2
"""Seconds after which a relay that waits looks whether it is to end."""

REFUSED = (InvalidArguments, EventNotFound, ProtocolError)
"""What no further attempt mends: the event is not one that its API has, or can have."""


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
        """Keep a row with what is wrong with it, as one that does not wait any more."""


class Store(Protocol):
    """The table. Used in one thread."""

    def waiting(self) -> list[str]:
        """Return the APIs of the events that wait."""

    def batch(self, api: str, most: int) -> AbstractContextManager[OutboxBatch | None]:
        """Have the oldest rows of an API; None while another relay has them."""

    def wait(self, seconds: float) -> bool | None:
        """Return True when something was put in; False after so many seconds; None at once if it cannot be told."""

    def close(self) -> None:
        """Close all connections; a next use opens them again."""


class Relay(LightbusPlugin):
    """
    Relays for as long as a worker runs.

    Args:
        open_store: opens the table, in the thread that uses it.
        name: of what, for messages.
        poll: seconds between two checks, if the database sends no notifications.

    """

    priority = 200

    def __init__(self, open_store: Callable[[], Store], *, name: str, poll: float = POLL) -> None:
        self.name = name
        self._open_store = open_store
        self._poll = poll
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    async def after_worker_started(self, *, client: Any) -> None:
        """Begin: from now on the worker publishes what is fired here."""
        self._stop = threading.Event()
        run = _RelayRun(client, self._open_store(), self.name, self._poll, self._stop)
        self._thread = threading.Thread(target=run.run, name="lightbus-relay", daemon=True)
        self._thread.start()

    async def on_stop(self, *, client: Any) -> None:
        """End, while the worker still publishes."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            await asyncio.to_thread(thread.join, LONGEST_PAUSE)


class _RelayRun:
    """One run of a relay, in its thread."""

    def __init__(self, client: BusClient, store: Store, name: str, poll: float, stop: threading.Event) -> None:
        self._client = client
        self._store = store
        self._name = name
        self._poll = poll
        self._stop = stop
        self._failures = RecurringLog(logger)
        self._pauses: dict[str, tuple[float, float]] = {}
        """Per API of which nothing could be fired: until when it is left alone, and for how long that is."""
        self._fired: dict[str, list[int]] = {}
        """Per API the rows that were fired and could not be deleted yet: they are not fired again."""

    def run(self) -> None:
        """Continue until stopped, whatever fails."""
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                self._relay_all()
                self._failures.recovered("database")
                pause = FIRST_PAUSE
                self._wait()
            except Exception as error:  # a driver's, most likely: there are many
                self._failures.log(
                    "database", logging.ERROR,
                    "The outbox %s cannot be read: %s: %s. Its events wait, and are fired when it can. Where the table "
                    "was never made, make it: manage.py migrate, or metadata.create_all().",
                    self._name, type(error).__name__, error,
                )  # fmt: skip
                with suppress(Exception):
                    self._store.close()
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        with suppress(Exception):
            self._store.close()

    def _relay_all(self) -> None:
        """Fire what waits of the APIs that are registered here, in turns, until there is nothing."""
        ours = set(self._client.api_registry.names())
        waiting = self._store.waiting()
        self._warn_of_other_apis(set(waiting) - ours)
        now = time.monotonic()
        left = [api for api in waiting if api in ours and self._pauses.get(api, (0.0, 0.0))[0] <= now]
        while left and not self._stop.is_set():
            left = [api for api in left if self._relay(api)]

    def _warn_of_other_apis(self, apis: set[str]) -> None:
        for api in sorted(apis):
            self._failures.log(
                ("others", api), logging.WARNING,
                "Events of %s wait in the outbox %s, and this worker has not registered that API: a worker that has "
                "fires them", api, self._name,
            )  # fmt: skip

    def _relay(self, api: str) -> bool:
        """Fire the oldest events of an API; return whether there may be more, and they can be fired now."""
        with self._store.batch(api, MOST_AT_ONCE) as batch:
            if batch is None:
                return False
            failure: LightbusException | None = None
            fired = self._fired.setdefault(api, [])
            rows = [row for row in batch.rows if row.number not in fired]
            try:
                for _, group in groupby(rows, key=lambda row: row.event):
                    self._fire(api, [*group], batch, fired)
            except LightbusException as error:
                failure = error
            batch.delete(fired)
        del self._fired[api]  # not before: the transaction has ended
        if failure is not None:
            self._postpone(api, failure)
            return False
        self._pauses.pop(api, None)
        self._failures.recovered(api)
        return bool(batch.rows)

    def _fire(self, api: str, rows: Sequence[OutboxRow], batch: OutboxBatch, fired: list[int]) -> None:
        """Fire events of one name together; where one of them never can be, each by itself."""
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
                "An event %s.%s in the outbox %s (row %d) can never be fired: %s It is kept there with this error, "
                "and tried again when that is set to ''",
                api, rows[0].event, self._name, rows[0].number, error,
            )  # fmt: skip

    def _postpone(self, api: str, error: LightbusException) -> None:
        pause = min(2 * self._pauses.get(api, (0.0, FIRST_PAUSE / 2))[1], LONGEST_PAUSE)
        self._pauses[api] = time.monotonic() + pause, pause
        if not self._stop.is_set():
            self._failures.log(
                api, logging.WARNING,
                "Events of %s go on waiting in the outbox %s: %s", api, self._name, error,
            )  # fmt: skip

    def _wait(self) -> None:
        """Wait until there may be something to do."""
        now = time.monotonic()
        again_at = min((until for until, _ in self._pauses.values()), default=now + POLL_WHEN_TOLD)
        polls_at = now + self._poll
        while not self._stop.is_set() and (left := again_at - time.monotonic()) > 0:
            told = self._store.wait(min(left, SLICE))
            if told is None:
                self._stop.wait(min(left, polls_at - now))
            if told or (told is None and time.monotonic() >= polls_at):
                return


@contextmanager
def file_lock(database: str) -> Iterator[bool]:
    """Hold the lock of a database that is a file, and yield whether it is ours: SQLite has none that would do."""
    if not database or database == ":memory:" or database.startswith("file:"):
        yield True
        return
    descriptor = lock_file(Path(f"{database}.lightbus-outbox"))
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def key_of_lock(api: str) -> int:
    """Return which advisory lock of PostgreSQL stands for the rows of an API."""
    return zlib.crc32(f"{CHANNEL}:{api}".encode())


def name_of_lock(database: str, api: str) -> str:
    """Return which named lock of MySQL or MariaDB stands for them: all databases of a server share these names."""
    return f"{CHANNEL}:{zlib.crc32(f'{database}:{api}'.encode())}"


def wait_for_notification(driver: Any, seconds: float) -> bool | None:
    """
    Return whether a connection that listens to CHANNEL gets a notification within so many seconds.

    None where its driver cannot wait for that: psycopg 3 from version 3.2 on can, and psycopg2.
    """
    notifies = getattr(driver, "notifies", None)
    if isinstance(notifies, list):  # of psycopg2, which fills it when it polls
        if not notifies:
            select.select([driver], [], [], seconds)
            driver.poll()
        is_told = bool(notifies)
        notifies.clear()
        return is_told
    return any(True for _ in driver.notifies(timeout=seconds, stop_after=1)) if callable(notifies) else None
