"""The journal: one SQLite file that holds the events of one publishing process until every group has handled them.

It knows nothing of sockets, and of an event no more than its topic, its time and its bytes. Who holds which journal is
the matter of `journals.py`. Sequences count up over the whole journal and begin anew, higher, each time it is opened:
what a power cut may have taken is never numbered twice.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ..exceptions import JournalError
from .rows import LENGTH_SIZE, MAX_APART, MAX_EVENTS, MAX_SIZE, Entry, Gone, entries_of, joined, size_of

__all__ = ["DAMAGED", "Dead", "Entry", "Group", "Journal", "NewEvent", "Page", "Stored", "Topic", "journal_error"]

logger = logging.getLogger("lightbus.journal")

APPLICATION_ID = 0x4C427573
"""What marks a file as a journal of ours: "LBus"."""

VERSION = 2
EPOCH_BITS = 40
"""An epoch has room for a million million events."""

EPOCH_UNIT = 600.0
"""
Seconds. An epoch is at least the time since 1970 in this unit, so that a journal that was set back to a copy of itself
does not give its numbers out a second time: consumers would take what has them for handled.
"""
MAX_EPOCH = 2 ** (63 - EPOCH_BITS) - 1

CHUNK = 500
CHUNK_BYTES = 1024 * 1024
"""Rows deleted by one commit, and bytes that end it sooner: no writer waits longer than that takes."""

MAX_CUTS = 32
"""Cuts that are remembered of a topic; of more, the oldest two become one."""

MAX_EXAMINED = 5000
"""Events that one page of all topics goes through: a few milliseconds."""

LARGE_WAL = 16 * 1024 * 1024
"""Bytes of the write-ahead log above which its file is cut down again."""

DAMAGED = (sqlite3.Error, TypeError, ValueError)
"""What reading a damaged file may raise: a number is none any more, a text is not UTF-8."""

_new = tuple.__new__  # makes a NamedTuple of its fields in half the time

_INSERT_ROW = "INSERT INTO events (sequence, topic, previous, at, record, count) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_CUT = "INSERT INTO cuts VALUES (?, ?, ?)"
_JOIN_OLDEST_CUTS = f"""
    UPDATE cuts SET number = number + (SELECT number FROM cuts WHERE topic = ?1 ORDER BY through LIMIT 1)
    WHERE topic = ?1 AND through = (SELECT through FROM cuts WHERE topic = ?1 ORDER BY through LIMIT 1 OFFSET 1)
        AND (SELECT count(*) FROM cuts WHERE topic = ?1) > {MAX_CUTS}
"""
_DELETE_OLDEST_CUT = f"""
    DELETE FROM cuts WHERE topic = ?1 AND through = (SELECT min(through) FROM cuts WHERE topic = ?1)
        AND (SELECT count(*) FROM cuts WHERE topic = ?1) > {MAX_CUTS}
"""
_SIZE = f"(length(record) - {LENGTH_SIZE} * count * (count > 1))"
"""Bytes of the records of a row."""
_LATEST = f"(at + {MAX_APART} * (count > 1))"
_EARLIEST = f"(at - {MAX_APART} * (count > 1))"
"""When an event of a row may have been fired at the latest, and at the earliest."""
_SIZE_BEHIND = f"SELECT coalesce(sum(count), 0), coalesce(sum({_SIZE}), 0) FROM events WHERE sequence > ?"

_TABLES = """
    CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE topics (
        id INTEGER PRIMARY KEY, api TEXT NOT NULL, event TEXT NOT NULL, partition INTEGER NOT NULL,
        floor INTEGER NOT NULL DEFAULT 0, UNIQUE (api, event, partition)
    );
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY, topic INTEGER NOT NULL, previous INTEGER NOT NULL, at REAL NOT NULL,
        count INTEGER NOT NULL, record BLOB NOT NULL
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


class Topic(NamedTuple):
    """One partition of an event."""

    api: str
    event: str
    partition: int


class NewEvent(NamedTuple):
    """An event to store. `id` is given for those that were handed off by others: of one id there is one event."""

    topic: Topic
    record: bytes
    at: float
    id: str = ""


class Stored(NamedTuple):
    """Where an event is: its sequence, and the one before it in its topic. Not `is_new`: it was there already."""

    sequence: int
    previous: int
    is_new: bool = True


_Row: TypeAlias = tuple[int, int, int, float, bytes, int]
"""Sequence of its last event, number of the topic, previous of its first event, time, records, number of events."""


