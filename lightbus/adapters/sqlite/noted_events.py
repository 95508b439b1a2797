"""Events that are fired one by one are first noted in a file beside the journal, and soon put into its tables.

Appending to a file is one system call; a commit to SQLite takes ten times as long, however few events it has. Noted
events survive the end of every process, as committed ones do: whoever opens the journal next puts them into its tables.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zlib import crc32

from .rows import MAX_APART
from .topic import Topic

__all__ = ["LARGEST", "NOTED", "Noted", "NotedEvents", "put_into_tables", "still_noted"]

NOTED = "-noted"
"""What the name of this file adds to that of the journal."""

LARGEST = 4096
"""Largest record, in bytes, that is noted; to write a larger one twice takes longer than to commit it."""

_CHECKSUM = struct.Struct(">I")
_HEAD = struct.Struct(">IqId")
"""The length of the record, the event's sequence, the number of its topic, and the time of day."""

_INSERT = """
    INSERT OR IGNORE INTO events (sequence, topic, previous, at, record, count, seen) VALUES (?, ?, ?, ?, ?, 1, ?)
"""

_NEWEST = """
    SELECT max(coalesce((SELECT max(sequence) FROM events), 0), coalesce((SELECT max(floor) FROM topics), 0))
"""
_NEWEST_OF_TOPIC = """
    SELECT max(floor, coalesce((SELECT max(sequence) FROM events WHERE topic = ?1), 0)) FROM topics WHERE id = ?1
"""


class Noted(NamedTuple):
    """An event as read from the file: its sequence, the number of its topic, the time of day, its record."""

    sequence: int
    number: int
    at: float
    record: bytes


class NotedEvents:
    """
    The events of one journal that are noted and not yet in its tables. Use it with the writing lock held.

    Args:
        path: the journal.

    Attributes:
        count: the number of these events.
        mark: the journal's mark, see `put_into_tables`.

    """

    def __init__(self, path: Path) -> None:
        self.count = self.mark = 0
        self._events: list[tuple[Topic, float, bytes]] = []
        self._lasts: dict[Topic, int] = {}
        self._path = f"{path}{NOTED}"
        self._file = -1
        self._inode = 0
        self._size = 0

    def add(self, topic: Topic, number: int, at: float, record: bytes, head: int, last: int) -> tuple[int, int]:
        """
        Note an event; return its sequence, and that of the event before it in its topic.

        Args:
            topic, number, at, record: the event's topic, the number of that topic, its time of day, its record.
            head: the newest sequence in the tables.
            last: the newest sequence of the topic in the tables.

        Raises:
            OSError: the event could not be noted.

        """
        count, size, lasts = self.count, self._size, self._lasts
        if not count:
            self._ensure_open()
        sequence, previous = head + count + 1, lasts.get(topic, last)
        body = _HEAD.pack(len(record), sequence, number, at) + record
        entry = _CHECKSUM.pack(crc32(body, self.mark)) + body
        try:
            if os.pwrite(self._file, entry, size) != len(entry):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
            self._events.append((topic, at, record))
            lasts[topic] = sequence
            self.count, self._size = count + 1, size + len(entry)
        except BaseException:  # raised by a signal handler, for example: it may come anywhere
            self._undo_add(topic, previous, count, size)
            raise
        return sequence, previous

    def _undo_add(self, topic: Topic, last: int, count: int, size: int) -> None:
        """Go back to `count` events in `size` bytes: the sequence of the failed event is used again."""
        self.count, self._size, self._lasts[topic] = count, size, last
        del self._events[count:]
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, size)

    def runs(self) -> list[tuple[Topic, float, list[bytes], str]]:
        """Return the events as runs of one topic, as the journal stores them: topic, time, records, an empty id."""
        runs: list[tuple[Topic, float, list[bytes], str]] = []
        latest, first, records = None, 0.0, [b""]
        for topic, at, record in self._events:
            if topic is latest and abs(at - first) <= MAX_APART:
                records.append(record)
            else:
                latest, first, records = topic, at, [record]
                runs.append((topic, at, records, ""))
        return runs

    def forget(self) -> None:
        """Start again at the beginning of the file: all noted events are in the tables."""
        self.count = self._size = 0
        self._events.clear()
        self._lasts.clear()

    def close(self) -> None:
        """Close the file. Remove it if all events are in the tables and the name still leads to our file."""
        if self._file >= 0 and not self.count and self._is_there():
            self.remove()
        self.abandon()

    def remove(self) -> None:
        """Remove the file: all noted events are in the tables."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def abandon(self) -> None:
        """Close the file without touching it."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1

    def _ensure_open(self) -> None:
        """Open the file, or a new one if it was removed: the events in the old one are in the tables."""
        if self._file >= 0:
            if self._is_there():
                return
            self.abandon()
        # Never write through a symbolic link: its target may be any file. Then events are committed one by one.
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._inode = os.fstat(self._file).st_ino

    def _is_there(self) -> bool:
        """Return whether the name still leads to the file that we have open."""
        with contextlib.suppress(OSError):
            return os.stat(self._path).st_ino == self._inode
        return False


def still_noted(path: Path, connection: sqlite3.Connection) -> list[Noted]:
    """Return the events noted beside a journal that are not in its tables. Changes nothing. Raises OSError."""
    marked = connection.execute("SELECT value FROM about WHERE key = 'noted'").fetchone()
    noted = list(_noted(path, 0 if marked is None else int(marked[0])))
    if not noted:
        return []
    [most] = connection.execute(_NEWEST).fetchone()
    numbers = {number for (number,) in connection.execute("SELECT id FROM topics")}
    return [each for each in noted if each.sequence > most and each.number in numbers]


def put_into_tables(path: Path, write: sqlite3.Connection, seen: float) -> int:
    """
    Put the events that were left noted beside a journal into its tables; `seen` is the journal's own time.

    Call it within a transaction. Return the mark that goes into the checksums of the events noted beside this journal:
    so the file of another journal, whose numbers mean other topics, is not read when it was copied here by mistake.
    Raises OSError if the file cannot be read.
    """
    lasts: dict[int, int] = {}
    for sequence, number, at, record in still_noted(path, write):
        if number not in lasts:
            [lasts[number]] = write.execute(_NEWEST_OF_TOPIC, (number,)).fetchone()
        write.execute(_INSERT, (sequence, number, lasts[number], at, record, seen))
        lasts[number] = sequence
    mark = int.from_bytes(os.urandom(4), "big")
    write.execute("INSERT OR IGNORE INTO about VALUES ('noted', ?)", (str(mark),))
    return int(write.execute("SELECT value FROM about WHERE key = 'noted'").fetchone()[0])


def _noted(path: Path, mark: int) -> Iterator[Noted]:
    """Yield the events in the file, up to an incomplete write, older events or anything else."""
    with contextlib.suppress(FileNotFoundError), _opened(f"{path}{NOTED}") as file:
        before = 0
        while len(start := file.read(_CHECKSUM.size + _HEAD.size)) == _CHECKSUM.size + _HEAD.size:
            [checksum], head = _CHECKSUM.unpack_from(start), start[_CHECKSUM.size :]
            length, sequence, number, at = _HEAD.unpack(head)
            if length > LARGEST or (before and sequence != before + 1):
                return
            record = file.read(length)
            if len(record) != length or crc32(record, crc32(head, mark)) != checksum:
                return
            yield Noted(sequence, number, at, record)
            before = sequence


def _opened(name: str) -> BinaryIO:
    """Open a regular file for reading. Anything else, a directory for example, counts as not found."""
    if not stat.S_ISREG(os.stat(name).st_mode):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return open(name, "rb")
