"""The table of the consumer groups that a journal keeps events for."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from .journal_file import JournalFile

__all__ = ["GroupTable", "KnownGroup", "group_of_row"]


class KnownGroup(NamedTuple):
    """
    A consumer group of an API, as the journals remember it.

    Its times are the machine's time (`machine_time`), below 0 for a time before the machine's start. They are not times
    of day, because the clock may be changed at any moment.
    """

    api: str
    name: str
    events: tuple[str, ...]
    created_at: float
    last_seen: float
    digest: str


class GroupTable:
    """The groups of one journal. Any thread may use it."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._topics = file.topics

    def all(self) -> list[KnownGroup]:
        """Return the groups that events are kept for."""
        with self._file.reader() as read:
            return [group_of_row(row, self._file.clock.offset) for row in read.execute("SELECT * FROM groups")]

    def save(self, group: KnownGroup) -> None:
        """Insert or update a group."""
        times = group.created_at + self._file.clock.offset, group.last_seen + self._file.clock.offset
        row = (group.api, group.name, json.dumps(group.events), *times, group.digest)
        self._file.change(("INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?, ?, ?)", [row]))

    def remove(self, api: str, name: str) -> None:
        """Remove a group with its cursors and delivery counts. Its dead letters stay."""
        numbers = [(name, number) for topic, number in list(self._topics.numbers.items()) if topic.api == api]
        self._file.change(
            ("DELETE FROM groups WHERE api = ? AND name = ?", [(api, name)]),
            ("DELETE FROM held WHERE api = ? AND grp = ?", [(api, name)]),
            ("DELETE FROM cursors WHERE grp = ? AND topic = ?", numbers),
            ("DELETE FROM deliveries WHERE grp = ? AND topic = ?", numbers),
            ("DELETE FROM starts WHERE grp = ? AND topic = ?", numbers),
        )


def group_of_row(row: tuple[Any, ...], offset: float) -> KnownGroup:
    """Return the group in a row of the table `groups`; `offset` is the journal's time less the machine's."""
    api, name, events, created_at, last_seen, digest = row
    times = round(created_at - offset, 6), round(last_seen - offset, 6)
    return KnownGroup(api, name, tuple(json.loads(events)), *times, digest)
