"""The dead letters of a journal: events that a group has been given as often as allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .journal_file import JournalFile
from .topic import Topic

__all__ = ["Dead", "DeadLetters"]

COLUMNS = "grp, topic, sequence, record, deliveries, error, at"


class Dead(NamedTuple):
    """An event that a group has been given as often as allowed."""

    group: str
    topic: Topic
    sequence: int
    record: bytes
    deliveries: int
    error: str
    died_at: float


class DeadLetters:
    """The dead letters in one journal. Any thread may use them."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._topics = file.topics

    def add(self, group: str, topic: Topic, sequence: int, deliveries: int, error: str, at: float) -> bool:
        """Record an event as a dead letter of a group; return false if the journal has the event no more."""
        record = self._file.record(sequence)
        if record is None:
            return False
        row = (group, sequence, self._topics.numbers[topic], record, deliveries, error, at)
        self._file.change(("INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?)", [row]))
        return True

    def all(self, group: str | None = None, *, skip: int = 0, limit: int = -1) -> list[Dead]:
        """Return the dead letters of one group or of all, oldest first: without the first `skip`, at most `limit`."""
        # In order of insertion, not of time: the clock may have been changed in between.
        query = (
            f"SELECT {COLUMNS} FROM dead {'WHERE grp = ?' if group else ''} ORDER BY rowid LIMIT {limit} OFFSET {skip}"
        )
        with self._file.reader() as read:
            return [self._dead(row) for row in read.execute(query, (group,) if group else ())]

    def count(self, group: str | None = None) -> int:
        """Return the number of dead letters of one group or of all."""
        query = f"SELECT count(*) FROM dead {'WHERE grp = ?' if group else ''}"
        with self._file.reader() as read:
            return int(read.execute(query, (group,) if group else ()).fetchone()[0])

    def has(self, group: str, sequence: int) -> bool:
        """Return whether the event with this sequence is a dead letter of a group."""
        with self._file.reader() as read:
            found = read.execute("SELECT 1 FROM dead WHERE grp = ? AND sequence = ?", (group, sequence)).fetchone()
        return found is not None

    def get(self, group: str, sequence: int) -> Dead | None:
        """Return the dead letter of a group with this sequence, or None."""
        query = f"SELECT {COLUMNS} FROM dead WHERE grp = ? AND sequence = ?"
        with self._file.reader() as read:
            row = read.execute(query, (group, sequence)).fetchone()
        return None if row is None else self._dead(row)

    def take(self, group: str, sequence: int) -> Dead | None:
        """Remove a dead letter and return it; None if there is none."""
        found = self.get(group, sequence)
        if found is not None:
            self.remove([(group, sequence)])
        return found

    def remove(self, which: Sequence[tuple[str, int]]) -> None:
        """Remove dead letters, each given as group and sequence, in one commit."""
        self._file.change(("DELETE FROM dead WHERE grp = ? AND sequence = ?", which))

    def _dead(self, row: tuple[Any, ...]) -> Dead:
        group, topic, *rest = row
        return Dead(group, self._topics.names[topic], *rest)
