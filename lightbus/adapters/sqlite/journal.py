"""The journal: one SQLite file that holds the events of one publishing process until every group has handled them.

It knows nothing of sockets, and of an event no more than its topic, its time and its bytes. Who holds which journal is
the matter of `journal_directory.py`. Sequences count up over the whole journal and begin anew, higher, each time it is
opened: what a power cut may have taken is never numbered twice.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

from ...exceptions import JournalError
from ..host.locks import JournalLock
from .cursor_table import CursorTable
from .dead_letters import DeadLetters
from .deliveries import Deliveries
from .group_table import GroupTable
from .journal_errors import journal_error
from .journal_file import JournalFile, Row
from .journal_history import JournalHistory
from .retention import Retention
from .rows import MAX_APART, MAX_EVENTS, MAX_SIZE, JournalEntry, entries_of, joined, portions
from .topic import Topic

__all__ = ["Journal", "JournalEntry", "NewEvent", "Run", "Stored", "Topic", "TopicPage"]

logger = logging.getLogger("lightbus.journal")

T = TypeVar("T")

TOLD_FOR = 600.0
"""Seconds for which it is told why events were not taken, where none was fired since: the reason may be gone."""

_new = tuple.__new__  # makes a NamedTuple of its fields in half the time

_INSERT_ROW = "INSERT INTO events (sequence, topic, previous, at, record, count, seen) VALUES (?, ?, ?, ?, ?, ?, ?)"


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


Run: TypeAlias = tuple[Topic, float, list[bytes]]
"""Events of one topic that were fired together: their records, at least one, and when that was."""

_Numbered: TypeAlias = tuple[list[Stored], list[Row], dict[Topic, int], int]
"""What was inserted: where it is, the rows, the newest of each topic, and the newest of all."""


class TopicPage(NamedTuple):
    """
    A part of a topic.

    Attributes:
        entries: the events, in order.
        through: everything of the topic up to this sequence has been given.
        more: whether there is more behind it.
        trimmed: about how many events in front of it were deleted before somebody had handled them.

    """

    entries: list[JournalEntry]
    through: int
    more: bool
    trimmed: int


class Journal(JournalFile):
    """
    One journal, held by this process. Any thread may use it: writers wait for each other, readers do not wait for them.

    Attributes:
        history: what it has of the past.
        groups: the groups that events are kept for.
        cursors: how far these have come.
        deliveries: how often these were given events that somebody may have begun before.
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
        self.history = JournalHistory(self)
        self.groups = GroupTable(self)
        self.cursors = CursorTable(self)
        self.dead_letters = DeadLetters(self)
        self.deliveries = Deliveries(self)
        self.retention = Retention(self)
        self._refusal = -1, 0.0, ""
        """The newest sequence when events were last not taken, when that was, and why."""

    @property
    def refusal(self) -> str:
        """Why the latest events were not taken, where that was lately; empty where others were taken since."""
        head, at, why = self._refusal
        ago = time.monotonic() - at
        return f"The latest attempt, {ago:.0f} s ago, failed: {why}" if head == self.head and ago < TOLD_FOR else ""

    # Events

    def append(self, events: Sequence[NewEvent]) -> list[Stored]:
        """Store events by one commit and return where they are. Raises JournalError: then none of them was stored."""
        return self._append(self._append_events, events, len(events))

    def append_runs(self, runs: Sequence[Run]) -> list[Stored]:
        """Store events by one commit, those of a topic in a row; return where the first of each run is. Likewise."""
        return self._append(self._append_all_runs, runs, sum([len(run[2]) for run in runs]))

    def _append(self, insert: Callable[[Sequence[T]], _Numbered], what: Sequence[T], count: int) -> list[Stored]:
        with self.writing:
            if self._closed:
                raise JournalError(f"The journal {self.path} is closed: the bus stops.")
            try:
                self._files.check()
                outcome, rows, lasts, head = insert(what)
                self._took_in(head, lasts, rows)
            except (sqlite3.Error, OSError) as error:
                self._roll_back()
                refusal = journal_error(self.path, f"did not take {count} events", error)
                self._refusal = self.head, time.monotonic(), str(refusal)
                raise refusal from error
            except BaseException:  # of a signal, say: it may come anywhere, also behind the commit
                self._roll_back()
                raise
        return outcome

    def _append_events(self, events: Sequence[NewEvent]) -> _Numbered:
        if len(events) == 1:
            [(topic, record, at, id)] = events
            number = self.topics.numbers.get(topic)
            if number is not None and not id:
                # One statement is a transaction by itself: to begin and to end it costs as much again.
                head, previous = self.head + 1, self.topics.lasts.get(topic, 0)
                row = (head, number, previous, at, record, 1, self.clock.now())
                self._write.execute(_INSERT_ROW, row)
                return [_new(Stored, (head, previous, True))], [row], {topic: head}, head
        self._write.execute("BEGIN IMMEDIATE")
        numbered = self._append_all(events)
        self._write.execute("COMMIT")
        return numbered

    def _append_all_runs(self, runs: Sequence[Run]) -> _Numbered:
        self._write.execute("BEGIN IMMEDIATE")
        topics, head, seen = self.topics, self.head, self.clock.now()
        firsts: list[Stored] = []
        rows: list[Row] = []
        lasts: dict[Topic, int] = {}
        for topic, at, records in runs:
            number = topics.numbers.get(topic) or topics.add(topic, self._write)
            previous = lasts.get(topic) or topics.lasts.get(topic, 0)
            firsts.append(_new(Stored, (head + 1, previous, True)))
            for portion in portions(records):
                head += len(portion)
                rows.append((head, number, previous, at, joined(portion), len(portion), seen))
                previous = head
            lasts[topic] = head
        self._write.executemany(_INSERT_ROW, rows)
        self._write.execute("COMMIT")
        return firsts, rows, lasts, head

    def _append_all(self, events: Sequence[NewEvent]) -> _Numbered:
        """Number events and insert them, those in a row of one topic as one row. Within a transaction."""
        outcome: list[Stored] = []
        rows: list[Row] = []
        ids: dict[str, Stored] = {}
        lasts: dict[Topic, int] = {}
        head = previous = self.head
        latest: Topic | None = None
        records: list[bytes] = []  # of the row at hand, with all that is to be known of it
        number = before = size = 0
        first, seen = 0.0, self.clock.now()
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
                number = self.topics.numbers.get(topic) or self.topics.add(topic, self._write)
                latest, first, records = topic, at, []
                before = previous = lasts.get(topic) or self.topics.lasts.get(topic, 0)
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

    def page(self, topic: Topic, after: int, *, limit: int, max_bytes: int) -> TopicPage:
        """Return what follows behind a sequence in a topic: at most so many events, and about so many bytes."""
        last = self.topics.lasts.get(topic, 0)
        number = self.topics.numbers.get(topic)
        if number is None or after >= last:
            return TopicPage([], max(after, last), False, 0)
        query = (
            "SELECT sequence, previous, count, record FROM events WHERE topic = ? AND sequence > ? ORDER BY sequence"
        )
        entries: list[JournalEntry] = []
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
        return TopicPage(entries, through, more, trimmed)

    def count_after(self, topic: Topic, sequence: int) -> int:
        """Return how many events of a topic are behind a sequence."""
        if sequence >= self.topics.lasts.get(topic, 0):
            return 0
        # Of the row that has the sequence, what is behind it.
        query = "SELECT coalesce(sum(min(count, sequence - ?2)), 0) FROM events WHERE topic = ?1 AND sequence > ?2"
        with self.slow_reader() as read:
            return int(read.execute(query, (self.topics.numbers[topic], sequence)).fetchone()[0])

    # Inside

    def _handed_off(self, id: str) -> Stored | None:
        found = self._write.execute("SELECT sequence FROM handed_off WHERE id = ?", (id,)).fetchone()
        if found is None:
            return None
        row = self._write.execute("SELECT previous FROM events WHERE sequence = ?", found).fetchone()
        return Stored(found[0], 0 if row is None else row[0])

    def _cut_behind(self, read: sqlite3.Connection, topic: Topic, number: int, after: int) -> int:
        if after >= self.topics.floors.get(topic, 0):
            return 0
        query = "SELECT coalesce(sum(number), 0) FROM cuts WHERE topic = ? AND through > ?"
        return int(read.execute(query, (number, after)).fetchone()[0])
