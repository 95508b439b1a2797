"""
The events that a group has lost because the servers deleted them first.

For each topic, a group records how many of its events it has had up to its cursor. The stream's counts say how many
there have been: events that are missing, and not kept any more, are lost.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ...ports.events import EventTopic
from .stream_counts import StreamCounts

__all__ = ["GroupLosses", "Mark", "TopicTally", "first_mark"]

LOOK_EVERY = 5.0
"""Seconds between two checks for losses of a topic that has more to read."""


class Mark(NamedTuple):
    """
    The state of a topic at a sequence.

    Attributes:
        sequence: the sequence.
        number: the number of the topic's events for the group up to it; None if unknown.
        lost: how many of them the group has lost.

    """

    sequence: int
    number: int | None
    lost: int


def first_mark(
    state: Mapping[str, Any], topic: EventTopic, start: int, numbers: Mapping[str, int | None] | None
) -> Mark:
    """
    Return the state of a topic at the cursor of its group.

    A cursor before the start is ignored: a late acknowledgement of an event of a removed group of this name.

    Args:
        state: the record of its partition.
        topic: the topic.
        start, numbers: where the group started, and how many events each topic had had by then.

    """
    event = topic.event
    if state["cursors"].get(event, 0) > start:
        number, lost = state["numbers"].get(event), state["lost"].get(event, 0)
        return Mark(int(state["cursors"][event]), number, int(lost))
    return Mark(start, None if numbers is None else numbers.get(f"{event}.{topic.partition}", 0), 0)


class TopicTally:
    """
    The state of a topic at each sequence that its group may acknowledge.

    Args:
        cursor: the state at the last acknowledged sequence.

    """

    def __init__(self, cursor: Mark) -> None:
        self.looked_at = -LOOK_EVERY
        """The time.monotonic() of the last check for losses."""
        self._marks = deque([cursor])
        self._reported = cursor.lost

    def rewind(self, after: int) -> Mark:
        """Forget what was read after a sequence; return the state of the topic at it."""
        while len(self._marks) > 1 and self._marks[-1].sequence > after:
            self._marks.pop()
        last = self._marks[-1]
        return last if last.sequence == after else Mark(after, None, last.lost)

    def read(self, before: Mark, sequences: Sequence[int], through: int, number: int | None) -> int:
        """
        Record a page, and return how many events before it are lost and not reported yet.

        Args:
            before: the state of the topic where the page begins.
            sequences: the events of the page.
            through: where the page ends.
            number: the number of events up to there; None if it was not checked.

        """
        had = before.number
        if had is None:
            had = None if number is None else number - len(sequences)
        missing = 0 if had is None or number is None else max(0, number - had - len(sequences))
        lost = before.lost + missing
        for nth, sequence in enumerate([*sequences, through], 1):
            count = None if had is None else had + missing + min(nth, len(sequences))
            if sequence > self._marks[-1].sequence:
                self._marks.append(Mark(sequence, count, lost))
        unreported = max(0, lost - self._reported)
        self._reported += unreported
        return unreported

    def acknowledge(self, sequence: int) -> Mark | None:
        """Return the state of the topic at a sequence that was read; forget the states before it."""
        while len(self._marks) > 1 and self._marks[1].sequence <= sequence:
            self._marks.popleft()
        is_read = len(self._marks) > 1 or self._marks[0].sequence == sequence
        return self._marks[0] if is_read else None


class GroupLosses:
    """
    The losses of a group as one listener sees them. Only touched on the loop of the stream.

    Args:
        counts: the counts of the stream.
        receivers: the receivers whose events the listener gets (`ALL`, and its group).

    """

    def __init__(self, counts: StreamCounts, receivers: Collection[str]) -> None:
        self._counts = counts
        self._receivers = receivers
        self._tallies: dict[EventTopic, TopicTally] = {}

    async def read(self, topic: EventTopic, cursor: Mark, after: int, sequences: Sequence[int], through: int) -> int:
        """Record a page of a topic, and return how many events before it are lost. Raises EventBackendError."""
        tally = self._tallies.setdefault(topic, TopicTally(cursor))
        number = await self._number(topic, tally, through)
        return tally.read(tally.rewind(after), sequences, through, number)

    async def _number(self, topic: EventTopic, tally: TopicTally, through: int) -> int | None:
        events = self._counts.events
        if events.head(topic) <= through <= events.through:
            return events.number(topic, self._receivers)
        now = time.monotonic()
        if now - tally.looked_at < LOOK_EVERY:
            return None  # more pages follow: a later check finds the same losses
        tally.looked_at = now
        await self._counts.catch_up(through)
        return await self._counts.number_through(topic, through, self._receivers)

    def acknowledge(self, topic: EventTopic, sequence: int) -> Mark | None:
        """Return the state of a topic at a sequence; None if unknown."""
        tally = self._tallies.get(topic)
        return None if tally is None else tally.acknowledge(sequence)

    def forget(self, partition: int) -> None:
        """Forget the topics of a partition that another member holds now."""
        for topic in [topic for topic in self._tallies if topic.partition == partition]:
            del self._tallies[topic]
