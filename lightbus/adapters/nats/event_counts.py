"""
The number of events that each subject of a stream has ever had, whether they are still kept or not.

Servers delete events that are too old or too many, and do not report which. The number of events there have been, less
the number left, is the number deleted. Every process counts new events; the counts are recorded now and then, and later
processes continue from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ...ports.events import EventTopic
from .places import StreamPlaces

__all__ = ["EventCounts"]


class EventCounts:
    """
    The counts of one stream. Only touched on one loop.

    Args:
        places: the names of the subjects.

    Attributes:
        through: all events up to this sequence are counted.
        uncounted: how many events were deleted before any process had counted them, as far as this one saw.

    """

    def __init__(self, places: StreamPlaces) -> None:
        self.through = 0
        self.uncounted = 0
        self._places = places
        self._numbers: Counter[tuple[EventTopic, str]] = Counter()
        self._heads: dict[EventTopic, int] = {}

    def take_next(self, subject: tuple[EventTopic, str] | None, sequence: int) -> None:
        """Count a new message if it directly follows those counted. Without a subject it is not an event of ours."""
        if sequence == self.through + 1:
            self._take(subject, sequence)

    def take_all(self, found: Iterable[tuple[tuple[EventTopic, str] | None, int]]) -> None:
        """Count the kept messages after those counted, in order: sequences between them are deleted."""
        for subject, sequence in found:
            if sequence > self.through:
                self.skip(sequence - 1)
                self._take(subject, sequence)

    def skip(self, through: int) -> None:
        """Continue after a sequence up to which nothing is kept."""
        self.uncounted += max(0, through - self.through)
        self.through = max(through, self.through)

    def _take(self, subject: tuple[EventTopic, str] | None, sequence: int) -> None:
        self.through = sequence
        if subject is not None:
            self._numbers[subject] += 1
            self._heads[subject[0]] = sequence

    def number(self, topic: EventTopic, receivers: Collection[str]) -> int:
        """Return how many events a topic has had for these receivers."""
        return sum(self._numbers[topic, only] for only in receivers)

    def head(self, topic: EventTopic) -> int:
        """Return the sequence of a topic's last event; 0 if it had none."""
        return self._heads.get(topic, 0)

    @property
    def topics(self) -> Collection[EventTopic]:
        """The topics that ever had events."""
        return self._heads.keys()

    def record(self) -> dict[str, Any]:
        """Return the counts as a record."""
        prefix = f"{self._places.prefix}."
        subjects = {
            self._places.subject(topic, only).removeprefix(prefix): [number, self._heads[topic]]
            for (topic, only), number in self._numbers.items()
        }
        return {"through": self.through, "subjects": subjects}

    def adopt(self, record: Mapping[str, Any]) -> None:
        """Continue from the record of another process, if it reaches further."""
        if record["through"] <= self.through:
            return
        self.through = int(record["through"])
        self._numbers.clear()
        for named, (number, head) in record["subjects"].items():
            if (subject := self._places.topic_of(f"{self._places.prefix}.{named}")) is not None:
                self._numbers[subject] = number
                self._heads[subject[0]] = head
