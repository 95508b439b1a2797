"""The file of a journal: how it is opened, changed by one commit at a time, read, written back, and given up.

It knows the tables, the topics and the newest sequence of each, and nothing of what is done with events and groups.
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
"""An epoch has room for a million million events."""

EPOCH_UNIT = 600.0
"""
Seconds. An epoch is at least the time since 1970 in this unit, so that a journal that was set back to a copy of itself
does not give its numbers out a second time: consumers would take what has them for handled. Where that time is wrong it
does no more harm than that: epochs only count up, and it may use up half of them.
"""
MAX_EPOCH = 2 ** (63 - EPOCH_BITS) - 1
MAX_EPOCH_BY_CLOCK = MAX_EPOCH // 2

LOCK_TIMEOUT = 5.0
"""Seconds for which an event waits while another program has the journal locked (see `retry_while_locked`)."""

READ_LOCK_TIMEOUT = 0.1
"""Seconds for which a read waits. Readers are locked out for moments only, except on purpose."""

RETRY_EVERY = 0.02

SIZE = f"(length(record) - {LENGTH_SIZE} * count * (count > 1))"
"""Bytes of the records of a row."""
_SIZE_BEHIND = f"SELECT coalesce(sum(count), 0), coalesce(sum({SIZE}), 0) FROM events WHERE sequence > ?"


JournalRow: TypeAlias = tuple[int, int, int, float, bytes, int, float]
"""
Sequence of its last event, number of the topic, previous of its first event, time of day, records, number of events,
and the journal's own time.
"""


TableChange: TypeAlias = tuple[str, Sequence[tuple[Any, ...]]]
"""A statement, and the rows that it is carried out for."""


class JournalFile:
    """
    One journal, held by this process. Any thread may use it: writers wait for each other, readers do not wait for them.

    Args:
        path: the SQLite file; it is made where there is none.
        durability: "process": what was stored survives a crash of every process; "power": and a power cut.
        lock: what says that the journal is ours; it is closed with it.
        new: what to note in a journal that is made: its host.

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
        self._keeping = threading.Lock()
        self.is_closed = False
        """Whether it is closed or left: then it neither takes events nor gives any."""
        self.is_quick = durability != "power"
        """Whether a commit waits for no disk."""
        self.epoch = 0
        """How often it was opened; in the upper bits of each sequence."""
        self.head = 0
        """The sequence of the newest event."""
        self.size = (0, 0)
        """How many events there are, and how many bytes of records they have. Written with the writing lock held."""
        self.topics = TopicTable()
        self.clock = JournalTime()
        self.log = WriteAheadLog(path)
        self._connect(dict(new or {}))

    def _connect(self, new: dict[str, str]) -> None:
        path = self.path
        with contextlib.ExitStack() as opened:
            try:
                self._write, self._read, self._keep = (
                    opened.enter_context(contextlib.closing(_connect(path))) for _ in range(3)
                )
                self._write.execute(f"PRAGMA synchronous={'NORMAL' if self.is_quick else 'FULL'}")
                self._write.execute("PRAGMA wal_autocheckpoint=0")  # no append pays for it: see checkpoint()
                self._begin_epoch(new)
                self.topics.load(self._write)
                # From now on nobody waits for another program inside of SQLite: see `retry_while_locked`.
                for connection, seconds in ((self._write, 0), (self._keep, 0), (self._read, READ_LOCK_TIMEOUT)):
                    connection.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")
            except (*DAMAGED, OSError) as error:  # that of what is noted beside it, too
                raise journal_error(path, "cannot be opened", error) from error
            opened.pop_all()
        self._files = JournalFiles(path)

    def __repr__(self) -> str:
        return f"<Journal {self.id} head={self.head & (2**EPOCH_BITS - 1)}>"

    def record(self, sequence: int) -> bytes | None:
        """Return the event of a sequence; None where it is not there (any more)."""
        with self.reader() as read:
            _, entries = row_with(read, sequence)
        return next((bytes(entry.record) for entry in entries if entry.sequence == sequence), None)

    def topic_of(self, sequence: int) -> Topic | None:
        """Return the topic of the event of a sequence; None where it is not there (any more)."""
        with self.reader() as read:
            number, entries = row_with(read, sequence)
        return self.topics.names.get(number) if any(entry.sequence == sequence for entry in entries) else None

    # Changing and reading it

    def change(self, *changes: TableChange) -> None:
        """Carry out statements, each for all of its rows, by one commit. Raises JournalError: then none of them."""
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
        Return what `action` returns, which changes the journal; repeat it while another program has the file locked.

        Blocks for up to `seconds`, and then raises the JournalError: never call it on an event loop. Files that were
        removed are created again.
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
                self.see_to_files()
            time.sleep(RETRY_EVERY)

    def settle(self, *, must: bool = True) -> None:
        """Have what is noted beside the tables in them. Raises JournalError, if it must; then it stays noted."""

    @contextlib.contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Read what is found by an index, and soon: also the loop does."""
        self.settle(must=False)
        with self._reading, self._reads():
            yield self._read

    @contextlib.contextmanager
    def slow_reader(self) -> Iterator[sqlite3.Connection]:
        """Read what may take longer; never on a loop. It holds up the looking after the journal, and nothing else."""
        self.settle(must=False)
        with self._keeping, self._reads():
            yield self._keep

    @contextlib.contextmanager
    def _reads(self) -> Iterator[None]:
        if self.is_closed:
            raise self._closed_error()
        try:
            yield
        except DAMAGED as error:
            raise journal_error(self.path, "cannot be read", error) from error

    # Writing it back

    def checkpoint(self) -> None:
        """
        Write the write-ahead log back into the file; from a thread that may wait for the disk.

        No commit waits for that, nor does it wait for anybody: it goes as far as readers from outside allow. Only where
        all is written back the log is cut down, with the writing lock held for that moment.
        """
        with self._keeping:
            if self.is_closed:
                return
            try:
                self.log.write_back(self._keep, self.writing)
            except sqlite3.Error as error:
                if not is_locked(error):
                    raise journal_error(self.path, "was not written back", error) from error
        self.log.warn_if_grown()

    # Its files

    def see_to_files(self) -> None:
        """
        Write anew what was removed of the journal while it was in use (by a cleaner of old files, say).

        SQLite would go on in files that nobody finds any more. From a thread: those who write and read wait meanwhile.
        Raises JournalError where that is not possible, or another process has the journal now.
        """
        with self._keeping, self.writing, self._reading:
            if self.is_closed:
                return
            try:
                if gone := self._files.gone():
                    self._write_anew()
                    logger.warning(
                        "Files of the journal %s were removed while it was in use (%s), by a cleaner of old files "
                        "perhaps: it is written anew, and nothing of it is lost. Except it from cleaning.",
                        self.path, ", ".join(gone),
                    )  # fmt: skip
                is_ours = self._lock is None or self._lock.renew()
            except (*DAMAGED, OSError) as error:
                raise journal_error(self.path, "was removed, and cannot be created again", error) from error
        if not is_ours:
            self.close()
            raise JournalError(
                f"The lock of the journal {self.path} was removed, and another process has the journal now. "
                "This one begins another. Except the directory from the cleaning of old files."
            )

    def _write_anew(self) -> None:
        """Copy all there is into a new file and go on with that. With all locks held."""
        make_private(self.path.parent)
        self.settle()
        copy = self.path.with_suffix(".anew")
        copy.unlink(missing_ok=True)
        self._write.execute("VACUUM INTO ?", (str(copy),))
        copy.chmod(0o600)
        self._close_connections()  # which removes the files beside it
        if self._lock is not None:
            self._lock.move_to(copy)
        self._files.replace_by(copy)
        self._connect({})

    def _close_connections(self) -> None:
        self.log.noted.close()
        for connection in (self._keep, self._read, self._write):
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    # The end

    def close(self) -> None:
        """Close the file, and let others have the journal."""
        with self._keeping, self.writing, self._reading:
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
        """Close and remove the file; the lock goes last. Once closed it may be somebody else's, and is left alone."""
        with self._keeping, self.writing, self._reading:
            if self.is_closed:
                return
            self.is_closed = True
            self.log.noted.abandon()
            try:
                for connection in (self._keep, self._read, self._write):
                    connection.close()
                self._files.remove()
            finally:
                if self._lock is not None:
                    self._lock.close()

    def pause(self, seconds: float) -> Callable[[], None]:
        """
        Have no thread be inside SQLite, and return what lets them go on: for a fork.

        SQLite has locks of its own that a child would inherit taken, and nobody there releases. Gives up after so many
        seconds for each.
        """
        taken = [lock for lock in (self._keeping, self.writing, self._reading) if lock.acquire(timeout=seconds)]

        def resume() -> None:
            for lock in taken:
                lock.release()

        return resume

    def abandon(self) -> None:
        """
        Let go of a journal that the parent of this forked process holds, without touching it.

        Nor is it touched from now on: the parent may be in the midst of a row of events, and a loop that goes on in the
        child would end that row in its place.
        """
        self.is_closed = True
        # The lock belongs to the open file that both have: only our copy of the descriptor goes, the lock stays.
        # The connections are kept and not closed: closing them would take the parent's file for ours.
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.close()
            self._lock = None
        self.log.noted.abandon()

    # Inside

    def _closed_error(self) -> JournalError:
        return JournalError(f"The journal {self.path} is closed: the bus stops.")

    def _begin_epoch(self, new: dict[str, str]) -> None:
        write = self._write
        write.execute("BEGIN EXCLUSIVE")
        make_or_upgrade(write, self.path, new)
        self.clock.go_on(write)
        self.log.noted.mark = put_into_tables(self.path, write, self.clock.now())
        before = int(write.execute("SELECT value FROM about WHERE key = 'epoch'").fetchone()[0])
        if before >= MAX_EPOCH:
            raise JournalError(
                f"The journal {self.path} was opened so often that it has no numbers left. Move it away."
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
        """Have the journal's own time on disk, now and then. Raises JournalError."""
        with self.writing:
            if change := self.clock.change_due():
                self.change(change)

    def _took_in(self, head: int, lasts: dict[Topic, int], rows: list[JournalRow]) -> None:
        count, size = self.size
        for row in rows:
            count += row[5]
            size += size_of(row[4], row[5])
        self.topics.move(lasts)
        self.size, self.head = (count, size), head  # at last, and nothing comes between: see `_roll_back`

    def _roll_back(self) -> None:
        """Undo what is under way. Where it was on disk already, and only not noted by us, it is noted now."""
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


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except BaseException:  # also what a damaged name raises: UnicodeDecodeError
        connection.close()
        raise
    return connection
