"""The topics of a journal: the number of each, its newest sequence, and the sequence up to which it was trimmed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from .topic import Topic

__all__ = ["TopicTable"]


class TopicTable:
    """The topics of one journal. Changed with the writing lock held, and read by any thread."""

    def __init__(self) -> None:
        self.numbers: dict[Topic, int] = {}
        """The number of each topic."""
        self.names: dict[int, Topic] = {}
        self.lasts: dict[Topic, int] = {}
        """The newest sequence of each topic; a new topic replaces the dict, because other threads iterate over it."""
        self._of: dict[str, tuple[Topic, ...]] = {}
        """The topics of each API, of those in `lasts`; each tuple is replaced as a whole, too."""
        self.floors: dict[Topic, int] = {}
        """The sequence up to which each topic was trimmed."""
        self.added: list[Topic] = []
        """Topics that the current transaction has added."""

    def all(self) -> list[Topic]:
        """Return all topics."""
        return list(self.lasts)

    def of(self, api: str) -> dict[Topic, int]:
        """Return all topics of an API with their newest sequences."""
        topics = self._of.get(api, ())
        lasts = self.lasts
        return {topic: lasts[topic] for topic in topics}

    def last(self, topic: Topic) -> int:
        """Return the newest sequence of a topic; 0 if it has none."""
        return self.lasts.get(topic, 0)

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the topics from the journal."""
        lasts: dict[Topic, int] = {}
        for number, api, event, partition, floor in connection.execute("SELECT * FROM topics").fetchall():
            topic = Topic(api, event, partition)
            self.numbers[topic], self.names[number], self.floors[topic] = number, topic, floor
            # One index lookup for each topic; GROUP BY would read the whole index.
            query = "SELECT max(sequence) FROM events WHERE topic = ?"
            lasts[topic] = max(floor, connection.execute(query, (number,)).fetchone()[0] or 0)
        self.lasts = lasts
        self._of = _by_api(lasts)

    def add(self, topic: Topic, write: sqlite3.Connection) -> int:
        """Insert a new topic, within a transaction, and return its number."""
        cursor = write.execute("INSERT INTO topics (api, event, partition) VALUES (?, ?, ?)", topic)
        number = int(cursor.lastrowid or 0)
        self.added.append(topic)
        self.numbers[topic], self.names[number] = number, topic
        return number

    def move(self, lasts: dict[Topic, int]) -> None:
        """Record the newest sequences of topics, once they are committed."""
        if self.added:
            self.added.clear()
            new = [topic for topic in lasts if topic not in self.lasts]
            self.lasts = {**self.lasts, **lasts}
            self._index(new)
        else:
            self.lasts.update(lasts)

    def _index(self, new: Iterable[Topic]) -> None:
        """Add topics that are new in `lasts` to those of their API."""
        for api, topics in _by_api(new).items():
            self._of[api] = (*self._of.get(api, ()), *topics)

    def forget_added(self) -> None:
        """Forget the topics of a transaction that failed."""
        for topic in self.added:
            self.names.pop(self.numbers.pop(topic), None)
        self.added.clear()


def _by_api(topics: Iterable[Topic]) -> dict[str, tuple[Topic, ...]]:
    found: dict[str, list[Topic]] = {}
    for topic in topics:
        found.setdefault(topic.api, []).append(topic)
    return {api: tuple(those) for api, those in found.items()}
