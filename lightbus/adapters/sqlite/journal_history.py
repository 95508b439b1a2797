"""Reading a journal's past events: by time, by a scan, and by content."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from .journal_file import EPOCH_BITS, JournalFile
from .rows import MAX_APART, JournalEntry, entries_of
from .topic import Topic

__all__ = ["JournalHistory"]

MAX_EXAMINED = 5000
"""Events that one page over all topics examines: this takes a few milliseconds."""

MAX_HISTORY_ROWS = 200
"""Rows read at a time for a history."""

_LATEST = f"(at + {MAX_APART} * (count > 1))"
_EARLIEST = f"(at - {MAX_APART} * (count > 1))"
"""The latest and the earliest time at which an event of a row may have been fired."""


class JournalHistory:
    """The past events of one journal. An event loop may use `position_since` and `last_of_epoch` only, a thread all."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._topics = file.topics

    def latest(
        self, api: str, event: str, *, start: float | None = None, stop: float | None = None, limit: int = 1000
    ) -> list[tuple[Topic, JournalEntry]]:
        """Return the newest events with a name between two times (seconds since 1970), oldest first."""
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
        Return a page of the events before a sequence, between two times, newest first, of the wanted topics.

        Also return the sequence before which the next page starts; None after the last page. Rows are not split: a page
        may have more than `limit` events. It examines at most `MAX_EXAMINED` rows, wanted or not.
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
        Return a page of the events after a sequence, oldest first, of the wanted topics.

        Also return the sequence up to which the journal was read, and whether there may be more after it. One page
        examines about `MAX_EXAMINED` events at most, wanted or not, so that no other reader waits long.
        """
        known = list(self._topics.numbers.items())
        newest = max((number for _, number in known), default=0)
        topics = {number: topic for topic, number in known if is_wanted(topic)}
        # Read by the primary key: with the index on topics, SQLite would sort all later rows for each page.
        query = (
            "SELECT topic, sequence, previous, count, "
            f"CASE WHEN topic IN ({','.join(map(str, topics))}) THEN record END "
            "FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"
        )
        entries: list[tuple[Topic, JournalEntry]] = []
        through, size, examined = after, 0, 0
        with self._file.slow_reader() as read:
            for number, sequence, previous, count, data in read.execute(query, (after, MAX_EXAMINED)):
                if number > newest:
                    break  # of a topic that began meanwhile, and may be wanted: the next page has it
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
        Return the sequence of the newest event of a topic that is older than a time of day; 0 if there is none.

        Call this from a thread: times of day are not in order, so all of the topic is read when no event is that old.
        Where events share a row, the result may be up to 0.1 seconds too old: rather one event too many than too few.
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
            # Binary search, as the journal's own time never goes back: the range after `low` up to `high` is halved.
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

    def find(self, is_wanted: Callable[[bytes], bool], within: bytes, api: str) -> tuple[Topic, int] | None:
        """
        Return topic and sequence of the latest event for which `is_wanted` is true, or None. Call this from a thread.

        Args:
            is_wanted: returns whether a record is the wanted one.
            within: bytes that the wanted record contains: rows without them are skipped unread.
            api: the API of the event.

        """
        topics = {number: topic for topic, number in list(self._topics.numbers.items()) if topic.api == api}
        self._file.settle(must=False)
        before: int | None = self._file.head + 1 if topics else None
        while before is not None:
            rows, before = self._rows_with(before, topics, within)
            for number, *row in rows:
                for entry in reversed(entries_of(*row)):
                    if is_wanted(entry.record):
                        return topics[number], entry.sequence
        return None

    def last_of_epoch(self, topic: Topic, epoch: int) -> int:
        """Return the newest sequence that a topic had when an epoch ended; 0 if it had none."""
        query = "SELECT max(sequence) FROM events WHERE topic = ? AND sequence < ?"
        with self._file.reader() as read:
            found = read.execute(query, (self._topics.numbers.get(topic), (epoch + 1) << EPOCH_BITS)).fetchone()[0]
        return int(found or 0)

    def _rows_before(
        self, before: int, topics: Container[int], start: float, stop: float
    ) -> tuple[list[tuple[Any, ...]], int | None]:
        """
        Return the rows of these topics and this time among the latest `MAX_EXAMINED` rows before a sequence.

        Also return the sequence before which to continue; None at the end. The limit keeps other readers from waiting.
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
        """Return the rows of these topics that contain some bytes; otherwise like `_rows_before`."""
        query = (
            "SELECT topic, sequence, previous, count, CASE WHEN instr(record, ?2) THEN record END FROM events "
            "WHERE sequence < ?1 ORDER BY sequence DESC LIMIT ?3"
        )
        with self._file.slow_reader() as read:
            examined = read.execute(query, (before, within, MAX_EXAMINED)).fetchall()
        rows = [row for row in examined if row[4] is not None and row[0] in topics]
        return rows, int(examined[-1][1]) if len(examined) == MAX_EXAMINED else None
