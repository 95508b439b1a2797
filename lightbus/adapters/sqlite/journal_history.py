"""What a journal has of the past: its events by time, by a scan, and by what is in them."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from .journal_file import EPOCH_BITS, JournalFile
from .rows import MAX_APART, JournalEntry, entries_of
from .topic import Topic

__all__ = ["JournalHistory"]

MAX_EXAMINED = 5000
"""Events that one page of all topics goes through: a few milliseconds."""

MAX_HISTORY_ROWS = 200
"""Rows that are read at a time for a history."""

_LATEST = f"(at + {MAX_APART} * (count > 1))"
_EARLIEST = f"(at - {MAX_APART} * (count > 1))"
"""When an event of a row may have been fired at the latest, and at the earliest."""


class JournalHistory:
    """The past of one journal. Any thread may ask; on a loop only for `position_since` and `last_of_epoch`."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._topics = file.topics

    def latest(
        self, api: str, event: str, *, start: float | None = None, stop: float | None = None, limit: int = 1000
    ) -> list[tuple[Topic, JournalEntry]]:
        """Return the newest events of a name between two times (seconds since 1970), oldest first."""
        numbers = {
            n: topic
            for topic, n in list(self._topics.numbers.items())
            if topic.api == api and event in ("*", topic.event)
        }
        lower, upper = -1e300 if start is None else start, 1e300 if stop is None else stop
        entries: list[tuple[Topic, JournalEntry]] = []
        self._file.settle(must=False)
        before: int | None = self._file.head + 1 if numbers else None
        while before is not None and len(entries) < limit:
            rows, before = self._rows_before(before, numbers, lower, upper)
            for number, *row in rows:
                entries += [(numbers[number], entry) for entry in reversed(entries_of(*row))]
        return entries[:limit][::-1]

    def page_before(
        self,
        is_wanted: Callable[[Topic], bool],
        before: int,
        *,
        start: float | None,
        stop: float | None,
        limit: int,
        max_bytes: int,
    ) -> tuple[list[tuple[Topic, JournalEntry]], int | None]:
        """
        Return a page of the events in front of a sequence, between two times, newest first, of topics that are wanted.

        Besides them: in front of which sequence it goes on; None where it does not. Rows are given as a whole, so that
        a page may have more than `limit` events; it goes through `MAX_EXAMINED` rows at most, wanted or not.
        """
        numbers = {number: topic for topic, number in list(self._topics.numbers.items()) if is_wanted(topic)}
        lower, upper = -1e300 if start is None else start, 1e300 if stop is None else stop
        rows, further = self._rows_before(before, numbers, lower, upper)
        entries: list[tuple[Topic, JournalEntry]] = []
        size = 0
        for number, sequence, previous, count, record in rows:
            size += len(record)
            if entries and (len(entries) >= limit or size > max_bytes):
                return entries, int(entries[-1][1].sequence)
            entries += [(numbers[number], each) for each in reversed(entries_of(sequence, previous, count, record))]
        return entries, further

    def scan(
        self, is_wanted: Callable[[Topic], bool], after: int, *, limit: int, max_bytes: int
    ) -> tuple[list[tuple[Topic, JournalEntry]], int, bool]:
        """
        Return a page of the events behind a sequence, oldest first, of all topics that are wanted.

        Besides them: up to which sequence the journal was gone through, and whether it goes on behind that. One page
        goes through `MAX_EXAMINED` events at most, wanted or not: who reads on does so without holding anybody up.
        """
        topics = {number: topic for topic, number in list(self._topics.numbers.items()) if is_wanted(topic)}
        # Through the primary key: by the topics' index, SQLite would sort all that follows for each page.
        query = (
            "SELECT topic, sequence, previous, count, "
            f"CASE WHEN topic IN ({','.join(map(str, topics))}) THEN record END "
            "FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"
        )
        entries: list[tuple[Topic, JournalEntry]] = []
        through, size, examined = after, 0, 0
        with self._file.slow_reader() as read:
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
        number = self._topics.numbers.get(topic)
        query = f"SELECT max(sequence) FROM events WHERE topic = ? AND {_LATEST} < ?"
        with self._file.slow_reader() as read:
            found = read.execute(query, (number, at)).fetchone()[0]
        return max(found or 0, self._topics.floors.get(topic, 0))

    def position_since(self, topic: Topic, at: float) -> int:
        """Return the sequence of the newest event of a topic that was stored before a moment of the machine's time."""
        number, moment = self._topics.numbers.get(topic), at + self._file.clock.offset
        query = "SELECT sequence, seen FROM events WHERE topic = ? AND sequence <= ? ORDER BY sequence DESC LIMIT 1"
        found, low, high = 0, 0, self._topics.lasts.get(topic, 0)
        with self._file.reader() as read:
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
        return max(found, self._topics.floors.get(topic, 0))

    def find(self, is_it: Callable[[bytes], bool], within: bytes, api: str) -> tuple[Topic, int] | None:
        """
        Return topic and sequence of an event, the latest that is it; None where there is none. From a thread.

        Args:
            is_it: whether a record is the one that is looked for.
            within: bytes that such a record has: what has not got them is passed over without being read.
            api: whose event it is.

        """
        topics = {number: topic for topic, number in list(self._topics.numbers.items()) if topic.api == api}
        self._file.settle(must=False)
        before: int | None = self._file.head + 1 if topics else None
        while before is not None:
            rows, before = self._rows_with(before, topics, within)
            for number, *row in rows:
                for entry in reversed(entries_of(*row)):
                    if is_it(entry.record):
                        return topics[number], entry.sequence
        return None

    def last_of_epoch(self, topic: Topic, epoch: int) -> int:
        """Return the newest sequence that a topic had when an epoch ended; 0 where it had none."""
        query = "SELECT max(sequence) FROM events WHERE topic = ? AND sequence < ?"
        with self._file.reader() as read:
            found = read.execute(query, (self._topics.numbers.get(topic), (epoch + 1) << EPOCH_BITS)).fetchone()[0]
        return int(found or 0)

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
        with self._file.slow_reader() as read:
            examined = read.execute(query, (before, start, stop, MAX_EXAMINED)).fetchall()
            wanted = [sequence for sequence, topic, is_of_time in examined if is_of_time and topic in topics]
            query = "SELECT topic, sequence, previous, count, record FROM events WHERE sequence = ?"
            rows = [read.execute(query, (sequence,)).fetchone() for sequence in wanted[:MAX_HISTORY_ROWS]]
        if len(wanted) > MAX_HISTORY_ROWS:
            return rows, int(wanted[MAX_HISTORY_ROWS - 1])
        return rows, int(examined[-1][0]) if len(examined) == MAX_EXAMINED else None

    def _rows_with(
        self, before: int, topics: Container[int], within: bytes
    ) -> tuple[list[tuple[Any, ...]], int | None]:
        """Return those rows of topics that have some bytes, as `_rows_before` does those of a time."""
        query = (
            "SELECT topic, sequence, previous, count, CASE WHEN instr(record, ?2) THEN record END FROM events "
            "WHERE sequence < ?1 ORDER BY sequence DESC LIMIT ?3"
        )
        with self._file.slow_reader() as read:
            examined = read.execute(query, (before, within, MAX_EXAMINED)).fetchall()
        rows = [row for row in examined if row[4] is not None and row[0] in topics]
        return rows, int(examined[-1][1]) if len(examined) == MAX_EXAMINED else None
