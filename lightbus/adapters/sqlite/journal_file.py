"""The file of a journal: how it is opened, changed by one commit at a time, read, written back, and given up.

It knows the tables, the topics and the newest sequence of each, and nothing of what is done with events and groups.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from ...config.surroundings import make_private
from ...exceptions import JournalError
from ..host.directories import has_no_room, is_of_full_disk, is_of_place
from ..host.locks import JournalLock
from ..host.machine_time import boot_id, machine_time
from .rows import LENGTH_SIZE, row_with, size_of
from .topic import Topic

__all__ = [
    "DAMAGED",
    "EPOCH_BITS",
    "JournalFile",
    "Row",
    "Topic",
    "is_locked",
    "is_removed",
    "journal_error",
    "offset_of",
]

logger = logging.getLogger("lightbus.journal")

T = TypeVar("T")

APPLICATION_ID = 0x4C427573
"""What marks a file as a journal of ours: "LBus"."""

VERSION = 3
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

NOTE_TIME_EVERY = 600.0
"""Seconds between two notes of the journal's own time: so many of them a power cut may take."""

DAMAGED = (sqlite3.Error, TypeError, ValueError)
"""What reading a damaged file may raise: a number is none any more, a text is not UTF-8."""

SUFFIXES = ("", "-wal", "-shm")
"""The files of a journal: SQLite has two beside the first."""

PATIENCE = 5.0
"""Seconds for which an event waits for another program that has the journal locked; off the loop, see `patiently`."""

READ_PATIENCE = 0.1
"""Seconds for which a read waits: readers are locked out for moments only, unless somebody means it."""

RETRY_EVERY = 0.02

GROWN_WAL = 64 * 1024 * 1024
"""Bytes of the write-ahead log from which on it is said that somebody keeps it from being written back."""

LARGE_WAL = 16 * 1024 * 1024
"""Bytes of the write-ahead log above which its file is cut down again."""

SIZE = f"(length(record) - {LENGTH_SIZE} * count * (count > 1))"
"""Bytes of the records of a row."""
_SIZE_BEHIND = f"SELECT coalesce(sum(count), 0), coalesce(sum({SIZE}), 0) FROM events WHERE sequence > ?"

_STARTS = "CREATE TABLE IF NOT EXISTS starts (grp, topic, sequence, asker, number, PRIMARY KEY (grp, topic))"
_TABLES = """
    CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE topics (
        id INTEGER PRIMARY KEY, api TEXT NOT NULL, event TEXT NOT NULL, partition INTEGER NOT NULL,
        floor INTEGER NOT NULL DEFAULT 0, UNIQUE (api, event, partition)
    );
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY, topic INTEGER NOT NULL, previous INTEGER NOT NULL, at REAL NOT NULL,
        count INTEGER NOT NULL, record BLOB NOT NULL, seen REAL NOT NULL DEFAULT 0
    );
    CREATE INDEX by_topic ON events (topic, sequence, count);
    CREATE TABLE handed_off (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX handed_off_by_sequence ON handed_off (sequence);
    CREATE TABLE groups (
        api TEXT NOT NULL, name TEXT NOT NULL, events TEXT NOT NULL, created_at REAL NOT NULL, last_seen REAL NOT NULL,
        digest TEXT NOT NULL, PRIMARY KEY (api, name)
    ) WITHOUT ROWID;
    CREATE TABLE cursors (
        grp TEXT NOT NULL, topic INTEGER NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (grp, topic)
    ) WITHOUT ROWID;
    CREATE TABLE held (
        api TEXT NOT NULL, grp TEXT NOT NULL, partition INTEGER NOT NULL, epoch INTEGER NOT NULL,
        PRIMARY KEY (api, grp, partition)
    ) WITHOUT ROWID;
    CREATE TABLE deliveries (
        grp TEXT NOT NULL, topic INTEGER NOT NULL, sequence INTEGER NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (grp, topic, sequence)
    ) WITHOUT ROWID;
    CREATE TABLE dead (
        grp TEXT NOT NULL, sequence INTEGER NOT NULL, topic INTEGER NOT NULL, record BLOB NOT NULL,
        deliveries INTEGER NOT NULL, error TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (grp, sequence)
    );
    CREATE TABLE lost (
        grp TEXT NOT NULL, topic INTEGER NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (grp, topic)
    ) WITHOUT ROWID;
    CREATE TABLE cuts (
        topic INTEGER NOT NULL, through INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (topic, through)
    ) WITHOUT ROWID;
    CREATE TABLE size (count INTEGER NOT NULL, bytes INTEGER NOT NULL, through INTEGER NOT NULL);
"""


