"""The topics of a journal: the number of each, its newest event, and up to where it was trimmed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from .topic import Topic

__all__ = ["TopicTable"]


class TopicTable:
    """The topics of one journal. It is changed with the writing lock held, and read by any thread."""

    def __init__(self) -> None:
        self.numbers: dict[Topic, int] = {}
        """The number of each topic."""
        self.names: dict[int, Topic] = {}
        self.lasts: dict[Topic, int] = {}
        """The newest sequence of each topic; replaced as a whole for a new topic: others iterate over it."""
        self._of: dict[str, tuple[Topic, ...]] = {}
        """The topics of each API, of all that are in `lasts`; each replaced as a whole, too."""
        self.floors: dict[Topic, int] = {}
        """Up to where each topic was trimmed."""
        self.added: list[Topic] = []
        """Topics that are new in the commit at hand."""

    def all(self) -> list[Topic]:
        """Return all topics."""
        return list(self.lasts)

    def of(self, api: str) -> dict[Topic, int]:
        """Return all topics of an API with their newest sequences."""
        topics = self._of.get(api, ())
        lasts = self.lasts
        return {topic: lasts[topic] for topic in topics}

    def last(self, topic: Topic) -> int:
        """Return the newest sequence of a topic; 0 where it has none."""
        return self.lasts.get(topic, 0)

    def load(self, connection: sqlite3.Connection) -> None:
        """Read what the journal says of them."""
        lasts: dict[Topic, int] = {}
        for number, api, event, partition, floor in connection.execute("SELECT * FROM topics").fetchall():
            topic = Topic(api, event, partition)
            self.numbers[topic], self.names[number], self.floors[topic] = number, topic, floor
            # One look-up in the index each; grouping would read all of it.
            query = "SELECT max(sequence) FROM events WHERE topic = ?"
            lasts[topic] = max(floor, connection.execute(query, (number,)).fetchone()[0] or 0)
        self.lasts = lasts
        self._of = _by_api(lasts)

    def add(self, topic: Topic, write: sqlite3.Connection) -> int:
        """Give a topic that is new its number, within a transaction, and return that."""
        cursor = write.execute("INSERT INTO topics (api, event, partition) VALUES (?, ?, ?)", topic)
        number = int(cursor.lastrowid or 0)
        self.added.append(topic)
        self.numbers[topic], self.names[number] = number, topic
        return number

    def move(self, lasts: dict[Topic, int]) -> None:
        """Note the newest sequences of topics, once they are on disk."""
        if self.added:
            self.added.clear()
            new = [topic for topic in lasts if topic not in self.lasts]
            self.lasts = {**self.lasts, **lasts}
            self._index(new)
        else:
            self.lasts.update(lasts)

    def _index(self, new: Iterable[Topic]) -> None:
        """Record of which API topics are that are in `lasts` by now."""
        for api, topics in _by_api(new).items():
            self._of[api] = (*self._of.get(api, ()), *topics)

    def forget_added(self) -> None:
        """Forget the topics of a commit that failed."""
        for topic in self.added:
            self.names.pop(self.numbers.pop(topic), None)
        self.added.clear()


def _by_api(topics: Iterable[Topic]) -> dict[str, tuple[Topic, ...]]:
    found: dict[str, list[Topic]] = {}
    for topic in topics:
        found.setdefault(topic.api, []).append(topic)
    return {api: tuple(those) for api, those in found.items()}
