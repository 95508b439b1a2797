"""The journal: one SQLite file that holds the events of one publishing process until every group has handled them.

The journal knows nothing of sockets, and of an event only its topic, its time and its bytes. `journal_directory.py`
decides which process holds which journal. Sequences count up over the whole journal and start at a new, higher number
each time the journal is opened: the number of an event that a power cut may have destroyed is never used again.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from ...exceptions import JournalError
from ..host.locks import JournalLock
from .cursor_table import CursorTable
from .dead_letters import DeadLetters
from .deliveries import Deliveries
from .group_table import GroupTable
from .journal_errors import journal_error
from .journal_file import JournalFile, JournalRow
from .journal_history import JournalHistory
from .noted_events import LARGEST
from .retention import Retention
from .rows import MAX_APART, JournalEntry, entries_of, joined, portions
from .topic import Topic

__all__ = ["Journal", "JournalEntry", "NewEvent", "Run", "Stored", "Topic", "TopicPage"]

logger = logging.getLogger("lightbus.journal")

TOLD_FOR = 600.0
"""Seconds for which the reason of a failed write is reported when none has succeeded since: it may be outdated."""

_new = tuple.__new__  # makes a NamedTuple of its fields in half the time

_INSERT_ROW = "INSERT INTO events (sequence, topic, previous, at, record, count, seen) VALUES (?, ?, ?, ?, ?, ?, ?)"


class NewEvent(NamedTuple):
    """An event to store. Events handed off by another process have an `id`: one id is stored only once."""

    topic: Topic
    record: bytes
    at: float
    id: str = ""


class Stored(NamedTuple):
    """The sequence of a stored event, and of the event before it in its topic. `is_new` is false for a known id."""

    sequence: int
    previous: int
    is_new: bool = True


class Run(NamedTuple):
    """
    Events of one topic that were fired together: their records, at least one, and the time of day.

    An event that another process handed off has an `id` and is a run of its own: one id is stored only once.
    """

    topic: Topic
    at: float
    records: list[bytes]
    id: str = ""


_Numbered: TypeAlias = tuple[list[Stored], list[JournalRow], dict[Topic, int], int]
"""What was inserted: the first event of each run, the rows, the newest sequence of each topic and of the journal."""


class TopicPage(NamedTuple):
    """
    A part of a topic.

    Attributes:
        entries: the events, in order.
        through: this page and those before it cover the topic up to this sequence.
        more: whether events follow after it.
        trimmed: about how many events before it were deleted though some group had not handled them.

    """

    entries: list[JournalEntry]
    through: int
    more: bool
    trimmed: int


class Journal(JournalFile):
    """
    One journal, held by this process. Any thread may use it: writers wait for each other, readers never for writers.

    Attributes:
        history: reads past events.
        groups: the consumer groups that events are kept for.
        cursors: the cursors of these groups.
        deliveries: the delivery counts of events that a consumer may have started before.
        dead_letters: the dead letters.
        retention: deletes old events.

    Arguments and errors are those of `JournalFile`.

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
        """The last failed write: the newest sequence at that time, the monotonic time, and the reason."""

    @property
    def refusal(self) -> str:
        """Why the latest write failed, if that was recently; empty once another write has succeeded."""
        head, at, why = self._refusal
        ago = time.monotonic() - at
        return f"The latest attempt, {ago:.0f} s ago, failed: {why}" if head == self.head and ago < TOLD_FOR else ""

    # Events

    def append(self, events: Sequence[NewEvent]) -> list[Stored]:
        """Store events in one commit and return their sequences. Raises JournalError: then none of them is stored."""
        runs = _runs_of(events)
        outcome: list[Stored] = []
        for run, first in zip(runs, self.append_runs(runs), strict=True):
            outcome.append(first)
            behind = first.sequence + 1
            outcome += [_new(Stored, (each, each - 1, True)) for each in range(behind, behind + len(run.records) - 1)]
        return outcome

    def append_runs(self, runs: Sequence[Run]) -> list[Stored]:
        """Store runs in one commit; return the first event of each. Raises JournalError: then none is stored."""
        if not runs:
            self.settle()
            return []
        if len(runs) == 1 and len(runs[0][2]) == 1:
            topic, at, [record], id = runs[0]
            return [self.append_one(topic, record, at, id)]
        return self._append_runs(runs)

    def _append_runs(self, runs: Sequence[Run]) -> list[Stored]:
        with self.writing:
            if self.is_closed:
                raise self._closed_error()
            try:
                self._files.check()
                outcome = self._store(runs)
            except (sqlite3.Error, OSError) as error:
                raise self._not_taken(sum([len(run[2]) for run in runs]), error) from error
            except BaseException:  # raised by a signal handler, for example: anywhere, even after the commit
                self._roll_back()
                raise
        return outcome

    def append_one(self, topic: Topic, record: bytes, at: float, id: str = "", *, more: bool = False) -> Stored:
        """
        Store one event and return its sequence: the fast path for events that are fired one by one.

        Where `more` events are about to follow, the event is only noted in the file beside the tables, until `settle`
        is called or anything else is stored or read. Raises JournalError: then it is not stored.
        """
        number = self.topics.numbers.get(topic)
        if number is not None and more and not id and len(record) <= LARGEST:
            return self._note(topic, number, record, at)
        if number is None or id:
            return self._append_runs([Run(topic, at, [record], id)])[0]
        # One statement is a transaction by itself: BEGIN and COMMIT would double its cost.
        with self.writing:
            if self.log.noted.count:
                return self._append_runs([Run(topic, at, [record], id)])[0]
            if self.is_closed:
                raise self._closed_error()
            try:
                self._files.check()
                lasts = self.topics.lasts
                head, previous = self.head + 1, lasts.get(topic, 0)
                count, size = self.size[0] + 1, self.size[1] + len(record)
                self._write.execute(_INSERT_ROW, (head, number, previous, at, record, 1, self.clock.now()))
                lasts[topic] = head
                self.size, self.head = (count, size), head  # one statement: no signal can come in between
            except (sqlite3.Error, OSError) as error:
                raise self._not_taken(1, error) from error
            except BaseException:
                self._roll_back()
                raise
        return _new(Stored, (head, previous, True))

    def _note(self, topic: Topic, number: int, record: bytes, at: float) -> Stored:
        with self.writing:
            if self.is_closed:
                raise self._closed_error()
            try:
                if not self.log.noted.count:
                    self._files.check()
                last = self.topics.lasts.get(topic, 0)
                sequence, previous = self.log.noted.add(topic, number, at, record, self.head, last)
            except OSError:  # commit to the tables instead: that works, or raises the error with its reason
                return self._append_runs([Run(topic, at, [record])])[0]
        return _new(Stored, (sequence, previous, True))

    @property
    def has_noted(self) -> bool:
        """Whether events are noted in the file beside the tables and not yet in the tables."""
        return self.log.noted.count > 0 and not self.is_closed

    def settle(self, *, must: bool = True) -> None:
        """Commit the noted events to the tables. On failure they stay noted, and with `must` JournalError is raised."""
        if not self.log.noted.count:
            return
        with self.writing:
            if not self.has_noted:
                return
            try:
                self._store(())
            except (sqlite3.Error, OSError) as error:
                failed = self._not_taken(self.log.noted.count, error)
                if must:
                    raise failed from error
            except BaseException:
                self._roll_back()
                raise

    def _store(self, runs: Sequence[Run]) -> list[Stored]:
        """Commit the noted events and then these runs; return the first event of each of these runs."""
        noted = self.log.noted.runs()
        self._write.execute("BEGIN IMMEDIATE")
        outcome, rows, lasts, head = self._insert_runs([*noted, *runs] if noted else runs)
        self._write.execute("COMMIT")
        if noted:  # before `head` moves: until then `_roll_back`, after an interrupt, finds that they are stored
            self.log.noted.forget()
        self._record_commit(head, lasts, rows)
        return outcome[len(noted) :]

    def _not_taken(self, count: int, error: Exception) -> JournalError:
        """Roll back, and return the error that says why this many events were not stored."""
        self._roll_back()
        refusal = journal_error(self.path, f"did not take {count} events", error)
        self._refusal = self.head, time.monotonic(), str(refusal)
        return refusal

    def _insert_runs(self, runs: Sequence[tuple[Topic, float, list[bytes], str]]) -> _Numbered:
        """Number events and insert them, many events of a run per row. Call it within a transaction."""
        topics, head, seen = self.topics, self.head, self.clock.now()
        firsts: list[Stored] = []
        rows: list[JournalRow] = []
        ids: dict[str, Stored] = {}
        lasts: dict[Topic, int] = {}
        for topic, at, records, id in runs:
            if id and (known := ids.get(id) or self._handed_off(id)) is not None:
                firsts.append(known._replace(is_new=False))
                continue
            number = topics.numbers.get(topic) or topics.add(topic, self._write)
            previous = lasts.get(topic) or topics.lasts.get(topic, 0)
            firsts.append(first := _new(Stored, (head + 1, previous, True)))
            for portion in portions(records):
                head += len(portion)
                rows.append((head, number, previous, at, joined(portion), len(portion), seen))
                previous = head
            lasts[topic] = head
            if id:
                ids[id] = first
        self._write.executemany(_INSERT_ROW, rows)
        if ids:
            handed_off = [(id, stored.sequence) for id, stored in ids.items()]
            self._write.executemany("INSERT INTO handed_off VALUES (?, ?)", handed_off)
        return firsts, rows, lasts, head

    def page(self, topic: Topic, after: int, *, limit: int, max_bytes: int) -> TopicPage:
        """Return the events of a topic after a sequence: at most `limit` events and about `max_bytes` bytes."""
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
            trimmed = self._trimmed_after(read, topic, number, after)
        # At the end of the topic the page covers all of it: sequences without an event before the newest were trimmed.
        through = entries[-1].sequence if more else max(last, entries[-1].sequence if entries else 0)
        return TopicPage(entries, through, more, trimmed)

    def count_after(self, topic: Topic, sequence: int) -> int:
        """Return how many events a topic has after a sequence."""
        self.settle(must=False)
        if sequence >= self.topics.lasts.get(topic, 0):
            return 0
        # Of the row that contains the sequence, only the events after it count.
        query = "SELECT coalesce(sum(min(count, sequence - ?2)), 0) FROM events WHERE topic = ?1 AND sequence > ?2"
        with self.slow_reader() as read:
            return int(read.execute(query, (self.topics.numbers[topic], sequence)).fetchone()[0])

    # Private helpers

    def _handed_off(self, id: str) -> Stored | None:
        found = self._write.execute("SELECT sequence FROM handed_off WHERE id = ?", (id,)).fetchone()
        if found is None:
            return None
        row = self._write.execute("SELECT previous FROM events WHERE sequence = ?", found).fetchone()
        return Stored(found[0], 0 if row is None else row[0])

    def _trimmed_after(self, read: sqlite3.Connection, topic: Topic, number: int, after: int) -> int:
        if after >= self.topics.floors.get(topic, 0):
            return 0
        query = "SELECT coalesce(sum(number), 0) FROM cuts WHERE topic = ? AND through > ?"
        return int(read.execute(query, (number, after)).fetchone()[0])


def _runs_of(events: Sequence[NewEvent]) -> list[Run]:
    """Join consecutive events of one topic and about one time; one with an id needs a row of its own."""
    runs: list[Run] = []
    latest: Topic | None = None
    first = 0.0
    for topic, record, at, id in events:
        if topic == latest and not id and abs(at - first) <= MAX_APART:
            runs[-1].records.append(record)
        else:
            runs.append(Run(topic, at, [record], id))
            latest, first = None if id else topic, at
    return runs