class Page(NamedTuple):
    """
    A part of a topic.

    Attributes:
        entries: the events, in order.
        through: everything of the topic up to this sequence has been given.
        more: whether there is more behind it.
        trimmed: about how many events in front of it were deleted before somebody had handled them.

    """

    entries: list[Entry]
    through: int
    more: bool
    trimmed: int


class Group(NamedTuple):
    """A consumer group of an API, as the journals remember it. Times are in seconds since 1970."""

    api: str
    name: str
    events: tuple[str, ...]
    created_at: float
    last_seen: float
    digest: str


class Dead(NamedTuple):
    """An event that was set aside for a group: it was given to it as often as it may be."""

    group: str
    topic: Topic
    sequence: int
    record: bytes
    deliveries: int
    error: str
    died_at: float


def journal_error(path: Path, what: str, error: Exception) -> JournalError:
    """Return the error for what went wrong with a journal's file, with what to do about it."""
    text = str(error)
    if "full" in text or getattr(error, "errno", None) == 28:
        remedy = "The disk is full: make room."
    elif isinstance(error, FileNotFoundError):
        remedy = (
            "It was removed while it was in use: what is in it is lost. Restart this process, so that it begins anew."
        )
    elif "readonly" in text or "unable to open" in text or isinstance(error, PermissionError):
        remedy = "May this user write there? Another place is set by LIGHTBUS_DATA_DIR (journal.data_dir)."
    else:
        remedy = "Is the disk all right?"
    return JournalError(f"The journal {path} {what}: {text}. {remedy}")


