"""The tables of the groups' cursors, and of the partitions that their members hold."""

from __future__ import annotations

from collections.abc import Iterable

from .journal_file import JournalFile, TableChange
from .topic import Topic

__all__ = ["CursorTable"]


class CursorTable:
    """The cursors of the groups of one journal. Any thread may use it."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._topics = file.topics

    def of(self, api: str, group: str) -> dict[Topic, int]:
        """Return the cursors of a group in the topics of an API."""
        with self._file.reader() as read:
            rows = read.execute("SELECT topic, sequence FROM cursors WHERE grp = ?", (group,)).fetchall()
        named = ((self._topics.names[number], sequence) for number, sequence in rows)
        return {topic: sequence for topic, sequence in named if topic.api == api}

    def held(self, api: str, group: str) -> dict[int, int]:
        """Return the partitions that members held at the latest write, each with the epoch of its entry."""
        query = "SELECT partition, epoch FROM held WHERE api = ? AND grp = ?"
        with self._file.reader() as read:
            return dict(read.execute(query, (api, group)).fetchall())

    def changes(
        self,
        *,
        cursors: Iterable[tuple[str, Topic, int]] = (),
        held: Iterable[tuple[str, str, int, bool]] = (),
    ) -> list[TableChange]:
        """Return the changes that store cursors, and whether a partition is held by a member."""
        moved = [
            (group, self._topics.numbers[topic], at) for group, topic, at in cursors if topic in self._topics.numbers
        ]
        held = list(held)
        counted = moved if self._file.has_deliveries else []
        return [
            ("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", moved),
            ("DELETE FROM deliveries WHERE grp = ? AND topic = ? AND sequence <= ?", counted),
            (
                "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)",
                [(*row[:3], self._file.epoch) for row in held if row[3]],
            ),
            ("DELETE FROM held WHERE api = ? AND grp = ? AND partition = ?", [row[:3] for row in held if not row[3]]),
        ]
