"""How often groups were given events that somebody may have begun before, as a journal has it on record."""

from __future__ import annotations

from .journal_file import JournalFile
from .topic import Topic

__all__ = ["Deliveries"]

MOST = 2**31 - 1
"""The largest number that can be told to who asks: he would ask for ever where the answer to him cannot be read."""


class Deliveries:
    """The deliveries on record in one journal. Any thread may use them."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._topics = file.topics

    def failing(self, group: str) -> dict[Topic, int]:
        """Return per topic the last event of which a delivery to this group is on record."""
        if not self._file.has_deliveries:
            return {}
        with self._file.reader() as read:
            query = "SELECT topic, max(sequence) FROM deliveries WHERE grp = ? GROUP BY topic"
            return {self._topics.names[number]: sequence for number, sequence in read.execute(query, (group,))}

    def of(self, group: str, topic: Topic, sequence: int) -> int:
        """Return how many deliveries of an event to a group are on record."""
        query = "SELECT number FROM deliveries WHERE grp = ? AND topic = ? AND sequence = ?"
        with self._file.reader() as read:
            found = read.execute(query, (group, self._topics.numbers.get(topic), sequence)).fetchone()
        return 0 if found is None else int(found[0])

    def answer_to(self, asker: str, group: str, topic: Topic, sequence: int) -> int:
        """Return what was the answer where the latest to ask of this topic asks again; 0 where it is another one."""
        query = "SELECT number FROM starts WHERE grp = ? AND topic = ? AND sequence = ? AND asker = ?"
        with self._file.reader() as read:
            found = read.execute(query, (group, self._topics.numbers.get(topic), sequence, asker)).fetchone()
        return 0 if found is None else int(found[0])

    def count(self, group: str, topic: Topic, sequence: int, at_least: int, asker: str = "") -> int:
        """Put one more delivery on record, before it begins, and return its number: `at_least` this one."""
        number = min(max(self.of(group, topic, sequence), at_least - 1) + 1, MOST)
        self._file.has_deliveries = True
        row = (group, self._topics.numbers[topic], sequence)
        self._file.change(
            ("INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, ?)", [(*row, number)]),
            ("INSERT OR REPLACE INTO starts VALUES (?, ?, ?, ?, ?)", [(*row, asker, number)]),
        )
        return number