class Journal:
    """
    One journal, held by this process. Any thread may use it: writers wait for each other, readers do not wait for them.

    Args:
        path: the SQLite file; it is made where there is none.
        durability: "process": what was stored survives a crash of every process; "power": and a power cut.
        lock: the descriptor whose lock says that the journal is ours; it is closed with it.
        new: what to note in a journal that is made: its host.

    Raises:
        JournalError: the file cannot be used.

    """

    def __init__(
        self, path: Path, *, durability: str = "process", lock: int | None = None, new: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self.id = path.stem
        self._lock_descriptor = lock
        self._writing = threading.Lock()
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
        self._topics: dict[Topic, int] = {}
        """The number of each topic."""
        self._names: dict[int, Topic] = {}
        self._lasts: dict[Topic, int] = {}
        """The newest sequence of each topic. With the writing lock held; replaced as a whole for a new topic."""
        self._floors: dict[Topic, int] = {}
        """Up to where each topic was trimmed."""
        with contextlib.ExitStack() as opened:
            try:
                self._write, self._read, self._keep = (
                    opened.enter_context(contextlib.closing(_connect(path))) for _ in range(3)
                )
                self._write.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
                self._write.execute("PRAGMA wal_autocheckpoint=0")  # no append pays for it: see checkpoint()
                self._begin_epoch(dict(new or {}))
                self._load_topics()
            except DAMAGED as error:
                raise journal_error(path, "cannot be opened", error) from error
            opened.pop_all()
        self._inode = os.stat(path).st_ino

    def __repr__(self) -> str:
        return f"<Journal {self.id} head={self.head & (2**EPOCH_BITS - 1)}>"

    # Events

    def append(self, events: Sequence[NewEvent]) -> list[Stored]:
        """Store events by one commit and return where they are. Raises JournalError: then none of them was stored."""
        with self._writing:
            if self._closed:
                raise JournalError(f"The journal {self.path} is closed: the bus stops.")
            # One statement is a transaction by itself: to begin and to end it costs as much again.
            is_one = len(events) == 1 and not events[0].id and events[0].topic in self._topics
            try:
                self._see_that_it_is_there()
                if is_one:
                    topic, record, at, _ = events[0]
                    head = self.head + 1
                    outcome = [Stored(head, self._lasts.get(topic, 0))]
                    rows = [(head, self._topics[topic], outcome[0].previous, at, record, 1)]
                    self._write.execute(_INSERT_ROW, rows[0])
                    lasts = {topic: head}
                else:
                    self._write.execute("BEGIN IMMEDIATE")
                    outcome, rows, lasts, head = self._append_all(events)
                    self._write.execute("COMMIT")
                self._took_in(head, lasts, rows)
            except (sqlite3.Error, OSError) as error:
                self._roll_back()
                raise journal_error(self.path, f"did not take {len(events)} events", error) from error
            except BaseException:  # of a signal, say: it may come anywhere, also behind the commit
                self._roll_back()
                raise
        return outcome

    def _append_all(self, events: Sequence[NewEvent]) -> tuple[list[Stored], list[_Row], dict[Topic, int], int]:
        """Number events and insert them, those in a row of one topic as one row. Within a transaction."""
        outcome: list[Stored] = []
        rows: list[_Row] = []
        ids: dict[str, Stored] = {}
        lasts: dict[Topic, int] = {}
        head = previous = self.head
        latest: Topic | None = None
        records: list[bytes] = []  # of the row at hand, with all that is to be known of it
        number = before = size = 0
        first = 0.0
        for topic, record, at, id in events:
            if id and (known := ids.get(id) or self._handed_off(id)) is not None:
                outcome.append(known._replace(is_new=False))
                continue
            size += len(record)
            if (
                topic is not latest
                or len(records) == MAX_EVENTS
                or size > MAX_SIZE
                or abs(at - first) > MAX_APART
                or id
            ):
                if latest is not None:
                    rows.append((head, number, before, first, joined(records), len(records)))
                    lasts[latest] = previous
                number = self._topics.get(topic) or self._add_topic(topic)
                latest, first, records = topic, at, []
                before = previous = lasts.get(topic) or self._lasts.get(topic, 0)
                size = MAX_SIZE + 1 if id else len(record)  # who has an id is found by it as a row
            records.append(record)
            head += 1
            outcome.append(stored := _new(Stored, (head, previous, True)))
            previous = head
            if id:
                ids[id] = stored
        if latest is not None:
            rows.append((head, number, before, first, joined(records), len(records)))
            lasts[latest] = previous
        self._write.executemany(_INSERT_ROW, rows)
        if ids:
            handed_off = [(id, stored.sequence) for id, stored in ids.items()]
            self._write.executemany("INSERT INTO handed_off VALUES (?, ?)", handed_off)
        return outcome, rows, lasts, head

    def last(self, topic: Topic) -> int:
        """Return the newest sequence of a topic; 0 where it has none."""
        return self._lasts.get(topic, 0)

    def topics(self, api: str) -> dict[Topic, int]:
        """Return all topics of an API with their newest sequences."""
        return {topic: last for topic, last in self._lasts.items() if topic.api == api}

    def all_topics(self) -> list[Topic]:
        """Return all topics."""
        return list(self._lasts)

    def page(self, topic: Topic, after: int, *, limit: int, max_bytes: int) -> Page:
        """Return what follows behind a sequence in a topic: at most so many events, and about so many bytes."""
        last = self._lasts.get(topic, 0)
        number = self._topics.get(topic)
        if number is None or after >= last:
            return Page([], max(after, last), False, 0)
        query = (
            "SELECT sequence, previous, count, record FROM events WHERE topic = ? AND sequence > ? ORDER BY sequence"
        )
        entries: list[Entry] = []
        size = 0
        more = False
        with self._reader() as read:
            for row in read.execute(query, (number, after)):
                for entry in entries_of(*row):
                    if entry.sequence > after:
                        size += len(entry.record)
                        if len(entries) == limit or (entries and size > max_bytes):
                            more = True
                            break
                        entries.append(entry)
                if more:
                    break
            trimmed = self._cut_behind(read, topic, number, after)
        # Where nothing is left, what is missing in front of the newest was trimmed.
        through = entries[-1].sequence if more else max(last, entries[-1].sequence if entries else 0)
        return Page(entries, through, more, trimmed)

    def history(
        self, api: str, event: str, *, start: float | None = None, stop: float | None = None, limit: int = 1000
    ) -> list[tuple[Topic, Entry]]:
        """Return the newest events of a name between two times (seconds since 1970), oldest first."""
        numbers = {
            n: topic for topic, n in list(self._topics.items()) if topic.api == api and event in ("*", topic.event)
        }
        if not numbers:
            return []
        query = (
            f"SELECT topic, sequence, previous, count, record FROM events WHERE topic IN "
            f"({','.join('?' * len(numbers))}) AND {_LATEST} >= ? AND {_EARLIEST} <= ? ORDER BY sequence DESC LIMIT ?"
        )
        arguments = (*numbers, -1e300 if start is None else start, 1e300 if stop is None else stop, limit)
        entries: list[tuple[Topic, Entry]] = []
        with self._reader() as read:
            for topic, *row in read.execute(query, arguments):
                entries += [(numbers[topic], entry) for entry in reversed(entries_of(*row))]
                if len(entries) >= limit:
                    break
        return entries[:limit][::-1]

    def kept(
        self, is_wanted: Callable[[Topic], bool], after: int, *, limit: int, max_bytes: int
    ) -> tuple[list[tuple[Topic, Entry]], int, bool]:
        """
        Return a page of the events behind a sequence, oldest first, of all topics that are wanted.

        Besides them: up to which sequence the journal was gone through, and whether it goes on behind that. One page
        goes through `MAX_EXAMINED` events at most, wanted or not: who reads on does so without holding anybody up.
        """
        topics = {number: topic for topic, number in list(self._topics.items()) if is_wanted(topic)}
        # Through the primary key: by the topics' index, SQLite would sort all that follows for each page.
        query = (
            "SELECT topic, sequence, previous, count, "
            f"CASE WHEN topic IN ({','.join(map(str, topics))}) THEN record END "
            "FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"
        )
        entries: list[tuple[Topic, Entry]] = []
        through, size, examined = after, 0, 0
        with self._reader() as read:
            for number, sequence, previous, count, data in read.execute(query, (after, MAX_EXAMINED)):
                for entry in () if data is None else entries_of(sequence, previous, count, data):
                    if entry.sequence > after:
                        size += len(entry.record)
                        if entries and (len(entries) >= limit or size > max_bytes):
                            return entries, through, True
                        entries.append((topics[number], entry))
                        through = entry.sequence
                examined += count
                through = sequence
                if examined >= MAX_EXAMINED:
                    break
        return entries, through, examined >= MAX_EXAMINED

    def position_before(self, topic: Topic, at: float) -> int:
        """
        Return the sequence of the newest event of a topic that is older than a time; 0 where there is none.

        Where events share a row it may be an older one by the 0.1 seconds that they may be apart: rather more is given.
        """
        number = self._topics.get(topic)
        query = f"SELECT max(sequence) FROM events WHERE topic = ? AND {_LATEST} < ?"
        with self._reader() as read:
            found = read.execute(query, (number, at)).fetchone()[0]
        return max(found or 0, self._floors.get(topic, 0))

    def find(self, is_it: Callable[[bytes], bool], api: str, event: str) -> tuple[Topic, int] | None:
        """Return topic and sequence of the event whose record is the one looked for; None where there is none."""
        query = "SELECT sequence, previous, count, record FROM events WHERE topic = ? ORDER BY sequence DESC"
        for topic, number in list(self._topics.items()):
            if (topic.api, topic.event) == (api, event):
                with self._reader() as read:
                    for row in read.execute(query, (number,)):
                        for entry in reversed(entries_of(*row)):
                            if is_it(entry.record):
                                return topic, entry.sequence
        return None

    def record(self, sequence: int) -> bytes | None:
        """Return the event of a sequence; None where it is not there (any more)."""
        with self._reader() as read:
            _, entries = _row_with(read, sequence)
        return next((bytes(entry.record) for entry in entries if entry.sequence == sequence), None)

    def topic_of(self, sequence: int) -> Topic | None:
        """Return the topic of the event of a sequence; None where it is not there (any more)."""
        with self._reader() as read:
            number, entries = _row_with(read, sequence)
        return self._names.get(number) if any(entry.sequence == sequence for entry in entries) else None

    def count_after(self, topic: Topic, sequence: int) -> int:
        """Return how many events of a topic are behind a sequence."""
        if sequence >= self._lasts.get(topic, 0):
            return 0
        # Of the row that has the sequence, what is behind it.
        query = "SELECT coalesce(sum(min(count, sequence - ?2)), 0) FROM events WHERE topic = ?1 AND sequence > ?2"
        with self._reader() as read:
            return int(read.execute(query, (self._topics[topic], sequence)).fetchone()[0])

    # Groups

    def groups(self) -> list[Group]:
        """Return the groups that events are kept for."""
        with self._reader() as read:
            return [_group(row) for row in read.execute("SELECT * FROM groups")]

    def save_group(self, group: Group) -> None:
        """Note a group, or what is new of it."""
        row = (group.api, group.name, json.dumps(group.events), group.created_at, group.last_seen, group.digest)
        self._change(("INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?, ?, ?)", [row]))

    def remove_group(self, api: str, name: str) -> None:
        """Forget a group, and how far it had come. What was set aside for it stays."""
        numbers = [(name, number) for topic, number in list(self._topics.items()) if topic.api == api]
        self._change(
            ("DELETE FROM groups WHERE api = ? AND name = ?", [(api, name)]),
            ("DELETE FROM held WHERE api = ? AND grp = ?", [(api, name)]),
            ("DELETE FROM cursors WHERE grp = ? AND topic = ?", numbers),
            ("DELETE FROM deliveries WHERE grp = ? AND topic = ?", numbers),
        )

    def cursors(self, api: str, group: str) -> dict[Topic, int]:
        """Return how far a group has come in the topics of an API."""
        with self._reader() as read:
            rows = read.execute("SELECT topic, sequence FROM cursors WHERE grp = ?", (group,)).fetchall()
        named = ((self._names[number], sequence) for number, sequence in rows)
        return {topic: sequence for topic, sequence in named if topic.api == api}

    def held(self, api: str, group: str) -> dict[int, int]:
        """Return the partitions that members had when the journal was last written, each with the epoch of that."""
        query = "SELECT partition, epoch FROM held WHERE api = ? AND grp = ?"
        with self._reader() as read:
            return dict(read.execute(query, (api, group)).fetchall())

    def last_of_epoch(self, topic: Topic, epoch: int) -> int:
        """Return the newest sequence that a topic had when an epoch ended; 0 where it had none."""
        query = "SELECT max(sequence) FROM events WHERE topic = ? AND sequence < ?"
        with self._reader() as read:
            found = read.execute(query, (self._topics.get(topic), (epoch + 1) << EPOCH_BITS)).fetchone()[0]
        return int(found or 0)

    def save(
        self,
        *,
        cursors: Iterable[tuple[str, Topic, int]] = (),
        held: Iterable[tuple[str, str, int, bool]] = (),
    ) -> None:
        """Note by one commit how far groups have come, and which partitions a member has (or nobody)."""
        moved = [(group, self._topics[topic], at) for group, topic, at in cursors if topic in self._topics]
        held = list(held)
        self._change(
            ("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", moved),
            ("DELETE FROM deliveries WHERE grp = ? AND topic = ? AND sequence <= ?", moved if self._failing else []),
            ("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", [(*row[:3], self.epoch) for row in held if row[3]]),
            ("DELETE FROM held WHERE api = ? AND grp = ? AND partition = ?", [row[:3] for row in held if not row[3]]),
        )

    # Redelivery

    def failing(self, group: str) -> dict[Topic, int]:
        """Return per topic the last event of which a delivery to this group is on record."""
        if not self._failing:
            return {}
        with self._reader() as read:
            query = "SELECT topic, max(sequence) FROM deliveries WHERE grp = ? GROUP BY topic"
            return {self._names[number]: sequence for number, sequence in read.execute(query, (group,))}

    def deliveries(self, group: str, topic: Topic, sequence: int) -> int:
        """Return how many deliveries of an event to a group are on record."""
        query = "SELECT number FROM deliveries WHERE grp = ? AND topic = ? AND sequence = ?"
        with self._reader() as read:
            found = read.execute(query, (group, self._topics.get(topic), sequence)).fetchone()
        return 0 if found is None else int(found[0])

    def count_delivery(self, group: str, topic: Topic, sequence: int, at_least: int) -> int:
        """Put one more delivery on record, before it begins, and return its number: `at_least` this one."""
        number = max(self.deliveries(group, topic, sequence), at_least - 1) + 1
        self._failing = True
        row = (group, self._topics[topic], sequence, number)
        self._change(("INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, ?)", [row]))
        return number

    def bury(self, group: str, topic: Topic, sequence: int, deliveries: int, error: str, at: float) -> bool:
        """Set an event aside for a group, with its record; return whether it is there (still)."""
        record = self.record(sequence)
        if record is None:
            return False
        row = (group, sequence, self._topics[topic], record, deliveries, error, at)
        self._change(("INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?)", [row]))
        return True

    def dead(self, group: str | None = None) -> list[Dead]:
        """Return what was set aside, for one group or for all, oldest first."""
        query = "SELECT grp, topic, sequence, record, deliveries, error, at FROM dead"
        with self._reader() as read:
            rows = read.execute(query + (" WHERE grp = ?" if group else "") + " ORDER BY at", (group,) if group else ())
            return [Dead(grp, self._names[topic], *rest) for grp, topic, *rest in rows]

    def count_dead(self, group: str) -> int:
        """Return how many events are set aside for a group."""
        with self._reader() as read:
            return int(read.execute("SELECT count(*) FROM dead WHERE grp = ?", (group,)).fetchone()[0])

    def is_dead(self, group: str, sequence: int) -> bool:
        """Return whether the event of a sequence was set aside for a group, and still is."""
        with self._reader() as read:
            found = read.execute("SELECT 1 FROM dead WHERE grp = ? AND sequence = ?", (group, sequence)).fetchone()
        return found is not None

    def take_dead(self, group: str, sequence: int) -> Dead | None:
        """Take out what was set aside, and return it; None where there is no such thing."""
        found = next((each for each in self.dead(group) if each.sequence == sequence), None)
        if found is not None:
            self._change(("DELETE FROM dead WHERE grp = ? AND sequence = ?", [(group, sequence)]))
        return found

    # Retention

    def lost(self) -> list[tuple[str, Topic, int, float]]:
        """Return what retention took from groups: group, topic, how many events, and when last."""
        with self._reader() as read:
            rows = read.execute("SELECT grp, topic, number, at FROM lost").fetchall()
        return [(group, self._names[topic], number, at) for group, topic, number, at in rows]

    def trim(
        self,
        *,
        now: float,
        min_age: float,
        max_events: int,
        max_bytes: int,
        owed: Mapping[Topic, Mapping[str, int]],
    ) -> list[tuple[str, Topic, int]]:
        """
        Delete what is older than `min_age` seconds and handled by all, and whatever is over a cap, oldest first.

        Args:
            now: seconds since 1970.
            min_age: seconds for which events are kept in any case, up to the caps.
            max_events, max_bytes: the caps.
            owed: per topic how far each group that is owed it has come. Topics that are not in it are too new for this.

        Returns:
            What groups lost: group, topic, how many events it had not handled.

        """
        for topic, groups in owed.items():
            handled = min(groups.values(), default=self._lasts.get(topic, 0))
            self._delete_old(topic, self._topics[topic], handled, now - min_age, now)
            if self._log_size > LARGE_WAL:
                self.checkpoint()
        lost: dict[tuple[str, Topic], int] = {}
        events, size = self.size
        while (events > max_events or size > max_bytes) and events:
            self._delete_oldest(
                min(CHUNK, max(1, events - max_events)) if events > max_events else CHUNK // 10, now, owed, lost
            )
            events, size = self.size
        self._note_size()
        return [(group, topic, count) for (group, topic), count in lost.items()]

    def is_drained(self) -> bool:
        """Return whether there is nothing left in it: no event (see `trim`), and none that was set aside."""
        with self._reader() as read:
            is_empty = read.execute("SELECT 1 FROM events LIMIT 1").fetchone() is None
        return is_empty and not self.dead()

    def checkpoint(self) -> None:
        """Write the write-ahead log back into the file; from a thread that may wait for the disk."""
        with self._keeping:
            size = self._log_size
            if self._closed or not size:
                return
            mode = "TRUNCATE" if size > LARGE_WAL else "PASSIVE"
            try:
                self._keep.execute(f"PRAGMA wal_checkpoint({mode})")
            except sqlite3.Error as error:
                raise journal_error(self.path, "was not written back", error) from error

    @property
    def _log_size(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_size
        except OSError:
            return 0

    # The end

    def close(self) -> None:
        """Close the file, and let others have the journal."""
        with self._writing, self._reading, self._keeping:
            if self._closed:
                return
            self._closed = True
            for connection in (self._keep, self._read, self._write):
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
            if self._lock_descriptor is not None:
                os.close(self._lock_descriptor)

    def delete(self) -> None:
        """Close and remove the file; the lock goes last. Once closed it may be somebody else's, and is left alone."""
        with self._writing, self._reading, self._keeping:
            if self._closed:
                return
            self._closed = True
            try:
                for connection in (self._keep, self._read, self._write):
                    connection.close()
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self.path}{suffix}").unlink(missing_ok=True)
                self.path.with_suffix(".lock").unlink(missing_ok=True)
            finally:
                if self._lock_descriptor is not None:
                    os.close(self._lock_descriptor)

    def pause(self, seconds: float) -> Callable[[], None]:
        """
        Have no thread be inside SQLite, and return what lets them go on: for a fork.

        SQLite has locks of its own that a child would inherit taken, and nobody there releases. Gives up after so many
        seconds for each.
        """
        taken = [lock for lock in (self._writing, self._reading, self._keeping) if lock.acquire(timeout=seconds)]

        def resume() -> None:
            for lock in taken:
                lock.release()

        return resume

    def abandon(self) -> None:
        """Let go of a journal that the parent of this forked process holds, without touching it."""
        # The lock belongs to the open file that both have: only our copy of the descriptor goes, the lock stays.
        # The connections are kept and not closed: closing them would take the parent's file for ours.
        if self._lock_descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._lock_descriptor)
            self._lock_descriptor = None

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
        elif version not in (1, VERSION) or write.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            write.execute("ROLLBACK")
            raise JournalError(
                f"The journal {self.path} is of version {version}, and this Lightbus knows version {VERSION}. "
                "It is left alone: run the version of Lightbus that wrote it, or one that is newer."
            )
        if version == 1:  # each event had a row of its own
            write.execute("ALTER TABLE events ADD COLUMN count INTEGER NOT NULL DEFAULT 1")
            write.execute("DROP INDEX by_topic")
            write.execute("CREATE INDEX by_topic ON events (topic, sequence, count)")
            write.execute(f"PRAGMA user_version={VERSION}")
        before = int(write.execute("SELECT value FROM about WHERE key = 'epoch'").fetchone()[0])
        epoch = min(max(before + 1, int(time.time() / EPOCH_UNIT)), MAX_EPOCH)
        write.execute("UPDATE about SET value = ? WHERE key = 'epoch'", (str(epoch),))
        self._failing = write.execute("SELECT 1 FROM deliveries LIMIT 1").fetchone() is not None
        count, size, through = write.execute("SELECT * FROM size").fetchone()
        new_count, new_size = write.execute(_SIZE_BEHIND, (through,)).fetchone()
        self.size = (count + new_count, size + new_size)
        self.head = self._size_noted_at = epoch << EPOCH_BITS
        write.execute("UPDATE size SET count = ?, bytes = ?, through = ?", (*self.size, self.head))
        write.execute("COMMIT")
        self.epoch = epoch

    def _load_topics(self) -> None:
        lasts: dict[Topic, int] = {}
        for number, api, event, partition, floor in self._write.execute("SELECT * FROM topics").fetchall():
            topic = Topic(api, event, partition)
            self._topics[topic], self._names[number], self._floors[topic] = number, topic, floor
            # One look-up in the index each; grouping would read all of it.
            query = "SELECT max(sequence) FROM events WHERE topic = ?"
            lasts[topic] = max(floor, self._write.execute(query, (number,)).fetchone()[0] or 0)
        self._lasts = lasts

    def _add_topic(self, topic: Topic) -> int:
        cursor = self._write.execute("INSERT INTO topics (api, event, partition) VALUES (?, ?, ?)", topic)
        number = int(cursor.lastrowid or 0)
        self._added.append(topic)
        self._topics[topic], self._names[number] = number, topic
        return number

    def _see_that_it_is_there(self) -> None:
        """Raise FileNotFoundError where the file was removed: SQLite would go on writing what nobody can read again."""
        if os.stat(self.path).st_ino != self._inode:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))

    def _took_in(self, head: int, lasts: dict[Topic, int], rows: list[_Row]) -> None:
        self.head = head
        count, size = self.size
        self.size = (count + sum([row[5] for row in rows]), size + sum([size_of(row[4], row[5]) for row in rows]))
        if self._added:
            self._added.clear()
            self._lasts = {**self._lasts, **lasts}  # others iterate over it
        else:
            self._lasts.update(lasts)

    def _roll_back(self) -> None:
        """Undo what is under way. Where it was on disk already, and only not noted by us, it is noted now."""
        with contextlib.suppress(sqlite3.Error):
            self._write.execute("ROLLBACK")
        for topic in self._added:
            self._names.pop(self._topics.pop(topic), None)
        self._added.clear()
        with contextlib.suppress(sqlite3.Error):
            count, size = self._write.execute(_SIZE_BEHIND, (self.head,)).fetchone()
            if count:
                self.size = (self.size[0] + count, self.size[1] + size)
                self.head = self._write.execute("SELECT max(sequence) FROM events").fetchone()[0]
            self._load_topics()

    def _handed_off(self, id: str) -> Stored | None:
        found = self._write.execute("SELECT sequence FROM handed_off WHERE id = ?", (id,)).fetchone()
        if found is None:
            return None
        row = self._write.execute("SELECT previous FROM events WHERE sequence = ?", found).fetchone()
        return Stored(found[0], 0 if row is None else row[0])

    def _change(self, *changes: tuple[str, Sequence[tuple[Any, ...]]]) -> None:
        """Carry out statements, each for all of its rows, by one commit."""
        changes = tuple(change for change in changes if change[1])
        if not changes:
            return
        with self._writing:
            self._commit(changes)

    def _commit(self, changes: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
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

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with self._reading:
            if self._closed:
                raise JournalError(f"The journal {self.path} is closed: the bus stops.")
            try:
                yield self._read
            except DAMAGED as error:
                raise journal_error(self.path, "cannot be read", error) from error

    def _cut_behind(self, read: sqlite3.Connection, topic: Topic, number: int, after: int) -> int:
        if after >= self._floors.get(topic, 0):
            return 0
        query = "SELECT coalesce(sum(number), 0) FROM cuts WHERE topic = ? AND through > ?"
        return int(read.execute(query, (number, after)).fetchone()[0])

    def _delete_old(self, topic: Topic, number: int, handled: int, before: float, now: float) -> None:
        # The last row may have events that were handled, and such that were not.
        query = (
            f"SELECT sequence, count, {_SIZE}, {_LATEST}, previous, CASE WHEN sequence > ?2 THEN record END "
            f"FROM events WHERE topic = ?1 AND sequence < ?2 + {MAX_EVENTS} AND sequence - count < ?2 ORDER BY sequence"
        )
        while True:
            gone = Gone()
            goes_on = False
            with self._reader() as read:
                for sequence, count, size, at, previous, data in read.execute(query, (number, handled)):
                    # The first that is too young ends it, so that the young are not all looked at each time. One from
                    # the future does not: a clock was wrong.
                    if at < before and data is None:
                        gone.row(sequence, count, size)
                    elif at < before:
                        gone.part(entries_of(sequence, previous, count, data), handled)
                    elif at <= now:
                        break
                    if len(gone.rows) == CHUNK or gone.size >= CHUNK_BYTES:
                        goes_on = True
                        break
            if gone.count:
                self._delete(gone, {topic: gone.through})
            if not goes_on:
                return

    def _delete_oldest(
        self,
        count: int,
        now: float,
        owed: Mapping[Topic, Mapping[str, int]],
        lost: dict[tuple[str, Topic], int],
    ) -> None:
        query = f"SELECT topic, sequence, count, {_SIZE} FROM events ORDER BY sequence LIMIT ?"
        gone = Gone()
        floors: dict[Topic, int] = {}
        cuts: dict[Topic, int] = {}
        losses: dict[tuple[str, Topic], int] = {}
        with self._reader() as read:
            for number, sequence, events, size in read.execute(query, (count,)).fetchall():
                spared = max(0, events - (count - gone.count))
                if spared:
                    gone.part(_row_with(read, sequence)[1], sequence - spared)
                else:
                    gone.row(sequence, events, size)
                topic = self._names[number]
                floors[topic] = gone.through
                most = 0
                for group, handled in owed.get(topic, {}).items():
                    if (missed := min(events - spared, gone.through - handled)) > 0:
                        losses[group, topic] = losses.get((group, topic), 0) + missed
                        most = max(most, missed)
                cuts[topic] = cuts.get(topic, 0) + most
                if gone.count == count:
                    break
        cut = [(self._topics[topic], floors[topic], number) for topic, number in cuts.items() if number]
        self._delete(
            gone,
            floors,
            (
                "INSERT INTO lost VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET number = number + ?3, at = ?4",
                [(group, self._topics[topic], number, now) for (group, topic), number in losses.items()],
            ),
            (_INSERT_CUT, cut),
            (_JOIN_OLDEST_CUTS, [row[:1] for row in cut]),
            (_DELETE_OLDEST_CUT, [row[:1] for row in cut]),
        )
        for name, number in losses.items():
            lost[name] = lost.get(name, 0) + number

    def _delete(
        self,
        gone: Gone,
        floors: dict[Topic, int],
        *more: tuple[str, Sequence[tuple[Any, ...]]],
    ) -> None:
        with self._writing:
            size = (self.size[0] - gone.count, self.size[1] - gone.size)
            self._commit(
                (
                    ("DELETE FROM events WHERE sequence = ?", gone.rows),
                    ("DELETE FROM handed_off WHERE sequence = ?", gone.rows),
                    ("UPDATE events SET previous = ?, record = ?, count = ? WHERE sequence = ?", gone.shortened),
                    (
                        "UPDATE topics SET floor = ? WHERE id = ?",
                        [(at, self._topics[topic]) for topic, at in floors.items()],
                    ),
                    ("UPDATE size SET count = ?, bytes = ?, through = ?", [(*size, self.head)]),
                    *more,
                )
            )
            self.size = size
            self._floors.update(floors)

    def _note_size(self) -> None:
        """Have it on disk, so that the next opening counts only what comes from now on."""
        with self._writing, contextlib.suppress(JournalError):
            if self.head != self._size_noted_at:
                self._commit((("UPDATE size SET count = ?, bytes = ?, through = ?", [(*self.size, self.head)]),))
                self._size_noted_at = self.head


def _row_with(read: sqlite3.Connection, sequence: int) -> tuple[int, list[Entry]]:
    """Return the topic's number and the events of the row that has the event of a sequence, if one has it."""
    query = "SELECT topic, sequence, previous, count, record FROM events WHERE sequence >= ? ORDER BY sequence LIMIT 1"
    found = read.execute(query, (sequence,)).fetchone()
    return (0, []) if found is None else (found[0], entries_of(*found[1:]))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except BaseException:  # also what a damaged name raises: UnicodeDecodeError
        connection.close()
        raise
    return connection


def _group(row: tuple[Any, ...]) -> Group:
    api, name, events, created_at, last_seen, digest = row
    return Group(api, name, tuple(json.loads(events)), created_at, last_seen, digest)