Row: TypeAlias = tuple[int, int, int, float, bytes, int, float]
"""
Sequence of its last event, number of the topic, previous of its first event, time of day, records, number of events,
and the journal's own time.
"""


def journal_error(path: Path, what: str, error: Exception) -> JournalError:
    """Return the error for what went wrong with a journal's file, with what to do about it."""
    text = str(error)
    is_io = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR  # of its shared memory, too
    if is_locked(error):
        remedy = (
            "It is locked by another program (a database browser, a script?): have that end its transaction. "
            "It is tried again for a while."
        )
    elif has_no_room(path.parent) if is_io else is_of_full_disk(error):
        remedy = "The disk is full: make room."
    elif isinstance(error, FileNotFoundError):
        remedy = "It was removed while it was in use, and is written anew as soon as that is possible."
    elif "readonly" in text or "unable to open" in text or is_of_place(error):
        remedy = "May this user write there? Another place is set by LIGHTBUS_DATA_DIR (journal.data_dir)."
    else:
        remedy = "Is the disk all right?"
    return JournalError(f"The journal {path} {what}: {text}. {remedy}")


def offset_of(about: Mapping[str, str]) -> float:
    """Return what a journal's own time is ahead of the machine's, as it has noted it; at least that."""
    if about.get("boot") and about["boot"] == boot_id():
        return float(about.get("offset", 0.0))
    return float(about.get("time", 0.0)) - machine_time()


