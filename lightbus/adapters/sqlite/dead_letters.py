"""The dead letters of a journal: events that a group was given as often as it may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .journal_file import JournalFile
from .topic import Topic

__all__ = ["Dead", "DeadLetters"]

COLUMNS = "grp, topic, sequence, record, deliveries, error, at"


class Dead(NamedTuple):
    """An event that a group was given as often as it may be."""

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
        """Record an event as a dead letter of a group; return whether it is there (still)."""
        record = self._file.record(sequence)
        if record is None:
            return False
        row = (group, sequence, self._topics.numbers[topic], record, deliveries, error, at)
        self._file.change(("INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?)", [row]))
        return True

    def all(self, group: str | None = None, *, skip: int = 0, limit: int = -1) -> list[Dead]:
        """Return the dead letters, for one group or for all, oldest first: behind the first `skip`, up to `limit`."""
        # By the order in which they came: the time of day may have been moved meanwhile.
        query = (
            f"SELECT {COLUMNS} FROM dead {'WHERE grp = ?' if group else ''} ORDER BY rowid LIMIT {limit} OFFSET {skip}"
        )
        with self._file.reader() as read:
            return [self._dead(row) for row in read.execute(query, (group,) if group else ())]

    def count(self, group: str | None = None) -> int:
        """Return how many dead letters there are, for one group or for all."""
        query = f"SELECT count(*) FROM dead {'WHERE grp = ?' if group else ''}"
        with self._file.reader() as read:
            return int(read.execute(query, (group,) if group else ()).fetchone()[0])

    def has(self, group: str, sequence: int) -> bool:
        """Return whether the event of a sequence is a dead letter of a group."""
        with self._file.reader() as read:
            found = read.execute("SELECT 1 FROM dead WHERE grp = ? AND sequence = ?", (group, sequence)).fetchone()
        return found is not None

    def get(self, group: str, sequence: int) -> Dead | None:
        """Return the dead letter of a group and a sequence; None where there is no such thing."""
        query = f"SELECT {COLUMNS} FROM dead WHERE grp = ? AND sequence = ?"
        with self._file.reader() as read:
            row = read.execute(query, (group, sequence)).fetchone()
        return None if row is None else self._dead(row)

    def take(self, group: str, sequence: int) -> Dead | None:
        """Take out a dead letter, and return it; None where there is no such thing."""
        found = self.get(group, sequence)
        if found is not None:
            self.remove([(group, sequence)])
        return found

    def remove(self, which: Sequence[tuple[str, int]]) -> None:
        """Take out dead letters of groups, each given with a sequence, by one commit."""
        self._file.change(("DELETE FROM dead WHERE grp = ? AND sequence = ?", which))

    def _dead(self, row: tuple[Any, ...]) -> Dead:
        group, topic, *rest = row
        return Dead(group, self._topics.names[topic], *rest)
