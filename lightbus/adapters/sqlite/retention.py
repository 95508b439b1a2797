"""Retention: which events are deleted from a journal, when, and which groups lose events by that."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence

from ...exceptions import JournalError
from .journal_file import SIZE, JournalFile, TableChange
from .rows import MAX_EVENTS, Deletions, entries_of, row_with
from .topic import Topic

__all__ = ["Retention"]

CHUNK = 500
CHUNK_BYTES = 1024 * 1024
"""Most rows, and about the most bytes, deleted in one commit: a writer waits for no more than that."""

MAX_CUTS = 32
"""Cuts that are remembered for a topic; if there are more, the oldest two are joined."""

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


class Retention:
    """Deletes events from one journal. One thread at a time."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._topics = file.topics

    def lost(self) -> list[tuple[str, Topic, int, float]]:
        """Return the unhandled events that groups lost: group, topic, number, and the time of the last loss."""
        with self._file.slow_reader() as read:
            rows = read.execute("SELECT grp, topic, number, at FROM lost").fetchall()
        return [(group, self._topics.names[topic], number, at) for group, topic, number, at in rows]

    def lost_by(self, group: str) -> int:
        """Return how many events were deleted before a group had handled them."""
        with self._file.slow_reader() as read:
            query = "SELECT coalesce(sum(number), 0) FROM lost WHERE grp = ?"
            return int(read.execute(query, (group,)).fetchone()[0])

    def trim(
        self,
        *,
        min_age: float,
        max_events: int,
        max_bytes: int,
        cursors: Mapping[Topic, Mapping[str, int]],
    ) -> list[tuple[str, Topic, int]]:
        """
        Delete events older than `min_age` seconds that all groups have handled, and any above a cap, oldest first.

        Args:
            min_age: seconds, by the journal's own time, for which handled events are kept within the caps.
            max_events, max_bytes: the caps.
            cursors: for each topic, the cursor of each group that gets its events. Topics that are missing here are
                too new to be trimmed by age.

        Returns:
            What groups lost: group, topic, number of unhandled events.

        """
        for topic, groups in cursors.items():
            handled = min(groups.values(), default=self._topics.lasts.get(topic, 0))
            self._delete_old(topic, self._topics.numbers[topic], handled, self._file.clock.now() - min_age)
            if self._file.log.is_large:
                self._file.checkpoint()
        lost: dict[tuple[str, Topic], int] = {}
        events, size = self._file.size
        while (events > max_events or size > max_bytes) and events:
            self._delete_oldest(
                min(CHUNK, max(1, events - max_events)) if events > max_events else CHUNK // 10, cursors, lost
            )
            events, size = self._file.size
        self._note_size()
        self._file.note_time()
        return [(group, topic, count) for (group, topic), count in lost.items()]

    def remove(self, topics: Sequence[Topic], through: int) -> None:
        """Delete the events of topics up to a sequence, even unhandled ones: another backend keeps them now."""
        for topic in topics:
            self._delete_old(topic, self._topics.numbers[topic], through, math.inf)
        self._note_size()

    def is_drained(self) -> bool:
        """Return whether the journal has no event (see `trim`) and no dead letter left."""
        with self._file.slow_reader() as read:
            return all(
                read.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None for table in ("events", "dead")
            )

    def _delete_old(self, topic: Topic, number: int, handled: int, before: float) -> None:
        # The last row may have both handled and unhandled events.
        query = (
            f"SELECT sequence, count, {SIZE}, seen, previous, CASE WHEN sequence > ?2 THEN record END "
            f"FROM events WHERE topic = ?1 AND sequence < ?2 + {MAX_EVENTS} AND sequence - count < ?2 ORDER BY sequence"
        )
        while True:
            deletions = Deletions()
            has_more = False
            with self._file.slow_reader() as read:
                for sequence, count, size, seen, previous, data in read.execute(query, (number, handled)):
                    if seen >= before:  # all later rows are at least as young
                        break
                    if data is None:
                        deletions.row(sequence, count, size)
                    else:
                        deletions.part(entries_of(sequence, previous, count, data), handled)
                    if len(deletions.rows) == CHUNK or deletions.size >= CHUNK_BYTES:
                        has_more = True
                        break
            if deletions.count:
                self._delete(deletions, {topic: deletions.through})
            if not has_more:
                return

    def _delete_oldest(
        self,
        count: int,
        cursors: Mapping[Topic, Mapping[str, int]],
        lost: dict[tuple[str, Topic], int],
    ) -> None:
        query = f"SELECT topic, sequence, count, {SIZE} FROM events ORDER BY sequence LIMIT ?"
        deletions = Deletions()
        floors: dict[Topic, int] = {}
        cuts: dict[Topic, int] = {}
        losses: dict[tuple[str, Topic], int] = {}
        with self._file.slow_reader() as read:
            for number, sequence, events, size in read.execute(query, (count,)).fetchall():
                spared = max(0, events - (count - deletions.count))
                if spared:
                    deletions.part(row_with(read, sequence)[1], sequence - spared)
                else:
                    deletions.row(sequence, events, size)
                topic = self._topics.names[number]
                floors[topic] = deletions.through
                most = 0
                for group, handled in cursors.get(topic, {}).items():
                    if (missed := min(events - spared, deletions.through - handled)) > 0:
                        losses[group, topic] = losses.get((group, topic), 0) + missed
                        most = max(most, missed)
                cuts[topic] = cuts.get(topic, 0) + most
                if deletions.count == count:
                    break
        cut = [(self._topics.numbers[topic], floors[topic], number) for topic, number in cuts.items() if number]
        self._delete(
            deletions,
            floors,
            (
                "INSERT INTO lost VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET number = number + ?3, at = ?4",
                [
                    (group, self._topics.numbers[topic], number, time.time())
                    for (group, topic), number in losses.items()
                ],
            ),
            (_INSERT_CUT, cut),
            (_JOIN_OLDEST_CUTS, [row[:1] for row in cut]),
            (_DELETE_OLDEST_CUT, [row[:1] for row in cut]),
        )
        for name, number in losses.items():
            lost[name] = lost.get(name, 0) + number

    def _delete(
        self,
        deletions: Deletions,
        floors: dict[Topic, int],
        *more: TableChange,
    ) -> None:
        with self._file.writing:
            size = (self._file.size[0] - deletions.count, self._file.size[1] - deletions.size)
            self._file.change(
                ("DELETE FROM events WHERE sequence = ?", deletions.rows),
                ("DELETE FROM handed_off WHERE sequence = ?", deletions.rows),
                ("UPDATE events SET previous = ?, record = ?, count = ? WHERE sequence = ?", deletions.shortened),
                (
                    "UPDATE topics SET floor = ? WHERE id = ?",
                    [(at, self._topics.numbers[topic]) for topic, at in floors.items()],
                ),
                ("UPDATE size SET count = ?, bytes = ?, through = ?", [(*size, self._file.head)]),
                *more,
            )
            self._file.size = size
            self._topics.floors.update(floors)

    def _note_size(self) -> None:
        """Write the journal's size to disk: the next opening counts only the events after this."""
        with self._file.writing, contextlib.suppress(JournalError):
            if self._file.head != self._file.size_noted_at:
                self._file.change(
                    ("UPDATE size SET count = ?, bytes = ?, through = ?", [(*self._file.size, self._file.head)])
                )
                self._file.size_noted_at = self._file.head
