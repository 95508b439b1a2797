"""The file of a journal: open, change by one commit at a time, read, write back, close.

It knows the tables, the topics and the newest sequence of each, and nothing of how events and groups are used.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from ...config.surroundings import make_private
from ...exceptions import JournalError
from ..host.locks import JournalLock
from .journal_errors import DAMAGED, is_locked, is_removed, journal_error
from .journal_files import JournalFiles
from .journal_schema import make_or_upgrade
from .journal_time import JournalTime
from .noted_events import put_into_tables
from .rows import LENGTH_SIZE, row_with, size_of
from .topic import Topic
from .topic_table import TopicTable
from .write_ahead_log import WriteAheadLog

__all__ = ["EPOCH_BITS", "JournalFile", "JournalRow", "TableChange"]

logger = logging.getLogger("lightbus.journal")

T = TypeVar("T")

EPOCH_BITS = 40
"""Bits of a sequence below its epoch: an epoch has room for a million million events."""

EPOCH_UNIT = 600.0
"""
Seconds. An epoch is at least the time since 1970 in this unit, so that a journal restored from a backup does not use
its sequences a second time: consumers would take events with known sequences for handled. A wrong clock does little
harm: epochs only count up, and the clock may use up at most half of them.
"""
MAX_EPOCH = 2 ** (63 - EPOCH_BITS) - 1
MAX_EPOCH_BY_CLOCK = MAX_EPOCH // 2

LOCK_TIMEOUT = 5.0
"""Seconds for which a write is repeated while another program has the journal locked (see `retry_while_locked`)."""

READ_LOCK_TIMEOUT = 0.1
"""Seconds for which a read waits for a lock. Readers are locked out for moments only, except on purpose."""

RETRY_EVERY = 0.02

SIZE = f"(length(record) - {LENGTH_SIZE} * count * (count > 1))"
"""Bytes of the records of a row."""
_SIZE_BEHIND = f"SELECT coalesce(sum(count), 0), coalesce(sum({SIZE}), 0) FROM events WHERE sequence > ?"


JournalRow: TypeAlias = tuple[int, int, int, float, bytes, int, float]
"""
Sequence of its last event, number of the topic, sequence before its first event in the topic, time of day, records,
number of events, and the journal's own time.
"""


TableChange: TypeAlias = tuple[str, Sequence[tuple[Any, ...]]]
"""A statement, and the rows of parameters that it is executed with."""


class JournalFile:
    """
    One journal, held by this process. Any thread may use it: writers wait for each other, readers never for writers.

    Args:
        path: the SQLite file; created if there is none.
        durability: "process": stored events survive a crash of every process; "power": also a power cut.
        lock: the lock by which this process holds the journal; closed together with the journal.
        new: what to write into the table `about` of a new journal: its host and machine.

    Raises:
        JournalError: the file cannot be used.

    """

    def __init__(
        self,
        path: Path,
        *,
        durability: str = "process",
        lock: JournalLock | None = None,
        new: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.id = path.stem
        self._lock = lock
        self.writing = threading.RLock()
        self._reading = threading.Lock()
        self._slow_reading = threading.Lock()
        self.is_closed = False
        """Whether it is closed or abandoned: then it can be neither written nor read."""
        self.is_quick = durability != "power"
        """Whether a commit returns without waiting for the disk."""
        self.epoch = 0
        """The number of this opening; it is in the upper bits of each sequence."""
        self.head = 0
        """The sequence of the newest event."""
        self.size = (0, 0)
        """The number of events, and of bytes in their records. Written with the writing lock held."""
        self.topics = TopicTable()
        self.clock = JournalTime()
        self.log = WriteAheadLog(path)
        self._connect(dict(new or {}))

    def _connect(self, new: dict[str, str]) -> None:
        path = self.path
        with contextlib.ExitStack() as opened:
            try:
                self._write, self._read, self._slow_read = (
                    opened.enter_context(contextlib.closing(_connect(path))) for _ in range(3)
                )
                self._write.execute(f"PRAGMA synchronous={'NORMAL' if self.is_quick else 'FULL'}")
                self._write.execute("PRAGMA wal_autocheckpoint=0")  # no append waits for a checkpoint: see checkpoint()
                self._begin_epoch(new)
                self.topics.load(self._write)
                # From now on no writer waits inside SQLite for another program: see `retry_while_locked`.
                for connection, seconds in ((self._write, 0), (self._slow_read, 0), (self._read, READ_LOCK_TIMEOUT)):
                    connection.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")
            except (*DAMAGED, OSError) as error:  # OSError: also from the file of noted events
                raise journal_error(path, "cannot be opened", error) from error
            opened.pop_all()
        self._files = JournalFiles(path)

    def __repr__(self) -> str:
        return f"<Journal {self.id} head={self.head & (2**EPOCH_BITS - 1)}>"

    def record(self, sequence: int) -> bytes | None:
        """Return the record of the event with this sequence; None if the journal does not have it (any more)."""
        with self.reader() as read:
            _, entries = row_with(read, sequence)
        return next((bytes(entry.record) for entry in entries if entry.sequence == sequence), None)

    def topic_of(self, sequence: int) -> Topic | None:
        """Return the topic of the event with this sequence; None if the journal does not have it (any more)."""
        with self.reader() as read:
            number, entries = row_with(read, sequence)
        return self.topics.names.get(number) if any(entry.sequence == sequence for entry in entries) else None

    # Changing and reading

    def change(self, *changes: TableChange) -> None:
        """Execute statements, each for all of its rows, in one commit. Raises JournalError: then none took effect."""
        changes = tuple(change for change in changes if change[1])
        if not changes:
            return
        with self.writing:
            if self.is_closed:
                raise self._closed_error()
            try:
                self._write.execute("BEGIN IMMEDIATE")
                for statement, rows in changes:
                    self._write.executemany(statement, rows)
                self._write.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                self._roll_back()
                raise journal_error(self.path, "was not changed", error) from error
            except BaseException:
                self._roll_back()
                raise

    def retry_while_locked(self, action: Callable[[], T], seconds: float = LOCK_TIMEOUT) -> T:
        """
        Return the result of `action`, which changes the journal; repeat it while another program has the file locked.

        Blocks for up to `seconds`, and then raises the JournalError: never call this on an event loop. Files that
        were removed are created again.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                return action()
            except JournalError as error:
                if not (is_locked(error) or is_removed(error)) or time.monotonic() > end:
                    raise
                removed = is_removed(error)
            if removed:
                self.restore_removed_files()
            time.sleep(RETRY_EVERY)

    def settle(self, *, must: bool = True) -> None:
        """Commit the noted events to the tables. On failure they stay noted, and with `must` JournalError is raised."""

    @contextlib.contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for short reads through an index: the event loop uses it, too."""
        self.settle(must=False)
        with self._reading, self._reads():
            yield self._read

    @contextlib.contextmanager
    def slow_reader(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for long reads, never on an event loop. Only maintenance waits for them."""
        self.settle(must=False)
        with self._slow_reading, self._reads():
            yield self._slow_read

    @contextlib.contextmanager
    def _reads(self) -> Iterator[None]:
        if self.is_closed:
            raise self._closed_error()
        try:
            yield
        except DAMAGED as error:
            raise journal_error(self.path, "cannot be read", error) from error

    # Writing the log back

    def checkpoint(self) -> None:
        """
        Write the write-ahead log back into the file; call this from a thread that may wait for the disk.

        No commit waits for it, and it waits for nobody: it goes as far as readers in other programs allow. Only when
        all of the log is written back is it truncated, with the writing lock held for that moment.
        """
        with self._slow_reading:
            if self.is_closed:
                return
            try:
                self.log.write_back(self._slow_read, self.writing)
            except sqlite3.Error as error:
                if not is_locked(error):
                    raise journal_error(self.path, "was not written back", error) from error
        self.log.warn_if_grown()

    # Files

    def restore_removed_files(self) -> None:
        """
        Write the journal's files again if any was removed while in use (by a cleaner of old files, for example).

        SQLite would continue in deleted files that nobody can open. Call this from a thread: writers and readers
        wait until it is done. Raises JournalError if the files cannot be written, or if another process holds the
        journal now.
        """
        with self._slow_reading, self.writing, self._reading:
            if self.is_closed:
                return
            try:
                if gone := self._files.gone():
                    self._recreate()
                    logger.warning(
                        "Files of the journal %s were removed while it was in use (%s), perhaps by a cleaner of old "
                        "files. They were written again, and no event is lost. Exclude them from the cleaning.",
                        self.path, ", ".join(gone),
                    )  # fmt: skip
                is_ours = self._lock is None or self._lock.renew()
            except (*DAMAGED, OSError) as error:
                raise journal_error(self.path, "was removed, and cannot be created again", error) from error
        if not is_ours:
            self.close()
            raise JournalError(
                f"The lock of the journal {self.path} was removed, and another process has the journal now. "
                "This process starts a new one. Exclude the directory from the cleaning of old files."
            )

    def _recreate(self) -> None:
        """Copy all of the journal into a new file and continue there, or where that failed. With all locks held."""
        copy = self.path.with_suffix(".anew")
        if _is_open(self._write):
            make_private(self.path.parent)
            self.settle()
            copy.unlink(missing_ok=True)
            self._write.execute("VACUUM INTO ?", (str(copy),))
            copy.chmod(0o600)
            self._close_connections()  # this also removes the -wal, -shm and -noted files
            if self._lock is not None:
                self._lock.move_to(copy)
        if copy.exists():
            self._files.replace_by(copy)
        self._connect({})  # on a full disk, for example, there may be room for the copy, and not for this

    def _close_connections(self) -> None:
        self.log.noted.close()
        for connection in (self._slow_read, self._read, self._write):
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    # Closing

    def close(self) -> None:
        """Close the file and release the lock: another process may take the journal."""
        with self._slow_reading, self.writing, self._reading:
            if self.is_closed:
                return
            self.settle(must=False)
            self.is_closed = True
            with contextlib.suppress(sqlite3.Error):
                self.clock.note(self._write)
            self._close_connections()
            if self._lock is not None:
                self._lock.close()

    def delete(self) -> None:
        """Close and remove the files, the lock last. A closed journal is left alone: another process may hold it."""
        with self._slow_reading, self.writing, self._reading:
            if self.is_closed:
                return
            self.is_closed = True
            self.log.noted.abandon()
            try:
                for connection in (self._slow_read, self._read, self._write):
                    connection.close()
                self._files.remove()
            finally:
                if self._lock is not None:
                    self._lock.close()

    def pause(self, seconds: float) -> Callable[[], None]:
        """
        Wait until no thread is inside SQLite, and keep threads out until the returned function is called: for a fork.

        SQLite has internal locks: a child would inherit them in the locked state, and nobody there would release
        them. Gives up after `seconds` for each of our three locks.
        """
        taken = [lock for lock in (self._slow_reading, self.writing, self._reading) if lock.acquire(timeout=seconds)]

        def resume() -> None:
            for lock in taken:
                lock.release()

        return resume

    def abandon(self) -> None:
        """
        Drop a journal that the parent of this forked process holds, without touching its files.

        It is not written from now on either: the parent may be about to commit noted events, and an event loop that
        continues in the child would commit them in the parent's place.
        """
        self.is_closed = True
        # The lock belongs to the open file that both processes share: closing our descriptor does not release it.
        # The connections stay open: closing them would work on the parent's files as if they were ours.
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.close()
            self._lock = None
        self.log.noted.abandon()

    # Private helpers

    def _closed_error(self) -> JournalError:
        return JournalError(f"The journal {self.path} is closed: the bus stops.")

    def _begin_epoch(self, new: dict[str, str]) -> None:
        write = self._write
        write.execute("BEGIN EXCLUSIVE")
        make_or_upgrade(write, self.path, new)
        self.clock.resume(write)
        self.log.noted.mark = put_into_tables(self.path, write, self.clock.now())
        before = int(write.execute("SELECT value FROM about WHERE key = 'epoch'").fetchone()[0])
        if before >= MAX_EPOCH:
            raise JournalError(
                f"The journal {self.path} was opened so often that it has no sequences left. Move it away."
            )
        epoch = max(before + 1, min(int(time.time() / EPOCH_UNIT), MAX_EPOCH_BY_CLOCK))
        write.execute("UPDATE about SET value = ? WHERE key = 'epoch'", (str(epoch),))
        self.has_deliveries = write.execute("SELECT 1 FROM deliveries LIMIT 1").fetchone() is not None
        count, size, through = write.execute("SELECT * FROM size").fetchone()
        new_count, new_size = write.execute(_SIZE_BEHIND, (through,)).fetchone()
        self.size = (count + new_count, size + new_size)
        self.head = self.size_noted_at = epoch << EPOCH_BITS
        write.execute("UPDATE size SET count = ?, bytes = ?, through = ?", (*self.size, self.head))
        write.execute("COMMIT")
        self.log.noted.remove()
        self.epoch = epoch

    def note_time(self) -> None:
        """Write the journal's own time to disk if that is due. Raises JournalError."""
        with self.writing:
            if change := self.clock.change_due():
                self.change(change)

    def _record_commit(self, head: int, lasts: dict[Topic, int], rows: list[JournalRow]) -> None:
        count, size = self.size
        for row in rows:
            count += row[5]
            size += size_of(row[4], row[5])
        self.topics.move(lasts)
        self.size, self.head = (count, size), head  # last, and in one statement: see `_roll_back`

    def _roll_back(self) -> None:
        """Roll back the transaction. If it was committed already and only `size` and `head` lag behind, update them."""
        if not _is_open(self._write):
            return
        if not self._write.in_transaction and not self.topics.added and is_locked(sys.exception()):
            return  # nothing was begun
        with contextlib.suppress(sqlite3.Error):
            self._write.execute("ROLLBACK")
        self.topics.forget_added()
        with contextlib.suppress(sqlite3.Error):
            count, size = self._write.execute(_SIZE_BEHIND, (self.head,)).fetchone()
            if count:
                self.size = (self.size[0] + count, self.size[1] + size)
                self.head = self._write.execute("SELECT max(sequence) FROM events").fetchone()[0]
                self.log.noted.forget()
            self.topics.load(self._write)


def _is_open(connection: sqlite3.Connection) -> bool:
    """Return whether a connection is open: not after `_recreate` has failed half way."""
    try:
        _ = connection.in_transaction
    except sqlite3.ProgrammingError:
        return False
    return True


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except BaseException:  # also the UnicodeDecodeError of a damaged name
        connection.close()
        raise
    return connection
