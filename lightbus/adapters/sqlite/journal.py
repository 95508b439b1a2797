"""The journal: one SQLite file that holds the events of one publishing process until every group has handled them.

It knows nothing of sockets, and of an event no more than its topic, its time and its bytes. Who holds which journal is
the matter of `journals.py`. Sequences count up over the whole journal and begin anew, higher, each time it is opened:
what a power cut may have taken is never numbered twice.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...exceptions import JournalError
from ..host.locks import JournalLock
from .dead_letters import DeadLetters
from .deliveries import Deliveries
from .journal_file import EPOCH_BITS, JournalFile, Row, Topic, journal_error
from .retention import Retention
from .rows import MAX_APART, MAX_EVENTS, MAX_SIZE, Entry, entries_of, joined

__all__ = ["Entry", "Group", "Journal", "NewEvent", "Page", "Stored", "Topic", "group_of_row"]

logger = logging.getLogger("lightbus.journal")

MAX_EXAMINED = 5000
"""Events that one page of all topics goes through: a few milliseconds."""

MAX_HISTORY_ROWS = 200
"""Rows that are read at a time for a history."""

_new = tuple.__new__  # makes a NamedTuple of its fields in half the time

_INSERT_ROW = "INSERT INTO events (sequence, topic, previous, at, record, count, seen) VALUES (?, ?, ?, ?, ?, ?, ?)"
_LATEST = f"(at + {MAX_APART} * (count > 1))"
_EARLIEST = f"(at - {MAX_APART} * (count > 1))"
"""When an event of a row may have been fired at the latest, and at the earliest."""


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
    """
    A consumer group of an API, as the journals remember it.

    Its times are moments of the machine's time (`machine_time`), and less than 0 where they were before its start: the
    time of day may be put right at any time.
    """

    api: str
    name: str
    events: tuple[str, ...]
    created_at: float
    last_seen: float
    digest: str


class Journal(JournalFile):
    """
    One journal, held by this process. Any thread may use it: writers wait for each other, readers do not wait for them.

    Attributes:
        dead_letters: the dead letters in it.
        retention: what deletes from it.

    Its arguments and errors are those of `JournalFile`.

    """

    def __init__(
        self,
        path: Path,
        *,
        durability: str = "process",
        lock: JournalLock | None = None,
        new: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, durability=durability, lock=lock, new=new)
        self.dead_letters = DeadLetters(self)
        self.deliveries = Deliveries(self)
        self.retention = Retention(self)

    # Events

    def append(self, events: Sequence[NewEvent]) -> list[Stored]:
        """Store events by one commit and return where they are. Raises JournalError: then none of them was stored."""
        with self.writing:
            if self._closed:
                raise JournalError(f"The journal {self.path} is closed: the bus stops.")
            # One statement is a transaction by itself: to begin and to end it costs as much again.
            is_one = len(events) == 1 and not events[0].id and events[0].topic in self.numbers
            try:
                self._see_that_it_is_there()
                if is_one:
                    topic, record, at, _ = events[0]
                    head = self.head + 1
                    outcome = [Stored(head, self.lasts.get(topic, 0))]
                    rows = [(head, self.numbers[topic], outcome[0].previous, at, record, 1, self.time())]
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

    def _append_all(self, events: Sequence[NewEvent]) -> tuple[list[Stored], list[Row], dict[Topic, int], int]:
        """Number events and insert them, those in a row of one topic as one row. Within a transaction."""
        outcome: list[Stored] = []
        rows: list[Row] = []
        ids: dict[str, Stored] = {}
        lasts: dict[Topic, int] = {}
        head = previous = self.head
        latest: Topic | None = None
        records: list[bytes] = []  # of the row at hand, with all that is to be known of it
        number = before = size = 0
        first, seen = 0.0, self.time()
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
                    rows.append((head, number, before, first, joined(records), len(records), seen))
                    lasts[latest] = previous
                number = self.numbers.get(topic) or self._add_topic(topic)
                latest, first, records = topic, at, []
                before = previous = lasts.get(topic) or self.lasts.get(topic, 0)
                size = MAX_SIZE + 1 if id else len(record)  # who has an id is found by it as a row
            records.append(record)
            head += 1
            outcome.append(stored := _new(Stored, (head, previous, True)))
            previous = head
            if id:
                ids[id] = stored
        if latest is not None:
            rows.append((head, number, before, first, joined(records), len(records), seen))
            lasts[latest] = previous
        self._write.executemany(_INSERT_ROW, rows)
        if ids:
            handed_off = [(id, stored.sequence) for id, stored in ids.items()]
            self._write.executemany("INSERT INTO handed_off VALUES (?, ?)", handed_off)
        return outcome, rows, lasts, head

    def last(self, topic: Topic) -> int:
        """Return the newest sequence of a topic; 0 where it has none."""
        return self.lasts.get(topic, 0)

    def topics(self, api: str) -> dict[Topic, int]:
        """Return all topics of an API with their newest sequences."""
        return {topic: last for topic, last in self.lasts.items() if topic.api == api}

    def page(self, topic: Topic, after: int, *, limit: int, max_bytes: int) -> Page:
        """Return what follows behind a sequence in a topic: at most so many events, and about so many bytes."""
        last = self.lasts.get(topic, 0)
        number = self.numbers.get(topic)
        if number is None or after >= last:
            return Page([], max(after, last), False, 0)
        query = (
            "SELECT sequence, previous, count, record FROM events WHERE topic = ? AND sequence > ? ORDER BY sequence"
        )
        entries: list[Entry] = []
        size = 0
        more = False
        with self.reader() as read:
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
            n: topic for topic, n in list(self.numbers.items()) if topic.api == api and event in ("*", topic.event)
        }
        lower, upper = -1e300 if start is None else start, 1e300 if stop is None else stop
        entries: list[tuple[Topic, Entry]] = []
        before: int | None = self.head + 1 if numbers else None
        while before is not None and len(entries) < limit:
            rows, before = self._rows_before(before, numbers, lower, upper)
            for number, *row in rows:
                entries += [(numbers[number], entry) for entry in reversed(entries_of(*row))]
        return entries[:limit][::-1]

    def _rows_before(
        self, before: int, topics: Container[int], start: float, stop: float
    ) -> tuple[list[tuple[Any, ...]], int | None]:
        """
        Return those rows of topics, of the latest `MAX_EXAMINED` in front of a sequence, that may be of a time.

        And in front of which sequence it goes on: None where it does not. So nobody else who reads waits for long.
        """
        query = (
            f"SELECT sequence, topic, {_LATEST} >= ?2 AND {_EARLIEST} <= ?3 FROM events WHERE sequence < ?1 "
            "ORDER BY sequence DESC LIMIT ?4"
        )
        with self.slow_reader() as read:
            examined = read.execute(query, (before, start, stop, MAX_EXAMINED)).fetchall()
            wanted = [sequence for sequence, topic, is_of_time in examined if is_of_time and topic in topics]
            query = "SELECT topic, sequence, previous, count, record FROM events WHERE sequence = ?"
            rows = [read.execute(query, (sequence,)).fetchone() for sequence in wanted[:MAX_HISTORY_ROWS]]
        if len(wanted) > MAX_HISTORY_ROWS:
            return rows, int(wanted[MAX_HISTORY_ROWS - 1])
        return rows, int(examined[-1][0]) if len(examined) == MAX_EXAMINED else None

    def kept(
        self, is_wanted: Callable[[Topic], bool], after: int, *, limit: int, max_bytes: int
    ) -> tuple[list[tuple[Topic, Entry]], int, bool]:
        """
        Return a page of the events behind a sequence, oldest first, of all topics that are wanted.

        Besides them: up to which sequence the journal was gone through, and whether it goes on behind that. One page
        goes through `MAX_EXAMINED` events at most, wanted or not: who reads on does so without holding anybody up.
        """
        topics = {number: topic for topic, number in list(self.numbers.items()) if is_wanted(topic)}
        # Through the primary key: by the topics' index, SQLite would sort all that follows for each page.
        query = (
            "SELECT topic, sequence, previous, count, "
            f"CASE WHEN topic IN ({','.join(map(str, topics))}) THEN record END "
            "FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"
        )
        entries: list[tuple[Topic, Entry]] = []
        through, size, examined = after, 0, 0
        with self.slow_reader() as read:
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
        Return the sequence of the newest event of a topic that is older than a time of day; 0 where there is none.

        From a thread: times of day are in no order, so all of the topic is gone through where none is as old.
        Where events share a row it may be an older one by the 0.1 seconds that they may be apart: rather more is given.
        """
        number = self.numbers.get(topic)
        query = f"SELECT max(sequence) FROM events WHERE topic = ? AND {_LATEST} < ?"
        with self.slow_reader() as read:
            found = read.execute(query, (number, at)).fetchone()[0]
        return max(found or 0, self.floors.get(topic, 0))

    def position_since(self, topic: Topic, at: float) -> int:
        """Return the sequence of the newest event of a topic that was stored before a moment of the machine's time."""
        number, moment = self.numbers.get(topic), at + self.offset
        query = "SELECT sequence, seen FROM events WHERE topic = ? AND sequence <= ? ORDER BY sequence DESC LIMIT 1"
        found, low, high = 0, 0, self.lasts.get(topic, 0)
        with self.reader() as read:
            # The journal's own time never goes back: what is not up to `low`, and not behind `high`, is halved.
            middle = high
            while low < high:
                row = read.execute(query, (number, middle)).fetchone()
                if row is None or row[0] <= low:
                    low = middle
                elif row[1] < moment:
                    low, found = middle, int(row[0])
                else:
                    high = int(row[0]) - 1
                middle = (low + high + 1) // 2
        return max(found, self.floors.get(topic, 0))

    def find(self, is_it: Callable[[bytes], bool], within: bytes, api: str) -> tuple[Topic, int] | None:
        """
        Return topic and sequence of an event, the latest that is it; None where there is none. From a thread.

        Args:
            is_it: whether a record is the one that is looked for.
            within: bytes that such a record has: what has not got them is passed over without being read.
            api: whose event it is.

        """
        topics = {number: topic for topic, number in list(self.numbers.items()) if topic.api == api}
        before: int | None = self.head + 1 if topics else None
        while before is not None:
            rows, before = self._rows_with(before, topics, within)
            for number, *row in rows:
                for entry in reversed(entries_of(*row)):
                    if is_it(entry.record):
                        return topics[number], entry.sequence
        return None

    def _rows_with(
        self, before: int, topics: Container[int], within: bytes
    ) -> tuple[list[tuple[Any, ...]], int | None]:
        """Return those rows of topics that have some bytes, as `_rows_before` does those of a time."""
        query = (
            "SELECT topic, sequence, previous, count, CASE WHEN instr(record, ?2) THEN record END FROM events "
            "WHERE sequence < ?1 ORDER BY sequence DESC LIMIT ?3"
        )
        with self.slow_reader() as read:
            examined = read.execute(query, (before, within, MAX_EXAMINED)).fetchall()
        rows = [row for row in examined if row[4] is not None and row[0] in topics]
        return rows, int(examined[-1][1]) if len(examined) == MAX_EXAMINED else None

    def count_after(self, topic: Topic, sequence: int) -> int:
        """Return how many events of a topic are behind a sequence."""
        if sequence >= self.lasts.get(topic, 0):
            return 0
        # Of the row that has the sequence, what is behind it.
        query = "SELECT coalesce(sum(min(count, sequence - ?2)), 0) FROM events WHERE topic = ?1 AND sequence > ?2"
        with self.slow_reader() as read:
            return int(read.execute(query, (self.numbers[topic], sequence)).fetchone()[0])

    # Groups

    def groups(self) -> list[Group]:
        """Return the groups that events are kept for."""
        with self.reader() as read:
            return [group_of_row(row, self.offset) for row in read.execute("SELECT * FROM groups")]

    def save_group(self, group: Group) -> None:
        """Note a group, or what is new of it."""
        times = group.created_at + self.offset, group.last_seen + self.offset
        row = (group.api, group.name, json.dumps(group.events), *times, group.digest)
        self.change(("INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?, ?, ?)", [row]))

    def remove_group(self, api: str, name: str) -> None:
        """Forget a group, and how far it had come. Its dead letters stay."""
        numbers = [(name, number) for topic, number in list(self.numbers.items()) if topic.api == api]
        self.change(
            ("DELETE FROM groups WHERE api = ? AND name = ?", [(api, name)]),
            ("DELETE FROM held WHERE api = ? AND grp = ?", [(api, name)]),
            ("DELETE FROM cursors WHERE grp = ? AND topic = ?", numbers),
            ("DELETE FROM deliveries WHERE grp = ? AND topic = ?", numbers),
            ("DELETE FROM starts WHERE grp = ? AND topic = ?", numbers),
        )

    def cursors(self, api: str, group: str) -> dict[Topic, int]:
        """Return how far a group has come in the topics of an API."""
        with self.reader() as read:
            rows = read.execute("SELECT topic, sequence FROM cursors WHERE grp = ?", (group,)).fetchall()
        named = ((self.names[number], sequence) for number, sequence in rows)
        return {topic: sequence for topic, sequence in named if topic.api == api}

    def held(self, api: str, group: str) -> dict[int, int]:
        """Return the partitions that members had when the journal was last written, each with the epoch of that."""
        query = "SELECT partition, epoch FROM held WHERE api = ? AND grp = ?"
        with self.reader() as read:
            return dict(read.execute(query, (api, group)).fetchall())

    def last_of_epoch(self, topic: Topic, epoch: int) -> int:
        """Return the newest sequence that a topic had when an epoch ended; 0 where it had none."""
        query = "SELECT max(sequence) FROM events WHERE topic = ? AND sequence < ?"
        with self.reader() as read:
            found = read.execute(query, (self.numbers.get(topic), (epoch + 1) << EPOCH_BITS)).fetchone()[0]
        return int(found or 0)

    def save(
        self,
        *,
        cursors: Iterable[tuple[str, Topic, int]] = (),
        held: Iterable[tuple[str, str, int, bool]] = (),
    ) -> None:
        """Note by one commit how far groups have come, and which partitions a member has (or nobody)."""
        moved = [(group, self.numbers[topic], at) for group, topic, at in cursors if topic in self.numbers]
        held = list(held)
        counted = moved if self.has_deliveries else []
        self.change(
            ("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", moved),
            (
                "DELETE FROM deliveries WHERE grp = ? AND topic = ? AND sequence <= ?",
                counted,
            ),
            ("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", [(*row[:3], self.epoch) for row in held if row[3]]),
            ("DELETE FROM held WHERE api = ? AND grp = ? AND partition = ?", [row[:3] for row in held if not row[3]]),
        )

    # Inside

    def _handed_off(self, id: str) -> Stored | None:
        found = self._write.execute("SELECT sequence FROM handed_off WHERE id = ?", (id,)).fetchone()
        if found is None:
            return None
        row = self._write.execute("SELECT previous FROM events WHERE sequence = ?", found).fetchone()
        return Stored(found[0], 0 if row is None else row[0])

    def _cut_behind(self, read: sqlite3.Connection, topic: Topic, number: int, after: int) -> int:
        if after >= self.floors.get(topic, 0):
            return 0
        query = "SELECT coalesce(sum(number), 0) FROM cuts WHERE topic = ? AND through > ?"
        return int(read.execute(query, (number, after)).fetchone()[0])


def group_of_row(row: tuple[Any, ...], offset: float) -> Group:
    """Return a group as the table `groups` has it, of a journal whose time is so much ahead of the machine's."""
    api, name, events, created_at, last_seen, digest = row
    times = round(created_at - offset, 6), round(last_seen - offset, 6)
    return Group(api, name, tuple(json.loads(events)), *times, digest)
