"""How often events were delivered to groups, counted in the journal where a consumer may have started them before."""

from __future__ import annotations

from .journal_file import JournalFile
from .topic import Topic

__all__ = ["Deliveries"]

MOST = 2**31 - 1
"""The largest number a reply can carry: a consumer that cannot read the reply would ask again for ever."""


class Deliveries:
    """The delivery counts in one journal. Any thread may use them."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._topics = file.topics

    def failing(self, group: str) -> dict[Topic, int]:
        """Return, for each topic, the last event with a recorded delivery to this group."""
        if not self._file.has_deliveries:
            return {}
        with self._file.reader() as read:
            query = "SELECT topic, max(sequence) FROM deliveries WHERE grp = ? GROUP BY topic"
            return {self._topics.names[number]: sequence for number, sequence in read.execute(query, (group,))}

    def of(self, group: str, topic: Topic, sequence: int) -> int:
        """Return the number of recorded deliveries of an event to a group."""
        query = "SELECT number FROM deliveries WHERE grp = ? AND topic = ? AND sequence = ?"
        with self._file.reader() as read:
            found = read.execute(query, (group, self._topics.numbers.get(topic), sequence)).fetchone()
        return 0 if found is None else int(found[0])

    def answer_to(self, asker: str, group: str, topic: Topic, sequence: int) -> int:
        """Return the earlier answer if `asker` was the latest to ask about this topic and asks again, else 0."""
        query = "SELECT number FROM starts WHERE grp = ? AND topic = ? AND sequence = ? AND asker = ?"
        with self._file.reader() as read:
            found = read.execute(query, (group, self._topics.numbers.get(topic), sequence, asker)).fetchone()
        return 0 if found is None else int(found[0])

    def count(self, group: str, topic: Topic, sequence: int, at_least: int, asker: str = "") -> int:
        """Record one more delivery before it begins, and return its number, which is `at_least` this."""
        number = min(max(self.of(group, topic, sequence), at_least - 1) + 1, MOST)
        self._file.has_deliveries = True
        row = (group, self._topics.numbers[topic], sequence)
        self._file.change(
            ("INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, ?)", [(*row, number)]),
            ("INSERT OR REPLACE INTO starts VALUES (?, ?, ?, ?, ?)", [(*row, asker, number)]),
        )
        return number