def is_locked(error: BaseException | None) -> bool:
    """Return whether an error, or what is behind it, says that another program has a database locked."""
    if isinstance(error, JournalError):
        error = error.__cause__
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, sqlite3.OperationalError) and code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_removed(error: BaseException | None) -> bool:
    """Return whether an error says that a journal was removed while it was in use."""
    return isinstance(error, JournalError) and isinstance(error.__cause__, FileNotFoundError)


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
        self.writing = threading.Lock()
        self._reading = threading.Lock()
        self._keeping = threading.Lock()
        self._closed = False
        self.is_quick = durability != "power"
        """Whether a commit waits for no disk."""
        self.epoch = 0
        """How often it was opened; in the upper bits of each sequence."""
        self.head = 0
        """The sequence of the newest event."""
        self.size = (0, 0)
        """How many events there are, and how many bytes of records they have. Written with the writing lock held."""
        self._added: list[Topic] = []
        """Topics that are new in the commit at hand."""
        self.numbers: dict[Topic, int] = {}
        """The number of each topic."""
        self.names: dict[int, Topic] = {}
        self.lasts: dict[Topic, int] = {}
        """The newest sequence of each topic. With the writing lock held; replaced as a whole for a new topic."""
        self.floors: dict[Topic, int] = {}
        """Up to where each topic was trimmed."""
        self.offset = 0.0
        """What the journal's own time is ahead of the machine's."""
        self._time_noted_at = 0.0
        self._log_is_large = False
        """Whether it was said that the write-ahead log grows."""
        self._files: dict[str, int] = {}
        """By suffix the inode of each file: what others find under its name should be the same."""
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
                self._load_topics()
                # From now on nobody waits for another program inside of SQLite: see `patiently`.
                for connection, seconds in ((self._write, 0), (self._keep, 0), (self._read, READ_PATIENCE)):
                    connection.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")
            except DAMAGED as error:
                raise journal_error(path, "cannot be opened", error) from error
            opened.pop_all()
        self._inode = os.stat(path).st_ino
        self._files = {suffix: os.stat(f"{path}{suffix}").st_ino for suffix in SUFFIXES}

    def __repr__(self) -> str:
        return f"<Journal {self.id} head={self.head & (2**EPOCH_BITS - 1)}>"

    def all_topics(self) -> list[Topic]:
        """Return all topics."""
        return list(self.lasts)

    def record(self, sequence: int) -> bytes | None:
        """Return the event of a sequence; None where it is not there (any more)."""
        with self.reader() as read:
            _, entries = row_with(read, sequence)
        return next((bytes(entry.record) for entry in entries if entry.sequence == sequence), None)

    def topic_of(self, sequence: int) -> Topic | None:
        """Return the topic of the event of a sequence; None where it is not there (any more)."""
        with self.reader() as read:
            number, entries = row_with(read, sequence)
        return self.names.get(number) if any(entry.sequence == sequence for entry in entries) else None

    # Changing and reading it

    def change(self, *changes: tuple[str, Sequence[tuple[Any, ...]]]) -> None:
        """Carry out statements, each for all of its rows, by one commit."""
        changes = tuple(change for change in changes if change[1])
        if changes:
            with self.writing:
                self.commit(changes)

    def commit(self, changes: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        """Do so with the writing lock held."""
        if self._closed:
            raise JournalError(f"The journal {self.path} is closed: the bus stops.")
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

    def patiently(self, action: Callable[[], T], seconds: float = PATIENCE) -> T:
        """
        Do what changes the journal, again and again while another program has it locked, and return what it returns.

        Never on a loop: it may take so many seconds, and then raises the JournalError. What was removed is mended.
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

    @contextlib.contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Read what is found by an index, and soon: also the loop does."""
        with self._reading, self._reads():
            yield self._read

    @contextlib.contextmanager
    def slow_reader(self) -> Iterator[sqlite3.Connection]:
        """Read what may take longer; never on a loop. It holds up the looking after the journal, and nothing else."""
        with self._keeping, self._reads():
            yield self._keep

    @contextlib.contextmanager
    def _reads(self) -> Iterator[None]:
        if self._closed:
            raise JournalError(f"The journal {self.path} is closed: the bus stops.")
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
            size = self.log_size
            if self._closed or not size:
                return
            try:
                _, frames, done = self._keep.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if size > LARGE_WAL and frames == done:
                    with self.writing:
                        self._keep.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                if not is_locked(error):
                    raise journal_error(self.path, "was not written back", error) from error
        self._warn_of_log()

    def _warn_of_log(self) -> None:
        size = self.log_size
        if size > GROWN_WAL and not self._log_is_large:
            logger.warning(
                "The log of the journal %s has grown to %d MiB: another program has been reading the journal for long "
                "(a backup, a database browser?). Nothing waits for it but the disk; the log is cut down once it ends.",
                self.path, size // 2**20,
            )  # fmt: skip
        self._log_is_large = size > (LARGE_WAL if self._log_is_large else GROWN_WAL)

    @property
    def has_large_log(self) -> bool:
        """Whether the write-ahead log is to be written back rather now than later."""
        return self.log_size > LARGE_WAL

    @property
    def log_size(self) -> int:
        """Bytes of the write-ahead log."""
        try:
            return os.stat(f"{self.path}-wal").st_size
        except OSError:
            return 0

    # Its files

    def see_to_files(self) -> None:
        """
        Write anew what was removed of the journal while it was in use (by a cleaner of old files, say).

        SQLite would go on in files that nobody finds any more. From a thread: those who write and read wait meanwhile.
        Raises JournalError where that is not possible, or another process has the journal now.
        """
        with self._keeping, self.writing, self._reading:
            if self._closed:
                return
            try:
                if gone := [suffix for suffix in SUFFIXES if self._is_gone(suffix)]:
                    self._write_anew()
                    logger.warning(
                        "Files of the journal %s were removed while it was in use (%s), by a cleaner of old files "
                        "perhaps: it is written anew, and nothing of it is lost. Except it from cleaning.",
                        self.path, ", ".join(f"{self.path.name}{suffix}" for suffix in gone),
                    )  # fmt: skip
                is_ours = self._lock is None or self._lock.renew()
            except (*DAMAGED, OSError) as error:
                raise journal_error(self.path, "was removed, and cannot be written anew", error) from error
        if not is_ours:
            self.close()
            raise JournalError(
                f"The lock of the journal {self.path} was removed, and another process has the journal now. "
                "This one begins another. Except the directory from the cleaning of old files."
            )

    def _is_gone(self, suffix: str) -> bool:
        try:
            return os.stat(f"{self.path}{suffix}").st_ino != self._files[suffix]
        except FileNotFoundError:
            return True

    def _write_anew(self) -> None:
        """Copy all there is into a new file and go on with that. With all locks held."""
        make_private(self.path.parent)
        copy = self.path.with_suffix(".anew")
        copy.unlink(missing_ok=True)
        self._write.execute("VACUUM INTO ?", (str(copy),))
        copy.chmod(0o600)
        self._close_connections()  # which removes the files beside it
        for suffix in SUFFIXES[1:]:
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.move_to(copy)
        copy.replace(self.path)
        self._connect({})

    def _close_connections(self) -> None:
        for connection in (self._keep, self._read, self._write):
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @property
    def is_closed(self) -> bool:
        """Whether it is closed, or was given up."""
        return self._closed

    # The end

    def close(self) -> None:
        """Close the file, and let others have the journal."""
        with self._keeping, self.writing, self._reading:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(sqlite3.Error):
                self._note_time(self._write)
            self._close_connections()
            if self._lock is not None:
                self._lock.close()

    def delete(self) -> None:
        """Close and remove the file; the lock goes last. Once closed it may be somebody else's, and is left alone."""
        with self._keeping, self.writing, self._reading:
            if self._closed:
                return
            self._closed = True
            try:
                for connection in (self._keep, self._read, self._write):
                    connection.close()
                for suffix in SUFFIXES:
                    Path(f"{self.path}{suffix}").unlink(missing_ok=True)
                self.path.with_suffix(".lock").unlink(missing_ok=True)
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
        """Let go of a journal that the parent of this forked process holds, without touching it."""
        # The lock belongs to the open file that both have: only our copy of the descriptor goes, the lock stays.
        # The connections are kept and not closed: closing them would take the parent's file for ours.
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.close()
            self._lock = None

    # Inside

    def _begin_epoch(self, new: dict[str, str]) -> None:
        write = self._write
        write.execute("BEGIN EXCLUSIVE")
        version = write.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and write.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            for statement in _TABLES.split(";"):
                write.execute(statement)
            write.execute(f"PRAGMA application_id={APPLICATION_ID}")
            write.execute(f"PRAGMA user_version={VERSION}")
            write.executemany("INSERT INTO about VALUES (?, ?)", {"epoch": "0", **new}.items())
            write.execute("INSERT INTO size VALUES (0, 0, 0)")
        elif version not in (1, 2, VERSION) or write.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            write.execute("ROLLBACK")
            raise JournalError(
                f"The journal {self.path} is of version {version}, and this Lightbus knows version {VERSION}. "
                "It is left alone: run the version of Lightbus that wrote it, or one that is newer."
            )
        if version == 1:  # each event had a row of its own
            write.execute("ALTER TABLE events ADD COLUMN count INTEGER NOT NULL DEFAULT 1")
            write.execute("DROP INDEX by_topic")
            write.execute("CREATE INDEX by_topic ON events (topic, sequence, count)")
        if version in (1, 2):  # the times of groups were those of the clock; what is there was before everything else
            write.execute("ALTER TABLE events ADD COLUMN seen REAL NOT NULL DEFAULT 0")
            ages = "created_at = min(0, created_at - ?1), last_seen = min(0, last_seen - ?1)"
            write.execute(f"UPDATE groups SET {ages}", (time.time(),))
            write.execute(f"PRAGMA user_version={VERSION}")
        self._begin_time()
        before = int(write.execute("SELECT value FROM about WHERE key = 'epoch'").fetchone()[0])
        if before >= MAX_EPOCH:
            write.execute("ROLLBACK")
            raise JournalError(
                f"The journal {self.path} was opened so often that it has no numbers left. Move it away."
            )
        epoch = max(before + 1, min(int(time.time() / EPOCH_UNIT), MAX_EPOCH_BY_CLOCK))
        write.execute("UPDATE about SET value = ? WHERE key = 'epoch'", (str(epoch),))
        write.execute(_STARTS)
        self.has_deliveries = write.execute("SELECT 1 FROM deliveries LIMIT 1").fetchone() is not None
        count, size, through = write.execute("SELECT * FROM size").fetchone()
        new_count, new_size = write.execute(_SIZE_BEHIND, (through,)).fetchone()
        self.size = (count + new_count, size + new_size)
        self.head = self.size_noted_at = epoch << EPOCH_BITS
        write.execute("UPDATE size SET count = ?, bytes = ?, through = ?", (*self.size, self.head))
        write.execute("COMMIT")
        self.epoch = epoch

    def _begin_time(self) -> None:
        """
        Go on with the journal's own time, which whoever moves the time of day does not change.

        While the machine runs it goes on whether the journal is open or not. From one start of the machine to the next
        it stands still: how long that took, only a clock could tell.
        """
        about = dict(self._write.execute("SELECT key, value FROM about"))
        newest = self._write.execute("SELECT seen FROM events ORDER BY sequence DESC LIMIT 1").fetchone()
        least = max(float(about.get("time", 0.0)), 0.0 if newest is None else float(newest[0]))
        self.offset = max(offset_of(about), least - machine_time())
        self._note_time(self._write)

    def _note_time(self, write: sqlite3.Connection) -> None:
        self._time_noted_at = self.time()
        values = {"boot": boot_id(), "offset": repr(self.offset), "time": repr(self._time_noted_at)}
        write.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", values.items())

    def note_time(self) -> None:
        """Have the journal's own time on disk, now and then. Raises JournalError."""
        if self.time() - self._time_noted_at > NOTE_TIME_EVERY:
            with self.writing:
                self._time_noted_at = self.time()
                self.commit((("UPDATE about SET value = ? WHERE key = 'time'", [(repr(self._time_noted_at),)]),))

    def time(self) -> float:
        """Return the journal's own time: the seconds that it has seen pass."""
        return machine_time() + self.offset

    def _load_topics(self) -> None:
        lasts: dict[Topic, int] = {}
        for number, api, event, partition, floor in self._write.execute("SELECT * FROM topics").fetchall():
            topic = Topic(api, event, partition)
            self.numbers[topic], self.names[number], self.floors[topic] = number, topic, floor
            # One look-up in the index each; grouping would read all of it.
            query = "SELECT max(sequence) FROM events WHERE topic = ?"
            lasts[topic] = max(floor, self._write.execute(query, (number,)).fetchone()[0] or 0)
        self.lasts = lasts

    def _add_topic(self, topic: Topic) -> int:
        cursor = self._write.execute("INSERT INTO topics (api, event, partition) VALUES (?, ?, ?)", topic)
        number = int(cursor.lastrowid or 0)
        self._added.append(topic)
        self.numbers[topic], self.names[number] = number, topic
        return number

    def _see_that_it_is_there(self) -> None:
        """Raise FileNotFoundError where the file was removed: SQLite would go on writing what nobody can read again."""
        if os.stat(self.path).st_ino != self._inode:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))

    def _took_in(self, head: int, lasts: dict[Topic, int], rows: list[Row]) -> None:
        self.head = head
        count, size = self.size
        self.size = (count + sum([row[5] for row in rows]), size + sum([size_of(row[4], row[5]) for row in rows]))
        if self._added:
            self._added.clear()
            self.lasts = {**self.lasts, **lasts}  # others iterate over it
        else:
            self.lasts.update(lasts)

    def _roll_back(self) -> None:
        """Undo what is under way. Where it was on disk already, and only not noted by us, it is noted now."""
        if not self._write.in_transaction and not self._added and is_locked(sys.exception()):
            return  # nothing was begun
        with contextlib.suppress(sqlite3.Error):
            self._write.execute("ROLLBACK")
        for topic in self._added:
            self.names.pop(self.numbers.pop(topic), None)
        self._added.clear()
        with contextlib.suppress(sqlite3.Error):
            count, size = self._write.execute(_SIZE_BEHIND, (self.head,)).fetchone()
            if count:
                self.size = (self.size[0] + count, self.size[1] + size)
                self.head = self._write.execute("SELECT max(sequence) FROM events").fetchone()[0]
            self._load_topics()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except BaseException:  # also what a damaged name raises: UnicodeDecodeError
        connection.close()
        raise
    return connection
