"""
Which events a group will never have, since the servers deleted them first.

A group knows of each topic how many of its events it has had up to its cursor. The stream's counts say how many there
have been: what is missing, and not kept any more, is lost.
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
"""Seconds after which it is looked again what a topic has lost of which there is more to read."""


class Mark(NamedTuple):
    """
    How a topic stands at a sequence.

    Attributes:
        sequence: where.
        number: how many events the topic has had for the group up to there; None where that is not known.
        lost: how many of them the group never had.

    """

    sequence: int
    number: int | None
    lost: int


def first_mark(
    state: Mapping[str, Any], topic: EventTopic, start: int, numbers: Mapping[str, int | None] | None
) -> Mark:
    """
    Return how a topic stands at the cursor of its group.

    Args:
        state: what is on record of its partition.
        topic: which it is.
        start, numbers: where the group began, and how many events each topic had had by then.

    """
    event = topic.event
    if event in state["cursors"]:
        number, lost = state["numbers"].get(event), state["lost"].get(event, 0)
        return Mark(int(state["cursors"][event]), number, int(lost))
    return Mark(start, None if numbers is None else numbers.get(f"{event}.{topic.partition}", 0), 0)


class TopicTally:
    """
    How a topic stands at each place that its group may acknowledge.

    Args:
        cursor: where it was acknowledged last.

    """

    def __init__(self, cursor: Mark) -> None:
        self.looked_at = -LOOK_EVERY
        """When it was looked what is lost, by the monotonic clock."""
        self._marks = deque([cursor])
        self._told = cursor.lost

    def rewind(self, after: int) -> Mark:
        """Forget what was read behind a sequence; return how the topic stands there."""
        while len(self._marks) > 1 and self._marks[-1].sequence > after:
            self._marks.pop()
        last = self._marks[-1]
        return last if last.sequence == after else Mark(after, None, last.lost)

    def read(self, before: Mark, sequences: Sequence[int], through: int, number: int | None) -> int:
        """
        Note a page, and return how many events in front of it are lost, of which that was not said yet.

        Args:
            before: how the topic stood where the page begins.
            sequences: its events.
            through: where it ends.
            number: how many events there have been up to there; None where it was not looked.

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
        untold = max(0, lost - self._told)
        self._told += untold
        return untold

    def acknowledge(self, sequence: int) -> Mark | None:
        """Return how the topic stands at a sequence that was read; forget what is in front of it."""
        while len(self._marks) > 1 and self._marks[1].sequence <= sequence:
            self._marks.popleft()
        is_read = len(self._marks) > 1 or self._marks[0].sequence == sequence
        return self._marks[0] if is_read else None


class GroupLosses:
    """
    What one listener sees of what its group has lost. Only touched on the loop of the stream.

    Args:
        counts: of the stream.
        whom: for whom the events are that it is given.

    """

    def __init__(self, counts: StreamCounts, whom: Collection[str]) -> None:
        self._counts = counts
        self._whom = whom
        self._tallies: dict[EventTopic, TopicTally] = {}

    async def read(self, topic: EventTopic, cursor: Mark, after: int, sequences: Sequence[int], through: int) -> int:
        """Note a page of a topic, and return how many events in front of it are lost; raise EventBackendError."""
        tally = self._tallies.setdefault(topic, TopicTally(cursor))
        number = await self._number(topic, tally, through)
        return tally.read(tally.rewind(after), sequences, through, number)

    async def _number(self, topic: EventTopic, tally: TopicTally, through: int) -> int | None:
        events = self._counts.events
        if events.head(topic) <= through <= events.through:
            return events.number(topic, self._whom)
        now = time.monotonic()
        if now - tally.looked_at < LOOK_EVERY:
            return None  # there is more to come: what is missing by now is missing then, too
        tally.looked_at = now
        await self._counts.catch_up(through)
        return await self._counts.number_through(topic, through, self._whom)

    def acknowledge(self, topic: EventTopic, sequence: int) -> Mark | None:
        """Return how a topic stands at a sequence; None where that is not known."""
        tally = self._tallies.get(topic)
        return None if tally is None else tally.acknowledge(sequence)

    def forget(self, partition: int) -> None:
        """Forget the topics of a partition that is somebody else's."""
        for topic in [topic for topic in self._tallies if topic.partition == partition]:
            del self._tallies[topic]
